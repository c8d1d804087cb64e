"""What is recorded of everything that a job does, with nobody calling an API."""

import ctypes
import datetime
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Mounted, eventually, tree

pytestmark = pytest.mark.mounted

RENAME_EXCHANGE = 2
KEYS = {
    "version", "job_id", "job_type", "status", "created_at", "updated_at", "files", "directories",
    "cleanup_policy", "entries",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    return make_shared_mount()


@pytest.fixture
def job(request: pytest.FixtureRequest) -> str:
    """A job's name that no other test has."""
    name: str = request.node.name
    return name.removeprefix("test_").replace("[", ".").replace("]", "")[:100]


def write(top: Path, *names: str) -> None:
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def entry(mounted: Mounted, job: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = mounted.manifest(job)["entries"][name]
    return found


def exchange(first: Path, second: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    at_cwd = -100
    if libc.renameat2(at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


# -- the object ------------------------------------------------------------------------------------


def test_the_manifest_has_the_keys_of_the_contract(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "ko/slides/a.png", "ko/shorts/x.mkv", "notes")
    (top / "ko" / "subtitles").mkdir()
    found = shared.manifest(job)
    assert found.keys() >= KEYS
    assert (found["version"], found["job_id"], found["job_type"]) == (1, job, "short_form")
    assert found["status"] == "running"
    assert found["files"] == {
        "temp_slide": ["ko/slides/a.png"], "final_video": ["ko/shorts/x.mkv"], "other": ["notes"],
    }  # fmt: skip
    assert found["directories"] == {
        "base": ["ko"], "shorts": ["ko/shorts"], "slides": ["ko/slides"], "subtitles": ["ko/subtitles"],
    }  # fmt: skip
    assert found["cleanup_policy"] == {
        "enabled": True,
        "retention_hours": 24,
        "file_types_to_clean": ["temp_audio", "temp_expression", "temp_slide", "temp_subtitle", "temp_video"],
        "preserve_on_failure": True,
        "debug_mode_disables": True,
    }
    one = found["entries"]["ko/slides/a.png"]
    assert {
        "type": "temp_slide",
        "size": len("ko/slides/a.png"),
        "state": "present",
        "kind": "file",
    }.items() <= one.items()
    for text in (found["created_at"], found["updated_at"], one["created_at"]):
        moment = datetime.datetime.fromisoformat(text)
        assert moment.utcoffset() == datetime.timedelta(0)
        assert abs(datetime.datetime.now(datetime.UTC) - moment) < datetime.timedelta(hours=1)


def test_every_way_to_the_manifest_says_the_same(shared: Mounted, job: str) -> None:
    write(shared.path / job, "x.txt", "temp_a.wav")
    shared.set_status(job, "completed")
    said = shared.manifest(job)
    for text in (
        (shared.path / ".lffs" / "manifests" / f"{job}.json").read_text(),
        (shared.backing / ".lffs" / "manifests" / f"{job}.json").read_text(),
        subprocess.run(
            [sys.executable, "-m", "lffs.cli", "manifest", shared.path, job],
            capture_output=True, check=True, text=True, cwd=Path(__file__).parents[2],
        ).stdout,
    ):  # fmt: skip
        found = json.loads(text)
        found.pop("crc32", None)  # an export's own, over its text
        assert found == said
        assert text.isascii()


def test_the_maker_of_a_file_is_recorded(shared: Mounted, job: str) -> None:
    top = shared.path / job
    top.mkdir(mode=0o777)
    top.chmod(0o777)
    made = subprocess.run(
        ["setpriv", "--reuid=1234", "--regid=2345", "--clear-groups", "sh", "-c", "echo $$; : > x.txt"],
        check=True, capture_output=True, text=True, cwd=top,
    )  # fmt: skip
    assert entry(shared, job, "x.txt")["created_by"] == {
        "uid": 1234, "pid": int(made.stdout), "command": "sh",
    }  # fmt: skip
    assert (top / "x.txt").stat().st_uid == 1234
    (top / "x.txt").rename(top / "y.txt")
    assert entry(shared, job, "y.txt")["created_by"]["command"] == "sh"


@pytest.mark.parametrize("kind", ["file", "symlink", "fifo", "socket", "device"])
def test_every_kind_is_recorded(kind: str, shared: Mounted, job: str) -> None:
    top = shared.path / job
    top.mkdir()
    makers: dict[str, Callable[[Path], object]] = {
        "file": Path.touch,
        "symlink": lambda path: path.symlink_to("nowhere"),
        "fifo": os.mkfifo,
        "socket": lambda path: os.mknod(path, 0o140600),
        "device": lambda path: os.mknod(path, 0o020600, os.makedev(1, 3)),
    }
    makers[kind](top / "x")
    assert entry(shared, job, "x")["kind"] == kind
    assert shared.status(job) == "running"


def test_size_is_what_stat_says_also_while_it_is_being_written(shared: Mounted, job: str) -> None:
    top = shared.path / job
    top.mkdir()
    with open(top / "x.txt", "wb") as file:
        file.write(bytes(10_000))
        file.flush()
        os.fsync(file.fileno())
        assert entry(shared, job, "x.txt")["size"] == 10_000
        file.truncate(5)
    assert entry(shared, job, "x.txt")["size"] == 5
    assert os.getxattr(top, "user.lffs.bytes") == b"5"


def test_a_hidden_file_has_the_size_that_it_had(shared: Mounted, job: str) -> None:
    top = shared.path / job
    top.mkdir()
    (top / "temp_a.wav").write_bytes(bytes(777))
    shared.set_status(job, "completed")
    assert entry(shared, job, "temp_a.wav") | {"state": "hidden", "size": 777} == entry(
        shared, job, "temp_a.wav"
    )


def test_a_job_is_created_by_its_directory_and_running_from_its_first_file(shared: Mounted, job: str) -> None:
    top = shared.path / job
    top.mkdir()
    (top / "ko").mkdir()
    assert shared.status(job) == "created"
    assert shared.manifest(job)["directories"] == {"base": ["ko"]}
    write(top, "ko/x.txt")
    assert shared.status(job) == "running"


# -- renames ---------------------------------------------------------------------------------------


def test_a_renamed_file_keeps_its_record_and_gets_the_type_of_its_name(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.wav")
    (top / "shorts").mkdir()
    before = entry(shared, job, "temp_a.wav")
    (top / "temp_a.wav").rename(top / "shorts" / "x.mkv")
    after = entry(shared, job, "shorts/x.mkv")
    assert after["created_at"] == before["created_at"]
    assert (before["type"], after["type"]) == ("temp_audio", "final_video")
    assert shared.states(job) == {"shorts/x.mkv": "present"}


def test_overwriting_by_rename_leaves_one_record(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.wav", "x.txt")
    os.setxattr(top / "x.txt", "user.lffs.keep", b"1")
    (top / "temp_a.wav").rename(top / "x.txt")
    assert shared.states(job) == {"x.txt": "present"}
    assert not entry(shared, job, "x.txt")["keep"]


def test_a_renamed_directory_takes_all_below_it_along(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "a/b/temp_x.wav", "a/y.txt")
    (top / "a" / "lazy" / "deeper").mkdir(parents=True)
    os.setxattr(top / "a" / "y.txt", "user.lffs.file_type", b"final_video")
    (top / "a").rename(top / "z")
    assert shared.states(job) == {"z/b/temp_x.wav": "present", "z/y.txt": "present"}
    assert entry(shared, job, "z/y.txt")["type"] == "final_video"
    assert tree(top) == {"z", "z/b", "z/b/temp_x.wav", "z/y.txt", "z/lazy", "z/lazy/deeper"}
    assert shared.manifest(job)["directories"]["base"] == ["z", "z/b", "z/lazy", "z/lazy/deeper"]


def test_a_renamed_job_takes_id_status_settings_and_trash_along(shared: Mounted, job: str) -> None:
    top, new = shared.path / job, shared.path / f"{job}_renamed"
    write(top, "temp_a.wav", "x.txt")
    os.setxattr(top, "user.lffs.retention_hours", b"3")
    shared.set_status(job, "completed")
    (top / "lazy").mkdir()
    top.rename(new)
    assert shared.status(new.name) == "completed"
    assert os.getxattr(new, "user.lffs.job_id").decode() == new.name
    assert os.getxattr(new, "user.lffs.retention_hours") == b"3"
    assert shared.states(new.name) == {"temp_a.wav": "hidden", "x.txt": "present"}
    assert tree(new) == {"x.txt", "lazy"}
    assert job not in {row["id"] for row in shared.admin.jobs(None, True)}
    shared.set_status(new.name, "running")
    assert (new / "temp_a.wav").read_text() == "temp_a.wav"


def test_a_job_renamed_has_its_export_under_its_new_name_alone(shared: Mounted, job: str) -> None:
    top, new = shared.path / job, shared.path / f"{job}_renamed"
    write(top, "x.txt")
    shared.set_status(job, "failed")
    top.rename(new)
    exports = shared.backing / ".lffs" / "manifests"
    eventually((exports / f"{new.name}.json").exists, "written")
    assert json.loads((exports / f"{new.name}.json").read_text())["job_id"] == new.name
    assert not (exports / f"{job}.json").exists()


def test_the_export_of_a_removed_job_says_so(shared: Mounted, job: str) -> None:
    write(shared.path / job, "x.txt")
    shared.set_status(job, "failed")
    shutil.rmtree(shared.path / job)
    export = shared.backing / ".lffs" / "manifests" / f"{job}.json"
    eventually(lambda: json.loads(export.read_text())["removed_at"] is not None, "written")


def test_a_file_moved_to_another_job_is_typed_anew_and_leaves_the_first(shared: Mounted, job: str) -> None:
    first, second = shared.path / f"{job}1", shared.path / f"{job}2"
    write(first, "temp_a.wav", "temp_typed.wav", "d/temp_b.wav")
    write(second, "x.txt")
    os.setxattr(first / "temp_typed.wav", "user.lffs.file_type", b"metadata")
    os.setxattr(second, "user.lffs.job_type", b"slides_only")
    (first / "temp_a.wav").rename(second / "final.txt")
    (first / "temp_typed.wav").rename(second / "temp_typed.wav")
    (first / "d").rename(second / "slides")
    assert shared.states(first.name) == {}
    types = {name: one["type"] for name, one in shared.manifest(second.name)["entries"].items()}
    assert types == {
        "x.txt": "other", "final.txt": "other",
        "temp_typed.wav": "metadata", "slides/temp_b.wav": "temp_audio",
    }  # fmt: skip


def test_what_leaves_all_jobs_is_dropped_and_what_comes_in_is_recorded(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount('jobs: {roots: ["*/*"]}\n')
    write(mounted.path / "S" / "E", "x.txt", "d/temp_a.wav")
    (mounted.path / "S" / "E" / "x.txt").rename(mounted.path / "x.txt")
    (mounted.path / "S" / "E" / "d").rename(mounted.path / "d")
    assert mounted.states("S/E") == {}
    (mounted.path / "x.txt").rename(mounted.path / "S" / "E" / "y.txt")
    assert mounted.states("S/E") == {"y.txt": "present"}
    (mounted.path / "d").rename(mounted.path / "S" / "F")
    assert mounted.states("S/F") == {"temp_a.wav": "present"}
    (mounted.path / "S").rename(mounted.path / "T")
    assert {row["id"] for row in mounted.admin.jobs(None, False)} == {"T/E", "T/F"}
    (mounted.path / "T" / "E").rename(mounted.path / "no_job")
    assert {row["id"]: row["status"] for row in mounted.admin.jobs(None, True)} == {
        "T/E": "removed", "T/F": "running",
    }  # fmt: skip


def test_exchanged_files_exchange_their_records(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.wav", "x.txt")
    exchange(top / "temp_a.wav", top / "x.txt")
    assert (top / "x.txt").read_text() == "temp_a.wav"
    assert entry(shared, job, "x.txt")["size"] == len("temp_a.wav")
    shared.set_status(job, "completed")
    assert os.listdir(top) == ["x.txt"]


def test_exchanged_directories_exchange_all_that_is_known_of_them(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "a/x.txt", "b/y.txt")
    (top / "a" / "lazy").mkdir()
    os.setxattr(top / "a" / "x.txt", "user.lffs.keep", b"1")
    exchange(top / "a", top / "b")
    assert tree(top) == {"a", "b", "a/y.txt", "b/x.txt", "b/lazy"}
    assert shared.states(job) == {"a/y.txt": "present", "b/x.txt": "present"}
    assert entry(shared, job, "b/x.txt")["keep"]


def test_exchanged_jobs_take_their_statuses_and_trash_along(shared: Mounted, job: str) -> None:
    first, second = shared.path / f"{job}1", shared.path / f"{job}2"
    write(first, "temp_a.wav", "x.txt")
    write(second, "y.txt")
    shared.set_status(first.name, "completed")
    shared.set_status(second.name, "failed")
    exchange(first, second)
    assert (shared.status(first.name), shared.status(second.name)) == ("failed", "completed")
    assert shared.states(second.name) == {"temp_a.wav": "hidden", "x.txt": "present"}
    shared.set_status(second.name, "running")
    assert tree(second) == {"temp_a.wav", "x.txt"}
    assert tree(first) == {"y.txt"}


# -- unlinks and links -----------------------------------------------------------------------------


def test_unlinked_files_and_removed_directories_leave_the_manifest(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "a/x.txt", "y.txt")
    shutil.rmtree(top / "a")
    found = shared.manifest(job)
    assert found["entries"].keys() == {"y.txt"}
    assert found["directories"] == {}


def test_each_hard_link_is_an_entry_and_its_bytes_count_once(shared: Mounted, job: str) -> None:
    top = shared.path / job
    top.mkdir()
    (top / "temp_a.wav").write_bytes(bytes(100))
    os.link(top / "temp_a.wav", top / "x.txt")
    assert {name: one["type"] for name, one in shared.manifest(job)["entries"].items()} == {
        "temp_a.wav": "temp_audio", "x.txt": "other",
    }  # fmt: skip
    assert os.getxattr(top, "user.lffs.bytes") == b"100"
    assert os.getxattr(top, "user.lffs.files") == b"2"
    (top / "temp_a.wav").unlink()
    assert shared.states(job) == {"x.txt": "present"}


def test_a_removed_job_is_listed_as_removed_and_one_made_anew_is_another(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "x.txt")
    shared.set_status(job, "completed")
    shutil.rmtree(top)
    rows = {row["status"] for row in shared.admin.jobs(None, True) if row["id"] == job}
    assert rows == {"removed"}
    top.mkdir()
    assert shared.status(job) == "created"
    assert shared.states(job) == {}


# -- adoption --------------------------------------------------------------------------------------


def test_what_appears_beside_lffs_is_adopted_when_it_is_met(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "x.txt")
    write(shared.backing / job, "looked_up.txt", "listed/temp_a.wav")
    shared.reload()
    assert (top / "looked_up.txt").read_text() == "looked_up.txt"
    assert tree(top) == {"x.txt", "looked_up.txt", "listed", "listed/temp_a.wav"}
    origins = {name: one["origin"] for name, one in shared.manifest(job)["entries"].items()}
    assert origins == {"x.txt": "recorded", "looked_up.txt": "adopted", "listed/temp_a.wav": "adopted"}


def test_a_job_that_appears_beside_lffs_is_adopted_whole(shared: Mounted, job: str) -> None:
    write(shared.backing / job, "temp_a.wav", "ko/x.txt")
    shared.reload()
    assert (shared.path / job).is_dir()
    assert shared.status(job) == "created"
    assert shared.states(job) == {"temp_a.wav": "present", "ko/x.txt": "present"}
    assert shared.manifest(job)["adopted"]


def test_what_vanished_beside_lffs_is_missing_and_never_another_file(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount(verify=False)
    write(mounted.path / "job", "x.txt", "y.txt")
    (mounted.backing / "job" / "x.txt").unlink()
    write(mounted.backing / "job", "new.txt")  # perhaps with the inode number that is free now
    mounted.reload()
    with pytest.raises(OSError):
        (mounted.path / "job" / "x.txt").read_text()
    assert (mounted.path / "job" / "new.txt").read_text() == "new.txt"
    assert mounted.admin.verify()["phantom"] == ["job/x.txt"]


# -- exports ---------------------------------------------------------------------------------------


def test_every_status_change_writes_the_export(shared: Mounted, job: str) -> None:
    export = shared.backing / ".lffs" / "manifests" / f"{job}.json"
    (shared.path / job).mkdir()
    write(shared.path / job, "x.txt")
    eventually(lambda: export.exists() and json.loads(export.read_text())["status"] == "running", "running")
    for status in ("completed", "running", "failed", "completed"):
        shared.set_status(job, status)
        assert json.loads(export.read_text())["status"] == status


def test_a_reader_of_the_export_never_sees_half_of_it(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, *(f"f{number}" for number in range(150)))
    export = shared.backing / ".lffs" / "manifests" / f"{job}.json"
    shared.set_status(job, "failed")
    done = threading.Event()
    broken: list[str] = []

    def read() -> None:
        while not done.is_set():
            try:
                if len(json.loads(export.read_text())["entries"]) != 150:
                    broken.append("entries are missing")
            except (OSError, ValueError) as exc:
                broken.append(str(exc))

    reader = threading.Thread(target=read)
    reader.start()
    for status in ("running", "failed") * 8:
        shared.set_status(job, status)
    done.set()
    reader.join()
    assert broken == []


def test_names_that_are_no_utf8_have_surrogate_escapes(shared: Mounted, job: str) -> None:
    top = os.fsencode(shared.path / job)
    os.mkdir(top)
    os.mkdir(top + b"/\xff\xfe")
    with open(top + b"/\xff\xfe/temp_\x80.wav", "wb"):
        pass
    name = "\udcff\udcfe/temp_\udc80.wav"
    assert shared.manifest(job)["files"] == {"temp_audio": [name]}
    shared.set_status(job, "completed")
    export = (shared.backing / ".lffs" / "manifests" / f"{job}.json").read_bytes()
    assert export.isascii()
    assert json.loads(export)["entries"][name]["state"] == "hidden"


# -- two at once -----------------------------------------------------------------------------------


def test_two_processes_writing_at_once_are_both_recorded(shared: Mounted, job: str) -> None:
    top = shared.path / job
    program = (
        "import os, sys\n"
        "top, me = sys.argv[1:]\n"
        "for number in range(60):\n"
        "    directory = os.path.join(top, 'ko', f'd{number % 7}')\n"
        "    os.makedirs(directory, exist_ok=True)\n"
        "    temporary = os.path.join(directory, f'temp_{me}_{number}')\n"
        "    with open(temporary, 'w') as file:\n"
        "        file.write(me)\n"
        "    if number % 3 == 0:\n"
        "        os.rename(temporary, os.path.join(directory, f'{me}_{number}'))\n"
        "    elif number % 3 == 1:\n"
        "        os.unlink(temporary)\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, top, me]) for me in ("one", "two")]
    assert [writer.wait() for writer in writers] == [0, 0]
    expected = {
        f"ko/d{number % 7}/{'' if number % 3 == 0 else 'temp_'}{me}_{number}"
        for number in range(60)
        if number % 3 != 1
        for me in ("one", "two")
    }
    assert tree(top, directories=False) == expected
    assert shared.states(job) == dict.fromkeys(expected, "present")
    pids = {one["created_by"]["pid"] for one in shared.manifest(job)["entries"].values()}
    assert pids == {writer.pid for writer in writers}
