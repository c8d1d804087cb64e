"""The same system call on the mount and on a plain directory: same return, errno and effects.

Each operation is a function of a directory that returns what it saw; it runs below a job, outside of
all jobs, and on a plain directory of the backing store's filesystem, which is the oracle.
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lffs.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from tests.harness import Mounted, eventually
from tests.mounted.callers import as_user, in_child, refusal

pytestmark = pytest.mark.mounted

ALICE, BOB = 4001, 4002
STAFF, MEDIA = 5001, 5002  # groups

Operation = Callable[[Path], object]
OPERATIONS: list[Operation] = []
CREATE = os.O_CREAT | os.O_WRONLY


def same(operation: Operation) -> Operation:
    """Put the operation into the table of what must be the same on the mount."""
    OPERATIONS.append(operation)
    return operation


@dataclass
class Pair:
    """A mount, and a plain directory beside its backing store."""

    mounted: Mounted
    plain: Path
    made: int = 0

    def directories(self, place: str) -> tuple[Path, Path]:
        """Make and return two fresh directories, one on the mount and one plain."""
        self.made += 1
        fresh = []
        for top in (self.mounted.path / place, self.plain / place):
            directory = top / f"test{self.made}"
            directory.mkdir(parents=True)
            fresh.append(directory)
        return fresh[0], fresh[1]


@pytest.fixture(scope="module")
def pair(make_shared_mount: Callable[[], Mounted]) -> Pair:
    mounted = make_shared_mount()
    return Pair(mounted, mounted.backing.parent / "plain")


@pytest.mark.parametrize("place", ["job/deep", ".outside"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_the_mount_does_what_a_plain_directory_does(pair: Pair, operation: Operation, place: str) -> None:
    mounted, plain = pair.directories(place)
    expected = operation(plain), contents(plain)
    assert differences((operation(mounted), contents(mounted)), expected) == []


def differences(found: Any, expected: Any, where: str = "") -> list[str]:
    """Return where two nested values differ: what pytest prints of large ones shows no more than that."""
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = list(expected) + [key for key in found if key not in expected]
        pairs = [(f"{where}[{key!r}]", found.get(key, "-"), expected.get(key, "-")) for key in keys]
    elif isinstance(found, list | tuple) and len(found) == len(expected):
        pairs = [(f"{where}[{index}]", *both) for index, both in enumerate(zip(found, expected, strict=True))]
    else:
        return [] if found == expected else [f"{where}: {found!r}, plain {expected!r}"]
    return [line for place, one, other in pairs for line in differences(one, other, place)]


def see(path: Path) -> tuple[object, ...]:
    """Return what lstat says, without what must differ (numbers, times) or may (directories' sizes)."""
    found = os.lstat(path)
    size = None if stat.S_ISDIR(found.st_mode) else found.st_size
    return oct(found.st_mode), found.st_uid, found.st_gid, found.st_nlink, size, found.st_rdev


def contents(top: Path) -> dict[str, object]:
    """Return everything that can be seen below *top*, and *top* itself."""
    seen: dict[str, object] = {}
    pending = [(".", top)]
    while pending:
        name, path = pending.pop()
        attributes: dict[str, bytes] = {}
        for attribute in os.listxattr(path, follow_symlinks=False):
            attributes[attribute] = os.getxattr(path, attribute, follow_symlinks=False)
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        elif path.is_dir():
            pending += [(f"{name}/{below.name}", below) for below in path.iterdir()]
        seen[name] = (see(path), attributes, content)
    return seen


def attempt(action: Callable[[], object]) -> object:
    """Return what *action* returns or the name of its errno."""
    try:
        return action()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]


def touch(path: Path, content: str = "") -> Path:
    path.write_text(content)
    return path


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def opened(path: Path, flags: int, mode: int = 0o666) -> Iterator[int]:
    descriptor = os.open(path, flags, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make(path: Path, mode: int = 0o666, flags: int = CREATE | os.O_EXCL) -> None:
    with opened(path, flags, mode):
        pass


def times_that_change(top: Path, action: Callable[[], object], *paths: Path) -> dict[str, list[str]]:
    """Return which times of which paths *action* changes."""
    before = {path: os.stat(path, follow_symlinks=False) for path in paths}
    latest = max(max(found.st_mtime_ns, found.st_ctime_ns) for found in before.values())
    with opened(Path("/tmp"), os.O_TMPFILE | os.O_RDWR) as clock:

        def tick() -> bool:
            os.utime(clock)
            return os.fstat(clock).st_mtime_ns > latest

        eventually(tick, "a later time")
    action()
    changed = {}
    for path, old in before.items():
        new = os.stat(path, follow_symlinks=False)
        changed[os.path.relpath(path, top)] = [
            name for name in ("st_mtime_ns", "st_ctime_ns") if getattr(new, name) > getattr(old, name)
        ]
    return changed


# -- modes and owners ---------------------------------------------------------------------------


@same
def every_mode_meets_every_umask(top: Path) -> None:
    for mask in (0, 0o022, 0o077, 0o777):
        for mode in (0, 0o644, 0o777, 0o1777, 0o2755, 0o4755, 0o6777):
            with umask(mask):
                make(top / f"file-{mask:o}-{mode:o}", mode)
                os.mkdir(top / f"directory-{mask:o}-{mode:o}", mode)
                os.mkfifo(top / f"fifo-{mask:o}-{mode:o}", mode)
                os.mknod(top / f"node-{mask:o}-{mode:o}", stat.S_IFREG | mode)


@same
def a_setgid_directory_hands_down_its_group(top: Path) -> None:
    shared = top / "shared"
    shared.mkdir()
    os.chown(shared, ALICE, MEDIA)
    shared.chmod(0o2777)
    for user, groups in ((BOB, ()), (BOB, (MEDIA,)), (0, ())):

        def work(here: Path, user: int = user, groups: tuple[int, ...] = groups) -> None:
            name = f"{user}-{len(groups)}"
            make(here / f"file-{name}", 0o2755)
            make(here / f"suid-{name}", 0o6755)
            os.mkdir(here / f"directory-{name}")
            os.mkdir(here / f"directory-{name}" / "below")
            os.symlink("x", here / f"link-{name}")
            os.mkfifo(here / f"fifo-{name}")

        as_user(user, STAFF if user else 0, work, shared, groups)


@same
def what_another_user_makes_is_theirs(top: Path) -> object:
    top.chmod(0o777)

    def work(here: Path) -> None:
        make(here / "file")
        (here / "directory").mkdir()
        make(here / "directory" / "file", 0o6777)
        os.symlink("file", here / "symlink")
        os.mkfifo(here / "fifo")
        os.mknod(here / "node")
        os.link(here / "file", here / "hard link")

    as_user(ALICE, STAFF, work, top)
    return as_user(BOB, STAFF, lambda here: attempt(lambda: make(here / "directory" / "mine")), top)


@same
def supplementary_groups_count(top: Path) -> object:
    os.chown(top, 0, MEDIA)
    top.chmod(0o770)
    (top / "lazy").mkdir()
    os.chown(top / "lazy", 0, MEDIA)
    (top / "lazy").chmod(0o770)

    def work(here: Path) -> object:
        return [
            attempt(lambda: make(here / "file")),
            attempt((here / "directory").mkdir),
            attempt(lambda: make(here / "lazy" / "file")),
            attempt(lambda: sorted(os.listdir(here))),
            # chgrp to a group that one is in is allowed to an owner; to another one it is not.
            attempt(lambda: os.chown(here / "file", -1, MEDIA)),
            attempt(lambda: os.chown(here / "file", -1, 5003)),
        ]

    return [
        attempt(lambda: as_user(ALICE, STAFF, work, top)),
        as_user(ALICE, STAFF, work, top, [MEDIA]),
    ]


@same
def sticky_directories_protect_what_is_in_them(top: Path) -> object:
    top.chmod(0o1777)

    def prepare(here: Path) -> None:
        make(here / "file")
        (here / "directory").mkdir()

    as_user(ALICE, STAFF, prepare, top)

    def attack(here: Path) -> object:
        return [
            attempt((here / "file").unlink),
            attempt((here / "directory").rmdir),
            attempt(lambda: os.rename(here / "file", here / "stolen")),
            attempt(lambda: os.rename(here / "directory", here / "stolen")),
            attempt(lambda: make(here / "mine")),
            attempt(lambda: os.rename(here / "mine", here / "file")),
        ]

    return as_user(BOB, STAFF, attack, top), as_user(ALICE, STAFF, attack, top)


@same
def suid_and_sgid_are_cleared_by_writes_and_chown(top: Path) -> object:
    top.chmod(0o777)
    seen = []

    def write(path: Path) -> None:
        with opened(path, os.O_WRONLY) as descriptor:
            os.write(descriptor, b"x")

    changes: dict[str, Callable[[Path], object]] = {
        "write": write,
        "truncate": lambda path: os.truncate(path, 1),
        "O_TRUNC": lambda path: make(path, flags=os.O_WRONLY | os.O_TRUNC),
        "chgrp": lambda path: os.chown(path, -1, MEDIA),
        "chmod": lambda path: os.chmod(path, 0o6777),
    }
    for name, change in changes.items():
        for user in (0, ALICE, BOB):
            for mode in (0o6777, 0o2767, 0o4666):
                file = touch(top / f"{name}-{user}-{mode:o}", "content")
                os.chown(file, ALICE, STAFF)
                file.chmod(mode)

                def act(here: Path, file: Path = file, change: Callable[[Path], object] = change) -> object:
                    return attempt(lambda: change(here / file.name))

                seen.append((name, user, mode, as_user(user, STAFF, act, top, [MEDIA]), see(file)))
    return seen


@same
def chown_and_chmod_are_the_owners(top: Path) -> object:
    file = touch(top / "file")
    directory = top / "directory"
    directory.mkdir()
    for path in (top, file, directory):
        os.chown(path, ALICE, STAFF)

    def attack(here: Path) -> object:
        return [
            [
                attempt(lambda path=path: os.chmod(here / path, 0o700)),  # type: ignore[misc]
                attempt(lambda path=path: os.chown(here / path, BOB, -1)),  # type: ignore[misc]
                attempt(lambda path=path: os.chown(here / path, -1, STAFF)),  # type: ignore[misc]
                attempt(lambda path=path: os.utime(here / path)),  # type: ignore[misc]
                attempt(lambda path=path: os.utime(here / path, (1, 1))),  # type: ignore[misc]
            ]
            for path in ("file", "directory")
        ]

    return as_user(BOB, STAFF, attack, top), as_user(ALICE, STAFF, attack, top)


@same
def a_symlinks_own_owner_changes(top: Path) -> None:
    os.symlink("nowhere", top / "link")
    os.lchown(top / "link", ALICE, STAFF)


@same
def permission_bits_are_enforced(top: Path) -> object:
    top.chmod(0o777)
    file, directory = touch(top / "file", "x"), top / "directory"
    directory.mkdir()
    touch(directory / "below")
    seen = []
    for mode in (0, 0o111, 0o222, 0o333, 0o444, 0o555, 0o666, 0o777):
        file.chmod(mode)
        directory.chmod(mode)

        def act(here: Path) -> object:
            return [
                attempt((here / "file").read_text),
                attempt(lambda: make(here / "file", flags=os.O_WRONLY)),
                attempt(lambda: make(here / "file", flags=os.O_RDWR)),
                [os.access(here / "file", bit) for bit in (os.R_OK, os.W_OK, os.X_OK)],
                attempt(lambda: os.listdir(here / "directory")),
                attempt(lambda: os.stat(here / "directory" / "below").st_size),
                attempt(lambda: make(here / "directory" / "new")),
                attempt((here / "directory" / "new").unlink),
                attempt((here / "directory" / "lazy").mkdir),
                attempt((here / "directory" / "lazy").rmdir),
            ]

        seen.append(as_user(BOB, STAFF, act, top))
    return seen


# -- times --------------------------------------------------------------------------------------


@same
def times_are_kept_to_the_nanosecond(top: Path) -> object:
    seen = []
    file, directory = touch(top / "file"), top / "directory"
    directory.mkdir()
    os.symlink("nowhere", top / "link")
    for path in (file, directory, top / "link"):
        for times in ((1, 2), (1_700_000_000_123_456_789, 999_999_999), (-1, -1_000_000_001), (1 << 61, 5)):
            os.utime(path, ns=times, follow_symlinks=False)
            found = os.lstat(path)
            seen.append((found.st_atime_ns, found.st_mtime_ns))
    return seen


@same
def one_time_is_set_and_the_other_left(top: Path) -> object:
    """UTIME_OMIT and UTIME_NOW, which os.utime lacks."""
    libc = ctypes.CDLL(None, use_errno=True)
    now, omit = (1 << 30) - 1, (1 << 30) - 2
    long_ago = 1_000_000_000_000_000_000
    seen = []
    file, directory = touch(top / "file"), top / "directory"
    directory.mkdir()
    for path in (file, directory):
        for atime, mtime in ((omit, now), (now, omit), (omit, omit), (now, now), (5, omit), (omit, 5)):
            os.utime(path, ns=(long_ago, long_ago))
            times = (ctypes.c_long * 4)(7, atime, 7, mtime)
            assert libc.utimensat(-100, os.fsencode(path), times, 0) == 0
            found = os.stat(path)
            seen.append(
                [value if value < 2 * long_ago // 3 * 2 and value <= long_ago else "now"
                 for value in (found.st_atime_ns, found.st_mtime_ns)]
            )  # fmt: skip
    return seen


@same
def each_change_moves_the_times_that_it_should(top: Path) -> object:
    directory, other = top / "directory", top / "other"
    directory.mkdir()
    other.mkdir()
    file, victim = touch(directory / "file", "content"), touch(other / "victim")
    lazy = directory / "lazy"

    def write() -> None:
        with opened(file, os.O_WRONLY) as descriptor:
            os.write(descriptor, b"y")
            os.fsync(descriptor)

    def changes(action: Callable[[], object], *more: Path) -> object:
        return times_that_change(top, action, top, directory, other, file, *more)

    return [
        changes(write),
        # Not a truncation to the size that the file has: with the writeback cache the kernel owns the
        # times, and moves them only where the size changes (which is all that POSIX asks).
        changes(lambda: os.truncate(file, 3)),
        changes(lambda: file.chmod(0o600)),
        changes(lambda: os.chown(file, ALICE, -1)),
        changes(lambda: os.setxattr(file, "user.note", b"x")),
        changes(lambda: os.removexattr(file, "user.note")),
        changes(lambda: os.link(file, other / "link")),
        changes((other / "link").unlink),
        changes(lambda: os.symlink("x", other / "symlink")),
        changes(lazy.mkdir),
        changes(lambda: lazy.chmod(0o700), lazy),
        changes(lambda: make(lazy / "first"), lazy),
        changes((lazy / "first").unlink, lazy),
        changes(lazy.rmdir),
        changes(lambda: os.rename(victim, other / "renamed")),
        changes(lambda: os.rename(other / "renamed", directory / "renamed"), other),
        changes(lazy.mkdir),
        changes(lambda: lazy.rename(other / "lazy")),
        changes((other / "lazy").rmdir),
        changes(file.read_text),
        changes(lambda: os.listdir(directory)),
    ]


# -- reading and writing ------------------------------------------------------------------------


@same
def files_are_truncated_and_extended(top: Path) -> object:
    file = touch(top / "file", "0123456789")
    seen: list[object] = []
    with opened(file, os.O_RDWR) as descriptor:
        for size in (5, 100_000, 0, 3):
            os.ftruncate(descriptor, size)
            seen.append((os.fstat(descriptor).st_size, os.pread(descriptor, 200, 0)))
        os.truncate(file, 7)
        seen.append(os.fstat(descriptor).st_size)
        os.lseek(descriptor, 0, os.SEEK_END)
        os.write(descriptor, b"end")
    with opened(file, os.O_RDONLY) as descriptor:
        seen.append(attempt(lambda: os.ftruncate(descriptor, 1)))
        seen.append(attempt(lambda: os.write(descriptor, b"x")))
    seen.append(attempt(lambda: os.truncate(file, -1)))
    seen.append(attempt(lambda: os.truncate(top, 0)))
    seen.append(attempt(lambda: os.truncate(top / "none", 0)))
    return seen


@same
def opening_flags_mean_what_they_say(top: Path) -> object:
    file = touch(top / "file", "content")
    directory = top / "directory"
    directory.mkdir()
    os.symlink("file", top / "link")
    os.symlink("none", top / "dangling")
    flags = {
        "exclusive": os.O_CREAT | os.O_EXCL,
        "truncate": os.O_WRONLY | os.O_TRUNC,
        "nofollow": os.O_NOFOLLOW,
        "directory": os.O_DIRECTORY,
        "write": os.O_WRONLY,
        "path": os.O_PATH,
        "create": CREATE,
    }
    return {
        f"{name} {path.name}": (attempt(lambda: make(path, 0o600, flag)), see(file))  # noqa: B023
        for name, flag in flags.items()
        for path in (file, directory, top / "link", top / "dangling", top / "none" / "below", file / "x")
    }


@same
def two_appending_processes_lose_nothing(top: Path) -> object:
    log = touch(top / "log")

    def append(letter: bytes) -> None:
        with opened(log, os.O_WRONLY | os.O_APPEND) as descriptor:
            for _ in range(300):
                os.write(descriptor, letter * 99 + b"\n")

    children = []
    for letter in (b"a", b"b"):
        child = os.fork()
        if child == 0:
            append(letter)
            os._exit(0)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    lines = log.read_bytes().splitlines()
    log.unlink()  # the order of the lines is anyone's
    return statuses, sorted(lines)


@same
def appending_ignores_the_offset(top: Path) -> None:
    with opened(top / "log", CREATE | os.O_APPEND) as descriptor:
        os.write(descriptor, b"one")
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, b"two")
    with opened(top / "log", os.O_RDWR | os.O_APPEND) as descriptor:
        os.ftruncate(descriptor, 1)
        os.write(descriptor, b"three")


@same
def sparse_files_read_as_zeros(top: Path) -> object:
    with opened(top / "sparse", os.O_RDWR | os.O_CREAT) as descriptor:
        os.pwrite(descriptor, b"end", 64 << 20)
        os.fsync(descriptor)
        found = os.fstat(descriptor)
        seen = (
            found.st_size,
            found.st_blocks * 512 < 1 << 20,
            os.pread(descriptor, 10, 12345),
            os.pread(descriptor, 100, (64 << 20) - 5),
            os.pread(descriptor, 10, 1 << 30),
        )
    (top / "sparse").unlink()
    return seen


@same
def a_written_file_is_read_back_at_every_size(top: Path) -> None:
    for size in (0, 1, 4095, 4096, 4097, 131_072, 1_000_003):
        data = bytes(index * 7 % 251 for index in range(size))
        (top / str(size)).write_bytes(data)
        assert (top / str(size)).read_bytes() == data


@same
def what_has_no_request_of_its_own_falls_back(top: Path) -> object:
    """fallocate, copy_file_range, sendfile and lseek(SEEK_DATA) on a file without holes."""
    source, target = touch(top / "source", "0123456789" * 1000), top / "target"
    with opened(source, os.O_RDONLY) as old, opened(target, os.O_RDWR | os.O_CREAT) as new:
        seen = [
            os.copy_file_range(old, new, 5000, 0, 0),
            os.sendfile(new, old, 5000, 100),
            os.lseek(old, 10, os.SEEK_DATA),
            os.lseek(old, 10, os.SEEK_HOLE),
            attempt(lambda: os.lseek(old, 1 << 20, os.SEEK_DATA)),
        ]
        os.posix_fallocate(new, 0, 20_000)
        return [*seen, os.fstat(new).st_size]


@same
def unbuffered_reads_and_writes_work(top: Path) -> object:
    """O_DIRECT and O_SYNC: an unaligned read of the first has ended whole mounts elsewhere."""
    file = touch(top / "file", "0123456789" * 1000)
    seen: list[object] = []
    with opened(file, os.O_RDWR | os.O_DIRECT) as descriptor, mmap.mmap(-1, 8192) as aligned:
        seen.append(os.preadv(descriptor, [aligned], 0))
        seen.append(bytes(aligned[:10]))
        aligned[:10] = b"replaced!!"
        seen.append(os.pwritev(descriptor, [memoryview(aligned)[:4096]], 4096))
    with opened(file, os.O_WRONLY | os.O_SYNC | os.O_APPEND) as descriptor:
        os.write(descriptor, b"end")
    return seen


@same
def processes_share_a_mapping(top: Path) -> object:
    file = top / "shared"
    file.write_bytes(bytes(8192))
    with opened(file, os.O_RDWR) as descriptor, mmap.mmap(descriptor, 8192) as mapping:

        def child() -> bytes:
            with opened(file, os.O_RDWR) as other, mmap.mmap(other, 8192) as theirs:
                theirs[5000:5005] = b"child"
                seen = theirs[:6]
                theirs.flush()
                return bytes(seen)

        mapping[:6] = b"parent"
        seen_by_child = in_child(child)
        return seen_by_child, mapping[5000:5005], os.pread(descriptor, 5, 5000), file.read_bytes()[:6]


@same
def locks_hold_between_processes(top: Path) -> object:
    file = touch(top / "file", "x" * 100)
    seen: list[object] = []
    with opened(file, os.O_RDWR) as descriptor:

        def other(take: Callable[[int], None]) -> object:
            def locked() -> object:
                with opened(file, os.O_RDWR) as theirs:
                    return attempt(lambda: take(theirs))

            return in_child(locked)

        exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        seen.append(other(lambda theirs: fcntl.flock(theirs, exclusive)))
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        seen.append(other(lambda theirs: fcntl.flock(theirs, fcntl.LOCK_SH | fcntl.LOCK_NB)))
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        seen.append(other(lambda theirs: fcntl.flock(theirs, exclusive)))
        fcntl.lockf(descriptor, fcntl.LOCK_EX, 10, 0)
        seen.append(other(lambda theirs: fcntl.lockf(theirs, exclusive, 10, 5)))
        seen.append(other(lambda theirs: fcntl.lockf(theirs, exclusive, 10, 10)))
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 10, 0)
        seen.append(other(lambda theirs: fcntl.lockf(theirs, exclusive, 10, 5)))
    return seen


@same
def an_unlinked_open_file_lives_on(top: Path) -> object:
    file = touch(top / "file", "content")
    with opened(file, os.O_RDWR) as descriptor:
        file.unlink()
        os.pwrite(descriptor, b"CON", 0)
        os.fchmod(descriptor, 0o640)
        os.fchown(descriptor, ALICE, STAFF)
        os.ftruncate(descriptor, 5)
        os.utime(descriptor, ns=(1, 2))
        os.setxattr(descriptor, "user.note", b"x")
        found = os.fstat(descriptor)
        with opened(Path(f"/proc/self/fd/{descriptor}"), os.O_RDONLY) as again:
            content = os.read(again, 100)
        return (
            content, found.st_nlink, oct(found.st_mode), found.st_uid, found.st_size, found.st_mtime_ns,
            os.getxattr(descriptor, "user.note"), os.listxattr(descriptor), attempt(file.stat),
            attempt(lambda: os.link(f"/proc/self/fd/{descriptor}", top / "back", follow_symlinks=True)),
        )  # fmt: skip


@same
def an_unlinked_file_with_another_name_lives_on(top: Path) -> object:
    file = touch(top / "file", "content")
    os.link(file, top / "other")
    with opened(file, os.O_RDWR) as descriptor:
        file.unlink()
        os.write(descriptor, b"CON")
        return os.fstat(descriptor).st_nlink, (top / "other").read_text()


@same
def a_directory_removed_while_open_is_empty(top: Path) -> object:
    for name, filled in (("lazy", False), ("real", True)):
        directory = top / name
        directory.mkdir()
        if filled:
            touch(directory / "file").unlink()
    seen = []
    for name in ("lazy", "real"):
        with opened(top / name, os.O_RDONLY) as descriptor:
            (top / name).rmdir()
            seen.append(
                (
                    os.fstat(descriptor).st_nlink,
                    os.listdir(descriptor),
                    attempt(lambda: os.mkdir("x", dir_fd=descriptor)),
                    attempt(lambda: os.open("x", CREATE, dir_fd=descriptor)),
                    attempt(lambda: os.stat("x", dir_fd=descriptor)),
                    attempt(lambda: os.symlink("y", "x", dir_fd=descriptor)),
                    attempt(lambda: os.getxattr(descriptor, "user.note")),
                    attempt(lambda: os.removexattr(descriptor, "user.note")),
                    attempt(lambda: os.listxattr(descriptor)),
                    attempt(lambda: os.fchmod(descriptor, 0o711)),
                    attempt(lambda: os.fchown(descriptor, ALICE, STAFF)),
                    attempt(lambda: os.utime(descriptor, ns=(5, 7))),
                    attempt(lambda: os.fsync(descriptor)),
                    oct(os.fstat(descriptor).st_mode),
                    os.fstat(descriptor).st_uid,
                    os.fstat(descriptor).st_mtime_ns,
                )
            )
    return seen


@same
def a_rename_over_an_open_file_leaves_the_handle(top: Path) -> object:
    old, new = touch(top / "old", "old content"), touch(top / "new", "new")
    with opened(old, os.O_RDWR) as descriptor, opened(new, os.O_RDWR) as other:
        os.rename(new, old)
        os.pwrite(descriptor, b"OLD", 0)
        os.pwrite(other, b"NEW", 0)
        links = os.fstat(descriptor).st_nlink, os.fstat(other).st_nlink
        return os.read(descriptor, 100), links, old.read_text()


# -- names --------------------------------------------------------------------------------------


def fill(directory: Path, below: str) -> None:
    directory.mkdir()
    if below == "lazy":
        (directory / "x").mkdir()
    elif below:
        touch(directory / "x")
        if below == "removed":
            (directory / "x").unlink()


KINDS: dict[str, Callable[[Path], object]] = {
    "file": lambda path: touch(path, "file"),
    "other": lambda path: touch(path, "other"),
    "link": lambda path: path.symlink_to("file"),
    "lazy": lambda path: fill(path, ""),
    "empty": lambda path: fill(path, "removed"),
    "full": lambda path: fill(path, "file"),
    "full of lazy": lambda path: fill(path, "lazy"),
    "none": lambda path: None,
}


def renames(flags: int) -> Operation:
    def every_pair(top: Path) -> object:
        seen = {}
        for source in KINDS:
            for target in KINDS:
                place = top / f"{source} onto {target}"
                place.mkdir()
                for kind in {source, target}:
                    KINDS[kind](place / kind)
                old, new = os.fsencode(place / source), os.fsencode(place / target)
                seen[place.name] = attempt(lambda: renameat2(-100, old, -100, new, flags))  # noqa: B023
        return seen

    return every_pair


def renames_of_every_kind_onto_every_kind(top: Path) -> object:
    return renames(0)(top)


def renames_that_must_not_replace(top: Path) -> object:
    return renames(RENAME_NOREPLACE)(top)


def exchanges_of_every_kind_with_every_kind(top: Path) -> object:
    return renames(RENAME_EXCHANGE)(top)


OPERATIONS += [
    renames_of_every_kind_onto_every_kind,
    renames_that_must_not_replace,
    exchanges_of_every_kind_with_every_kind,
]


@same
def a_directory_cannot_move_below_itself(top: Path) -> object:
    (top / "lazy" / "below").mkdir(parents=True)
    (top / "real" / "below").mkdir(parents=True)
    touch(top / "real" / "below" / "file")
    return [
        attempt(lambda: os.rename(path, path / "below" / "me"))  # noqa: B023
        for path in (top / "lazy", top / "real")
    ] + [
        attempt(lambda: os.rename(path / "below", path))  # noqa: B023
        for path in (top / "lazy", top / "real")
    ]


@same
def what_is_below_a_renamed_directory_goes_along(top: Path) -> object:
    (top / "a" / "lazy").mkdir(parents=True)
    (top / "a" / "b").mkdir()
    with opened(top / "a" / "b" / "file", CREATE) as descriptor:
        before = os.stat(top / "a" / "b" / "file").st_ino
        os.rename(top / "a", top / "z")
        os.write(descriptor, b"after the rename")
        touch(top / "z" / "lazy" / "new")
        return (
            os.stat(top / "z" / "b" / "file").st_ino == before,
            attempt((top / "a").stat),
            attempt((top / "a" / "b" / "file").stat),
        )


@same
def hard_links_are_one_file(top: Path) -> object:
    for name in ("one", "two"):
        (top / name).mkdir()
    file = touch(top / "one" / "file", "x")
    os.link(file, top / "two" / "link")
    os.symlink("file", top / "one" / "symlink")
    os.link(top / "one" / "symlink", top / "two" / "link to symlink", follow_symlinks=False)
    (top / "two" / "link").write_text("written by the other name")
    (top / "two" / "link").chmod(0o600)
    seen: list[object] = [
        see(file),
        os.lstat(file).st_ino == os.lstat(top / "two" / "link").st_ino,
        attempt(lambda: os.link(file, top / "two" / "link")),
        attempt(lambda: os.link(top / "one", top / "two" / "directory")),
        attempt(lambda: os.link(top / "none", top / "two" / "none")),
        attempt(lambda: os.rename(file, top / "two" / "link")),  # nothing happens: one file
        sorted(os.listdir(top / "one")),
    ]
    file.unlink()
    return [*seen, see(top / "two" / "link")]


@same
def symbolic_links_lead_anywhere(top: Path) -> object:
    touch(top / "file", "x")
    targets = ["file", "./file", "none", "loop1", "x" * 255 + "/", "/", "../" * 1000, os.fsdecode(b"\xff\n")]
    seen: list[object] = []
    for number, target in enumerate(targets):
        link = top / f"link{number}"
        os.symlink(target, link)
        seen.append((os.readlink(link), attempt(lambda: os.path.getsize(link))))  # noqa: B023
    os.symlink("loop2", top / "loop1")
    os.symlink("loop1", top / "loop2")
    return [
        *map(str, seen[:4]),
        attempt((top / "loop1").stat),
        attempt((top / "loop1").read_text),
        attempt(lambda: os.symlink("", top / "empty")),
        attempt(lambda: os.symlink("x" * 4095, top / "long")),
        attempt(lambda: os.symlink("x" * 4096, top / "too long")),
        attempt(lambda: os.symlink("x", top / "file")),
        attempt(lambda: os.readlink(top / "file")),
        attempt(lambda: os.chmod(top / "link0", 0o600)),
    ]


@same
def fifos_sockets_and_devices_are_nodes(top: Path) -> object:
    os.mkfifo(top / "fifo")
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(top / "disk", stat.S_IFBLK | 0o600, os.makedev(259, 70000))
    os.mknod(top / "node socket", stat.S_IFSOCK | 0o600)
    reader = os.open(top / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    with opened(top / "fifo", os.O_WRONLY) as writer:
        os.write(writer, b"through the fifo")
        through_fifo = os.read(reader, 100)
    os.close(reader)
    # A socket's address holds 108 bytes: name it relatively.
    before = os.getcwd()
    os.chdir(top)
    try:
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind("socket")
            server.listen()
            client.connect("socket")
            client.sendall(b"through the socket")
            with server.accept()[0] as accepted:
                through_socket = accepted.recv(100)
    finally:
        os.chdir(before)
    return (
        through_fifo, through_socket, attempt(lambda: os.open(top / "socket", os.O_RDONLY)),
        attempt(lambda: os.mkfifo(top / "fifo")), attempt(lambda: os.mknod(top / "null")),
    )  # fmt: skip


@same
def another_user_makes_no_devices(top: Path) -> object:
    top.chmod(0o777)
    return as_user(
        ALICE, STAFF, lambda here: attempt(lambda: os.mknod(here / "d", stat.S_IFCHR, os.makedev(1, 3))), top
    )


@same
def names_may_hold_255_bytes_and_any_but_slash_and_nul(top: Path) -> object:
    here = os.fsencode(top)
    names = [
        b"n" * 255, "ü".encode() * 127, b"\xff\xfe invalid", b"new\nline", b" ", b"...", b"-rf", b"\x01\x7f",
        "슬라이드.png".encode(), "🎬".encode(), b"a\\b*?[x]\"'", b".hidden", b"x_completed", b"x_failed",
        b"lost+found", b"~", b"a.~1~",
    ]  # fmt: skip
    for name in names:
        path = here + b"/" + name
        os.mkdir(path)
        with open(path + b"/file", "xb") as stream:
            stream.write(name)
        os.rename(path + b"/file", path + b"/" + name)
        os.symlink(name, path + b"/symlink")
    long = here + b"/" + b"n" * 256
    other = here + b"/" + b"n" * 255
    return sorted(os.listdir(here)), [
        attempt(action)
        for action in (
            lambda: os.stat(long),
            lambda: os.mkdir(long),
            lambda: os.open(long, CREATE),
            lambda: os.symlink(b"x", long),
            lambda: os.rename(other, long),
            lambda: os.rename(long, other),
            lambda: os.unlink(long),
            lambda: os.rmdir(long),
            lambda: os.mkfifo(long),
            lambda: os.stat(other + b"/" + long),
        )
    ]


@same
def paths_grow_longer_than_4096_bytes(top: Path) -> object:
    """As tar and rm do: by walking, each step relative to the last."""

    def walk() -> object:
        os.chdir(top)
        for depth in range(25):
            name = f"{depth:03}" + "d" * 197
            os.mkdir(name)
            os.chdir(name)
        seen: list[object] = [attempt(os.getcwd) if len(os.fsencode(top)) > 5000 else None]
        with open("file", "x") as stream:
            stream.write("deep")
        os.mkdir("lazy")
        seen.append(see(Path("file")))
        seen.append(sorted(os.listdir(".")))
        os.rename("file", "renamed")
        os.rename("lazy", "lazier")
        os.unlink("renamed")
        os.rmdir("lazier")
        for depth in reversed(range(25)):
            os.chdir("..")
            os.rmdir(f"{depth:03}" + "d" * 197)
        return [*seen, attempt(lambda: os.stat(top / ("x/" * 3000)))]

    return in_child(walk)


@same
def errors_are_the_same(top: Path) -> object:
    slash = "/"
    actions: dict[str, Callable[[Path], object]] = {
        "stat": see,
        "mkdir": os.mkdir,
        "create": make,
        "rmdir": os.rmdir,
        "unlink": os.unlink,
        "listdir": os.listdir,
        "readlink": os.readlink,
        "stat below": lambda path: see(path / "below"),
        "open with slash": lambda path: os.close(os.open(f"{path}{slash}", os.O_RDONLY)),
        "mkdir below": lambda path: os.mkdir(path / "below"),
        "unlink with slash": lambda path: os.unlink(f"{path}{slash}"),
        "rmdir dot": lambda path: os.rmdir(f"{path}/."),
        "rmdir dotdot": lambda path: os.rmdir(f"{path}/.."),
        "rename to outside": lambda path: os.rename(path, "/dev/shm/lffs-never"),
        "link from outside": lambda path: os.link("/proc/self/status", path),
        "getxattr": lambda path: os.getxattr(path, "user.none"),
        "exec": lambda path: os.execv(path, [str(path)]) if not path.is_dir() else None,
    }  # fmt: skip
    seen = {}
    for name, action in actions.items():
        for kind, make_one in KINDS.items():
            path = top / f"{name} {kind}"
            make_one(path)
            seen[path.name] = attempt(lambda: action(path))  # noqa: B023
    return seen


@same
def extended_attributes_pass_through(top: Path) -> object:
    file, directory = touch(top / "file"), top / "directory"
    directory.mkdir()
    os.symlink("file", top / "link")
    os.mkfifo(top / "fifo")
    seen: list[object] = []
    for path in (file, directory, top / "link", top / "fifo"):
        for name in ("user.a", "user.lff", "trusted.b", "security.c", "nonsense.d", "user." + "n" * 250):

            def act(path: Path = path, name: str = name) -> list[object]:
                return [
                    attempt(lambda: os.getxattr(path, name, follow_symlinks=False)),
                    attempt(lambda: os.setxattr(path, name, b"\0\xff value", follow_symlinks=False)),
                    attempt(lambda: os.setxattr(path, name, b"x", os.XATTR_CREATE, follow_symlinks=False)),
                    attempt(lambda: os.setxattr(path, name, b"", os.XATTR_REPLACE, follow_symlinks=False)),
                    attempt(lambda: os.getxattr(path, name, follow_symlinks=False)),
                    attempt(lambda: sorted(os.listxattr(path, follow_symlinks=False))),
                    attempt(lambda: os.removexattr(path, name, follow_symlinks=False)),
                    attempt(lambda: os.removexattr(path, name, follow_symlinks=False)),
                    attempt(lambda: os.setxattr(path, name, b"x", os.XATTR_REPLACE, follow_symlinks=False)),
                    attempt(lambda: os.setxattr(path, name, b"x" * 3000, follow_symlinks=False)),
                ]

            seen.append((path.name, name, act()))
    seen.append(attempt(lambda: os.setxattr(file, "user.huge", b"x" * 65537)))
    return seen


@same
def attributes_are_the_owners_to_set(top: Path) -> object:
    top.chmod(0o777)
    file = touch(top / "file")
    os.chown(file, ALICE, STAFF)
    file.chmod(0o644)

    def act(here: Path) -> object:
        return [
            attempt(lambda: os.setxattr(here / "file", "user.note", b"x")),
            attempt(lambda: os.getxattr(here / "file", "user.note")),
            attempt(lambda: os.listxattr(here / "file")),
            attempt(lambda: os.setxattr(here / "file", "trusted.note", b"x")),
            attempt(lambda: os.getxattr(here / "file", "trusted.note")),
            attempt(lambda: os.removexattr(here / "file", "user.note")),
        ]

    return [as_user(user, STAFF, act, top) for user in (ALICE, BOB)]


def acl(*arguments: str | Path) -> str:
    """Run setfacl or getfacl; return what it prints, without the line that names the file."""
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("# file"))


@same
def acls_grant_and_refuse(top: Path) -> object:
    top.chmod(0o755)
    file = touch(top / "file", "x")
    file.chmod(0o600)
    acl("setfacl", "-m", f"u:{ALICE}:rw,g:{MEDIA}:r,m:r", file)
    directory = top / "directory"
    directory.mkdir(0o700)
    acl("setfacl", "-m", f"u:{BOB}:rwx", directory)
    touch(directory / "below")

    def act(here: Path) -> object:
        return [
            attempt((here / "file").read_text),
            attempt(lambda: make(here / "file", flags=os.O_WRONLY)),
            attempt(lambda: os.listdir(here / "directory")),
            attempt(lambda: make(here / "directory" / "new", flags=CREATE)),
        ]

    seen: list[object] = [acl("getfacl", "-n", file), acl("getfacl", "-n", directory), see(file)]
    seen += [as_user(user, STAFF, act, top) for user in (ALICE, BOB)]
    seen.append(as_user(4003, MEDIA, act, top))
    file.chmod(0o666)  # with an ACL the group bits are its mask
    seen.append(acl("getfacl", "-n", file))
    acl("setfacl", "-b", file)
    return [*seen, acl("getfacl", "-n", file), os.listxattr(file)]


@same
def default_acls_are_inherited(top: Path) -> object:
    shared = top / "shared"
    shared.mkdir()
    acl("setfacl", "-m", f"d:u:{ALICE}:rwx,d:g:{MEDIA}:rx,d:o:-", shared)
    with umask(0):
        make(shared / "file", 0o666)
        make(shared / "private", 0o600)
        (shared / "directory").mkdir(0o777)
        (shared / "directory" / "deeper").mkdir(0o770)
        make(shared / "directory" / "deeper" / "file", 0o640)
        os.mkfifo(shared / "fifo", 0o666)
    return {
        path.name: acl("getfacl", "-n", path)
        for path in (
            shared, shared / "file", shared / "private", shared / "directory", shared / "fifo",
            shared / "directory" / "deeper", shared / "directory" / "deeper" / "file",
        )
    }  # fmt: skip


@same
def numbers_are_the_same_by_path_and_by_handle(top: Path) -> None:
    for kind, make_one in KINDS.items():
        path = top / kind
        make_one(path)
        if kind == "none":
            continue
        by_path = os.lstat(path)
        with opened(path, os.O_PATH | os.O_NOFOLLOW) as descriptor:
            by_handle = os.fstat(descriptor)
        listed = {entry.name: entry.inode() for entry in os.scandir(top)}
        assert (by_path.st_ino, by_path.st_dev) == (by_handle.st_ino, by_handle.st_dev)
        assert listed[path.name] == by_path.st_ino


@same
def the_filesystem_says_its_limits(top: Path) -> object:
    found = os.statvfs(top)
    return (
        found.f_namemax, found.f_bsize, found.f_frsize, found.f_blocks, found.f_files,
        os.pathconf(top, "PC_NAME_MAX"),
    )  # fmt: skip


# -- many entries -------------------------------------------------------------------------------


def test_a_listing_misses_nothing_that_stays_and_doubles_nothing(pair: Pair) -> None:
    """readdir(3): what is neither made nor removed meanwhile is returned exactly once."""
    top, _ = pair.directories(".outside")
    steady = {f"steady{number}" for number in range(5000)}
    beside = pair.mounted.backing / top.relative_to(pair.mounted.path)
    touch(top / "first")  # so that the directory is there for real
    for name in steady:
        touch(beside / name)
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            passing = top / f"passing{number % 50}"
            if passing.exists():
                passing.unlink()
            else:
                touch(passing)

    others = threading.Thread(target=churn)
    others.start()
    try:
        for _ in range(3):
            listed = [entry.name for entry in os.scandir(top)]
            assert len(listed) == len(set(listed))
            assert steady <= set(listed)
    finally:
        stop.set()
        others.join()


@same
def a_reader_goes_back_to_where_it_was(top: Path) -> None:
    """telldir and seekdir, also after entries before and behind the place went."""
    for number in range(300):
        os.close(os.open(top / f"file{number}", CREATE))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.opendir.argtypes = (ctypes.c_char_p,)
    libc.telldir.restype = ctypes.c_long
    for function in (libc.readdir, libc.closedir, libc.telldir, libc.rewinddir):
        function.argtypes = (ctypes.c_void_p,)
    libc.seekdir.argtypes = (ctypes.c_void_p, ctypes.c_long)

    def read(stream: int) -> str | None:
        entry = libc.readdir(stream)
        return None if entry is None else os.fsdecode(ctypes.string_at(entry + 19))

    stream = libc.opendir(os.fsencode(top))
    order, places = [], []
    while (name := read(stream)) is not None:
        order.append(name)
        places.append(libc.telldir(stream))
    assert len(order) == 302
    for index in (0, 7, 150, 300):
        libc.seekdir(stream, places[index])
        assert read(stream) == order[index + 1]
    gone = [name for name in order[:100] if name.startswith("file")]
    for name in gone:
        (top / name).unlink()
    libc.seekdir(stream, places[200])
    assert read(stream) == order[201]
    libc.rewinddir(stream)
    again = set()
    while (name := read(stream)) is not None:
        again.add(name)
    assert again == set(order) - set(gone)
    libc.closedir(stream)
    shutil.rmtree(top)
    top.mkdir()


# -- programs -----------------------------------------------------------------------------------


def sample(top: Path) -> Path:
    """Make a tree with everything that copying programs must get right."""
    source = top / "source"
    (source / "empty" / "emptier").mkdir(parents=True)
    (source / "sub").mkdir()
    file = touch(source / "sub" / "file", "content\n" * 1000)
    os.link(file, source / "hard link")
    os.symlink("sub/file", source / "symlink")
    os.symlink("dangling", source / "dangling")
    os.mkfifo(source / "fifo")
    os.setxattr(file, "user.note", b"value")
    acl("setfacl", "-m", f"u:{ALICE}:r", file)
    os.chown(source / "sub", ALICE, STAFF)
    (source / "sub").chmod(0o2750)
    touch(source / "suid").chmod(0o4755)
    for path in (*source.rglob("*"), source):
        os.utime(path, ns=(1_600_000_000_000_000_001, 1_600_000_000_123_456_789), follow_symlinks=False)
    return source


def times(top: Path) -> dict[str, int]:
    return {str(path.relative_to(top)): os.lstat(path).st_mtime_ns for path in (top, *top.rglob("*"))}


def run(top: Path, *command: str | Path) -> str:
    environment = os.environ | {
        "HOME": str(top), "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@b", "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
        "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    done = subprocess.run(command, cwd=top, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@same
def cp_rsync_and_tar_copy_trees(top: Path) -> object:
    source = sample(top)
    run(top, "cp", "-a", source, top / "by cp")
    run(top, "rsync", "-aHAX", "--numeric-ids", f"{source}/", top / "by rsync")
    run(top, "tar", "--acls", "--xattrs", "-cf", "archive.tar", "source")
    (top / "by tar").mkdir()
    run(top, "tar", "--acls", "--xattrs", "-xpf", "archive.tar", "-C", top / "by tar")
    (top / "archive.tar").unlink()
    shutil.copytree(source / "sub", top / "by shutil", symlinks=True)
    seen = [times(top / name) for name in ("source", "by cp", "by rsync", "by tar/source", "by shutil")]
    changed = run(top, "rsync", "-aHAXin", "--numeric-ids", f"{source}/", top / "by rsync")
    shutil.rmtree(top / "by cp")
    return seen, changed


@same
def git_works(top: Path) -> object:
    repository = top / "repository"
    repository.mkdir()
    touch(repository / "one", "1\n")
    (repository / "sub").mkdir()
    touch(repository / "sub" / "two", "2\n")
    run(repository, "git", "init", "-q", "-b", "main")
    run(repository, "git", "add", ".")
    run(repository, "git", "commit", "-q", "-m", "first")
    touch(repository / "one", "one\n")
    before = run(repository, "git", "status", "--short")
    run(repository, "git", "commit", "-q", "-a", "-m", "second")
    clean = run(repository, "git", "status", "--short")
    run(top, "git", "-c", "safe.directory=*", "clone", "-q", repository, top / "clone")
    run(repository, "git", "gc", "-q")
    run(repository, "git", "fsck", "--strict")
    commit = run(repository, "git", "rev-parse", "HEAD")
    shutil.rmtree(repository)
    cloned = sorted(path.name for path in (top / "clone").iterdir())
    shutil.rmtree(top / "clone")
    return before, clean, commit, cloned


@same
def editors_that_replace_files_work(top: Path) -> object:
    file = touch(top / "file", "one\ntwo\n")
    file.chmod(0o640)
    run(top, "sed", "-i", "s/two/three/", file)
    run(top, "sed", "-i.bak", "s/one/four/", file)
    return file.read_text()


@same
def trees_are_moved_across_filesystems(top: Path) -> object:
    source = sample(top)
    outside = Path("/dev/shm") / f"lffs-test-{os.getpid()}"
    try:
        run(top, "mv", source, outside)
        moved = contents(outside).keys()
        run(top, "mv", outside, top / "back")
    finally:
        shutil.rmtree(outside, ignore_errors=True)
    return sorted(moved), times(top / "back")


@same
def a_database_lies_on_it(top: Path) -> object:
    def use(mode: str) -> object:
        with contextlib.closing(sqlite3.connect(top / mode)) as database:
            database.execute(f"PRAGMA journal_mode={mode}")
            database.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT)")
            with database:
                database.executemany("INSERT INTO t (x) VALUES (?)", [("x" * 100,)] * 2000)
            with contextlib.suppress(ZeroDivisionError), database:
                database.execute("DELETE FROM t")
                raise ZeroDivisionError  # rolled back
            counted = in_child(
                lambda: sqlite3.connect(top / mode).execute("SELECT count(*) FROM t").fetchone()
            )
            return counted, database.execute("PRAGMA integrity_check").fetchone()

    seen = [use("DELETE"), use("WAL")]
    for path in top.iterdir():
        path.unlink()  # its bytes hold times and counters
    return seen


@same
def trees_are_removed(top: Path) -> object:
    shutil.rmtree(sample(top))
    source = sample(top)
    run(top, "rm", "-rf", source)
    source = sample(top)
    return run(top, "find", source, "-depth", "-delete")


# -- what only the mount can show ---------------------------------------------------------------


def test_numbers_owners_and_times_survive_a_remount(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    source = sample(mounted.path)
    for kind, make_one in KINDS.items():
        make_one(source / f"kind {kind}")
    for number in range(100):  # some are made within one tick of the kernel's clock, and written in the next
        touch(source / f"small{number}", "x")

    def everything() -> dict[str, Any]:
        return {
            str(path): (found.st_ino, see(path), found.st_mtime_ns)
            for path in (source, *source.rglob("*"))
            for found in [os.lstat(path)]
        }

    before = everything()
    mounted.remount()
    assert everything() == before


def test_a_rename_out_of_the_mount_is_exdev(pair: Pair) -> None:
    mounted, plain = pair.directories("job/deep")
    assert refusal(lambda: os.rename(touch(mounted / "x"), plain / "x")) == errno.EXDEV
    assert refusal(lambda: os.link(mounted / "x", plain / "x")) == errno.EXDEV
    assert refusal(lambda: os.rename(touch(plain / "y"), mounted / "y")) == errno.EXDEV


def test_the_umask_narrows_what_a_default_acl_gives(pair: Pair) -> None:
    """A limit: elsewhere the ACL takes the umask's place.

    The kernel applies the umask before lffs sees the mode unless it is asked not to in INIT
    (FUSE_DONT_MASK), which pyfuse3 can't say.  Nobody gets a right by it that they should not have.
    """
    mounted, _ = pair.directories("job/deep")
    acl("setfacl", "-m", "d:u::rwx,d:g::rwx,d:o:rx", mounted)
    with umask(0o027):
        make(mounted / "file", 0o666)
        (mounted / "directory").mkdir(0o777)
    assert stat.S_IMODE((mounted / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((mounted / "directory").stat().st_mode) == 0o750


def test_a_lazy_directory_that_was_removed_takes_no_attribute(pair: Pair) -> None:
    """A plain one does until it is closed; there is nothing to keep it in, and nobody needs it."""
    mounted, _ = pair.directories("job/deep")
    (mounted / "lazy").mkdir()
    with opened(mounted / "lazy", os.O_RDONLY) as descriptor:
        (mounted / "lazy").rmdir()
        assert refusal(lambda: os.setxattr(descriptor, "user.note", b"x")) == errno.ESTALE
        assert refusal(lambda: os.setxattr(descriptor, "user.lffs.keep", b"1")) == errno.EINVAL
        assert refusal(lambda: os.getxattr(descriptor, "user.lffs.keep")) == 0


def test_an_unaligned_unbuffered_read_does_not_end_the_mount(pair: Pair) -> None:
    mounted, _ = pair.directories("job/deep")
    file = touch(mounted / "file", "0123456789")
    with opened(file, os.O_RDWR | os.O_DIRECT) as descriptor:
        assert os.pread(descriptor, 3, 5) == b"567"
        assert os.pwrite(descriptor, b"x", 1) == 1
    assert file.read_text() == "0x23456789"


def test_a_directory_mounted_nosuid_and_nodev_refuses_devices(pair: Pair) -> None:
    mounted, _ = pair.directories("job/deep")
    os.mknod(mounted / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert refusal(lambda: os.open(mounted / "null", os.O_RDONLY)) == errno.EACCES
