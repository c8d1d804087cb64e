"""A reader of a directory meets each name that stays exactly once, whatever comes and goes meanwhile."""

from hypothesis import given
from hypothesis import strategies as st

from lffs.fs.answers import Answered
from lffs.fs.inodes import Node
from lffs.fs.listing import Listing
from lffs.syscalls import Stat

DIRECTORY = Node(1, is_directory=True)


class Names:
    """A directory: names, each with an inode number of its own."""

    def __init__(self, names: set[bytes]) -> None:
        self.now = set(names)

    def shown(self) -> dict[bytes, bytes]:
        return {b".": b".", b"..": b".."} | {name: name for name in sorted(self.now)}

    def entry_of(self, node: Node, name: bytes) -> Answered | None:
        if name not in self.now and name not in (b".", b".."):
            return None
        return Answered(Stat(mode=0o100644, ino=int.from_bytes(name, "big")))


def read(listing: Listing, names: Names, offset: int, at_most: int) -> list[tuple[bytes, int]]:
    """What one request returns: (name, position) of as many entries as fit."""
    found: list[tuple[bytes, int]] = []
    for name, _, position, _ in listing.entries(offset, names.entry_of):
        if len(found) == at_most:
            break
        found.append((name, position))
    return found


names = st.binary(min_size=1, max_size=3).filter(lambda name: b"/" not in name and name.strip(b"."))
name_sets = st.sets(names, max_size=12)


@given(
    staying=name_sets,
    changes=st.lists(st.tuples(name_sets, name_sets, st.integers(1, 5)), max_size=6),
)
def test_what_stays_is_met_exactly_once(
    staying: set[bytes], changes: list[tuple[set[bytes], set[bytes], int]]
) -> None:
    directory = Names(staying)
    listing = Listing(DIRECTORY)
    listing.refresh(directory.shown())
    met: list[bytes] = []
    offset = 0
    for come, go, at_most in [*changes, (set(), set(), 1000)]:
        directory.now = (directory.now | come) - go | staying
        for name, position in read(listing, directory, offset, at_most):
            met.append(name)
            assert position > offset
            offset = position
    assert len(met) == len(set(met))
    assert set(met) >= staying | {b".", b".."}


@given(before=name_sets, after=name_sets, position=st.integers(0, 20))
def test_a_position_stays_good_after_rewinding(before: set[bytes], after: set[bytes], position: int) -> None:
    """telldir, rewinddir by another reader of the handle, seekdir."""
    directory = Names(before)
    listing = Listing(DIRECTORY)
    listing.refresh(directory.shown())
    rest = [name for name, _ in read(listing, directory, position, 1000)]
    directory.now = before | after
    listing.refresh(directory.shown())
    again = [name for name, _ in read(listing, directory, position, 1000)]
    assert [name for name in again if name in before or name in (b".", b"..")] == rest
    assert set(again) - set(rest) <= after


def test_the_dots_come_first_and_are_not_counted() -> None:
    directory = Names({b"a"})
    listing = Listing(DIRECTORY)
    listing.refresh(directory.shown())
    entries = [(name, counted) for name, _, _, counted in listing.entries(0, directory.entry_of)]
    assert entries == [(b".", 0), (b"..", 0), (b"a", ord("a"))]


def test_what_was_removed_since_is_left_out() -> None:
    directory = Names({b"a", b"b"})
    listing = Listing(DIRECTORY)
    listing.refresh(directory.shown())
    directory.now = {b"b"}
    assert [name for name, _ in read(listing, directory, 2, 10)] == [b"b"]


def test_nothing_comes_after_the_end() -> None:
    directory = Names({b"a"})
    listing = Listing(DIRECTORY)
    listing.refresh(directory.shown())
    assert read(listing, directory, 3, 10) == []
    assert read(listing, directory, 1 << 62, 10) == []
