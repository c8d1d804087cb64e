"""Backing stores for tests without a mount: opened, killed, reopened, their clock set by the test."""

import contextlib
import errno
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from lffs.backing import Backing, open_backing
from lffs.config import CleanupSettings, DirectorySettings, JobSettings, ManifestSettings, Rule, Settings
from lffs.errors import LffsError, StoreError
from lffs.fs.answers import Answered
from lffs.fs.caller import Caller
from lffs.fs.filesystem import Filesystem
from lffs.handles import split
from lffs.manifest.records import Creator, Entry, Job
from lffs.manifest.store import Store
from lffs.model import SUFFIXES, EntryKind, EntryOrigin, FileIdentity, FileType, JobStatus, JobType
from lffs.syscalls import Stat
from lffs.work import Work, settle

R = TypeVar("R")

HOUR_NS = 3_600_000_000_000
NOW_NS = 1_800_000_000_000_000_000


class FakeClock:
    """Both clocks stand where a test puts them; `advance` moves them together."""

    def __init__(self, wall_ns: int = NOW_NS, steady_ns: int = HOUR_NS) -> None:
        self.now_wall_ns = wall_ns
        self.now_steady_ns = steady_ns

    def wall_ns(self) -> int:
        return self.now_wall_ns

    def steady_ns(self) -> int:
        return self.now_steady_ns

    def advance(self, hours: float) -> None:
        self.now_wall_ns += round(hours * HOUR_NS)
        self.now_steady_ns += round(hours * HOUR_NS)


# Short rules whose types a test can read off a name.
RULES = (
    Rule(match="*.tmp", type=FileType.TEMP_VIDEO),
    Rule(match="*.wav", type=FileType.TEMP_AUDIO),
    Rule(match="*.png", type=FileType.TEMP_SLIDE),
    Rule(match="*.mkv", type=FileType.FINAL_VIDEO),
)


def make_settings(
    *,
    cleanup: dict[str, Any] | None = None,
    jobs: dict[str, Any] | None = None,
    directories: dict[str, Any] | None = None,
    manifest: dict[str, Any] | None = None,
    classify: tuple[Rule, ...] = RULES,
    debug: bool = False,
) -> Settings:
    """Return a configuration with the rules above, but for what is given."""
    return Settings(
        debug=debug,
        cleanup=CleanupSettings(**(cleanup or {})),
        jobs=JobSettings(**(jobs or {})),
        directories=DirectorySettings(**(directories or {})),
        manifest=ManifestSettings(**(manifest or {})),
        classify=classify,
    )


def make_identity(inode: int = 7, birth_ns: int = NOW_NS) -> FileIdentity:
    return FileIdentity(inode, birth_ns)


def make_entry(path: bytes = b"a.tmp", **changes: Any) -> Entry:
    """Return a recorded temporary of job 1."""
    values: dict[str, Any] = {
        "job": 1,
        "path": path,
        "kind": EntryKind.FILE,
        "type": FileType.TEMP_VIDEO,
        "size": 4096,
        "created_ns": NOW_NS,
        "creator": Creator(1000, 100, 4711, "ffmpeg"),
        "identity": make_identity(),
        "origin": EntryOrigin.RECORDED,
    }
    return Entry(**(values | changes))


def make_job(**changes: Any) -> Job:
    """Return a running job."""
    values: dict[str, Any] = {
        "number": 1,
        "path": b"job",
        "type": JobType.SHORT_FORM,
        "status": JobStatus.RUNNING,
        "created_ns": NOW_NS,
        "updated_ns": NOW_NS,
        "status_since_ns": NOW_NS,
    }
    return Job(**(values | changes))


class _Kill(Exception):
    pass


@contextlib.contextmanager
def opened(path: Path, settings: Settings | None = None, clock: FakeClock | None = None) -> Iterator[Backing]:
    """Open the backing store at *path*, made if need be; closed cleanly at the block's end."""
    path.mkdir(exist_ok=True)
    with open_backing(path, settings or make_settings(), clock=clock or FakeClock()) as backing:
        yield backing


@contextlib.contextmanager
def until_killed(
    path: Path, settings: Settings | None = None, clock: FakeClock | None = None
) -> Iterator[Backing]:
    """The same, but what is not committed at the block's end is lost, as by kill -9."""
    state = path / ".lffs"
    kept: dict[str, bytes] = {}
    with contextlib.suppress(_Kill), opened(path, settings, clock) as backing:
        yield backing
        # What SQLite has written by now is what a kill leaves; closing would write more.
        kept = {file.name: file.read_bytes() for file in state.glob("manifest.db*")}
        raise _Kill
    for file in state.glob("manifest.db*"):
        file.unlink()
    for name, content in kept.items():
        if not name.endswith("-shm"):
            (state / name).write_bytes(content)


@contextlib.contextmanager
def fast_directory() -> Iterator[Path]:
    """A directory for tests that make stores by the hundred, in memory where there is such a place."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="lffs-test-", dir=memory) as path:
        yield Path(path)


def tree(path: Path) -> dict[str, bytes | None]:
    """Return every path below *path* but lffs's own: a file's content, a link's target, None: a directory."""
    found: dict[str, bytes | None] = {}
    for directory, names, files in os.walk(path):
        if Path(directory) == path and ".lffs" in names:
            names.remove(".lffs")
        for name in (*names, *files):
            whole = Path(directory, name)
            if whole.is_symlink():
                content: bytes | None = os.fsencode(os.readlink(whole))
            else:
                content = None if whole.is_dir() else whole.read_bytes()
            found[str(whole.relative_to(path))] = content
    return found


@contextlib.contextmanager
def descriptors_kept() -> Iterator[None]:
    """Fail where the block leaves a descriptor open."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    after = set(os.listdir("/proc/self/fd"))
    # One descriptor more is the listing itself, which has another number each time.
    assert len(after) <= len(before), after - before


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """Run the block as a user who owns nothing; for root nothing is forbidden otherwise."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class FakeKernel:
    """Takes down what it is told; what a real one believes beyond that is the mounted tests' matter."""

    def __init__(self, *, can_age_names: bool = True) -> None:
        self.can_age_names = can_age_names
        self.aged_names = 0
        self.aged_attributes: list[int] = []

    def age_names(self) -> None:
        self.aged_names += 1

    def age_attributes(self, numbers: list[int]) -> None:
        self.aged_attributes += numbers


ME = Caller(os.geteuid(), os.getegid(), os.getpid())


class Client:
    """A program on the mount, without one: paths become the requests that the kernel would make.

    Every lookup is counted and given back by `forget`, which fails where the count is wrong.
    """

    def __init__(self, backing: Backing, *, can_age_names: bool = True) -> None:
        self.kernel = FakeKernel(can_age_names=can_age_names)
        self.fs = Filesystem(backing, self.kernel)
        self.counts: Counter[int] = Counter()

    # -- what the kernel does -----------------------------------------------------------------

    def _count(self, answered: Answered) -> Stat:
        assert answered.status is not None
        self.counts[answered.status.ino] += 1
        return answered.status

    def lookup(self, path: str | bytes) -> Stat:
        """Look every name of *path* up; an empty one is the root."""
        number = 1
        status = self.fs.getattr(1).status
        for name in os.fsencode(path).split(b"/") if path else []:
            answered = self.fs.lookup(number, name)
            if answered.status is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(path))
            status = self._count(answered)
            number = status.ino
        assert status is not None
        return status

    def number(self, path: str | bytes) -> int:
        return self.lookup(path).ino

    def parent(self, path: str | bytes) -> tuple[int, bytes]:
        above, name = split(os.fsencode(path))
        return self.number(above), name

    def forget(self, number: int | None = None) -> None:
        """Give back every reference, or one inode's."""
        for one in [number] if number is not None else list(self.counts):
            if count := self.counts.pop(one, 0):
                self.fs.forget(one, count)

    # -- system calls -------------------------------------------------------------------------

    def exists(self, path: str | bytes) -> bool:
        try:
            self.lookup(path)
        except FileNotFoundError:
            return False
        return True

    def stat(self, path: str | bytes) -> Stat:
        status = self.fs.getattr(self.number(path)).status
        assert status is not None
        return status

    def mkdir(self, path: str | bytes, mode: int = 0o755, caller: Caller = ME) -> Stat:
        return self._count(self.fs.mkdir(*self.parent(path), mode, caller))

    def create(self, path: str | bytes, mode: int = 0o644, caller: Caller = ME) -> int:
        """Make and open a file; return the handle."""
        flags = os.O_RDWR | os.O_CREAT
        handle, answered = self.fs.create(*self.parent(path), mode, flags, caller)
        self._count(answered)
        return handle

    def open(self, path: str | bytes, flags: int = os.O_RDWR) -> int:
        return self.fs.open(self.number(path), flags, ME).handle

    def write(self, path: str | bytes, data: bytes = b"data") -> None:
        """Make the file, or replace what is in it, and close it."""
        if self.exists(path):
            handle = self.open(path, os.O_WRONLY | os.O_TRUNC)
        else:
            handle = self.create(path)
        self.fs.write(handle, 0, data)
        self.fs.release(handle)

    def read(self, path: str | bytes) -> bytes:
        handle = self.open(path, os.O_RDONLY)
        try:
            return self.fs.read(handle, 0, 1 << 20)
        finally:
            self.fs.release(handle)

    def list(self, path: str | bytes = "") -> list[str]:
        """Return the names as shown, sorted, without the dots; each is looked up, as readdirplus does."""
        names = []
        handle = self.fs.opendir(self.number(path))
        try:
            for name, _, _, number in self.fs.readdir(handle, 0):
                if number:
                    self.fs.listed(number)
                    self.counts[number] += 1
                    names.append(os.fsdecode(name))
        finally:
            self.fs.releasedir(handle)
        return sorted(names)

    def unlink(self, path: str | bytes) -> None:
        self.fs.unlink(*self.parent(path))

    def rmdir(self, path: str | bytes) -> None:
        self.fs.rmdir(*self.parent(path))

    def rename(self, old: str | bytes, new: str | bytes, flags: int = 0) -> None:
        self.fs.rename(*self.parent(old), *self.parent(new), flags)

    def link(self, old: str | bytes, new: str | bytes) -> None:
        self._count(self.fs.link(self.number(old), *self.parent(new), ME))

    def symlink(self, target: str, path: str | bytes) -> None:
        self._count(self.fs.symlink(*self.parent(path), os.fsencode(target), ME))

    def get(self, path: str | bytes, name: str) -> str:
        return self.fs.getxattr(self.number(path), f"user.lffs.{name}".encode()).decode()

    def set(self, path: str | bytes, name: str, value: str, caller: Caller = ME) -> None:
        """Set user.lffs.*name*; what leaves the loop for it is done here and now."""
        settle(self.fs.setxattr(self.number(path), f"user.lffs.{name}".encode(), value.encode(), caller))

    def unset(self, path: str | bytes, name: str) -> None:
        settle(self.fs.removexattr(self.number(path), f"user.lffs.{name}".encode(), ME))

    def tree(self) -> dict[str, bytes | None]:
        """Return every path by its real name: a file's content, a link's target, None: a directory."""
        found: dict[str, bytes | None] = {}
        pending = [""]
        while pending:
            directory = pending.pop()
            for shown in self.list(directory):
                path = f"{directory}/{shown}".lstrip("/")
                status = self.lookup(path)
                if status.is_directory and path.endswith(SUFFIXES):
                    path = self.get(path, "job_id")
                if status.is_directory:
                    found[path] = None
                    pending.append(path)
                elif stat.S_ISLNK(status.mode):
                    found[path] = self.fs.readlink(status.ino)
                else:
                    found[path] = self.read(path)
        return found


def error_of(call: Callable[..., object], *arguments: object) -> int:
    """Return the errno that the call fails with; 0 where it does not fail."""
    try:
        call(*arguments)
    except (LffsError, OSError) as exc:
        return exc.errno or -1
    return 0


def fill(store: Store) -> None:
    """Let the database not grow any further, as on a full disk."""
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")


def make_room(store: Store) -> None:
    """The disk is full no longer."""
    store._db.execute("PRAGMA max_page_count = 1000000")


def until_full(call: Callable[[int], object]) -> int:
    """Call with 1, 2, ...; return the number with which it failed for want of room."""
    number = 0
    while True:
        number += 1
        try:
            call(number)
        except StoreError as exc:
            if exc.errno != errno.ENOSPC:
                raise
            return number


def carried_out(work: Work[Any, R]) -> R:
    """Do here and now what the daemon does in a thread."""
    return work.finish(work.run())


def reap(backing: Backing) -> None:
    """Delete what is due now, as a round of the reaper does."""
    now_ns = backing.clock.wall_ns()
    carried_out(backing.cleanup.reap(backing.cleanup.due(now_ns), now_ns, "retention is over"))
    backing.cleanup.settle_all(now_ns)


def problems(backing: Backing) -> dict[str, Any]:
    """Return what verify has to say against the store; empty: it is clean."""
    return {key: value for key, value in carried_out(backing.verify()).items() if value and key != "ok"}
