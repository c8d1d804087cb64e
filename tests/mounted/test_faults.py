"""A full disk, a disk that became read-only, names of any bytes, few descriptors: nothing is lost."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import ROOT, Mounted, eventually, tree

pytestmark = pytest.mark.mounted

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 8 MiB, as a directory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "lffs-test", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def mount_small(small_disk: Path, tmp_path: Path) -> Iterator[Callable[..., Mounted]]:
    """Return a function that mounts a backing store on the small disk (config, options)."""
    made: list[Mounted] = []

    def make(config: str = "", options: str = "") -> Mounted:
        made.append(Mounted(tmp_path, config, options, backing=small_disk / "backing"))
        return made[0].start()

    yield make
    for mounted in made:
        try:
            if mounted.is_running:
                mounted.verify()
                assert "Traceback" not in mounted.log(), mounted.log()
        finally:
            mounted.close()


def fill(disk: Path) -> Path:
    """Leave not a single block free, beside lffs; return what to remove for room."""
    ballast = disk / "ballast"
    with open(ballast, "ab", buffering=0) as file:
        for size in (MIB, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as exc:
                if exc.errno != errno.ENOSPC:
                    raise
    return ballast


def put(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())


# -- a full disk -----------------------------------------------------------------------------------


def test_a_full_disk_reaches_the_writer_and_the_rest_works(
    mount_small: Callable[..., Mounted], small_disk: Path
) -> None:
    mounted = mount_small()
    top = mounted.path / "job"
    top.mkdir()
    put(top / "x.txt", MIB)
    put(top / "temp_a.wav", MIB)
    with pytest.raises(OSError) as caught:
        put(top / "large.txt", 16 * MIB)
    assert caught.value.errno == errno.ENOSPC
    ballast = fill(small_disk)
    assert mounted.status("job") == "running"
    assert (top / "x.txt").read_bytes() == bytes(MIB)
    assert set(os.listdir(top)) == {"x.txt", "temp_a.wav", "large.txt"}
    (top / "large.txt").unlink()
    assert not (top / "large.txt").exists()
    ballast.unlink()
    put(top / "after.txt", MIB)
    eventually(lambda: not mounted.admin.health()["lost_writes"], "the records have room again")
    mounted.verify()
    mounted.set_status("job", "completed")
    assert set(os.listdir(top)) == {"x.txt", "after.txt"}


def test_unlink_works_on_a_full_disk_and_frees_it(
    mount_small: Callable[..., Mounted], small_disk: Path
) -> None:
    mounted = mount_small("cleanup: {keep_unlinked: [temp_audio]}\n")
    top = mounted.path / "job"
    top.mkdir()
    for number in range(40):
        put(top / f"f{number}", 4096)
    put(top / "temp_a.wav", 4096)
    fill(small_disk)
    for name in os.listdir(top):
        (top / name).unlink()
    assert os.listdir(top) == []
    put(top / "again", 4096)


def test_the_manifest_recovers_when_there_is_room(
    mount_small: Callable[..., Mounted], small_disk: Path
) -> None:
    mounted = mount_small()
    top = mounted.path / "job"
    top.mkdir()
    put(top / "first", 0)
    ballast = fill(small_disk)
    made = set()
    for number in range(700):  # empty files need no block, their records do
        name = f"temp_{number}.wav" if number % 2 else f"f{number}.txt"
        try:
            (top / name).touch()
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise
            break
        made.add(name)
    eventually(lambda: "full" in mounted.log(), "it was said that records can't be kept")
    ballast.unlink()
    put(top / "last", 0)
    eventually(lambda: not mounted.admin.health()["lost_writes"], "the records have room again")
    eventually(lambda: mounted.admin.verify()["ok"], "records and disk agree")
    assert mounted.states("job") == dict.fromkeys(made | {"first", "last"}, "present")
    mounted.kill_and_remount()
    assert mounted.states("job") == dict.fromkeys(made | {"first", "last"}, "present")


def test_a_status_set_on_a_full_disk_is_done_or_refused_whole(
    mount_small: Callable[..., Mounted], small_disk: Path
) -> None:
    mounted = mount_small()
    top = mounted.path / "job"
    top.mkdir()
    temporaries = {f"temp_{number:03}.wav" for number in range(200)}
    for name in temporaries:
        (top / name).touch()
    put(top / "x.txt", 4096)
    ballast = fill(small_disk)
    for status in ("completed", "running", "failed", "completed", "running", "completed"):
        before = mounted.status("job")
        try:
            mounted.set_status("job", status)
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise
            assert mounted.status("job") == before
        else:
            assert mounted.status("job") == status
        hidden = mounted.status("job") == "completed"
        assert set(os.listdir(top)) == ({"x.txt"} if hidden else {"x.txt"} | temporaries)
        assert mounted.in_trash() == (temporaries if hidden else set())
    ballast.unlink()
    mounted.set_status("job", "running")
    assert set(os.listdir(top)) == {"x.txt"} | temporaries
    mounted.set_status("job", "completed")
    mounted.kill_and_remount()
    assert mounted.status("job") == "completed"
    assert os.listdir(top) == ["x.txt"]


def test_what_keep_unlinked_kept_goes_first_when_the_disk_is_full(
    mount_small: Callable[..., Mounted],
) -> None:
    mounted = mount_small("cleanup: {keep_unlinked: [temp_video]}\n")
    top = mounted.path / "job"
    top.mkdir()
    put(top / "x.txt", MIB)
    for number in range(4):
        put(top / f"temp_{number}.mkv", MIB)
        (top / f"temp_{number}.mkv").unlink()
    assert len(mounted.in_trash()) == 4
    put(top / "y.txt", 4 * MIB)
    assert "temp_0.mkv" not in mounted.in_trash()
    assert (top / "y.txt").stat().st_size == 4 * MIB
    mounted.set_status("job", "failed")
    assert {"x.txt", "y.txt"} <= set(os.listdir(top))
    assert mounted.states("job")["temp_0.mkv"] == "removed"


def test_a_full_disk_deletes_nothing_that_is_hidden_by_status(
    mount_small: Callable[..., Mounted],
) -> None:
    mounted = mount_small("cleanup: {keep_unlinked: [temp_video]}\n")
    for job in ("done", "failed", "running"):
        (mounted.path / job).mkdir()
        put(mounted.path / job / "temp_a.mkv", MIB)
    mounted.set_status("done", "completed")
    (mounted.path / "failed" / "temp_a.mkv").unlink()
    mounted.set_status("failed", "failed")
    with pytest.raises(OSError) as caught:
        put(mounted.path / "running" / "large", 16 * MIB)
    assert caught.value.errno == errno.ENOSPC
    assert mounted.in_trash() == {"temp_a.mkv"}
    assert (mounted.path / "failed" / "temp_a.mkv").stat().st_size == MIB
    (mounted.path / "running" / "large").unlink()


# -- a read-only disk ------------------------------------------------------------------------------


def test_a_disk_that_became_read_only_says_so_and_the_daemon_lives(
    mount_small: Callable[..., Mounted], small_disk: Path, tmp_path: Path
) -> None:
    mounted = mount_small(options=f"state_dir={tmp_path / 'state'}")
    top = mounted.path / "job"
    top.mkdir()
    put(top / "x.txt", 10)
    put(top / "temp_a.wav", 10)
    (top / "lazy").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    try:
        for call in (
            (top / "new").mkdir,
            (top / "lazy" / "deeper").mkdir,
            (top / "new").touch,
            (top / "lazy" / "new").touch,
            lambda: (top / "new").symlink_to("x"),
            lambda: os.link(top / "x.txt", top / "new"),
            lambda: os.mkfifo(top / "new"),
            lambda: (top / "x.txt").rename(top / "new"),
            (top / "x.txt").unlink,
            lambda: (top / "x.txt").chmod(0o600),
            lambda: os.truncate(top / "x.txt", 0),
            lambda: open(top / "x.txt", "ab").close(),
            lambda: os.setxattr(top / "x.txt", "user.note", b"x"),
        ):
            with pytest.raises(OSError) as caught:
                call()
            assert caught.value.errno == errno.EROFS
        assert (top / "x.txt").read_bytes() == bytes(10)
        mounted.set_status("job", "completed")  # what can't be moved stays in view
        assert set(os.listdir(top)) == {"x.txt", "temp_a.wav"}
        assert "cannot hide temp_a.wav: " in mounted.log()
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    mounted.set_status("job", "completed")
    assert os.listdir(top) == ["x.txt"]


def test_a_backing_store_that_is_read_only_from_the_start_is_a_clear_error(
    small_disk: Path, tmp_path: Path
) -> None:
    (small_disk / "backing").mkdir()
    (tmp_path / "mnt").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "lffs.cli", "mount", small_disk / "backing", tmp_path / "mnt"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "ead-only" in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.ismount(tmp_path / "mnt")


# -- values of any bytes ---------------------------------------------------------------------------


def test_xattr_values_that_are_no_utf8_are_refused_or_kept_as_they_are(mounted: Mounted) -> None:
    top = mounted.path / "job"
    top.mkdir()
    (top / "x.txt").touch()
    for name in ("status", "job_type", "retention_hours", "debug", "keep"):
        with pytest.raises(OSError) as caught:
            os.setxattr(top, f"user.lffs.{name}", b"\xff\xfe")
        assert caught.value.errno == errno.EINVAL
    for name in ("file_type", "keep"):
        with pytest.raises(OSError) as caught:
            os.setxattr(top / "x.txt", f"user.lffs.{name}", b"\xff\xfe")
        assert caught.value.errno == errno.EINVAL
    os.setxattr(top / "x.txt", "user.note", b"\xff\xfe\0")
    assert os.getxattr(top / "x.txt", "user.note") == b"\xff\xfe\0"
    assert mounted.status("job") == "running"


def test_a_job_id_with_dots_is_refused_by_name(mounted: Mounted) -> None:
    (mounted.path / "job").mkdir()
    for name in ("../etc", "job/../job", "..", "job/.."):
        done = subprocess.run(
            [sys.executable, "-m", "lffs.cli", "show", mounted.path, name],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert name in done.stderr
        assert "Traceback" not in done.stderr


# -- few descriptors -------------------------------------------------------------------------------


def test_a_daemon_with_few_descriptors_serves_many_directories(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    mounted.prefix = ["prlimit", "--nofile=128"]
    mounted.start()
    try:
        top = mounted.path / "job"
        for number in range(150):
            directory = top / f"d{number}"
            directory.mkdir(parents=True)
            (directory / "temp_a.wav").touch()
            (directory / "x.txt").touch()
        assert len(tree(top, directories=False)) == 300
        mounted.set_status("job", "completed")
        assert len(tree(top, directories=False)) == 150
        mounted.set_status("job", "running")
        shutil.rmtree(top)
        mounted.verify()
        assert "Traceback" not in mounted.log()
    finally:
        mounted.close()


def test_more_open_files_than_descriptors_is_an_error_of_that_open_alone(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    mounted.prefix = ["prlimit", "--nofile=192"]
    mounted.start()
    opened: list[int] = []
    try:
        (mounted.path / "job").mkdir()
        while len(opened) < 400:
            try:
                name = mounted.path / "job" / f"f{len(opened)}"
                opened.append(os.open(name, os.O_CREAT | os.O_WRONLY))
            except OSError as exc:
                if exc.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                break
        assert 50 < len(opened) < 192
        os.close(opened.pop())
        eventually((mounted.path / "job" / "f0").stat, "it lives")
    finally:
        for descriptor in opened:
            os.close(descriptor)
        mounted.close()
