"""Where the library's tests run: an unmounted store, and a mounted one, to be used alike."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from lffs.config import Settings
from lffs.library.session import Session, open_store
from tests.stores import FakeClock


class Place(Protocol):
    """A store whose clock the test sets; ``path`` is what the library is given and programs write to."""

    @property
    def path(self) -> Path: ...

    @property
    def backing(self) -> Path: ...

    def advance(self, hours: float) -> None: ...

    def verify(self) -> None:
        """Fail where the records say what the disk does not."""


@dataclasses.dataclass
class Unmounted:
    """A backing store, open in this thread for the whole test, so that its clock can stand still."""

    path: Path
    session: Session
    clock: FakeClock

    @property
    def backing(self) -> Path:
        return self.path

    def advance(self, hours: float) -> None:
        self.clock.advance(hours)

    def verify(self) -> None:
        found: dict[str, Any] = self.session.ask(lambda admin: admin.verify(False))
        # "missing" is no fault here: what nobody adds is in no manifest.
        assert {key: found[key] for key in ("phantom", "corrupt", "unowned")} == {
            "phantom": [], "corrupt": [], "unowned": [],
        }  # fmt: skip


@contextlib.contextmanager
def unmounted(path: Path, settings: Settings | None = None) -> Iterator[Unmounted]:
    """Open the store at *path*, made if need be, with a clock of its own."""
    path.mkdir(exist_ok=True)
    clock = FakeClock()
    with open_store(path, settings or Settings(), clock=clock) as session:
        yield Unmounted(path, session, clock)
