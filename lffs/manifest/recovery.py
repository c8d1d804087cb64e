"""Opening the manifest store, whatever became of it.

A store that is damaged or gone is set aside as evidence, and the newest good backup takes its place;
where none is good a new one is begun, to be rebuilt by a scan.  No mount is refused for it, but for a
store of a newer version, which is not touched.

What comes of that, a store of a moment ago beside a disk of now, must cost nobody a file:

- What lies on the disk and is not in the store is recorded as *rebuilt*, in every job: nobody saw it
  being made, so no policy hides or deletes it.  What the store knows and is still that very file goes
  on being what it was.
- Statuses, types, retention, debug and pins are newer in said.json, and are taken from there.
  Without that file nobody knows which job was taken to running since, or what was pinned: then nothing
  that the store knows is released by itself (`distrust`), and a job with files that the pipeline
  unlinked, which any status but running may release, is running.
- A job that was cleaning_up is completed, what it has in view stays.  What was half brought back stays
  as it is: a row each for what is hidden.
- Retention of what is hidden counts from the recovery: it may have been brought back and hidden again.
- Files in the trash that no row knows get one, rebuilt; where even their job is unknown, under a
  removed job of the trash directory's number (lffs.cleanup.unrecorded).

The same goes for a store that is sound and yet too old: its log was lost, or somebody put an old file
back.  Its sequence number shows it: backups and said.json have theirs.  After an unclean end without a
said.json nothing shows it: then the store is believed, and otherwise treated as an old one.
"""

import contextlib
import dataclasses
import datetime
import enum
import errno
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lffs.errors import NewerStoreError, StoreError
from lffs.manifest.backup import BACKUPS_NAME, Generation, generations
from lffs.manifest.exported import ExportedJob, exported_jobs
from lffs.manifest.records import NO_MARK, HideReason, Job
from lffs.manifest.said import Said, read_said
from lffs.manifest.seal import SEAL_ENDING, SealState, break_seal, examine_seal, sync_directory
from lffs.manifest.store import VERSION, Store
from lffs.model import JobStatus

log = logging.getLogger(__name__)

STORE_NAME = "manifest.db"
DAMAGED_NAME = "damaged"  # in the state directory: what was set aside
_KEEP_DAMAGED = 3
_HIGHEST_VERSION = 1_000_000  # beyond it a version is a flipped bit
_PARTS = ("", "-wal", "-shm", SEAL_ENDING)

# What SQLite says when it could not look, which says nothing about the file.  SQLITE_READONLY is none of
# them: what lffs may not write is an OSError before, so it comes of what the file says of itself.
_NO_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
    }
)


class Condition(enum.Enum):
    """What an opened store is to the disk beside it."""

    NEW = enum.auto()  # there was never another
    CURRENT = enum.auto()  # as its last user left it, cleanly or not
    UNSURE = enum.auto()  # sound, and perhaps older than the disk: what would show it is lost
    OUTDATED = enum.auto()  # sound, but older than the disk
    REBUILT = enum.auto()  # begun anew in place of one that was lost

    @property
    def is_recovered(self) -> bool:
        """Whether the disk may hold what lffs saw being made and this store does not know."""
        return self in (Condition.UNSURE, Condition.OUTDATED, Condition.REBUILT)


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """A store that can be worked with."""

    store: Store
    condition: Condition
    said: Said | None  # what people said, where that is newer than the store; only of a recovered one
    beyond: int = 0  # the highest sequence that was ever used


class _Damage(Exception):
    """What is wrong with a store."""


def open_store(state: Path, *, has_trash: bool, now_ns: int) -> OpenedStore:
    """Open the store in *state*, recovering it first if need be.

    *has_trash* says that files are hidden, so there was a store.  Raises NewerStoreError, touching
    nothing, and StoreError for what is no damage: a full disk, a lock.
    """
    path = state / STORE_NAME
    backups = generations(state / BACKUPS_NAME)
    said = read_said(state / BACKUPS_NAME)
    was_used = (
        has_trash
        or said is not None
        or bool(backups)
        or _has_exports(state)
        or any(os.path.lexists(f"{path}{ending}") for ending in _PARTS[1:])
    )
    condition = Condition.CURRENT
    try:
        store = _open_sound(path, was_used, backups)
        condition = Condition.NEW if store.is_new else _how_old(store, said)
    except _Damage as damage:
        log.error("manifest store %s: %s", path, damage)
        evidence = set_aside(path, now_ns)
        restored = _restored(path, backups, evidence)
        condition = Condition.REBUILT if restored is None else Condition.OUTDATED
        if restored is None:
            log.error(
                "no backup of %s is usable: its records are rebuilt by scanning; nothing found that way"
                " is hidden or deleted by itself",
                path,
            )
        store = restored or Store(path)
    break_seal(path)
    beyond = max(said.sequence if said else 0, *(one.number for one in backups), 0)
    if not condition.is_recovered:
        return OpenedStore(store, condition, None, beyond)
    newer = said if said is not None and said.sequence >= store.sequence() else None
    return OpenedStore(store, condition, newer, beyond)


def bring_up_to_date(opened: OpenedStore, state: Path, now_ns: int) -> None:
    """Take over into a recovered store what is known of its jobs from elsewhere; see above."""
    store, said = opened.store, opened.said
    for number, _ in store.restoring():
        store.set_restoring(number, None)
    if said is not None:
        _take_over_said(store, said, now_ns)
    elif opened.condition is Condition.REBUILT:
        _take_over_exports(store, exported_jobs(state / "manifests"), now_ns)
    elif opened.condition is Condition.OUTDATED:
        log.error(
            "what was said of jobs and files since the backup is lost too: nothing that %s knows is"
            " hidden or deleted by itself any more",
            store.path,
        )
        store.distrust()
    is_known = said is not None or opened.condition is Condition.UNSURE
    for job in store.jobs():
        if job.status is JobStatus.CLEANING_UP:
            job.status = JobStatus.COMPLETED
            store.update_job(job)
        if not is_known and job.status is not JobStatus.RUNNING and _has_unlinked(store, job):
            log.warning("job %s: its status is unknown; running keeps what is hidden of it", job.id)
            job.status, job.status_since_ns = JobStatus.RUNNING, now_ns
            store.update_job(job)
    store.commit()


def _has_unlinked(store: Store, job: Job) -> bool:
    return any(one.reason is HideReason.UNLINKED for one in store.trash(job.number))


# -- looking ------------------------------------------------------------------------------------------


def _open_sound(path: Path, was_used: bool, backups: list[Generation]) -> Store:
    """Open the store, or raise _Damage saying why it can't be the one to go on with."""
    try:
        if was_used and not path.exists():
            raise _Damage("it is missing")
        for ending in _PARTS:
            if os.path.isdir(f"{path}{ending}"):
                raise _Damage(f"{path.name}{ending} is a directory")
        seal = examine_seal(path)
        if seal is SealState.BROKEN:
            raise _Damage("its content is not what it was when it was closed")
        store = Store(path)
    except NewerStoreError as exc:
        if examine_seal(path) is not SealState.BROKEN and _is_newer(path):
            raise
        raise _Damage(str(exc)) from exc
    except StoreError as exc:
        if exc.errno == errno.ENOSPC or _error_code(exc) in _NO_DAMAGE:
            raise
        raise _Damage(str(exc)) from exc
    except OSError as exc:
        if exc.errno not in (errno.EISDIR, errno.EIO, errno.ENOTDIR, errno.ELOOP):
            raise
        raise _Damage(str(exc)) from exc
    with _closed_on_damage(store):
        if store.is_new and was_used:
            raise _Damage("it is empty")
        # Bit for bit what was closed needs no other look, which takes 1.2 s a million entries.
        if not store.is_new and seal is not SealState.INTACT:
            _require_sound(store)
        if backups and backups[0].number > store.sequence():
            raise _Damage(f"it is older than its backup {backups[0].path.name}")
    return store


@contextlib.contextmanager
def _closed_on_damage(store: Store) -> Iterator[None]:
    try:
        yield
    except _Damage:
        with contextlib.suppress(StoreError):
            store.close(clean=False)
        raise


def _require_sound(store: Store) -> None:
    try:
        problems = store.problems()
    except StoreError as exc:
        raise _Damage(str(exc)) from exc
    if problems:
        raise _Damage("; ".join(problems))


def _error_code(exc: StoreError) -> int | None:
    code = getattr(exc.__cause__, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _is_newer(path: Path) -> bool:
    """Have SQLite say the version, of a copy: a flipped bit may have made it look like another.

    In the log SQLite has checksums, and only opening a store with its log shows what holds.
    """
    with tempfile.TemporaryDirectory(prefix="examined.", dir=path.parent) as place:
        copy = Path(place, STORE_NAME)
        for ending in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{ending}", f"{copy}{ending}")
        try:
            with contextlib.closing(sqlite3.connect(copy)) as database:
                version: int = database.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error:
            return False
        return VERSION < version <= _HIGHEST_VERSION


def _how_old(store: Store, said: Said | None) -> Condition:
    if said is not None and said.sequence > store.sequence():
        log.error("manifest store %s lost its last records", store.path)
        return Condition.OUTDATED
    if store.lost_its_log():
        log.error("manifest store %s lost its write-ahead log, and its last records with it", store.path)
        return Condition.OUTDATED
    if said is None and store.misses_said():
        log.warning(
            "manifest store %s: without said.json nothing shows that no record was lost with the unclean end",
            store.path,
        )
        return Condition.UNSURE
    return Condition.CURRENT


def _has_exports(state: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return any((state / "manifests").iterdir())
    return False


# -- setting aside and restoring ----------------------------------------------------------------------


def set_aside(path: Path, now_ns: int) -> Path:
    """Keep what there is of the store as evidence, of the newest few times; return where."""
    moment = datetime.datetime.fromtimestamp(now_ns / 1e9, datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    damaged = path.parent / DAMAGED_NAME
    damaged.mkdir(mode=0o700, exist_ok=True)
    number = 1
    while (place := damaged / f"{moment}-{number:03d}").exists():
        number += 1
    place.mkdir(mode=0o700)
    for ending in _PARTS:
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{ending}", place / f"{path.name}{ending}")
    log.error("what is left of it is kept in %s", place)
    for old in sorted(damaged.iterdir())[:-_KEEP_DAMAGED]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def _restored(path: Path, backups: Iterable[Generation], evidence: Path) -> Store | None:
    """Put the newest good backup in the store's place and open it; None: there is none."""
    for backup in backups:
        try:
            _put_in_place(backup, path)
            store = Store(path)
            with _closed_on_damage(store):
                _require_sound(store)
        except (_Damage, StoreError, OSError) as exc:
            log.error("backup %s can't be used: %s", backup.path.name, exc)
            for ending in _PARTS:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{path}{ending}")
            if not isinstance(exc, NewerStoreError):  # that one is good, for a newer lffs
                with contextlib.suppress(FileNotFoundError):
                    os.replace(backup.path, evidence / backup.path.name)
        else:
            log.error("manifest store %s is restored from %s", path, backup.path.name)
            return store
    return None


def _put_in_place(backup: Generation, path: Path) -> None:
    draft = path.with_name(f"{path.name}.new")
    try:
        shutil.copyfile(backup.path, draft)
        draft.chmod(0o600)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as exc:
        draft.unlink(missing_ok=True)
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        os.replace(backup.path, path)  # there is no room for two
    sync_directory(path.parent)


# -- what is known from elsewhere ---------------------------------------------------------------------


def _take_over_said(store: Store, said: Said, now_ns: int) -> None:
    _move_directories(
        store,
        {job.number: job.path for job in store.jobs()},
        {job.number: job.path for job in said.jobs if job.ended_ns is None},
    )
    numbers = {job.number for job in said.jobs}
    # A job that nobody speaks of any more was dropped: its path may be another's, its trash is not.
    dropped = [
        dataclasses.replace(job, ended_ns=job.ended_ns or now_ns)
        for job in store.jobs(ended=True)
        if job.number not in numbers
    ]
    store.put_jobs([*dropped, *said.jobs])
    store.number_jobs_above(said.last_number)
    for identity in store.marks().keys() | said.marks.keys():
        store.set_mark(identity, said.marks.get(identity, NO_MARK))


def _move_directories(store: Store, before: dict[int, bytes], after: dict[int, bytes]) -> None:
    """Let what is remembered of directories follow their jobs; of jobs that ended it goes."""
    moved = {number: path for number, path in before.items() if after.get(number) != path}
    for number, path in moved.items():  # first out of each other's way
        store.move_directories(path, _aside(number))
    for number in moved:
        goes = store.directories(after.get(number, _aside(number)))
        for directory in goes:
            store.remove_directory(directory.path)
        if number in after:
            store.move_directories(_aside(number), after[number])


def _aside(number: int) -> bytes:
    return b"\0%d" % number


def _take_over_exports(store: Store, exported: Iterable[ExportedJob], now_ns: int) -> None:
    """Give the jobs the numbers, types and statuses that their exports say: the rest is lost."""
    newest: dict[int, ExportedJob] = {}
    taken: set[bytes] = set()
    for one in sorted(exported, key=lambda one: one.updated_at, reverse=True):
        if one.number not in newest and one.path not in taken:
            newest[one.number] = one
            taken.add(one.path)
    store.put_jobs(
        Job(
            number=one.number,
            path=one.path,
            type=one.type,
            status=one.status,
            created_ns=one.created_ns,
            updated_ns=now_ns,
            status_since_ns=now_ns,
            adopted=True,
        )
        for one in newest.values()
    )
