"""The tree as the mount shows it: the backing store, the lazy directories, and jobs' other names.

Everything that turns a name or an inode number into a backing file goes through here, by directory
descriptor, and is checked: what lies at a node's place must be the node's file.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lffs import syscalls
from lffs.directories import FIRST_OWN_NUMBER, Directories, identity_of
from lffs.errors import StaleFileError
from lffs.fs.inodes import InodeTable, Node
from lffs.handles import DirectoryHandles, join, split
from lffs.jobs import STATE_DIRECTORY, Jobs
from lffs.manifest.records import Directory
from lffs.model import FileIdentity
from lffs.syscalls import Stat


@dataclass(frozen=True, slots=True)
class Found:
    """What a name in a directory leads to."""

    node: Node
    status: Stat  # as the mount shows it
    name: bytes  # the name it really has: not the alias that it may have been asked for by


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node's file lies now."""

    directory_fd: int
    name: bytes
    status: Stat  # the backing store's


class Tree:
    """Nodes, and where they are."""

    def __init__(
        self,
        handles: DirectoryHandles,
        directories: Directories,
        jobs: Jobs,
        met: Callable[[bytes, Stat], None],
        hidden_names: Callable[[FileIdentity], int],
    ) -> None:
        """*met* is told the path and stat of each real file or directory that becomes a node.

        *hidden_names* says how many of a file's names are in the trash.
        """
        self._handles = handles
        self._directories = directories
        self._jobs = jobs
        self._met = met
        self._hidden_names = hidden_names
        root = syscalls.statx(handles.root_fd)
        self.device = root.dev
        # ext4, xfs and tmpfs count a directory's subdirectories in its links, btrfs never does.
        self._counts_subdirectories = root.nlink > 1
        self.nodes = InodeTable(root, _release)
        self.open_descriptor: Callable[[Node], int | None] = lambda node: None  # set by OpenFiles

    # -- names --------------------------------------------------------------------------------

    def find(self, parent: Node, name: bytes) -> Found | None:
        """Return what *name* in *parent* leads to; None where there is no such name.

        A real entry wins over a lazy directory, both over another name of a job.
        """
        directory = parent.path()
        found = self._find_real(parent, directory, name)
        if found is None:
            found = self._find_lazy(parent, directory, name)
        if found is None:
            job = self._jobs.behind_alias(directory, name)
            if job is not None:
                return self.find(parent, split(job.path)[1])
        return found

    def _find_real(self, parent: Node, directory: bytes, name: bytes) -> Found | None:
        if parent.is_lazy:
            return None
        try:
            status = syscalls.statx(self._handles.open(directory), name)
        except FileNotFoundError:
            return None
        return self.found(parent, directory, name, status)

    def found(
        self, parent: Node, directory: bytes, name: bytes, status: Stat, *, recorded: bool = False
    ) -> Found:
        """Return the entry for a real file that was just looked at; makes its node if need be.

        *recorded* says that it was made through the mount just now: there is nothing to adopt.
        """
        node = self.nodes.backed_by(status)
        if node is None:
            path = join(directory, name)
            if self._directories.lazy(path) is not None and status.is_directory:
                self._directories.found_real(path, status)
                known = self.nodes.named(parent, name)
                if known is not None and known.is_lazy:
                    node = known
                    self.nodes.back(node, status)
            if node is None:
                node = self._revived(status) or self.nodes.add_backed(
                    status, self._number(status), self._directories.new_number()
                )
            if not recorded:
                self._met(path, status)
        self.nodes.attach(node, parent, name)
        return Found(node, self.shown(node, status), name)

    def _revived(self, status: Stat) -> Node | None:
        """Return the node of a directory that had vanished and is back, if the kernel kept it."""
        number = self._directories.number_of(identity_of(status)) if status.is_directory else None
        node = self.nodes.get(number) if number is not None else None
        if node is None or node.removed is None:
            return None
        self.nodes.revive(node)
        self.nodes.back(node, status)
        return node

    def _number(self, status: Stat) -> int:
        if status.dev != self.device or not self.nodes.root.number < status.ino < FIRST_OWN_NUMBER:
            return self._directories.new_number()  # one of the backing store's could be another's
        return self._directories.number_of(identity_of(status)) or status.ino

    def _find_lazy(self, parent: Node, directory: bytes, name: bytes) -> Found | None:
        path = join(directory, name)
        lazy = self._directories.lazy(path)
        if lazy is None:
            return None
        node = self.nodes.get(lazy.number) or self.nodes.add_lazy(lazy.number)
        if node.removed is not None:  # it had vanished, and somebody still stands in it
            self.nodes.revive(node)
        self.nodes.attach(node, parent, name)
        return Found(node, self._lazy_status(lazy), name)

    def names(self, node: Node) -> tuple[dict[bytes, None], frozenset[bytes]]:
        """Return the names of what is really in a directory and of the lazy ones beside them."""
        path = node.path()
        lazy = self._directories.lazy_names(path)
        if node.is_lazy:
            return {}, lazy
        real = {os.fsencode(entry.name): None for entry in syscalls.list_directory(self._handles.open(path))}
        if node is self.nodes.root:
            real.pop(STATE_DIRECTORY, None)
        return real, lazy - real.keys()

    # -- places -------------------------------------------------------------------------------

    def directory_fd(self, node: Node) -> int:
        """Return a descriptor of the directory, made for real first if it is lazy.

        Raises StaleFileError for one that was removed.
        """
        path = self._path(node)
        if not node.is_lazy:
            return self._handles.open(path)
        return self.materialise(path)

    def materialise(self, path: bytes) -> int:
        """Make a lazy directory and its parents for real, and say so to their nodes."""
        wanted = path
        self._directories.materialise(path)
        while path and (node := self.nodes.at(path)) is not None and node.is_lazy:
            parent, name = split(path)
            status = syscalls.statx(self._handles.open(parent), name)
            self.nodes.back(node, status)
            self._met(path, status)
            path = parent
        return self._handles.open(wanted)  # last: opening the parents may have closed it

    def place(self, node: Node) -> Place:
        """Return where the node's file lies.

        Raises StaleFileError where it lies at none of its names any more.
        """
        for parent, name in list(node.dentries):
            try:
                descriptor = self._handles.open(parent.path())
                status = syscalls.statx(descriptor, name)
            except (FileNotFoundError, NotADirectoryError, KeyError):
                continue
            if (status.ino, status.dev, status.birth_ns) == (node.ino, node.dev, node.birth_ns):
                return Place(descriptor, name, status)
        raise StaleFileError(f"inode {node.number} is not at its place any more")

    @contextlib.contextmanager
    def held(self, node: Node) -> Iterator[int]:
        """Hold the node's very file by an O_PATH descriptor while the block lasts."""
        held = node.held_fd if node.held_fd is not None else self.open_descriptor(node)
        if held is not None:
            yield held
            return
        if node is self.nodes.root:
            yield self._handles.root_fd
            return
        place = self.place(node)
        with syscalls.held(place.directory_fd, place.name) as descriptor:
            status = syscalls.statx(descriptor)
            if (status.ino, status.dev) != (node.ino, node.dev):
                raise StaleFileError(f"inode {node.number} was replaced just now")
            yield descriptor

    def keep_descriptor(self, node: Node) -> None:
        """Before a node loses its last name: keep a descriptor, for who still has it."""
        if node.lookups and not node.is_lazy and node.held_fd is None:
            with contextlib.suppress(OSError, StaleFileError):
                place = self.place(node)
                node.held_fd = os.open(
                    place.name,
                    os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC,
                    dir_fd=place.directory_fd,
                )

    # -- what stat says -----------------------------------------------------------------------

    def status(self, node: Node) -> Stat:
        """Return the node's attributes as the mount shows them.  Raises StaleFileError."""
        if node.removed is not None:
            return node.removed
        if node is self.nodes.root:
            return self.shown(node, syscalls.statx(self._handles.root_fd))
        if node.is_lazy:
            lazy = self._directories.lazy(self._path(node))
            if lazy is None:
                raise StaleFileError(f"inode {node.number} is no directory any more")
            return self._lazy_status(lazy)
        descriptor = node.held_fd if node.held_fd is not None else self.open_descriptor(node)
        if descriptor is not None:
            return self.shown(node, syscalls.statx(descriptor))
        return self.shown(node, self.place(node).status)

    def shown(self, node: Node, status: Stat) -> Stat:
        """Return a backing file's attributes as the mount shows them."""
        status.ino = node.number
        if not status.is_directory:
            # A file with several names may have some in the trash, where nobody sees them.
            if status.nlink > 1 or not node.dentries:
                identity = FileIdentity(node.ino, node.birth_ns)
                status.nlink = max(0, status.nlink - self._hidden_names(identity))
        elif self._counts_subdirectories and status.nlink:
            with contextlib.suppress(KeyError):
                path = node.path()
                status.nlink += len(self._directories.lazy_names(path))
            if node is self.nodes.root:
                status.nlink -= 1  # .lffs
        return status

    def _lazy_status(self, lazy: Directory) -> Stat:
        subdirectories = len(self._directories.lazy_names(lazy.path))
        return Stat(
            mode=stat.S_IFDIR | lazy.mode,
            ino=lazy.number,
            dev=self.device,
            nlink=2 + subdirectories if self._counts_subdirectories else 1,
            uid=lazy.uid,
            gid=lazy.gid,
            size=4096,
            blocks=8,
            atime_ns=lazy.atime_ns,
            mtime_ns=lazy.mtime_ns,
            ctime_ns=lazy.ctime_ns,
            birth_ns=lazy.birth_ns,
        )

    def _path(self, node: Node) -> bytes:
        try:
            return node.path()
        except KeyError:
            raise StaleFileError(f"inode {node.number} was removed") from None


def _release(node: Node) -> None:
    if node.held_fd is not None:
        os.close(node.held_fd)
        node.held_fd = None
