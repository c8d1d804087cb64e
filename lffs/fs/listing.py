"""One open directory: a listing whose positions stay good while the directory changes.

A position is a number that a name got when it was first listed, and keeps for as long as the
directory is open; a name that comes later gets a higher one.  So telldir, seekdir and a reader that
goes on after others made and removed files see no name twice and skip none that stayed.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator

from lffs.fs.answers import Answered
from lffs.fs.inodes import Node


class Listing:
    """The names of a directory handle in the order of their positions."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._positions: dict[bytes, int] = {}
        self._order: list[tuple[int, bytes, bytes]] = []
        self._last = 0

    def refresh(self, names: dict[bytes, bytes]) -> None:
        """Take the names anew (shown name → real name): the reader starts from the beginning."""
        for shown in names:
            if shown not in self._positions:
                self._last += 1
                self._positions[shown] = self._last
        self._order = sorted((self._positions[shown], shown, real) for shown, real in names.items())

    def entries(
        self, offset: int, entry_of: Callable[[Node, bytes], Answered | None]
    ) -> Iterator[tuple[bytes, Answered, int, int]]:
        """Yield (shown name, entry, its position, number to count as looked up) after *offset*.

        What was removed since the listing was taken is left out.
        """
        start = bisect_right(self._order, offset, key=lambda item: item[0])
        for index in range(start, len(self._order)):
            position, shown, real = self._order[index]
            entry = entry_of(self.node, real)
            if entry is None or entry.status is None:
                continue
            counted = 0 if shown in (b".", b"..") else entry.status.ino
            yield shown, entry, position, counted
