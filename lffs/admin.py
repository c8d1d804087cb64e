"""What people ask of a store, answered from it: the rows of `lffs jobs`, a job in full, verify.

The same beside a mounted filesystem (the daemon asks it through its control socket) and on an
unmounted backing store.  It gathers and words; what a status does is decided below.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from lffs import __version__
from pathlib import Path
from typing import Any

from lffs.admin_api import JsonObject
from lffs.backing import Backing, open_backing
from lffs.cleanup.manual import Cleaned, NoView, Selection, View, carry_out, plan_clean
from lffs.cleanup.plan import HOUR_NS
from lffs.config import load_settings, settings_from_json
from lffs.jobs import parse_status
from lffs.control_protocol import RequestError
from lffs.explaining import expiring, explain
from lffs.manifest.export import text, timestamp
from lffs.manifest.records import HideReason, Job, TrashEntry
from lffs.model import FileType, JobStatus
from lffs.state_dir import SETTINGS_NAME, state_directory
from lffs.work import Answer, Work

SetStatus = Callable[[Job, JobStatus], Answer[None]]


class Admin:
    """Answers about one backing store (lffs.admin_api names the calls)."""

    def __init__(
        self,
        backing: Backing,
        set_status: SetStatus,
        *,
        health: Callable[[], JsonObject] | None = None,
        reload: Callable[[], None] | None = None,
        view: View | None = None,
        reread: Callable[[], None] | None = None,
    ) -> None:
        """*set_status*, *view* and *reread* are the filesystem's where one shows the files."""
        self._backing = backing
        self._set_status = set_status
        self._health = health or self._unmounted_health
        self._reload = reload or (lambda: None)
        self._view = view or NoView()
        self._reread = reread or (lambda: None)

    def jobs(self, status: str | None, all: bool) -> list[JsonObject]:
        """Return a row a job; with *all* also the removed ones."""
        jobs = self._backing.store.jobs(ended=True) if all else self._backing.jobs.live()
        return [
            self._row(self._backing.jobs.at(job.path) or job if job.ended_ns is None else job)
            for job in sorted(jobs, key=lambda job: (job.path, job.number))
            if status is None or job.status == status
        ]

    def show(self, job: str) -> JsonObject:
        """Return a job's row, its settings, its directories and what is hidden of it."""
        found = self._backing.jobs.find(job)
        totals = self._backing.totals(found)
        by_type: dict[str, int] = {}
        for _, type_ in self._backing.typed_entries(found):
            by_type[type_.value] = by_type.get(type_.value, 0) + 1
        return {
            **self._row(found),
            "created_at": timestamp(found.created_ns),
            "updated_at": timestamp(found.updated_ns),
            "status_since": timestamp(found.status_since_ns),
            "adopted": found.adopted,
            "debug": self._backing.jobs.debug(found),
            "retention_hours": self._backing.jobs.retention_hours(found),
            "files_by_type": dict(sorted(by_type.items())),
            "directories": [
                directory.path.decode("utf-8", "surrogateescape")
                for directory in self._backing.store.directories(found.path)
                if directory.state != "hidden"
            ],
            "hidden_files": len(self._backing.store.trash(found.number)),
            "hidden_bytes": totals.hidden_bytes,
            "removed_files": len(self._backing.store.removals(found.number)),
        }

    def status(self, job: str, status: str | None) -> Answer[str]:
        """Set the status, unless None, and return the one that holds then."""
        found = self._backing.jobs.find(job)
        if status is not None:
            answer = self._set_status(found, parse_status(status.encode("utf-8", "surrogateescape")))
            if isinstance(answer, Work):
                work = answer
                return Work(run=work.run, finish=lambda done: _then(work.finish(done), found))
        return found.status.value

    def manifest(self, job: str) -> JsonObject:
        """Return the job's manifest."""
        return self._backing.manifest(self._backing.jobs.find(job))

    def verify(self, repair: bool = False) -> Answer[JsonObject]:
        """Return the work of comparing the records with the disk, mended first if so asked."""
        if repair:
            self._backing.repair()
            self._reread()
        return self._backing.verify()

    def clean(
        self,
        job: str | None,
        pattern: str | None,
        older_than_s: float | None,
        types: list[str] | None,
        dry_run: bool,
    ) -> Answer[JsonObject]:
        """Delete for good what these name, or only say what that would be."""
        now_ns = self._backing.clock.wall_ns()
        found = None if job is None else self._backing.jobs.find(job)
        selection = Selection(
            job=None if found is None else found.number,
            pattern=pattern,
            changed_before_ns=None if older_than_s is None else now_ns - round(older_than_s * 1e9),
            types=None if types is None else frozenset(map(_file_type, types)),
        )
        plan = plan_clean(self._backing.candidates(found), selection)
        if dry_run:
            return {
                "dry_run": True,
                "removed": [text(one.path) for one in plan.files],
                "failed": [],
                "bytes": plan.bytes,
            }
        work = carry_out(plan, self._backing.cleanup, self._view, now_ns, "cleaned by hand")
        return Work(run=work.run, finish=lambda deleted: self._cleaned(work.finish(deleted)))

    def _cleaned(self, cleaned: Cleaned) -> JsonObject:
        self._backing.export_changed()
        return {
            "dry_run": False,
            "removed": [text(path) for path in cleaned.removed],
            "failed": [{"path": text(path), "reason": why} for path, why in cleaned.failed],
            "bytes": cleaned.bytes_freed,
            "directories": [text(path) for path in cleaned.directories],
        }

    def restore(self, job: str, paths: list[str]) -> JsonObject:
        """Bring hidden files of a job back to view: these, or all; by their paths in the job."""
        found = self._backing.jobs.find(job)
        wanted = {path.encode("utf-8", "surrogateescape").strip(b"/") for path in paths}
        rows = self._backing.store.trash(found.number)
        chosen = [row for row in rows if not wanted or _names(row, wanted)]
        restored = self._backing.cleanup.restore(found, chosen)
        self._backing.store.commit()
        self._view.show_restored(found, restored)
        done = {row.number for row in restored.files}
        failed = [{"path": text(row.entry.path), "reason": why} for row, why in restored.failed]
        reported = {row.number for row, _ in restored.failed}
        failed += [
            {"path": text(row.entry.path), "reason": "its name is taken; it stays in the trash"}
            for row in chosen
            if row.number not in done | reported
        ]
        missing = sorted(path for path in wanted if not any(_names(row, {path}) for row in chosen))
        failed += [{"path": text(path), "reason": "nothing hidden has this path"} for path in missing]
        return {"restored": [text(row.entry.path) for row in restored.files], "failed": failed}

    def explain(self, path: str) -> JsonObject:
        """Say which rule gives a file its type, which lost, and what will happen to it."""
        whole = path.encode("utf-8", "surrogateescape").strip(b"/")
        return explain(self._backing, whole)

    def expiring(self, within_s: float) -> list[JsonObject]:
        """Return what will be deleted for good within so many seconds, the first one first."""
        until_ns = self._backing.clock.wall_ns() + round(within_s * 1e9)
        return expiring(self._backing, until_ns)

    def health(self) -> JsonObject:
        """Return what runs here."""
        return self._health()

    def reload(self) -> None:
        """Read the configuration again."""
        self._reload()

    def _unmounted_health(self) -> JsonObject:
        return {
            "pid": os.getpid(),
            "version": __version__,
            "mountpoint": None,
            "backing": str(self._backing.path),
            "transport": None,
        }

    def _row(self, job: Job) -> JsonObject:
        totals = self._backing.totals(job)
        now_ns = self._backing.clock.wall_ns()
        return {
            "id": job.id,
            "type": job.type.value,
            "status": "removed" if job.ended_ns is not None else job.status.value,
            "files": totals.files,
            "bytes": totals.bytes,
            "temp_files": totals.temp_files,
            "temp_bytes": totals.temp_bytes,
            "hidden_bytes": totals.hidden_bytes,
            "age_s": max(0.0, (now_ns - job.created_ns) / 1e9),
            "why": self._why(job, totals.temp_files, now_ns),
        }

    def _why(self, job: Job, temp_files: int, now_ns: int) -> str:
        """Say what keeps the job's temporaries on disk; "" where it has none."""
        hidden = self._backing.store.trash(job.number)
        if not temp_files and not hidden:
            return ""
        jobs, policy = self._backing.jobs, self._backing.settings.cleanup
        if not policy.enabled:
            return "cleanup is not enabled"
        if jobs.debug(job) and policy.debug_mode_disables:
            return "debug mode"
        if job.ended_ns is None and job.status in (JobStatus.CREATED, JobStatus.RUNNING):
            return "adopted" if job.adopted and job.status is JobStatus.CREATED else job.status.value
        if job.status is JobStatus.FAILED and job.ended_ns is None and policy.preserve_on_failure:
            hours = policy.failed_retention_hours
            if hours is None:
                return "failed: kept until someone cleans them"
            return "failed: kept until " + timestamp(job.status_since_ns + round(hours * HOUR_NS))
        reasons = []
        due = [self._backing.cleanup.due_time(job, one) for one in hidden]
        times = [moment for moment in due if moment is not None]
        if times:
            last = max(times)
            reasons.append(
                "hidden, being deleted" if last <= now_ns else f"hidden until {timestamp(last)}"
            )
        if any(one.held for one in hidden):
            reasons.append("open for writing")
        if any(moment is None and not one.held for moment, one in zip(due, hidden, strict=True)):
            kept = {one.reason for one in hidden}
            reasons.append("kept after unlink" if HideReason.UNLINKED in kept else "kept in the trash")
        if temp_files:
            plan = self._backing.cleanup.plan(job)
            reasons += sorted({kept.why for kept in plan.kept})
            if plan.hide:
                reasons.append("written since; set completed again to hide them")
        return "; ".join(reasons)


def _file_type(name: str) -> FileType:
    try:
        return FileType(name)
    except ValueError:
        raise RequestError(f"{name!r} is no file type; there are {', '.join(FileType)}") from None


def _names(row: TrashEntry, paths: set[bytes]) -> bool:
    return row.entry.path in paths or row.name in paths


def _then(done: object, job: Job) -> str:
    return job.status.value


@contextlib.contextmanager
def open_unmounted(backing: Path, state_dir: Path | None = None) -> Iterator[Admin]:
    """Open a backing store that is not mounted for administration; takes its lock meanwhile.

    It goes by the settings of the last mount.
    """
    try:
        text = (state_dir or state_directory(backing)).joinpath(SETTINGS_NAME).read_text()
        settings = settings_from_json(text)
    except FileNotFoundError:  # never mounted
        settings = load_settings(None, os.environ).settings
    with open_backing(backing, settings, state_dir=state_dir) as opened:

        def set_status(job: Job, status: JobStatus) -> Work[Any, None] | None:
            return opened.set_status(job, status, lambda identity: False).work

        yield Admin(opened, set_status)
