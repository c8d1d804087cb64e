"""The daemon as operators meet it: the real command line, signals, umount, what is refused."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lffs.mounting.table import detach, is_dead_mount
from tests.harness import ROOT, eventually, is_dead

pytestmark = pytest.mark.mounted


def has_ended(pid: int) -> bool:
    """Tell whether the process is gone, or only waits for its parent to take note."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


class Operator:
    """Runs lffs as a person would, below one directory, and cleans up behind himself."""

    def __init__(self, directory: Path) -> None:
        self.backing = directory / "backing"
        self.mnt = directory / "mnt"
        self.backing.mkdir()
        self.mnt.mkdir()

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lffs.cli", *map(str, arguments)],
            cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def mount(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run("mount", self.backing, self.mnt, *options)

    def umount(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run("umount", self.mnt, *options)

    def pid(self) -> int:
        return int((self.backing / ".lffs" / "lock").read_text())

    def log(self) -> str:
        return (self.backing / ".lffs" / "lffs.log").read_text()

    def is_mounted(self) -> bool:
        table = Path("/proc/self/mountinfo").read_text()
        return f" {self.mnt} " in table

    def await_end(self, pid: int) -> None:
        eventually(lambda: has_ended(pid), "the daemon ended")

    def close(self) -> None:
        while self.is_mounted():
            if is_dead_mount(self.mnt):
                detach(self.mnt)
                continue
            pid = self.pid()
            os.kill(pid, signal.SIGTERM)
            self.await_end(pid)


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    one = Operator(tmp_path)
    yield one
    one.close()


def ended_cleanly(operator: Operator, pid: int) -> None:
    """Fail unless the daemon is gone, said so, and the next mount needs no scan."""
    operator.await_end(pid)
    assert not operator.is_mounted()
    assert operator.log().rstrip().endswith(f"unmounted {operator.mnt}")
    assert operator.mount().returncode == 0
    assert "scanned" not in operator.log()


# -- mount and umount ------------------------------------------------------------------------------


def test_mount_returns_when_it_serves_and_umount_when_all_is_over(operator: Operator) -> None:
    done = operator.mount()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (operator.mnt / "job").mkdir()
    (operator.mnt / "job" / "x.txt").write_text("x")
    pid = operator.pid()
    done = operator.umount()
    assert (done.returncode, done.stdout) == (0, "")
    assert has_ended(pid)
    assert os.listdir(operator.mnt) == []
    assert (operator.backing / "job" / "x.txt").read_text() == "x"
    assert operator.umount().returncode == 2


def test_foreground_stays_and_says_that_it_serves(operator: Operator) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "lffs.cli", "mount", operator.backing, operator.mnt, "-f"],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    ) as daemon:  # fmt: skip
        assert daemon.stderr is not None
        line = next(line for line in daemon.stderr if "serving" in line)
        assert str(operator.mnt) in line
        assert str(daemon.pid) in line
        (operator.mnt / "job").mkdir()
        daemon.terminate()
        daemon.stderr.read()
        assert daemon.wait() == 0


def test_a_busy_mount_is_not_ended_and_who_holds_it_is_named(operator: Operator) -> None:
    operator.mount()
    (operator.mnt / "job").mkdir()
    with subprocess.Popen(["sleep", "1000"], cwd=operator.mnt / "job") as holder:
        done = operator.umount()
        assert done.returncode == 1
        assert str(holder.pid) in done.stderr
        assert "sleep" in done.stderr
        assert operator.is_mounted()
        assert (operator.mnt / "job").is_dir()
        pid = operator.pid()
        assert operator.umount("--lazy").returncode == 0
        assert not operator.is_mounted()
        holder.kill()
    ended_cleanly(operator, pid)


@pytest.mark.parametrize("command", ["umount", "fusermount3 -u"])
def test_the_systems_own_unmount_ends_it_as_cleanly(command: str, operator: Operator) -> None:
    operator.mount()
    pid = operator.pid()
    (operator.mnt / "job").mkdir()
    (operator.mnt / "job" / "x.txt").write_text("x" * 1_000_000)
    subprocess.run([*command.split(), operator.mnt], check=True)
    ended_cleanly(operator, pid)
    assert (operator.backing / "job" / "x.txt").stat().st_size == 1_000_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_cleanly_with_all_that_was_written(number: int, operator: Operator) -> None:
    operator.mount()
    pid = operator.pid()
    (operator.mnt / "job").mkdir()
    (operator.mnt / "job" / "x.txt").write_bytes(b"y" * 5_000_000)
    os.kill(pid, number)
    ended_cleanly(operator, pid)
    assert (operator.backing / "job" / "x.txt").read_bytes() == b"y" * 5_000_000


def test_a_signal_with_a_file_open_loses_nothing_that_was_written(operator: Operator) -> None:
    operator.mount()
    pid = operator.pid()
    (operator.mnt / "job").mkdir()
    held = os.open(operator.mnt / "job" / "x.txt", os.O_CREAT | os.O_WRONLY)
    os.write(held, b"z" * 3_000_000)  # in the kernel's cache, not closed
    os.kill(pid, signal.SIGTERM)
    operator.await_end(pid)
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        os.close(held)
    assert (operator.backing / "job" / "x.txt").read_bytes() == b"z" * 3_000_000


def test_sighup_reads_the_configuration_again(operator: Operator, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("cleanup: {retention_hours: 5}\n")
    assert operator.mount("-c", str(config)).returncode == 0
    (operator.mnt / "job").mkdir()

    def retention() -> bytes:
        return os.getxattr(operator.mnt / "job", "user.lffs.retention_hours")

    assert retention() == b"5"
    config.write_text("cleanup: {retention_hours: 6}\n")
    os.kill(operator.pid(), signal.SIGHUP)
    eventually(lambda: retention() == b"6", "read again")
    config.write_text("cleanup: {retention_hour: 7}\n")
    os.kill(operator.pid(), signal.SIGHUP)
    eventually(lambda: "retention_hour" in operator.log(), "the mistake was logged")
    assert "the configuration in force stays" in operator.log()
    assert retention() == b"6"


# -- what is refused -------------------------------------------------------------------------------


def test_a_second_mount_of_a_backing_store_is_refused(operator: Operator, tmp_path: Path) -> None:
    operator.mount()
    other = tmp_path / "other"
    other.mkdir()
    done = operator.run("mount", operator.backing, other)
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert str(operator.pid()) in done.stderr
    done = operator.mount()
    assert done.returncode == 1
    assert "already" in done.stderr
    assert operator.is_mounted()


def test_a_mountpoint_that_is_not_empty_is_refused(operator: Operator) -> None:
    (operator.mnt / "written by a pipeline").touch()
    done = operator.mount()
    assert done.returncode == 1
    assert "written by a pipeline" in done.stderr
    assert not operator.is_mounted()
    assert os.listdir(operator.backing) == []


def test_a_dead_mount_is_detached_and_said(operator: Operator) -> None:
    operator.mount()
    (operator.mnt / "job").mkdir()
    pid = operator.pid()
    os.kill(pid, signal.SIGKILL)
    operator.await_end(pid)
    assert is_dead(operator.mnt)
    done = operator.run("jobs", operator.mnt)
    assert done.returncode == 1
    assert "dead mount" in done.stderr
    done = operator.mount()
    assert done.returncode == 0
    assert "detached a dead mount" in done.stderr
    assert os.listdir(operator.mnt) == ["job"]


def test_umount_detaches_a_dead_mount_and_says_so(operator: Operator) -> None:
    operator.mount()
    pid = operator.pid()
    os.kill(pid, signal.SIGKILL)
    operator.await_end(pid)
    done = operator.umount()
    assert done.returncode == 0
    assert "dead mount" in done.stderr
    assert not operator.is_mounted()


@pytest.mark.parametrize(
    "text",
    ["cleanup: {retention_hour: 5}\n", "cleanup: {retention_hours: soon}\n", "jobs: {roots: ['**']}\n"],
)
def test_a_wrong_configuration_is_refused_with_its_line(
    text: str, operator: Operator, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("# a comment\n" + text)
    done = operator.mount("-c", str(config))
    assert done.returncode == 2
    assert f"{config}:2" in done.stderr
    assert not operator.is_mounted()


# -- stores ----------------------------------------------------------------------------------------


def fill_store(operator: Operator) -> Path:
    """Mount, record something, unmount; return the store."""
    operator.mount()
    (operator.mnt / "job").mkdir()
    (operator.mnt / "job" / "temp_a.wav").write_text("a")
    (operator.mnt / "job" / "x.txt").write_text("x")
    (operator.mnt / "other").mkdir()
    (operator.mnt / "other" / "temp_hidden.wav").write_text("hidden")
    os.setxattr(operator.mnt / "other", "user.lffs.status", b"completed")
    operator.umount()
    return operator.backing / ".lffs" / "manifest.db"


def test_a_store_of_a_newer_version_is_refused_and_not_touched(operator: Operator) -> None:
    store = fill_store(operator)
    with sqlite3.connect(store) as database:
        database.execute("PRAGMA user_version = 1000")
    database.close()
    before = {
        path: path.read_bytes() for path in store.parent.iterdir() if path.name.startswith("manifest.db")
    }
    done = operator.mount()
    assert done.returncode == 1
    assert "1000" in done.stderr
    assert not operator.is_mounted()
    after = {
        path: path.read_bytes() for path in store.parent.iterdir() if path.name.startswith("manifest.db")
    }
    assert after == before


@pytest.mark.parametrize("damage", ["garbage", "truncated", "a page", "empty", "gone"])
def test_a_damaged_store_never_prevents_the_mount_and_costs_no_file(
    damage: str, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a backup; with one everything is what it was (test_damage)."""
    monkeypatch.setenv("LFFS_MANIFEST__BACKUPS", "0")
    store = fill_store(operator)
    whole = store.read_bytes()
    damaged = {
        "garbage": b"garbage" * 1000,
        "truncated": whole[: len(whole) // 2 + 100],
        "a page": whole[:4096] + b"\xff" * 8192 + whole[12288:],
        "empty": b"",
    }
    if damage == "gone":
        store.unlink()
    else:
        store.write_bytes(damaged[damage])
    done = operator.mount()
    assert done.returncode == 0, done.stderr
    assert (operator.mnt / "job" / "temp_a.wav").read_text() == "a"
    assert sorted(os.listdir(operator.mnt / "job")) == ["temp_a.wav", "x.txt"]
    trash = operator.backing / ".lffs" / "trash"
    assert [path.read_text() for path in trash.rglob("temp_hidden.wav")] == ["hidden"]
    (operator.mnt / "job" / "temp_new.wav").write_text("new")
    os.setxattr(operator.mnt / "job", "user.lffs.status", b"completed")
    assert "temp_new.wav" not in os.listdir(operator.mnt / "job")


def test_what_only_a_scan_found_again_is_not_hidden_by_itself(operator: Operator) -> None:
    state = fill_store(operator).parent
    for path in state.iterdir():
        if path.name not in ("trash", "staging", "lock"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert operator.mount().returncode == 0
    for job in ("job", "other"):
        os.setxattr(operator.mnt / job, "user.lffs.retention_hours", b"0")
        os.setxattr(operator.mnt / job, "user.lffs.status", b"completed")
    assert (operator.mnt / "job" / "temp_a.wav").read_text() == "a"
    hidden = [*(state / "trash").rglob("temp_hidden.wav")]
    assert [path.read_text() for path in hidden] == ["hidden"]
    (operator.mnt / "job" / "temp_new.wav").write_text("new")
    os.setxattr(operator.mnt / "job", "user.lffs.status", b"completed")
    assert sorted(os.listdir(operator.mnt / "job")) == ["temp_a.wav", "x.txt"]


# -- other users -----------------------------------------------------------------------------------


def test_an_ordinary_user_mounts_a_directory_of_his_own(tmp_path: Path) -> None:
    """In a mount namespace where everybody may open /dev/fuse, as on most machines.

    What the user may besides is to search every directory: the interpreter may lie in root's home.
    """
    user_script = """
        set -e
        cd "$1"
        python=$2 project=$3
        lffs() { PYTHONPATH="$project" "$python" -m lffs.cli "$@"; }
        lffs mount backing mnt
        mkdir -p mnt/job/slides
        echo x > mnt/job/slides/a.png
        echo y > mnt/job/b.txt
        setfattr -n user.lffs.status -v completed mnt/job
        ls mnt mnt/job
        lffs status mnt job
        lffs umount mnt
        stat -c %u backing/job/b.txt
    """
    script = """
        set -e
        mknod "$1/fuse" c 10 229
        chmod 666 "$1/fuse"
        mount --bind "$1/fuse" /dev/fuse
        exec setpriv --reuid=65534 --regid=65534 --clear-groups \
            --inh-caps +dac_read_search --ambient-caps +dac_read_search -- sh -c "$2" sh "$3" "$4" "$5"
    """
    # pytest's directories are root's alone; the user needs one that he can reach.
    with tempfile.TemporaryDirectory(prefix="lffs-user-", dir="/var/tmp") as directory:
        for path in (directory, f"{directory}/backing", f"{directory}/mnt"):
            os.makedirs(path, exist_ok=True)
            os.chown(path, 65534, 65534)
        done = subprocess.run(
            [
                "unshare", "--mount", "sh", "-c", script, "sh",
                tmp_path, user_script, directory, sys.executable, ROOT,
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n") == [
        "mnt:",
        "job_completed",
        "",
        "mnt/job:",
        "b.txt",
        "completed",
        "65534",
        "",
    ]


# -- mount(8) --------------------------------------------------------------------------------------


def test_mount_8_mounts_by_its_helper_and_umount_8_ends_it(operator: Operator, tmp_path: Path) -> None:
    """In a mount namespace of its own, where /sbin has the helper: the machine keeps nothing of it."""
    sbin = tmp_path / "sbin"
    sbin.mkdir()
    shutil.copy(ROOT / "mount" / "mount.fuse.lffs", sbin)
    (sbin / "lffs").write_text(
        f'#!/bin/sh\nexport PYTHONPATH={ROOT}\nexec {sys.executable} -m lffs.cli "$@"\n'
    )
    (sbin / "lffs").chmod(0o755)
    script = """
        set -e
        mount -t overlay overlay -o lowerdir="$1":/usr/sbin /usr/sbin
        mount -t fuse.lffs "$2" "$3" -o noatime,status_names=plain,x-test=1
        findmnt -no FSTYPE,SOURCE "$3"
        mkdir "$3/job"
        echo x > "$3/job/x.txt"
        ls "$3"
        umount "$3"
        ls "$3"
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sbin, operator.backing, operator.mnt],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    kind, source, listed = done.stdout.split()
    assert (kind, source, listed) == ("fuse.lffs", str(operator.backing), "job")
    operator.await_end(operator.pid())
    assert (operator.backing / "job" / "x.txt").read_text() == "x\n"
