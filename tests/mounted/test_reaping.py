"""What is deleted for good, when, and above all what is not."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.harness import Mounted, eventually, tree

pytestmark = pytest.mark.mounted


@pytest.fixture
def job(request: pytest.FixtureRequest) -> str:
    """A job's name that no other test has."""
    name: str = request.node.name
    return name.removeprefix("test_").replace("[", ".").replace("]", "")[:100]


@pytest.fixture(scope="module")
def shared(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    return make_shared_mount("cleanup: {keep_unlinked: [temp_audio]}\n")


def write(top: Path, *names: str) -> None:
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def hidden_of(mounted: Mounted, job: str) -> set[str]:
    trash = mounted.path / ".lffs" / "trash" / job
    return tree(trash, directories=False) if trash.exists() else set()


def trash_of(mounted: Mounted, job: str) -> Path:
    """Return the job's directory in BACKING/.lffs/trash: the one that holds a hidden file of its name."""
    (found,) = [
        path
        for path in (mounted.backing / ".lffs" / "trash").iterdir()
        if tree(path, directories=False) == hidden_of(mounted, job)
    ]
    return found


def pass_time(mounted: Mounted, hours: float) -> None:
    """Let time pass and the reaper do all that is due then: it has when the youngest of it is gone."""
    canary = f"canary{len(list(mounted.path.iterdir()))}"
    write(mounted.path / canary, "temp_canary.srt")
    set_retention(mounted, canary, hours * 0.9)
    mounted.set_status(canary, "completed")
    mounted.advance(hours)
    eventually(lambda: mounted.status(canary) == "cleaned", "the canary was reaped")


def set_retention(mounted: Mounted, job: str, hours: float) -> None:
    os.setxattr(mounted.path / job, "user.lffs.retention_hours", f"{hours}".encode())


# -- at once ---------------------------------------------------------------------------------------


def test_retention_0_has_deleted_and_cleaned_when_setfattr_returns(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "ko/temp_a.srt", "temp_b.mkv", "x.txt", "temp_unlinked.wav")
    set_retention(shared, job, 0)
    (top / "temp_unlinked.wav").unlink()
    subprocess.run(["setfattr", "-n", "user.lffs.status", "-v", "completed", top], check=True)
    assert shared.status(job) == "cleaned"
    assert tree(shared.backing / job) == {"x.txt"}
    assert hidden_of(shared, job) == set()
    assert shared.states(job) == {
        "x.txt": "present",
        "ko/temp_a.srt": "removed",
        "temp_b.mkv": "removed",
        "temp_unlinked.wav": "removed",
    }


def test_a_job_without_temporaries_stays_completed(shared: Mounted, job: str) -> None:
    write(shared.path / job, "x.txt")
    set_retention(shared, job, 0)
    shared.set_status(job, "completed")
    assert shared.status(job) == "completed"


def test_a_cleaned_job_can_run_and_complete_again(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.srt", "x.txt")
    set_retention(shared, job, 0)
    for _ in range(2):
        shared.set_status(job, "completed")
        assert shared.status(job) == "cleaned"
        shared.set_status(job, "running")
        write(top, "temp_a.srt")
    shared.set_status(job, "completed")
    assert shared.status(job) == "cleaned"


# -- not before its time ---------------------------------------------------------------------------


def test_nothing_is_deleted_before_its_retention_is_over(shared: Mounted, job: str) -> None:
    write(shared.path / job, "temp_a.srt", "ko/temp_b.mkv")
    shared.set_status(job, "completed")
    pass_time(shared, 23.99)
    assert hidden_of(shared, job) == {"temp_a.srt", "ko/temp_b.mkv"}
    assert shared.status(job) == "completed"
    pass_time(shared, 0.02)
    assert hidden_of(shared, job) == set()
    assert shared.status(job) == "cleaned"


def test_retention_made_shorter_later_does_not_hurry_what_is_hidden(shared: Mounted, job: str) -> None:
    write(shared.path / job, "temp_a.srt")
    set_retention(shared, job, 10)
    shared.set_status(job, "completed")
    set_retention(shared, job, 0)
    shared.set_status(job, "completed")
    pass_time(shared, 9.9)
    assert hidden_of(shared, job) == {"temp_a.srt"}
    pass_time(shared, 0.2)
    assert hidden_of(shared, job) == set()


def test_retention_made_longer_later_keeps_what_is_hidden(shared: Mounted, job: str) -> None:
    write(shared.path / job, "temp_a.srt")
    set_retention(shared, job, 1)
    shared.set_status(job, "completed")
    set_retention(shared, job, 10)
    pass_time(shared, 9.9)
    assert hidden_of(shared, job) == {"temp_a.srt"}
    pass_time(shared, 0.2)
    assert hidden_of(shared, job) == set()


def test_retention_counts_from_each_files_hiding(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.srt")
    shared.set_status(job, "completed")
    pass_time(shared, 20)
    write(top, "temp_b.srt")
    shared.set_status(job, "completed")
    pass_time(shared, 5)
    assert hidden_of(shared, job) == {"temp_b.srt"}
    pass_time(shared, 20)
    assert hidden_of(shared, job) == set()


def test_what_came_back_and_is_hidden_again_starts_anew(shared: Mounted, job: str) -> None:
    write(shared.path / job, "temp_a.srt")
    shared.set_status(job, "completed")
    pass_time(shared, 20)
    shared.set_status(job, "running")
    pass_time(shared, 20)
    shared.set_status(job, "completed")
    pass_time(shared, 20)
    assert hidden_of(shared, job) == {"temp_a.srt"}
    pass_time(shared, 5)
    assert hidden_of(shared, job) == set()


def test_what_the_pipeline_unlinked_is_kept_from_completed_on(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.wav", "x.txt")
    (top / "temp_a.wav").unlink()
    pass_time(shared, 100)
    assert hidden_of(shared, job) == {"temp_a.wav"}
    shared.set_status(job, "completed")
    pass_time(shared, 23.9)
    assert hidden_of(shared, job) == {"temp_a.wav"}
    pass_time(shared, 0.2)
    assert hidden_of(shared, job) == set()


@pytest.mark.parametrize("status", ["running", "failed"])
def test_running_and_failed_jobs_lose_nothing_however_long(status: str, shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.srt", "temp_b.srt")
    shared.set_status(job, "completed")
    (top / "temp_a.srt").write_text("made anew, so the old one stays in the trash")
    shared.set_status(job, status)
    pass_time(shared, 10_000)
    assert tree(top) == {"temp_a.srt", "temp_b.srt"}
    assert hidden_of(shared, job) == {"temp_a.srt.~1~"}


def test_pinned_files_and_those_below_a_pinned_directory_are_not_reaped(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_pinned.wav", "ko/temp_a.srt", "x.txt")
    os.setxattr(top / "temp_pinned.wav", "user.lffs.keep", b"1")
    (top / "temp_pinned.wav").unlink()
    shared.set_status(job, "completed")
    os.setxattr(top, "user.lffs.keep", b"1")
    pass_time(shared, 100)
    assert hidden_of(shared, job) == {"temp_pinned.wav", "ko/temp_a.srt"}
    os.setxattr(top, "user.lffs.keep", b"0")
    pass_time(shared, 1)
    assert hidden_of(shared, job) == {"temp_pinned.wav"}
    shared.set_status(job, "failed")
    os.setxattr(top / "temp_pinned.wav", "user.lffs.keep", b"0")


def test_debug_holds_the_reaper(shared: Mounted, job: str) -> None:
    write(shared.path / job, "temp_a.srt")
    shared.set_status(job, "completed")
    os.setxattr(shared.path / job, "user.lffs.debug", b"1")
    pass_time(shared, 100)
    assert hidden_of(shared, job) == {"temp_a.srt"}
    os.setxattr(shared.path / job, "user.lffs.debug", b"0")
    eventually(lambda: hidden_of(shared, job) == set(), "reaped after debug is off")


def test_a_file_held_open_for_writing_is_kept_from_its_last_close(shared: Mounted, job: str) -> None:
    top = shared.path / job
    top.mkdir()
    with open(top / "temp_a.srt", "wb") as first, open(top / "temp_a.srt", "ab") as second:
        first.write(b"first")
        first.flush()
        set_retention(shared, job, 1)
        shared.set_status(job, "completed")
        pass_time(shared, 100)
        second.write(b" second")
        second.close()
        pass_time(shared, 100)
        assert hidden_of(shared, job) == {"temp_a.srt"}
    eventually(lambda: "open" not in row(shared, job)["why"], "the last close was seen")
    assert (shared.path / ".lffs/trash" / job / "temp_a.srt").read_bytes() == b"first second"
    pass_time(shared, 0.9)
    assert hidden_of(shared, job) == {"temp_a.srt"}
    pass_time(shared, 0.2)
    assert hidden_of(shared, job) == set()


def row(mounted: Mounted, job: str) -> dict[str, str]:
    (found,) = [one for one in mounted.admin.jobs(None, True) if one["id"] == job]
    return found


def test_retention_0_waits_for_a_writer_and_then_deletes(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_b.srt")
    set_retention(shared, job, 0)
    with open(top / "temp_a.srt", "wb") as writer:
        shared.set_status(job, "completed")
        assert shared.status(job) == "completed"
        assert hidden_of(shared, job) == {"temp_a.srt"}
        writer.write(b"still works")
    eventually(lambda: shared.status(job) == "cleaned", "deleted after its last close")


def test_a_file_that_a_process_writes_beside_lffs_is_not_deleted_under_it(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.srt")
    with open(shared.backing / job / "temp_a.srt", "ab") as writer:
        set_retention(shared, job, 0)
        shared.set_status(job, "completed")
        pass_time(shared, 1)
        assert hidden_of(shared, job) == {"temp_a.srt"}
        writer.write(b"x")
    pass_time(shared, 1)
    assert shared.status(job) == "cleaned"


# -- failed jobs -----------------------------------------------------------------------------------


def test_failed_retention_releases_a_failed_job_and_leaves_its_status(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount("cleanup: {failed_retention_hours: 10, keep_unlinked: [temp_audio]}\n")
    top = mounted.path / "job"
    write(top, "ko/temp_a.srt", "x.txt", "temp_b.wav", "temp_kept.srt")
    os.setxattr(top / "temp_kept.srt", "user.lffs.keep", b"1")
    (top / "temp_b.wav").unlink()
    mounted.set_status("job", "failed")
    pass_time(mounted, 9.9)
    assert tree(top, directories=False) == {"ko/temp_a.srt", "x.txt", "temp_b.wav", "temp_kept.srt"}
    pass_time(mounted, 0.2)
    eventually(lambda: mounted.in_trash() == set(), "reaped")
    assert tree(top) == {"x.txt", "temp_kept.srt"}
    assert mounted.status("job") == "failed"
    assert mounted.states("job")["ko/temp_a.srt"] == "removed"


def test_a_failed_job_without_that_setting_keeps_all(shared: Mounted, job: str) -> None:
    write(shared.path / job, "temp_a.srt", "x.txt")
    shared.set_status(job, "failed")
    pass_time(shared, 10_000)
    assert tree(shared.path / job) == {"temp_a.srt", "x.txt"}


# -- clocks ----------------------------------------------------------------------------------------


def wake(mounted: Mounted) -> None:
    """Have the reaper look, without a reload, which would say that the clock is right."""
    mounted.set_status("waker", "completed")


def reaping(mounted: Mounted) -> str:
    return str(mounted.admin.health()["reaping"])


def test_a_clock_that_jumps_ahead_holds_the_reaper_until_it_is_back(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount()
    write(mounted.path / "waker", "x.txt")
    write(mounted.path / "job", "temp_a.srt")
    mounted.set_status("job", "completed")
    mounted.set_wall_clock(100)
    wake(mounted)
    eventually(lambda: "holding" in reaping(mounted), "the jump was seen")
    for _ in range(3):
        wake(mounted)
        write(mounted.path / "at_once", "temp_b.srt")
        set_retention(mounted, "at_once", 0)
        mounted.set_status("at_once", "completed")
    set_retention(mounted, "job", 0)
    mounted.set_status("job", "completed")  # which itself must not reap by the wrong clock either
    assert hidden_of(mounted, "job") == {"temp_a.srt"}
    assert mounted.log().count("the clock was set ahead") == 1
    mounted.set_wall_clock(-100)
    wake(mounted)
    eventually(lambda: reaping(mounted) == "ok", "the clock is back")
    assert hidden_of(mounted, "job") == {"temp_a.srt"}


def test_a_reload_says_that_the_clock_is_right(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    write(mounted.path / "waker", "x.txt")
    write(mounted.path / "job", "temp_a.srt")
    mounted.set_status("job", "completed")
    mounted.set_wall_clock(100)
    wake(mounted)
    eventually(lambda: "holding" in reaping(mounted), "the jump was seen")
    mounted.reload()
    eventually(lambda: mounted.status("job") == "cleaned", "reaped by the clock that is right")


def test_a_clock_set_back_deletes_nothing_early(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    write(mounted.path / "waker", "x.txt")
    write(mounted.path / "job", "temp_a.srt")
    mounted.set_status("job", "completed")
    mounted.set_wall_clock(-50)
    wake(mounted)
    pass_time(mounted, 30)
    assert hidden_of(mounted, "job") == {"temp_a.srt"}
    pass_time(mounted, 45)
    assert hidden_of(mounted, "job") == set()


# -- what can't be deleted -------------------------------------------------------------------------


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Have all that changes something in the directory fail, whoever asks."""
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def test_what_can_not_be_deleted_is_logged_once_and_tried_again(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "ko/temp_stuck.srt", "temp_free.mkv", "x.txt")
    shared.set_status(job, "completed")
    with read_only(trash_of(shared, job) / "ko"):
        pass_time(shared, 25)
        pass_time(shared, 1)
        assert hidden_of(shared, job) == {"ko/temp_stuck.srt"}
        (line,) = [line for line in shared.log().splitlines() if "temp_stuck" in line]
        assert "cannot reap ko/temp_stuck.srt: " in line
        assert "Read-only file system" in line
        assert shared.status(job) == "completed"
    pass_time(shared, 1)
    assert hidden_of(shared, job) == set()
    assert shared.status(job) == "cleaned"


def test_a_job_whose_file_can_not_be_deleted_at_once_is_not_busy_for_ever(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount()
    top = mounted.path / "job"
    write(top, "ko/temp_a.srt")
    mounted.set_status("job", "completed")
    with read_only(trash_of(mounted, "job")):
        write(top, "ko/temp_b.srt")
        set_retention(mounted, "job", 0)
        mounted.set_status("job", "completed")
        assert mounted.status("job") == "completed"
    mounted.remount()  # it still held directories of what was mounted there
    mounted.set_status("job", "running")
    assert {"ko/temp_a.srt"} <= tree(top, directories=False) <= {"ko/temp_a.srt", "ko/temp_b.srt"}


def test_only_the_very_file_that_was_hidden_is_deleted(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.srt", "temp_b.srt")
    shared.set_status(job, "completed")
    trash = trash_of(shared, job)
    (trash / "another").write_text("precious")
    (trash / "another").rename(trash / "temp_a.srt")
    pass_time(shared, 25)
    assert (trash / "temp_a.srt").read_text() == "precious"
    assert not (trash / "temp_b.srt").exists()
    assert "cannot reap temp_a.srt: temp_a.srt in the trash is another file" in shared.log()
    (found,) = shared.admin.verify()["corrupt"]
    assert "temp_a.srt" in found
    # Put away what the test made, so that verify at the end is content.
    (trash / "temp_a.srt").unlink()
    pass_time(shared, 1)
    assert shared.status(job) == "cleaned"


def test_no_link_leads_the_reaper_out_of_the_trash(shared: Mounted, job: str, tmp_path: Path) -> None:
    top = shared.path / job
    write(top, "ko/temp_a.srt")
    shared.set_status(job, "completed")
    trash = trash_of(shared, job)
    (trash / "ko").rename(tmp_path / "ko")
    (trash / "ko").symlink_to(tmp_path / "ko")
    pass_time(shared, 25)
    assert (tmp_path / "ko" / "temp_a.srt").exists()
    assert "cannot reap ko/temp_a.srt" in shared.log()
    (trash / "ko").unlink()
    pass_time(shared, 1)
    assert shared.status(job) == "cleaned"


# -- hard links ------------------------------------------------------------------------------------


def test_the_other_name_of_a_reaped_file_keeps_its_bytes_and_marks(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.srt")
    (top / "shorts").mkdir()
    os.link(top / "temp_a.srt", top / "shorts" / "x.mkv")
    set_retention(shared, job, 0)
    shared.set_status(job, "completed")
    assert shared.status(job) == "cleaned"
    assert (top / "shorts" / "x.mkv").read_text() == "temp_a.srt"


# -- removed jobs ----------------------------------------------------------------------------------


def test_the_trash_of_a_removed_job_stays_for_its_retention(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.srt", "x.txt")
    shared.set_status(job, "completed")
    shutil.rmtree(top)
    assert row(shared, job)["status"] == "removed"
    write(top, "y.txt")  # a new job of that name
    shared.set_status(job, "running")
    assert tree(top) == {"y.txt"}
    pass_time(shared, 23)
    assert [one["status"] for one in shared.admin.jobs(None, True) if one["id"] == job] == [
        "removed",
        "running",
    ]
    assert "temp_a.srt" in shared.in_trash()
    pass_time(shared, 2)
    assert row(shared, job)["status"] == "running"


def test_the_trash_of_a_removed_failed_job_stays_for_its_retention(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.wav", "x.txt")
    (top / "temp_a.wav").unlink()
    pass_time(shared, 100)
    shutil.rmtree(top)
    pass_time(shared, 23)
    assert row(shared, job)["status"] == "removed"
    pass_time(shared, 2)
    assert not [one for one in shared.admin.jobs(None, True) if one["id"] == job]


# -- restarts --------------------------------------------------------------------------------------


def test_what_is_due_while_nothing_runs_is_reaped_at_the_next_start(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount()
    write(mounted.path / "job", "temp_a.srt", "x.txt")
    mounted.set_status("job", "completed")
    mounted.remount()
    assert hidden_of(mounted, "job") == {"temp_a.srt"}
    mounted.stop()
    mounted.pass_while_stopped(25)
    mounted.start()
    eventually(lambda: mounted.status("job") == "cleaned", "reaped at the start")


def test_a_clean_up_that_was_killed_half_way_is_finished(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    top = mounted.path / "job"
    write(top, "x.txt")
    for number in range(600):
        (top / f"temp_{number:04}.srt").touch()
    set_retention(mounted, "job", 0)

    def complete() -> None:
        with suppress(OSError):
            mounted.set_status("job", "completed")

    setter = threading.Thread(target=complete)
    setter.start()
    while mounted.status("job") != "cleaning_up":
        assert setter.is_alive()
    mounted.kill()
    setter.join()
    left = {path for path in mounted.in_trash() if path.startswith("temp_")}
    mounted.start()
    assert left, "it was killed too late to see anything"
    assert tree(top) == {"x.txt"}
    eventually(lambda: mounted.status("job") == "cleaned", "finished")
    assert mounted.in_trash() == set()
    states = mounted.states("job")
    assert states.pop("x.txt") == "present"
    assert list(states.values()) == ["removed"] * 600


def test_running_set_while_the_reaper_deletes_loses_nothing_it_brings_back(
    make_mount: Callable[..., Mounted],
) -> None:
    """What comes back is whole and stays; what was deleted by then is recorded as removed."""
    mounted = make_mount("cleanup: {retention_hours: 1}\n")
    top = mounted.path / "job"
    names = [f"temp_{number:04}.srt" for number in range(600)]
    top.mkdir()
    for name in names:
        (top / name).touch()
    mounted.set_status("job", "completed")
    mounted.advance(2)
    mounted.set_status("job", "running")
    back = set(os.listdir(top))
    mounted.set_status("job", "completed")
    assert hidden_of(mounted, "job") == back
    pass_time(mounted, 0.5)
    assert hidden_of(mounted, "job") == back
    states = mounted.states("job")
    assert {name for name, state in states.items() if state == "hidden"} == back
    assert {name for name, state in states.items() if state == "removed"} == set(names) - back


def test_verify_finds_nothing_wrong_while_the_reaper_deletes(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("cleanup: {retention_hours: 1}\n")
    top = mounted.path / "job"
    top.mkdir()
    for number in range(300):
        (top / f"temp_{number:04}.srt").touch()
    mounted.set_status("job", "completed")
    mounted.advance(2)
    while mounted.status("job") != "cleaned":
        mounted.verify()


# -- room ------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 16 MiB, as a directory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "lffs-test", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_min_free_overriding_retention_takes_the_oldest_until_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    mounted = Mounted(
        tmp_path,
        "cleanup: {min_free: 8MiB, min_free_overrides_retention: true}\n",
        backing=small_disk / "backing",
    )
    mounted.start()
    try:
        for number in range(3):
            (mounted.path / f"job{number}").mkdir()
            (mounted.path / f"job{number}" / "temp_a.mkv").write_bytes(bytes(3 << 20))
            mounted.set_status(f"job{number}", "completed")
        mounted.reload()
        eventually(
            lambda: len(mounted.in_trash()) < 3 or os.statvfs(small_disk).f_bavail * 4096 > 8 << 20, "room"
        )
        eventually(lambda: hidden_of(mounted, "job0") == set(), "the oldest went")
        assert hidden_of(mounted, "job2") == {"temp_a.mkv"}
        assert "removed" in mounted.states("job0").values()
        mounted.verify()
    finally:
        mounted.close()


def test_min_free_alone_takes_nothing_before_its_time(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("cleanup: {min_free: 99%}\n")
    write(mounted.path / "job", "temp_a.srt")
    mounted.set_status("job", "completed")
    pass_time(mounted, 23)
    assert hidden_of(mounted, "job") == {"temp_a.srt"}
    pass_time(mounted, 2)
    assert hidden_of(mounted, "job") == set()


def test_min_free_never_takes_what_is_kept_for_a_failed_or_running_job(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount(
        "cleanup: {min_free: 99%, min_free_overrides_retention: true, keep_unlinked: [temp_audio]}\n"
    )
    write(mounted.path / "running", "temp_a.wav")
    (mounted.path / "running" / "temp_a.wav").unlink()
    write(mounted.path / "failed", "temp_b.srt")
    mounted.set_status("failed", "failed")
    write(mounted.path / "done", "temp_c.srt")
    mounted.set_status("done", "completed")
    eventually(lambda: hidden_of(mounted, "done") == set(), "the completed job's went")
    pass_time(mounted, 1)
    assert hidden_of(mounted, "running") == {"temp_a.wav"}
    assert tree(mounted.path / "failed") == {"temp_b.srt"}
