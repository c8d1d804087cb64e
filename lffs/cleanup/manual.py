"""Cleaning by hand: an administrator names files by job, pattern, age or type.

It works whatever the automatic settings are (requirement 4.5).  `plan_clean` decides over values and
can't delete; a dry run prints the plan, a real run carries that same plan out, each file looked at
again just before.  What was deleted is on record with who asked for it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from lffs.classify import pattern_regex
from lffs.cleanup.service import Cleanup, Hidden, Reaped, Restored
from lffs.cleanup.trash import Deleted
from lffs.handles import join
from lffs.manifest.records import Entry, Job, TrashEntry
from lffs.model import TEMPORARY_TYPES, EntryOrigin, FileIdentity, FileType, JobStatus
from lffs.work import Work


@dataclass(frozen=True, slots=True)
class Selection:
    """What an administrator asked for; a None does not narrow."""

    job: int | None = None  # number
    pattern: str | None = None  # gitignore's syntax, of the path below the mountpoint or the job
    changed_before_ns: int | None = None
    types: frozenset[FileType] | None = None

    @property
    def names_files(self) -> bool:
        """Whether it says which files, so that also adopted ones and running jobs are meant."""
        return self.job is not None or self.pattern is not None or self.types is not None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One file that could be cleaned, and what the decision needs to know of it."""

    job: Job
    entry: Entry
    type: FileType
    size: int
    changed_ns: int  # when it was last made or written
    is_pinned: bool
    hidden: TrashEntry | None = None  # None: it is in view

    @property
    def path(self) -> bytes:
        """Its path below the mountpoint; of a hidden file the one that it had."""
        return join(self.job.path, self.entry.path)


@dataclass(frozen=True, slots=True)
class CleanPlan:
    """What would be deleted for good: it can be printed and carried out, and can't delete."""

    files: tuple[Candidate, ...]

    @property
    def bytes(self) -> int:
        """How many bytes that frees; those of hard links once."""
        return sum({one.entry.identity: one.size for one in self.files}.values())


def plan_clean(candidates: Iterable[Candidate], selection: Selection) -> CleanPlan:
    """Return the files that the selection means, by path.

    Without a type only temporaries are meant, with a pattern also what no rule names; finals,
    metadata and logs go only when their type is named.  A pinned file never does.  Unless job,
    pattern or type say which files are meant, what lffs did not see being made stays, and so does
    what a running job has in view (with an age it goes: nobody may have said that the job ended).
    """
    matches = _matcher(selection.pattern)
    types = selection.types
    if types is None:
        types = TEMPORARY_TYPES | ({FileType.OTHER} if selection.pattern is not None else set())
    chosen = [
        one
        for one in candidates
        if not one.is_pinned
        and one.type in types
        and (selection.job is None or one.job.number == selection.job)
        and matches(one)
        and (selection.changed_before_ns is None or one.changed_ns <= selection.changed_before_ns)
        and (selection.names_files or _is_meant_unnamed(one, selection))
    ]
    return CleanPlan(tuple(sorted(chosen, key=lambda one: (one.path, one.hidden is not None))))


def _is_meant_unnamed(one: Candidate, selection: Selection) -> bool:
    if one.entry.origin is not EntryOrigin.RECORDED:
        return False
    is_running = one.job.status in (JobStatus.CREATED, JobStatus.RUNNING) and one.job.ended_ns is None
    return one.hidden is not None or not is_running or selection.changed_before_ns is not None


def _matcher(pattern: str | None) -> Callable[[Candidate], bool]:
    if pattern is None:
        return lambda one: True
    regex = re.compile(pattern_regex(pattern), re.DOTALL)

    def matches(one: Candidate) -> bool:
        return any(
            regex.match("/" + path.decode("utf-8", "surrogateescape")) is not None
            for path in (one.path, one.entry.path)
        )

    return matches


class View(Protocol):
    """Whoever shows the files: the mounted filesystem, or nobody."""

    def show_hidden(self, job: Job, hidden: Hidden) -> None:
        """No path may lead to these any more."""
        ...

    def show_restored(self, job: Job, restored: Restored) -> None:
        """These are at their paths again."""
        ...

    def is_open_for_writing(self, identity: FileIdentity) -> bool:
        """Whether a handle may write to this file."""
        ...


class NoView:
    """Nothing is mounted: there is nobody to tell, and no handle."""

    def show_hidden(self, job: Job, hidden: Hidden) -> None: ...

    def show_restored(self, job: Job, restored: Restored) -> None: ...

    def is_open_for_writing(self, identity: FileIdentity) -> bool:
        return False


@dataclass(slots=True)
class Cleaned:
    """What a cleanup did, by paths below the mountpoint."""

    removed: list[bytes] = field(default_factory=list)
    failed: list[tuple[bytes, str]] = field(default_factory=list)
    bytes_freed: int = 0
    directories: list[bytes] = field(default_factory=list)  # that were empty then


def carry_out(
    plan: CleanPlan, service: Cleanup, view: View, now_ns: int, why: str
) -> Work[list[Deleted], Cleaned]:
    """Return the work of deleting what the plan names; *why* goes into the record.

    What is in view goes through the trash, so that a kill in between leaves it there.  A file that
    changed since it was planned, or is open for writing, stays and is reported; the rest goes.  Raises
    CleanRefusedError, touching nothing, where that is more of a job than cleanup.max_share allows.
    """
    for job, planned in _by_job(plan.files):
        service.refuse_large_share(job, [one.entry for one in planned])
    result = Cleaned()
    rows: list[TrashEntry] = [one.hidden for one in plan.files if one.hidden is not None]
    from_view: dict[int, Job] = {}
    jobs: dict[int, Job] = {one.job.number: one.job for one in plan.files}
    for job, files in _by_job([one for one in plan.files if one.hidden is None]):
        entries = []
        for one in files:
            reason = service.why_not(job, one.entry, view.is_open_for_writing)
            if reason is None:
                entries.append(one.entry)
            else:
                result.failed.append((one.path, reason))
        hidden = service.hide(job, entries, now_ns, view.is_open_for_writing)
        view.show_hidden(job, hidden)
        result.failed += [(join(job.path, entry.path), why) for entry, why in hidden.failed]
        rows += hidden.files
        from_view.update({row.number: job for row in hidden.files})
    deleting = service.reap(rows, now_ns, why)

    def finish(deleted: list[Deleted]) -> Cleaned:
        reaped: Reaped = deleting.finish(deleted)
        result.bytes_freed = reaped.bytes_freed
        result.removed = sorted(join(jobs[row.entry.job].path, row.entry.path) for row in reaped.removed)
        for row, reason in reaped.failed:
            job = jobs[row.entry.job]
            result.failed.append((join(job.path, row.entry.path), reason))
            if row.number in from_view:
                view.show_restored(job, service.restore(job, [row]))
        for job in jobs.values():
            if job.ended_ns is None and job.status is not JobStatus.RUNNING:
                emptied = service.vanish_empty(job, now_ns)
                view.show_hidden(job, emptied)
                result.directories += emptied.directories
        return result

    return Work(run=deleting.run, finish=finish)


def _by_job(files: Iterable[Candidate]) -> Iterator[tuple[Job, list[Candidate]]]:
    by_job: dict[int, list[Candidate]] = {}
    for one in files:
        by_job.setdefault(one.job.number, []).append(one)
    for of_one in by_job.values():
        yield of_one[0].job, of_one
