"""The inode table: which file each inode number of the mount stands for.

The kernel counts how often it was told of each number, the lookup count.  A number with a count
above zero keeps its meaning, even without a name: the unlinked file may still be open.  A file is
known by device, inode and birth time, never by path; its names are dentries, (parent, name), so that
a renamed directory takes everything below it along.  This module opens no file and knows no FUSE.
"""

from collections.abc import Callable, Iterable

from lffs.syscalls import Stat

ROOT_NUMBER = 1


class Node:
    """One inode that the kernel, or a handle, or a child still refers to."""

    __slots__ = (
        "birth_ns", "children", "dentries", "dev", "held_fd", "hidden", "ino", "is_directory", "lookups",
        "number", "opens", "removed", "writers",
    )  # fmt: skip

    def __init__(self, number: int, *, is_directory: bool) -> None:
        self.number = number
        self.is_directory = is_directory
        self.dev = 0  # of the backing file; 0: a lazy directory
        self.ino = 0
        self.birth_ns = 0
        self.dentries: dict[tuple[Node, bytes], None] = {}
        self.children = 0  # dentries whose parent this is
        self.lookups = 0
        self.opens = 0  # handles
        self.writers = 0  # handles that may write
        self.hidden = False  # lffs took its name; by path it must not be opened any more
        self.held_fd: int | None = None  # O_PATH, of a removed one that the kernel still knows
        self.removed: Stat | None = None  # what a removed lazy directory's stat was

    @property
    def is_lazy(self) -> bool:
        return self.ino == 0

    def path(self) -> bytes:
        """Return the path below BACKING by the first of its names; ``b""`` for the root.

        Raises KeyError for one without a name.
        """
        parts = []
        node = self
        while node.number != ROOT_NUMBER:
            try:
                node, name = next(iter(node.dentries))
            except StopIteration:
                raise KeyError(node.number) from None
            parts.append(name)
        return b"/".join(reversed(parts))


class InodeTable:
    """The nodes by number, by backing file and by name."""

    def __init__(self, root: Stat, dropped: Callable[[Node], None]) -> None:
        """*dropped* is told of each node that leaves the table."""
        self._dropped = dropped
        self.root = Node(ROOT_NUMBER, is_directory=True)
        self.root.dev, self.root.ino, self.root.birth_ns = root.dev, root.ino, root.birth_ns
        self.root.lookups = 1  # the kernel never looks the root up, nor forgets it
        self._by_number = {ROOT_NUMBER: self.root}
        self._by_backing = {(root.dev, root.ino): self.root}
        self._by_name: dict[tuple[Node, bytes], Node] = {}
        self._writing: dict[Node, None] = {}  # few, and asked for once a file that is hidden

    def __len__(self) -> int:
        return len(self._by_number)

    def __getitem__(self, number: int) -> Node:
        return self._by_number[number]

    def numbers(self) -> list[int]:
        """Return every number in use."""
        return list(self._by_number)

    def get(self, number: int) -> Node | None:
        """Return the node with this number, or None."""
        return self._by_number.get(number)

    def named(self, parent: Node, name: bytes) -> Node | None:
        """Return the node that this name stood for when it was last seen."""
        return self._by_name.get((parent, name))

    def at(self, path: bytes) -> Node | None:
        """Return the node at *path*, if every node on the way is known."""
        node: Node | None = self.root
        for name in path.split(b"/") if path else []:
            if node is None:
                return None
            node = self._by_name.get((node, name))
        return node

    def backed_by(self, status: Stat) -> Node | None:
        """Return the node of this very backing file, or None."""
        node = self._by_backing.get((status.dev, status.ino))
        if node is None or node.birth_ns != status.birth_ns:
            return None
        return node

    def add_backed(self, status: Stat, number: int, fresh_number: int) -> Node:
        """Return a new node for a backing file, with *number* if that is free, else *fresh_number*.

        A number is not free while the kernel knows it for a file that was removed: the backing
        filesystem gives its inode away again, the kernel's pages of the old one are still there.
        """
        if number in self._by_number:
            number = fresh_number
        node = Node(number, is_directory=status.is_directory)
        self._by_number[number] = node
        self.back(node, status)
        return node

    def add_lazy(self, number: int) -> Node:
        """Return a new node for a lazy directory."""
        node = Node(number, is_directory=True)
        self._by_number[number] = node
        return node

    def back(self, node: Node, status: Stat) -> None:
        """Say which backing file the node stands for: it was found, or just made for real."""
        node.dev, node.ino, node.birth_ns = status.dev, status.ino, status.birth_ns
        self._by_backing[status.dev, status.ino] = node

    def revive(self, node: Node) -> None:
        """A directory that had vanished is there again, lazy as yet."""
        node.removed, node.hidden = None, False
        node.dev = node.ino = node.birth_ns = 0

    def unback(self, node: Node) -> None:
        """The node's backing file is gone; its inode may come again as another file."""
        if self._by_backing.get((node.dev, node.ino)) is node:
            del self._by_backing[node.dev, node.ino]

    def attach(self, node: Node, parent: Node, name: bytes) -> None:
        """*name* in *parent* stands for *node* now; what it stood for before loses it."""
        before = self._by_name.get((parent, name))
        if before is node:
            return
        if before is not None:
            self.detach(parent, name)
        if node.is_directory:  # it has one name; a stale one, renamed beside lffs, goes
            for old_parent, old_name in list(node.dentries):
                self.detach(old_parent, old_name)
        self._by_name[parent, name] = node
        node.dentries[parent, name] = None
        parent.children += 1

    def detach(self, parent: Node, name: bytes) -> Node | None:
        """*name* in *parent* stands for nothing any more; return what it stood for."""
        node = self._by_name.pop((parent, name), None)
        if node is not None:
            del node.dentries[parent, name]
            parent.children -= 1
            self._drop_unused(parent)
            self._drop_unused(node)
        return node

    def rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        """Follow a rename: the node of the old name, if known, has the new one."""
        node = self._by_name.get((parent, name))
        if node is None:
            self.detach(new_parent, new_name)
            return
        node.lookups += 1  # so that losing the old name does not drop it
        self.detach(parent, name)
        self.attach(node, new_parent, new_name)
        node.lookups -= 1

    def forget(self, number: int, count: int) -> None:
        """The kernel forgot the number *count* times."""
        node = self._by_number.get(number)
        if node is not None and node is not self.root:
            node.lookups -= count
            self._drop_unused(node)

    def opened(self, node: Node, *, writable: bool) -> None:
        """Count a handle."""
        node.opens += 1
        if writable:
            node.writers += 1
            self._writing[node] = None

    def closed(self, node: Node, *, writable: bool) -> None:
        """Uncount a handle."""
        node.opens -= 1
        if writable:
            node.writers -= 1
            if not node.writers:
                del self._writing[node]
        self._drop_unused(node)

    def writers(self) -> Iterable[Node]:
        """Return the nodes that are open for writing."""
        return list(self._writing)

    def _drop_unused(self, node: Node) -> None:
        """Drop the node when neither kernel nor handle nor child needs it; then its parents."""
        pending = [node]
        while pending:
            node = pending.pop()
            if node.lookups > 0 or node.opens or node.children or node is self.root:
                continue
            if self._by_number.get(node.number) is not node:
                continue
            del self._by_number[node.number]
            self.unback(node)
            for parent, name in node.dentries:
                if self._by_name.get((parent, name)) is node:
                    del self._by_name[parent, name]
                parent.children -= 1
                pending.append(parent)
            node.dentries.clear()
            self._dropped(node)
