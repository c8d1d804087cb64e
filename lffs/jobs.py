"""Which directories are jobs, and where each job stands.

A job is a directory whose path below the mountpoint matches ``jobs.roots``; the outermost match is
the job.  This module keeps the jobs in memory, written through to the store, and decides every
status that a job takes.  What follows from a status for files is `lffs.cleanup`'s.
"""

import dataclasses
import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lffs.errors import InvalidJobIdError, InvalidStatusError, JobBusyError, UnknownJobError
from lffs.handles import join, split
from lffs.manifest.records import Job
from lffs.manifest.store import Store
from lffs.model import (
    SETTABLE_STATUS,
    STATUS_SUFFIX,
    SUFFIXES,
    FileIdentity,
    JobStatus,
    JobType,
    StatusNames,
)

if TYPE_CHECKING:
    from lffs.config import Settings

NAME_MAX = 255
STATE_DIRECTORY = b".lffs"
_BYTE_SUFFIXES = tuple(suffix.encode() for suffix in SUFFIXES)

# Every move there is.  What no row names is refused, so a new status can't slip in by default.
_NEXT = {
    JobStatus.CREATED: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CLEANING_UP}),
    JobStatus.RUNNING: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CLEANING_UP}),
    JobStatus.FAILED: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CLEANING_UP}),
    JobStatus.COMPLETED: frozenset(
        {JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CLEANING_UP, JobStatus.CLEANED}
    ),
    JobStatus.CLEANED: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CLEANING_UP}),
    JobStatus.CLEANING_UP: frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CLEANED}),
}


class JobRoots:
    """The patterns of ``jobs.roots``: shell globs by component, ``*`` matching no leading dot."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [
            [re.compile(fnmatch.translate(part)) for part in pattern.split("/")] for pattern in patterns
        ]
        self._literal_dots = [[part.startswith(".") for part in pattern.split("/")] for pattern in patterns]

    def job_path(self, path: bytes) -> bytes | None:
        """Return the path of the job that *path* is or lies in, or None: outside of all jobs."""
        parts = path.split(b"/")
        if not path or parts[0] == STATE_DIRECTORY:
            return None
        best: int | None = None
        for pattern, dots in zip(self._patterns, self._literal_dots, strict=True):
            depth = len(pattern)
            if depth > len(parts) or (best is not None and depth >= best):
                continue
            if all(map(_component_matches, pattern, dots, parts)):
                best = depth
        return None if best is None else b"/".join(parts[:best])

    def may_hold_jobs(self, path: bytes) -> bool:
        """Tell whether a directory at *path* is one that jobs can lie below."""
        parts = path.split(b"/") if path else []
        return any(
            len(pattern) > len(parts) and all(map(_component_matches, pattern, dots, parts))
            for pattern, dots in zip(self._patterns, self._literal_dots, strict=True)
        )

    def is_job(self, path: bytes) -> bool:
        """Tell whether a directory at *path* is a job."""
        return self.job_path(path) == path


def _component_matches(pattern: re.Pattern[str], literal_dot: bool, part: bytes) -> bool:
    if part == b"lost+found" or (part.startswith(b".") and not literal_dot):
        return False
    return pattern.match(part.decode("utf-8", "surrogateescape")) is not None


def parse_status(value: bytes) -> JobStatus:
    """Return the status that a user.lffs.status value asks for.

    Raises InvalidStatusError for anything but running, processing, completed and failed: the
    others are lffs's own to set.
    """
    try:
        return SETTABLE_STATUS[value.decode("ascii")]
    except (UnicodeDecodeError, KeyError):
        allowed = ", ".join(SETTABLE_STATUS)
        raise InvalidStatusError(f"status {value!r} can't be set; allowed are {allowed}") from None


class Jobs:
    """The jobs of one backing store."""

    def __init__(self, store: Store, settings: "Settings") -> None:
        self._store = store
        self.began: Callable[[Job], object] = lambda job: None  # told of each job that begins
        self.configure(settings)
        self._live = {job.path: job for job in store.jobs()}
        self._changed: dict[int, Job] = {}
        self._left: dict[bytes, int] = {}

    def configure(self, settings: "Settings") -> None:
        """Take over new settings: roots for what is made from now on, policy at once."""
        self._settings = settings
        self.roots = JobRoots(settings.jobs.roots)

    def reload(self) -> None:
        """The store lost records: the jobs are again what it has, the very objects where it has them."""
        known = {job.number: job for job in self._live.values()}
        self._live = {}
        for stored in self._store.jobs():
            job = known.get(stored.number, stored)
            for item in dataclasses.fields(Job):
                setattr(job, item.name, getattr(stored, item.name))
            self._live[job.path] = job

    # -- finding ------------------------------------------------------------------------------

    def live(self) -> list[Job]:
        """Return the jobs that have a directory, by path."""
        return [self._live[path] for path in sorted(self._live)]

    def at(self, path: bytes) -> Job | None:
        """Return the job whose directory is at *path*."""
        return self._live.get(path)

    def of(self, path: bytes) -> Job | None:
        """Return the job that *path* is or lies in."""
        job_path = self.roots.job_path(path)
        return None if job_path is None else self._live.get(job_path)

    def find(self, text: str) -> Job:
        """Return the job that a person means: its id, with or without a status suffix.

        Raises InvalidJobIdError for what can be no id and UnknownJobError where there is no such
        job.
        """
        path = text.encode("utf-8", "surrogateescape").strip(b"/")
        if not path or any(part in (b"", b".", b"..") for part in path.split(b"/")):
            raise InvalidJobIdError(f"{text!r} is no job id: expected names joined by '/', like Suits/S01E01")
        job = self._live.get(path) or self.behind_alias(*split(path))
        if job is None:
            raise UnknownJobError(f"no job {text!r} is recorded; 'lffs jobs' lists them")
        return job

    def behind_alias(self, parent: bytes, name: bytes) -> Job | None:
        """Return the job that ``NAME_processing`` and the like mean, or None."""
        for suffix in _BYTE_SUFFIXES:
            if name.endswith(suffix) and len(name) > len(suffix):
                return self._live.get(join(parent, name[: -len(suffix)]))
        return None

    def listed_name(self, job: Job) -> bytes:
        """Return the name that the job's directory is listed under (requirement 5.4).

        Plain where the configuration says so and where the suffixed name would be over 255 bytes;
        whether a real entry has that name already only the caller can see.
        """
        name = split(job.path)[1]
        if self._settings.jobs.status_names is StatusNames.PLAIN:
            return name
        return suffixed(name, job.status)

    # -- policy -------------------------------------------------------------------------------

    def retention_hours(self, job: Job) -> float:
        """Return how long the job's hidden files are kept."""
        if job.retention_hours is not None:
            return job.retention_hours
        return self._settings.cleanup.retention_hours

    def debug(self, job: Job) -> bool:
        """Tell whether the job is in debug mode: nothing of it is hidden or reaped by itself."""
        return self._settings.debug if job.debug is None else job.debug

    def cleans_automatically(self, job: Job) -> bool:
        """Tell whether anything of the job may be hidden or reaped by itself (4.1, 4.4)."""
        policy = self._settings.cleanup
        return policy.enabled and not (self.debug(job) and policy.debug_mode_disables)

    # -- changing -----------------------------------------------------------------------------

    def begin(self, path: bytes, now_ns: int, identity: FileIdentity | None, *, adopted: bool = False) -> Job:
        """Record a new job in status created and return it."""
        job = Job(
            number=0,
            path=path,
            type=self._settings.jobs.default_type,
            status=JobStatus.CREATED,
            created_ns=now_ns,
            updated_ns=now_ns,
            status_since_ns=now_ns,
            identity=identity,
            adopted=adopted,
        )
        self._store.add_job(job)
        self._live[path] = job
        self.began(job)
        return job

    def check_settable(self, job: Job) -> None:
        """Raise JobBusyError while the job is cleaning_up; any other status may be left."""
        if job.status is JobStatus.CLEANING_UP:
            raise JobBusyError(f"job {job.id} is cleaning_up; set its status when that is over")

    def set_status(self, job: Job, status: JobStatus, now_ns: int) -> None:
        """Take the job to *status*.  Raises InvalidStatusError for a move that there is not."""
        if status not in _NEXT[job.status]:
            raise InvalidStatusError(f"job {job.id} can't go from {job.status} to {status}")
        if status is not job.status:
            job.status = status
            job.status_since_ns = now_ns
        self._changed[job.number] = job
        self.update(job, now_ns)

    def take_changed(self) -> list[Job]:
        """Return the jobs whose status or path changed since the last call: their exports are old.

        One that has ended is among them only where no other job has its path now.
        """
        changed, self._changed = list(self._changed.values()), {}
        return [job for job in changed if self._live.get(job.path, job) is job]

    def take_left(self) -> list[tuple[bytes, int]]:
        """Return what paths were left since the last call that no job has, and the leaver's number.

        The exports there are to go.
        """
        left, self._left = self._left, {}
        return [(path, number) for path, number in left.items() if path not in self._live]

    def set_type(self, job: Job, type: JobType | None, now_ns: int) -> None:
        """Set the job's type; None restores the configuration's default."""
        job.type = type or self._settings.jobs.default_type
        job.type_set = type is not None
        self.update(job, now_ns)

    def update(self, job: Job, now_ns: int) -> None:
        """Write the job as it is now."""
        job.updated_ns = now_ns
        self._store.update_job(job)

    def move(self, job: Job, path: bytes, now_ns: int) -> None:
        """Follow the rename of the job's directory to another path that is a job's."""
        self.move_all([(job, path)], now_ns)

    def move_all(self, moves: list[tuple[Job, bytes]], now_ns: int) -> None:
        """Follow several renames at once: each may take the path that another leaves."""
        for job, _ in moves:
            del self._live[job.path]
            self._left[job.path] = job.number
            self._changed[job.number] = job
            if len(moves) > 1:  # the store holds a path once: first out of each other's way
                job.path = b"\0%d" % job.number
                self._store.update_job(job)
        for job, path in moves:
            job.path = path
            self._live[path] = job
            self.update(job, now_ns)

    def end(self, job: Job, now_ns: int) -> None:
        """The job's directory is gone: its record and its trash stay for their retention."""
        del self._live[job.path]
        job.ended_ns = now_ns
        self._changed[job.number] = job
        self.update(job, now_ns)

    def forget(self, job: Job) -> None:
        """Drop the record of a job that has ended, and all that was recorded of it."""
        self._store.forget_job(job.number)
        self._changed.pop(job.number, None)
        self._left[job.path] = job.number


def suffixed(name: bytes, status: JobStatus) -> bytes:
    """Return *name* with the suffix of *status*, or as it is where that would be too long."""
    listed = name + STATUS_SUFFIX[status].encode()
    return listed if len(listed) <= NAME_MAX else name
