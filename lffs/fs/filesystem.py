"""The filesystem's operations, by inode number and name, as a transport calls them.

Synchronous: between two requests nothing changes.  Operations bear their system call's name, take
plain values and raise OSError or LffsError, whose errno is the caller's.  What can take long is
returned as a Work for a thread: fsync, and the deleting that a status set with retention 0 asks for.
"""

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lffs import syscalls
from lffs.cleanup.service import Hidden, Restored
from lffs.errors import LffsError, StaleFileError
from lffs.fs.answers import LONG_S, Answered, Opened
from lffs.fs.caller import Caller, mode_after_change
from lffs.fs.control import ControlTree
from lffs.fs.files import OpenFiles, backing_flags
from lffs.fs.inodes import ROOT_NUMBER, Node
from lffs.fs.listing import Listing
from lffs.fs.recording import Recorder
from lffs.fs.tree import Found, Tree
from lffs.fs.xattrs import LffsXattrs
from lffs.handles import join, split
from lffs.jobs import STATE_DIRECTORY
from lffs.manifest.records import Directory, Job
from lffs.model import SUFFIXES, FileIdentity, JobStatus, JobType
from lffs.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, Stat
from lffs.work import Answer, Work

if TYPE_CHECKING:
    from lffs.backing import Backing, StatusChange

log = logging.getLogger(__name__)

# A negative entry with such a name can turn true when a job begins, which the kernel can't see.
_ALIAS_SUFFIXES = tuple(suffix.encode() for suffix in SUFFIXES)
# How much is freed when the disk is full: more than one request of the writeback cache needs.
_ROOM_BYTES = 16 << 20
_DEFAULT_ACL = "system.posix_acl_default"


class Kernel(Protocol):
    """What a transport can tell the kernel; neither call may wait for it."""

    @property
    def can_age_names(self) -> bool:
        """Whether `age_names` does anything: Linux 6.16 and newer."""
        ...

    def age_names(self) -> None:
        """Every name that the kernel remembers, also of what is not there, is to be asked anew."""
        ...

    def age_attributes(self, numbers: list[int]) -> None:
        """So are these inodes' attributes."""
        ...


@dataclass(frozen=True, slots=True)
class Changes:
    """What setattr is to change; None stays as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


class Filesystem:
    """One mounted backing store."""

    def __init__(self, backing: "Backing", kernel: Kernel) -> None:
        self._backing = backing
        self._kernel = kernel
        self._clock = backing.clock
        self._directories = backing.directories
        self._jobs = backing.jobs
        self._handles = backing.handles
        self.recorder = Recorder(
            backing.store,
            backing.jobs,
            backing.directories,
            backing.handles,
            backing.classifier,
            backing.clock,
        )
        self.tree = Tree(
            backing.handles,
            backing.directories,
            backing.jobs,
            self.recorder.met,
            backing.store.hidden_names,
        )
        self.files = OpenFiles(self.tree)
        self.control = ControlTree(backing)
        self.xattrs = LffsXattrs(self)
        # Told when something may be due for reaping earlier than before.
        self.deadlines_changed: Callable[[], None] = lambda: None
        self._listings: dict[int, Listing] = {}
        self._last_listing = 0
        self._name_max = os.fstatvfs(backing.handles.root_fd).f_namemax

    @property
    def backing(self) -> "Backing":
        return self._backing

    # -- looking ------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Answered:
        """Find *name* in *parent* and count the kernel's reference to it."""
        if self.control.owns(parent) or (parent == ROOT_NUMBER and name == STATE_DIRECTORY):
            return self.control.lookup(parent, name)
        found = self._find(parent, name)
        if found is None:
            # Where names can't be aged, one that comes back from the trash would stay unseen.
            believe = self._kernel.can_age_names and not name.endswith(_ALIAS_SUFFIXES)
            return Answered(None, entry_timeout_s=LONG_S if believe else 0.0)
        return self._looked_up(found)

    def forget(self, number: int, count: int) -> None:
        """The kernel dropped *count* references to the inode."""
        if self.control.owns(number):
            self.control.forget(number, count)
        else:
            self.tree.nodes.forget(number, count)

    def getattr(self, number: int) -> Answered:
        """Return the inode's attributes."""
        if self.control.owns(number):
            return self.control.getattr(number)
        return Answered(self.tree.status(self._node(number)))

    def readlink(self, number: int) -> bytes:
        """Return what the symbolic link says."""
        if self.control.owns(number):
            return self.control.readlink(number)
        with self.tree.held(self._node(number)) as held:
            return os.readlink(b"", dir_fd=held)

    def statfs(self) -> os.statvfs_result:
        """Return the backing filesystem's figures."""
        return os.fstatvfs(self._handles.root_fd)

    # -- attributes ---------------------------------------------------------------------------

    def setattr(self, number: int, changes: Changes, handle: int | None) -> Answered:
        """Change attributes; owner before mode, since chown clears suid and sgid."""
        self._refuse_change(number)
        node = self._node(number)
        if node.is_lazy and changes.mode is not None and self._lazy_xattrs(node):
            self.tree.materialise(node.path())  # its ACL's mask is the backing filesystem's to change
        if node.is_lazy:
            self._setattr_lazy(node, changes)
            return Answered(self.tree.status(node))
        with self.tree.held(node) as held:
            path = syscalls.descriptor_path(held)
            if changes.uid is not None or changes.gid is not None:
                uid = -1 if changes.uid is None else changes.uid
                os.chown(path, uid, -1 if changes.gid is None else changes.gid)
            if changes.mode is not None:
                os.chmod(path, stat.S_IMODE(changes.mode))
            if changes.size is not None:
                self._truncate(node, path, changes.size, handle)
            if changes.atime_ns is not None or changes.mtime_ns is not None:
                syscalls.set_times(held, b"", changes.atime_ns, changes.mtime_ns)
            if changes.mtime_ns is not None:
                self.files.mtime_was_set(node)
        return Answered(self.tree.status(node))

    def _truncate(self, node: Node, path: bytes, size: int, handle: int | None) -> None:
        if handle is not None and self.files[handle].is_writable:
            os.ftruncate(self.files[handle].descriptor, size)
            return
        os.truncate(path, size)
        for parent, name in node.dentries:
            self.recorder.closed(join(parent.path(), name), size)

    def _setattr_lazy(self, node: Node, changes: Changes) -> None:
        lazy = self._lazy(node) if node.removed is None else node.removed
        if changes.mode is not None:
            lazy.mode = stat.S_IMODE(changes.mode)
        if changes.uid is not None:
            lazy.uid = changes.uid
        if changes.gid is not None:
            lazy.gid = changes.gid
        if changes.atime_ns is not None:
            lazy.atime_ns = changes.atime_ns
        if changes.mtime_ns is not None:
            lazy.mtime_ns = changes.mtime_ns
        lazy.ctime_ns = self._clock.wall_ns()
        if isinstance(lazy, Directory):
            self._directories.change(lazy)
            self._backing.store.commit()
        else:  # removed, and open still: the record is gone, its last stat is all there is
            lazy.mode |= stat.S_IFDIR

    # -- making -------------------------------------------------------------------------------

    def create(self, parent: int, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[int, Answered]:
        """Make and open a regular file; return the handle and the entry."""
        self._refuse_new(parent, name)
        directory = self._node(parent)
        existing = self._find(parent, name)
        if existing is not None:
            return self._open_existing(existing, flags, caller)
        directory_fd = self.tree.directory_fd(directory)
        descriptor = os.open(
            name, backing_flags(flags) | os.O_CREAT | os.O_EXCL, mode & 0o7777, dir_fd=directory_fd
        )
        try:
            status = self._give_to_caller(directory_fd, descriptor, mode, caller)
            found = self._made(directory, name, status, caller)
        except BaseException:
            os.close(descriptor)
            raise
        handle = self.files.add(found.node, descriptor, flags)
        return handle, self._looked_up(found)

    def _open_existing(self, found: Found, flags: int, caller: Caller) -> tuple[int, Answered]:
        """CREATE met a file that the kernel did not know of: it was made beside lffs just now."""
        if flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(found.name))
        handle = self._open(found.node, flags, caller)
        found.node.lookups += 1
        return handle, Answered(self.tree.status(found.node))

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Answered:
        """Make a fifo, socket, device node or empty file."""
        self._refuse_new(parent, name)
        directory = self._node(parent)
        directory_fd = self.tree.directory_fd(directory)
        os.mknod(name, mode, rdev, dir_fd=directory_fd)
        return self._looked_up(self._made_by_name(directory, directory_fd, name, mode, caller))

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Answered:
        """Make a symbolic link."""
        self._refuse_new(parent, name)
        directory = self._node(parent)
        directory_fd = self.tree.directory_fd(directory)
        os.symlink(target, name, dir_fd=directory_fd)
        return self._looked_up(self._made_by_name(directory, directory_fd, name, None, caller))

    def link(self, number: int, parent: int, name: bytes, caller: Caller) -> Answered:
        """Give a file one more name; its type by the rules belongs to the name."""
        if self.control.owns(number):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        self._refuse_new(parent, name)
        node, directory = self._node(number), self._node(parent)
        if node.hidden and not node.dentries:
            raise StaleFileError(f"inode {number} is hidden")
        directory_fd = self.tree.directory_fd(directory)
        if node.dentries:
            place = self.tree.place(node)
            os.link(
                place.name,
                name,
                src_dir_fd=place.directory_fd,
                dst_dir_fd=directory_fd,
                follow_symlinks=False,
            )
        else:
            with self.tree.held(node) as held:
                os.link(syscalls.descriptor_path(held), name, dst_dir_fd=directory_fd)
        status = syscalls.statx(directory_fd, name)
        return self._looked_up(self._made(directory, name, status, caller))

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Answered:
        """Make a directory: lazily, unless the configuration or the parent forbids it."""
        self._refuse_new(parent, name)
        directory = self._node(parent)
        if self._find(parent, name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(name))
        # O_PATH descriptors say nothing of this: a lazy mkdir would never meet EROFS.
        if os.fstatvfs(self._handles.root_fd).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fsdecode(name))
        path = join(directory.path(), name)
        if not self._backing.settings.directories.lazy or self._has_default_acl(directory):
            found = self._mkdir_real(directory, name, path, mode, caller)
        else:
            found = self._mkdir_lazy(directory, name, path, mode, caller)
        if self._jobs.roots.is_job(path) and self._jobs.at(path) is None:
            self._begin_job(path, found.node)
            found = self._find(parent, name) or found
        self._backing.store.commit()
        return self._looked_up(found)

    def _mkdir_real(self, directory: Node, name: bytes, path: bytes, mode: int, caller: Caller) -> Found:
        directory_fd = self.tree.directory_fd(directory)
        os.mkdir(name, mode & 0o7777, dir_fd=directory_fd)
        self._dress(directory_fd, name, stat.S_IFDIR | mode, caller)
        status = syscalls.statx(directory_fd, name)
        self.recorder.made_directory(path, status, caller)
        return self.tree.found(directory, directory.path(), name, status)

    def _mkdir_lazy(self, directory: Node, name: bytes, path: bytes, mode: int, caller: Caller) -> Found:
        above = self.tree.status(directory)
        inherits = bool(above.mode & stat.S_ISGID)
        self._directories.make_lazy(
            path,
            mode=mode | (stat.S_ISGID if inherits else 0),
            uid=caller.uid,
            gid=above.gid if inherits else caller.gid,
            now_ns=self._clock.wall_ns(),
            creator=caller.creator(),
        )
        self._touch(directory)
        found = self._find(directory.number, name)
        assert found is not None
        return found

    def _begin_job(self, path: bytes, node: Node) -> None:
        identity = None if node.is_lazy else FileIdentity(node.ino, node.birth_ns)
        self._jobs.begin(path, self._clock.wall_ns(), identity)

    # -- removing -----------------------------------------------------------------------------

    def unlink(self, parent: int, name: bytes) -> None:
        """Remove a name of a file; in a running job perhaps into the trash (keep_unlinked)."""
        self._refuse_existing(parent, name)
        found = self._require(parent, name)
        if found.node.is_directory:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fsdecode(name))
        directory = self._node(parent)
        path = join(directory.path(), found.name)
        if self._hide_unlinked(found, path):
            self.tree.nodes.detach(directory, found.name)
            return
        is_last = self._is_last_name(found)
        identity = FileIdentity(found.node.ino, found.node.birth_ns)
        if found.status.nlink <= 1:
            self.tree.keep_descriptor(found.node)
        os.unlink(found.name, dir_fd=self._handles.open(directory.path()))
        if is_last:
            self.tree.nodes.unback(found.node)
            self._backing.forget_mark(identity)
        self.tree.nodes.detach(directory, found.name)
        self.recorder.unlinked(path)

    def _is_last_name(self, found: Found) -> bool:
        """Tell whether the file has no other name, also none in the trash."""
        identity = FileIdentity(found.node.ino, found.node.birth_ns)
        return found.status.nlink + self._backing.store.hidden_names(identity) <= 1

    def _hide_unlinked(self, found: Found, path: bytes) -> bool:
        job, entry = self.recorder.entry_at(path)
        cleanup = self._backing.cleanup
        if job is None or entry is None or not cleanup.keeps_unlinked(job, entry):
            return False
        self.tree.keep_descriptor(found.node)
        try:
            cleanup.hide_unlinked(job, entry, self._clock.wall_ns(), self.is_open_for_writing)
        except (OSError, LffsError) as exc:
            # Unlinking always works, also on a full disk: then it deletes, as it says.
            log.warning("job %s: %s is unlinked, not kept: %s", job.id, os.fsdecode(path), exc)
            return False
        return True

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory; a job's directory ends the job."""
        self._refuse_existing(parent, name)
        found = self._require(parent, name)
        if not found.node.is_directory:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fsdecode(name))
        directory = self._node(parent)
        path = join(directory.path(), found.name)
        if self._directories.lazy_names(path):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), os.fsdecode(name))
        self._remove_directory(directory, found, path)
        if self.recorder.removed_directory(path):
            self.deadlines_changed()

    def _remove_directory(self, directory: Node, found: Found, path: bytes) -> None:
        if found.node.is_lazy:
            gone = self.tree.status(found.node)
            gone.nlink = 0
            found.node.removed = gone
            self._touch(directory)
        else:
            self.tree.keep_descriptor(found.node)
            os.rmdir(found.name, dir_fd=self._handles.open(directory.path()))
            self._handles.forget(path)
            self.tree.nodes.unback(found.node)
        self.tree.nodes.detach(directory, found.name)

    # -- renaming -----------------------------------------------------------------------------

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        """Rename, with RENAME_NOREPLACE or RENAME_EXCHANGE if asked; jobs and manifests follow."""
        self._refuse_existing(parent, name)
        self._refuse_existing(new_parent, new_name)
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._refuse_long(new_name)
        source = self._require(parent, name)
        target = self._find(new_parent, new_name)
        if target is not None:
            new_name = target.name
            if flags & RENAME_NOREPLACE:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(new_name))
            if target.node is source.node:
                return  # two names of one inode: nothing happens (rename(2))
        directory, new_directory = self._node(parent), self._node(new_parent)
        old = join(directory.path(), source.name)
        new = join(new_directory.path(), new_name)
        if flags & RENAME_EXCHANGE:
            if target is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(new_name))
            self._exchange(source, old, target, new)
            return
        if target is not None:
            self._make_way(source, target, new_directory, new)
        if source.node.is_lazy:
            self._rename_lazy(source, old, directory, new_directory, new)
        else:
            self._rename_real(source, old, directory, new_directory, new, target)

    def _make_way(self, source: Found, target: Found, directory: Node, path: bytes) -> None:
        """Check that *target* may be replaced, and remove it where the backing rename would not."""
        if target.node.is_directory != source.node.is_directory:
            number = errno.EISDIR if target.node.is_directory else errno.ENOTDIR
            raise OSError(number, os.strerror(number), os.fsdecode(path))
        if not target.node.is_directory:
            return
        if self._directories.lazy_names(path):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), os.fsdecode(path))
        if source.node.is_lazy or target.node.is_lazy:
            self._remove_directory(directory, target, path)
            self.recorder.removed_directory(path)
        elif next(iter(syscalls.list_directory(self._handles.open(path))), None) is not None:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), os.fsdecode(path))

    def _rename_lazy(
        self, source: Found, old: bytes, directory: Node, new_directory: Node, new: bytes
    ) -> None:
        self.tree.nodes.rename(directory, source.name, new_directory, split(new)[1])
        self.recorder.renamed_directory(old, new)
        self._begin_job_if_new(new, source.node)
        lazy = self._directories.lazy(new)
        if lazy is not None:
            lazy.ctime_ns = self._clock.wall_ns()
            self._directories.change(lazy)
        self._touch(directory)
        self._touch(new_directory)
        self._backing.store.commit()

    def _rename_real(
        self,
        source: Found,
        old: bytes,
        directory: Node,
        new_directory: Node,
        new: bytes,
        target: Found | None,
    ) -> None:
        new_name = split(new)[1]
        new_fd = self.tree.directory_fd(new_directory)
        ends = target is not None and (target.node.is_directory or self._is_last_name(target))
        if target is not None and ends:
            self.tree.keep_descriptor(target.node)
        old_fd = self._handles.open(directory.path())
        if target is None:  # whatever appears there meanwhile beside lffs is not overwritten
            syscalls.renameat2(old_fd, source.name, new_fd, new_name, RENAME_NOREPLACE)
        else:
            os.rename(source.name, new_name, src_dir_fd=old_fd, dst_dir_fd=new_fd)
        if target is not None and ends:
            self.tree.nodes.unback(target.node)
            self._backing.forget_mark(FileIdentity(target.node.ino, target.node.birth_ns))
        if target is not None and target.node.is_directory:
            self.recorder.removed_directory(new)
        self._handles.forget(old)
        self._handles.forget(new)
        self.tree.nodes.rename(directory, source.name, new_directory, new_name)
        if source.node.is_directory:
            self.recorder.renamed_directory(old, new)
            self._begin_job_if_new(new, source.node)
        else:
            self.recorder.renamed_file(old, new, syscalls.statx(new_fd, new_name))

    def _begin_job_if_new(self, path: bytes, node: Node) -> None:
        if self._jobs.roots.is_job(path) and self._jobs.at(path) is None:
            self._begin_job(path, node)
            self._backing.store.commit()

    def _exchange(self, source: Found, old: bytes, target: Found, new: bytes) -> None:
        for found, path in ((source, old), (target, new)):
            if found.node.is_lazy:
                self.tree.materialise(path)
        (old_parent, old_name), (new_parent, new_name) = split(old), split(new)
        old_fd, new_fd = self._handles.open(old_parent), self._handles.open(new_parent)
        syscalls.renameat2(old_fd, old_name, new_fd, new_name, RENAME_EXCHANGE)
        self._handles.forget(old)
        self._handles.forget(new)
        nodes = self.tree.nodes
        first, second = self.tree.nodes.at(old_parent), self.tree.nodes.at(new_parent)
        assert first is not None and second is not None  # the kernel just named both
        source.node.lookups += 1
        target.node.lookups += 1
        nodes.detach(first, old_name)
        nodes.detach(second, new_name)
        nodes.attach(target.node, first, old_name)
        nodes.attach(source.node, second, new_name)
        source.node.lookups -= 1
        target.node.lookups -= 1
        self.recorder.exchanged(old, syscalls.statx(old_fd, old_name), new, syscalls.statx(new_fd, new_name))

    # -- files --------------------------------------------------------------------------------

    def open(self, number: int, flags: int, caller: Caller) -> Opened:
        """Open a file."""
        if self.control.owns(number):
            return self.control.open(number, flags)
        return Opened(self._open(self._node(number), flags, caller))

    def _open(self, node: Node, flags: int, caller: Caller) -> int:
        handle = self.files.open(node, flags)
        if flags & os.O_TRUNC:
            # Truncating by another than root ends suid and sgid.  A truncate(2) comes with the mode
            # to set; this one the kernel leaves to us, and keeps the mode that it knows.
            descriptor = self.files[handle].descriptor
            status = syscalls.statx(descriptor)
            kept = mode_after_change(status, caller)
            if kept != status.mode:
                os.fchmod(descriptor, stat.S_IMODE(kept))
                self._kernel.age_attributes([node.number])
        return handle

    def read(self, handle: int, offset: int, size: int) -> bytes:
        """Read up to *size* bytes at *offset*."""
        if self.control.owns_handle(handle):
            return self.control.read(handle, offset, size)
        return os.pread(self.files[handle].descriptor, size, offset)

    def write(self, handle: int, offset: int, data: bytes) -> int:
        """Write at *offset*; return how many bytes were written."""
        return self.files.write(handle, offset, data)

    def release(self, handle: int) -> None:
        """Close a handle; the last close of a hidden file's writer starts its retention."""
        if self.control.owns_handle(handle):
            self.control.release(handle)
            return
        opened = self.files[handle]
        node = opened.node
        size = syscalls.statx(opened.descriptor).size if opened.is_writable else 0
        identity = FileIdentity(node.ino, node.birth_ns)
        names = list(node.dentries)
        self.files.release(handle)
        if opened.is_writable and not node.writers:
            for parent, name in names:
                with contextlib.suppress(KeyError):  # in a directory that was removed
                    self.recorder.closed(join(parent.path(), name), size)
            if self._backing.cleanup.released(identity, self._clock.wall_ns()):
                self.deadlines_changed()

    def fsync(self, handle: int, datasync: bool) -> Work[None, None]:
        """Return the work of writing the file through to the disk."""
        if self.control.owns_handle(handle):
            return Work(run=lambda: None, finish=lambda done: done)
        descriptor = self.files[handle].descriptor
        flush = os.fdatasync if datasync else os.fsync
        return Work(run=lambda: flush(descriptor), finish=lambda done: done)

    def is_open_for_writing(self, identity: FileIdentity) -> bool:
        """Tell whether a handle of the mount may write to this file."""
        return any(FileIdentity(node.ino, node.birth_ns) == identity for node in self.tree.nodes.writers())

    # -- directories --------------------------------------------------------------------------

    def opendir(self, number: int) -> int:
        """Open a directory for listing; return the handle."""
        if self.control.owns(number):
            return self.control.opendir(number)
        node = self._node(number)
        self._last_listing += 1
        self._listings[self._last_listing] = Listing(node)
        self.tree.nodes.opened(node, writable=False)
        return self._last_listing

    def readdir(self, handle: int, offset: int) -> Iterator[tuple[bytes, Answered, int, int]]:
        """Yield (name, entry, next offset, inode number to count) from *offset* on.

        The caller counts each entry that it hands to the kernel with `listed`; "." and ".." have
        number 0, since the kernel does not count them.
        """
        if self.control.owns_handle(handle):
            yield from self.control.readdir(handle, offset)
            return
        listing = self._listings[handle]
        if offset == 0:
            listing.refresh(self._listed_names(listing.node))
        yield from listing.entries(offset, self._entry_of)

    def _listed_names(self, node: Node) -> dict[bytes, bytes]:
        """Return what the directory lists: shown name → real name."""
        if self._is_removed(node):
            return {}  # while it was open
        real, lazy = self.tree.names(node)
        path = node.path()
        shown: dict[bytes, bytes] = {b".": b".", b"..": b".."}
        for name in (*real, *sorted(lazy)):
            job = self._jobs.at(join(path, name))
            listed = name if job is None else self._jobs.listed_name(job)
            if listed != name and (listed in real or listed in lazy):
                listed = name  # a real entry wins
            shown[listed] = name
        return shown

    def _entry_of(self, node: Node, name: bytes) -> Answered | None:
        if name in (b".", b".."):
            dots = node if name == b"." else next((above for above, _ in node.dentries), node)
            return Answered(self.tree.status(dots))
        found = self.tree.find(node, name)
        return None if found is None else self._answered(found)

    def listed(self, number: int) -> None:
        """An entry was handed to the kernel, which counts it as a lookup."""
        if self.control.owns(number):
            self.control.listed(number)
        elif (node := self.tree.nodes.get(number)) is not None:
            node.lookups += 1

    def releasedir(self, handle: int) -> None:
        """Close a listing."""
        if self.control.owns_handle(handle):
            self.control.release(handle)
            return
        self.tree.nodes.closed(self._listings.pop(handle).node, writable=False)

    def fsyncdir(self, handle: int) -> Work[None, None]:
        """Return the work of writing the directory through to the disk."""
        if self.control.owns_handle(handle):
            return Work(run=lambda: None, finish=lambda done: done)
        node = self._listings[handle].node
        self._backing.store.commit()
        if node.is_lazy or self._is_removed(node):
            return Work(run=lambda: None, finish=lambda done: done)
        descriptor = os.open(
            b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.tree.directory_fd(node)
        )

        def flush() -> None:
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        return Work(run=flush, finish=lambda done: done)

    # -- xattrs -------------------------------------------------------------------------------

    def getxattr(self, number: int, name: bytes) -> bytes:
        """Return the attribute's value; ENODATA where there is none."""
        if self.control.owns(number):
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        node = self._node(number)
        if self.xattrs.owns(name):
            return self.xattrs.get(node, name)
        if node.is_lazy:
            return self._lazy_xattr(node, name)
        descriptor = self.files.descriptor_of(node)
        if descriptor is not None:
            return os.getxattr(descriptor, name)
        with self.tree.held(node) as held:
            return os.getxattr(syscalls.descriptor_path(held), name)

    def listxattr(self, number: int) -> list[bytes]:
        """Return the names of the backing file's attributes; lffs's own are never named."""
        if self.control.owns(number):
            return []
        node = self._node(number)
        if node.is_lazy:
            return list(map(os.fsencode, self._lazy_xattrs(node)))
        with self.tree.held(node) as held:
            names = os.listxattr(syscalls.descriptor_path(held))
        return [os.fsencode(name) for name in names if not self.xattrs.owns(os.fsencode(name))]

    def setxattr(self, number: int, name: bytes, value: bytes, caller: Caller) -> Answer[None]:
        """Set an attribute; user.lffs.status may come back as a Work."""
        self._refuse_change(number)
        node = self._node(number)
        if self.xattrs.owns(name):
            return self.xattrs.set(node, name, value, caller)
        if node.is_lazy:
            self.tree.directory_fd(node)
        with self.tree.held(node) as held:
            os.setxattr(syscalls.descriptor_path(held), name, value)
        return None

    def removexattr(self, number: int, name: bytes, caller: Caller) -> Answer[None]:
        """Remove an attribute; a settable one of lffs's is restored to its default."""
        self._refuse_change(number)
        node = self._node(number)
        if self.xattrs.owns(name):
            return self.xattrs.remove(node, name, caller)
        if node.is_lazy:
            self._lazy_xattr(node, name)
            self.tree.directory_fd(node)
        with self.tree.held(node) as held:
            os.removexattr(syscalls.descriptor_path(held), name)
        return None

    # -- status -------------------------------------------------------------------------------

    def set_status(self, job: Job, status: JobStatus) -> Answer[None]:
        """Take a job to a status that people may set; what follows from it is seen at once.

        With a retention of 0 the answer is the Work of deleting what was hidden.
        """
        return self.change_status(job, status).work

    def change_status(self, job: Job, status: JobStatus) -> "StatusChange":
        """The same, and say what followed from it."""
        change = self._backing.set_status(job, status, self.is_open_for_writing)
        self.show_hidden(job, change.hidden)
        self.show_restored(job, change.restored)
        self.deadlines_changed()
        return change

    def set_job_type(self, job: Job, type_: JobType | None) -> None:
        """Set a job's type, None for the default; the directories declared for it come and go."""
        vanished, made = self._backing.set_job_type(job, type_)
        self.took_out_of_view([], vanished)
        parents = {split(path)[0] for path in made}
        known = [self.tree.nodes.at(path) for path in parents]
        self._kernel.age_attributes([node.number for node in known if node is not None])

    def show_restored(self, job: Job, restored: Restored) -> None:
        """Make it so that the paths of what came back lead there."""
        if restored.files or restored.directories:
            files = [join(job.path, one.entry.path) for one in restored.files]
            self.came_back_to_view(files, restored.directories)

    def show_hidden(self, job: Job, hidden: Hidden) -> None:
        """Make it so that no path leads to what was hidden."""
        if hidden.files or hidden.directories:
            self.took_out_of_view(
                [join(job.path, one.entry.path) for one in hidden.files], hidden.directories
            )

    def make_room(self) -> Work[Any, Any] | None:
        """The disk is full: return the work of deleting what keep_unlinked kept, if it kept any."""
        root_fd = self._handles.root_fd

        def free_bytes() -> int:
            found = os.fstatvfs(root_fd)
            return found.f_bavail * found.f_frsize

        return self._backing.cleanup.make_room(free_bytes, _ROOM_BYTES)

    # -- what status changes do to the view ---------------------------------------------------

    def took_out_of_view(self, paths: list[bytes], directories: list[bytes]) -> None:
        """Files were hidden, directories vanished: no path leads to them from now on."""
        aged = []
        for path in (*paths, *sorted(directories, reverse=True)):
            parent_path, name = split(path)
            parent = self.tree.nodes.at(parent_path)
            node = self.tree.nodes.named(parent, name) if parent is not None else None
            if parent is None or node is None:
                continue
            aged.append(node.number)
            aged.append(parent.number)
            if node.is_directory:
                self.tree.nodes.unback(node)
                gone = Stat(mode=stat.S_IFDIR | 0o700, ino=node.number, nlink=0)
                node.removed = gone
            node.hidden = True
            self.tree.nodes.detach(parent, name)
        self._kernel.age_names()
        self._kernel.age_attributes(list(dict.fromkeys(aged)))

    def came_back_to_view(self, paths: list[bytes], directories: list[bytes]) -> None:
        """Hidden files and vanished directories are at their paths again."""
        above = {split(path)[0] for path in directories}
        aged = [node.number for path in above if (node := self.tree.nodes.at(path)) is not None]
        for path in paths:
            parent_path, name = split(path)
            parent = self.tree.nodes.at(parent_path)
            if parent is None:
                continue
            aged.append(parent.number)
            try:
                status = syscalls.statx(self._handles.open(parent_path), name)
            except OSError:
                continue
            node = self.tree.nodes.backed_by(status)
            if node is not None:
                node.hidden = False
                self.tree.nodes.attach(node, parent, name)
                aged.append(node.number)
        self._kernel.age_names()
        self._kernel.age_attributes(list(dict.fromkeys(aged)))

    def configured(self) -> None:
        """The configuration was read again: rules, names and what changed beside lffs."""
        self.recorder.classifier = self._backing.classifier
        self.reread()

    def close(self) -> None:
        """The mount is gone: close what is open; for a hidden file that is its last close."""
        for handle in self.files.numbers():
            self.release(handle)

    def reread(self) -> None:
        """What changed beside lffs is to be seen: forget what is cached (SIGHUP, verify)."""
        self._handles.forget(b"")
        self._kernel.age_names()
        self._kernel.age_attributes(self.tree.nodes.numbers())

    # -- refusals and small steps -------------------------------------------------------------

    def _node(self, number: int) -> Node:
        node = self.tree.nodes.get(number)
        if node is None:
            raise StaleFileError(f"inode {number} is not known")
        return node

    def _is_removed(self, node: Node) -> bool:
        """Tell whether the directory has no name any more; who has it open may still ask for it."""
        return node.removed is not None or (not node.dentries and node is not self.tree.nodes.root)

    def _find(self, parent: int, name: bytes) -> Found | None:
        self._refuse_long(name)
        node = self._node(parent)
        if self._is_removed(node):
            return None  # in a directory that was removed there is nothing
        try:
            return self.tree.find(node, name)
        except (FileNotFoundError, NotADirectoryError, KeyError):
            raise StaleFileError(f"directory {parent} is not at its place any more") from None

    def _require(self, parent: int, name: bytes) -> Found:
        found = self._find(parent, name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(name))
        return found

    def _refuse_long(self, name: bytes) -> None:
        if len(name) > self._name_max:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), os.fsdecode(name))

    def _refuse_change(self, number: int) -> None:
        if self.control.owns(number):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def _refuse_existing(self, parent: int, name: bytes) -> None:
        """Refuse to remove, rename or replace anything of the control tree."""
        if self.control.owns(parent) or (parent == ROOT_NUMBER and name == STATE_DIRECTORY):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), os.fsdecode(name))

    def _refuse_new(self, parent: int, name: bytes) -> None:
        """Refuse a new name in the control tree, in a removed directory, too long, or an alias."""
        if self.control.owns(parent):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), os.fsdecode(name))
        self._refuse_long(name)
        node = self._node(parent)
        if self._is_removed(node):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(name))
        is_taken = parent == ROOT_NUMBER and name == STATE_DIRECTORY
        path = node.path()
        is_taken = is_taken or self._directories.lazy(join(path, name)) is not None
        if is_taken or self._jobs.behind_alias(path, name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(name))

    def _has_default_acl(self, directory: Node) -> bool:
        if directory.is_lazy:
            return _DEFAULT_ACL in self._lazy_xattrs(directory)
        try:
            with self.tree.held(directory) as held:
                os.getxattr(syscalls.descriptor_path(held), _DEFAULT_ACL)
        except OSError:
            return False
        return True

    def _lazy(self, node: Node) -> Directory:
        lazy = self._directories.lazy(node.path())
        assert lazy is not None
        return lazy

    def _lazy_xattrs(self, node: Node) -> dict[str, bytes]:
        """Return what a directory that was real, vanished and came back still has."""
        return {} if node.removed is not None else self._lazy(node).xattrs

    def _lazy_xattr(self, node: Node, name: bytes) -> bytes:
        value = self._lazy_xattrs(node).get(os.fsdecode(name))
        if value is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return value

    def _touch(self, directory: Node) -> None:
        """A lazy directory came or went in *directory*: its times change as for a real one."""
        now_ns = self._clock.wall_ns()
        if directory.is_lazy:
            lazy = self._lazy(directory)
            lazy.mtime_ns = lazy.ctime_ns = now_ns
            self._directories.change(lazy)
        else:
            syscalls.set_times(self._handles.open(directory.path()), b"", mtime_ns=now_ns)

    def _give_to_caller(self, directory_fd: int, descriptor: int, mode: int, caller: Caller) -> Stat:
        """Give a file that the daemon just made to who asked for it (a setgid parent keeps its group)."""
        status = syscalls.statx(descriptor)
        gid = status.gid if syscalls.statx(directory_fd).mode & stat.S_ISGID else caller.gid
        if (caller.uid, gid) != (status.uid, status.gid):
            os.fchown(descriptor, caller.uid, gid)
            if mode & (stat.S_ISUID | stat.S_ISGID):
                os.fchmod(descriptor, mode & 0o7777)
            status = syscalls.statx(descriptor)
        return status

    def _dress(self, directory_fd: int, name: bytes, mode: int | None, caller: Caller) -> None:
        """The same for what has no descriptor of its own: directories, nodes, links."""
        status = syscalls.statx(directory_fd, name)
        gid = status.gid if syscalls.statx(directory_fd).mode & stat.S_ISGID else caller.gid
        if (caller.uid, gid) == (status.uid, status.gid):
            return
        os.chown(name, caller.uid, gid, dir_fd=directory_fd, follow_symlinks=False)
        if mode is not None and mode & (stat.S_ISUID | stat.S_ISGID):
            with syscalls.held(directory_fd, name) as held:
                sgid = status.mode & stat.S_ISGID if stat.S_ISDIR(mode) else 0
                os.chmod(syscalls.descriptor_path(held), stat.S_IMODE(mode) | sgid)

    def _made_by_name(
        self, directory: Node, directory_fd: int, name: bytes, mode: int | None, caller: Caller
    ) -> Found:
        self._dress(directory_fd, name, mode, caller)
        return self._made(directory, name, syscalls.statx(directory_fd, name), caller)

    def _made(self, directory: Node, name: bytes, status: Stat, caller: Caller) -> Found:
        path = directory.path()
        self.recorder.created(join(path, name), status, caller)
        return self.tree.found(directory, path, name, status, recorded=True)

    def _looked_up(self, found: Found) -> Answered:
        found.node.lookups += 1
        return self._answered(found)

    def _answered(self, found: Found) -> Answered:
        """Return the entry; where names can't be aged, one that may be hidden is asked for each time."""
        if self._kernel.can_age_names or self._jobs.of(found.node.path()) is None:
            return Answered(found.status)
        return Answered(found.status, entry_timeout_s=0.0)
