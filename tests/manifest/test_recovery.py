"""Whatever becomes of the manifest store, the next opening costs nobody a file."""

import contextlib
import errno
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lffs.backing import Backing
from lffs.errors import NewerStoreError, StoreError
from lffs.handles import join
from lffs.manifest.backup import generations
from lffs.manifest.store import VERSION
from lffs.model import TEMPORARY_TYPES, EntryOrigin, FileIdentity, FileType, JobStatus
from tests.stores import (
    HOUR_NS,
    Client,
    FakeClock,
    fast_directory,
    make_settings,
    opened,
    problems,
    reap,
    tree,
    until_killed,
)

SETTINGS = make_settings(cleanup={"keep_unlinked": TEMPORARY_TYPES, "retention_hours": 5})
WITHOUT_BACKUPS = make_settings(manifest={"backups": 0}, cleanup={"keep_unlinked": TEMPORARY_TYPES})


# -- a store with something of everything -------------------------------------------------------------


def work_before_the_backup(client: Client, backing: Backing, clock: FakeClock) -> None:
    for job in ("running", "failed", "done", "again", "cleaned", "ended", "moved", "kept"):
        client.mkdir(job)
        client.mkdir(f"{job}/deep")
        for name in ("a.tmp", "deep/b.wav", "deep/final.mkv", "gone.tmp", "notes"):
            client.write(f"{job}/{name}", f"{job}/{name}".encode())
        client.mkdir(f"{job}/lazy")
        client.unlink(f"{job}/gone.tmp")  # kept: the job may fail
    client.mkdir("created")
    client.mkdir("created/lazy")
    client.set("kept/a.tmp", "keep", "1")
    client.set("kept/deep", "keep", "1")
    client.set("kept/notes", "file_type", "temp_audio")
    for job in ("done", "again"):
        client.set(job, "retention_hours", "9")
    client.set("failed", "status", "failed")
    for job in ("done", "again", "cleaned", "ended"):
        client.set(job, "status", "completed")
    clock.advance(6)
    reap(backing)
    client.unlink("ended/deep/final.mkv")
    client.unlink("ended/notes")
    client.rmdir("ended/deep")
    client.rmdir("ended")


def work_after_the_backup(client: Client, backing: Backing, clock: FakeClock) -> None:
    clock.advance(1)
    client.set("again", "status", "running")
    client.write("again/second.tmp", b"again")
    clock.advance(1)
    client.set("again", "status", "completed")
    client.rename("moved", "elsewhere")
    client.write("elsewhere/more.tmp", b"more")
    client.set("elsewhere", "debug", "1")
    client.rmdir("running/lazy")
    client.write("running/lazy", b"a file where a directory was")
    client.rename("running/a.tmp", "running/deep/renamed.tmp")
    client.write("running/late.tmp", b"late")
    client.set("running/late.tmp", "keep", "1")
    client.set("running/deep", "keep", "1")
    client.unlink("running/notes")
    client.mkdir("late")
    client.write("late/x.tmp", b"x")
    client.write("late/x.mkv", b"film")
    client.write("late/u.wav", b"unlinked")
    client.unlink("late/u.wav")
    client.mkdir("late2")
    client.write("late2/y.tmp", b"y")
    client.set("late2", "status", "completed")


@dataclass
class Truth:
    """What nobody may lose, as it was before the damage."""

    disk: dict[str, bytes | None]
    trash: dict[str, bytes | None]
    due: dict[FileIdentity, int | None] = field(default_factory=dict)
    hideable: set[FileIdentity] = field(default_factory=set)
    status: dict[bytes, JobStatus] = field(default_factory=dict)


def look(path: Path, backing: Backing) -> Truth:
    truth = Truth(tree(path), tree(path / ".lffs/trash"))
    jobs = {job.number: job for job in backing.store.jobs(ended=True)}
    for row in backing.store.trash():
        truth.due[row.entry.identity] = backing.cleanup.due_time(jobs[row.entry.job], row)
    for job in backing.jobs.live():
        truth.hideable |= {entry.identity for entry in backing.cleanup.plan(job).hide}
        truth.status[job.path] = job.status
    return truth


class Scene:
    """A populated store whose state can be put back, since no recovery moves or deletes a file."""

    def __init__(self, path: Path, *, killed: bool) -> None:
        self.path = path
        self.was_killed = killed
        self.pins_are_known = True
        self.state = path / ".lffs"
        self.clock = FakeClock()
        path.mkdir()
        with opened(path, SETTINGS, self.clock) as backing:
            client = Client(backing)
            work_before_the_backup(client, backing, self.clock)
            client.fs.close()
        self.old_store = (self.state / "manifest.db").read_bytes()
        self.clock.advance(2)
        with (until_killed if killed else opened)(path, SETTINGS, self.clock) as backing:
            client = Client(backing)
            work_after_the_backup(client, backing, self.clock)
            client.fs.close()
            backing.store.commit()
            backing.export_changed()
            self.truth = look(path, backing)
        if not killed:  # as if the last hour's backup had not been made yet
            generations(self.state / "backups")[0].path.unlink()
        self.kept = path.with_name(f"{path.name}.state")
        self._copy(self.state, self.kept)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        shutil.copytree(
            source, target, ignore=lambda _, names: {"trash", "staging"} & set(names), dirs_exist_ok=True
        )

    def put_back(self) -> None:
        self.pins_are_known = True
        for item in self.state.iterdir():
            if item.name not in ("trash", "staging"):
                shutil.rmtree(item) if item.is_dir() else item.unlink()
        self._copy(self.kept, self.state)

    @contextlib.contextmanager
    def reopened(self) -> Iterator[Backing]:
        """Open the store, and see that it costs nobody anything: now, and the next time."""
        with opened(self.path, SETTINGS, self.clock) as backing:
            self.check(backing)
            yield backing
        with opened(self.path, SETTINGS, self.clock) as backing:
            self.check(backing)

    def check(self, backing: Backing) -> None:
        now = look(self.path, backing)
        assert now.disk == self.truth.disk
        assert now.trash == self.truth.trash
        assert problems(backing) == {}
        for identity, due_ns in now.due.items():
            before_ns = self.truth.due[identity]
            assert due_ns is None or (before_ns is not None and due_ns >= before_ns)
        assert not self.pins_are_known or now.hideable <= self.truth.hideable

    def recorded(self, backing: Backing) -> dict[bytes, EntryOrigin]:
        return {
            join(job.path, entry.path): entry.origin
            for job in backing.jobs.live()
            for entry in backing.store.entries(job.number)
        }


@pytest.fixture(scope="module", params=["clean", "killed"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with fast_directory() as directory:
        yield Scene(directory / "backing", killed=request.param == "killed")


@pytest.fixture
def whole(scene: Scene) -> Scene:
    """The scene before anything was damaged."""
    scene.put_back()
    return scene


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)


def test_an_undamaged_store_is_not_recovered(whole: Scene) -> None:
    with whole.reopened() as backing:
        assert look(whole.path, backing).due == whole.truth.due
        assert look(whole.path, backing).status == whole.truth.status
    assert not (whole.state / "damaged").exists()


# -- damage -------------------------------------------------------------------------------------------


def become_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def zero_a_page(path: Path, at: int) -> None:
    content = path.read_bytes()
    start = at % max(1, len(content)) // 4096 * 4096
    path.write_bytes(content[:start] + bytes(4096) + content[start + 4096 :])


damages: dict[str, Callable[[Path, int], object]] = {
    "truncated": lambda path, at: os.truncate(path, at % max(1, path.stat().st_size)),
    "a flipped bit": flip,
    "a zeroed page": zero_a_page,
    "garbage": lambda path, at: path.write_bytes(at.to_bytes(8, "big") * 1000),
    "garbage after a header": lambda path, at: path.write_bytes(
        b"SQLite format 3\0" + at.to_bytes(8, "big") * 1000
    ),
    "empty": lambda path, at: path.write_bytes(b""),
    "deleted": lambda path, at: path.unlink(),
    "a directory": lambda path, at: become_a_directory(path),
}


def place(scene: Scene, name: str) -> Path:
    match name:
        case "said":
            return scene.state / "backups/said.json"
        case "backup":
            return next(iter(scene.state.glob("backups/*.db")), scene.state / "none")
        case "export":
            return scene.state / "manifests/running.json"
        case _:
            return scene.state / name


@settings(deadline=None, max_examples=40)
@given(
    hurt=st.lists(
        st.tuples(
            st.sampled_from(
                ["manifest.db"] * 4 + ["manifest.db-wal", "manifest.db-shm", "said", "backup", "export"]
            ),
            st.sampled_from(sorted(damages)),
            st.integers(0, 2**24),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_no_damage_costs_a_file(scene: Scene, hurt: list[tuple[str, str, int]]) -> None:
    scene.put_back()
    for name, damage, at in hurt:
        path = place(scene, name)
        if name.endswith(("-wal", "-shm")) and not path.exists():
            path.touch()  # after a clean end there is none
        if path.is_file():
            damages[damage](path, at)
    # A log that lost its end and a lost said.json: then a pin may be forgotten, but nothing else.
    scene.pins_are_known = not scene.was_killed or not any(name == "said" for name, *_ in hurt)
    with scene.reopened():
        pass


@pytest.mark.parametrize("damage", sorted(set(damages) - {"a flipped bit", "a zeroed page", "truncated"}))
def test_a_lost_store_comes_back_from_its_backup(whole: Scene, damage: str) -> None:
    """What people said is as new as the loss, what the backup knew is what it was, the rest is rebuilt."""
    damages[damage](whole.state / "manifest.db", 12345)
    for ending in ("-wal", "-shm"):
        (whole.state / f"manifest.db{ending}").unlink(missing_ok=True)
    with whole.reopened() as backing:
        assert look(whole.path, backing).status == whole.truth.status
        origins = whole.recorded(backing)
        assert origins[b"elsewhere/a.tmp"] is EntryOrigin.RECORDED  # its job was moved
        assert origins[b"running/deep/renamed.tmp"] is EntryOrigin.RECORDED  # and it was renamed
        for late in (b"running/late.tmp", b"elsewhere/more.tmp", b"late/x.mkv"):
            assert origins[late] is EntryOrigin.REBUILT
        job = backing.jobs.at(b"elsewhere")
        assert job is not None
        assert backing.jobs.debug(job)
        assert backing.directories.pins() == {b"kept/deep", b"running/deep"}
        client = Client(backing)
        assert client.get("running/late.tmp", "keep") == "1"
        assert client.get("kept/notes", "file_type") == "temp_audio"
        assert client.get("done", "retention_hours") == "9"
        assert client.read("running/lazy") == b"a file where a directory was"
        assert backing.directories.lazy(b"running/lazy") is None
        assert backing.directories.lazy(b"moved/lazy") is None  # its parent has another name now
        assert client.exists("kept/lazy")
        assert client.exists("elsewhere/lazy")
        client.fs.close()
    (evidence,) = (whole.state / "damaged").iterdir()
    assert damage == "deleted" or (evidence / "manifest.db").exists()


def test_a_jobs_number_is_not_used_again(whole: Scene) -> None:
    """Not even that of a job which the backup never knew and nothing is left of."""
    with whole.reopened() as backing:
        client = Client(backing)
        client.mkdir("short-lived")
        job = backing.jobs.at(b"short-lived")
        assert job is not None
        client.rmdir("short-lived")
        backing.store.forget_job(job.number)
        client.fs.close()
    (whole.state / "manifest.db").write_bytes(b"rubbish")
    for newest in generations(whole.state / "backups")[:-1]:
        newest.path.unlink()
    with whole.reopened() as backing:
        assert backing.store.last_number() >= job.number


def test_without_what_was_said_the_backup_releases_nothing(whole: Scene) -> None:
    """Nobody knows then which job was taken to running since, or what was pinned."""
    (whole.state / "manifest.db").write_bytes(b"rubbish")
    (whole.state / "backups/said.json").unlink()
    with whole.reopened() as backing:
        found = look(whole.path, backing)
        assert not found.hideable
        assert not any(found.due.values())
        assert found.status[b"cleaned"] is JobStatus.CLEANED
        assert found.status[b"done"] is JobStatus.RUNNING  # it keeps what the pipeline unlinked
        assert found.status[b"failed"] is JobStatus.FAILED


def test_without_any_backup_everything_is_rebuilt_under_the_jobs_that_were(whole: Scene) -> None:
    (whole.state / "manifest.db").write_bytes(b"rubbish")
    shutil.rmtree(whole.state / "backups")
    with whole.reopened() as backing:
        assert set(whole.recorded(backing).values()) == {EntryOrigin.REBUILT}
        found = look(whole.path, backing)
        assert found.status[b"again"] is JobStatus.COMPLETED  # as its export says
        assert set(found.due.values()) == {None}
        job = backing.jobs.at(b"again")
        assert job is not None
        assert {row.entry.path for row in backing.store.trash(job.number)} >= {
            b"a.tmp",
            b"second.tmp",
            b"deep/b.wav",
        }


def test_with_nothing_left_but_the_disk_hidden_files_are_kept_under_their_number(whole: Scene) -> None:
    for name in ("manifest.db", "manifest.db-wal", "manifest.db.seal"):
        (whole.state / name).unlink(missing_ok=True)
    shutil.rmtree(whole.state / "backups")
    shutil.rmtree(whole.state / "manifests")
    with whole.reopened() as backing:
        assert set(whole.recorded(backing).values()) == {EntryOrigin.REBUILT}
        unknown = [job for job in backing.store.jobs(ended=True) if job.path.startswith(b"lost+found/")]
        assert {job.number for job in unknown} == {
            int(name)
            for name in os.listdir(whole.state / "trash")
            if any((whole.state / "trash" / name).rglob("*"))
        }
        assert min(job.number for job in backing.jobs.live()) > max(job.number for job in unknown)


def test_what_was_rebuilt_is_typed_by_the_rules_and_goes_when_an_administrator_says_so(whole: Scene) -> None:
    (whole.state / "manifest.db").write_bytes(b"rubbish")
    shutil.rmtree(whole.state / "backups")
    with whole.reopened() as backing:
        job = backing.jobs.at(b"late")
        assert job is not None
        types = {entry.path: entry.type for entry in backing.store.entries(job.number)}
        assert types == {b"x.tmp": FileType.TEMP_VIDEO, b"x.mkv": FileType.FINAL_VIDEO}
        before = tree(whole.path)
        client = Client(backing)
        client.set("late", "status", "completed")
        assert tree(whole.path) == before
        client.fs.close()


# -- stores that are sound and too old ----------------------------------------------------------------


def test_an_old_store_that_was_put_back_is_brought_up_to_date(whole: Scene) -> None:
    (whole.state / "manifest.db").write_bytes(whole.old_store)
    for ending in ("-wal", "-shm", ".seal"):
        (whole.state / f"manifest.db{ending}").unlink(missing_ok=True)
    with whole.reopened() as backing:
        assert look(whole.path, backing).status == whole.truth.status


def test_the_loss_of_the_log_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody said anything since the last checkpoint, only the log's absence shows it."""
    with until_killed(tmp_path, SETTINGS) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.write("job/a.tmp")
        client.fs.close()
        backing.store.commit()
        backing.export_changed()
    (tmp_path / ".lffs/manifest.db-wal").unlink()
    (tmp_path / ".lffs/backups/said.json").unlink()
    with opened(tmp_path, SETTINGS) as backing:
        (job,) = backing.jobs.live()
        assert [entry.origin for entry in backing.store.entries(job.number)] == [EntryOrigin.REBUILT]
    assert "lost its write-ahead log" in caplog.text


@pytest.mark.parametrize("backups", [0, 5])
def test_after_a_kill_a_store_is_believed_less_without_what_was_said(tmp_path: Path, backups: int) -> None:
    """Where there are no backups there is no such file either, and nothing amiss."""
    configured = make_settings(manifest={"backups": backups})
    with until_killed(tmp_path, configured) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.write("job/a.tmp")
        client.fs.close()
        backing.store.commit()
        backing.export_changed()
    (tmp_path / ".lffs/backups/said.json").unlink(missing_ok=True)
    (tmp_path / "job/late.tmp").touch()
    with opened(tmp_path, configured) as backing:
        (job,) = backing.jobs.live()
        origins = {entry.path: entry.origin for entry in backing.store.entries(job.number)}
        assert origins[b"a.tmp"] is EntryOrigin.RECORDED
        assert origins[b"late.tmp"] is (EntryOrigin.REBUILT if backups else EntryOrigin.RECORDED)


def test_what_is_rebuilt_stays_so_when_the_log_is_lost_after_the_recovery(tmp_path: Path) -> None:
    with opened(tmp_path, WITHOUT_BACKUPS) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.write("job/a.tmp")
        client.fs.close()
    (tmp_path / ".lffs/manifest.db").write_bytes(b"rubbish")
    with until_killed(tmp_path, WITHOUT_BACKUPS):
        pass
    (tmp_path / ".lffs/manifest.db-wal").unlink()
    with opened(tmp_path, WITHOUT_BACKUPS) as backing:
        (job,) = backing.jobs.live()
        assert [entry.origin for entry in backing.store.entries(job.number)] == [EntryOrigin.REBUILT]


# -- other versions, other programs -------------------------------------------------------------------


def files_of(state: Path) -> dict[str, bytes | None]:
    return {name: content for name, content in tree(state).items() if name != "lock"}


def test_a_newer_store_is_refused_untouched(whole: Scene) -> None:
    with contextlib.closing(sqlite3.connect(whole.state / "manifest.db")) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = files_of(whole.state)
    with pytest.raises(NewerStoreError), opened(whole.path, SETTINGS):
        pass
    assert files_of(whole.state) == before


@pytest.mark.parametrize("offset", range(60, 64))
def test_a_flipped_bit_makes_no_store_newer(whole: Scene, offset: int) -> None:
    if whole.was_killed:
        return  # in use, a store has no seal: its version is believed, and refused if it is newer
    flip(whole.state / "manifest.db", offset * 8 + 1)
    with whole.reopened() as backing:
        assert look(whole.path, backing).status == whole.truth.status


def test_a_store_that_says_that_it_is_only_to_be_read_is_damaged(whole: Scene) -> None:
    """One bit of the header (the write version, 1.3 of SQLite's file format); SQLite finds no fault."""
    flip(whole.state / "manifest.db", 18 * 8)
    (whole.state / "manifest.db.seal").unlink(missing_ok=True)
    with whole.reopened() as backing:
        assert look(whole.path, backing).status == whole.truth.status


def test_what_was_changed_in_a_closed_store_is_no_ground_to_delete(whole: Scene) -> None:
    """A bit that flips in a time is in order for SQLite, and would cost a file.

    After a kill there is no seal that could show it.
    """
    if whole.was_killed:
        return
    with contextlib.closing(sqlite3.connect(whole.state / "manifest.db")) as database, database:
        database.execute("UPDATE trash SET hidden_ns = hidden_ns - (1 << 50)")
    with whole.reopened() as backing:
        assert look(whole.path, backing).status == whole.truth.status
    assert (whole.state / "damaged").exists()


def test_a_store_that_another_program_has_locked_is_not_taken_for_damaged(tmp_path: Path) -> None:
    with opened(tmp_path, SETTINGS):
        pass
    path = tmp_path / ".lffs/manifest.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked"), opened(tmp_path, SETTINGS):
            pass
    assert not (tmp_path / ".lffs/damaged").exists()
    with opened(tmp_path, SETTINGS) as backing:
        assert backing.jobs.live() == []


@pytest.mark.parametrize("words", [b"CREATE TABLE entries", b"temp_video"])
def test_text_that_is_no_utf_8_is_damage(tmp_path: Path, words: bytes) -> None:
    """Python fails at it, be it in SQLite's message or in a row."""
    with opened(tmp_path, SETTINGS) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.write("job/a.tmp")
        client.fs.close()
    path = tmp_path / ".lffs/manifest.db"
    content = path.read_bytes()
    assert words in content
    path.write_bytes(content.replace(words, b"\xd8" + words[1:]))
    (tmp_path / ".lffs/manifest.db.seal").unlink()
    with opened(tmp_path, SETTINGS) as backing:
        client = Client(backing)
        assert client.read("job/a.tmp") == b"data"
        client.fs.close()
        assert problems(backing) == {}
    assert (tmp_path / ".lffs/damaged").exists()


@pytest.mark.parametrize("table", ["entries", "trash"])
def test_a_word_that_is_none_is_damage(whole: Scene, table: str) -> None:
    """SQLite finds nothing wrong with it."""
    with contextlib.closing(sqlite3.connect(whole.state / "manifest.db")) as database, database:
        database.execute(f"UPDATE {table} SET type = 'temp_vjdeo'")
    with whole.reopened() as backing:
        assert look(whole.path, backing).status == whole.truth.status
    assert (whole.state / "damaged").exists()


# -- what is kept, what is said -----------------------------------------------------------------------


def test_evidence_is_kept_of_the_last_few_times(whole: Scene) -> None:
    for number in range(5):
        (whole.state / "manifest.db").write_bytes(b"rubbish %d" % number)
        with opened(whole.path, SETTINGS, whole.clock):
            pass
        whole.clock.advance(0.01)
    kept = sorted((whole.state / "damaged").glob("*/manifest.db"))
    assert [path.read_bytes() for path in kept] == [b"rubbish 2", b"rubbish 3", b"rubbish 4"]


def test_a_bad_backup_gives_way_to_an_older_one(whole: Scene, caplog: pytest.LogCaptureFixture) -> None:
    backups = whole.state / "backups"
    newest = generations(backups)[0]
    shutil.copy(newest.path, backups / f"manifest-{newest.number + 1:08d}-20300101T000000Z.db")
    flip(backups / f"manifest-{newest.number + 1:08d}-20300101T000000Z.db", 100 * 8)
    (whole.state / "manifest.db").write_bytes(b"rubbish")
    with whole.reopened() as backing:
        assert whole.recorded(backing)[b"kept/a.tmp"] is EntryOrigin.RECORDED
    assert f"restored from {newest.path.name}" in caplog.text


def test_a_backup_of_a_newer_version_is_left_alone(whole: Scene) -> None:
    newest = generations(whole.state / "backups")[0]
    with contextlib.closing(sqlite3.connect(newest.path)) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    content = newest.path.read_bytes()
    (whole.state / "manifest.db").write_bytes(b"rubbish")
    with whole.reopened():
        assert newest.path.read_bytes() == content


def test_with_no_room_for_a_copy_the_backup_itself_takes_the_stores_place(
    whole: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    (whole.state / "manifest.db").write_bytes(b"rubbish")
    with whole.reopened() as backing:
        assert look(whole.path, backing).status == whole.truth.status


def test_the_log_says_what_was_done(whole: Scene, caplog: pytest.LogCaptureFixture) -> None:
    (whole.state / "manifest.db").write_bytes(b"rubbish")
    shutil.rmtree(whole.state / "backups")
    with whole.reopened():
        pass
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert ["has no SQLite header" in said[0], "is kept in" in said[1], "rebuilt by scanning" in said[2]] == [
        True
    ] * 3


# -- exports ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", sorted(set(damages) - {"a directory", "a zeroed page"}))
def test_a_damaged_export_is_written_anew(whole: Scene, damage: str) -> None:
    path = whole.state / "manifests/again.json"
    before = json.loads(path.read_bytes())
    damages[damage](path, 1000)
    with whole.reopened() as backing:
        job = backing.jobs.at(b"again")
        assert job is not None
        after = json.loads(path.read_bytes())
        assert after.pop("crc32") != before.pop("crc32") or after == before
        assert after["entries"].keys() == before["entries"].keys()


def test_whole_exports_are_left_as_they_are(whole: Scene) -> None:
    with whole.reopened():
        pass  # a kill before the export, perhaps: now they are true
    path = whole.state / "manifests/again.json"
    before = path.stat().st_mtime_ns
    with whole.reopened():
        pass
    assert path.stat().st_mtime_ns == before


# -- damage that shows while the store is in use ------------------------------------------------------


def damage_under(backing: Backing, state: Path) -> None:
    """Zero every page but the first, and have SQLite forget what it read."""
    backing.store.commit()
    backing.store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    backing.store._db.execute("PRAGMA cache_size = 0")
    descriptor = os.open(state / "manifest.db", os.O_RDWR)
    size = os.fstat(descriptor).st_size
    os.pwrite(descriptor, b"\xff" * (size - 4096), 4096)
    backing.store._db.execute("PRAGMA shrink_memory")
    # Closing the descriptor would drop SQLite's own locks on the file (POSIX), so it stays open a while.
    backing.handles._held_for_test = descriptor  # type: ignore[attr-defined]


def test_damage_while_in_use_is_said_once_and_hides_nothing(
    whole: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(whole.path, SETTINGS, whole.clock) as backing:
        damage_under(backing, whole.state)
        (job,) = [job for job in backing.jobs.live() if job.path == b"running"]
        for _ in range(3):
            with pytest.raises(StoreError) as caught:
                backing.store.entries(job.number)
            assert caught.value.errno == errno.EIO
        with pytest.raises(StoreError, match="is damaged"):
            backing.set_status(job, JobStatus.COMPLETED, lambda identity: False)
        with pytest.raises(StoreError, match="is damaged"):
            backing.candidates(job)
        assert backing.store.is_damaged
        descriptor = backing.handles._held_for_test  # type: ignore[attr-defined]
    os.close(descriptor)
    assert caplog.text.count("mount again to have it recovered") == 1
    with whole.reopened() as backing:
        assert look(whole.path, backing).status == whole.truth.status
    assert (whole.state / "damaged").exists()


def test_retention_counts_from_the_recovery(whole: Scene) -> None:
    """The file may have been brought back and hidden again since the backup."""
    (whole.state / "manifest.db").write_bytes(b"rubbish")
    with whole.reopened() as backing:
        now_ns = whole.clock.wall_ns()
        job = backing.jobs.at(b"done")
        assert job is not None
        rows = backing.store.trash(job.number)
        assert rows
        assert {backing.cleanup.due_time(job, row) for row in rows} == {now_ns + 9 * HOUR_NS}
