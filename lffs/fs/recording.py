"""What the mount's operations mean for the manifests: nobody calls an API (requirement 3.2).

Called after an operation succeeded on the backing store.  A record that can't be written (the disk
is full) never fails an operation that succeeded: the store knows that it lost something, and the
reconciling scan finds it again.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator

from lffs import syscalls
from lffs.classify import Classifier
from lffs.clock import Clock
from lffs.directories import Directories, identity_of
from lffs.errors import StoreError
from lffs.fs.caller import Caller
from lffs.handles import DirectoryHandles, is_within, join, split
from lffs.jobs import Jobs
from lffs.manifest.records import UNKNOWN_CREATOR, Creator, Entry, Job
from lffs.manifest.scan import Reconciler, is_active, job_on_disk, kind_of
from lffs.manifest.store import Store
from lffs.model import EntryOrigin, FileType, JobStatus
from lffs.syscalls import Stat

log = logging.getLogger(__name__)


class Recorder:
    """Keeps jobs, entries and directories true to what the mount does."""

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        directories: Directories,
        handles: DirectoryHandles,
        classifier: Classifier,
        clock: Clock,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._directories = directories
        self._handles = handles
        self._clock = clock
        self.classifier = classifier

    @contextlib.contextmanager
    def _never_failing(self) -> Iterator[None]:
        was_lost = self._store.lost_writes
        try:
            yield
        except StoreError as exc:
            self._store.lost_writes = True
            if not was_lost:
                log.warning("%s; what is not recorded now is found by a scan later", exc)

    # -- finding ------------------------------------------------------------------------------

    def job_of(self, path: bytes) -> Job | None:
        """Return the job that *path*, the path of a file or directory, lies in or is."""
        return self._jobs.of(path)

    def entry_at(self, path: bytes) -> tuple[Job | None, Entry | None]:
        """Return the job that the file at *path* is in and what is recorded of it."""
        job = self._jobs.of(path)
        if job is None or job.path == path:
            return job, None
        return job, self._store.entry(job.number, path[len(job.path) + 1 :])

    def type_of(self, job: Job, below: bytes) -> FileType:
        """Return the type that the rules give to a path below the job."""
        return self.classifier.classify(below, job.type)

    # -- files --------------------------------------------------------------------------------

    def created(self, path: bytes, status: Stat, caller: Caller) -> None:
        """A file, link or node was made through the mount."""
        job = self._jobs.of(path)
        if job is None:
            return
        with self._never_failing():
            self._add(job, path, status, caller.creator(), EntryOrigin.RECORDED)
            if job.status is JobStatus.CREATED:
                self._jobs.set_status(job, JobStatus.RUNNING, self._clock.wall_ns())
                self._store.commit()

    def _add(self, job: Job, path: bytes, status: Stat, creator: Creator, origin: EntryOrigin) -> None:
        below = path[len(job.path) + 1 :]
        self._store.add_entry(
            Entry(
                job=job.number,
                path=below,
                kind=kind_of(status),
                type=self.type_of(job, below),
                size=status.size,
                created_ns=self._clock.wall_ns(),
                creator=creator,
                identity=identity_of(status),
                origin=origin,
            )
        )

    def unlinked(self, path: bytes) -> None:
        """A name of a file was removed for good."""
        job = self._jobs.of(path)
        if job is not None:
            with self._never_failing():
                self._store.remove_entry(job.number, path[len(job.path) + 1 :])

    def closed(self, path: bytes, size: int) -> None:
        """A file that may have been written was closed with this size in bytes."""
        job = self._jobs.of(path)
        if job is not None:
            with self._never_failing():
                self._store.set_size(job.number, path[len(job.path) + 1 :], size)

    def met(self, path: bytes, status: Stat) -> None:
        """A real file or directory was looked at: adopt it if it appeared beside lffs."""
        job_path = self._jobs.roots.job_path(path)
        if job_path is None:
            return
        with self._never_failing():
            job = self._jobs.at(job_path)
            if status.is_directory:
                if job is None and job_path == path:
                    self._adopt_job(path, status)
                elif job is not None and path != job_path:
                    self._directories.record_real(path, status)
                elif job is not None and job.identity != identity_of(status):
                    job.identity = identity_of(status)
                    self._jobs.update(job, self._clock.wall_ns())
            elif job is not None and path != job_path:
                below = path[len(job_path) + 1 :]
                known = self._store.entry(job.number, below)
                if known is None or known.identity != identity_of(status):
                    owner = Creator(uid=status.uid, gid=status.gid)
                    lost = self._store.lost_writes and is_active(job)
                    origin = EntryOrigin.RECORDED if lost else EntryOrigin.ADOPTED
                    self._add(job, path, status, owner, origin)

    def _adopt_job(self, path: bytes, status: Stat) -> None:
        """A job's directory appeared beside lffs: take it in with all that it holds."""
        on_disk = job_on_disk(self._handles, path, status)
        self._reconciler().reconcile_job(on_disk, self._clock.wall_ns())
        self._store.commit()

    def _reconciler(self) -> Reconciler:
        return Reconciler(
            self._store, self._jobs, self._directories, self.classifier, rebuilt=False, beside=True
        )

    # -- directories --------------------------------------------------------------------------

    def made_directory(self, path: bytes, status: Stat, caller: Caller) -> None:
        """A directory was made for real through the mount; a lazy one records itself."""
        if self._jobs.of(path) is not None:
            with self._never_failing():
                self._directories.record_real(path, status, caller.creator())

    def removed_directory(self, path: bytes) -> bool:
        """A directory was removed; if it was a job, the job ends; return whether it was one.

        Raises StoreError when that can't be kept.
        """
        self._directories.remove(path)
        job = self._jobs.at(path)
        if job is not None:
            self._jobs.end(job, self._clock.wall_ns())
            self._directories.drop_hidden(path)  # a job made anew there has nothing of this one
        self._store.commit()
        return job is not None

    # -- renames ------------------------------------------------------------------------------

    def renamed_file(self, old: bytes, new: bytes, status: Stat) -> None:
        """A file has another name: its entry moves along and is typed anew by the rules."""
        with self._never_failing():
            job, entry = self.entry_at(old)
            if job is not None and entry is not None:
                self._store.remove_entry(job.number, entry.path)
            self._place_entry(new, entry, status)

    def _place_entry(self, new: bytes, entry: Entry | None, status: Stat) -> None:
        target = self._jobs.of(new)
        if target is None or target.path == new:
            return
        below = new[len(target.path) + 1 :]
        self._store.add_entry(
            Entry(
                job=target.number,
                path=below,
                kind=kind_of(status),
                type=self.type_of(target, below),
                size=status.size,
                created_ns=entry.created_ns if entry else self._clock.wall_ns(),
                creator=entry.creator if entry else UNKNOWN_CREATOR,
                identity=identity_of(status),
                origin=entry.origin if entry else EntryOrigin.RECORDED,
            )
        )
        if target.status is JobStatus.CREATED:
            self._jobs.set_status(target, JobStatus.RUNNING, self._clock.wall_ns())

    def exchanged(self, first: bytes, first_status: Stat, second: bytes, second_status: Stat) -> None:
        """Two names were exchanged; the stats are of what each name leads to now."""
        if first_status.is_directory or second_status.is_directory:
            self._exchanged_directories(first, second)
            return
        with self._never_failing():
            first_job, first_entry = self.entry_at(first)
            second_job, second_entry = self.entry_at(second)
            if first_job is not None and first_entry is not None:
                self._store.remove_entry(first_job.number, first_entry.path)
            if second_job is not None and second_entry is not None:
                self._store.remove_entry(second_job.number, second_entry.path)
            self._place_entry(second, first_entry, second_status)
            self._place_entry(first, second_entry, first_status)
            self._store.commit()

    def _exchanged_directories(self, first: bytes, second: bytes) -> None:
        """At least one of the two is a directory: each way it is what a rename is."""
        now_ns = self._clock.wall_ns()
        with self._never_failing():
            self._directories.exchange(first, second)
            entries, moving = self._take_up(first, second)
            others, moving_back = self._take_up(second, first)
            entries |= others
            self._settle_jobs(moving + moving_back, entries, now_ns)
            self._take_in(first, entries)
            self._take_in(second, entries)
            self._store.commit()

    def renamed_directory(self, old: bytes, new: bytes) -> None:
        """A directory has another path, and everything below it: jobs, files, lazy directories.

        A job whose new path is a job's takes its record along, any other ends.  Files that stay
        in a job move with their record, typed anew; what leaves all jobs is dropped.
        """
        now_ns = self._clock.wall_ns()
        with self._never_failing():
            self._directories.move(old, new)
            entries, moving = self._take_up(old, new)
            self._settle_jobs(moving, entries, now_ns)
            self._take_in(new, entries)
            self._store.commit()

    def _take_up(self, old: bytes, new: bytes) -> tuple[dict[bytes, Entry], list[tuple[Job, bytes]]]:
        """Return the entries at and below *old* by their new paths, and the jobs there with theirs.

        The entries are no longer recorded then; those of the jobs found are still theirs.
        """
        entries: dict[bytes, Entry] = {}
        origin, at_old = self.entry_at(old)
        if origin is not None and origin.path != old:
            below = old[len(origin.path) + 1 :]
            for entry in (*((at_old,) if at_old else ()), *self._store.entries(origin.number, below)):
                entries[new + entry.path[len(below) :]] = entry
                self._store.remove_entry(origin.number, entry.path)
        return entries, [(job, new + job.path[len(old) :]) for job in self._jobs_below(old)]

    def _settle_jobs(self, moving: list[tuple[Job, bytes]], entries: dict[bytes, Entry], now_ns: int) -> None:
        """Move the jobs to their new paths; one whose path is no job's ends, its entries are taken up."""
        staying = []
        leaving = {job.path for job, _ in moving}
        for job, path in moving:
            is_free = path in leaving or self._jobs.at(path) is None
            if self._jobs.roots.is_job(path) and is_free:
                staying.append((job, path))
                continue
            for entry in self._store.entries(job.number):
                entries[join(path, entry.path)] = entry
                self._store.remove_entry(job.number, entry.path)
            self._jobs.end(job, now_ns)
            self._directories.drop_hidden(path)  # they had moved there with the rest
        self._jobs.move_all(staying, now_ns)

    def _jobs_below(self, path: bytes) -> list[Job]:
        return [job for job in self._jobs.live() if job.path == path or job.path.startswith(path + b"/")]

    def _take_in(self, top: bytes, entries: dict[bytes, Entry]) -> None:
        """Record what lies at and below *top*, which was just put there, where that is in a job."""
        if self._jobs.at(top) is not None and not any(is_within(path, top) for path in entries):
            return  # a job that moved as it was
        found = self._stat(top)
        pending = [(top, found)] if found is not None else []
        while pending:
            path, status = pending.pop()
            if not status.is_directory:
                self._place_entry(path, entries.get(path), status)
                continue
            if self._jobs.roots.is_job(path):
                if self._jobs.at(path) is not None and path != top:
                    continue
                if self._jobs.at(path) is None:
                    self._jobs.begin(path, self._clock.wall_ns(), identity_of(status))
            elif self._jobs.of(path) is not None:
                self._directories.record_real(path, status)
            elif not self._jobs.roots.may_hold_jobs(path):
                continue
            for name, below in self._children(path):
                pending.append((join(path, name), below))

    def _children(self, path: bytes) -> list[tuple[bytes, Stat]]:
        try:
            descriptor = self._handles.open(path)
            names = [os.fsencode(entry.name) for entry in syscalls.list_directory(descriptor)]
        except PermissionError as exc:  # the rename was made: what can't be looked into stays unknown
            log.warning("cannot look into %s: %s", os.fsdecode(path), exc.strerror)
            return []
        return [(name, syscalls.statx(self._handles.open(path), name)) for name in names]

    def _stat(self, path: bytes) -> Stat | None:
        parent, name = split(path)
        try:
            return syscalls.statx(self._handles.open(parent), name)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise
