"""A backup is a whole store, counts only when it is checked and on disk, and hinders nobody."""

import contextlib
import datetime
import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from lffs.backing import Backing
from lffs.backing_up import BackupTask
from lffs.config import Settings
from lffs.manifest.backup import generations
from lffs.manifest.records import Job, Mark
from lffs.manifest.said import SAID_NAME, Said, read_said, write_said
from lffs.manifest.store import Store
from lffs.model import FileIdentity, FileType, JobStatus, JobType
from tests.harness import eventually
from tests.stores import (
    HOUR_NS,
    NOW_NS,
    Client,
    FakeClock,
    make_entry,
    make_job,
    make_settings,
    opened,
    without_rights,
)


def with_backups(**manifest: Any) -> Settings:
    return make_settings(manifest=manifest)


@pytest.fixture
def backing(tmp_path: Path) -> Iterator[Backing]:
    with opened(tmp_path, clock=FakeClock()) as opened_backing:
        yield opened_backing


def directory_of(backing: Backing) -> Path:
    return backing.state_dir / "backups"


def record_something(backing: Backing, path: bytes = b"a.tmp") -> None:
    backing.store.add_entry(make_entry(path))


def numbers(backing: Backing) -> list[int]:
    return [one.number for one in generations(directory_of(backing))]


# -- what a backup is ---------------------------------------------------------------------------------


def test_a_backup_has_every_record_so_far_and_is_one_private_file(backing: Backing) -> None:
    """The daemon's umask is 0."""
    backing.store.add_job(make_job(number=1))
    record_something(backing)
    before = os.umask(0)
    try:
        assert backing.backups.make_now(NOW_NS)
    finally:
        os.umask(before)
    (made,) = generations(directory_of(backing))
    assert sorted(os.listdir(directory_of(backing))) == [made.path.name, SAID_NAME]
    assert stat.S_IMODE(directory_of(backing).stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory_of(backing).iterdir()} == {0o600}
    copy = Store(made.path)
    assert (copy.entries(1), copy.sequence()) == (backing.store.entries(1), made.number)
    copy.close(clean=False)


def test_its_name_says_when_it_was_made_in_utc(backing: Backing) -> None:
    record_something(backing)
    backing.backups.make_now(NOW_NS)
    (made,) = generations(directory_of(backing))
    moment = datetime.datetime.fromtimestamp(NOW_NS / 1e9, datetime.UTC)
    assert made.path.name == f"manifest-{made.number:08d}-{moment:%Y%m%dT%H%M%SZ}.db"
    assert made.made_ns == NOW_NS


def test_what_is_recorded_while_it_is_copied_is_in_the_next_one(backing: Backing) -> None:
    record_something(backing, b"before")
    work = backing.backups.make(NOW_NS)
    record_something(backing, b"meanwhile")
    backing.store.commit()
    assert work.finish(work.run())
    assert backing.backups.has_changes
    (made,) = generations(directory_of(backing))
    copy = Store(made.path)
    assert copy.entry(1, b"before") is not None
    copy.close(clean=False)


def test_the_loop_goes_on_writing_while_a_thread_copies(backing: Backing) -> None:
    for number in range(20_000):
        record_something(backing, b"%d" % number)
    work = backing.backups.make(NOW_NS)
    done: list[Exception | None] = []
    thread = threading.Thread(target=lambda: done.append(work.run()))
    thread.start()
    commits = 0
    while thread.is_alive():
        record_something(backing, b"while %d" % commits)
        backing.store.commit()
        commits += 1
    thread.join()
    assert done == [None]
    assert commits > 10


def test_a_copy_that_is_damaged_does_not_count(backing: Backing, monkeypatch: pytest.MonkeyPatch) -> None:
    record_something(backing)
    assert backing.backups.make_now(NOW_NS)
    good = numbers(backing)
    record_something(backing, b"b")
    backing.store.commit()

    def damaged(database: sqlite3.Connection) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr("lffs.manifest.backup.check_copy", damaged)
    assert not backing.backups.make_now(NOW_NS)
    assert numbers(backing) == good
    assert len(os.listdir(directory_of(backing))) == 2  # no draft either
    assert backing.backups.has_changes


def test_a_damaged_store_is_not_backed_up(backing: Backing) -> None:
    record_something(backing)
    backing.store.is_damaged = True
    assert not backing.backups.has_changes
    backing.store.is_damaged = False


# -- generations --------------------------------------------------------------------------------------


def test_as_many_generations_are_kept_as_the_configuration_says(tmp_path: Path) -> None:
    with opened(tmp_path, with_backups(backups=3)) as backing:
        for number in range(6):
            record_something(backing, b"%d" % number)
            backing.backups.make_now(NOW_NS + number)
        made = numbers(backing)
        assert len(made) == 3
        (directory_of(backing) / "manifest-00000001-20260101T000000Z.db.new").touch()  # a kill left it
        (directory_of(backing) / "notes").touch()  # somebody's
        backing.configure(with_backups(backups=2))
        record_something(backing)
        backing.backups.make_now(NOW_NS)
        assert numbers(backing)[1:] == made[:1]
        assert {name for name in os.listdir(directory_of(backing)) if not name.endswith(".db")} == {
            SAID_NAME,
            "notes",
        }


def test_a_clock_set_back_costs_no_new_backup_its_place(tmp_path: Path) -> None:
    with opened(tmp_path, with_backups(backups=2)) as backing:
        for hours in (100, 200, -50):
            record_something(backing, b"%d" % hours)
            backing.backups.make_now(NOW_NS + hours * HOUR_NS)
        newest = generations(directory_of(backing))[0]
        assert newest.made_ns == NOW_NS - 50 * HOUR_NS


def test_without_backups_none_is_made_and_none_is_left(tmp_path: Path) -> None:
    """An old one would be restored one day, with statuses of long ago."""
    with opened(tmp_path) as backing:
        record_something(backing)
        backing.backups.make_now(NOW_NS)
    with opened(tmp_path, with_backups(backups=0)) as backing:
        assert os.listdir(directory_of(backing)) == []
        record_something(backing)
        backing.store.said_changed = True
        backing.export_changed()
        assert not backing.backups.is_due(NOW_NS + 1000 * HOUR_NS)
    assert os.listdir(tmp_path / ".lffs/backups") == []


# -- when ---------------------------------------------------------------------------------------------


def test_one_is_due_when_the_interval_is_over_and_something_changed(tmp_path: Path) -> None:
    with opened(tmp_path, with_backups(backup_interval_hours=2)) as backing:
        backups = backing.backups
        assert backups.is_due(NOW_NS)  # there is none yet
        backups.make_now(NOW_NS)
        assert not backups.is_due(NOW_NS + 9 * HOUR_NS)
        record_something(backing)
        assert not backups.is_due(NOW_NS + 2 * HOUR_NS - 1)
        assert backups.is_due(NOW_NS + 2 * HOUR_NS)
        assert backups.is_due(NOW_NS - 1)  # the clock was set back
        backing.configure(with_backups(backup_interval_hours=1))
        assert backups.is_due(NOW_NS + HOUR_NS)


def test_an_end_makes_one_only_where_one_is_due(tmp_path: Path) -> None:
    clock = FakeClock()
    for hours, changes, expected in ((0, True, 1), (0, True, 1), (2, False, 2), (2, False, 2), (2, True, 3)):
        clock.advance(hours)
        with opened(tmp_path, clock=clock) as backing:
            if changes:
                Client(backing).mkdir(f"job{clock.wall_ns()}{len(backing.jobs.live())}")
        # The third catches up with the second; the fourth has nothing to catch up with.
        assert len(generations(tmp_path / ".lffs/backups")) == expected


def test_the_task_makes_one_each_time_that_one_is_due(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, clock=clock) as backing:

        def wait_for(count: int) -> None:
            eventually(lambda: len(numbers(backing)) == count, f"backup {count}")

        async def main() -> None:
            task = BackupTask(backing)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(task.run)
                for expected in (1, 2, 3):
                    record_something(backing, b"%d" % expected)
                    clock.advance(1)
                    task.wake()
                    await trio.to_thread.run_sync(wait_for, expected)
                clock.advance(1)
                task.wake()
                await trio.testing.wait_all_tasks_blocked()
                assert len(numbers(backing)) == 3  # nothing changed
                nursery.cancel_scope.cancel()

        trio.run(main)


# -- trouble ------------------------------------------------------------------------------------------


def test_a_directory_that_cannot_be_written_is_said_once_and_tried_again(
    backing: Backing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    blocked = directory_of(backing)
    blocked.write_bytes(b"")  # not even root makes a file in a file
    for _ in range(3):
        record_something(backing)
        assert not backing.backups.make_now(NOW_NS)
    assert caplog.text.count("a backup of the manifest") == 1
    assert caplog.text.count("said.json in") == 1
    assert backing.backups.is_due(NOW_NS)
    blocked.unlink()
    assert backing.backups.make_now(NOW_NS)
    assert caplog.text.count("is written again") == 2


def test_what_people_said_and_could_not_be_written_is_not_there_in_an_old_form(
    backing: Backing, monkeypatch: pytest.MonkeyPatch
) -> None:
    backing.backups.make_now(NOW_NS)
    assert read_said(directory_of(backing)) is not None
    with contextlib.suppress(OSError):
        (directory_of(backing) / f"{SAID_NAME}.new").mkdir()  # the draft can't be opened
    backing.store.add_job(make_job())
    backing.store.commit()
    backing.export_changed()
    assert read_said(directory_of(backing)) is None


# -- what people said ---------------------------------------------------------------------------------

names = st.binary(min_size=1, max_size=8).filter(lambda name: b"\0" not in name)
times = st.integers(0, 2**62)
identities = st.builds(FileIdentity, st.integers(0, 2**63 - 1), times)
jobs = st.builds(
    Job, st.integers(1, 99), names, st.sampled_from(JobType), st.sampled_from(JobStatus), times, times, times,
    st.none() | identities, st.none() | times, st.none() | st.floats(0, 1e5), st.none() | st.booleans(),
    st.booleans(), st.booleans(),
)  # fmt: skip
marks = st.builds(Mark, st.booleans(), st.none() | st.sampled_from(FileType))
saids = st.builds(
    Said, times, times, st.lists(jobs, max_size=3).map(tuple), st.dictionaries(identities, marks, max_size=3),
    st.frozensets(names, max_size=3),
)  # fmt: skip


@given(said=saids)
def test_what_people_said_comes_back(tmp_path_factory: pytest.TempPathFactory, said: Said) -> None:
    directory = tmp_path_factory.getbasetemp() / "said"
    write_said(directory, said)
    assert read_said(directory) == said


@given(said=saids, bit=st.integers(0, 2**16))
def test_a_flipped_bit_in_it_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, said: Said, bit: int
) -> None:
    directory = tmp_path_factory.getbasetemp() / "said"
    write_said(directory, said)
    content = bytearray((directory / SAID_NAME).read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    (directory / SAID_NAME).write_bytes(content)
    assert read_said(directory) is None


def test_it_is_written_with_every_word_of_theirs(backing: Backing) -> None:
    client = Client(backing)

    def said() -> Said:
        backing.export_changed()  # the daemon's commits do
        found = read_said(directory_of(backing))
        assert found is not None
        assert found.sequence == backing.store.sequence()
        return found

    client.mkdir("job")
    client.write("job/a.tmp")
    client.mkdir("job/deep")
    assert [job.status for job in said().jobs] == [JobStatus.RUNNING]
    client.set("job", "status", "failed")
    client.set("job", "debug", "1")
    assert [(job.status, job.debug) for job in said().jobs] == [(JobStatus.FAILED, True)]
    client.set("job/a.tmp", "keep", "1")
    assert list(said().marks.values()) == [Mark(keep=True)]
    client.set("job/deep", "keep", "1")
    assert said().pins == {b"job/deep"}
    client.rename("job/deep", "job/deeper")
    assert said().pins == {b"job/deeper"}
    client.set("job/deeper", "keep", "0")
    assert said().pins == frozenset()
    client.fs.close()


def test_a_user_without_rights_reads_no_backup(backing: Backing) -> None:
    record_something(backing)
    backing.backups.make_now(NOW_NS)
    (made,) = generations(directory_of(backing))
    if os.geteuid() == 0:
        with without_rights(), pytest.raises(PermissionError):
            made.path.read_bytes()
