"""JobManager: a job's start, its end, and what is known of it in between and after a crash."""

from datetime import datetime
from pathlib import Path

from lffs.control.api import JsonObject
from lffs.errors import UnknownJobError
from lffs.library.cleanup_service import result_of
from lffs.library.directory_manager import job_structure
from lffs.library.records import CleanupResult, JobContext, JobManifest, check_job_id
from lffs.library.session import Session, Store, opener
from lffs.model import FINAL_TYPES, JobType


class JobManager:
    """Starts and ends the jobs of a store; all that it knows is in the store."""

    def __init__(self, store: Store) -> None:
        self._open = opener(store)

    def start_job(self, job_id: str, job_type: JobType | str) -> JobContext:
        """Take the job to running and return it; its directory is made if need be.

        A job that is known goes on: its directory and manifest stay, what lffs hid comes back, the
        type is the one given now.  A file that lay in the directory before is adopted, and no cleanup
        touches it by itself until it is added.  Raises InvalidJobIdError for an id that can't be one
        or matches none of jobs.roots, ValueError for an unknown type, and JobBusyError while the job
        is cleaning up.
        """
        check_job_id(job_id)
        type_ = JobType(job_type)
        with self._open() as session:
            try:
                name = session.ask(lambda admin: admin.start_job(job_id, type_))
            except UnknownJobError:
                session.make_directory(job_id)
                name = session.ask(lambda admin: admin.start_job(job_id, type_))
            return _context(session, name)

    def complete_job(self, job_id: str, success: bool) -> CleanupResult:
        """Take the job to completed or failed, and return what that did to its temporaries.

        Removed are those that went out of view; bytes are freed at once only if retention is 0.  A
        failed job keeps all.  Never raises because cleanup failed: the result says what did.  Raises
        UnknownJobError for a job that was never started.
        """
        check_job_id(job_id)
        with self._open() as session:
            return result_of(session, session.ask(lambda admin: admin.complete_job(job_id, success)))

    def get_job_context(self, job_id: str) -> JobContext | None:
        """Return the job as the store has it, also after a crash; None: there is no such job."""
        check_job_id(job_id)
        with self._open() as session:
            try:
                return _context(session, job_id)
            except UnknownJobError:
                return None


def _context(session: Session, job_id: str) -> JobContext:
    shown: JsonObject = session.ask(lambda admin: admin.show(job_id))
    exported: JsonObject = session.ask(lambda admin: admin.manifest(job_id))
    manifest = JobManifest.from_dict(exported)
    output_dir = session.path_of(manifest.job_id)
    temporary = [path for type_, paths in manifest.files.items() if type_.is_temporary for path in paths]
    final = [path for type_, paths in manifest.files.items() if type_ in FINAL_TYPES for path in paths]
    return JobContext(
        job_id=manifest.job_id,
        job_type=manifest.job_type,
        start_time=datetime.fromisoformat(shown["created_at"]),
        output_dir=output_dir,
        manifest_path=Path(shown["manifest_path"]),
        directories=job_structure(output_dir, manifest.job_type, session.settings()),
        temp_files=sorted(output_dir / path for path in temporary),
        final_outputs=sorted(output_dir / path for path in final),
    )
