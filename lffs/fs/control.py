"""The control tree, MOUNTPOINT/.lffs: what lffs knows, as files to read.

It resolves but is never listed, is made anew at each look, and nobody can change it.  What mirrors a
job or a hidden file is as readable as that is: the directories take their modes and owners.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lffs import syscalls
from lffs.fs.answers import Answered, Opened
from lffs.fs.inodes import ROOT_NUMBER
from lffs.handles import join, split
from lffs.jobs import NAME_MAX, suffixed
from lffs.manifest.export import encode
from lffs.manifest.records import Job
from lffs.model import FINAL_TYPES, JobStatus
from lffs.syscalls import Stat

if TYPE_CHECKING:
    from lffs.backing import Backing

_FIRST_NUMBER = 1 << 52
_FIRST_HANDLE = 1 << 52
_READ_ONLY = 0o555
_BY_STATUS = {
    b"running": frozenset({JobStatus.RUNNING}),
    b"completed": frozenset({JobStatus.COMPLETED, JobStatus.CLEANING_UP, JobStatus.CLEANED}),
    b"failed": frozenset({JobStatus.FAILED}),
}


class _Item(Protocol):
    """Something in the control tree."""

    def status(self) -> Stat: ...


@dataclass(frozen=True, slots=True)
class _Directory:
    children: Callable[[], dict[bytes, "_Item"]]
    like: Callable[[], Stat | None] = lambda: None  # whose mode and owner it takes

    def child(self, name: bytes) -> "_Item | None":
        """Return one entry, or None."""
        return self.children().get(name)

    def status(self) -> Stat:
        like = self.like()
        mode = _READ_ONLY if like is None else like.mode & _READ_ONLY
        uid, gid = (0, 0) if like is None else (like.uid, like.gid)
        return Stat(mode=stat.S_IFDIR | mode, ino=0, nlink=2, uid=uid, gid=gid)


@dataclass(frozen=True, slots=True)
class _Link:
    target: bytes

    def status(self) -> Stat:
        return Stat(mode=stat.S_IFLNK | 0o777, ino=0, size=len(self.target))


@dataclass(frozen=True, slots=True)
class _Text:
    """Text that is made when it is opened.

    What takes long to make (a job's manifest) has size 0 until then, as the files of /proc have.
    """

    content: Callable[[], bytes]
    like: Callable[[], Stat | None] = lambda: None
    is_small: bool = True

    def status(self) -> Stat:
        like = self.like()
        mode = 0o444 if like is None else like.mode & 0o444
        uid, gid = (0, 0) if like is None else (like.uid, like.gid)
        size = len(self.content()) if self.is_small else 0
        return Stat(mode=stat.S_IFREG | mode, ino=0, uid=uid, gid=gid, size=size)


@dataclass(frozen=True, slots=True)
class _Hidden:
    """A file or directory in the trash, as it lies there."""

    backing: "Backing"
    path: bytes  # below the trash

    def status(self) -> Stat:
        directory, name = split(self.path)
        found = syscalls.statx(self.backing.trash.open(directory), name)
        found.mode &= ~0o222
        if self._has_acl():
            found.mode &= ~0o077  # nobody is told of the ACL here, so its group bits would mislead
        return found

    def _has_acl(self) -> bool:
        directory, name = split(self.path)
        xattrs = syscalls.all_xattrs(self.backing.trash.open(directory), name)
        return "system.posix_acl_access" in xattrs

    def child(self, name: bytes) -> "_Item | None":
        """Return one entry: asked for each name of a listing, so it must not make the listing anew."""
        try:
            is_there = syscalls.exists(self.backing.trash.open(self.path), name)
        except NotADirectoryError:
            return None
        return _Hidden(self.backing, join(self.path, name)) if is_there else None

    def children(self) -> dict[bytes, _Item]:
        descriptor = self.backing.trash.open(self.path)
        names = [os.fsencode(entry.name) for entry in syscalls.list_directory(descriptor)]
        return {name: _Hidden(self.backing, join(self.path, name)) for name in names}

    def open(self) -> int:
        directory, name = split(self.path)
        return os.open(
            name,
            os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK,
            dir_fd=self.backing.trash.open(directory),
        )

    def target(self) -> bytes:
        directory, name = split(self.path)
        return os.readlink(name, dir_fd=self.backing.trash.open(directory))


class ControlTree:
    """Nodes of the control tree are paths; each has a number for as long as the kernel knows it."""

    def __init__(self, backing: "Backing") -> None:
        self._backing = backing
        self.texts: dict[bytes, Callable[[], bytes]] = {}  # metrics, health, version: the daemon's
        self._numbers: dict[bytes, int] = {}
        self._paths: dict[int, bytes] = {}
        self._lookups: dict[int, int] = {}
        self._last_number = _FIRST_NUMBER
        self._handles: dict[int, bytes | int | list[tuple[bytes, bytes]]] = {}
        self._last_handle = _FIRST_HANDLE

    def owns(self, number: int) -> bool:
        """Tell whether the inode number is one of the control tree's."""
        return number >= _FIRST_NUMBER

    def owns_handle(self, handle: int) -> bool:
        """Tell whether the handle is one of the control tree's."""
        return handle >= _FIRST_HANDLE

    # -- what there is ------------------------------------------------------------------------

    def _resolve(self, path: bytes) -> _Item:
        """Return what is at a path below ``.lffs``.  Raises FileNotFoundError."""
        item: _Item = self._top()
        for name in path.split(b"/") if path else []:
            below = item.child(name) if isinstance(item, _Directory | _Hidden) else None
            if below is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(name))
            item = below
        return item

    def _top(self) -> _Directory:
        def children() -> dict[bytes, _Item]:
            live = self._backing.jobs.live()
            items: dict[bytes, _Item] = {
                b"manifests": self._by_job(live, self._manifest),
                b"trash": _Directory(lambda: self._by_job(self._with_trash(), self._trash_of).children()),
                b"outputs": self._by_job(live, self._outputs_of),
                b"by-status": _Directory(self._by_status),
            }
            items.update({name: _Text(content) for name, content in self.texts.items()})
            return items

        return _Directory(children)

    def _by_job(
        self,
        jobs: list[Job],
        leaf: Callable[[Job], tuple[bytes, _Item]],
        prefix: bytes = b"",
    ) -> _Directory:
        """Return a directory that has an entry for each job, nested as the job ids are."""

        def children() -> dict[bytes, _Item]:
            items: dict[bytes, _Item] = {}
            for job in jobs:
                below = job.path[len(prefix) + 1 :] if prefix else job.path
                first, slash, _ = below.partition(b"/")
                if not slash:
                    name, item = leaf(job)
                    items[name] = item
                elif first not in items:
                    deeper = join(prefix, first)
                    inside = [one for one in jobs if one.path.startswith(deeper + b"/")]
                    items[first] = self._by_job(inside, leaf, deeper)
            return items

        return _Directory(children, lambda: self._backing.status_of(prefix) if prefix else None)

    def _manifest(self, job: Job) -> tuple[bytes, _Item]:
        return split(job.path)[1] + b".json", _Text(
            lambda: encode(self._backing.manifest(job)),
            lambda: self._backing.status_of(job.path),
            is_small=False,
        )

    def _with_trash(self) -> list[Job]:
        numbers = self._backing.store.jobs_with_trash()
        return [job for job in self._backing.store.jobs(ended=True) if job.number in numbers]

    def _trash_of(self, job: Job) -> tuple[bytes, _Item]:
        name = split(job.path)[1]
        if job.ended_ns is not None and self._backing.jobs.at(job.path) is not None:
            name += b".~%d~" % job.number  # made anew since: that one has the plain name
        return name, _Hidden(self._backing, self._backing.trash.directory_of(job.number))

    def _by_status(self) -> dict[bytes, _Item]:
        return {
            name: self._by_job(
                [job for job in self._backing.jobs.live() if job.status in statuses],
                self._status_link,
            )
            for name, statuses in _BY_STATUS.items()
        }

    def _status_link(self, job: Job) -> tuple[bytes, _Item]:
        up = b"../" * (job.path.count(b"/") + 3)
        return suffixed(split(job.path)[1], job.status), _Link(up + job.path)

    def _outputs_of(self, job: Job) -> tuple[bytes, _Item]:
        def children() -> dict[bytes, _Item]:
            finals = [entry.path for entry, type_ in self._backing.typed_entries(job) if type_ in FINAL_TYPES]
            up = b"../" * (job.path.count(b"/") + 3)
            return {name: _Link(up + join(job.path, path)) for name, path in flat_names(finals).items()}

        return split(job.path)[1], _Directory(children, lambda: self._backing.status_of(job.path))

    # -- numbers ------------------------------------------------------------------------------

    def _number(self, path: bytes) -> int:
        number = self._numbers.get(path)
        if number is None:
            self._last_number += 1
            number = self._last_number
            self._numbers[path] = number
            self._paths[number] = path
        return number

    def _answer(self, path: bytes, item: _Item) -> Answered:
        status = item.status()
        status.ino = self._number(path)
        return Answered(status, entry_timeout_s=0.0, attr_timeout_s=0.0)

    def _path(self, number: int) -> bytes:
        path = self._paths.get(number)
        if path is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return path

    def listed(self, number: int) -> None:
        """The kernel counts one more reference."""
        self._lookups[number] = self._lookups.get(number, 0) + 1

    def forget(self, number: int, count: int) -> None:
        """The kernel dropped *count* references."""
        left = self._lookups.get(number, 0) - count
        if left > 0:
            self._lookups[number] = left
            return
        self._lookups.pop(number, None)
        path = self._paths.pop(number, None)
        if path is not None:
            self._numbers.pop(path, None)

    # -- operations ---------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Answered:
        """Find *name*; ``.lffs`` in the root is where the tree begins."""
        path = b"" if parent == ROOT_NUMBER else join(self._path(parent), name)
        try:
            answered = self._answer(path, self._resolve(path))
        except FileNotFoundError:
            return Answered(None, entry_timeout_s=0.0)
        assert answered.status is not None
        self.listed(answered.status.ino)
        return answered

    def getattr(self, number: int) -> Answered:
        """Return the attributes."""
        path = self._path(number)
        return self._answer(path, self._resolve(path))

    def readlink(self, number: int) -> bytes:
        """Return where the link leads."""
        item = self._resolve(self._path(number))
        if isinstance(item, _Link):
            return item.target
        if isinstance(item, _Hidden):
            return item.target()
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def open(self, number: int, flags: int) -> Opened:
        """Open for reading; what a text says is fixed here, so that it can be read in pieces.

        The kernel is to keep no pages: a number stands for a path, where another file may lie next.
        """
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        item = self._resolve(self._path(number))
        if isinstance(item, _Hidden):
            return Opened(self._add_handle(item.open()), direct_io=True)
        if isinstance(item, _Text):
            return Opened(self._add_handle(item.content()), direct_io=True)
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))

    def _add_handle(self, what: bytes | int | list[tuple[bytes, bytes]]) -> int:
        self._last_handle += 1
        self._handles[self._last_handle] = what
        return self._last_handle

    def read(self, handle: int, offset: int, size: int) -> bytes:
        """Read from a text or a hidden file."""
        what = self._handles[handle]
        if isinstance(what, int):
            return os.pread(what, size, offset)
        assert isinstance(what, bytes)
        return what[offset : offset + size]

    def release(self, handle: int) -> None:
        """Close a handle."""
        what = self._handles.pop(handle)
        if isinstance(what, int):
            os.close(what)

    def opendir(self, number: int) -> int:
        """Open for listing."""
        path = self._path(number)
        item = self._resolve(path)
        children = getattr(item, "children", None)
        names = sorted(children()) if children is not None else []
        return self._add_handle([(b".", path), (b"..", path), *((n, join(path, n)) for n in names)])

    def readdir(self, handle: int, offset: int) -> Iterator[tuple[bytes, Answered, int, int]]:
        """Yield entries like `Filesystem.readdir`."""
        listing = self._handles[handle]
        assert isinstance(listing, list)
        for position, (name, path) in enumerate(listing[offset:], offset + 1):
            try:
                answered = self._answer(path, self._resolve(path))
            except FileNotFoundError:
                continue
            assert answered.status is not None
            counted = 0 if name in (b".", b"..") else answered.status.ino
            yield name, answered, position, counted


def flat_names(paths: list[bytes]) -> dict[bytes, bytes]:
    """Return a flat name for each path: its last name, its parents in front where two share that.

    ``ko/shorts/x.mkv`` is ``x.mkv``, or ``ko_shorts_x.mkv`` beside another ``x.mkv``.  What would be
    longer than a name can be loses its beginning.
    """
    by_name: dict[bytes, list[bytes]] = {}
    for path in sorted(paths):
        by_name.setdefault(split(path)[1], []).append(path)
    flat: dict[bytes, bytes] = {}
    for name, sharing in sorted(by_name.items()):
        for path in sharing:
            wanted = name if len(sharing) == 1 else path.replace(b"/", b"_")
            unique, number = wanted[-NAME_MAX:], 2
            while unique in flat:  # a/b_c and a_b/c, both shared
                front = b"%d_" % number
                unique, number = front + wanted[len(front) - NAME_MAX :], number + 1
            flat[unique] = path
    return flat
