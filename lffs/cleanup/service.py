"""Carrying out: what the status of a job does to its files.

Every move is recorded before it is made and checked just before, so that a kill at any instant
leaves something that `recover` can finish: a trash row whose file still lies in its place was not
moved yet, one whose file is in the trash was.  Results name what moved; whoever keeps inodes (the
filesystem) reads them there.  Synchronous, but for deleting, which is a Work.
"""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lffs import syscalls
from lffs.cleanup.plan import HOUR_NS, FailedPolicy, HidePlan, due_ns, effective_type, plan_hide
from lffs.cleanup.trash import ChangedFileError, Deleted, Deletion, HeldFileError, Trash
from lffs.directories import Directories, identity_of
from lffs.errors import CleanRefusedError, LffsError, StoreError
from lffs.handles import DirectoryHandles, join, split
from lffs.jobs import Jobs
from lffs.manifest.records import (
    NO_MARK,
    Entry,
    HideReason,
    Job,
    Removal,
    TrashEntry,
)
from lffs.manifest.store import Store
from lffs.model import FileIdentity, JobStatus
from lffs.work import Work

if TYPE_CHECKING:
    from lffs.config import Settings

log = logging.getLogger(__name__)

_KEEPING = frozenset({JobStatus.CREATED, JobStatus.RUNNING})  # statuses that keep what is hidden

HeldPredicate = Callable[[FileIdentity], bool]  # is this file open for writing through the mount?


@dataclass(slots=True)
class Hidden:
    """What a completed job's release took out of view."""

    files: list[TrashEntry] = field(default_factory=list)
    directories: list[bytes] = field(default_factory=list)  # below BACKING
    failed: list[tuple[Entry, str]] = field(default_factory=list)


@dataclass(slots=True)
class Restored:
    """What came back to view, and what could not."""

    files: list[TrashEntry] = field(default_factory=list)
    directories: list[bytes] = field(default_factory=list)  # below BACKING, lazy as yet
    failed: list[tuple[TrashEntry, str]] = field(default_factory=list)


@dataclass(slots=True)
class Reaped:
    """What was deleted for good, and what could not be."""

    removed: list[TrashEntry] = field(default_factory=list)
    failed: list[tuple[TrashEntry, str]] = field(default_factory=list)
    bytes_freed: int = 0


class Cleanup:
    """Hides, restores and reaps the files of one backing store."""

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        directories: Directories,
        handles: DirectoryHandles,
        trash: Trash,
        settings: "Settings",
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._directories = directories
        self._handles = handles
        self._trash = trash
        self._device = syscalls.statx(handles.root_fd).dev
        self._held: set[FileIdentity] = set()  # hidden while open for writing
        self._reported: dict[int, str] = {}  # trash number → the failure that was logged
        self.configure(settings)

    def configure(self, settings: "Settings") -> None:
        """Take over a new policy."""
        self._policy = settings.cleanup

    # -- status -------------------------------------------------------------------------------

    def plan(self, job: Job) -> HidePlan:
        """Return what the job would hide if it completed now."""
        return plan_hide(
            self._store.entries(job.number),
            self._policy.file_types_to_clean,
            self._store.mark,
            lambda path: self._directories.is_pinned(split(join(job.path, path))[0]),
        )

    def _automatic_plan(self, job: Job) -> HidePlan:
        """Return the plan of what to hide, or of nothing where that would be too much of the job."""
        plan = self.plan(job)
        try:
            self.refuse_large_share(job, plan.hide)
        except CleanRefusedError as exc:
            log.error("job %s: nothing is hidden: %s", job.id, exc)
            return HidePlan((), plan.kept)
        return plan

    def complete(self, job: Job, now_ns: int, held: HeldPredicate) -> Hidden:
        """Take a job to completed and hide its temporaries, at once or never (2.1-2.3).

        The job is cleaning_up meanwhile; with a retention of 0 it stays so until `reap` has
        deleted what was hidden.  Setting completed again hides what came since.
        """
        self._jobs.check_settable(job)
        hidden = Hidden()
        cleans = self._jobs.cleans_automatically(job)
        was_cleaned = job.status is JobStatus.CLEANED
        with self._status_undone_on_error(job):
            self._jobs.set_status(job, JobStatus.CLEANING_UP, now_ns)
            # A full disk may have kept the note that files come back, which was true before this.
            self._store.set_restoring(job.number, None)
            if cleans:
                hidden = self._hide(job, self._automatic_plan(job), now_ns, held)
            else:
                self._store.commit()
        # From here on a restart would finish it, so a full disk is no reason to fail.
        with self._never_failing():
            if cleans:
                self._vanish_empty(job, hidden, now_ns)
            if not self.due_at_once(job, now_ns):
                self._jobs.set_status(job, JobStatus.COMPLETED, now_ns)
            if was_cleaned:  # and is again, if nothing came since
                self.settle(job, now_ns)
            self._store.commit()
        return hidden

    def fail(self, job: Job, now_ns: int, held: HeldPredicate) -> tuple[Hidden, Restored]:
        """Take a job to failed: everything comes back to view, also what the pipeline unlinked.

        Only preserve_on_failure: false makes a failed job hide its temporaries (2.4).
        """
        self._jobs.check_settable(job)
        if not self._policy.preserve_on_failure and self._jobs.cleans_automatically(job):
            with self._status_undone_on_error(job):
                self._jobs.set_status(job, JobStatus.FAILED, now_ns)
                hidden = self._hide(job, self._automatic_plan(job), now_ns, held)
            with self._never_failing():
                self._vanish_empty(job, hidden, now_ns)
                self._store.commit()
            return hidden, Restored()
        return Hidden(), self._restore_all(job, JobStatus.FAILED, frozenset(HideReason), now_ns)

    def run(self, job: Job, now_ns: int) -> Restored:
        """Take a job to running: what lffs hid comes back, not what the pipeline unlinked."""
        self._jobs.check_settable(job)
        by_lffs = frozenset({HideReason.STATUS, HideReason.RELEASED})
        return self._restore_all(job, JobStatus.RUNNING, by_lffs, now_ns)

    def release(self, job: Job, now_ns: int, held: HeldPredicate) -> Hidden:
        """Hide a failed job's temporaries, since its maker asks not to preserve them.

        The status stays.  What is hidden so is due when retention is over, whatever
        preserve_on_failure says; failed_retention_hours, where set, is the retention.
        """
        self._jobs.check_settable(job)
        hidden = self._hide(job, self._automatic_plan(job), now_ns, held, HideReason.RELEASED)
        with self._never_failing():
            self._vanish_empty(job, hidden, now_ns)
            self._store.commit()
        return hidden

    @contextlib.contextmanager
    def _status_undone_on_error(self, job: Job) -> Iterator[None]:
        """What can't be recorded (the disk is full) has not happened: the job stands where it stood."""
        before = dataclasses.replace(job)
        try:
            yield
        except StoreError:
            job.status, job.status_since_ns = before.status, before.status_since_ns
            job.updated_ns = before.updated_ns
            with contextlib.suppress(StoreError):
                self._store.update_job(job)
            raise

    @contextlib.contextmanager
    def _never_failing(self) -> Iterator[None]:
        """For records that a restart or a scan would find again: a full disk does not stop the rest."""
        try:
            yield
        except StoreError as exc:
            self._store.lost_writes = True
            log.warning("%s; what is not recorded now is found by a scan later", exc)

    def keeps_unlinked(self, job: Job | None, entry: Entry | None) -> bool:
        """Tell whether unlinking this file in this job hides it (cleanup.keep_unlinked)."""
        return (
            job is not None
            and entry is not None
            and job.status is JobStatus.RUNNING
            and effective_type(entry, self._store.mark(entry.identity)) in self._policy.keep_unlinked
        )

    def hide_unlinked(self, job: Job, entry: Entry, now_ns: int, held: HeldPredicate) -> TrashEntry:
        """Hide what the pipeline unlinks.  Raises OSError where the move is refused."""
        return self._hide_one(job, entry, HideReason.UNLINKED, now_ns, held)

    # -- hiding -------------------------------------------------------------------------------

    def _hide(
        self,
        job: Job,
        plan: HidePlan,
        now_ns: int,
        held: HeldPredicate,
        reason: HideReason = HideReason.STATUS,
    ) -> Hidden:
        """Move the plan's files to the trash: rows first, in one commit, then the files."""
        result = Hidden()
        rows: list[TrashEntry] = []
        names = _TrashNames(self._store.trash(job.number))
        try:
            for entry in plan.hide:
                try:
                    name = self._free_name(job, entry.path, names)
                except OSError as exc:  # the trash's own trouble is no reason to leave a job half way
                    _note_unhidden(result, job, entry, exc)
                    continue
                rows.append(self._add_row(job, entry, name, reason, now_ns, held))
                names.add(rows[-1])
            self._store.commit()
        except StoreError:
            for row in rows:  # nothing was moved
                self._forget_row(row)
            raise
        for row in rows:
            try:
                self._move_in(job, row)
            except (OSError, LffsError) as exc:
                self._forget_row(row)
                if not isinstance(exc, FileNotFoundError):
                    _note_unhidden(result, job, row.entry, exc)
            else:
                with self._never_failing():
                    self._store.remove_entry(job.number, row.entry.path)
                result.files.append(row)
        return result

    def _hide_one(
        self, job: Job, entry: Entry, reason: HideReason, now_ns: int, held: HeldPredicate
    ) -> TrashEntry:
        taken = (self._store.trash_named(job.number, name) for name in (*_ancestors(entry.path), entry.path))
        name = self._free_name(job, entry.path, _TrashNames(row for row in taken if row is not None))
        row = self._add_row(job, entry, name, reason, now_ns, held)
        try:
            self._store.commit()
            self._move_in(job, row)
        except BaseException:
            self._forget_row(row)
            raise
        with self._never_failing():
            self._store.remove_entry(job.number, entry.path)
        return row

    def _add_row(
        self,
        job: Job,
        entry: Entry,
        name: bytes,
        reason: HideReason,
        now_ns: int,
        held: HeldPredicate,
    ) -> TrashEntry:
        is_held = held(entry.identity)
        if is_held:
            self._held.add(entry.identity)
        return self._store.add_trash(entry, name, reason, now_ns, self._jobs.retention_hours(job), is_held)

    def _forget_row(self, row: TrashEntry) -> None:
        """The file of this row was not moved after all."""
        with contextlib.suppress(StoreError):  # then the row was rolled back, or a scan drops it
            self._store.remove_trash(row.number)

    def _free_name(self, job: Job, path: bytes, names: "_TrashNames") -> bytes:
        """Return the name that a file of the job gets in the trash: its path, which is made free.

        An older file of that name steps aside, and so does one that lies where a directory on the
        way is needed.  Only where a directory has the name the new file takes another.
        """
        for taken in (*_ancestors(path), path):
            older = names.at(taken)
            if older is not None:
                try:
                    aside = self._trash.move_aside(older)
                except FileNotFoundError:
                    continue
                moved = dataclasses.replace(older, name=aside)
                self._store.update_trash(moved)
                names.remove(taken)
                names.add(moved)
        return self._trash.free_name(job.number, path) if self._trash.has(job.number, path) else path

    def _move_in(self, job: Job, row: TrashEntry) -> None:
        directory, base = split(row.entry.path)
        source_fd = self._handles.open(join(job.path, directory).rstrip(b"/"))
        status = syscalls.statx(source_fd, base)
        if status.dev != self._device:
            raise ChangedFileError(f"{os.fsdecode(row.entry.path)} is on another filesystem")
        if row.entry.size != status.size:
            row = dataclasses.replace(row, entry=dataclasses.replace(row.entry, size=status.size))
            with self._never_failing():
                self._store.update_trash(row)
        for attempt in (1, 2):
            try:
                self._trash.prepare(job.number, self._handles.open(job.path), directory)
                self._trash.take(source_fd, base, row.entry.identity, job.number, row.name)
            except FileNotFoundError:
                # The reaper's thread may have removed the emptied trash directory meanwhile.
                self._trash.forget_handles()
                if attempt == 2:
                    raise
            else:
                return

    def _vanish_empty(self, job: Job, hidden: Hidden, now_ns: int) -> None:
        """Take away every directory of the job that is empty now (1.3), the deepest first."""
        recorded = self._store.directories(job.path)
        for directory in sorted(recorded, key=lambda one: one.path.count(b"/"), reverse=True):
            path = directory.path
            if path == job.path or directory.state == "hidden":
                continue
            if self._directories.is_pinned(path):
                continue
            if self._directories.vanish(path, now_ns):
                hidden.directories.append(path)

    def hide(self, job: Job, entries: Iterable[Entry], now_ns: int, held: HeldPredicate) -> Hidden:
        """Move these files to the trash, whatever the policy says: an administrator asked for it."""
        return self._hide(job, HidePlan(tuple(entries), ()), now_ns, held)

    def refuse_large_share(self, job: Job, entries: Iterable[Entry]) -> None:
        """Raise CleanRefusedError if these files are more of the job's bytes than cleanup.max_share."""
        limit = self._policy.max_share
        if limit is None:
            return
        hidden = [one.entry for one in self._store.trash(job.number)]
        total = _bytes_of([*self._store.entries(job.number), *hidden])
        share = _bytes_of(entries) / total if total else 0.0
        if share > limit:
            raise CleanRefusedError(
                f"this would take {share:.0%} of what job {job.id} has, more than the {limit:.0%} that"
                " cleanup.max_share allows; nothing was touched"
            )

    def vanish_empty(self, job: Job, now_ns: int) -> Hidden:
        """Take away the job's directories that are empty now, but for pinned ones."""
        hidden = Hidden()
        with self._never_failing():
            self._vanish_empty(job, hidden, now_ns)
            self._store.commit()
        return hidden

    def why_not(self, job: Job, entry: Entry, held: HeldPredicate) -> str | None:
        """Say why a file that was planned to go must stay after all; None: it may go."""
        now = None if job.ended_ns is not None else self._store.entry(job.number, entry.path)
        if now is None or now.identity != entry.identity:
            return "it changed since it was planned"
        if self._store.mark(entry.identity).keep or self._directories.is_pinned(
            split(join(job.path, entry.path))[0]
        ):
            return "pinned by user.lffs.keep"
        return "open for writing" if held(entry.identity) else None

    # -- restoring ----------------------------------------------------------------------------

    def _restore_all(
        self, job: Job, status: JobStatus, reasons: frozenset[HideReason], now_ns: int
    ) -> Restored:
        with self._status_undone_on_error(job):
            self._jobs.set_status(job, status, now_ns)
            self._store.set_restoring(job.number, reasons)
            self._store.commit()
        restored = self.restore(job, [one for one in self._store.trash(job.number) if one.reason in reasons])
        with self._never_failing():
            self._store.set_restoring(job.number, None)
            self._store.commit()
        return restored

    def restore(self, job: Job, hidden: Iterable[TrashEntry]) -> Restored:
        """Bring hidden files back to view, of several with one name the newest.

        The others, and those whose name was made anew, stay in the trash as ``NAME.~N~``.  Parents
        come back as they were.
        """
        result = Restored()
        hidden = list(hidden)
        since_ns = {join(job.path, one.entry.path): one.hidden_ns for one in hidden}
        for directory in self._directories.hidden(job.path):
            # Unless a file had taken its name before that was hidden: then the file is the newer.
            is_newest = since_ns.get(directory.path, 0) <= directory.ctime_ns
            if is_newest and self._directories.reappear(directory):
                result.directories.append(directory.path)
        for one in sorted(hidden, key=lambda one: (one.hidden_ns, one.number), reverse=True):
            try:
                self._put_back(job, one)
            except FileExistsError:
                with self._never_failing():
                    self._step_aside(one)
            except (OSError, LffsError) as exc:
                result.failed.append((one, str(exc)))
                log.warning("job %s: cannot restore %s: %s", job.id, os.fsdecode(one.entry.path), exc)
            else:
                with self._never_failing():
                    self._store.add_entry(one.entry)
                    self._store.remove_trash(one.number)
                result.files.append(one)
        return result

    def _put_back(self, job: Job, one: TrashEntry) -> None:
        directory, base = split(one.entry.path)
        if self._directories.lazy(join(job.path, one.entry.path)) is not None:
            raise FileExistsError(base)
        self._trash.put_back(one, self._parent_of(job, directory), base)

    def _parent_of(self, job: Job, directory: bytes) -> int:
        """Return the job's directory to restore into, making again what is missing of it."""
        path = join(job.path, directory) if directory else job.path
        try:
            return self._directories.materialise(path)
        except FileNotFoundError:
            if not directory:
                raise
        parent_fd = self._parent_of(job, split(directory)[0])
        like, xattrs = self._trash.mirrored(job.number, directory) or (syscalls.statx(parent_fd), {})
        self._directories.make_again(path, like, xattrs)
        return self._handles.open(path)

    def _step_aside(self, one: TrashEntry) -> None:
        if one.name == one.entry.path:
            aside = self._trash.move_aside(one)
            self._store.update_trash(dataclasses.replace(one, name=aside))

    def released(self, identity: FileIdentity, now_ns: int) -> bool:
        """The last writer of a file closed it: if it is hidden, its retention starts now.

        Returns whether it was waiting for that.
        """
        if identity not in self._held:  # asked at every close: the store need not be
            return False
        self._held.discard(identity)
        held = [one for one in self._store.trash_of(identity) if one.held]
        with self._never_failing():
            for one in held:
                self._store.update_trash(dataclasses.replace(one, held=False, hidden_ns=now_ns))
            self._store.commit()
        return bool(held)

    # -- reaping ------------------------------------------------------------------------------

    def due(self, now_ns: int) -> list[TrashEntry]:
        """Return the hidden files whose retention is over, the longest hidden first.

        What a thread is deleting already is not among them.
        """
        found = []
        for job in self._jobs_with_trash():
            found += [
                one
                for one in self._retention_over(job, now_ns)
                if not self._trash.is_claimed(one) and (self.due_time(job, one) or now_ns + 1) <= now_ns
            ]
        return sorted(found, key=lambda one: (one.hidden_ns, one.number))

    def due_at_once(self, job: Job, now_ns: int) -> list[TrashEntry]:
        """Return what a job that was completed at *now_ns* releases that very moment: retention is 0.

        What was due before is not among it: that is the reaper's, who minds a clock set ahead.
        """
        return [one for one in self._store.trash(job.number) if self.due_time(job, one) == now_ns]

    def _jobs_with_trash(self) -> list[Job]:
        """Return the jobs whose hidden files may be deleted by themselves, live or ended."""
        numbers = self._store.jobs_with_trash()
        jobs = [job for job in self._jobs.live() if job.number in numbers]
        if len(jobs) < len(numbers):
            ended = self._store.jobs(ended=True)
            jobs += [job for job in ended if job.ended_ns is not None and job.number in numbers]
        return [job for job in jobs if self._jobs.cleans_automatically(job)]

    def _retention_over(self, job: Job, now_ns: int) -> list[TrashEntry]:
        """Return the rows that `due_time` is worth asking for: the store counts a million quickly."""
        if job.ended_ns is None and job.status in _KEEPING:
            return []
        if self._is_preserved(job):
            return self._store.trash(job.number)  # little: most of it came back to view
        return self._store.trash_hidden_by(job.number, now_ns, *self._counting(job))

    def _is_preserved(self, job: Job) -> bool:
        is_failed = job.ended_ns is None and job.status is JobStatus.FAILED
        return is_failed and self._policy.preserve_on_failure

    def _counting(self, job: Job) -> tuple[float, int]:
        """Return the hours that retention has now, and since when it counts for what was unlinked."""
        since_ns = job.status_since_ns if job.ended_ns is None else job.ended_ns
        return self._jobs.retention_hours(job), since_ns

    def next_due_ns(self, after_ns: int) -> int | None:
        """Return when the next hidden file is due that is not due yet, or None."""
        times = []
        for job in self._jobs_with_trash():
            if self._is_preserved(job):
                dues = (self.due_time(job, one) for one in self._retention_over(job, after_ns))
                times += [due for due in dues if due is not None]
            elif job.ended_ns is not None or job.status not in _KEEPING:
                next_ns = self._store.next_due_ns(job.number, after_ns, *self._counting(job))
                times += [next_ns] if next_ns is not None else []
        return min((moment for moment in times if moment > after_ns), default=None)

    def reapable(self) -> list[TrashEntry]:
        """Return what will be deleted by itself one day, the longest hidden first."""
        found = [
            one
            for job in self._jobs_with_trash()
            for one in self._store.trash(job.number)
            if self.due_time(job, one) is not None
        ]
        return sorted(found, key=lambda one: (one.hidden_ns, one.number))

    def due_time(self, job: Job, one: TrashEntry) -> int | None:
        """Return from when on the file may be deleted for good, or None: not by itself."""
        if not self._jobs.cleans_automatically(job) or self._is_pinned(job, one):
            return None
        policy = FailedPolicy(self._policy.preserve_on_failure, self._policy.failed_retention_hours)
        return due_ns(one, job, self._jobs.retention_hours(job), policy)

    def _is_pinned(self, job: Job, one: TrashEntry) -> bool:
        """Pinned while it is hidden: the pipeline unlinked it, or a directory was pinned since."""
        if self._store.mark(one.entry.identity).keep:
            return True
        return job.ended_ns is None and self._directories.is_pinned(split(join(job.path, one.entry.path))[0])

    def reap(self, hidden: list[TrashEntry], now_ns: int, why: str) -> Work[list[Deleted], Reaped]:
        """Return the work of deleting these hidden files for good.

        What fails is reported, file by file, and stays for the next round (3.5).  Raises StoreError
        where the store is damaged: a row of it is no ground to delete anything.
        """
        if self._store.is_damaged:
            raise StoreError("the manifest store is damaged: nothing is deleted")
        deletions = [self._trash.deletion(one) for one in hidden]
        return self._deleting(lambda: self._trash.delete(deletions), deletions, now_ns, why)

    def _deleting(
        self, delete: Callable[[], list[Deleted]], deletions: list[Deletion], now_ns: int, why: str
    ) -> Work[list[Deleted], Reaped]:
        def run() -> list[Deleted]:
            try:
                return delete()
            except BaseException:
                self._trash.answered(deletions)  # nobody else would
                raise

        def finish(deleted: list[Deleted]) -> Reaped:
            self._trash.answered(deletions)
            return self._record_deleted(deleted, now_ns, why)

        return Work(run=run, finish=finish)

    def make_room(self, free_bytes: Callable[[], int], wanted: int) -> Work[list[Deleted], Reaped] | None:
        """Return the work of deleting what keep_unlinked kept, until *wanted* bytes are free.

        The longest kept first: the pipeline had given these files up, and the disk is full.  None
        where nothing is kept.  *free_bytes* is asked in a thread.
        """
        if self._store.is_damaged:
            return None
        running = {job.number for job in self._jobs.live() if job.status is JobStatus.RUNNING}
        kept = [
            self._trash.deletion(one)
            for one in self._store.trash()
            if one.reason is HideReason.UNLINKED
            and one.entry.job in running
            and not one.held  # deleting it would free nothing
            and not self._trash.is_claimed(one)
        ]
        if not kept:
            return None

        def delete() -> list[Deleted]:
            done: list[Deleted] = []
            for deletion in kept:
                done += self._trash.delete([deletion])
                if free_bytes() >= wanted:
                    break
            return done

        now_ns = max(deletion.hidden.hidden_ns for deletion in kept)
        return self._deleting(delete, kept, now_ns, "the disk was full")

    def release_failed(self, now_ns: int, held: HeldPredicate) -> list[tuple[Job, Hidden]]:
        """Hide the temporaries of jobs that failed longer than failed_retention_hours ago."""
        hours = self._policy.failed_retention_hours
        if hours is None:
            return []
        result: list[tuple[Job, Hidden]] = []
        for job in self._jobs.live():
            until_ns = now_ns - round(hours * HOUR_NS)
            over = job.status_since_ns <= until_ns
            if job.status is JobStatus.FAILED and over and self._jobs.cleans_automatically(job):
                plan = self._automatic_plan(job)
                old = tuple(entry for entry in plan.hide if self._changed_ns(job, entry) <= until_ns)
                plan = HidePlan(old, plan.kept)
                if plan.hide:
                    hidden = self._hide(job, plan, now_ns, held)
                    self._vanish_empty(job, hidden, now_ns)
                    self._store.commit()
                    result.append((job, hidden))
        return result

    def _changed_ns(self, job: Job, entry: Entry) -> int:
        """Return when a file in view was made or last written."""
        directory, base = split(join(job.path, entry.path))
        try:
            found = syscalls.statx(self._handles.open(directory), base)
        except (FileNotFoundError, NotADirectoryError):
            return entry.created_ns
        return max(entry.created_ns, found.mtime_ns)

    def settle_all(self, now_ns: int) -> None:
        """Drop the records of removed jobs whose retention is over; end a clean-up that was stuck.

        A full disk may have kept a job in cleaning_up when all else was done.
        """
        for job in self._store.jobs(ended=True):
            if job.ended_ns is not None:
                self.settle(job, now_ns)
        for job in self._jobs.live():
            if job.status is JobStatus.CLEANING_UP:
                self.settle(job, now_ns)
        self._store.commit()

    def settle(self, job: Job, now_ns: int) -> None:
        """Take a job on whose last temporary is gone: completed to cleaned; drop what ended."""
        trash = self._store.trash(job.number)
        if job.ended_ns is not None:
            retention_ns = round(self._jobs.retention_hours(job) * HOUR_NS)
            if not trash and job.ended_ns + retention_ns <= now_ns:
                self._jobs.forget(job)
            return
        # What could not be deleted is tried again every round; a job that waited for it in
        # cleaning_up could not be run again.
        if job.status is JobStatus.CLEANING_UP and not any(map(self._trash.is_claimed, trash)):
            self._jobs.set_status(job, JobStatus.COMPLETED, now_ns)
        if (
            job.status is JobStatus.COMPLETED
            and not trash
            and self._store.removals(job.number)
            and not any(
                effective_type(entry, self._store.mark(entry.identity)).is_temporary
                for entry in self._store.entries(job.number)
            )
        ):
            self._jobs.set_status(job, JobStatus.CLEANED, now_ns)
            self._directories.drop_hidden(job.path)

    def _record_deleted(self, deleted: list[Deleted], now_ns: int, why: str) -> Reaped:
        self._trash.forget_handles()
        result = Reaped()
        touched = set()
        for one in deleted:
            hidden = one.hidden
            touched.add(hidden.entry.job)
            if one.error is None:
                self._store.remove_trash(hidden.number)
                self._store.add_removal(Removal(hidden.entry, now_ns, why))
                if one.was_last_name:
                    self._store.set_mark(hidden.entry.identity, NO_MARK)
                self._reported.pop(hidden.number, None)
                result.removed.append(hidden)
                result.bytes_freed += one.bytes_freed
                continue
            result.failed.append((hidden, str(one.error)))
            if isinstance(one.error, HeldFileError):
                continue  # no failure: the next round finds it closed
            if self._reported.get(hidden.number) != str(one.error):
                self._reported[hidden.number] = str(one.error)
                log.warning(
                    "cannot reap %s: %s; tried again every round",
                    os.fsdecode(hidden.entry.path), one.error,
                )  # fmt: skip
        for job in self._store.jobs(ended=True):
            if job.number in touched:
                self.settle(self._jobs.at(job.path) or job if job.ended_ns is None else job, now_ns)
        self._store.commit()
        return result

    # -- after a kill -------------------------------------------------------------------------

    def recover(self, now_ns: int) -> None:
        """Finish what a killed daemon had begun: moves to and from the trash, a clean-up.

        Run before the reconciling scan, so that the scan sees every file where it belongs.
        """
        jobs = {job.number: job for job in self._store.jobs(ended=True)}
        for one in self._store.trash():
            if one.entry.job in jobs:
                self._recover_one(jobs[one.entry.job], one, now_ns)
            else:  # a row without its job says nothing that can be acted on; verify finds the file
                self._store.remove_trash(one.number)
        for number, reasons in self._store.restoring():
            job = self._jobs.at(jobs[number].path) if number in jobs else None
            if job is not None and job.status in (JobStatus.RUNNING, JobStatus.FAILED):
                self._restore_all(job, job.status, reasons, now_ns)
        self._store.commit()

    def resume(self, now_ns: int) -> None:
        """At every opening: nobody holds a file open any more, and a clean-up goes on."""
        for one in self._store.held_trash():
            self._store.update_trash(dataclasses.replace(one, held=False, hidden_ns=now_ns))
        for job in self._jobs.live():
            if job.status is JobStatus.CLEANING_UP:
                log.info("job %s was cleaning up when lffs ended; going on", job.id)
                self._jobs.set_status(job, JobStatus.COMPLETED, now_ns)
                self.complete(job, now_ns, lambda identity: False)
                if job.status is JobStatus.CLEANING_UP:  # the reaper deletes what is due
                    self._jobs.set_status(job, JobStatus.COMPLETED, now_ns)
            self.settle(job, now_ns)
        self._store.commit()

    def mend_trash(self, now_ns: int) -> None:
        """Correct the rows of hidden files that are not where the record says."""
        jobs = {job.number: job for job in self._store.jobs(ended=True)}
        for one in self._store.trash():
            if self._trash.is_claimed(one):
                continue  # a thread is deleting it just now
            if self._trash.identity(one.entry.job, one.name) != one.entry.identity:
                self._recover_one(jobs[one.entry.job], one, now_ns)
        self._store.commit()

    def _recover_one(self, job: Job, one: TrashEntry, now_ns: int) -> None:
        number, entry = one.entry.job, one.entry
        if self._trash.identity(number, one.name) != entry.identity:
            found = self._trash.find(number, one.name, entry.identity)
            if found is None:
                self._store.remove_trash(one.number)
                if job.ended_ns is None and self._lies_in_place(job, entry):
                    self._store.add_entry(entry)  # never moved, or moved back
                else:
                    self._store.add_removal(Removal(entry, now_ns, "deleted just before an unclean end"))
                return
            one = dataclasses.replace(one, name=found)
        recorded = self._store.entry(number, entry.path)
        is_same = recorded is not None and recorded.identity == entry.identity
        if is_same and not self._lies_in_place(job, entry):
            self._store.remove_entry(number, entry.path)
        if one.held:  # whoever wrote it died with the mount: that was its last close
            one = dataclasses.replace(one, held=False, hidden_ns=now_ns)
        self._store.update_trash(one)

    def _lies_in_place(self, job: Job, entry: Entry) -> bool:
        directory, base = split(join(job.path, entry.path))
        try:
            status = syscalls.statx(self._handles.open(directory), base)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return identity_of(status) == entry.identity


def _note_unhidden(result: Hidden, job: Job, entry: Entry, exc: Exception) -> None:
    result.failed.append((entry, str(exc)))
    log.warning("job %s: cannot hide %s: %s; it stays in view", job.id, os.fsdecode(entry.path), exc)


class _TrashNames:
    """The names that a job's trash has on record, while more are added."""

    def __init__(self, rows: Iterable[TrashEntry]) -> None:
        self._rows = {row.name: row for row in rows}

    def at(self, name: bytes) -> TrashEntry | None:
        """Return what has this name."""
        return self._rows.get(name)

    def add(self, row: TrashEntry) -> None:
        """*row* is new, or has this name now."""
        self._rows[row.name] = row

    def remove(self, name: bytes) -> None:
        """Nothing has this name any more."""
        self._rows.pop(name, None)


def _ancestors(path: bytes) -> Iterable[bytes]:
    """Yield the directories that *path* lies in, the outermost first."""
    end = path.find(b"/")
    while end >= 0:
        yield path[:end]
        end = path.find(b"/", end + 1)


def _bytes_of(entries: Iterable[Entry]) -> int:
    """Return the bytes of these files, those of hard links once, as of their last close."""
    return sum({entry.identity: entry.size for entry in entries}.values())
