"""The portable transport: pyfuse3 requests to core calls, core answers to pyfuse3 replies."""

import contextlib
import errno
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import pyfuse3
import trio

from lffs.errors import LffsError, MountError
from lffs.fs.answers import Answered
from lffs.fs.caller import Caller
from lffs.fs.filesystem import Changes, Filesystem
from lffs.syscalls import Stat, syncfs
from lffs.threads import carry_out
from lffs.transport.kernel_notes import fuse_descriptor, increase_epoch
from lffs.work import Work

if TYPE_CHECKING:
    from lffs.mounting.options import MountOptions

log = logging.getLogger(__name__)
T = TypeVar("T")


class _AsErrno:
    """Lets the one exception out that pyfuse3 takes; any other would end the daemon.

    What the core raises on purpose is its caller's business; anything else is a bug and is logged
    with its traceback.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None or not isinstance(exc, Exception) or isinstance(exc, pyfuse3.FUSEError):
            return
        if isinstance(exc, LffsError | OSError):
            raise pyfuse3.FUSEError(exc.errno or errno.EIO) from exc
        log.error("a request failed unexpectedly; its caller is told EIO", exc_info=exc)
        raise pyfuse3.FUSEError(errno.EIO) from exc


_as_errno = _AsErrno()


class _AsIs(str):
    """A mount option of any bytes: pyfuse3 encodes its options as ASCII, and a path may be none."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return os.fsencode(str(self))


class PyfuseKernel:
    """Tells the kernel, through pyfuse3, what it must not believe any longer."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self.can_age_names = False

    def mounted(self) -> None:
        """The session is there: find out what the kernel can be told."""
        self._descriptor = fuse_descriptor()

    def initialised(self) -> None:
        """The kernel has said what it speaks; only now does it take notes."""
        if self._descriptor is not None:
            self.can_age_names = increase_epoch(self._descriptor)

    def age_names(self) -> None:
        """Age every name, where the kernel can; else stale names end in ESTALE and a new lookup."""
        if self.can_age_names and self._descriptor is not None:
            increase_epoch(self._descriptor)

    def age_attributes(self, numbers: list[int]) -> None:
        """Age these inodes' attributes."""
        for number in numbers:
            with contextlib.suppress(FileNotFoundError):  # the kernel forgot it: as good
                pyfuse3.invalidate_inode(pyfuse3.InodeT(number), attr_only=True)


class PyfuseTransport(pyfuse3.Operations):
    """Serves a filesystem over pyfuse3.  One at a time in a process: pyfuse3 keeps one session."""

    enable_writeback_cache = True
    enable_acl = True
    supports_dot_lookup = False

    name = "pyfuse3"

    def __init__(self, filesystem: Filesystem, kernel: PyfuseKernel) -> None:
        super().__init__()
        self._fs = filesystem
        self._kernel = kernel
        self.requests: Counter[str] = Counter()

    # -- the session --------------------------------------------------------------------------

    def mount(self, options: "MountOptions") -> None:
        """Mount; requests wait until `run`.  Raises MountError."""
        escaped = str(options.backing).replace("\\", "\\\\").replace(",", "\\,")
        wanted = {_AsIs(f"fsname={escaped}"), "subtype=lffs", "default_permissions"}
        wanted.add("suid" if options.suid else "nosuid")
        wanted.add("dev" if options.dev else "nodev")
        if options.allow_other:
            wanted.add("allow_other")
        if options.read_only:
            wanted.add("ro")
        wanted.update(options.kernel_options)
        try:
            pyfuse3.init(self, str(options.mountpoint), wanted)
        except RuntimeError as exc:
            hint = "; is user_allow_other in /etc/fuse.conf?" if options.allow_other else ""
            raise MountError(f"cannot mount at {options.mountpoint}: {exc}{hint}") from exc
        self._kernel.mounted()

    async def run(self) -> None:
        """Serve until the mount is gone."""
        await pyfuse3.main()

    def stop(self) -> None:
        """Make `run` return; what is under way is answered."""
        pyfuse3.terminate()

    def abandon(self) -> None:
        """End the session and leave the mount, which fails from then on."""
        pyfuse3.close(unmount=False)

    def unmount(self) -> None:
        """End the session, and the mount if it is still there."""
        pyfuse3.close(unmount=True)

    def init(self) -> None:
        self._kernel.initialised()

    # -- translation --------------------------------------------------------------------------

    async def _settle(self, answer: Work[object, None] | None) -> None:
        if isinstance(answer, Work):
            await carry_out(answer)

    async def _with_room(self, operation: Callable[[], T]) -> T:
        """Run the operation; if the disk is full, once more after the trash made room."""
        try:
            return operation()
        except (OSError, LffsError) as exc:
            if exc.errno != errno.ENOSPC:
                raise
            room = self._fs.make_room()
            if room is None:
                raise
        await carry_out(room)
        return operation()

    # -- looking ------------------------------------------------------------------------------

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        self.requests["lookup"] += 1
        with _as_errno:
            return _entry(self._fs.lookup(parent_inode, name))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        self.requests["forget"] += 1
        for number, count in inode_list:
            self._fs.forget(number, count)

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        self.requests["getattr"] += 1
        with _as_errno:
            return _entry(self._fs.getattr(inode))

    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        self.requests["setattr"] += 1
        changes = Changes(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        with _as_errno:
            return _entry(await self._with_room(lambda: self._fs.setattr(inode, changes, fh)))

    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        self.requests["readlink"] += 1
        with _as_errno:
            return self._fs.readlink(inode)

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        self.requests["statfs"] += 1
        with _as_errno:
            found = self._fs.statfs()
        data = pyfuse3.StatvfsData()
        for field in _STATFS_FIELDS:
            setattr(data, field, getattr(found, field))
        return data

    # -- making and removing ------------------------------------------------------------------

    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        self.requests["mknod"] += 1
        caller = _caller(ctx)
        with _as_errno:
            return _entry(
                await self._with_room(lambda: self._fs.mknod(parent_inode, name, mode, rdev, caller))
            )

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        self.requests["mkdir"] += 1
        caller = _caller(ctx)
        with _as_errno:
            return _entry(await self._with_room(lambda: self._fs.mkdir(parent_inode, name, mode, caller)))

    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        self.requests["symlink"] += 1
        caller = _caller(ctx)
        with _as_errno:
            return _entry(await self._with_room(lambda: self._fs.symlink(parent_inode, name, target, caller)))

    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        self.requests["link"] += 1
        caller = _caller(ctx)
        with _as_errno:
            return _entry(
                await self._with_room(lambda: self._fs.link(inode, new_parent_inode, new_name, caller))
            )

    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self.requests["unlink"] += 1
        with _as_errno:
            self._fs.unlink(parent_inode, name)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self.requests["rmdir"] += 1
        with _as_errno:
            self._fs.rmdir(parent_inode, name)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        self.requests["rename"] += 1
        with _as_errno:
            await self._with_room(
                lambda: self._fs.rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)
            )

    # -- files --------------------------------------------------------------------------------

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        self.requests["create"] += 1
        caller = _caller(ctx)
        with _as_errno:
            handle, answered = await self._with_room(
                lambda: self._fs.create(parent_inode, name, mode, flags, caller)
            )
            return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle), keep_cache=True), _entry(answered)

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        self.requests["open"] += 1
        with _as_errno:
            opened = self._fs.open(inode, flags, _caller(ctx))
        # Only lffs changes files, and says so when it does: the kernel may keep their pages.
        return pyfuse3.FileInfo(
            fh=pyfuse3.FileHandleT(opened.handle),
            direct_io=opened.direct_io,
            keep_cache=not opened.direct_io,
        )

    async def read(self, fh: int, off: int, size: int) -> bytes:
        self.requests["read"] += 1
        with _as_errno:
            return self._fs.read(fh, off, size)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        self.requests["write"] += 1
        with _as_errno:
            return await self._with_room(lambda: self._fs.write(fh, off, buf))

    async def flush(self, fh: int) -> None:
        # ENOSYS once, and the kernel never sends it again: there is nothing to do at a close.
        self.requests["flush"] += 1
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def release(self, fh: int) -> None:
        self.requests["release"] += 1
        with _as_errno:
            self._fs.release(fh)

    async def fsync(self, fh: int, datasync: bool) -> None:
        self.requests["fsync"] += 1
        with _as_errno:
            await carry_out(self._fs.fsync(fh, datasync))

    # -- directories --------------------------------------------------------------------------

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        self.requests["opendir"] += 1
        with _as_errno:
            return self._fs.opendir(inode)

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        self.requests["readdirplus"] += 1
        with _as_errno:
            for name, answered, position, number in self._fs.readdir(fh, start_id):
                if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), _entry(answered), position):
                    self._fs.forget(number, 0)  # looked at for nothing: nobody refers to it
                    return
                if number:
                    self._fs.listed(number)

    async def releasedir(self, fh: int) -> None:
        self.requests["releasedir"] += 1
        with _as_errno:
            self._fs.releasedir(fh)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        self.requests["fsyncdir"] += 1
        with _as_errno:
            await carry_out(self._fs.fsyncdir(fh))

    # -- xattrs -------------------------------------------------------------------------------

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        self.requests["getxattr"] += 1
        with _as_errno:
            return self._fs.getxattr(inode, name)

    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        self.requests["listxattr"] += 1
        with _as_errno:
            return self._fs.listxattr(inode)

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        self.requests["setxattr"] += 1
        caller = _caller(ctx)
        with _as_errno:
            await self._settle(await self._with_room(lambda: self._fs.setxattr(inode, name, value, caller)))

    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self.requests["removexattr"] += 1
        caller = _caller(ctx)
        with _as_errno:
            await self._settle(self._fs.removexattr(inode, name, caller))


_STATFS_FIELDS = (
    "f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail",
    "f_namemax",
)  # fmt: skip


def _caller(ctx: pyfuse3.RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid, ctx.pid, ctx.umask)


def _entry(answered: Answered) -> pyfuse3.EntryAttributes:
    entry = pyfuse3.EntryAttributes()
    entry.entry_timeout = answered.entry_timeout_s
    entry.attr_timeout = answered.attr_timeout_s
    status: Stat | None = answered.status
    if status is None:
        entry.st_ino = pyfuse3.InodeT(0)  # a negative entry: "no such name", for that long
        return entry
    entry.st_ino = pyfuse3.InodeT(status.ino)
    entry.st_mode = pyfuse3.ModeT(status.mode)
    entry.st_nlink = status.nlink
    entry.st_uid = status.uid
    entry.st_gid = status.gid
    entry.st_rdev = status.rdev
    entry.st_size = status.size
    entry.st_blksize = status.blksize
    entry.st_blocks = status.blocks
    entry.st_atime_ns = status.atime_ns
    entry.st_mtime_ns = status.mtime_ns
    entry.st_ctime_ns = status.ctime_ns
    return entry


async def flush_everything(mountpoint: str) -> None:
    """Have the kernel write back what it still holds of the mount, while requests are served."""

    def flush() -> None:
        descriptor = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
        try:
            syncfs(descriptor)
        finally:
            os.close(descriptor)

    await trio.to_thread.run_sync(flush)
