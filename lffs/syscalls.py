"""The ``*at`` system calls: everything lffs does to a backing store goes by descriptor and name.

A name here is one component, bytes, relative to an open directory; no call follows a symbolic
link in it.  So no path grows too long, and nobody can put a link under a name between two calls.
What Python 3.11 has no wrapper for (statx, renameat2, utimensat with UTIME_OMIT, syncfs) is
called through ctypes, here and nowhere else.  Errors are the OSError that the kernel gives.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import stat as stat_module
import struct
from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)

AT_EMPTY_PATH = 0x1000
_AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BASIC_AND_BIRTH = 0x0FFF
_STATX_BTIME = 0x0800

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

_UTIME_OMIT = (1 << 30) - 2

# struct statx, up to and with stx_mnt_id (statx(2)).
_STATX = struct.Struct("=IIQIIIHxxQQQQqIxxxxqIxxxxqIxxxxqIxxxxIIIIQ")
_statx = _libc.statx
_statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p)
_renameat2 = _libc.renameat2
_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_utimensat = _libc.utimensat
_utimensat.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
_syncfs = _libc.syncfs
_syncfs.argtypes = (ctypes.c_int,)
_TIMESPECS = struct.Struct("=qqqq")

DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Stat:
    """What statx says of one inode; times in nanoseconds since the epoch, birth 0 if not kept."""

    __slots__ = (
        "atime_ns", "birth_ns", "blksize", "blocks", "ctime_ns", "dev", "gid", "ino", "mode",
        "mount_id", "mtime_ns", "nlink", "rdev", "size", "uid",
    )  # fmt: skip

    def __init__(
        self,
        *,
        mode: int,
        ino: int,
        dev: int = 0,
        nlink: int = 1,
        uid: int = 0,
        gid: int = 0,
        rdev: int = 0,
        size: int = 0,
        blocks: int = 0,
        blksize: int = 4096,
        atime_ns: int = 0,
        mtime_ns: int = 0,
        ctime_ns: int = 0,
        birth_ns: int = 0,
        mount_id: int = 0,
    ) -> None:
        self.mode = mode
        self.ino = ino
        self.dev = dev
        self.nlink = nlink
        self.uid = uid
        self.gid = gid
        self.rdev = rdev
        self.size = size
        self.blocks = blocks
        self.blksize = blksize
        self.atime_ns = atime_ns
        self.mtime_ns = mtime_ns
        self.ctime_ns = ctime_ns
        self.birth_ns = birth_ns
        self.mount_id = mount_id

    @property
    def is_directory(self) -> bool:
        return stat_module.S_ISDIR(self.mode)


def statx(directory_fd: int, name: bytes = b"") -> Stat:
    """Stat *name* in the directory, or the descriptor itself when *name* is empty."""
    flags = _AT_SYMLINK_NOFOLLOW if name else AT_EMPTY_PATH
    # A thread may be in here too: it gets a buffer of its own.  Creating one costs 0.3 µs.
    buffer = ctypes.create_string_buffer(256)
    if _statx(directory_fd, name, flags, _STATX_BASIC_AND_BIRTH, buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(name))
    (mask, blksize, _, nlink, uid, gid, mode, ino, size, blocks, _,
     atime, atime_n, birth, birth_n, ctime, ctime_n, mtime, mtime_n,
     rmajor, rminor, major, minor, mount_id) = _STATX.unpack_from(buffer)  # fmt: skip
    result = Stat.__new__(Stat)
    result.mode = mode
    result.ino = ino
    result.dev = os.makedev(major, minor)
    result.nlink = nlink
    result.uid = uid
    result.gid = gid
    result.rdev = os.makedev(rmajor, rminor) if rmajor or rminor else 0
    result.size = size
    result.blocks = blocks
    result.blksize = blksize
    result.atime_ns = atime * 1_000_000_000 + atime_n
    result.mtime_ns = mtime * 1_000_000_000 + mtime_n
    result.ctime_ns = ctime * 1_000_000_000 + ctime_n
    result.birth_ns = birth * 1_000_000_000 + birth_n if mask & _STATX_BTIME else 0
    result.mount_id = mount_id
    return result


def exists(directory_fd: int, name: bytes) -> bool:
    """Tell whether the directory has this name, whatever it is (a dangling link counts)."""
    try:
        statx(directory_fd, name)
    except FileNotFoundError:
        return False
    return True


def open_directory(directory_fd: int, name: bytes) -> int:
    """Open a subdirectory for ``*at`` calls (O_PATH); a link is ENOTDIR, never followed.

    Only a plain name is taken: a record that says ``..`` leads nowhere (EINVAL).
    """
    if name in (b"", b".", b"..") or b"/" in name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), os.fsdecode(name))
    return os.open(name, DIRECTORY_FLAGS, dir_fd=directory_fd)


def list_directory(directory_fd: int) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a directory that is held O_PATH, without "." and ".."."""
    readable = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory_fd)
    try:
        with os.scandir(readable) as entries:
            yield from entries
    finally:
        os.close(readable)


def renameat2(
    old_directory_fd: int, old_name: bytes, new_directory_fd: int, new_name: bytes, flags: int = 0
) -> None:
    """renameat2(2); flags are RENAME_NOREPLACE or RENAME_EXCHANGE.

    NOREPLACE on a filesystem that has it not (EINVAL there: NFS, some FUSE ones) falls back to a
    check and a plain rename: in lffs's own trash nobody races it.
    """
    if _renameat2(old_directory_fd, old_name, new_directory_fd, new_name, flags) == 0:
        return
    number = ctypes.get_errno()
    if number == errno.EINVAL and flags == RENAME_NOREPLACE:
        if exists(new_directory_fd, new_name):
            number = errno.EEXIST
        else:
            os.rename(old_name, new_name, src_dir_fd=old_directory_fd, dst_dir_fd=new_directory_fd)
            return
    raise OSError(number, os.strerror(number), os.fsdecode(old_name), None, os.fsdecode(new_name))


def set_times(
    directory_fd: int, name: bytes, atime_ns: int | None = None, mtime_ns: int | None = None
) -> None:
    """Set one or both times of *name* (not of what it links to); None leaves a time as it is."""
    times = _TIMESPECS.pack(
        *(divmod(atime_ns, 1_000_000_000) if atime_ns is not None else (0, _UTIME_OMIT)),
        *(divmod(mtime_ns, 1_000_000_000) if mtime_ns is not None else (0, _UTIME_OMIT)),
    )
    if name:
        outcome = _utimensat(directory_fd, name, times, _AT_SYMLINK_NOFOLLOW)
    else:  # AT_EMPTY_PATH in utimensat needs Linux 5.8; the magic link works everywhere
        outcome = _utimensat(-1, descriptor_path(directory_fd), times, 0)
    if outcome != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(name))


def descriptor_path(descriptor: int, name: bytes = b"") -> bytes:
    """Return a path for calls that take no descriptor (xattrs, chmod of an O_PATH one)."""
    return b"/proc/self/fd/%d/%b" % (descriptor, name) if name else b"/proc/self/fd/%d" % descriptor


@contextlib.contextmanager
def held(directory_fd: int, name: bytes) -> Iterator[int]:
    """Hold *name* by an O_PATH descriptor, whatever it is, for as long as the block lasts."""
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def all_xattrs(directory_fd: int, name: bytes) -> dict[str, bytes]:
    """Return the xattrs of *name* that can be copied: user.* and POSIX ACLs."""
    path = descriptor_path(directory_fd, name)
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as exc:
        if exc.errno == errno.ENOTSUP:
            return {}
        raise
    return {
        attribute: os.getxattr(path, attribute, follow_symlinks=False)
        for attribute in names
        if attribute.startswith(("user.", "system.posix_acl_"))
    }


def is_open_for_writing(descriptor: int) -> bool:
    """Ask the kernel whether any process has this regular file open for writing.

    *descriptor* must be open read-only.  A read lease is refused exactly then (fcntl(2),
    F_SETLEASE); it is given back at once.  Where leases are not supported (some network
    filesystems) the answer is False: the caller's own handles are all that is known there.
    """
    # Whoever opens the file for writing just now breaks the lease, and its holder gets a signal:
    # SIGIO, which kills, unless another is chosen.  SIGURG is ignored by default.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as exc:
        return exc.errno == errno.EAGAIN
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def syncfs(descriptor: int) -> None:
    """Write out everything dirty in the filesystem that *descriptor* is on (syncfs(2))."""
    if _syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
