"""What will happen to a file, and why: `lffs explain` and `lffs expiring`."""

from lffs.backing import Backing
from lffs.cleanup.plan import HOUR_NS, effective_type, plan_hide
from lffs.control.api import JsonObject
from lffs.errors import InvalidJobIdError
from lffs.handles import join, split
from lffs.manifest.export import text, timestamp
from lffs.manifest.records import Entry, Job, TrashEntry
from lffs.model import JobStatus


def explain(backing: Backing, path: bytes) -> JsonObject:
    """Return the type of the file at *path* below the mountpoint, the rules behind it, its fate.

    The file need not exist: then it says what would be.  A path may use a job's status suffix.
    Raises InvalidJobIdError for a path that is in no job.
    """
    job, below = in_job(backing, path)
    found = backing.classifier.explain(below, job.type)
    entry = backing.store.entry(job.number, below)
    hidden = backing.store.trash_at(job.number, below)
    known = entry or (hidden[-1].entry if hidden else None)
    mark = backing.store.mark(known.identity) if known is not None else None
    type_ = found.type if mark is None or mark.type is None else mark.type
    return {
        "path": text(join(job.path, below)),
        "job": job.id,
        "job_type": job.type.value,
        "type": type_.value,
        "typed_by": "user.lffs.file_type" if mark is not None and mark.type else "rule",
        "rule": None if found.winner is None else _rule(found.winner.match, found.winner.type.value),
        "losers": [
            {**_rule(loser.rule.match, loser.rule.type.value), "why": loser.why} for loser in found.losers
        ],
        "state": "present" if entry is not None else "hidden" if hidden else "unknown",
        **_fate(backing, job, entry, hidden[-1] if entry is None and hidden else None),
    }


def _rule(match: str, type_: str) -> JsonObject:
    return {"match": match, "type": type_}


def in_job(backing: Backing, path: bytes) -> tuple[Job, bytes]:
    """Return the job and the path below it, whatever name of the job the path uses.

    Raises InvalidJobIdError for a path that is in no job.
    """
    parts = path.split(b"/")
    for depth in range(1, len(parts)):
        top = b"/".join(parts[:depth])
        job = backing.jobs.at(top) or backing.jobs.behind_alias(*split(top))
        if job is not None:
            return job, b"/".join(parts[depth:])
    raise InvalidJobIdError(f"{text(path)!r} is the path of no file in a job")


def _fate(backing: Backing, job: Job, entry: Entry | None, hidden: TrashEntry | None) -> JsonObject:
    """Return what will happen, and when ("at": ISO 8601, None: not by itself)."""
    if hidden is not None:
        due_ns = backing.cleanup.due_time(job, hidden)
        if due_ns is None:
            return {"fate": "stays in the trash", "at": None}
        return {"fate": "deleted for good", "at": timestamp(due_ns)}
    if entry is None:
        return {"fate": "not recorded", "at": None}
    if not backing.jobs.cleans_automatically(job):
        return {"fate": "stays: cleanup is off, or debug mode is on", "at": None}
    policy = backing.settings.cleanup
    plan = plan_hide(
        [entry],
        policy.file_types_to_clean,
        backing.store.mark,
        lambda below: backing.directories.is_pinned(split(join(job.path, below))[0]),
    )
    if plan.kept:
        return {"fate": f"stays: {plan.kept[0].why}", "at": None}
    if not plan.hide:
        return {"fate": f"stays: {effective_type(entry, backing.store.mark(entry.identity))}", "at": None}
    hours = backing.jobs.retention_hours(job)
    if job.status is JobStatus.FAILED and policy.preserve_on_failure:
        if policy.failed_retention_hours is None:
            return {"fate": "stays: the job failed", "at": None}
        at_ns = job.status_since_ns + round(policy.failed_retention_hours * HOUR_NS)
        return {"fate": "deleted for good: the job failed", "at": timestamp(at_ns)}
    return {"fate": f"hidden when completed is set, deleted for good {hours:g} hours later", "at": None}


def expiring(backing: Backing, until_ns: int) -> list[JsonObject]:
    """Return the hidden files that will be deleted for good until then, the first one first."""
    jobs = {job.number: job for job in backing.store.jobs(ended=True)}
    rows = []
    for one in backing.store.trash():
        job = jobs[one.entry.job]
        due_ns = backing.cleanup.due_time(job, one)
        if due_ns is not None and due_ns <= until_ns:
            rows.append((due_ns, job, one))
    rows.sort(key=lambda row: (row[0], row[2].number))
    return [
        {
            "path": text(join(job.path, one.entry.path)),
            "job": job.id,
            "type": effective_type(one.entry, backing.store.mark(one.entry.identity)).value,
            "bytes": one.entry.size,
            "at": timestamp(due_ns),
        }
        for due_ns, job, one in rows
    ]
