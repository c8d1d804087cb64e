"""CleanupService: cleaning by policy and by hand, and what came of it."""

import math

from lffs.control.api import JsonObject
from lffs.library.records import CleanupResult, check_job_id
from lffs.library.session import Session, Store, opener


class CleanupService:
    """Cleans the jobs of a store.

    In results, removed are files that went out of view (hidden, for their retention) and files that
    were deleted for good; the bytes are what the latter freed.  Paths are absolute.
    """

    def __init__(self, store: Store) -> None:
        self._open = opener(store)

    def cleanup_job(self, job_id: str, preserve_on_failure: bool = True) -> CleanupResult:
        """Carry out the policy on a job that ended: hide its temporaries, delete what is past retention.

        A failed job keeps everything unless *preserve_on_failure* is false; then its temporaries are
        hidden too, and deleted after their retention.  Where automatic cleanup is off, or debug mode
        on, nothing is done.  A job that runs is not cleaned: the result is no success and says so.
        Raises UnknownJobError for a job that was never started.
        """
        check_job_id(job_id)
        with self._open() as session:
            done = session.ask(lambda admin: admin.cleanup_job(job_id, preserve_on_failure))
            return result_of(session, done)

    def reap(self) -> CleanupResult:
        """Delete for good what is past its retention, in all jobs; a mounted store does so by itself."""
        with self._open() as session:
            return result_of(session, session.ask(lambda admin: admin.reap()))

    def cleanup_by_age(self, max_age_hours: float) -> CleanupResult:
        """Delete for good the temporaries that are unchanged for that long, hidden ones too.

        Whatever the automatic settings are.  Raises ValueError for a negative age.
        """
        if not 0 <= max_age_hours < math.inf:
            raise ValueError(f"max_age_hours must be 0 or more, not {max_age_hours}")
        with self._open() as session:
            done = session.ask(lambda admin: admin.clean(None, None, max_age_hours * 3600, None, False))
            return result_of(session, done)

    def manual_cleanup(self, pattern: str, dry_run: bool = False) -> CleanupResult:
        """Delete for good the temporaries, and files of no known type, whose path matches *pattern*.

        The pattern is gitignore's, for the path below the store or the job; whatever the automatic
        settings are.  With *dry_run* nothing is deleted, and the result says what would be.  What is
        pinned or open for writing stays.  A pattern that matches nothing removes nothing; one that
        can't match raises ValueError.  Raises CleanRefusedError, with nothing touched, where it would
        take more of a job than cleanup.max_share.
        """
        if not isinstance(pattern, str):  # None would mean everything
            raise TypeError(f"pattern must be text, not {pattern!r}")
        with self._open() as session:
            done = session.ask(lambda admin: admin.clean(None, pattern, None, None, dry_run))
            return result_of(session, done)

    def is_cleanup_enabled(self) -> bool:
        """Tell whether the store is cleaned automatically; not in debug mode."""
        with self._open() as session:
            return session.settings().automatic_cleanup


def result_of(session: Session, done: JsonObject) -> CleanupResult:
    """Return what an answer of AdminApi says that a cleanup did."""
    result = CleanupResult(
        files_removed=[session.path_of(path) for path in done["removed"]],
        files_failed=[session.path_of(failure["path"]) for failure in done["failed"]],
        directories_removed=[session.path_of(path) for path in done.get("directories", [])],
        total_size_freed=done["bytes"],
    )
    reasons = [f"{session.path_of(failure['path'])}: {failure['reason']}" for failure in done["failed"]]
    for error in [*reasons, *done.get("errors", [])]:
        result.add_error(error)
    return result
