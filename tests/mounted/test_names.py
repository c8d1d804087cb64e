"""A job's directory has four names: plain, and with each status's suffix; it is listed under one."""

import errno
import itertools
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lffs.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from tests.harness import Mounted
from tests.mounted.callers import in_child, refusal

pytestmark = pytest.mark.mounted

SUFFIXES = ("_processing", "_completed", "_failed")
ALIASES = ("", *SUFFIXES)

# What is found on disk by people's own tools, and is no job of anyone's.
NESTED = "jobs: {roots: ['*/*', '.private/*']}"

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def shared(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    return make_shared_mount()


@pytest.fixture
def job(shared: Mounted) -> str:
    """The name of a running job that this test has for itself, with a file in it."""
    name = f"job{next(_numbers)}"
    (shared.path / name).mkdir()
    (shared.path / name / "file").write_text("content")
    return name


def listed(directory: Path, job: str) -> list[str]:
    """Return the listed names that begin with *job*."""
    return sorted(name for name in os.listdir(directory) if name.startswith(job))


def rename(old: Path, new: Path, flags: int) -> None:
    renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags)


# -- listing ------------------------------------------------------------------------------------


def test_the_listed_name_shows_the_status(shared: Mounted) -> None:
    top = shared.path / "Suits"
    top.mkdir()
    assert listed(shared.path, "Suits") == ["Suits"]
    (top / "file").write_text("x")
    assert listed(shared.path, "Suits") == ["Suits_processing"]
    for status, name in (
        ("completed", "Suits_completed"),
        ("failed", "Suits_failed"),
        ("running", "Suits_processing"),
        ("failed", "Suits_failed"),
        ("processing", "Suits_processing"),
    ):
        shared.set_status("Suits", status)
        assert listed(shared.path, "Suits") == [name]
        assert (shared.path / name / "file").read_text() == "x"


def test_a_listing_that_is_open_and_the_shell_see_the_new_name(shared: Mounted, job: str) -> None:
    def shell(command: str) -> str:
        return subprocess.run(
            ["sh", "-c", command], cwd=shared.path, check=True, capture_output=True, text=True
        ).stdout

    assert shell(f"cat {job}_*/file") == "content"
    shared.set_status(job, "completed")
    assert shell(f"echo {job}*") == f"{job}_completed\n"
    assert shell(f"ls -d {job}_completed {job} && find {job}_completed") == (
        f"{job}\n{job}_completed\n{job}_completed\n{job}_completed/file\n"
    )


def test_the_listed_inode_is_the_one_that_every_name_has(shared: Mounted, job: str) -> None:
    numbers = {entry.name: entry.inode() for entry in os.scandir(shared.path)}
    found = [os.stat(shared.path / (job + suffix)) for suffix in ALIASES]
    assert {(one.st_ino, one.st_dev) for one in found} == {
        (numbers[f"{job}_processing"], os.stat(shared.path).st_dev)
    }


def test_plain_mode_lists_plain_names_and_resolves_all(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("jobs: {status_names: plain}")
    (mounted.path / "job").mkdir()
    (mounted.path / "job" / "file").write_text("x")
    mounted.set_status("job", "completed")
    assert os.listdir(mounted.path) == ["job"]
    for suffix in ALIASES:
        assert (mounted.path / f"job{suffix}" / "file").read_text() == "x"
    mounted.configure("jobs: {status_names: suffix}")
    mounted.reload()
    assert os.listdir(mounted.path) == ["job_completed"]


def test_a_name_too_long_for_its_suffix_is_listed_plain(shared: Mounted) -> None:
    """_failed fits 248 bytes, _completed 245, _processing 244."""
    for length in (244, 246, 250, 255):
        name = "n" * length
        (shared.path / name).mkdir()
        (shared.path / name / "file").write_text("x")
        for status, suffix in (
            ("running", "_processing"), ("completed", "_completed"), ("failed", "_failed"),
        ):  # fmt: skip
            shared.set_status(name, status)
            fits = length + len(suffix) <= 255
            assert listed(shared.path, "n" * 244) == [name + suffix if fits else name]
            expected = 0 if fits else errno.ENAMETOOLONG
            assert refusal((shared.path / (name + suffix)).stat) == expected
        shutil.rmtree(shared.path / name)


# -- resolving ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ALIASES)
@pytest.mark.parametrize("status", ["running", "completed", "failed"])
def test_every_name_does_everything(shared: Mounted, job: str, suffix: str, status: str) -> None:
    """Also names of another status than the current one."""
    shared.set_status(job, status)
    top = shared.path / (job + suffix)
    assert stat.S_ISDIR(os.stat(top).st_mode)
    assert os.listdir(top) == ["file"]
    (top / "new").write_text("new")
    (top / "sub").mkdir()
    os.rename(top / "new", top / "sub" / "moved")
    os.link(top / "sub" / "moved", top / "link")
    os.symlink("file", top / "symlink")
    top.chmod(0o711)
    os.setxattr(top, "user.note", b"x")
    os.setxattr(top, "user.lffs.debug", b"1")
    (top / "file").unlink()
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    os.close(descriptor)

    def stand_in_it() -> str:
        os.chdir(top)
        return Path("sub/moved").read_text()

    assert in_child(stand_in_it) == "new"
    plain = shared.path / job
    assert sorted(os.listdir(plain)) == ["link", "sub", "symlink"]
    assert stat.S_IMODE(plain.stat().st_mode) == 0o711
    assert os.getxattr(plain, "user.note") == b"x"
    assert sorted(os.listdir(shared.backing / job)) == ["link", "sub", "symlink"]
    shutil.rmtree(top)
    for name in ALIASES:
        assert not (shared.path / (job + name)).exists()


@pytest.mark.parametrize("suffix", ALIASES)
def test_an_empty_job_is_removed_by_any_name(shared: Mounted, job: str, suffix: str) -> None:
    (shared.path / job / "file").unlink()
    (shared.path / (job + suffix)).rmdir()
    assert listed(shared.path, job) == []
    assert job not in shared.in_backing()


@pytest.mark.parametrize("suffix", ALIASES)
def test_a_job_is_renamed_by_any_name(shared: Mounted, job: str, suffix: str) -> None:
    (shared.path / job / "temp_x.wav").write_text("hidden")
    shared.set_status(job, "completed")
    new = f"{job}-new"
    os.rename(shared.path / (job + suffix), shared.path / new)
    assert listed(shared.path, job) == [f"{new}_completed"]
    assert shared.status(new) == "completed"
    assert shared.states(new) == {"file": "present", "temp_x.wav": "hidden"}
    shared.set_status(new, "running")
    assert (shared.path / new / "temp_x.wav").read_text() == "hidden"


@pytest.mark.parametrize("old", ALIASES)
@pytest.mark.parametrize("new", ALIASES)
def test_renaming_a_job_to_a_name_that_it_has_changes_nothing(
    shared: Mounted, job: str, old: str, new: str
) -> None:
    os.rename(shared.path / (job + old), shared.path / (job + new))
    assert listed(shared.path, job) == [f"{job}_processing"]
    assert shared.status(job) == "running"
    assert (shared.path / job / "file").read_text() == "content"


@pytest.mark.parametrize("suffix", ALIASES)
def test_a_name_of_a_job_is_taken(shared: Mounted, job: str, suffix: str) -> None:
    taken = shared.path / (job + suffix)
    other = shared.path / job / "file"
    actions: list[Callable[[], object]] = [
        taken.mkdir,
        lambda: os.open(taken, os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        lambda: os.mkfifo(taken),
        lambda: os.mknod(taken),
        lambda: os.symlink("x", taken),
        lambda: os.link(other, taken),
    ]
    assert [refusal(action) for action in actions] == [errno.EEXIST] * len(actions)
    assert refusal(lambda: os.open(taken, os.O_CREAT | os.O_WRONLY)) == errno.EISDIR
    assert refusal(lambda: os.unlink(taken)) == errno.EISDIR


@pytest.mark.parametrize("suffix", ALIASES)
def test_a_rename_onto_a_name_of_a_job_means_the_job(shared: Mounted, job: str, suffix: str) -> None:
    target = shared.path / (job + suffix)
    other = shared.path / f"other-{job}"
    other.mkdir()
    (other / "theirs").write_text("theirs")
    loose = shared.path / f"loose-{job}"
    loose.write_text("x")
    assert refusal(lambda: os.rename(loose, target)) == errno.EISDIR
    assert refusal(lambda: os.rename(other, target)) == errno.ENOTEMPTY
    assert refusal(lambda: rename(other, target, RENAME_NOREPLACE)) == errno.EEXIST
    (shared.path / job / "file").unlink()
    os.rename(other, target)
    assert listed(shared.path, job) == [f"{job}_processing"]
    assert os.listdir(shared.path / job) == ["theirs"]
    assert not other.exists()


def test_two_jobs_exchange_their_names_and_take_everything_along(shared: Mounted, job: str) -> None:
    first, second = shared.path / job, shared.path / f"other-{job}"
    second.mkdir()
    for path in ("temp_1.wav", "final.mkv", "keep.txt"):
        (second / path).write_text(path)
    (second / "lazy" / "below").mkdir(parents=True)
    shared.set_status(second.name, "completed")
    numbers = first.stat().st_ino, second.stat().st_ino
    rename(first, shared.path / f"{second.name}_failed", RENAME_EXCHANGE)
    assert (second.stat().st_ino, first.stat().st_ino) == numbers
    assert (shared.status(job), shared.status(second.name)) == ("completed", "running")
    assert shared.states(second.name) == {"file": "present"}
    assert shared.states(job) == {
        "final.mkv": "present", "keep.txt": "present", "temp_1.wav": "hidden",
    }  # fmt: skip
    assert listed(shared.path, job) == [f"{job}_completed"]
    shared.set_status(job, "running")
    assert sorted(os.listdir(first)) == ["final.mkv", "keep.txt", "lazy", "temp_1.wav"]


def test_a_job_exchanged_with_what_is_no_job_ends_and_the_other_begins(shared: Mounted, job: str) -> None:
    outside = shared.path / f".outside-{job}"
    outside.mkdir()
    (outside / "theirs").write_text("x")
    rename(shared.path / job, outside, RENAME_EXCHANGE)
    assert shared.states(job) == {"theirs": "present"}
    assert refusal(lambda: os.getxattr(outside, "user.lffs.status")) == errno.ENODATA
    assert (outside / "file").read_text() == "content"


# -- across changes -----------------------------------------------------------------------------


def test_a_path_held_across_a_status_change_goes_on_working(shared: Mounted, job: str) -> None:
    by_old_name = shared.path / f"{job}_processing"
    held = os.open(by_old_name, os.O_RDONLY)
    file = os.open(by_old_name / "file", os.O_RDWR)
    assert os.listdir(by_old_name) == ["file"]
    try:
        for status in ("completed", "failed", "running", "completed"):
            shared.set_status(f"{job}_processing", status)
            (by_old_name / status).write_text(status)
            os.pwrite(file, status.encode(), 0)
            assert (shared.path / job / "file").read_text().startswith(status)
            assert status in os.listdir(held)
            os.close(os.open("at", os.O_CREAT | os.O_WRONLY, dir_fd=held))
            os.unlink("at", dir_fd=held)
    finally:
        os.close(held)
        os.close(file)


def test_a_working_directory_held_across_a_status_change_goes_on_working(shared: Mounted, job: str) -> None:
    def work() -> list[str]:
        os.chdir(shared.path / f"{job}_processing")
        for status in ("completed", "failed"):
            shared.set_status(job, status)
            os.mkdir(f"made while {status}")
            Path(f"made while {status}/file").write_text("x")
            assert Path.cwd().samefile(shared.path / job)
            assert Path(f"../{job}/file").read_text() == "content"
        return sorted(os.listdir("."))

    assert in_child(work) == ["file", "made while completed", "made while failed"]


def test_a_suffixed_name_looked_for_in_vain_is_there_once_the_job_is(shared: Mounted) -> None:
    """A negative entry that the kernel keeps would hide it."""
    for suffix in SUFFIXES:
        assert not (shared.path / f"later{suffix}").exists()
    assert not (shared.path / "later").exists()
    (shared.path / "later").mkdir()
    for suffix in ALIASES:
        assert (shared.path / f"later{suffix}").is_dir()
    (shared.path / "later").rmdir()
    for suffix in ALIASES:
        assert not (shared.path / f"later{suffix}").exists()
    os.mkdir(shared.path / ".elsewhere")
    os.rename(shared.path / ".elsewhere", shared.path / "later")
    for suffix in ALIASES:
        assert (shared.path / f"later{suffix}").is_dir()
    os.rename(shared.path / "later", shared.path / "latest")
    for suffix in ALIASES:
        assert not (shared.path / f"later{suffix}").exists()
        assert (shared.path / f"latest{suffix}").is_dir()


def test_names_survive_a_remount(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    for status in ("running", "completed", "failed"):
        (mounted.path / status).mkdir()
        (mounted.path / status / "file").write_text("x")
        mounted.set_status(status, status)
    (mounted.path / "created").mkdir()
    expected = ["completed_completed", "created", "failed_failed", "running_processing"]
    assert sorted(os.listdir(mounted.path)) == expected
    mounted.remount()
    assert sorted(os.listdir(mounted.path)) == expected
    mounted.kill_and_remount()
    assert sorted(os.listdir(mounted.path)) == expected
    assert (mounted.path / "failed_processing" / "file").read_text() == "x"


# -- collisions ---------------------------------------------------------------------------------


def test_a_suffixed_directory_without_a_job_is_a_job_of_that_name(shared: Mounted) -> None:
    (shared.path / "odd_completed").mkdir()
    (shared.path / "odd_completed" / "file").write_text("x")
    assert listed(shared.path, "odd") == ["odd_completed_processing"]
    assert shared.status("odd_completed") == "running"
    assert os.getxattr(shared.path / "odd_completed", "user.lffs.job_id") == b"odd_completed"
    assert not (shared.path / "odd").exists()
    assert (shared.path / "odd_completed_failed" / "file").exists()


def test_a_real_entry_wins_over_an_alias_and_its_job_is_listed_plain(shared: Mounted) -> None:
    (shared.path / "twin_completed").mkdir()
    (shared.path / "twin_completed" / "real").write_text("real")
    (shared.path / "twin").mkdir()
    (shared.path / "twin" / "job").write_text("job")
    assert listed(shared.path, "twin") == ["twin_completed_processing", "twin_processing"]
    shared.set_status("twin", "completed")
    assert listed(shared.path, "twin") == ["twin", "twin_completed_processing"]
    assert os.listdir(shared.path / "twin_completed") == ["real"]
    assert os.listdir(shared.path / "twin_failed") == ["job"]
    shutil.rmtree(shared.path / "twin_completed")
    assert listed(shared.path, "twin") == ["twin_completed"]
    assert os.listdir(shared.path / "twin_completed") == ["job"]


def test_a_file_with_a_suffixed_name_wins_too(shared: Mounted) -> None:
    (shared.path / "film_completed").write_text("a file")
    (shared.path / "film").mkdir()
    (shared.path / "film" / "x").write_text("x")
    shared.set_status("film", "completed")
    assert listed(shared.path, "film") == ["film", "film_completed"]
    assert (shared.path / "film_completed").read_text() == "a file"
    (shared.path / "film_completed").unlink()
    assert listed(shared.path, "film") == ["film_completed"]
    assert (shared.path / "film_completed" / "x").exists()


def test_a_real_entry_made_beside_lffs_wins_once_it_is_seen(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    (mounted.path / "job").mkdir()
    (mounted.path / "job" / "x").write_text("x")
    assert (mounted.path / "job_failed" / "x").exists()
    (mounted.backing / "job_failed").mkdir()
    (mounted.backing / "job_failed" / "y").write_text("y")
    mounted.reload()
    assert os.listdir(mounted.path / "job_failed") == ["y"]
    assert os.listdir(mounted.path / "job") == ["x"]


def test_only_the_suffix_is_no_alias(shared: Mounted) -> None:
    (shared.path / "_completed").mkdir()
    assert os.getxattr(shared.path / "_completed", "user.lffs.job_id") == b"_completed"
    assert not (shared.path / "_failed").exists()


def test_an_alias_has_no_aliases(shared: Mounted, job: str) -> None:
    assert not (shared.path / f"{job}_completed_failed").exists()
    assert not (shared.path / f"{job}_completed" / "file_completed").exists()


# -- which directories are jobs -----------------------------------------------------------------


@pytest.fixture(scope="module")
def nested(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    return make_shared_mount(NESTED)


def is_job(path: Path) -> bool:
    return refusal(lambda: os.getxattr(path, "user.lffs.status")) == 0


def test_jobs_lie_as_deep_as_the_roots_say(nested: Mounted) -> None:
    episode = nested.path / "Suits" / "S01E01"
    (episode / "ko" / "slides").mkdir(parents=True)
    (episode / "ko" / "slides" / "x").write_text("x")
    assert [is_job(path) for path in (episode.parent, episode, episode / "ko")] == [False, True, False]
    assert os.listdir(nested.path / "Suits") == ["S01E01_processing"]
    assert listed(nested.path, "Suits") == ["Suits"]
    assert os.getxattr(episode, "user.lffs.job_id") == b"Suits/S01E01"
    assert (nested.path / "Suits" / "S01E01_failed" / "ko" / "slides" / "x").read_text() == "x"
    assert not (nested.path / "Suits_failed").exists()
    assert not (episode / "ko_failed").exists()


def test_jobs_follow_the_rename_of_what_they_lie_in(nested: Mounted) -> None:
    for episode in ("E1", "E2"):
        (nested.path / "Old" / episode).mkdir(parents=True)
        (nested.path / "Old" / episode / "temp_x.wav").write_text(episode)
    nested.set_status("Old/E1", "completed")
    os.rename(nested.path / "Old", nested.path / "New")
    assert sorted(os.listdir(nested.path / "New")) == ["E1_completed", "E2_processing"]
    assert nested.states("New/E1") == {"temp_x.wav": "hidden"}
    assert nested.states("New/E2") == {"temp_x.wav": "present"}
    nested.set_status("New/E1", "running")
    assert (nested.path / "New" / "E1" / "temp_x.wav").read_text() == "E1"


def test_moving_a_job_up_ends_it_and_moving_it_back_begins_another(nested: Mounted) -> None:
    (nested.path / "Show" / "E1").mkdir(parents=True)
    (nested.path / "Show" / "E1" / "x").write_text("x")
    os.rename(nested.path / "Show" / "E1", nested.path / "E1")
    assert not is_job(nested.path / "E1")
    os.rename(nested.path / "E1", nested.path / "Show" / "E2")
    assert is_job(nested.path / "Show" / "E2")
    assert nested.states("Show/E2") == {"x": "present"}


def test_leading_dots_and_lost_and_found_are_no_jobs(shared: Mounted, nested: Mounted) -> None:
    for mounted, path, expected in (
        (shared, ".cache", False),
        (shared, "lost+found", False),
        (shared, "..odd", False),
        (nested, "Show/.trash", False),
        (nested, ".cache/x", False),
        (nested, ".private/x", True),
        (nested, ".private/.x", False),
        (nested, "lost+found/x", False),
        (nested, "Show/lost+found", False),
    ):
        (mounted.path / path).mkdir(parents=True)
        (mounted.path / path / "temp_x.wav").write_text("x")
        assert is_job(mounted.path / path) == expected, path


def test_a_file_where_jobs_are_is_no_job(shared: Mounted) -> None:
    (shared.path / "README").write_text("x")
    assert listed(shared.path, "README") == ["README"]
    assert not (shared.path / "README_failed").exists()
    assert refusal(lambda: os.getxattr(shared.path / "README", "user.lffs.status")) == errno.ENODATA


def test_the_outermost_match_is_the_job(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("jobs: {roots: ['*/*', 'special*']}")
    for path in ("special1/inner", "other/inner"):
        (mounted.path / path).mkdir(parents=True)
        (mounted.path / path / "x").write_text("x")
    assert is_job(mounted.path / "special1")
    assert not is_job(mounted.path / "special1" / "inner")
    assert is_job(mounted.path / "other" / "inner")
    assert mounted.states("special1") == {"inner/x": "present"}


def test_what_is_found_at_the_first_mount_is_a_job_in_status_created(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount()
    mounted.stop()
    shutil.rmtree(mounted.backing)
    (mounted.backing / "found").mkdir(parents=True)
    (mounted.backing / "found" / "temp_x.wav").write_text("x")
    mounted.start()
    assert os.listdir(mounted.path) == ["found"]
    assert mounted.status("found") == "created"
    mounted.set_status("found", "completed")
    assert os.listdir(mounted.path / "found_completed") == ["temp_x.wav"]
