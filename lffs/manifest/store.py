"""The manifest store: one SQLite database in WAL mode.

It keeps rows and knows no rule about them.  One connection, one thread (the loop's, or the
command's).  Writes gather in one transaction until `commit`; what a scan could not find again
(status, marks, lazy directories, moves to and from the trash) its caller commits before answering
(design.md).  A commit costs 10-14 µs with synchronous=NORMAL: kill -9 loses nothing that was
committed, power loss perhaps the last commits.
"""

import base64
import contextlib
import errno
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from lffs.errors import NewerStoreError, StoreError
from lffs.handles import is_within
from lffs.manifest.records import (
    NO_MARK,
    Creator,
    Directory,
    DirectoryState,
    Entry,
    HideReason,
    Job,
    Mark,
    Removal,
    TrashEntry,
)
from lffs.model import (
    DirectoryType,
    EntryKind,
    EntryOrigin,
    FileIdentity,
    FileType,
    JobStatus,
    JobType,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

# The second where SQLite's message quotes what a flipped bit left in the schema.
_ERRORS = (sqlite3.Error, UnicodeDecodeError)

VERSION = 1
_APPLICATION_ID = 0x6C666673  # "lffs"
_CLEAN_END = "clean_end"
_CLOSED = "closed"  # 0 while it is in use: then there is a log beside it
_TOLD = "told"  # 1 while it knows only what programs tell it: nothing is mounted
_SEQUENCE = "sequence"
_HAS_SAID = "has_said"  # that said.json is written with each sequence
_RESTORING = "restoring "

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB NOT NULL, type TEXT NOT NULL,
    status TEXT NOT NULL, created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
    status_since_ns INTEGER NOT NULL, inode INTEGER, birth_ns INTEGER, ended_ns INTEGER,
    retention_hours REAL, debug INTEGER, type_set INTEGER NOT NULL, adopted INTEGER NOT NULL);
CREATE UNIQUE INDEX live_jobs ON jobs (path) WHERE ended_ns IS NULL;
CREATE TABLE entries (
    job INTEGER NOT NULL, path BLOB NOT NULL, kind TEXT NOT NULL, type TEXT NOT NULL,
    size INTEGER NOT NULL, created_ns INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,
    pid INTEGER NOT NULL, command TEXT NOT NULL, inode INTEGER NOT NULL, birth_ns INTEGER NOT NULL,
    origin TEXT NOT NULL, PRIMARY KEY (job, path)) WITHOUT ROWID;
CREATE TABLE marks (
    inode INTEGER NOT NULL, birth_ns INTEGER NOT NULL, keep INTEGER NOT NULL, type TEXT,
    PRIMARY KEY (inode, birth_ns)) WITHOUT ROWID;
CREATE TABLE directories (
    path BLOB PRIMARY KEY, state TEXT NOT NULL, number INTEGER NOT NULL, mode INTEGER NOT NULL,
    owner INTEGER NOT NULL, owner_group INTEGER NOT NULL, atime_ns INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, born_ns INTEGER NOT NULL,
    uid INTEGER NOT NULL, gid INTEGER NOT NULL, pid INTEGER NOT NULL, command TEXT NOT NULL,
    inode INTEGER, birth_ns INTEGER, keep INTEGER NOT NULL, declared INTEGER NOT NULL,
    xattrs TEXT NOT NULL, type TEXT) WITHOUT ROWID;
CREATE TABLE trash (
    number INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL, path BLOB NOT NULL, kind TEXT NOT NULL,
    type TEXT NOT NULL, size INTEGER NOT NULL, created_ns INTEGER NOT NULL, uid INTEGER NOT NULL,
    gid INTEGER NOT NULL, pid INTEGER NOT NULL, command TEXT NOT NULL, inode INTEGER NOT NULL,
    birth_ns INTEGER NOT NULL, origin TEXT NOT NULL, name BLOB NOT NULL, reason TEXT NOT NULL,
    hidden_ns INTEGER NOT NULL, retention_hours REAL NOT NULL, held INTEGER NOT NULL);
CREATE INDEX trash_of_job ON trash (job, path);
CREATE INDEX trash_by_name ON trash (job, name);
CREATE INDEX trash_of_inode ON trash (inode, birth_ns);
CREATE TABLE removals (
    job INTEGER NOT NULL, path BLOB NOT NULL, kind TEXT NOT NULL, type TEXT NOT NULL,
    size INTEGER NOT NULL, created_ns INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,
    pid INTEGER NOT NULL, command TEXT NOT NULL, inode INTEGER NOT NULL, birth_ns INTEGER NOT NULL,
    origin TEXT NOT NULL, removed_ns INTEGER NOT NULL, why TEXT NOT NULL);
CREATE INDEX removals_of_job ON removals (job);
"""

# Which columns hold words, and which there are.
_ENTRY_WORDS: dict[str, Iterable[str]] = {"kind": EntryKind, "type": FileType, "origin": EntryOrigin}
_WORDS: dict[str, dict[str, Iterable[str]]] = {
    "jobs": {"type": JobType, "status": JobStatus},
    "marks": {"type": FileType},
    "directories": {"state": DirectoryState},
    "entries": _ENTRY_WORDS,
    "trash": {**_ENTRY_WORDS, "reason": HideReason},
    "removals": _ENTRY_WORDS,
}

_ENTRY_COLUMNS = "job, path, kind, type, size, created_ns, uid, gid, pid, command, inode, birth_ns, origin"
# From when on a hidden file's retention is over; its values: see trash_hidden_by.
_DUE_NS = (
    "MAX(hidden_ns, CASE reason WHEN 'unlinked' THEN ? ELSE 0 END)"
    " + CAST(ROUND(MAX(retention_hours, ?) * 3600000000000) AS INTEGER)"
)
_INSERT_ENTRY = f"INSERT OR REPLACE INTO entries ({_ENTRY_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"


class Store:
    """The rows of one backing store.  Every sqlite3 error leaves as a StoreError.

    `lost_writes` is true when a group of records could not be kept (the disk was full and SQLite
    rolled it back): whoever sees it runs the reconciling scan when there is room again.

    `is_damaged` is true from the first time that SQLite finds the file corrupt.  What is read from it
    is no ground any more to hide or delete anything; the next opening recovers it.
    """

    def __init__(self, path: Path) -> None:
        """Open the store, making it where there is none.

        Raises NewerStoreError, touching nothing, for one of a newer version, and StoreError for
        one that is damaged or no store at all.
        """
        self.path = path
        self.lost_writes = False
        self.is_damaged = False
        # What said.json keeps (lffs.manifest.said) has changed: jobs, marks or pins.
        self.said_changed = False
        self.began: Callable[[], None] = lambda: None  # told when there is something to commit
        # Told when SQLite took uncommitted records back: what is kept in memory of them is wrong.
        self.rolled_back: Callable[[], None] = lambda: None
        if path.exists() and path.stat().st_size:
            _refuse_newer(path)
        # SQLite gives its other files the mode of this one, whatever the daemon's umask.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with _as_store_error(path), contextlib.ExitStack() as unless_open:
            self._db = sqlite3.connect(path, isolation_level=None)
            unless_open.callback(self._db.close)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA trusted_schema = OFF")
            # A kill may have come after the first page and before the first commit.
            self.is_new = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if self.is_new:
                self._db.executescript(
                    f"BEGIN; PRAGMA application_id = {_APPLICATION_ID};"
                    f" PRAGMA user_version = {VERSION}; {_SCHEMA} COMMIT;"
                )
            # Few, and asked for at every hide and listing: kept in memory, written through.
            self._marks = self._read_marks()
            unless_open.pop_all()

    # -- transactions ------------------------------------------------------------------------

    @property
    def is_dirty(self) -> bool:
        """Whether there are records that are not committed yet."""
        return self._db.in_transaction

    def commit(self) -> None:
        """Make every record so far survive a kill.

        Raises StoreError when it can't.  What SQLite still holds is tried again with the next
        commit; what it rolled back sets `lost_writes`.
        """
        if not self._db.in_transaction:
            return
        try:
            self._db.execute("COMMIT")
        except _ERRORS as exc:
            self._note_loss()
            raise self._failed(exc) from exc

    def _failed(self, exc: Exception) -> StoreError:
        if _is_damage(exc):
            self._note_damage(exc)
        return _store_error(self.path, exc)

    def _note_damage(self, problem: Exception) -> None:
        if not self.is_damaged:
            self.is_damaged = True
            log.error(
                "manifest store %s is damaged: %s; nothing is hidden or deleted any more: unmount, and"
                " mount again to have it recovered",
                self.path, problem,
            )  # fmt: skip

    @property
    def changes(self) -> int:
        """How many rows were written through this connection so far."""
        return self._db.total_changes

    def _note_loss(self) -> None:
        """A statement failed: see whether SQLite rolled back what was gathered before it too."""
        if not self._db.in_transaction:
            self.lost_writes = True
            self._marks = self._read_marks()
            self.rolled_back()

    def close(self, *, clean: bool) -> None:
        """Commit and close; *clean* says that disk and store agree, so no scan is needed."""
        try:
            if clean and not self.lost_writes and not self.is_damaged:
                self._set_meta(_CLEAN_END, 1)
            with contextlib.suppress(sqlite3.Error):  # in use elsewhere, damaged: then it is not closed
                self._db.execute("PRAGMA busy_timeout = 0")
                self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, 1)", (_CLOSED,))
            self.commit()
        finally:
            self._db.close()

    def took_over_clean(self) -> bool:
        """Tell whether the last user of the store ended cleanly, and mark it in use from now on."""
        was_clean = bool(self._meta(_CLEAN_END))
        self._set_meta(_CLEAN_END, 0)
        self._set_meta(_CLOSED, 0)
        self.commit()
        self.checkpoint()  # who loses the log must not find in the file that all ended cleanly
        return was_clean

    def take_over_as(self, *, told: bool) -> bool:
        """Note whether records come from programs alone (nothing is mounted), and return whether they did."""
        was_told = bool(self._meta(_TOLD))
        self._set_meta(_TOLD, int(told))
        return was_told

    def checkpoint(self) -> None:
        """Bring what is committed from the log into the file itself, if there is room."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def lost_its_log(self) -> bool:
        """Tell whether the file was in use when lffs ended, and its log is gone or unreadable.

        Ask before `took_over_clean`, which begins a log.
        """
        with _as_store_error(self.path):
            _, frames, _ = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return bool(self._meta(_CLOSED) == 0 and frames <= 0)

    def misses_said(self) -> bool:
        """Tell whether, without a said.json, nothing shows that this store lost none of its last records."""
        return bool(self._meta(_HAS_SAID)) and not self._meta(_CLEAN_END)

    def sequence(self) -> int:
        """Return the number of the last backup, or save of what people said, that this store knows of."""
        return int(self._meta(_SEQUENCE) or 0)

    def advance_sequence(self, beyond: int = 0, *, has_said: bool = True) -> int:
        """Commit, with the next number, one above *beyond* too; return it.

        *has_said* says that said.json is written with it, so that without the file something is amiss.
        """
        number = max(self.sequence(), beyond) + 1
        self._set_meta(_HAS_SAID, int(has_said))
        self._set_meta(_SEQUENCE, number)
        self.commit()
        return number

    def _meta(self, key: str) -> Any:
        row = self._one("SELECT value FROM meta WHERE key = ?", (key,))
        return row[0] if row else None

    def _set_meta(self, key: str, value: object) -> None:
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _write(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        try:
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
                self.began()
            return self._db.execute(statement, values)
        except _ERRORS as exc:
            self._note_loss()
            raise self._failed(exc) from exc

    def _rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._db.execute(statement, values).fetchall()
        except _ERRORS as exc:
            raise self._failed(exc) from exc

    def _decoded(self, decode: Callable[[Any], T], rows: Iterable[Any]) -> list[T]:
        try:
            return [decode(row) for row in rows]
        except (ValueError, TypeError, AttributeError) as exc:
            self._note_damage(exc)
            raise StoreError(f"manifest store {self.path}: a row makes no sense: {exc}") from exc

    def _one(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        try:
            return self._db.execute(statement, values).fetchone()
        except _ERRORS as exc:
            raise self._failed(exc) from exc

    # -- jobs --------------------------------------------------------------------------------

    def jobs(self, *, ended: bool = False) -> list[Job]:
        """Return every job that has a directory; with *ended* also those that have none any more."""
        where = "" if ended else "WHERE ended_ns IS NULL"
        return self._decoded(_job, self._rows(f"SELECT * FROM jobs {where} ORDER BY path, number"))

    def add_job(self, job: Job) -> None:
        """Insert *job* and give it its number."""
        self.said_changed = True
        cursor = self._write(
            "INSERT INTO jobs (path, type, status, created_ns, updated_ns, status_since_ns, inode,"
            " birth_ns, ended_ns, retention_hours, debug, type_set, adopted)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            _job_values(job),
        )
        assert cursor.lastrowid is not None
        job.number = cursor.lastrowid

    def update_job(self, job: Job) -> None:
        """Write what *job* says now."""
        self.said_changed = True
        self._write(
            "UPDATE jobs SET path=?, type=?, status=?, created_ns=?, updated_ns=?,"
            " status_since_ns=?, inode=?, birth_ns=?, ended_ns=?, retention_hours=?, debug=?,"
            " type_set=?, adopted=? WHERE number=?",
            (*_job_values(job), job.number),
        )

    def put_jobs(self, jobs: Iterable[Job]) -> None:
        """Write these jobs under the numbers that they have, in place of those that have them now."""
        self.said_changed = True
        jobs = list(jobs)
        for job in jobs:  # the store holds a live path once: first out of each other's way
            self._write("DELETE FROM jobs WHERE number = ?", (job.number,))
        for job in jobs:
            self._write(
                "INSERT INTO jobs (path, type, status, created_ns, updated_ns, status_since_ns, inode,"
                " birth_ns, ended_ns, retention_hours, debug, type_set, adopted, number)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (*_job_values(job), job.number),
            )

    def last_number(self) -> int:
        """Return the highest number that a job had so far."""
        row = self._one("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")
        return row[0] if row else 0

    def forget_job(self, number: int) -> None:
        """Drop the job and all that is recorded of it."""
        self.said_changed = True
        self._write("DELETE FROM jobs WHERE number = ?", (number,))
        for table in ("entries", "trash", "removals"):
            self._write(f"DELETE FROM {table} WHERE job = ?", (number,))

    # -- entries -----------------------------------------------------------------------------

    def add_entry(self, entry: Entry) -> None:
        """Record a name; one that was recorded for the same path is replaced."""
        self._write(_INSERT_ENTRY, _entry_values(entry))

    def entry(self, job: int, path: bytes) -> Entry | None:
        """Return what is recorded for the path, or None."""
        row = self._one(f"SELECT {_ENTRY_COLUMNS} FROM entries WHERE job=? AND path=?", (job, path))
        return self._decoded(_entry, [row])[0] if row else None

    def entries(self, job: int, below: bytes = b"") -> list[Entry]:
        """Return the job's entries in the order of their paths; with *below*, that directory's."""
        if not below:
            rows = self._rows(f"SELECT {_ENTRY_COLUMNS} FROM entries WHERE job=? ORDER BY path", (job,))
        else:  # "/" and its successor "0" bound everything below the directory
            rows = self._rows(
                f"SELECT {_ENTRY_COLUMNS} FROM entries WHERE job=? AND path>? AND path<? ORDER BY path",
                (job, below + b"/", below + b"0"),
            )
        return self._decoded(_entry, rows)

    def is_recorded(self, identity: FileIdentity) -> bool:
        """Tell whether any entry is a name of this file; looks at all of them."""
        values = (identity.inode, identity.birth_ns)
        return bool(self._one("SELECT 1 FROM entries WHERE inode=? AND birth_ns=? LIMIT 1", values))

    def remove_entry(self, job: int, path: bytes) -> None:
        """Forget the name; nothing happens where none is recorded."""
        self._write("DELETE FROM entries WHERE job=? AND path=?", (job, path))

    def set_size(self, job: int, path: bytes, size: int) -> None:
        """Note the size in bytes that the file had at a close."""
        self._write("UPDATE entries SET size=? WHERE job=? AND path=?", (size, job, path))

    # -- marks -------------------------------------------------------------------------------

    def _read_marks(self) -> dict[FileIdentity, Mark]:
        return dict(self._decoded(_mark, self._rows("SELECT * FROM marks")))

    def mark(self, identity: FileIdentity) -> Mark:
        """Return what was said of this inode by xattr."""
        return self._marks.get(identity, NO_MARK)

    def marks(self) -> dict[FileIdentity, Mark]:
        """Return all that was said of inodes by xattr."""
        return dict(self._marks)

    def set_mark(self, identity: FileIdentity, mark: Mark) -> None:
        """Remember *mark* for the inode; an empty one forgets it."""
        self.said_changed = True
        if mark == NO_MARK:
            self._write("DELETE FROM marks WHERE inode=? AND birth_ns=?", (identity.inode, identity.birth_ns))
            self._marks.pop(identity, None)
            return
        self._write(
            "INSERT OR REPLACE INTO marks VALUES (?,?,?,?)",
            (identity.inode, identity.birth_ns, mark.keep, mark.type),
        )
        self._marks[identity] = mark

    # -- directories -------------------------------------------------------------------------

    def directories(self, below: bytes | None = None) -> list[Directory]:
        """Return the recorded directories by path; with *below*, that one and those below it."""
        rows = self._rows(
            "SELECT * FROM directories ORDER BY path"
            if not below
            else "SELECT * FROM directories WHERE path=? OR (path>? AND path<?) ORDER BY path",
            (below, below + b"/", below + b"0") if below else (),
        )
        return self._decoded(_directory, rows)

    def directory(self, path: bytes) -> Directory | None:
        """Return what is recorded of the directory, or None."""
        row = self._one("SELECT * FROM directories WHERE path=?", (path,))
        return self._decoded(_directory, [row])[0] if row else None

    def put_directory(self, directory: Directory) -> None:
        """Record the directory as it is now."""
        self.said_changed = self.said_changed or directory.keep
        identity = directory.identity
        self._write(
            "INSERT OR REPLACE INTO directories VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                directory.path, directory.state, directory.number, directory.mode, directory.uid,
                directory.gid, _bounded(directory.atime_ns), _bounded(directory.mtime_ns),
                directory.ctime_ns, directory.birth_ns, directory.creator.uid, directory.creator.gid,
                directory.creator.pid, directory.creator.command,
                identity.inode if identity else None, identity.birth_ns if identity else None,
                directory.keep, directory.declared, _pack(directory.xattrs), directory.type,
            ),
        )  # fmt: skip

    def remove_directory(self, path: bytes) -> None:
        """Forget the directory; nothing happens where none is recorded."""
        self._write("DELETE FROM directories WHERE path=?", (path,))

    # -- trash and removals ------------------------------------------------------------------

    def add_trash(
        self,
        entry: Entry,
        name: bytes,
        reason: HideReason,
        hidden_ns: int,
        retention_hours: float,
        held: bool,
    ) -> TrashEntry:
        """Record that *entry* is in the trash (or is about to be moved there)."""
        cursor = self._write(
            f"INSERT INTO trash ({_ENTRY_COLUMNS}, name, reason, hidden_ns, retention_hours, held)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (*_entry_values(entry), name, reason, hidden_ns, retention_hours, held),
        )
        assert cursor.lastrowid is not None
        return TrashEntry(cursor.lastrowid, entry, name, reason, hidden_ns, retention_hours, held)

    def trash(self, job: int | None = None) -> list[TrashEntry]:
        """Return the hidden files, of one job or of all, the longest hidden first."""
        return self._trash_rows("WHERE job=?", (job,)) if job is not None else self._trash_rows("", ())

    def trash_at(self, job: int, path: bytes) -> list[TrashEntry]:
        """Return the hidden files that had this path, the longest hidden first."""
        return self._trash_rows("WHERE job=? AND path=?", (job, path))

    def trash_named(self, job: int, name: bytes) -> TrashEntry | None:
        """Return the hidden file that the job's trash has at *name*."""
        rows = self._trash_rows("WHERE job=? AND name=?", (job, name))
        return rows[0] if rows else None

    def trash_of(self, identity: FileIdentity) -> list[TrashEntry]:
        """Return the hidden names of one file."""
        return self._trash_rows("WHERE inode=? AND birth_ns=?", (identity.inode, identity.birth_ns))

    def held_trash(self) -> list[TrashEntry]:
        """Return the hidden files that were open for writing when that was last noted."""
        return self._trash_rows("WHERE held=1", ())

    def number_jobs_above(self, number: int) -> None:
        """Give new jobs higher numbers than this one: the trash has directories of an older store."""
        last = self._one("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")
        if last is None:
            self._write("INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', ?)", (number,))
        elif last[0] < number:
            self._write("UPDATE sqlite_sequence SET seq = ? WHERE name = 'jobs'", (number,))

    def hidden_names(self, identity: FileIdentity) -> int:
        """Return how many names of the file are in the trash."""
        row = self._one(
            "SELECT COUNT(*) FROM trash WHERE inode=? AND birth_ns=?",
            (identity.inode, identity.birth_ns),
        )
        return int(row[0])

    def jobs_with_trash(self) -> set[int]:
        """Return the numbers of the jobs that have hidden files."""
        return {row[0] for row in self._rows("SELECT DISTINCT job FROM trash")}

    def trash_hidden_by(
        self, job: int, until_ns: int, retention_hours: float, unlinked_since_ns: int
    ) -> list[TrashEntry]:
        """Return the job's hidden files whose retention is over at *until_ns*, longest hidden first.

        *retention_hours* is the job's now; each row's own counts where it is longer.  What the
        pipeline unlinked counts from *unlinked_since_ns* at the earliest.  Held ones are left out.
        """
        return self._trash_rows(
            f"WHERE job=? AND held=0 AND {_DUE_NS} <= ?",
            (job, unlinked_since_ns, retention_hours, until_ns),
        )

    def next_due_ns(
        self, job: int, after_ns: int, retention_hours: float, unlinked_since_ns: int
    ) -> int | None:
        """Return when the retention of the job's next hidden file is over, after *after_ns*."""
        row = self._one(
            f"SELECT MIN(due) FROM (SELECT {_DUE_NS} AS due FROM trash WHERE held=0 AND job=?) WHERE due > ?",
            (unlinked_since_ns, retention_hours, job, after_ns),
        )
        return None if row[0] is None else int(row[0])

    def _trash_rows(self, where: str, values: tuple[Any, ...]) -> list[TrashEntry]:
        rows = self._rows(
            f"SELECT {_ENTRY_COLUMNS}, number, name, reason, hidden_ns, retention_hours, held"
            f" FROM trash {where} ORDER BY hidden_ns, number",
            values,
        )
        return self._decoded(_trash_entry, rows)

    def update_trash(self, hidden: TrashEntry) -> None:
        """Write what changes while a file is hidden: its name, since when, its size, if held."""
        self._write(
            "UPDATE trash SET name=?, hidden_ns=?, held=?, size=? WHERE number=?",
            (hidden.name, hidden.hidden_ns, hidden.held, hidden.entry.size, hidden.number),
        )

    def remove_trash(self, number: int) -> None:
        """Forget a hidden file: it is back in its place or deleted."""
        self._write("DELETE FROM trash WHERE number=?", (number,))

    def add_removal(self, removal: Removal) -> None:
        """Note that a file was deleted for good."""
        self._write(
            f"INSERT INTO removals ({_ENTRY_COLUMNS}, removed_ns, why)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (*_entry_values(removal.entry), removal.removed_ns, removal.why),
        )

    def removals(self, job: int) -> list[Removal]:
        """Return what lffs deleted of the job, oldest first."""
        rows = self._rows(
            f"SELECT {_ENTRY_COLUMNS}, removed_ns, why FROM removals WHERE job=? ORDER BY rowid", (job,)
        )
        return self._decoded(_removal, rows)

    def restoring(self) -> list[tuple[int, frozenset[HideReason]]]:
        """Return the jobs whose files were being brought back when lffs was killed."""
        rows = self._rows("SELECT key, value FROM meta WHERE key GLOB ?", (_RESTORING + "*",))
        return self._decoded(_restoring, rows)

    def set_restoring(self, job: int, reasons: frozenset[HideReason] | None) -> None:
        """Note that the job's files are being brought back; None: that is done."""
        if reasons is None:
            self._write("DELETE FROM meta WHERE key=?", (f"{_RESTORING}{job}",))
        else:
            self._set_meta(f"{_RESTORING}{job}", " ".join(sorted(reasons)))

    # -- after damage ------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Return what is wrong with the file or makes no sense in a row; empty: nothing is.

        Costs, for a million entries, 0.6 s for SQLite's own check of the pages and 1.4 s for what is in
        them: a bit that flipped in a row is in order for SQLite.
        """
        with _as_store_error(self.path):
            found = [row[0] for row in self._db.execute("PRAGMA quick_check(5)") if row[0] != "ok"]
            # A flipped bit in the header has SQLite only read the file; BEGIN does not fail for that.
            self._db.execute("DELETE FROM meta WHERE key IS NULL")
            if not found:
                found = [problem for table in _WORDS for problem in self._problems_in(table)]
        if not found:
            try:
                self.directories()
                self.restoring()
            except StoreError as exc:
                found.append(str(exc))
        return found

    def _problems_in(self, table: str) -> Iterator[str]:
        declared = self._db.execute(f"PRAGMA table_info({table})").fetchall()
        words = _WORDS[table]
        types = ", ".join(f"typeof({name})" for _, name, *_ in declared)
        named = ", ".join(words)
        for row in self._db.execute(f"SELECT DISTINCT {types}, {named} FROM {table}"):
            for found, (_, name, wanted, *_) in zip(row, declared, strict=False):
                if found not in (wanted.lower(), "null"):  # where NULL may not be, quick_check says so
                    yield f"{table}: a {name} is {found}"
            for word, (name, known) in zip(row[len(declared) :], words.items(), strict=True):
                if word is not None and word not in set(known):
                    yield f"{table}: {word!r} is no {name}"
        if table in ("entries", "trash", "removals"):
            orphans = f"SELECT DISTINCT job FROM {table} WHERE job NOT IN (SELECT number FROM jobs)"
            for (job,) in self._db.execute(orphans):
                yield f"{table}: there is no job {job!r}"

    def distrust(self) -> None:
        """Take nothing that is recorded as seen being made any more: it goes by no policy by itself."""
        for table in ("entries", "trash"):
            self._write(f"UPDATE {table} SET origin = ?", (EntryOrigin.REBUILT,))

    # -- moves -------------------------------------------------------------------------------

    def move_directories(self, old: bytes, new: bytes) -> list[Directory]:
        """Give the recorded directories at and below *old* their new paths; return them."""
        moved = self.directories(old)
        for directory in moved:
            self.remove_directory(directory.path)
            assert is_within(directory.path, old)
            directory.path = new + directory.path[len(old) :]
        for directory in moved:
            self.put_directory(directory)
        return moved


def _refuse_newer(path: Path) -> None:
    """Read the version from the file's header: opening it with SQLite could already change it."""
    with path.open("rb") as file:
        header = file.read(100)
    if not header.startswith(b"SQLite format 3\0"):
        raise StoreError(f"{path} is damaged or no manifest store: it has no SQLite header")
    newest = _header_in_log(path.with_name(path.name + "-wal")) or header
    version = int.from_bytes(newest[60:64], "big")
    if version > VERSION:
        raise NewerStoreError(
            f"{path} has version {version}, this lffs knows {VERSION}: install a newer lffs"
        )


def _header_in_log(log_path: Path) -> bytes | None:
    """Return the newest committed first page in a WAL that a kill left, or None.

    The version of a store that was killed young is there alone.  The format is SQLite's file format,
    section 4: a frame of an earlier round of the log has another salt, one with a size ends a commit.
    """
    try:
        log_bytes = log_path.read_bytes()
    except FileNotFoundError:
        return None
    page_size, salt = int.from_bytes(log_bytes[8:12], "big"), log_bytes[16:24]
    first_page = newest = None
    for start in range(32, len(log_bytes) - 24 - page_size + 1, 24 + page_size):
        if log_bytes[start + 8 : start + 16] != salt:
            break
        if log_bytes[start : start + 4] == b"\0\0\0\1":
            first_page = log_bytes[start + 24 : start + 124]
        if log_bytes[start + 4 : start + 8] != b"\0\0\0\0":
            newest = first_page
    return newest


def _is_damage(exc: Exception) -> bool:
    code = getattr(exc, "sqlite_errorcode", None)
    if code is None:  # Python's own: text in a row that is no UTF-8
        return isinstance(exc, (sqlite3.OperationalError, UnicodeDecodeError))
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _store_error(path: Path, exc: Exception) -> StoreError:
    error = StoreError(f"manifest store {path}: {exc}")
    # What a caller of the mount is told: the disk is full is something to act on, the rest is EIO.
    if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        error.errno = errno.ENOSPC
    return error


@contextlib.contextmanager
def _as_store_error(path: Path) -> Iterator[None]:
    try:
        yield
    except _ERRORS as exc:
        raise _store_error(path, exc) from exc


def _job_values(job: Job) -> tuple[Any, ...]:
    identity = job.identity
    return (
        job.path, job.type, job.status, job.created_ns, job.updated_ns, job.status_since_ns,
        identity.inode if identity else None, identity.birth_ns if identity else None, job.ended_ns,
        job.retention_hours, job.debug, job.type_set, job.adopted,
    )  # fmt: skip


def _entry_values(entry: Entry) -> tuple[Any, ...]:
    creator = entry.creator
    return (
        entry.job, entry.path, entry.kind, entry.type, entry.size, entry.created_ns, creator.uid,
        creator.gid, creator.pid, creator.command, entry.identity.inode, entry.identity.birth_ns,
        entry.origin,
    )  # fmt: skip


def _job(row: Any) -> Job:
    return Job(
        number=row[0], path=row[1], type=JobType(row[2]), status=JobStatus(row[3]),
        created_ns=row[4], updated_ns=row[5], status_since_ns=row[6],
        identity=None if row[7] is None else FileIdentity(row[7], row[8]),
        ended_ns=row[9], retention_hours=row[10],
        debug=None if row[11] is None else bool(row[11]),
        type_set=bool(row[12]), adopted=bool(row[13]),
    )  # fmt: skip


def _mark(row: Any) -> tuple[FileIdentity, Mark]:
    inode, birth_ns, keep, type_ = row
    return FileIdentity(inode, birth_ns), Mark(bool(keep), FileType(type_) if type_ else None)


def _removal(row: Any) -> Removal:
    return Removal(_entry(row[:13]), row[13], row[14])


def _restoring(row: Any) -> tuple[int, frozenset[HideReason]]:
    key, value = row
    return int(key.removeprefix(_RESTORING)), frozenset(map(HideReason, value.split()))


def _entry(row: Any) -> Entry:
    return Entry(
        job=row[0], path=row[1], kind=EntryKind(row[2]), type=FileType(row[3]), size=row[4],
        created_ns=row[5], creator=Creator(row[6], row[7], row[8], row[9]),
        identity=FileIdentity(row[10], row[11]), origin=EntryOrigin(row[12]),
    )  # fmt: skip


def _trash_entry(row: Any) -> TrashEntry:
    return TrashEntry(
        number=row[13], entry=_entry(row[:13]), name=row[14], reason=HideReason(row[15]),
        hidden_ns=row[16], retention_hours=row[17], held=bool(row[18]),
    )  # fmt: skip


def _directory(row: Any) -> Directory:
    return Directory(
        path=row[0], state=DirectoryState(row[1]), number=row[2], mode=row[3], uid=row[4], gid=row[5],
        atime_ns=row[6], mtime_ns=row[7], ctime_ns=row[8], birth_ns=row[9],
        creator=Creator(row[10], row[11], row[12], row[13]),
        identity=None if row[14] is None else FileIdentity(row[14], row[15]),
        keep=bool(row[16]), declared=bool(row[17]), xattrs=_unpack(row[18]),
        type=None if row[19] is None else DirectoryType(row[19]),
    )  # fmt: skip


def _bounded(time_ns: int) -> int:
    """Return the nearest time that an SQLite integer holds: to 2262; anyone may set a later one."""
    return max(-(1 << 63), min(time_ns, (1 << 63) - 1))


def _pack(xattrs: dict[str, bytes]) -> str:
    return json.dumps({name: base64.b64encode(value).decode() for name, value in xattrs.items()})


def _unpack(text: str) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in json.loads(text).items()}
