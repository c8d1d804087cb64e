"""What is mounted where, and by whom it is held: read from /proc, never asked of the mount.

A mount whose daemon died answers ENOTCONN, one whose daemon hangs answers nothing at all.  So paths
are resolved here component by component and never beyond an lffs mountpoint, and who holds a mount
is read from what the kernel says of each process.  Nothing here mounts; detach() is all that ends.
"""

import contextlib
import errno
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lffs.errors import LffsError, MountError
from lffs.state_dir import STATE_NAME

FS_TYPE = "fuse.lffs"
FUSERMOUNT = "fusermount3"
_MAX_LINKS = 40  # as the kernel: more is ELOOP

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8


class UsageError(LffsError, ValueError):
    """The command was given something it can't mean; the message says what was expected."""

    errno = errno.EINVAL


class BusyMountError(MountError):
    """The mount is in use, so it can't end."""

    errno = errno.EBUSY


# ---------------------------------------------------------------------------------------------------
# The mount table
# ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo; names of any bytes, with surrogate escapes."""

    mount_id: int
    parent_id: int
    device: str  # "0:52": major and minor of st_dev, decimal
    root: PurePosixPath  # what of the filesystem is seen: "/" unless bind-mounted
    mountpoint: Path
    fs_type: str
    source: str

    @property
    def is_lffs(self) -> bool:
        return self.fs_type == FS_TYPE

    @property
    def backing(self) -> Path:
        """The backing store of an lffs mount: the daemon names it as the source."""
        return Path(self.source)


def parse_mountinfo(table: bytes) -> list[Mount]:
    """Return the mounts of a /proc/PID/mountinfo, in its order (proc(5))."""
    return [_parse_line(line.split(b" ")) for line in table.splitlines()]


def _parse_line(fields: list[bytes]) -> Mount:
    optional_end = fields.index(b"-", 6)  # any number of "shared:1" and the like come before it
    return Mount(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        device=fields[2].decode("ascii"),
        root=PurePosixPath(_unescape(fields[3])),
        mountpoint=Path(_unescape(fields[4])),
        fs_type=_unescape(fields[optional_end + 1]),
        source=_unescape(fields[optional_end + 2]),
    )


def _unescape(field: bytes) -> str:
    r"""Undo the kernel's \040 for what would break the line: space, tab, newline, backslash, #."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda match: bytes((int(match[1], 8),)), field))


def read_mounts() -> list[Mount]:
    """Return what is mounted in this process's mount namespace."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())


def mount_over(path: Path, mounts: Iterable[Mount]) -> Mount | None:
    """Return the mount that *path*, absolute and without links, is in; None if the table has none.

    Goes from parent to child as the kernel does: of several mounts at one place the topmost counts,
    and one that another covers farther up is not seen.
    """
    mounts = list(mounts)
    known = {mount.mount_id for mount in mounts}
    over: Mount | None = None
    while True:
        children = [
            mount
            for mount in mounts
            if _is_child(mount, over, known) and path.is_relative_to(mount.mountpoint)
        ]
        if not children:
            return over
        over = min(children, key=lambda mount: len(mount.mountpoint.parts))


def _is_child(mount: Mount, parent: Mount | None, known: set[int]) -> bool:
    if parent is not None:
        return mount.parent_id == parent.mount_id != mount.mount_id
    # The top of the table: its parent is itself, or lies outside of a chroot.
    return mount.parent_id == mount.mount_id or mount.parent_id not in known


# ---------------------------------------------------------------------------------------------------
# Paths and targets
# ---------------------------------------------------------------------------------------------------


def resolve(text: str | Path, mounts: Iterable[Mount], *, enter_lffs: bool = False) -> Path:
    """Return *text* as an absolute path without links, as far as it exists.

    Like realpath, but below an lffs mountpoint the rest is taken as it is written, unless
    *enter_lffs*: so a dead or hanging mount is named without being touched.  Raises OSError for a
    loop of links and if the working directory is gone.
    """
    mounts = list(mounts)
    pending = deque(_components(text if os.path.isabs(text) else os.path.join(os.getcwd(), text)))
    resolved = Path("/")
    links = 0
    while pending:
        component = pending.popleft()
        if component == "..":
            resolved = resolved.parent
            continue
        resolved /= component
        if not enter_lffs and _in_lffs(resolved, mounts):
            continue
        try:
            link = os.readlink(resolved)
        except OSError:  # no link, or nothing at all: whoever uses the path is told
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(text))
        resolved = Path("/") if os.path.isabs(link) else resolved.parent
        pending.extendleft(reversed(_components(link)))
    return resolved


def _components(path: str | Path) -> list[str]:
    return [component for component in str(path).split("/") if component not in ("", ".")]


def _in_lffs(path: Path, mounts: list[Mount]) -> bool:
    mount = mount_over(path, mounts)
    return mount is not None and mount.is_lffs


@dataclass(frozen=True, slots=True)
class Target:
    """What a command is about: a backing store, and the mount through which it is seen, if any."""

    backing: Path
    mount: Mount | None  # None: not mounted here

    def job_names(self, text: str) -> list[str]:
        """Return what *text* can mean, the likeliest first: a job's id, or its directory's path.

        A path that begins with ``/`` or ``.`` is nothing but a path.  Raises UsageError for one that
        lies elsewhere than the target, and for an empty name.
        """
        name = text.rstrip("/")
        if not text:
            raise UsageError("a job's name is its id, such as Suits/S01E01, or its directory's path")
        try:
            below = self.below(resolve(text, read_mounts(), enter_lffs=self.mount is not None))
        except OSError:  # no working directory: then it can only be an id
            below = None
        if text.startswith(("/", ".")):
            if not below:
                where = self.mount.mountpoint if self.mount else self.backing
                raise UsageError(f"{text}: no job's directory; it does not lie below {where}")
            return [below]
        return [name] if below in (None, "", name) else [name, below]

    def below(self, path: Path) -> str | None:
        """Return *path*, as `resolve` gives it, relative to the filesystem's root; None: not in it."""
        for top, root in self._tops():
            if path.is_relative_to(top):
                return str(root / path.relative_to(top)).removeprefix("/")
        return None

    def _tops(self) -> Iterator[tuple[Path, PurePosixPath]]:
        if self.mount is not None:
            yield self.mount.mountpoint, self.mount.root
        yield self.backing, PurePosixPath("/")


def find_target(text: str) -> Target:
    """Return what TARGET names: any path in an lffs mount, or a backing directory.

    A backing directory that is mounted somewhere is the target with that mount.  Raises UsageError
    if it is neither.
    """
    mounts = read_mounts()
    path = resolve(text, mounts)
    over = mount_over(path, mounts)
    if over is not None and over.is_lffs:
        return Target(over.backing, over)
    expected = "TARGET is an lffs mountpoint, a path in one, or a backing store that lffs has mounted before"
    if not path.is_dir():
        raise UsageError(f"{text}: no such directory; {expected}")
    if not (path / STATE_NAME).is_dir():
        raise UsageError(f"{text}: neither an lffs mount nor a backing store; {expected}")
    return Target(path, next((mount for mount in mounts if mount.is_lffs and mount.backing == path), None))


# ---------------------------------------------------------------------------------------------------
# Dead mounts, busy mounts
# ---------------------------------------------------------------------------------------------------


def is_dead_mount(path: Path) -> bool:
    """Tell whether *path* is on a FUSE mount whose daemon is gone."""
    try:
        # Not stat, which the kernel goes on answering from what it remembers of a live mount.
        os.statvfs(path)
    except OSError as exc:
        # The latter for a question that was under way when the daemon died.
        return exc.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def unmount(mountpoint: Path) -> None:
    """umount(2), by fusermount3 for users other than root.  Raises BusyMountError, OSError, MountError."""
    _end_mount(mountpoint, 0)


def detach(mountpoint: Path) -> None:
    """Take the mount out of the tree at once; who is in it still, stays there until he leaves."""
    _end_mount(mountpoint, _MNT_DETACH)


def _end_mount(mountpoint: Path, flags: int) -> None:
    if os.geteuid() != 0:
        _fusermount(mountpoint, ["-u", "-z"] if flags & _MNT_DETACH else ["-u"])
        return
    import ctypes  # here and in _fusermount: most commands look at mounts and end none

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mountpoint), flags | _UMOUNT_NOFOLLOW) != 0:
        number = ctypes.get_errno()
        if number == errno.EBUSY:
            raise BusyMountError(f"{mountpoint} is busy")
        raise OSError(number, os.strerror(number), str(mountpoint))


def _fusermount(mountpoint: Path, options: list[str]) -> None:
    import subprocess

    command = [FUSERMOUNT, *options, "--", str(mountpoint)]
    try:
        done = subprocess.run(
            command, env={**os.environ, "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    except FileNotFoundError as exc:
        raise MountError(f"{FUSERMOUNT} is not installed; it is in the package fuse3") from exc
    if done.returncode == 0:
        return
    said = os.fsdecode(done.stderr).strip()
    if "busy" in said:
        raise BusyMountError(f"{mountpoint} is busy")
    raise MountError(said or f"{FUSERMOUNT} failed with status {done.returncode}")


@dataclass(frozen=True, slots=True)
class Holder:
    """One reason why a mount is busy."""

    pid: int  # 0: another mount on it
    command: str
    path: str
    how: str  # cwd, root, exe, fd, map or mount


def find_holders(mount: Mount) -> list[Holder]:
    """Return who keeps *mount* from being unmounted, as far as this user may see it.

    One entry for each process and path.  Processes of other mount namespaces that hold it there are
    not among them: they keep the filesystem alive, but not this mount busy.
    """
    mounts = read_mounts()
    holders = [
        Holder(0, other.fs_type, str(other.mountpoint), "mount")
        for other in mounts
        if other.parent_id == mount.mount_id != other.mount_id
    ]
    for directory in Path("/proc").iterdir():
        if directory.name.isdecimal():
            holders += _holds_of_process(directory, mount, mounts)
    return holders


def _holds_of_process(directory: Path, mount: Mount, mounts: list[Mount]) -> list[Holder]:
    paths: dict[str, str] = {}  # path → how
    for how, path in _held_paths(directory, mount, mounts):
        paths.setdefault(path, how)
    if not paths:
        return []
    try:
        command = os.fsdecode((directory / "comm").read_bytes().rstrip(b"\n"))
    except OSError:  # it ended meanwhile, so it holds nothing any more
        return []
    return [Holder(int(directory.name), command, path, how) for path, how in paths.items()]


def _held_paths(directory: Path, mount: Mount, mounts: list[Mount]) -> Iterator[tuple[str, str]]:
    """Yield (how, path) for all that the process has in *mount*; what it may not tell is left out."""
    with contextlib.suppress(OSError):
        # In another namespace the same path is another mount, and keeps ours not busy.
        if os.readlink(directory / "ns/mnt") == os.readlink("/proc/self/ns/mnt"):
            for how in ("cwd", "root", "exe"):
                path = os.readlink(directory / how)
                if mount_over(Path(path), mounts) == mount:
                    yield how, path
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(directory / "fdinfo"):
            with contextlib.suppress(OSError):
                if _mount_id_of(directory / "fdinfo" / descriptor) == mount.mount_id:
                    yield "fd", os.readlink(directory / "fd" / descriptor)
    with contextlib.suppress(OSError):
        device = b"%02x:%02x" % tuple(int(number) for number in mount.device.split(":"))
        for line in (directory / "maps").read_bytes().splitlines():
            fields = line.split(maxsplit=5)  # address, permissions, offset, device, inode, path
            if len(fields) == 6 and fields[3] == device:
                yield "map", os.fsdecode(fields[5])


def _mount_id_of(fdinfo: Path) -> int | None:
    for line in fdinfo.read_bytes().splitlines():
        if line.startswith(b"mnt_id:"):
            return int(line.removeprefix(b"mnt_id:"))
    return None
