"""Open files: one backing descriptor a handle.

The kernel's writeback cache reads where a program only writes, so what is opened for writing is
opened for reading too; it numbers its own appends, so O_APPEND is dropped, or flushed pages would be
appended again; and O_DIRECT's alignment is the program's matter, not lffs's.
"""

import errno
import fcntl
import os
from dataclasses import dataclass

from lffs import syscalls
from lffs.errors import StaleFileError
from lffs.fs.inodes import Node
from lffs.fs.tree import Tree

_DROPPED = os.O_APPEND | os.O_DIRECT | os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_SYNC


def backing_flags(flags: int) -> int:
    """Return the flags that the backing file is opened with for a program's *flags*."""
    kept = flags & ~_DROPPED
    if flags & os.O_ACCMODE == os.O_WRONLY:
        kept = kept & ~os.O_ACCMODE | os.O_RDWR
    return kept | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(slots=True)
class OpenFile:
    """One handle."""

    node: Node
    descriptor: int
    is_writable: bool


class OpenFiles:
    """The handles of the mount by their numbers."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._handles: dict[int, OpenFile] = {}
        self._of_node: dict[Node, list[OpenFile]] = {}
        self._mtimes: dict[Node, int] = {}
        self._last = 0
        tree.open_descriptor = self.descriptor_of

    def __len__(self) -> int:
        return len(self._handles)

    def __getitem__(self, handle: int) -> OpenFile:
        return self._handles[handle]

    def descriptor_of(self, node: Node) -> int | None:
        """Return a descriptor of the node's file from one of its handles."""
        opened = self._of_node.get(node)
        return opened[0].descriptor if opened else None

    def add(self, node: Node, descriptor: int, flags: int) -> int:
        """Count a new handle and return its number."""
        self._last += 1
        writable = flags & os.O_ACCMODE != os.O_RDONLY
        opened = OpenFile(node, descriptor, writable)
        self._handles[self._last] = opened
        self._of_node.setdefault(node, []).append(opened)
        self._tree.nodes.opened(node, writable=writable)
        return self._last

    def open(self, node: Node, flags: int) -> int:
        """Open the node's file once more and return the handle.

        Raises StaleFileError for a file that is at none of its names: the kernel then looks the
        path up again, and finds that it is hidden, or the new file of that name.
        """
        if node.is_directory:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if node.dentries:
            place = self._tree.place(node)
            # Truncated only when it is known to be the file: a name can be swapped beside lffs.
            descriptor = _open(place.name, flags & ~os.O_TRUNC, place.directory_fd)
            status = syscalls.statx(descriptor)
            if (status.ino, status.dev) != (node.ino, node.dev):
                os.close(descriptor)
                raise StaleFileError(f"inode {node.number} was replaced just now")
            if flags & os.O_TRUNC:
                _truncate(descriptor)
        elif node.hidden:
            raise StaleFileError(f"inode {node.number} is hidden")
        elif node.held_fd is not None or self.descriptor_of(node) is not None:
            # Unlinked, and opened again through /proc/PID/fd or by who still has it.
            with self._tree.held(node) as held:
                descriptor = _open(syscalls.descriptor_path(held), flags, None)
        else:
            raise StaleFileError(f"inode {node.number} has no name any more")
        return self.add(node, descriptor, flags)

    def write(self, handle: int, offset: int, data: bytes) -> int:
        """Write at *offset*; return how many bytes were written."""
        opened = self._handles[handle]
        if opened.node not in self._mtimes:
            self._mtimes[opened.node] = syscalls.statx(opened.descriptor).mtime_ns
        return os.pwrite(opened.descriptor, data, offset)

    def mtime_was_set(self, node: Node) -> None:
        """The kernel said which time it holds for the file's last change."""
        self._mtimes.pop(node, None)

    def release(self, handle: int) -> OpenFile:
        """Close the handle; its node stays valid for the caller to look at."""
        opened = self._handles.pop(handle)
        if opened.is_writable and opened.node.writers == 1:
            # With the writeback cache the kernel owns mtime, and sets it after its writes unless
            # that did not change: a small file made and written within one tick of its clock.  The
            # write came a tick later; without this its mtime would jump when the kernel forgets it.
            mtime_ns = self._mtimes.pop(opened.node, None)
            if mtime_ns is not None:
                syscalls.set_times(opened.descriptor, b"", mtime_ns=mtime_ns)
        others = self._of_node[opened.node]
        others.remove(opened)
        if not others:
            del self._of_node[opened.node]
        os.close(opened.descriptor)
        self._tree.nodes.closed(opened.node, writable=opened.is_writable)
        return opened

    def numbers(self) -> list[int]:
        """Return the handles that are open."""
        return list(self._handles)


def _truncate(descriptor: int) -> None:
    """Do what O_TRUNC does; also to a file opened for reading, for which it is allowed."""
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        os.ftruncate(descriptor, 0)
        return
    writable = os.open(syscalls.descriptor_path(descriptor), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(writable, 0)
    finally:
        os.close(writable)


def _open(name: bytes, flags: int, directory_fd: int | None) -> int:
    wanted = backing_flags(flags)
    if directory_fd is None:
        wanted &= ~os.O_NOFOLLOW  # a magic link of /proc is the file itself
    try:
        return os.open(name, wanted, dir_fd=directory_fd)
    except PermissionError:
        if flags & os.O_ACCMODE != os.O_WRONLY:
            raise
        # Not root, and a file that may be written and not be read.
        return os.open(name, wanted & ~os.O_ACCMODE | os.O_WRONLY, dir_fd=directory_fd)
