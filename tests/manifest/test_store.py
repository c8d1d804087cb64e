"""Rows come back as they went in; a kill loses no commit, a full disk or a newer store costs nothing."""

import contextlib
import dataclasses
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lffs.errors import NewerStoreError, StoreError
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
)
from lffs.manifest.store import VERSION, Store
from lffs.model import EntryKind, EntryOrigin, FileIdentity, FileType, JobStatus, JobType
from tests.stores import NOW_NS, fill, make_entry, make_identity, make_job, make_room, until_full

# Any bytes that a path may have, those that SQLite, JSON or a glob could stumble over among them.
names = st.binary(min_size=1, max_size=12).filter(lambda name: b"/" not in name and b"\0" not in name)
paths = st.lists(
    names | st.sampled_from([b"\xff", b"%", b"_", b"*", b"'", b"0", b"a"]), min_size=1, max_size=4
).map(b"/".join)
big = st.integers(0, 2**63 - 1)
moments = st.integers(-(2**62), 2**62)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=15)
creators = st.builds(Creator, st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 2**22), texts)
identities = st.builds(FileIdentity, big, moments)
hours = st.floats(0, 1e6)

entries = st.builds(
    Entry, st.integers(1, 3), paths, st.sampled_from(EntryKind), st.sampled_from(FileType), big, moments,
    creators, identities, st.sampled_from(EntryOrigin),
)  # fmt: skip
jobs = st.builds(
    Job, st.just(0), paths, st.sampled_from(JobType), st.sampled_from(JobStatus), moments, moments, moments,
    st.none() | identities, st.none() | moments, st.none() | hours, st.none() | st.booleans(), st.booleans(),
    st.booleans(),
)  # fmt: skip
directories = st.builds(
    Directory, st.just(b"") | paths, st.sampled_from(DirectoryState), big, st.integers(0, 0o7777),
    st.integers(0, 2**32), st.integers(0, 2**32), moments, moments, moments, moments, creators,
    st.none() | identities, st.booleans(), st.booleans(), st.dictionaries(texts, st.binary(max_size=9)),
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "manifest.db")
    yield opened
    opened.close(clean=True)


def again(store: Store) -> Store:
    """What another process sees of what was committed."""
    store.commit()
    return Store(store.path)


round_trip = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


@round_trip
@given(rows=st.lists(entries, max_size=8, unique_by=lambda entry: (entry.job, entry.path)))
def test_entries_come_back_by_path(store: Store, rows: list[Entry]) -> None:
    for job in (1, 2, 3):
        store.forget_job(job)
    for row in rows:
        store.add_entry(row)
    for job in (1, 2, 3):
        expected = sorted((row for row in rows if row.job == job), key=lambda row: row.path)
        assert store.entries(job) == expected
    for row in rows:
        assert store.entry(row.job, row.path) == row
        below = row.path.split(b"/")[0]
        assert store.entries(row.job, below) == [
            one for one in store.entries(row.job) if one.path.startswith(below + b"/")
        ]
    other = again(store)
    assert [row for job in (1, 2, 3) for row in other.entries(job)] == [
        row for job in (1, 2, 3) for row in store.entries(job)
    ]
    other.close(clean=False)


@round_trip
@given(rows=st.lists(jobs, max_size=6, unique_by=lambda job: (job.path, job.ended_ns is None)))
def test_jobs_come_back_with_their_numbers(store: Store, rows: list[Job]) -> None:
    for job in store.jobs(ended=True):
        store.forget_job(job.number)
    for row in rows:
        store.add_job(row)
    assert len({row.number for row in rows}) == len(rows)
    found = store.jobs(ended=True)
    assert sorted(found, key=lambda job: job.number) == sorted(rows, key=lambda job: job.number)
    assert [job.path for job in found] == sorted(job.path for job in rows)
    assert store.jobs() == [job for job in found if job.ended_ns is None]


@round_trip
@given(row=directories, other=directories)
def test_directories_come_back(store: Store, row: Directory, other: Directory) -> None:
    for known in store.directories():
        store.remove_directory(known.path)
    store.put_directory(row)
    assert store.directory(row.path) == row
    changed = dataclasses.replace(other, path=row.path)
    store.put_directory(changed)
    assert store.directories() == [changed]


@round_trip
@given(
    row=entries,
    name=paths,
    reason=st.sampled_from(HideReason),
    hidden_ns=moments,
    kept=hours,
    held=st.booleans(),
)
def test_hidden_files_come_back(
    store: Store, row: Entry, name: bytes, reason: HideReason, hidden_ns: int, kept: float, held: bool
) -> None:
    for known in store.trash():
        store.remove_trash(known.number)
    one = store.add_trash(row, name, reason, hidden_ns, kept, held)
    assert (one.entry, one.name, one.reason, one.retention_hours, one.held) == (row, name, reason, kept, held)
    assert store.trash() == store.trash(row.job) == store.trash_at(row.job, row.path) == [one]
    changed = dataclasses.replace(
        one,
        name=name + b".~1~",
        hidden_ns=hidden_ns + 1,
        held=not held,
        entry=dataclasses.replace(row, size=5),
    )
    store.update_trash(changed)
    assert store.trash() == [changed]
    store.remove_trash(one.number)
    assert store.trash() == []


@round_trip
@given(row=entries, moment=moments, why=texts)
def test_removals_come_back(store: Store, row: Entry, moment: int, why: str) -> None:
    store.forget_job(row.job)
    store.add_removal(Removal(row, moment, why))
    assert store.removals(row.job) == [Removal(row, moment, why)]


@round_trip
@given(identity=identities, mark=st.builds(Mark, st.booleans(), st.none() | st.sampled_from(FileType)))
def test_marks_come_back(store: Store, identity: FileIdentity, mark: Mark) -> None:
    store.set_mark(identity, mark)
    other = again(store)
    assert store.mark(identity) == other.mark(identity) == mark
    other.close(clean=False)
    store.set_mark(identity, NO_MARK)
    assert store.mark(identity) == NO_MARK


def test_an_ended_job_leaves_its_path_to_a_new_one_and_a_live_one_does_not(store: Store) -> None:
    store.add_job(make_job(ended_ns=NOW_NS))
    store.add_job(make_job(ended_ns=NOW_NS))
    store.add_job(make_job())
    with pytest.raises(StoreError):
        store.add_job(make_job())


def test_a_jobs_number_is_never_used_again(store: Store) -> None:
    """Its trash lies under that number."""
    first = make_job()
    store.add_job(first)
    store.forget_job(first.number)
    second = make_job()
    store.add_job(second)
    assert second.number > first.number


def test_a_forgotten_job_leaves_nothing(store: Store) -> None:
    job = make_job()
    store.add_job(job)
    entry = make_entry(job=job.number)
    store.add_entry(entry)
    store.add_trash(entry, b"a", HideReason.STATUS, NOW_NS, 1, held=False)
    store.add_removal(Removal(entry, NOW_NS, "why"))
    store.forget_job(job.number)
    assert (store.jobs(ended=True), store.entries(1), store.trash(), store.removals(1)) == ([], [], [], [])


def test_the_size_of_one_name_changes(store: Store) -> None:
    store.add_entry(make_entry(b"a"))
    store.add_entry(make_entry(b"b"))
    store.set_size(1, b"a", 7)
    assert [entry.size for entry in store.entries(1)] == [7, 4096]


@round_trip
@given(known=st.lists(paths, max_size=8, unique=True), old=paths, new=paths)
def test_directories_move_with_what_is_below(
    store: Store, known: list[bytes], old: bytes, new: bytes
) -> None:
    for row in store.directories():
        store.remove_directory(row.path)
    expected = set()
    for number, path in enumerate(known):
        inside = path == old or path.startswith(old + b"/")
        moved = new + path[len(old) :] if inside else path
        if not inside and (path == new or path.startswith(new + b"/")):
            continue  # what is replaced goes before
        store.put_directory(make_directory(path, number))
        expected.add((moved, number))
    store.move_directories(old, new)
    assert {(row.path, row.number) for row in store.directories()} == expected


def make_directory(path: bytes, number: int = 0, **changes: Any) -> Directory:
    row = Directory(
        path=path, state=DirectoryState.LAZY, number=number, mode=0o755, uid=0, gid=0, atime_ns=0, mtime_ns=0,
        ctime_ns=0, birth_ns=0,
    )  # fmt: skip
    return dataclasses.replace(row, **changes)


def test_a_directory_of_the_year_5000_is_recorded(store: Store) -> None:
    late_ns = 95_617_584_000 * 1_000_000_000
    store.put_directory(make_directory(b"a", mtime_ns=late_ns, atime_ns=-late_ns))
    found = store.directory(b"a")
    assert found is not None
    assert (found.mtime_ns, found.atime_ns) == (2**63 - 1, -(2**63))


# -- commits ----------------------------------------------------------------------------------------


def test_records_gather_until_the_commit_and_whoever_commits_is_told_once(store: Store) -> None:
    told = []
    store.began = lambda: told.append(True)
    other = Store(store.path)
    store.add_entry(make_entry(b"a"))
    store.add_entry(make_entry(b"b"))
    assert (told, store.is_dirty, other.entries(1)) == ([True], True, [])
    store.commit()
    assert not store.is_dirty
    assert len(other.entries(1)) == 2
    store.commit()  # nothing to do
    store.add_entry(make_entry(b"c"))
    assert told == [True, True]
    other.close(clean=False)


def test_a_clean_end_is_told_from_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "manifest.db"
    for clean, expected in ((True, False), (False, True), (True, False)):
        store = Store(path)
        assert store.took_over_clean() is expected
        assert not store.took_over_clean()  # in use from now on: a kill now is no clean end
        store.close(clean=clean)


def test_a_store_that_lost_records_does_not_end_cleanly(tmp_path: Path) -> None:
    store = Store(tmp_path / "manifest.db")
    store.lost_writes = True
    store.close(clean=True)
    store = Store(tmp_path / "manifest.db")
    assert not store.took_over_clean()
    store.close(clean=False)


def test_jobs_being_restored_are_remembered(store: Store) -> None:
    both = frozenset(HideReason)
    store.set_restoring(5, both)
    store.set_restoring(6, frozenset({HideReason.STATUS}))
    assert dict(store.restoring()) == {5: both, 6: frozenset({HideReason.STATUS})}
    store.set_restoring(5, None)
    assert dict(store.restoring()) == {6: frozenset({HideReason.STATUS})}


def test_only_its_owner_reads_the_store(tmp_path: Path) -> None:
    """It names every file; the daemon's umask is 0."""
    before = os.umask(0)
    try:
        store = Store(tmp_path / "manifest.db")
        store.add_entry(make_entry())
        store.commit()
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        store.close(clean=True)
    finally:
        os.umask(before)
    assert "manifest.db-wal" in modes
    assert set(modes.values()) == {0o600}


# -- a full disk ------------------------------------------------------------------------------------


def record_until_full(store: Store) -> None:
    until_full(lambda number: store.add_entry(make_entry(b"%d" % number + b"x" * 500)))


def test_a_full_disk_is_enospc_and_the_loss_is_known(store: Store) -> None:
    store.add_entry(make_entry(b"kept"))
    store.commit()
    fill(store)
    record_until_full(store)
    assert store.lost_writes
    assert store.entry(1, b"kept") is not None


def test_with_room_again_records_are_kept_again(store: Store) -> None:
    fill(store)
    record_until_full(store)
    make_room(store)
    store.add_entry(make_entry(b"later"))
    store.commit()
    other = again(store)
    assert other.entry(1, b"later") is not None
    other.close(clean=False)


def test_a_record_can_be_dropped_on_a_full_disk(store: Store) -> None:
    """Unlink always works."""
    for number in range(50):
        store.add_entry(make_entry(b"%d" % number))
    store.commit()
    fill(store)
    store.remove_entry(1, b"7")
    store.commit()
    assert store.entry(1, b"7") is None


def test_a_mark_that_could_not_be_kept_does_not_hold(store: Store) -> None:
    """Who set it was told that it failed."""
    fill(store)
    number = until_full(lambda number: store.set_mark(make_identity(number), Mark(keep=True)))
    assert store.mark(make_identity(number)) == NO_MARK
    assert store.mark(make_identity(1)) == NO_MARK  # rolled back with the rest of its group


# -- other stores -----------------------------------------------------------------------------------


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_a_newer_store_is_refused_untouched(tmp_path: Path) -> None:
    store = Store(tmp_path / "manifest.db")
    store.add_entry(make_entry())
    store.close(clean=True)
    db = sqlite3.connect(tmp_path / "manifest.db")
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    before = contents(tmp_path)
    with pytest.raises(NewerStoreError, match=f"has version {VERSION + 1}.*install a newer lffs"):
        Store(tmp_path / "manifest.db")
    assert contents(tmp_path) == before


def test_a_newer_store_that_was_killed_is_refused_untouched(tmp_path: Path) -> None:
    """Its version may be in the log alone."""
    source, path = tmp_path / "source", tmp_path / "killed"
    source.mkdir()
    path.mkdir()
    Store(source / "manifest.db").close(clean=True)
    db = sqlite3.connect(source / "manifest.db")
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    for name in ("manifest.db", "manifest.db-wal"):
        shutil.copy(source / name, path / name)
    db.close()
    before = contents(path)
    with pytest.raises(NewerStoreError):
        Store(path / "manifest.db")
    assert contents(path) == before


@pytest.mark.parametrize("content", [b"not a database", b"\0" * 5000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_what_is_no_store_is_said_to_be_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"manifest\.db"):
        Store(path)


def test_an_empty_file_is_a_store_that_was_never_begun(tmp_path: Path) -> None:
    """A kill between the making of the file and its first commit."""
    (tmp_path / "manifest.db").touch()
    store = Store(tmp_path / "manifest.db")
    assert store.is_new
    store.add_entry(make_entry())
    store.close(clean=True)


@pytest.mark.parametrize(
    "ask",
    [
        lambda store, entry: store.trash(),
        lambda store, entry: store.trash_at(entry.job, entry.path),
        lambda store, entry: store.trash_named(entry.job, b"hidden"),
        lambda store, entry: store.trash_of(entry.identity),
        lambda store, entry: store.held_trash(),
        lambda store, entry: store.trash_hidden_by(entry.job, 2 * NOW_NS, 0, 0),
    ],
)
def test_a_hidden_file_whose_row_says_nonsense_is_damage_however_it_is_asked_for(
    tmp_path: Path, ask: Callable[[Store, Entry], object]
) -> None:
    """A word that no enum has was a ValueError to some of these: unexpected, and nothing recovered."""
    place = tmp_path / "manifest.db"
    entry = make_entry()
    for held in (True, False):
        store = Store(place)
        store.add_trash(entry, b"hidden", HideReason.STATUS, NOW_NS, 0, held)
        store.close(clean=True)
    with contextlib.closing(sqlite3.connect(place)) as database, database:
        database.execute("UPDATE trash SET kind = 'nonsense'")
    store = Store(place)
    try:
        with pytest.raises(StoreError):
            ask(store, entry)
        assert store.is_damaged
    finally:
        store.close(clean=False)
