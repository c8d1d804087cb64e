"""Backups of the manifest store: copies by SQLite's own API, in generations, each checked.

STATE_DIR/backups holds the generations, numbered so that a clock set back confuses nothing, and
beside them what changes between two of them and no scan could find (lffs.manifest.said).  Copying a
store of a million entries (157 MB) takes 0.9 s with its fsync, checking it 0.6 s: in a thread, on a
connection of its own, which in WAL mode hinders no writer.
"""

import contextlib
import datetime
import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lffs.errors import StoreError
from lffs.manifest.said import SAID_NAME, what_is_said, write_said
from lffs.manifest.seal import sync_directory
from lffs.manifest.store import Store
from lffs.work import Work

if TYPE_CHECKING:
    from lffs.config import Settings

log = logging.getLogger(__name__)

BACKUPS_NAME = "backups"  # in the state directory
_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"manifest-(\d{8,18})-(\d{8}T\d{6}Z)\.db")
_DRAFT = ".new"
_BACKUP = "a backup of the manifest"
_HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class Generation:
    """One backup."""

    number: int  # the sequence of the store when it was made; an older store lost something since
    made_ns: int
    path: Path


def generations(directory: Path) -> list[Generation]:
    """Return the backups in *directory*, the newest first."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in directory.iterdir():
            with contextlib.suppress(ValueError):  # of a name that is nearly one
                found.append(_generation(path))
    return sorted(found, key=lambda one: one.number, reverse=True)


def _generation(path: Path) -> Generation:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path.name} is no backup")
    made = datetime.datetime.strptime(f"{match[2]}+0000", f"{_STAMP}%z")
    return Generation(int(match[1]), int(made.timestamp()) * 1_000_000_000, path)


class Backups:
    """When a store is backed up, and how."""

    def __init__(
        self,
        store: Store,
        pins: Callable[[], frozenset[bytes]],
        directory: Path,
        settings: "Settings",
        *,
        is_current: bool,
    ) -> None:
        """*is_current* says that the store is as its last user left it, at a clean end."""
        self._store = store
        self._pins = pins
        self._directory = directory
        newest = next(iter(generations(directory)), None)
        # What the store had written when the newest backup began; None: there is none of this store.
        is_covered = is_current and newest is not None and newest.number >= store.sequence()
        self._covered = store.changes if is_covered else None
        self._newest_ns = newest.made_ns if newest is not None else None
        self._complaints: set[str] = set()
        self.configure(settings)

    def configure(self, settings: "Settings") -> None:
        """Take over a new configuration; without backups nothing old stays that could be restored."""
        self._keep = settings.manifest.backups
        self._interval_ns = round(settings.manifest.backup_interval_hours * _HOUR_NS)
        if self._keep == 0:
            with self._complaining(_BACKUP):
                (self._directory / SAID_NAME).unlink(missing_ok=True)
                _prune(self._directory, 0)
            self._covered = self._newest_ns = None

    # -- when ---------------------------------------------------------------------------------

    @property
    def has_changes(self) -> bool:
        """Whether there is something to back up, and it is to be backed up at all."""
        return self._keep > 0 and not self._store.is_damaged and self._store.changes != self._covered

    def is_due(self, now_ns: int) -> bool:
        """Tell whether the interval is over since the newest backup, and something changed."""
        newest_ns = self._newest_ns
        if newest_ns is None or newest_ns > now_ns:  # none, or the clock was set back
            return self.has_changes
        return self.has_changes and newest_ns + self._interval_ns <= now_ns

    def wait_s(self, now_ns: int) -> float:
        """Return in how many seconds the interval is over; 0 if it is."""
        if self._newest_ns is None:
            return 0.0
        return max(0.0, (self._newest_ns + self._interval_ns - now_ns) / 1e9)

    # -- what people said ---------------------------------------------------------------------

    def save_said(self) -> None:
        """Write what people said, if it changed since; call it after a commit."""
        if self._store.said_changed and self._keep and not self._store.is_damaged:
            self._write_said()

    def note_changes(self) -> None:
        """The store is closed before a backup is due: let its next user know that one will be."""
        if self.has_changes:
            self._write_said()

    def start_over(self, beyond: int) -> None:
        """The store was recovered: from now on it is newer than what has the number *beyond*."""
        self._write_said(beyond)

    def _write_said(self, beyond: int = 0) -> None:
        with self._complaining(SAID_NAME):
            # The number is committed first: killed in between, the store is the newer one, as it is.
            number = self._store.advance_sequence(beyond, has_said=self._keep > 0)
            if self._keep:
                write_said(self._directory, what_is_said(self._store, self._pins(), number))
            self._store.said_changed = False

    # -- backups ------------------------------------------------------------------------------

    def make(self, now_ns: int) -> Work[Exception | None, bool]:
        """Return the work of making a backup of what is recorded by now; it says whether it was made.

        What fails is reported once and may be tried again.
        """
        self._write_said()
        covers = self._store.changes
        target = self._directory / _name(self._store.sequence(), now_ns)
        source, keep = self._store.path, self._keep

        def run() -> Exception | None:
            try:
                _back_up(source, target)
                _prune(target.parent, keep)
            except (OSError, sqlite3.Error, StoreError) as exc:
                return exc
            return None

        def finish(failure: Exception | None) -> bool:
            with self._complaining(_BACKUP):
                if failure is not None:
                    raise failure
                self._covered, self._newest_ns = covers, now_ns
            return failure is None

        return Work(run=run, finish=finish)

    def make_now(self, now_ns: int) -> bool:
        """Make a backup here and now, where no loop waits; return whether it was made."""
        work = self.make(now_ns)
        return work.finish(work.run())

    @contextlib.contextmanager
    def _complaining(self, what: str) -> Iterator[None]:
        """Report what fails, once until it works again: the mount serves without backups too."""
        try:
            yield
        except (OSError, sqlite3.Error, StoreError) as exc:
            if what not in self._complaints:
                log.error("cannot write %s in %s: %s; tried again later", what, self._directory, exc)
            self._complaints.add(what)
        else:
            if what in self._complaints:
                log.info("%s in %s is written again", what, self._directory)
            self._complaints.discard(what)


def check_copy(database: sqlite3.Connection) -> None:
    """Raise StoreError unless SQLite finds the copy in order."""
    found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreError(f"the copy is damaged: {found}")


def _name(number: int, now_ns: int) -> str:
    made = datetime.datetime.fromtimestamp(now_ns / 1e9, datetime.UTC)
    return f"manifest-{number:08d}-{made.strftime(_STAMP)}.db"


def _back_up(source: Path, target: Path) -> None:
    """Copy the store, which others may be writing; the copy counts once it is checked and on disk."""
    target.parent.mkdir(mode=0o700, exist_ok=True)
    draft = target.with_name(target.name + _DRAFT)
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o600)
    try:
        reader = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(reader), contextlib.closing(sqlite3.connect(draft)) as copy:
            copy.execute("PRAGMA synchronous = OFF")  # fsynced below, once
            reader.backup(copy)  # in one step: in several, each write in between starts it anew
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            check_copy(copy)
        os.fsync(descriptor)
        draft.replace(target)
    finally:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
    sync_directory(target.parent)


def _prune(directory: Path, keep: int) -> None:
    for old in generations(directory)[keep:]:
        old.path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        for path in directory.iterdir():  # what a kill left half made
            if path.name.startswith("manifest-") and not _NAME.fullmatch(path.name):
                path.unlink()
