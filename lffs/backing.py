"""One backing store, opened: its directory, its records, its trash, its jobs, and their rules.

What the daemon serves a mount from and what a command works on when nothing is mounted.  Opening
takes the store's lock, mends what a kill left half done, and scans the disk when the last user did
not end cleanly.  Everything here is synchronous and belongs to one thread.
"""

import contextlib
import dataclasses
import errno
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lffs import syscalls
from lffs.classify import Classifier
from lffs.cleanup.manual import Candidate
from lffs.cleanup.plan import effective_type
from lffs.cleanup.service import Cleanup, HeldPredicate, Hidden, Reaped, Restored
from lffs.cleanup.trash import Trash
from lffs.cleanup.unrecorded import TrashMender
from lffs.clock import Clock, SystemClock
from lffs.directories import Directories
from lffs.errors import MountError, StoreError, StoreInUseError
from lffs.handles import DirectoryHandles, join, split
from lffs.jobs import Jobs
from lffs.manifest import export, scan
from lffs.manifest.backup import BACKUPS_NAME, Backups
from lffs.manifest.exported import says
from lffs.manifest.records import NO_MARK, Entry, Job, TrashEntry
from lffs.manifest.recovery import Condition, OpenedStore, bring_up_to_date, open_store, set_aside
from lffs.manifest.seal import write_seal
from lffs.manifest.store import Store
from lffs.model import FileIdentity, FileType, JobStatus, JobType
from lffs.state_dir import STATE_NAME, point_to_state_directory, state_directory
from lffs.syscalls import Stat
from lffs.work import Work

if TYPE_CHECKING:
    from lffs.config import Settings

log = logging.getLogger(__name__)

_LOCK_NAME = "lock"


@dataclass(frozen=True, slots=True)
class Totals:
    """What a job has on disk; bytes of hard-linked files count once."""

    files: int = 0
    bytes: int = 0
    temp_files: int = 0
    temp_bytes: int = 0
    hidden_bytes: int = 0


@dataclass(slots=True)
class StatusChange:
    """What setting a status did, for whoever shows the files."""

    hidden: Hidden = field(default_factory=Hidden)
    restored: Restored = field(default_factory=Restored)
    work: Work[Any, None] | None = None  # deleting at once: retention is 0
    reaped: Reaped = field(default_factory=Reaped)  # by that work, once it is finished


class Backing:
    """An opened backing store; make one with `open_backing`."""

    def __init__(
        self,
        path: Path,
        root_fd: int,
        state_dir: Path,
        store: Store,
        trash: Trash,
        staging_fd: int,
        settings: "Settings",
        clock: Clock,
        *,
        is_current: bool,
    ) -> None:
        """*is_current* says that the store is as its last user left it, at a clean end."""
        self.path = path
        self.state_dir = state_dir
        self.store = store
        self.trash = trash
        self.clock = clock
        self.handles = DirectoryHandles(root_fd)
        self.settings = settings
        self.classifier = Classifier(settings.classify)
        self.jobs = Jobs(store, settings)
        self.jobs.began = self._declare_directories
        self.directories = Directories(store, self.handles, staging_fd)
        self.cleanup = Cleanup(store, self.jobs, self.directories, self.handles, trash, settings)
        self.backups = Backups(
            store, self.directories.pins, state_dir / BACKUPS_NAME, settings, is_current=is_current
        )
        store.rolled_back = self._rolled_back

    def _rolled_back(self) -> None:
        """What the store could not keep was not answered yet: it does not hold in memory either."""
        self.jobs.reload()
        self.directories.reload()

    def configure(self, settings: "Settings") -> None:
        """Take over a new configuration; files that rules typed are typed anew."""
        rules_changed = settings.classify != self.settings.classify
        self.settings = settings
        self.jobs.configure(settings)
        self.cleanup.configure(settings)
        self.backups.configure(settings)
        if rules_changed:
            self.classifier = Classifier(settings.classify)
            for job in self.jobs.live():
                self._classify_anew(job)
            self.store.commit()

    def _classify_anew(self, job: Job) -> None:
        for entry in self.store.entries(job.number):
            type_ = self.classifier.classify(entry.path, job.type)
            if type_ is not entry.type:
                self.store.add_entry(dataclasses.replace(entry, type=type_))

    # -- what there is ------------------------------------------------------------------------

    def status_of(self, path: bytes) -> Stat | None:
        """Return mode and owner of what is at *path*, real or lazy; None where nothing is."""
        lazy = self.directories.lazy(path)
        if lazy is not None:
            return Stat(mode=stat.S_IFDIR | lazy.mode, ino=lazy.number, uid=lazy.uid, gid=lazy.gid)
        directory, name = split(path)
        try:
            return syscalls.statx(self.handles.open(directory), name)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def typed_entries(self, job: Job) -> list[tuple[Entry, FileType]]:
        """Return the job's present files with their types, xattrs applied, by path."""
        return [
            (entry, effective_type(entry, self.store.mark(entry.identity)))
            for entry in self.store.entries(job.number)
        ]

    def totals(self, job: Job) -> Totals:
        """Return what the job has on disk, in files and bytes, as stat says now."""
        files = temp_files = temp_bytes = total = 0
        counted: set[FileIdentity] = set()
        for entry, type_ in self.typed_entries(job):
            files += 1
            size = 0
            if entry.identity not in counted:
                counted.add(entry.identity)
                found = self.status_of(join(job.path, entry.path))
                size = entry.size if found is None else found.size
            total += size
            if type_.is_temporary:
                temp_files += 1
                temp_bytes += size
        hidden = {one.entry.identity: one.entry.size for one in self.store.trash(job.number)}
        return Totals(files, total, temp_files, temp_bytes, sum(hidden.values()))

    def candidates(self, job: Job | None = None) -> list[Candidate]:
        """Return what could be cleaned by hand, of one job or of all, in view and hidden.

        Raises StoreError where the store is damaged.
        """
        self.require_sound_store()
        result = []
        for one in [job] if job is not None else self.store.jobs(ended=True):
            live = one if one.ended_ns is not None else self.jobs.at(one.path) or one
            if live.ended_ns is None:
                result += [self._candidate(live, entry) for entry in self.store.entries(live.number)]
            result += [self._candidate(live, row.entry, row) for row in self.store.trash(live.number)]
        return result

    def _candidate(self, job: Job, entry: Entry, hidden: TrashEntry | None = None) -> Candidate:
        mark = self.store.mark(entry.identity)
        found = None if hidden else self.status_of(join(job.path, entry.path))
        pinned = job.ended_ns is None and self.directories.is_pinned(split(join(job.path, entry.path))[0])
        return Candidate(
            job=job,
            entry=entry,
            type=effective_type(entry, mark),
            size=entry.size if found is None else found.size,
            changed_ns=max(entry.created_ns, 0 if found is None else found.mtime_ns),
            is_pinned=mark.keep or pinned,
            hidden=hidden,
        )

    def manifest(self, job: Job) -> dict[str, Any]:
        """Return the job's manifest for JSON (interface.md)."""
        return export.job_manifest(
            job, self.store, self.handles, self.settings, self.jobs.retention_hours(job)
        )

    def export(self, job: Job) -> None:
        """Write the job's manifest to the state directory; a full disk is no reason to fail."""
        try:
            export.write_export(self.state_dir / "manifests", job, self.manifest(job))
        except (OSError, StoreError) as exc:
            log.warning("job %s: cannot write its manifest's export: %s", job.id, exc)

    # -- changes ------------------------------------------------------------------------------

    def require_sound_store(self) -> None:
        """Raise StoreError where the store is damaged: what it says is no ground to hide or delete."""
        if self.store.is_damaged:
            raise StoreError(
                f"manifest store {self.store.path} is damaged; unmount, and mount again to have it recovered"
            )

    def set_status(self, job: Job, status: JobStatus, held: HeldPredicate) -> StatusChange:
        """Take a job to running, completed or failed, with all that follows from it."""
        self.require_sound_store()
        now_ns = self.clock.wall_ns()
        change = StatusChange()
        if status is JobStatus.COMPLETED:
            self.find_lost()  # what is not on record would stay in view for ever
            change.hidden = self.cleanup.complete(job, now_ns, held)
        elif status is JobStatus.FAILED:
            change.hidden, change.restored = self.cleanup.fail(job, now_ns, held)
        else:
            change.restored = self.cleanup.run(job, now_ns)
        if job.status is JobStatus.CLEANING_UP:
            due = self.cleanup.due_at_once(job, now_ns)
            reaping = self.cleanup.reap(due, now_ns, "retention_hours is 0")
            change.work = Work(
                run=reaping.run,
                finish=lambda deleted: self._reaped(change, reaping.finish(deleted)),
            )
        self.export_changed()
        return change

    def _reaped(self, change: StatusChange, reaped: Reaped) -> None:
        change.reaped = reaped
        self.export_changed()

    def export_changed(self) -> None:
        """Write what lies beside the store: exports of jobs whose status or path changed, what was said."""
        for path, number in self.jobs.take_left():
            export.remove_export(self.state_dir / "manifests", path, number)
        for job in self.jobs.take_changed():
            self.export(job)
        self.backups.save_said()

    def mend_exports(self) -> None:
        """Write the exports anew that are damaged, missing, or behind their jobs' status."""
        manifests = self.state_dir / "manifests"
        for job in self.jobs.live():
            path = export.export_path(manifests, job.path, job.number)
            was_written = job.status is not JobStatus.CREATED or path.exists()
            if was_written and not says(path, job.status):
                log.info("job %s: the export of its manifest is written anew", job.id)
                self.export(job)

    def restore_pins(self, pins: frozenset[bytes]) -> None:
        """Let these directories have user.lffs.keep = 1, and no others."""
        for path in pins ^ self.directories.pins():
            status = self.status_of(path)
            if status is not None and status.is_directory:
                self.directories.set_keep(path, status, path in pins)
        self.store.commit()

    def set_job_type(self, job: Job, type_: JobType | None) -> tuple[list[bytes], list[bytes]]:
        """Set a job's type: its files are typed by that type's rules, its directories declared.

        Returns the directories that vanished and those that came, by their paths.
        """
        self.jobs.set_type(job, type_, self.clock.wall_ns())
        self._classify_anew(job)
        vanished = self._drop_undeclared(job)
        made = self._declare_directories(job)
        self.store.commit()
        return vanished, made

    def _drop_undeclared(self, job: Job) -> list[bytes]:
        """Remove what was declared for another type, where nothing is in it yet."""
        declared = self.settings.directories.types.get(job.type, {}).values()
        wanted = {join(job.path, os.fsencode(path)) for path in declared}
        dropped = []
        for directory in reversed(self.store.directories(job.path)):  # what is below comes first
            path = directory.path
            is_unused = self.directories.lazy(path) is not None and not self.directories.lazy_names(path)
            if directory.declared and path not in wanted and is_unused:
                self.directories.remove(path)
                dropped.append(path)
        return dropped

    def _declare_directories(self, job: Job) -> list[bytes]:
        """Make the directories that directories.types declares for the job's type: lazily."""
        made: list[bytes] = []
        like = self.status_of(job.path)
        if like is None:
            return made
        for below in self.settings.directories.types.get(job.type, {}).values():
            path = job.path
            for name in os.fsencode(below).split(b"/"):
                path = join(path, name)
                if self.status_of(path) is None:
                    self.directories.make_lazy(
                        path,
                        mode=like.mode,
                        uid=like.uid,
                        gid=like.gid,
                        now_ns=self.clock.wall_ns(),
                        declared=True,
                    )
                    made.append(path)
        return made

    def forget_mark(self, identity: FileIdentity) -> None:
        """The last name of a file is gone, and with it what xattrs said of it."""
        if self.store.mark(identity) != NO_MARK:
            with contextlib.suppress(StoreError):
                self.store.set_mark(identity, NO_MARK)

    # -- records against disk -----------------------------------------------------------------

    def reconcile(self, *, rebuilt: bool = False, beside: bool = False) -> int:
        """Make the records agree with the disk; return how many changed (see Reconciler)."""
        reconciler = scan.Reconciler(
            self.store, self.jobs, self.directories, self.classifier, rebuilt=rebuilt, beside=beside
        )
        disk = scan.walk_jobs(self.handles, self.jobs.roots)
        return reconciler.reconcile(disk, self.clock.wall_ns())

    def find_lost(self) -> int | None:
        """Record again what a full disk kept from being recorded; None where nothing was.

        Returns how many records changed.  Raises StoreError while there is no room yet.
        """
        if not self.store.lost_writes:
            return None
        self.store.commit()
        self.store.lost_writes = False
        try:
            self.cleanup.mend_trash(self.clock.wall_ns())
            return self.reconcile()
        except BaseException:
            self.store.lost_writes = True
            raise

    def repair(self) -> int:
        """Make the records agree with the disk and the trash; return how many changed."""
        self.cleanup.mend_trash(self.clock.wall_ns())
        return self.reconcile(beside=True)

    def verify(self) -> Work[list[scan.JobOnDisk], dict[str, Any]]:
        """Return the work of comparing every record with the disk (interface.md, lffs verify)."""
        root_fd = os.dup(self.handles.root_fd)
        roots = self.jobs.roots

        def walk() -> list[scan.JobOnDisk]:
            handles = DirectoryHandles(root_fd)
            try:
                return scan.walk_jobs(handles, roots)
            finally:
                handles.close()
                os.close(root_fd)

        return Work(run=walk, finish=self._verified)

    def _verified(self, disk: list[scan.JobOnDisk]) -> dict[str, Any]:
        found = scan.compare(self.store, self.jobs, self.handles, disk)
        self._verify_trash(found)
        return {
            "ok": found.is_clean,
            "missing": sorted(map(export.text, found.missing)),
            "phantom": sorted(map(export.text, found.phantom)),
            "corrupt": sorted(found.corrupt),
            "unowned": sorted(map(export.text, found.unowned)),
        }

    def _verify_trash(self, found: scan.Differences) -> None:
        recorded = {}
        for one in self.store.trash():
            recorded[one.entry.job, one.name] = one
            if self.trash.is_claimed(one):
                continue  # a thread is deleting it just now: gone already, recorded as yet
            if self.trash.identity(one.entry.job, one.name) != one.entry.identity:
                found.corrupt.append(
                    f"{export.text(one.name)}: recorded as hidden, not (or another file) in the trash"
                )
        for number, name, _ in self.trash.files():
            if (number, name) not in recorded:
                found.unowned.append(b".lffs/trash/%d/%b" % (number, name))


@contextlib.contextmanager
def open_backing(
    path: Path,
    settings: "Settings",
    *,
    state_dir: Path | None = None,
    clock: Clock | None = None,
    told: bool = False,
) -> Iterator[Backing]:
    """Open the backing store at *path* for the block, and close it cleanly behind it.

    *told*: what it does not record appeared beside lffs, since nothing is mounted and programs tell
    it of what is theirs.  A scan after an unclean end then adopts the rest.

    Raises StoreInUseError when another lffs has it, NewerStoreError for a store of a newer
    version (nothing is touched), MountError where there is no such directory.
    """
    with contextlib.ExitStack() as stack:
        try:
            root_fd = os.open(path, syscalls.DIRECTORY_FLAGS & ~os.O_NOFOLLOW)
        except OSError as exc:
            raise MountError(f"backing directory {path}: {exc.strerror}") from exc
        stack.callback(os.close, root_fd)
        home_fd = _make_private(root_fd, STATE_NAME.encode(), stack)
        state = _state_directory(path, state_dir)
        lock_fd = os.open(state / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, lock_fd)
        _lock(lock_fd, path)
        trash = Trash(_make_private(home_fd, b"trash", stack))
        stack.callback(trash.forget_handles)
        staging_fd = _make_private(home_fd, b"staging", stack)
        backing = _with_store(path, root_fd, state, trash, staging_fd, settings, clock or SystemClock(), told)
        stack.callback(backing.handles.close)
        try:
            yield backing
        except BaseException:
            with contextlib.suppress(StoreError):
                backing.store.close(clean=False)
            raise
        else:
            _close(backing)


def _with_store(
    path: Path,
    root_fd: int,
    state: Path,
    trash: Trash,
    staging_fd: int,
    settings: "Settings",
    clock: Clock,
    told: bool,
) -> Backing:
    """Open the manifest store, recovered if need be, and make it agree with the disk."""
    for attempt in (1, 2):
        opened = open_store(state, has_trash=any(trash.files()), now_ns=clock.wall_ns())
        store = opened.store
        try:
            if opened.condition.is_recovered:
                bring_up_to_date(opened, state, clock.wall_ns())
            was_told = store.take_over_as(told=told)
            was_clean = store.took_over_clean() and not opened.condition.is_recovered
            backing = Backing(
                path, root_fd, state, store, trash, staging_fd, settings, clock, is_current=was_clean
            )
            store.number_jobs_above(trash.highest_job())
            if not was_clean:
                _agree_with_disk(backing, opened, beside=was_told)
            backing.cleanup.resume(clock.wall_ns())
            backing.mend_exports()
        except StoreError:
            with contextlib.suppress(StoreError):
                store.close(clean=False)
            if attempt == 2 or not store.is_damaged:
                raise
            set_aside(store.path, clock.wall_ns())  # found damaged late: now a backup takes its place
        except BaseException:
            with contextlib.suppress(StoreError):
                store.close(clean=False)
            raise
        else:
            return backing
    raise AssertionError("the second attempt returned or raised")


def _agree_with_disk(backing: Backing, opened: OpenedStore, *, beside: bool) -> None:
    """Mend what a kill left half done, what a lost store does not know, and scan the disk."""
    now_ns = backing.clock.wall_ns()
    recovered = opened.condition.is_recovered
    mender = TrashMender(backing.store, backing.jobs, backing.trash)

    def give_rows() -> None:
        mender.give_rows(
            backing.classifier.classify,
            backing.jobs.retention_hours,
            backing.settings.jobs.default_type,
            now_ns,
        )

    if recovered:
        mender.settle_rows(now_ns)
        give_rows()
    backing.cleanup.recover(now_ns)
    changed = backing.reconcile(rebuilt=recovered, beside=beside)
    if not recovered:
        give_rows()
    if opened.said is not None:
        backing.restore_pins(opened.said.pins)
    if opened.condition is not Condition.NEW:
        log.info("scanned %s after an unclean end: %d records mended", backing.path, changed)
    if recovered:
        backing.backups.start_over(opened.beyond)
        for job in backing.jobs.live():
            backing.export(job)
        # Losing the log must not make ordinary again what is rebuilt.
        backing.store.checkpoint()


def _close(backing: Backing) -> None:
    """End cleanly: backed up if that is due, closed, sealed."""
    store = backing.store
    now_ns = backing.clock.wall_ns()
    try:
        store.commit()
        backing.export_changed()
        if backing.backups.is_due(now_ns):
            backing.backups.make_now(now_ns)
        backing.backups.note_changes()
    finally:
        store.close(clean=True)
    if store.lost_writes or store.is_damaged:
        return
    try:
        write_seal(store.path)
    except OSError as exc:
        log.warning("cannot seal %s: %s; it is checked at the next opening", store.path, exc)


def _state_directory(path: Path, wanted: Path | None) -> Path:
    state = wanted or state_directory(path)
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(state, syscalls.DIRECTORY_FLAGS)
    except OSError as exc:
        raise MountError(f"state directory {state}: {exc.strerror}") from exc
    try:
        _refuse_foreign(descriptor, f"state directory {state}")
    finally:
        os.close(descriptor)
    if wanted is not None:
        point_to_state_directory(path, wanted)
    return state


def _make_private(parent_fd: int, name: bytes, stack: contextlib.ExitStack) -> int:
    """Make a directory for lffs alone, or take the one that is there; return a descriptor."""
    shown = os.fsdecode(name)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent_fd)
        descriptor = syscalls.open_directory(parent_fd, name)
    except OSError as exc:
        raise MountError(f"the backing store's {shown}: {exc.strerror}") from exc
    stack.callback(os.close, descriptor)
    _refuse_foreign(descriptor, f"the backing store's {shown}")
    return descriptor


def _refuse_foreign(descriptor: int, what: str) -> None:
    """Refuse a directory that others own or may write to: it says what root is to delete."""
    found = syscalls.statx(descriptor)
    if found.uid != os.geteuid() or found.mode & 0o022:
        raise MountError(
            f"{what} belongs to user {found.uid} with mode {found.mode & 0o7777:o}; lffs only trusts"
            " a directory of its own that nobody else may write to: see what it is, then remove it"
        )


def _lock(descriptor: int, path: Path) -> None:
    """Take the store's lock for as long as the descriptor is open, and leave the pid in it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno != errno.EWOULDBLOCK:
            raise
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise StoreInUseError(
            f"{path} is in use by another lffs (process {holder}); a backing store is mounted once"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
