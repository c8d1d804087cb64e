"""What a status does to a job's files, and that a kill in the middle of it leaves nothing half done."""

import contextlib
import itertools
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lffs.backing
from lffs.backing import Backing
from lffs.cleanup.trash import Deleted, Deletion, Trash
from lffs.errors import JobBusyError
from lffs.manifest.records import Job
from lffs.model import FileType, JobStatus
from lffs.work import Work
from tests.stores import (
    Client,
    FakeClock,
    carried_out,
    make_settings,
    opened,
    problems,
    reap,
    tree,
    until_killed,
)

RUNNING, COMPLETED, FAILED = JobStatus.RUNNING, JobStatus.COMPLETED, JobStatus.FAILED
KEEPING = {"keep_unlinked": frozenset({FileType.TEMP_AUDIO})}


def job_of(backing: Backing, path: bytes = b"job") -> Job:
    job = backing.jobs.at(path)
    assert job is not None
    return job


def set_status(backing: Backing, status: JobStatus, *, work: bool = True) -> Work[Any, None] | None:
    """Set the job's status as an unmounted store does; without *work* nothing is deleted yet."""
    change = backing.set_status(job_of(backing), status, lambda identity: False)
    if change.work is not None and work:
        carried_out(change.work)
        return None
    return change.work


def make_files(backing: Backing, **files: bytes) -> None:
    """Make files through a mount: name or directory__name, a dot for each underscore left."""
    client = Client(backing)
    if not client.exists("job"):
        client.mkdir("job")
    for name, content in files.items():
        path = "job/" + name.replace("__", "/").replace("_", ".")
        for above in list(Path(path).parents)[-2::-1]:
            if str(above) != "." and not client.exists(str(above)):
                client.mkdir(str(above))
        client.write(path, content)
    client.fs.close()


def hidden_names(backing: Backing) -> list[str]:
    return sorted(name.decode() for _, name, _ in backing.trash.files())


# -- each status ------------------------------------------------------------------------------------


def test_completed_hides_the_temporaries_and_leaves_the_finals(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        make_files(backing, a_tmp=b"t", slides__s_png=b"s", v_mkv=b"final", notes=b"other")
        set_status(backing, COMPLETED)
        assert tree(tmp_path) == {"job": None, "job/v.mkv": b"final", "job/notes": b"other"}
        assert hidden_names(backing) == ["a.tmp", "slides/s.png"]
        assert problems(backing) == {}


def test_failed_keeps_everything_and_brings_back_what_was_hidden(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        make_files(backing, a_tmp=b"t", v_mkv=b"final")
        before = tree(tmp_path)
        for status in (COMPLETED, FAILED):
            set_status(backing, status)
        assert tree(tmp_path) == before
        assert hidden_names(backing) == []


def test_completed_again_hides_what_came_since(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        make_files(backing, a_tmp=b"1")
        set_status(backing, COMPLETED)
        make_files(backing, b_tmp=b"2")
        set_status(backing, COMPLETED)
        assert hidden_names(backing) == ["a.tmp", "b.tmp"]
        set_status(backing, COMPLETED)
        assert hidden_names(backing) == ["a.tmp", "b.tmp"]


def test_of_several_with_one_name_the_newest_comes_back(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        for content in (b"1", b"2", b"3"):
            make_files(backing, d__a_tmp=content)
            set_status(backing, COMPLETED)
        assert hidden_names(backing) == ["d/a.tmp", "d/a.tmp.~1~", "d/a.tmp.~2~"]
        set_status(backing, RUNNING)
        assert tree(tmp_path)["job/d/a.tmp"] == b"3"
        assert hidden_names(backing) == ["d/a.tmp.~1~", "d/a.tmp.~2~"]


def test_a_name_made_anew_stands_and_the_old_file_stays_in_the_trash(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        make_files(backing, a_tmp=b"old")
        set_status(backing, COMPLETED)
        make_files(backing, a_tmp=b"new")
        set_status(backing, RUNNING)
        assert tree(tmp_path)["job/a.tmp"] == b"new"
        assert hidden_names(backing) == ["a.tmp.~1~"]
        assert problems(backing) == {}


def test_a_file_whose_name_looks_like_one_set_aside_is_hidden_too(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        client = Client(backing)
        client.mkdir("job")
        for _ in range(2):
            for name in ("a.wav", "a.wav.~1~"):
                client.write(f"job/{name}", name.encode())
                client.set(f"job/{name}", "file_type", "temp_audio")
            client.set("job", "status", "completed")
            assert client.list("job") == []
        assert problems(backing) == {}


def test_a_directory_and_a_file_of_one_name_are_hidden_one_after_the_other(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, clock=clock) as backing:
        client = Client(backing)
        client.mkdir("job")
        for first, second in (("x.tmp", "x.tmp/a.tmp"), ("y.tmp/a.tmp", "y.tmp")):
            for path in (first, second):
                if "/" in path:
                    client.mkdir(f"job/{path.partition('/')[0]}")
                client.write(f"job/{path}", path.encode())
                clock.advance(1)
                client.set("job", "status", "completed")
                assert client.list("job") == []
        client.set("job", "status", "failed")
        assert client.tree() == {
            "job": None, "job/x.tmp": None, "job/x.tmp/a.tmp": b"x.tmp/a.tmp", "job/y.tmp": b"y.tmp",
        }  # fmt: skip
        assert problems(backing) == {}


def test_directories_that_are_empty_then_vanish_and_come_back_as_they_were(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        make_files(backing, keep__v_mkv=b"final", keep__deep__s_png=b"s", slides__s_png=b"s")
        (tmp_path / "job/slides").chmod(0o2711)
        os.setxattr(tmp_path / "job/slides", "user.colour", b"red")
        set_status(backing, COMPLETED)
        assert set(tree(tmp_path)) == {"job", "job/keep", "job/keep/v.mkv"}
        set_status(backing, RUNNING)
        assert set(tree(tmp_path)) >= {"job/keep/deep/s.png", "job/slides/s.png"}
        assert stat.S_IMODE((tmp_path / "job/slides").stat().st_mode) == 0o2711
        assert os.getxattr(tmp_path / "job/slides", "user.colour") == b"red"


def test_a_job_that_never_had_a_temporary_stays_completed(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        make_files(backing, v_mkv=b"final")
        set_status(backing, COMPLETED)
        reap(backing)
        assert job_of(backing).status is COMPLETED


def test_with_a_retention_of_zero_the_job_is_cleaned_at_once(tmp_path: Path) -> None:
    with opened(tmp_path, make_settings(cleanup={"retention_hours": 0})) as backing:
        make_files(backing, a_tmp=b"t", v_mkv=b"final")
        work = set_status(backing, COMPLETED, work=False)
        assert work is not None
        assert job_of(backing).status is JobStatus.CLEANING_UP
        with pytest.raises(JobBusyError):
            set_status(backing, RUNNING)
        carried_out(work)
        assert job_of(backing).status is JobStatus.CLEANED
        assert hidden_names(backing) == []
        (removal,) = backing.store.removals(job_of(backing).number)
        assert (removal.entry.path, removal.why) == (b"a.tmp", "retention_hours is 0")


def test_cleaned_is_said_again_by_completed_when_nothing_came_since(tmp_path: Path) -> None:
    """Setting the same status again changes nothing; cleaned is how a completed job ends."""
    with opened(tmp_path, make_settings(cleanup={"retention_hours": 0})) as backing:
        make_files(backing, a_tmp=b"t")
        set_status(backing, COMPLETED)
        set_status(backing, COMPLETED)
        assert job_of(backing).status is JobStatus.CLEANED


def test_a_job_is_cleaned_when_its_last_temporary_is_deleted_for_good(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, clock=clock) as backing:
        make_files(backing, a_tmp=b"t")
        set_status(backing, COMPLETED)
        clock.advance(12)
        make_files(backing, b_tmp=b"t")
        set_status(backing, COMPLETED)
        clock.advance(12)
        reap(backing)
        assert (hidden_names(backing), job_of(backing).status) == (["b.tmp"], COMPLETED)
        clock.advance(12)
        reap(backing)
        assert (hidden_names(backing), job_of(backing).status) == ([], JobStatus.CLEANED)


@pytest.mark.parametrize(
    "settings",
    [make_settings(debug=True), make_settings(cleanup={"enabled": False})],
    ids=["debug", "not enabled"],
)
def test_where_nothing_is_cleaned_by_itself_completed_hides_nothing(tmp_path: Path, settings: Any) -> None:
    clock = FakeClock()
    with opened(tmp_path, settings, clock) as backing:
        make_files(backing, a_tmp=b"t", empty__b_tmp=b"t")
        before = tree(tmp_path)
        set_status(backing, COMPLETED)
        clock.advance(10_000)
        reap(backing)
        assert tree(tmp_path) == before
        assert job_of(backing).status is COMPLETED


def test_what_was_hidden_before_debug_is_not_reaped_while_it_lasts(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, clock=clock) as backing:
        make_files(backing, a_tmp=b"t")
        set_status(backing, COMPLETED)
        clock.advance(25)
        backing.configure(make_settings(debug=True))
        reap(backing)
        assert hidden_names(backing) == ["a.tmp"]
        backing.configure(make_settings())
        reap(backing)
        assert hidden_names(backing) == []


def test_failures_that_are_not_preserved_are_treated_as_completed(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, make_settings(cleanup={"preserve_on_failure": False}), clock) as backing:
        make_files(backing, a_tmp=b"t", v_mkv=b"final")
        set_status(backing, FAILED)
        assert set(tree(tmp_path)) == {"job", "job/v.mkv"}
        clock.advance(25)
        reap(backing)
        assert (hidden_names(backing), job_of(backing).status) == ([], FAILED)


def test_a_failed_job_is_released_after_its_own_retention(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, make_settings(cleanup={"failed_retention_hours": 48}), clock) as backing:
        make_files(backing, a_tmp=b"t", v_mkv=b"final")
        set_status(backing, FAILED)
        clock.advance(47)
        assert backing.cleanup.release_failed(clock.wall_ns(), lambda identity: False) == []
        clock.advance(1)
        ((job, hidden),) = backing.cleanup.release_failed(clock.wall_ns(), lambda identity: False)
        assert [one.entry.path for one in hidden.files] == [b"a.tmp"]
        reap(backing)
        assert (hidden_names(backing), job.status) == ([], FAILED)
        assert set(tree(tmp_path)) == {"job", "job/v.mkv"}


# -- what the pipeline unlinks ----------------------------------------------------------------------


def unlink(backing: Backing, path: str) -> None:
    client = Client(backing)
    client.unlink(path)
    client.fs.close()


def test_what_the_pipeline_unlinks_comes_back_when_its_job_fails(tmp_path: Path) -> None:
    with opened(tmp_path, make_settings(cleanup=KEEPING)) as backing:
        make_files(backing, a_wav=b"kept", b_tmp=b"not kept")
        unlink(backing, "job/a.wav")
        unlink(backing, "job/b.tmp")
        assert tree(tmp_path) == {"job": None}
        assert hidden_names(backing) == ["a.wav"]
        set_status(backing, RUNNING)  # brings back what lffs hid alone
        assert tree(tmp_path) == {"job": None}
        set_status(backing, FAILED)
        assert tree(tmp_path) == {"job": None, "job/a.wav": b"kept"}


def test_what_the_pipeline_unlinks_is_reaped_a_retention_after_completed(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, make_settings(cleanup=KEEPING), clock) as backing:
        make_files(backing, a_wav=b"kept")
        unlink(backing, "job/a.wav")
        clock.advance(100)
        reap(backing)
        assert hidden_names(backing) == ["a.wav"]
        set_status(backing, COMPLETED)
        clock.advance(23)
        reap(backing)
        assert hidden_names(backing) == ["a.wav"]
        clock.advance(1)
        reap(backing)
        assert hidden_names(backing) == []


@pytest.mark.parametrize("status", [JobStatus.CREATED, COMPLETED, FAILED])
def test_outside_of_a_running_job_unlinking_deletes(tmp_path: Path, status: JobStatus) -> None:
    with opened(tmp_path, make_settings(cleanup=KEEPING)) as backing:
        make_files(backing, v_mkv=b"")
        job_of(backing).status = status
        make_files(backing, a_wav=b"")
        job_of(backing).status = status
        unlink(backing, "job/a.wav")
        assert hidden_names(backing) == []


def test_on_a_full_disk_what_was_unlinked_first_goes_first_and_no_more_than_needed(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, make_settings(cleanup=KEEPING), clock) as backing:
        for name in "cab":
            make_files(backing, **{f"{name}_wav": b"x" * 10})
            unlink(backing, f"job/{name}.wav")
            clock.advance(1)
        free = itertools.count(5, 10)
        work = backing.cleanup.make_room(lambda: next(free), 12)
        assert work is not None
        carried_out(work)
        assert hidden_names(backing) == ["b.wav"]
        (first, second) = backing.store.removals(job_of(backing).number)
        assert (first.entry.path, second.entry.path, first.why) == (b"c.wav", b"a.wav", "the disk was full")
        make_files(backing, t_tmp=b"")
        set_status(backing, COMPLETED)
        assert backing.cleanup.make_room(lambda: 0, 1) is None  # nothing of a running job is kept


# -- failures ---------------------------------------------------------------------------------------


class FaultyTrash(Trash):
    """Fails, or dies, at its k-th step; a step is each call that changes the disk."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.steps = 0
        self.fault: Callable[[int, str], None] = lambda step, what: None

    def _step(self, what: str) -> None:
        self.steps += 1
        self.fault(self.steps, what)

    def prepare(self, job: int, job_fd: int, directory: bytes) -> None:
        self._step("before prepare")
        super().prepare(job, job_fd, directory)

    def take(self, source_fd: int, source: bytes, identity: Any, job: int, name: bytes) -> None:
        self._step("before take " + os.fsdecode(source))
        super().take(source_fd, source, identity, job, name)
        self._step("after take " + os.fsdecode(source))

    def put_back(self, hidden: Any, target_fd: int, target: bytes) -> None:
        self._step("before put_back " + os.fsdecode(target))
        super().put_back(hidden, target_fd, target)
        self._step("after put_back " + os.fsdecode(target))

    def move_aside(self, hidden: Any) -> bytes:
        self._step("before move_aside")
        aside = super().move_aside(hidden)
        self._step("after move_aside")
        return aside

    def delete(self, deletions: list[Deletion]) -> list[Deleted]:
        done = []
        for deletion in deletions:
            self._step("before delete")
            done += super().delete([deletion])
            self._step("after delete")
        return done


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lffs.backing, "Trash", FaultyTrash)


def trash_of(backing: Backing) -> FaultyTrash:
    assert isinstance(backing.trash, FaultyTrash)
    return backing.trash


@pytest.mark.usefixtures("faulty")
def test_a_file_that_can_not_be_hidden_is_named_and_the_rest_is_hidden(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Property 8."""

    def refuse_b(step: int, what: str) -> None:
        if what == "before take b.tmp":
            raise PermissionError(1, "Operation not permitted")

    with opened(tmp_path) as backing:
        make_files(backing, a_tmp=b"", b_tmp=b"", c_tmp=b"")
        trash_of(backing).fault = refuse_b
        change = backing.set_status(job_of(backing), COMPLETED, lambda identity: False)
        assert [(entry.path, why) for entry, why in change.hidden.failed] == [
            (b"b.tmp", "[Errno 1] Operation not permitted")
        ]
        assert set(tree(tmp_path)) == {"job", "job/b.tmp"}
        assert job_of(backing).status is COMPLETED
        assert problems(backing) == {}
    assert "job job: cannot hide b.tmp: [Errno 1] Operation not permitted; it stays in view" in caplog.text


@pytest.mark.usefixtures("faulty")
def test_a_file_that_can_not_be_restored_stays_in_the_trash_and_the_rest_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse_b(step: int, what: str) -> None:
        if what == "before put_back b.tmp":
            raise OSError(28, "No space left on device")

    with opened(tmp_path) as backing:
        make_files(backing, a_tmp=b"", b_tmp=b"", c_tmp=b"")
        set_status(backing, COMPLETED)
        trash_of(backing).fault = refuse_b
        set_status(backing, FAILED)
        assert set(tree(tmp_path)) == {"job", "job/a.tmp", "job/c.tmp"}
        assert hidden_names(backing) == ["b.tmp"]
        assert "cannot restore b.tmp" in caplog.text
        trash_of(backing).fault = lambda step, what: None
        set_status(backing, FAILED)
        assert hidden_names(backing) == []


def test_what_can_not_be_reaped_is_logged_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    with opened(tmp_path, clock=clock) as backing:
        make_files(backing, a_tmp=b"1", b_tmp=b"2")
        set_status(backing, COMPLETED)
        (number, *_) = [number for number, _, _ in backing.trash.files()]
        place = tmp_path / f".lffs/trash/{number}/a.tmp"
        place.rename(tmp_path / "aside")
        place.mkdir()
        clock.advance(24)
        for _ in range(3):
            reap(backing)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "cannot reap a.tmp: a.tmp in the trash is another file; tried again every round" in caplog.text
        place.rmdir()
        (tmp_path / "aside").rename(place)
        reap(backing)
        assert hidden_names(backing) == []
        assert job_of(backing).status is JobStatus.CLEANED


def test_what_is_open_for_writing_is_reaped_after_its_last_close(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, clock=clock) as backing:
        client = Client(backing)
        client.mkdir("job")
        handle = client.create("job/a.tmp")
        client.set("job", "status", "completed")
        assert client.list("job") == []
        clock.advance(100)
        reap(backing)
        assert hidden_names(backing) == ["a.tmp"]
        client.fs.write(handle, 0, b"works on")
        client.fs.release(handle)
        clock.advance(23)
        reap(backing)
        assert hidden_names(backing) == ["a.tmp"]
        clock.advance(1)
        reap(backing)
        assert hidden_names(backing) == []


def test_a_file_held_by_another_process_does_not_keep_its_job_from_running_again(tmp_path: Path) -> None:
    with opened(tmp_path, make_settings(cleanup={"retention_hours": 0})) as backing:
        make_files(backing, a_tmp=b"1")
        with (tmp_path / "job/a.tmp").open("ab"):
            set_status(backing, COMPLETED)
            assert hidden_names(backing) == ["a.tmp"]
            set_status(backing, RUNNING)
        assert set(tree(tmp_path)) == {"job", "job/a.tmp"}


def test_a_directory_that_can_not_be_removed_does_not_stop_the_job(tmp_path: Path) -> None:
    """Another user's, seen by a daemon that is not root; here one that something is mounted on would do."""
    with opened(tmp_path) as backing:
        make_files(backing, d__a_tmp=b"")

        def refuse(path: Any, *, dir_fd: int | None = None) -> None:
            raise PermissionError(13, "Permission denied")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "rmdir", refuse)
            set_status(backing, COMPLETED)
        assert job_of(backing).status is COMPLETED
        assert set(tree(tmp_path)) == {"job", "job/d"}


def test_what_another_filesystem_holds_is_not_hidden(tmp_path: Path) -> None:
    """Below BACKING it is shown; no rename reaches the trash from there."""
    with opened(tmp_path) as backing:
        make_files(backing, a_tmp=b"")
        backing.cleanup._device += 1  # as if the file were on another one
        change = backing.set_status(job_of(backing), COMPLETED, lambda identity: False)
        assert [why for _, why in change.hidden.failed] == ["a.tmp is on another filesystem"]
        assert set(tree(tmp_path)) == {"job", "job/a.tmp"}


# -- kills ------------------------------------------------------------------------------------------


class Died(BaseException):
    """The process is gone: nothing catches it, nothing after it runs."""


def dying_at(step: int) -> Callable[[int, str], None]:
    def die(now: int, what: str) -> None:
        if now == step:
            raise Died(what)

    return die


def prepared(directory: Path, then: JobStatus | None, settings: Any) -> None:
    """A job with temporaries, older ones of the same name in the trash, a pinned one and a final."""
    with opened(directory, settings) as backing:
        make_files(backing, a_tmp=b"old", d__b_tmp=b"old", u_wav=b"unlinked")
        unlink(backing, "job/u.wav")
        set_status(backing, COMPLETED)
        make_files(backing, a_tmp=b"new", d__b_tmp=b"new", d__e__c_tmp=b"c", v_mkv=b"final", p_tmp=b"pin")
        client = Client(backing)
        client.set("job/p.tmp", "keep", "1")
        client.fs.close()
        if then is not None:
            set_status(backing, then)


def everything(directory: Path) -> list[bytes]:
    """The content of every file in view and in the trash."""
    trash = directory / ".lffs/trash"
    hidden = [path.read_bytes() for path in trash.rglob("*") if path.is_file()] if trash.exists() else []
    return sorted([*hidden, *(content for content in tree(directory).values() if content is not None)])


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize("retention", [24, 0])
@pytest.mark.parametrize(
    ("before", "status"),
    [(None, COMPLETED), (COMPLETED, RUNNING), (COMPLETED, FAILED)],
    ids=["completing", "running again", "failing"],
)
def test_wherever_it_is_killed_the_next_start_ends_what_was_begun(
    tmp_path: Path, before: JobStatus | None, status: JobStatus, retention: float
) -> None:
    """At each step: nothing was begun, or all of it is done after the restart."""
    keeping = make_settings(cleanup=KEEPING)
    settings = make_settings(cleanup={**KEEPING, "retention_hours": retention})
    expected: dict[str, bytes | None] | None = None
    for step in itertools.count(0):  # at step 0 it lives
        directory = tmp_path / f"{step}"
        prepared(directory, before, keeping)
        contents, untouched = everything(directory), tree(directory)
        died = False
        with until_killed(directory, settings) as backing:
            trash_of(backing).fault = dying_at(step)
            try:
                set_status(backing, status)
            except Died:
                died = True
        with opened(directory, settings) as backing:
            reap(backing)
            assert problems(backing) == {}
            if tree(directory) == untouched:  # it died before anything was recorded
                assert 0 < step < 5
                set_status(backing, status)
            view = tree(directory)
            assert problems(backing) == {}
            assert job_of(backing).status in (
                {COMPLETED, JobStatus.CLEANED} if status is COMPLETED else {status}
            )
            if expected is None:
                expected = view
            assert view == expected, f"killed at step {step}"
            if status is not COMPLETED or retention:
                assert everything(directory) == contents
            else:
                # What was hidden with a longer retention keeps that.
                assert hidden_names(backing) == ["a.tmp.~1~", "d/b.tmp.~1~", "u.wav"]
            recorded = {entry.path for entry in backing.store.entries(job_of(backing).number)}
            in_view = {
                path.removeprefix("job/").encode() for path, content in view.items() if content is not None
            }
            assert recorded == in_view
        if step and not died:
            break
    assert step > 4


@pytest.mark.usefixtures("faulty")
def test_a_kill_between_deleting_and_recording_it_leaves_the_job_cleaned(tmp_path: Path) -> None:
    settings = make_settings(cleanup={"retention_hours": 0})
    with until_killed(tmp_path, settings) as backing:
        make_files(backing, a_tmp=b"1", b_tmp=b"2")
        trash_of(backing).steps = 0
        trash_of(backing).fault = lambda step, what: (
            dying_at(step)(step, what) if what == "after delete" else None
        )
        with contextlib.suppress(Died):
            set_status(backing, COMPLETED)
    with opened(tmp_path, settings) as backing:
        reap(backing)
        assert (hidden_names(backing), job_of(backing).status) == ([], JobStatus.CLEANED)
        assert {removal.entry.path for removal in backing.store.removals(job_of(backing).number)} == {
            b"a.tmp",
            b"b.tmp",
        }


@pytest.mark.usefixtures("faulty")
def test_wherever_unlinking_is_killed_the_file_is_in_its_place_or_kept(tmp_path: Path) -> None:
    settings = make_settings(cleanup=KEEPING)
    for step in itertools.count(1):
        directory = tmp_path / f"{step}"
        died = False
        with until_killed(directory, settings) as backing:
            make_files(backing, a_wav=b"kept")
            trash_of(backing).steps = 0
            trash_of(backing).fault = dying_at(step)
            client = Client(backing)
            try:
                client.unlink("job/a.wav")
            except Died:
                died = True
        with opened(directory, settings) as backing:
            assert everything(directory) == [b"kept"]
            assert problems(backing) == {}
            set_status(backing, FAILED)
            assert tree(directory) == {"job": None, "job/a.wav": b"kept"}
        if not died:
            break
    assert step > 3


def test_a_file_that_was_open_when_the_daemon_was_killed_counts_from_the_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    with until_killed(tmp_path, clock=clock) as backing:
        client = Client(backing)
        client.mkdir("job")
        handle = client.create("job/a.tmp")
        client.set("job", "status", "completed")
        client.fs.files.release(handle)  # as a kill does it: nothing is said to anybody
    clock.advance(100)
    with opened(tmp_path, clock=clock) as backing:
        (hidden,) = backing.store.trash()
        assert (hidden.held, hidden.hidden_ns) == (False, clock.wall_ns())


# -- the end of a job -------------------------------------------------------------------------------


def test_a_removed_jobs_trash_goes_after_its_retention_and_then_its_record(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, clock=clock) as backing:
        make_files(backing, a_tmp=b"t")
        set_status(backing, COMPLETED)
        client = Client(backing)
        client.rmdir("job")
        client.fs.close()
        clock.advance(23)
        reap(backing)
        assert hidden_names(backing) == ["a.tmp"]
        assert len(backing.store.jobs(ended=True)) == 1
        clock.advance(1)
        reap(backing)
        assert hidden_names(backing) == []
        assert backing.store.jobs(ended=True) == []


def test_a_job_made_anew_has_nothing_of_the_old_one(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        make_files(backing, d__a_tmp=b"t")
        set_status(backing, COMPLETED)
        client = Client(backing)
        client.rmdir("job")
        client.mkdir("job")
        client.set("job", "status", "running")
        assert client.tree() == {"job": None}
        assert hidden_names(backing) == ["d/a.tmp"]
        client.fs.close()


@pytest.fixture(autouse=True)
def no_descriptor_is_left(tmp_path: Path) -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before
