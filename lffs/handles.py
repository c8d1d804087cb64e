"""Open directories of the backing store, a bounded number of them, found again by walking.

The one way from a path below BACKING to a descriptor.  A directory that is not held is opened name
by name from the nearest one that is, following no link.  Nothing is known here of inode numbers or
jobs; who needs to be sure that a path still leads to the same directory compares identities.
"""

import os
import resource
from collections import OrderedDict

from lffs import syscalls

_MOST_OPEN, _FEWEST_OPEN = 1024, 16

ROOT = b""  # the path of the backing directory itself; paths never start or end with "/"


def split(path: bytes) -> tuple[bytes, bytes]:
    """Return the parent's path and the last name; ``b"a"`` gives ``(b"", b"a")``."""
    parent, _, name = path.rpartition(b"/")
    return parent, name


def join(parent: bytes, name: bytes) -> bytes:
    """Return the path of *name* in *parent*."""
    return parent + b"/" + name if parent else name


def is_within(path: bytes, ancestor: bytes) -> bool:
    """Tell whether *path* is *ancestor* or lies below it."""
    return not ancestor or path == ancestor or path.startswith(ancestor + b"/")


class DirectoryHandles:
    """O_PATH descriptors of directories by path, the least recently used closed first.

    A descriptor that `open` returns stays open until *limit* other directories have been opened,
    so an operation may use the few that it needs.  A thread takes an ``os.dup`` of it.
    """

    def __init__(self, root_fd: int, limit: int | None = None) -> None:
        """*limit* is by default a quarter of what the process may open: the rest is for open files."""
        self.root_fd = root_fd
        may_open = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._limit = limit or min(_MOST_OPEN, max(_FEWEST_OPEN, may_open // 4))
        self._open: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, path: bytes) -> int:
        """Return a descriptor of the directory at *path*.

        Raises FileNotFoundError or NotADirectoryError (a symbolic link on the way is one).
        """
        if not path:
            return self.root_fd
        held = self._open.get(path)
        if held is not None:
            self._open.move_to_end(path)
            return held
        descriptor = self._walk(path)
        self._open[path] = descriptor
        if len(self._open) > self._limit:
            os.close(self._open.popitem(last=False)[1])
        return descriptor

    def forget(self, path: bytes) -> None:
        """Close what is held of *path* and below: it was renamed, removed or may be another one."""
        below = path + b"/" if path else b""
        for known in [known for known in self._open if known == path or known.startswith(below)]:
            os.close(self._open.pop(known))

    def close(self) -> None:
        """Close every descriptor but the root's, which is the caller's."""
        self.forget(ROOT)

    def _walk(self, path: bytes) -> int:
        ancestor, rest = path, []
        while ancestor and ancestor not in self._open:
            ancestor, name = split(ancestor)
            rest.append(name)
        current, owned = (self._open[ancestor] if ancestor else self.root_fd), False
        for name in reversed(rest):
            try:
                below = syscalls.open_directory(current, name)
            finally:
                if owned:
                    os.close(current)
            current, owned = below, True
        return current
