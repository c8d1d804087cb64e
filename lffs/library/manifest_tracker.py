"""ManifestTracker: what a program says of its job's files, and the manifest that comes of it."""

import os
from pathlib import Path
from typing import TypeAlias

from lffs.control.api import JsonObject
from lffs.errors import InvalidPathError
from lffs.library.records import JobManifest, check_job_id
from lffs.library.session import Session, Store, opener
from lffs.model import DirectoryType, FileType

AnyPath: TypeAlias = str | os.PathLike[str]


class ManifestTracker:
    """Records files and directories of the jobs of a store.

    Through a mount this happens by itself; there it is for types that no rule can know.  A path is
    relative to the job's directory, or absolute and in it.  Each call raises UnknownJobError for a job
    that was never started, and InvalidPathError for a path with ``..`` or one that lies elsewhere.
    """

    def __init__(self, store: Store) -> None:
        self._open = opener(store)

    def create_manifest(self, job_id: str) -> Path:
        """Write the manifest as JSON, as it is now, and return where: in BACKING/.lffs/manifests.

        Written anew whenever the job's status changes; `get_manifest` is always up to date.
        """
        check_job_id(job_id)
        with self._open() as session:
            return Path(session.ask(lambda admin: admin.export(job_id)))

    def add_file(self, job_id: str, path: AnyPath, file_type: FileType | str) -> None:
        """Record a file with the type that it is to have, whatever the rules say.

        It is the job's own from now on, also if it was adopted: cleanup may take it when its type is
        temporary.  Raises FileNotFoundError where there is none, IsADirectoryError for a directory,
        ValueError for an unknown type.
        """
        check_job_id(job_id)
        type_ = FileType(file_type)
        with self._open() as session:
            name = _path_to_send(session, path)
            session.ask(lambda admin: admin.add_file(job_id, name, type_))

    def add_directory(self, job_id: str, path: AnyPath, dir_type: DirectoryType | str) -> None:
        """Record a directory and what it is for.

        Raises FileNotFoundError where there is none, NotADirectoryError for a file, ValueError for an
        unknown type.
        """
        check_job_id(job_id)
        type_ = DirectoryType(dir_type)
        with self._open() as session:
            name = _path_to_send(session, path)
            session.ask(lambda admin: admin.add_directory(job_id, name, type_))

    def get_manifest(self, job_id: str) -> JobManifest:
        """Return what is recorded of the job now."""
        check_job_id(job_id)
        with self._open() as session:
            manifest: JsonObject = session.ask(lambda admin: admin.manifest(job_id))
            return JobManifest.from_dict(manifest)

    def remove_from_manifest(self, job_id: str, path: AnyPath) -> bool:
        """Drop a file from the manifest, and tell whether it was in it.

        For a file that the program deleted, or one that cleanup is to keep its hands off: the file
        itself is not touched.  (A mount records all that there is: there it becomes an adopted one.)  A
        directory that is gone goes with all that was below it; one that is still there raises
        InvalidPathError.
        """
        check_job_id(job_id)
        with self._open() as session:
            name = _path_to_send(session, path)
            return session.ask(lambda admin: admin.remove_from_manifest(job_id, name))


def _path_to_send(session: Session, path: AnyPath) -> str:
    """Return *path* as the calls of AdminApi take it."""
    given = Path(path)
    if not given.parts or ".." in given.parts or "\0" in str(given):
        raise InvalidPathError(f"{str(path)!r} is no path in a job: it is empty, or contains ..")
    return f"/{session.path_in_store(given)}" if given.is_absolute() else str(given)
