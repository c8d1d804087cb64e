"""A number keeps its meaning for as long as the kernel, a handle or a child refers to it."""

import stat
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lffs.fs.inodes import ROOT_NUMBER, InodeTable, Node
from lffs.syscalls import Stat

FIRST_FRESH = 1 << 48
DEVICE = 5


def make_stat(ino: int, *, birth_ns: int = 1, is_directory: bool = False, dev: int = DEVICE) -> Stat:
    kind = stat.S_IFDIR if is_directory else stat.S_IFREG
    return Stat(mode=kind | 0o755, ino=ino, dev=dev, birth_ns=birth_ns)


class Table:
    """An inode table with a list of what left it."""

    def __init__(self) -> None:
        self.dropped: list[Node] = []
        self.nodes = InodeTable(make_stat(2, is_directory=True), self.dropped.append)
        self._fresh = count(FIRST_FRESH)

    def add(self, name: bytes, ino: int, parent: Node | None = None, *, is_directory: bool = False) -> Node:
        """Look a name up, as the kernel does."""
        status = make_stat(ino, is_directory=is_directory)
        node = self.nodes.backed_by(status) or self.nodes.add_backed(status, ino, next(self._fresh))
        self.nodes.attach(node, parent or self.nodes.root, name)
        node.lookups += 1
        return node


def test_a_number_is_the_backing_inodes() -> None:
    table = Table()
    assert table.add(b"a", 10).number == 10


def test_the_root_is_never_dropped() -> None:
    table = Table()
    table.nodes.forget(ROOT_NUMBER, 100)
    assert table.nodes.numbers() == [ROOT_NUMBER]


def test_a_forgotten_inode_is_dropped_and_said_so() -> None:
    table = Table()
    node = table.add(b"a", 10)
    table.add(b"a", 10)
    table.nodes.forget(10, 1)
    assert table.dropped == []
    table.nodes.forget(10, 1)
    assert table.dropped == [node]
    assert table.nodes.get(10) is None
    assert table.nodes.named(table.nodes.root, b"a") is None


def test_a_handle_keeps_an_inode_that_the_kernel_forgot() -> None:
    table = Table()
    node = table.add(b"a", 10)
    table.nodes.opened(node, writable=True)
    table.nodes.forget(10, 1)
    assert list(table.nodes.writers()) == [node]
    table.nodes.closed(node, writable=True)
    assert table.dropped == [node]


def test_children_keep_their_parents_and_the_last_one_lets_them_go() -> None:
    table = Table()
    directory = table.add(b"d", 10, is_directory=True)
    below = table.add(b"e", 11, directory, is_directory=True)
    file = table.add(b"f", 12, below)
    table.nodes.forget(10, 1)
    table.nodes.forget(11, 1)
    assert file.path() == b"d/e/f"
    table.nodes.forget(12, 1)
    assert set(table.dropped) == {directory, below, file}


def test_a_renamed_directory_takes_everything_below_along() -> None:
    table = Table()
    directory = table.add(b"d", 10, is_directory=True)
    file = table.add(b"f", 11, directory)
    other = table.add(b"o", 12, is_directory=True)
    table.nodes.rename(table.nodes.root, b"d", other, b"n")
    assert file.path() == b"o/n/f"
    assert table.nodes.at(b"o/n/f") is file
    assert table.nodes.at(b"d/f") is None


def test_a_rename_takes_the_target_its_name() -> None:
    table = Table()
    source, target = table.add(b"a", 10), table.add(b"b", 11)
    table.nodes.rename(table.nodes.root, b"a", table.nodes.root, b"b")
    assert table.nodes.at(b"b") is source
    assert table.nodes.get(11) is target  # the kernel still knows the number
    with pytest.raises(KeyError):
        target.path()


def test_a_rename_of_what_nobody_looked_up_takes_the_target_its_name_too() -> None:
    table = Table()
    target = table.add(b"b", 11)
    table.nodes.rename(table.nodes.root, b"a", table.nodes.root, b"b")
    assert table.nodes.at(b"b") is None
    assert not target.dentries


def test_a_hard_link_is_one_inode_with_two_names() -> None:
    table = Table()
    first, second = table.add(b"a", 10), table.add(b"b", 10)
    assert first is second
    table.nodes.detach(table.nodes.root, b"a")
    assert first.path() == b"b"


def test_a_directory_has_one_name() -> None:
    """It was renamed beside lffs: the old name is stale."""
    table = Table()
    directory = table.add(b"old", 10, is_directory=True)
    table.add(b"new", 10, is_directory=True)
    assert directory.path() == b"new"
    assert table.nodes.at(b"old") is None


def test_a_number_that_the_kernel_knows_for_a_removed_file_is_not_given_away() -> None:
    """ext4 gives the inode to the next file at once, with the old file's pages still in the cache."""
    table = Table()
    old = table.add(b"a", 10)
    table.nodes.unback(old)
    table.nodes.detach(table.nodes.root, b"a")
    new = table.nodes.add_backed(make_stat(10, birth_ns=2), 10, FIRST_FRESH)
    assert (old.number, new.number) == (10, FIRST_FRESH)
    assert table.nodes.get(10) is old
    assert table.nodes.backed_by(make_stat(10, birth_ns=2)) is new


def test_a_reused_inode_is_told_from_the_old_file_by_its_birth() -> None:
    table = Table()
    table.add(b"a", 10)
    assert table.nodes.backed_by(make_stat(10, birth_ns=2)) is None
    assert table.nodes.backed_by(make_stat(10, dev=6)) is None


def test_dropping_the_old_file_does_not_take_the_new_ones_backing() -> None:
    table = Table()
    old = table.add(b"a", 10)
    table.nodes.detach(table.nodes.root, b"a")
    new = table.nodes.add_backed(make_stat(10, birth_ns=2), 10, FIRST_FRESH)
    new.lookups += 1
    table.nodes.forget(10, 1)
    assert table.dropped == [old]
    assert table.nodes.backed_by(make_stat(10, birth_ns=2)) is new


def test_a_lazy_directory_keeps_its_number_when_it_is_made() -> None:
    table = Table()
    lazy = table.nodes.add_lazy(FIRST_FRESH)
    before = lazy.is_lazy
    table.nodes.back(lazy, make_stat(20, is_directory=True))
    assert (before, lazy.is_lazy) == (True, False)
    assert table.nodes.backed_by(make_stat(20, is_directory=True)) is lazy
    assert lazy.number == FIRST_FRESH


NAMES = [b"a", b"b", b"c"]
numbers = st.integers(0, 10**6)


class NumbersKeepTheirMeaning(RuleBasedStateMachine):
    """The oracle is a disk as a dict: directory → name → file id; ids are never used twice, inodes are."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.root = 0
        self.inode_of = {self.root: 2}
        self.names: dict[int, dict[bytes, int]] = {self.root: {}}  # directories by id
        self.born = count(1)
        self.birth_of = {self.root: 1}
        self.known: dict[int, int] = {}  # number → id, for as long as the kernel knows it
        self.counts: dict[int, int] = {}
        self.open: list[tuple[Node, int]] = []

    def place(self, number: int) -> tuple[int, bytes] | None:
        """Some name on the disk: (directory's id, name)."""
        places = sorted((directory, name) for directory in self.reachable() for name in self.names[directory])
        return places[number % len(places)] if places else None

    def reachable(self) -> list[int]:
        found, pending = [], [self.root]
        while pending:
            directory = pending.pop()
            found.append(directory)
            pending += [child for child in self.names[directory].values() if child in self.names]
        return sorted(found)

    def path_of(self, wanted: int) -> bytes | None:
        pending = [(self.root, b"")]
        while pending:
            directory, path = pending.pop()
            if directory == wanted:
                return path
            for name, child in self.names[directory].items():
                if child in self.names:
                    pending.append((child, (path + b"/" + name).lstrip(b"/")))
        return None

    def linked(self, file: int) -> bool:
        return any(file in self.names[directory].values() for directory in self.reachable())

    def status(self, file: int) -> Stat:
        return make_stat(self.inode_of[file], birth_ns=self.birth_of[file], is_directory=file in self.names)

    def node_at(self, directory: int) -> Node:
        """Look the directory up from the root, as the kernel must have before any operation in it."""
        path = self.path_of(directory)
        assert path is not None
        node, above = self.table.nodes.root, self.root
        for name in path.split(b"/") if path else []:
            above = self.names[above][name]
            node = self.look_up(node, name, above)
        return node

    def look_up(self, parent: Node, name: bytes, file: int) -> Node:
        nodes, status = self.table.nodes, self.status(file)
        node = nodes.backed_by(status) or nodes.add_backed(status, status.ino, FIRST_FRESH + next(self.born))
        nodes.attach(node, parent, name)
        node.lookups += 1
        self.counts[node.number] = self.counts.get(node.number, 0) + 1
        assert self.known.setdefault(node.number, file) == file
        return node

    @rule(where=numbers, name=st.sampled_from(NAMES), is_directory=st.booleans())
    def make(self, where: int, name: bytes, is_directory: bool) -> None:
        directories = self.reachable()
        directory = directories[where % len(directories)]
        if name in self.names[directory]:
            return
        birth = next(self.born)
        file = max(self.inode_of) + 1
        in_use = {self.inode_of[one] for one in self.inode_of if one == self.root or self.linked(one)}
        self.inode_of[file] = next(ino for ino in count(10) if ino not in in_use)  # reused at once
        self.birth_of[file] = birth
        self.names[directory][name] = file
        if is_directory:
            self.names[file] = {}
        self.look_up(self.node_at(directory), name, file)

    @rule(which=numbers)
    def lookup(self, which: int) -> None:
        if (place := self.place(which)) is not None:
            self.look_up(self.node_at(place[0]), place[1], self.names[place[0]][place[1]])

    @rule(which=numbers, where=numbers, name=st.sampled_from(NAMES))
    def link(self, which: int, where: int, name: bytes) -> None:
        place, directories = self.place(which), self.reachable()
        if place is None or self.names[place[0]][place[1]] in self.names:
            return
        file, directory = self.names[place[0]][place[1]], directories[where % len(directories)]
        if name not in self.names[directory]:
            self.names[directory][name] = file
            self.look_up(self.node_at(directory), name, file)

    @rule(which=numbers)
    def unlink(self, which: int) -> None:
        place = self.place(which)
        if place is None:
            return
        directory, name = place
        file = self.names[directory][name]
        if self.names.get(file):
            return
        node = self.look_up(self.node_at(directory), name, file)
        parent = self.node_at(directory)
        del self.names[directory][name]
        if not self.linked(file):
            self.table.nodes.unback(node)
        self.table.nodes.detach(parent, name)

    @rule(which=numbers, where=numbers, name=st.sampled_from(NAMES))
    def rename(self, which: int, where: int, name: bytes) -> None:
        place, directories = self.place(which), self.reachable()
        if place is None:
            return
        file, directory = self.names[place[0]][place[1]], directories[where % len(directories)]
        path, target_path = self.path_of(file), self.path_of(directory)
        assert target_path is not None
        if file in self.names and path is not None and (target_path + b"/").startswith(path + b"/"):
            return  # below itself
        target = self.names[directory].get(name)
        if target == file or (target is not None and (target in self.names) != (file in self.names)):
            return
        if target is not None and self.names.get(target):
            return
        parent, new_parent = self.node_at(place[0]), self.node_at(directory)
        del self.names[place[0]][place[1]]
        self.names[directory][name] = file
        if target is not None and not self.linked(target):
            known = self.table.nodes.named(new_parent, name)
            if known is not None:
                self.table.nodes.unback(known)
        self.table.nodes.rename(parent, place[1], new_parent, name)

    @rule(which=numbers, writable=st.booleans())
    def open_one(self, which: int, writable: bool) -> None:
        place = self.place(which)
        if place is not None and len(self.open) < 3:
            node = self.look_up(self.node_at(place[0]), place[1], self.names[place[0]][place[1]])
            self.table.nodes.opened(node, writable=writable)
            self.open.append((node, writable))

    @rule(which=numbers)
    def close_one(self, which: int) -> None:
        if self.open:
            node, writable = self.open.pop(which % len(self.open))
            self.table.nodes.closed(node, writable=bool(writable))
            self.forget_dropped()

    @rule(which=numbers, all_of_it=st.booleans())
    def forget(self, which: int, all_of_it: bool) -> None:
        if not self.counts:
            return
        number = sorted(self.counts)[which % len(self.counts)]
        times = self.counts[number] if all_of_it else 1
        self.table.nodes.forget(number, times)
        self.counts[number] -= times
        if not self.counts[number]:
            del self.counts[number]
        self.forget_dropped()

    def forget_dropped(self) -> None:
        for number in [number for number in self.known if self.table.nodes.get(number) is None]:
            assert number not in self.counts
            del self.known[number]

    @invariant()
    def what_the_kernel_knows_is_still_that_file(self) -> None:
        for number, file in self.known.items():
            node = self.table.nodes[number]
            assert node.number == number
            assert (node.ino, node.birth_ns) == (self.inode_of[file], self.birth_of[file])
            assert node.is_directory == (file in self.names)

    @invariant()
    def every_name_leads_where_the_disk_says(self) -> None:
        for number, file in self.known.items():
            node = self.table.nodes[number]
            for parent, name in node.dentries:
                directory = self.root if parent is self.table.nodes.root else self.known[parent.number]
                assert self.names[directory][name] == file

    @invariant()
    def nothing_is_kept_that_nobody_needs(self) -> None:
        open_now = {node for node, _ in self.open}
        for number in self.table.nodes.numbers():
            node = self.table.nodes[number]
            assert node.number in self.counts or node in open_now or node.children or number == ROOT_NUMBER
            assert node.children == sum(
                parent is node for other in map(self.table.nodes.__getitem__, self.table.nodes.numbers())
                for parent, _ in other.dentries
            )  # fmt: skip


TestNumbersKeepTheirMeaning = NumbersKeepTheirMeaning.TestCase
TestNumbersKeepTheirMeaning.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
