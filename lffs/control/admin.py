"""What people and programs ask of a store, answered from it: `lffs jobs`, verify, the library's calls.

The same beside a mounted filesystem (the daemon asks it through its control socket) and on an
unmounted backing store.  It gathers and words; what a status does is decided below.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lffs import __version__
from lffs.backing import Backing, StatusChange, open_backing
from lffs.classify import pattern_regex
from lffs.cleanup.manual import Cleaned, NoView, Selection, View, carry_out, plan_clean
from lffs.cleanup.plan import HOUR_NS
from lffs.cleanup.service import Hidden, Reaped, Restored
from lffs.cleanup.trash import Deleted
from lffs.config import load_settings, settings_from_json, settings_to_json, settings_to_values
from lffs.control.api import JsonObject
from lffs.control.explaining import expiring, explain
from lffs.control.protocol import RequestError
from lffs.errors import CleanRefusedError, JobBusyError, StoreError
from lffs.handles import join
from lffs.jobs import parse_status
from lffs.manifest.export import export_path, text, timestamp
from lffs.manifest.records import Entry, HideReason, Job, TrashEntry
from lffs.model import DirectoryType, FileType, JobStatus, JobType
from lffs.registering import find_to_start, forget, record_directory, record_file
from lffs.state_dir import SETTINGS_NAME, state_directory, write_private
from lffs.work import Answer, Work

if TYPE_CHECKING:
    from lffs.clock import Clock
    from lffs.config import Settings

log = logging.getLogger(__name__)

ChangeStatus = Callable[[Job, JobStatus], StatusChange]
_Word = TypeVar("_Word", FileType, DirectoryType, JobType)


class Admin:
    """Answers about one backing store (lffs.control.api names the calls)."""

    def __init__(
        self,
        backing: Backing,
        change_status: ChangeStatus,
        *,
        set_job_type: Callable[[Job, JobType], object] | None = None,
        is_mounted: bool = False,
        health: Callable[[], JsonObject] | None = None,
        reload: Callable[[], None] | None = None,
        view: View | None = None,
        reread: Callable[[], None] | None = None,
    ) -> None:
        """The callables, *view* too, are the filesystem's where one shows the files.

        *is_mounted*: what is past its retention is the reaper's to delete, who minds the clock, and
        every file is in a manifest.
        """
        self._backing = backing
        self._change_status = change_status
        self._set_job_type = set_job_type or backing.set_job_type
        self._is_mounted = is_mounted
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
            "manifest_path": str(self._manifest_path(found)),
        }

    def status(self, job: str, status: str | None) -> Answer[str]:
        """Set the status, unless None, and return the one that holds then."""
        found = self._backing.jobs.find(job)
        if status is not None:
            wanted = parse_status(status.encode("utf-8", "surrogateescape"))
            work = self._change_status(found, wanted).work
            if work is not None:
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
        _check_pattern(pattern)
        now_ns = self._backing.clock.wall_ns()
        found = None if job is None else self._backing.jobs.find(job)
        selection = Selection(
            job=None if found is None else found.number,
            pattern=pattern,
            changed_before_ns=None if older_than_s is None else now_ns - round(older_than_s * 1e9),
            types=None if types is None else frozenset(_word(FileType, name) for name in types),
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

    # -- what the library asks ----------------------------------------------------------------

    def start_job(self, job: str, job_type: str) -> str:
        """Take a job, whose directory is there, to running with this type; return its id."""
        type_ = _word(JobType, job_type)
        found = find_to_start(self._backing, job)
        self._change_status(found, JobStatus.RUNNING)
        if found.type is not type_ or not found.type_set:
            self._set_job_type(found, type_)
        return found.id

    def complete_job(self, job: str, success: bool) -> Answer[JsonObject]:
        """Take a job to completed or failed, and say what that did to its files."""
        found = self._backing.jobs.find(job)
        status = JobStatus.COMPLETED if success else JobStatus.FAILED
        try:
            change = self._change_status(found, status)
        except (StoreError, JobBusyError) as exc:  # the full disk, a cleanup that goes on: no job's fault
            return self._report(found, errors=[f"job {found.id} stays {found.status}: {exc}"])
        return self._changed(found, change)

    def cleanup_job(self, job: str, preserve_on_failure: bool) -> Answer[JsonObject]:
        """Carry out the policy on a job that ended: hide what came since, delete what is due."""
        found, cleanup = self._backing.jobs.find(job), self._backing.cleanup
        now_ns = self._backing.clock.wall_ns()
        if found.status in (JobStatus.CREATED, JobStatus.RUNNING, JobStatus.CLEANING_UP):
            why = f"job {found.id} is {found.status}: its temporaries are released by completing it"
            return self._report(found, errors=[why])
        if not self._backing.jobs.cleans_automatically(found):
            return self._report(found)
        hidden = Hidden()
        if found.status is JobStatus.FAILED:
            if not (preserve_on_failure and self._backing.settings.cleanup.preserve_on_failure):
                hidden = cleanup.release(found, now_ns, self._view.is_open_for_writing)
                self._view.show_hidden(found, hidden)
        elif cleanup.plan(found).hide:
            change = self._change_status(found, JobStatus.COMPLETED)
            if change.work is not None:
                return self._changed(found, change)
            hidden = change.hidden
        due = [one for one in cleanup.due(now_ns) if one.entry.job == found.number]
        if self._is_mounted:
            due = [one for one in due if cleanup.due_time(found, one) == now_ns]
        reaping = cleanup.reap(due, now_ns, "retention is over")
        return Work(
            run=reaping.run,
            finish=lambda deleted: self._report(found, hidden, reaped=reaping.finish(deleted)),
        )

    def reap(self) -> Answer[JsonObject]:
        """Delete what is past its retention, as a round of the reaper does; where there is one: nothing."""
        if self._is_mounted:
            return _report({})
        cleanup, now_ns = self._backing.cleanup, self._backing.clock.wall_ns()
        # Looked up now: with its last hidden file the record of a removed job may go.
        paths = {job.number: job.path for job in self._backing.store.jobs(ended=True)}
        hidden = Hidden()
        for job, released in cleanup.release_failed(now_ns, self._view.is_open_for_writing):
            self._view.show_hidden(job, released)
            hidden.files += released.files
            hidden.directories += released.directories
            hidden.failed += released.failed
        reaping = cleanup.reap(cleanup.due(now_ns), now_ns, "retention is over")

        def finish(deleted: list[Deleted]) -> JsonObject:
            reaped = reaping.finish(deleted)
            cleanup.settle_all(now_ns)
            self._backing.export_changed()
            return _report(paths, hidden, reaped=reaped)

        return Work(run=reaping.run, finish=finish)

    def _changed(self, job: Job, change: StatusChange) -> Answer[JsonObject]:
        work = change.work
        if work is None:
            return self._report(job, change.hidden, change.restored)

        def finish(done: object) -> JsonObject:
            work.finish(done)
            return self._report(job, change.hidden, change.restored, change.reaped)

        return Work(run=work.run, finish=finish)

    def _report(
        self,
        job: Job,
        hidden: Hidden | None = None,
        restored: Restored | None = None,
        reaped: Reaped | None = None,
        errors: list[str] | None = None,
    ) -> JsonObject:
        self._backing.export_changed()
        hidden = hidden or Hidden()
        report = _report({job.number: job.path}, hidden, restored, reaped)
        report["errors"] = [*(errors or []), *self._refusal(job, hidden)]
        return report

    def _refusal(self, job: Job, hidden: Hidden) -> list[str]:
        """Say why nothing was hidden although something was to be: cleanup.max_share."""
        is_to_hide = job.status in (JobStatus.COMPLETED, JobStatus.CLEANED)
        is_to_hide = is_to_hide and self._backing.jobs.cleans_automatically(job)
        if hidden.files or hidden.failed or not is_to_hide:
            return []
        try:
            self._backing.cleanup.refuse_large_share(job, self._backing.cleanup.plan(job).hide)
        except CleanRefusedError as exc:
            return [str(exc)]
        return []

    def add_file(self, job: str, path: str, file_type: str) -> None:
        """Record a file of the job with this type; it is the job's own from now on."""
        type_ = _word(FileType, file_type)
        record_file(self._backing, self._backing.jobs.find(job), path, type_)

    def add_directory(self, job: str, path: str, dir_type: str) -> None:
        """Record a directory of the job and what it is for."""
        type_ = _word(DirectoryType, dir_type)
        record_directory(self._backing, self._backing.jobs.find(job), path, type_)

    def remove_from_manifest(self, job: str, path: str) -> bool:
        """Drop what is recorded of a path, and tell whether anything was; the file stays.

        Mounted, a file that is there is adopted instead: a mount records all that there is.
        """
        return forget(self._backing, self._backing.jobs.find(job), path, adopts=self._is_mounted)

    def export(self, job: str) -> str:
        """Write the manifest's export as it is now and return its path."""
        found = self._backing.jobs.find(job)
        self._backing.export(found)
        return str(self._manifest_path(found))

    def _manifest_path(self, job: Job) -> Path:
        return export_path(self._backing.state_dir / "manifests", job.path, job.number)

    def config(self) -> JsonObject:
        """Return the settings in force, by dotted key."""
        return settings_to_values(self._backing.settings)

    # -- what runs here -----------------------------------------------------------------------

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
        is_released = any(one.reason is HideReason.RELEASED for one in hidden)
        is_preserved = policy.preserve_on_failure and not is_released
        if job.status is JobStatus.FAILED and job.ended_ns is None and is_preserved:
            hours = policy.failed_retention_hours
            if hours is None:
                return "failed: kept until someone cleans them"
            return "failed: kept until " + timestamp(job.status_since_ns + round(hours * HOUR_NS))
        reasons = []
        due = [self._backing.cleanup.due_time(job, one) for one in hidden]
        times = [moment for moment in due if moment is not None]
        if times:
            last = max(times)
            reasons.append("hidden, being deleted" if last <= now_ns else f"hidden until {timestamp(last)}")
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


def _report(
    paths: Mapping[int, bytes],
    hidden: Hidden | None = None,
    restored: Restored | None = None,
    reaped: Reaped | None = None,
) -> JsonObject:
    """Say what became of files: removed ones are out of view or deleted, paths below the mountpoint."""
    hidden, restored, reaped = hidden or Hidden(), restored or Restored(), reaped or Reaped()

    def path_of(entry: Entry) -> str:
        return text(join(paths[entry.job], entry.path))

    failed = [*hidden.failed, *((one.entry, why) for one, why in (*restored.failed, *reaped.failed))]
    return {
        "removed": sorted({path_of(one.entry) for one in (*hidden.files, *reaped.removed)}),
        "restored": sorted(path_of(one.entry) for one in restored.files),
        "failed": [{"path": path_of(entry), "reason": why} for entry, why in failed],
        "directories": [text(path) for path in hidden.directories],
        "bytes": reaped.bytes_freed,
        "errors": [],
    }


def _word(words: type[_Word], name: str) -> _Word:
    try:
        return words(name)
    except ValueError:
        raise RequestError(f"{name!r} is no {words.__name__}; there are {', '.join(words)}") from None


def _check_pattern(pattern: str | None) -> None:
    if pattern is not None:
        try:
            pattern_regex(pattern)
        except ValueError as exc:
            raise RequestError(f"pattern: {exc}") from None


def _names(row: TrashEntry, paths: set[bytes]) -> bool:
    return row.entry.path in paths or row.name in paths


def _then(done: object, job: Job) -> str:
    return job.status.value


@contextlib.contextmanager
def open_unmounted(
    backing: Path,
    state_dir: Path | None = None,
    *,
    settings: "Settings | None" = None,
    clock: "Clock | None" = None,
) -> Iterator[Backing]:
    """Open a backing store that is not mounted; takes its lock meanwhile.

    It goes by *settings*, which are remembered for the next opening, or else by those of its last
    mount or opening.
    """
    given = settings
    if settings is None:
        settings = _remembered_settings(state_dir or state_directory(backing))
    with open_backing(backing, settings, state_dir=state_dir, clock=clock, told=True) as opened:
        if given is not None:
            _remember_settings(opened, given)
        yield opened


def _remembered_settings(state_dir: Path) -> "Settings":
    try:
        return settings_from_json((state_dir / SETTINGS_NAME).read_text())
    except FileNotFoundError:  # never mounted
        return load_settings(None, os.environ).settings


def _remember_settings(opened: Backing, settings: "Settings") -> None:
    """Whoever opens the store next is to read its jobs by the same roots and rules."""
    file, content = opened.state_dir / SETTINGS_NAME, settings_to_json(settings).encode()
    try:
        if not file.exists() or file.read_bytes() != content:
            write_private(file, content)
    except OSError as exc:
        log.warning("cannot note the settings for the next opening: %s", exc)


def admin_of_unmounted(opened: Backing) -> Admin:
    """Return who answers for a store that nobody shows."""
    return Admin(opened, lambda job, status: opened.set_status(job, status, lambda identity: False))
