"""kill -9 of the daemon at any moment, and what is found after the next mount."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness import ROOT, Mounted, eventually, is_dead, tree

pytestmark = pytest.mark.mounted

# Writes, renames, unlinks, links and makes directories as fast as it can, and says of each file what it
# holds once it is closed.  A line that was printed is a promise; what was under way may be there or not.
WRITER = """
import json, os, random, sys
top, seed = sys.argv[1], int(sys.argv[2])
choose = random.Random(seed)
mine = os.path.join(top, f"w{seed}")
files, count = [], 0

def say(*what):
    os.write(1, json.dumps(what).encode() + b"\\n")

os.makedirs(mine, exist_ok=True)
while True:
    count += 1
    kind = choose.choice(["write", "write", "write", "rename", "unlink", "link", "mkdir"])
    below = choose.choice([[], ["ko"], ["ko", "slides"], ["de", "shorts"]])
    name = os.path.join(mine, *below, choose.choice(["temp_", "f"]) + f"{seed}_{count}")
    os.makedirs(os.path.dirname(name), exist_ok=True)
    if kind == "write":
        content = f"{seed} {count} " * choose.randrange(1, 2000)
        say("begin", name)
        with open(name, "w") as file:
            file.write(content)
            if choose.random() < 0.3:
                file.flush()
                os.fsync(file.fileno())
        say("written", name, content[:20], len(content))
        files.append(name)
    elif kind == "mkdir":
        say("begin", name)
        os.mkdir(name)
        say("made", name)
    elif files:
        old = choose.choice(files)
        if kind == "rename":
            say("begin", old, name)
            os.rename(old, name)
            files[files.index(old)] = name
            say("renamed", old, name)
        elif kind == "unlink":
            say("begin", old)
            os.unlink(old)
            files.remove(old)
            say("unlinked", old)
        else:
            say("begin", name)
            os.link(old, name)
            files.append(name)
            say("linked", old, name)
"""


class Promises:
    """What the writers said: which files must be there with which bytes, and which must not."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, int]] = {}
        self.directories: set[str] = set()
        self.gone: set[str] = set()
        self.unsure: set[str] = set()

    def hear(self, lines: list[bytes]) -> None:
        begun: list[str] = []
        for line in lines:
            what, *names = json.loads(line)
            if what == "begin":
                begun = names
                continue
            begun = []
            if what == "written":
                self.files[names[0]] = (names[1], names[2])
            elif what == "made":
                self.directories.add(names[0])
            elif what == "renamed":
                self.files[names[1]] = self.files.pop(names[0])
                self.gone.add(names[0])
            elif what == "unlinked":
                del self.files[names[0]]
                self.gone.add(names[0])
            else:
                self.files[names[1]] = self.files[names[0]]
        self.unsure.update(begun)

    def check(self) -> None:
        for name, (beginning, size) in self.files.items():
            if name not in self.unsure:
                content = Path(name).read_text()
                assert (content[: len(beginning)], len(content)) == (beginning, size), name
        assert [name for name in self.directories if not os.path.isdir(name)] == []
        assert [name for name in self.gone - self.unsure if os.path.lexists(name)] == []


def write_until_killed(mounted: Mounted, round_: int, after_s: float) -> Promises:
    """Run four writers, kill the daemon in the middle of them."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(mounted.path / f"job{number % 2}"), str(round_ * 10 + number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for number in range(4)
    ]
    heard: list[list[bytes]] = [[] for _ in writers]

    def listen(writer: subprocess.Popen[bytes], lines: list[bytes]) -> None:
        assert writer.stdout is not None
        lines.extend(line for line in writer.stdout if line.endswith(b"\n"))

    listeners = [threading.Thread(target=listen, args=pair) for pair in zip(writers, heard, strict=True)]
    for listener in listeners:
        listener.start()
    eventually(lambda: all(len(lines) > 20 for lines in heard), "all of them write")
    threading.Event().wait(after_s)
    mounted.kill()
    for writer, listener in zip(writers, listeners, strict=True):
        writer.wait()  # it fails at its next call
        listener.join()
        assert writer.stdout is not None
        writer.stdout.close()
    promises = Promises()
    for lines in heard:
        promises.hear(lines)
    return promises


def states_agree_with(top: Path, states: dict[str, str]) -> None:
    present = {name for name, state in states.items() if state == "present"}
    assert present == tree(top, directories=False)


def test_whatever_was_closed_survives_kill_9_at_any_moment(
    make_mount: Callable[..., Mounted], pytestconfig: pytest.Config
) -> None:
    mounted = make_mount()
    choose = random.Random(20260131)
    done = mounted.path / "done"
    done.mkdir()
    (done / "temp_a.wav").write_text("hidden")
    (done / "x.txt").write_text("kept")
    os.setxattr(done / "x.txt", "user.lffs.file_type", b"final_video")
    os.setxattr(done / "x.txt", "user.lffs.keep", b"1")
    os.setxattr(done, "user.lffs.retention_hours", b"7")
    mounted.set_status("done", "completed")
    for round_ in range(pytestconfig.getoption("--crash-rounds")):
        promises = write_until_killed(mounted, round_, choose.random() * 0.3)
        assert is_dead(mounted.path)
        mounted.start()
        promises.check()
        mounted.verify()
        for job in ("job0", "job1"):
            assert mounted.status(job) == "running"
            states_agree_with(mounted.path / job, mounted.states(job))
        assert mounted.status("done") == "completed"
        assert os.getxattr(done / "x.txt", "user.lffs.file_type") == b"final_video"
        assert os.getxattr(done / "x.txt", "user.lffs.keep") == b"1"
        assert os.getxattr(done, "user.lffs.retention_hours") == b"7"
        assert mounted.in_trash() == {"temp_a.wav"}
    for job in ("job0", "job1"):
        finals = {
            name
            for name in tree(mounted.path / job, directories=False)
            if "temp_" not in name and "/slides/" not in name
        }
        mounted.set_status(job, "completed")
        assert tree(mounted.path / job, directories=False) == finals


# -- a dead mount ----------------------------------------------------------------------------------


def test_a_dead_mount_fails_and_is_never_an_empty_directory(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    (mounted.path / "job").mkdir()
    mounted.kill()
    for call in (
        lambda: os.listdir(mounted.path),
        lambda: os.mkdir(mounted.path / "new"),
        lambda: os.close(os.open(mounted.path / "job" / "x", os.O_CREAT | os.O_WRONLY)),
        lambda: os.stat(mounted.path / "job"),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.strerror == "Transport endpoint is not connected"
    mounted.start()
    assert f"detached a dead mount of {mounted.backing} at {mounted.path}" in mounted.log()
    assert os.listdir(mounted.path) == ["job"]
    assert mounted.in_backing() == set()


def test_only_an_unclean_end_scans(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    (mounted.path / "job").mkdir()
    (mounted.path / "job" / "x.txt").write_text("x")
    assert "scanned" not in mounted.log()
    mounted.remount()
    assert mounted.unmount() == 0
    mounted.start()
    assert "scanned" not in mounted.log()
    mounted.kill_and_remount()
    assert mounted.log().count(f"scanned {mounted.backing} after an unclean end") == 1


def test_what_was_written_to_a_running_job_in_the_backing_store_meanwhile_is_ordinary(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount()
    (mounted.path / "job").mkdir()
    (mounted.path / "job" / "x.txt").write_text("x")
    mounted.kill()
    (mounted.backing / "job" / "temp_b.wav").write_text("b")
    mounted.start()
    mounted.set_status("job", "completed")
    assert mounted.in_trash() == {"temp_b.wav"}


# -- in the middle of a status, or of a rename -----------------------------------------------------


def do_and_kill(mounted: Mounted, action: Callable[[], object], after_s: float) -> None:
    """Kill the daemon while the action is under way in another thread, which may fail then."""

    def act() -> None:
        with suppress(OSError):
            action()

    acting = threading.Thread(target=act)
    acting.start()
    threading.Event().wait(after_s)
    mounted.kill()
    acting.join()
    mounted.start()


def test_a_kill_during_completed_leaves_all_hidden_or_all_in_view(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    top = mounted.path / "job"
    temporaries = {f"d{number % 5}/temp_{number:03}.wav" for number in range(500)}
    for directory in range(5):
        (top / f"d{directory}").mkdir(parents=True)
    for name in temporaries:
        (top / name).touch()
    (top / "x.txt").write_text("final")
    for after_s in (0.01, 0.04, 0.08, 0.15):
        mounted.set_status("job", "running")
        assert tree(top, directories=False) == temporaries | {"x.txt"}
        do_and_kill(mounted, lambda: mounted.set_status("job", "completed"), after_s)
        left = tree(top, directories=False)
        if mounted.status("job") == "running":
            assert left == temporaries | {"x.txt"}
            assert mounted.in_trash() == set()
        else:
            assert mounted.status("job") == "completed"
            assert tree(top) == {"x.txt"}
            assert mounted.in_trash() == temporaries
        mounted.verify()
    # And the same on the way back.
    mounted.set_status("job", "completed")
    for after_s in (0.01, 0.05, 0.1):
        do_and_kill(mounted, lambda: mounted.set_status("job", "running"), after_s)
        if mounted.status("job") == "completed":
            assert tree(top) == {"x.txt"}
            assert mounted.in_trash() == temporaries
        else:
            assert mounted.status("job") == "running"
            assert tree(top, directories=False) == temporaries | {"x.txt"}
            assert mounted.in_trash() == set()
            mounted.set_status("job", "completed")
        mounted.verify()


def test_a_kill_during_the_rename_of_a_job_takes_its_record_along_or_leaves_it(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount()
    names = ["one", "two"]
    top = mounted.path / names[0]
    (top / "ko").mkdir(parents=True)
    (top / "lazy").mkdir()
    (top / "ko" / "temp_a.wav").write_text("a")
    (top / "x.txt").write_text("x")
    os.setxattr(top, "user.lffs.retention_hours", b"3")
    mounted.set_status("one", "completed")
    (top / "lazy").mkdir()
    for after_s in (0.001, 0.004, 0.008):

        def rename_to_and_fro() -> None:
            source, target = names
            if not (mounted.path / source).exists():
                source, target = target, source
            while True:
                (mounted.path / source).rename(mounted.path / target)
                source, target = target, source

        do_and_kill(mounted, rename_to_and_fro, 0.2 + after_s)
        (job,) = mounted.admin.jobs(None, True)
        assert job["id"] in names
        assert job["status"] == "completed"
        assert tree(mounted.path / str(job["id"])) == {"x.txt", "lazy"}
        assert os.getxattr(mounted.path / str(job["id"]), "user.lffs.retention_hours") == b"3"
        assert mounted.in_trash() == {"ko/temp_a.wav"}
        mounted.verify()
    job_id = str(mounted.admin.jobs(None, False)[0]["id"])
    mounted.set_status(job_id, "running")
    assert (mounted.path / job_id / "ko" / "temp_a.wav").read_text() == "a"


def test_a_kill_right_after_unlink_keeps_what_keep_unlinked_keeps(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("cleanup: {keep_unlinked: [temp_audio]}\n")
    top = mounted.path / "job"
    top.mkdir()
    for number in range(3):
        (top / "temp_a.wav").write_text(str(number))
        (top / "temp_a.wav").unlink()
        mounted.kill_and_remount()
        assert os.listdir(top) == []
    mounted.set_status("job", "failed")
    assert (top / "temp_a.wav").read_text() == "2"
    assert mounted.in_trash() == {"temp_a.wav.~1~", "temp_a.wav.~2~"}


def test_marks_lazy_directories_and_statuses_are_kept_the_moment_they_are_answered(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount()
    top = mounted.path / "job"
    top.mkdir()
    numbers = {}
    for name in ("lazy", "lazy/deeper"):
        (top / name).mkdir(mode=0o750)
        numbers[name] = (top / name).stat().st_ino
        mounted.kill_and_remount()
        assert {one: (top / one).stat().st_ino for one in numbers} == numbers
    (top / "temp_x.wav").write_text("x")
    os.setxattr(top / "temp_x.wav", "user.lffs.keep", b"1")
    mounted.kill_and_remount()
    assert os.getxattr(top / "temp_x.wav", "user.lffs.keep") == b"1"
    mounted.set_status("job", "failed")
    mounted.kill_and_remount()
    assert mounted.status("job") == "failed"


# -- the demo pipeline -----------------------------------------------------------------------------


def pipeline(out: Path) -> list[str]:
    return [
        sys.executable, str(ROOT / "mount" / "demo_pipeline.py"), str(out),
        "--series", "S", "--episode", "E", "--expressions", "1", "--no-long", "-q",
    ]  # fmt: skip


def test_a_pipeline_that_lost_its_mount_is_run_again_to_the_end(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("langflix")
    with subprocess.Popen(
        pipeline(mounted.path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        eventually(lambda: len(tree(mounted.path, directories=False)) > 6, "it is in the middle")
        mounted.kill()
        assert running.wait() != 0
        with suppress(ProcessLookupError):  # an ffmpeg that has not noticed yet
            os.killpg(running.pid, signal.SIGKILL)
    assert is_dead(mounted.path)
    mounted.start()
    mounted.verify()
    assert mounted.status("S/E") == "running"
    left = tree(mounted.path / "S/E", directories=False)
    assert left
    done = subprocess.run(pipeline(mounted.path), capture_output=True, check=True)
    summary = json.loads(done.stdout)
    mounted.set_status("S/E", "completed")
    in_view = {f"S/E/{name}" for name in tree(mounted.path / "S/E", directories=False)}
    assert set(summary["finals"]) <= in_view
    assert not in_view & set(summary["temporaries"])
    mounted.verify()
