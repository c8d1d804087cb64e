"""What is to be hidden, decided by pure functions over values: a plan can't delete anything."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from lffs.manifest.records import Entry, HideReason, Job, Mark, TrashEntry
from lffs.model import EntryOrigin, FileIdentity, FileType, JobStatus

HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class Kept:
    """A temporary that stays in view, and why."""

    entry: Entry
    why: str


@dataclass(frozen=True, slots=True)
class HidePlan:
    """Which of a job's files go to the trash; carrying it out checks each of them again."""

    hide: tuple[Entry, ...]
    kept: tuple[Kept, ...]


def effective_type(entry: Entry, mark: Mark) -> FileType:
    """Return the entry's type: what an xattr says, else what the rules said."""
    return mark.type or entry.type


def plan_hide(
    entries: Iterable[Entry],
    types_to_clean: Collection[FileType],
    mark_of: Callable[[FileIdentity], Mark],
    is_pinned: Callable[[bytes], bool],
) -> HidePlan:
    """Decide what a completed job hides: the types that the policy names, and nothing else.

    *is_pinned* takes an entry's path below its job.  What lffs did not see being made (adopted,
    rebuilt) stays, whatever its type: only an administrator may say that it is temporary.
    """
    hide, kept = [], []
    for entry in entries:
        mark = mark_of(entry.identity)
        type_ = effective_type(entry, mark)
        if type_ not in types_to_clean:
            if type_.is_temporary:
                kept.append(Kept(entry, f"cleanup.file_types_to_clean does not name {type_}"))
        elif entry.origin is not EntryOrigin.RECORDED:
            kept.append(Kept(entry, f"{entry.origin}: not seen being made"))
        elif mark.keep or is_pinned(entry.path):
            kept.append(Kept(entry, "pinned by user.lffs.keep"))
        else:
            hide.append(entry)
    return HidePlan(tuple(hide), tuple(kept))


def due_ns(hidden: TrashEntry, job: Job, retention_now_hours: float, policy: "FailedPolicy") -> int | None:
    """Return from when on the hidden file may be deleted for good; None: not by itself.

    Retention is the longer of the values then and now.  It counts from the moment of hiding, for
    what the pipeline unlinked from completed (or from the end of its job).  A file held open for
    writing is not due before its last close.  A job that runs, or failed with nothing said to
    release it, keeps everything (requirement 2.4).  What lffs did not see being made is not due
    either, unless the pipeline itself unlinked it.
    """
    seen_made = hidden.entry.origin is EntryOrigin.RECORDED
    if hidden.held or not (seen_made or hidden.reason is HideReason.UNLINKED):
        return None
    retention_ns = round(max(hidden.retention_hours, retention_now_hours) * HOUR_NS)
    since_ns = hidden.hidden_ns
    if job.ended_ns is not None:
        if hidden.reason is HideReason.UNLINKED:
            since_ns = max(since_ns, job.ended_ns)
        return since_ns + retention_ns
    match job.status:
        case JobStatus.COMPLETED | JobStatus.CLEANING_UP | JobStatus.CLEANED:
            pass
        case JobStatus.FAILED if policy.retention_hours is not None:
            # In view for that long since it failed, or since it was made if that is later.
            begun_ns = max(job.status_since_ns, hidden.entry.created_ns)
            return max(since_ns, begun_ns + round(policy.retention_hours * HOUR_NS))
        case JobStatus.FAILED if not policy.preserve or hidden.reason is HideReason.RELEASED:
            pass
        case _:
            return None
    if hidden.reason is HideReason.UNLINKED:
        since_ns = max(since_ns, job.status_since_ns)
    return since_ns + retention_ns


@dataclass(frozen=True, slots=True)
class FailedPolicy:
    """What the configuration says of failed jobs: the only ways their temporaries are released."""

    preserve: bool = True  # cleanup.preserve_on_failure
    retention_hours: float | None = None  # cleanup.failed_retention_hours
