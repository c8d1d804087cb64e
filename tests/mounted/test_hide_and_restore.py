"""Completed hides, failed keeps, running brings back: seen by whoever uses the mount."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Mounted, eventually, tree

pytestmark = pytest.mark.mounted

TEMPORARY = {
    "temp_a.wav": "temp_audio",
    "temp_b.srt": "temp_subtitle",
    "temp_c.mkv": "temp_video",
    "temp_slide_d.png": "temp_slide",
    "temp_expr_e.mkv": "temp_expression",
    "ko/slides/f.png": "temp_slide",
    "ko/expressions/g.mkv": "temp_expression",
    "ko/subtitles/h.srt": "temp_subtitle",
}
FINAL = {
    "ko/shorts/x.mkv": "final_video",
    "ko/long_form/x.mp4": "final_video",
    "ko/shorts/x.meta.json": "metadata",
    "run.log": "log",
    "notes.txt": "other",
    "source.mkv": "other",
}
KEEPING = "cleanup: {keep_unlinked: [temp_audio, temp_video]}\n"


@pytest.fixture(scope="module")
def shared(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    return make_shared_mount()


@pytest.fixture(scope="module")
def keeping(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    return make_shared_mount(KEEPING)


@pytest.fixture
def job(request: pytest.FixtureRequest) -> str:
    """A job's name that no other test has."""
    name: str = request.node.name
    return name.removeprefix("test_").replace("[", ".").replace("]", "")[:100]


def write(top: Path, *names: str) -> dict[str, bytes]:
    """Write a file of telling bytes at each name, making directories as a pipeline does."""
    written = {}
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        written[name] = f"{top.name}/{name}\n".encode() * 100
        path.write_bytes(written[name])
    return written


def contents(top: Path) -> dict[str, bytes]:
    return {name: (top / name).read_bytes() for name in tree(top, directories=False)}


def owners_and_modes(top: Path) -> dict[str, tuple[int, int, int]]:
    found = {name: (top / name).lstat() for name in tree(top)}
    return {name: (one.st_uid, one.st_gid, one.st_mode) for name, one in found.items()}


def in_trash_of(mounted: Mounted, job: str) -> set[str]:
    trash = mounted.path / ".lffs" / "trash" / job
    return tree(trash, directories=False) if trash.exists() else set()


# -- completed -------------------------------------------------------------------------------------


def test_completed_hides_what_is_temporary_and_nothing_else(shared: Mounted, job: str) -> None:
    finals = write(shared.path / job, *FINAL)
    temporaries = write(shared.path / job, *TEMPORARY)
    shared.set_status(job, "completed")
    assert contents(shared.path / job) == finals
    assert contents(shared.backing / job) == finals
    assert contents(shared.path / ".lffs" / "trash" / job) == temporaries
    assert shared.states(job) == dict.fromkeys(finals, "present") | dict.fromkeys(temporaries, "hidden")


def test_every_file_has_the_type_that_its_name_says(shared: Mounted, job: str) -> None:
    write(shared.path / job, *FINAL, *TEMPORARY)
    types = {
        name: os.getxattr(shared.path / job / name, "user.lffs.file_type").decode()
        for name in FINAL | TEMPORARY
    }
    assert types == FINAL | TEMPORARY


def test_directories_left_empty_vanish_from_view_and_backing(shared: Mounted, job: str) -> None:
    write(
        shared.path / job,
        "ko/slides/f.png",
        "ko/slides/deep/er/temp_a.wav",
        "ko/shorts/x.mkv",
        "de/temp_z.srt",
    )
    (shared.path / job / "never" / "filled").mkdir(parents=True)
    (shared.path / job / "ko" / "pinned").mkdir()
    os.setxattr(shared.path / job / "ko" / "pinned", "user.lffs.keep", b"1")
    shared.set_status(job, "completed")
    assert tree(shared.path / job) == {"ko", "ko/shorts", "ko/shorts/x.mkv", "ko/pinned"}
    assert tree(shared.backing / job) <= {"ko", "ko/shorts", "ko/shorts/x.mkv", "ko/pinned"}


def test_the_jobs_own_directory_stays_when_all_in_it_was_temporary(shared: Mounted, job: str) -> None:
    write(shared.path / job, "temp_a.wav", "slides/b.png")
    shared.set_status(job, "completed")
    assert os.listdir(shared.path / job) == []
    assert (shared.backing / job).is_dir()


def test_files_pinned_themselves_or_by_a_directory_above_stay(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_pinned.wav", "temp_free.wav", "keep/deep/temp_a.wav", "keep/temp_b.mkv", "ko/temp_c.mkv")
    os.setxattr(top / "temp_pinned.wav", "user.lffs.keep", b"1")
    os.setxattr(top / "keep", "user.lffs.keep", b"1")
    shared.set_status(job, "completed")
    assert tree(top, directories=False) == {"temp_pinned.wav", "keep/deep/temp_a.wav", "keep/temp_b.mkv"}
    os.setxattr(top / "keep", "user.lffs.keep", b"0")
    shared.set_status(job, "completed")
    assert tree(top, directories=False) == {"temp_pinned.wav"}


def test_a_pinned_job_keeps_everything(shared: Mounted, job: str) -> None:
    written = write(shared.path / job, "temp_a.wav", "slides/b.png")
    os.setxattr(shared.path / job, "user.lffs.keep", b"1")
    shared.set_status(job, "completed")
    assert contents(shared.path / job) == written


def test_a_type_set_by_xattr_wins_over_the_name(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_precious.mkv", "shorts/draft.mkv")
    os.setxattr(top / "temp_precious.mkv", "user.lffs.file_type", b"final_video")
    os.setxattr(top / "shorts/draft.mkv", "user.lffs.file_type", b"temp_video")
    shared.set_status(job, "completed")
    assert tree(top, directories=False) == {"temp_precious.mkv"}


def test_only_the_types_that_the_policy_names_are_hidden(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("cleanup: {file_types_to_clean: [temp_slide]}\n")
    write(mounted.path / "job", *FINAL, *TEMPORARY)
    mounted.set_status("job", "completed")
    expected = {name for name, kind in (FINAL | TEMPORARY).items() if kind != "temp_slide"}
    assert tree(mounted.path / "job", directories=False) == expected


@pytest.mark.parametrize(
    "config", ["debug: true\n", "cleanup: {enabled: false}\n"], ids=["debug", "not enabled"]
)
def test_nothing_is_hidden_where_cleanup_is_off(config: str, make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount(config)
    written = write(mounted.path / "job", *FINAL, *TEMPORARY)
    (mounted.path / "job" / "empty").mkdir()
    mounted.set_status("job", "completed")
    mounted.advance(1000)
    assert contents(mounted.path / "job") == written
    assert (mounted.path / "job" / "empty").is_dir()
    assert mounted.status("job") == "completed"


def test_debug_set_on_a_job_keeps_its_temporaries_until_it_is_off(shared: Mounted, job: str) -> None:
    written = write(shared.path / job, "temp_a.wav", "b.txt")
    os.setxattr(shared.path / job, "user.lffs.debug", b"1")
    shared.set_status(job, "completed")
    assert contents(shared.path / job) == written
    os.setxattr(shared.path / job, "user.lffs.debug", b"0")
    shared.set_status(job, "completed")
    assert tree(shared.path / job) == {"b.txt"}


def test_debug_that_disables_nothing_hides(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("debug: true\ncleanup: {debug_mode_disables: false}\n")
    write(mounted.path / "job", "temp_a.wav")
    mounted.set_status("job", "completed")
    assert tree(mounted.path / "job") == set()


def test_what_is_not_completed_keeps_everything(shared: Mounted, job: str) -> None:
    written = write(shared.path / job, *FINAL, *TEMPORARY)
    for status in ("running", "processing", "failed"):
        shared.set_status(job, status)
        assert contents(shared.path / job) == written
        assert in_trash_of(shared, job) == set()


def test_completed_again_hides_what_came_since(shared: Mounted, job: str) -> None:
    write(shared.path / job, "temp_a.wav", "x.txt")
    shared.set_status(job, "completed")
    write(shared.path / job, "temp_b.wav")
    assert shared.status(job) == "completed"
    assert tree(shared.path / job) == {"x.txt", "temp_b.wav"}
    shared.set_status(job, "completed")
    assert tree(shared.path / job) == {"x.txt"}
    assert in_trash_of(shared, job) == {"temp_a.wav", "temp_b.wav"}


def test_a_file_renamed_from_temporary_to_final_stays_and_the_reverse_goes(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_clip.mkv", "shorts/y.mkv")
    (top / "temp_clip.mkv").rename(top / "shorts" / "x.mkv")
    (top / "shorts" / "y.mkv").rename(top / "temp_y.mkv")
    shared.set_status(job, "completed")
    assert tree(top, directories=False) == {"shorts/x.mkv"}


def test_temporaries_that_are_no_files_are_hidden_too(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "final.txt")
    (top / "temp_link").symlink_to("final.txt")
    (top / "temp_dangling").symlink_to("nowhere")
    os.mkfifo(top / "temp_fifo")
    shared.set_status(job, "completed")
    assert tree(top) == {"final.txt"}
    shared.set_status(job, "running")
    assert os.readlink(top / "temp_dangling") == "nowhere"
    assert stat.S_ISFIFO((top / "temp_fifo").lstat().st_mode)


def test_what_a_temporary_link_leads_to_is_not_touched(shared: Mounted, job: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    written = write(outside, "temp_a.wav")
    top = shared.path / job
    write(top, "x.txt")
    (top / "temp_directory").symlink_to(outside)
    os.setxattr(top, "user.lffs.retention_hours", b"0")
    shared.set_status(job, "completed")
    eventually(lambda: shared.status(job) == "cleaned", "cleaned")
    assert contents(outside) == written


def test_adopted_files_are_never_hidden(tmp_path: Path) -> None:
    backing = tmp_path / "backing"
    old = write(backing / "old", "temp_a.wav", "slides/b.png")
    mounted = Mounted(tmp_path, backing=backing).start()
    try:
        new = write(mounted.path / "old", "temp_new.wav")
        write(mounted.path / "job", "x.txt")
        beside = write(backing / "job", "temp_beside.wav")
        assert os.listdir(mounted.path / "job")  # met
        mounted.set_status("old", "completed")
        mounted.set_status("job", "completed")
        assert contents(mounted.path / "old") == old
        assert in_trash_of(mounted, "old") == set(new)
        assert beside.items() <= contents(mounted.path / "job").items()
        mounted.verify()
    finally:
        mounted.close()


def test_what_lies_on_another_filesystem_is_shown_and_never_hidden(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount(KEEPING)
    top = mounted.path / "job"
    write(top, "other/temp_under.srt", "temp_a.wav")
    (top / "other" / "temp_under.srt").unlink()
    place = mounted.backing / "job" / "other"
    subprocess.run(["mount", "-t", "tmpfs", "lffs-test", place], check=True)
    try:
        mounted.reload()
        written = write(top, "other/temp_b.wav", "other/deep/temp_c.srt", "other/temp_d.wav")
        (top / "other" / "temp_d.wav").unlink()
        del written["other/temp_d.wav"]
        os.setxattr(top, "user.lffs.retention_hours", b"0")
        mounted.set_status("job", "completed")
        assert contents(top) == written
        assert contents(place).keys() == {"temp_b.wav", "deep/temp_c.srt"}
        mounted.set_status("job", "failed")
        assert "temp_d.wav" not in os.listdir(top / "other")
        mounted.verify()
    finally:
        mounted.stop()
        subprocess.run(["umount", place], check=True)


def test_names_that_are_no_utf8_are_hidden_and_come_back(shared: Mounted, job: str) -> None:
    top = os.fsencode(shared.path / job)
    os.mkdir(top)
    name = b"temp_\xff\xfe.wav"
    with open(os.path.join(top, name), "wb") as file:
        file.write(b"bytes")
    shared.set_status(job, "completed")
    assert os.listdir(top) == []
    shared.set_status(job, "running")
    assert os.listdir(top) == [name]


# -- who held, cached or stood in what is hidden ---------------------------------------------------


def refused_everywhere(path: Path) -> None:
    """Fail unless no call that takes a path reaches it."""
    for call in (
        path.stat,
        path.lstat,
        lambda: os.close(os.open(path, os.O_RDONLY)),
        lambda: os.close(os.open(path, os.O_WRONLY)),
        lambda: os.truncate(path, 0),
        lambda: os.listxattr(path),
        path.unlink,
        lambda: path.chmod(0o600),
        lambda: os.link(path, path.with_name("again")),
    ):
        with pytest.raises(FileNotFoundError):
            call()
    assert not os.access(path, os.F_OK)
    assert path.name not in os.listdir(path.parent)


@pytest.mark.parametrize("old_kernel", [False, True], ids=["epoch", "old kernel"])
def test_no_path_leads_to_a_hidden_file_whoever_had_it_cached(
    old_kernel: bool, make_mount: Callable[..., Mounted]
) -> None:
    mounted = make_mount(old_kernel=old_kernel)
    top = mounted.path / "job"
    write(top, "temp_stat.wav", "temp_read.wav", "ko/temp_walked.wav", "final.txt")
    (top / "temp_stat.wav").stat()
    (top / "temp_read.wav").read_bytes()
    tree(top)
    mounted.set_status("job", "completed")
    for name in ("temp_stat.wav", "temp_read.wav"):
        refused_everywhere(top / name)
    with pytest.raises(FileNotFoundError):
        (top / "ko/temp_walked.wav").read_bytes()
    assert tree(top) == {"final.txt"}
    mounted.set_status("job", "running")
    assert tree(top) == {"final.txt", "temp_stat.wav", "temp_read.wav", "ko", "ko/temp_walked.wav"}
    assert (top / "temp_read.wav").read_bytes()
    assert (top / "ko/temp_walked.wav").read_bytes()


OTHER_PROCESS = """
import os, sys
held = os.open("temp_held.wav", os.O_RDWR)
os.stat("temp_seen.wav"); open("ko/temp_read.wav").read()
print("ready", flush=True)
sys.stdin.readline()
answers = []
for name in ("temp_held.wav", "temp_seen.wav", "ko/temp_read.wav"):
    for call in (os.stat, open):
        try:
            call(name)
            answers.append(name)
        except FileNotFoundError:
            pass
os.write(held, b"written after")
answers.append(os.fstat(held).st_size)
answers.append(os.pread(held, 100, 0).decode())
os.ftruncate(held, 7)
os.fsync(held)
answers.append(os.fstat(held).st_size)
import json
print(json.dumps(answers), flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("old_kernel", [False, True], ids=["epoch", "old kernel"])
def test_another_process_loses_the_paths_and_keeps_its_handle(
    old_kernel: bool, make_mount: Callable[..., Mounted]
) -> None:
    mounted = make_mount(old_kernel=old_kernel)
    top = mounted.path / "job"
    write(top, "temp_seen.wav", "ko/temp_read.wav", "final.txt")
    (top / "temp_held.wav").write_bytes(b"")
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS], cwd=top, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        mounted.set_status("job", "completed")
        other.stdin.write(b"go\n")
        other.stdin.flush()
        answers = json.loads(other.stdout.readline())
        if old_kernel:
            # stat(2) by a cached name and fstat(2) are one request there; what counts is that open fails.
            answers = [answer for answer in answers if answer != "temp_held.wav"]
        assert answers == [13, "written after", 7]
        other.stdin.write(b"end\n")
        other.stdin.flush()
    assert (mounted.path / ".lffs/trash/job/temp_held.wav").read_bytes() == b"written"


def test_a_process_standing_in_a_directory_that_vanishes_lives_on(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "ko/slides/temp_a.png", "x.txt")
    (top / "lazy").mkdir()
    real, lazy = os.open(top / "ko/slides", os.O_RDONLY), os.open(top / "lazy", os.O_RDONLY)
    try:
        shared.set_status(job, "completed")
        for directory in (real, lazy):
            assert os.listdir(directory) == []
            with pytest.raises(FileNotFoundError):
                os.stat("temp_a.png", dir_fd=directory)
            with pytest.raises(FileNotFoundError):
                os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=directory)
            with pytest.raises(FileNotFoundError):
                os.mkdir("new", dir_fd=directory)
        shared.set_status(job, "running")
        assert (top / "ko/slides/temp_a.png").exists()
        write(top, "ko/slides/new.png", "lazy/new")
        assert tree(top, directories=False) == {
            "ko/slides/temp_a.png",
            "ko/slides/new.png",
            "lazy/new",
            "x.txt",
        }
    finally:
        os.close(real)
        os.close(lazy)


def test_a_file_open_for_writing_is_hidden_with_what_its_writer_still_writes(
    shared: Mounted, job: str
) -> None:
    top = shared.path / job
    top.mkdir()
    with open(top / "temp_a.wav", "wb") as writer:
        writer.write(b"before ")
        writer.flush()
        shared.set_status(job, "completed")
        refused_everywhere(top / "temp_a.wav")
        writer.write(b"after")
    assert (shared.path / ".lffs/trash" / job / "temp_a.wav").read_bytes() == b"before after"
    shared.set_status(job, "running")
    assert (top / "temp_a.wav").read_bytes() == b"before after"


def test_a_walk_during_a_mass_hide_sees_each_final_once(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    top = mounted.path / "job"
    top.mkdir()
    for number in range(400):
        (top / f"final_{number:03}.txt").write_bytes(b"")
        (top / f"temp_{number:03}.wav").write_bytes(b"")
    finals = sorted(name for name in os.listdir(top) if name.startswith("final"))
    begun, walks = threading.Event(), []

    def walk() -> None:
        for _ in range(12):
            with os.scandir(top) as entries:
                names = []
                for entry in entries:
                    names.append(entry.name)
                    begun.set()
            walks.append(names)

    walker = threading.Thread(target=walk)
    walker.start()
    assert begun.wait(30)
    mounted.set_status("job", "completed")
    walker.join()
    for names in walks:
        assert sorted(name for name in names if name.startswith("final")) == finals
        assert len(set(names)) == len(names)
    assert sorted(os.listdir(top)) == finals


# -- running brings back ---------------------------------------------------------------------------


def test_running_brings_files_and_directories_back_as_they_were(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "ko/slides/a.png", "ko/expressions/b.mkv", "x.txt")
    (top / "empty").mkdir()
    directory, file = top / "ko" / "slides", top / "ko" / "slides" / "a.png"
    os.chown(directory, 1234, 2345)
    directory.chmod(0o2751)
    os.setxattr(directory, "user.color", b"blue")
    os.chown(file, 1234, 2345)
    file.chmod(0o640)
    os.setxattr(file, "user.note", b"kept")
    os.utime(file, ns=(1_000_000_000, 2_000_000_001))
    (top / "empty").chmod(0o700)
    before = owners_and_modes(top)
    bytes_before, mtime = contents(top), directory.stat().st_mtime_ns
    shared.set_status(job, "completed")
    assert tree(top) == {"x.txt"}
    shared.set_status(job, "running")
    assert owners_and_modes(top) == before
    assert contents(top) == bytes_before
    assert os.getxattr(directory, "user.color") == b"blue"
    assert os.getxattr(file, "user.note") == b"kept"
    assert file.stat().st_mtime_ns == 2_000_000_001
    assert directory.stat().st_mtime_ns >= mtime
    assert in_trash_of(shared, job) == set()
    assert set(shared.states(job).values()) == {"present"}


def test_a_lazy_directory_that_vanished_works_again_afterwards(shared: Mounted, job: str) -> None:
    """The kernel still knows its inode; it must not stay the removed one."""
    top = shared.path / job
    write(top, "x.txt")
    (top / "lazy" / "deeper").mkdir(parents=True)
    os.stat(top / "lazy" / "deeper")
    shared.set_status(job, "completed")
    assert tree(top) == {"x.txt"}
    shared.set_status(job, "running")
    assert tree(top) == {"x.txt", "lazy", "lazy/deeper"}
    assert (top / "lazy").stat().st_nlink > 0
    write(top, "lazy/deeper/y.txt")
    assert (shared.backing / job / "lazy/deeper/y.txt").exists()


def test_failed_brings_back_too(shared: Mounted, job: str) -> None:
    written = write(shared.path / job, *FINAL, *TEMPORARY)
    shared.set_status(job, "completed")
    shared.set_status(job, "failed")
    assert contents(shared.path / job) == written


def test_a_name_made_anew_stands_and_the_old_file_stays_in_the_trash(shared: Mounted, job: str) -> None:
    top = shared.path / job
    top.mkdir()
    (top / "temp_a.wav").write_text("old")
    shared.set_status(job, "completed")
    (top / "temp_a.wav").write_text("new")
    shared.set_status(job, "running")
    assert (top / "temp_a.wav").read_text() == "new"
    assert in_trash_of(shared, job) == {"temp_a.wav.~1~"}
    assert (shared.path / ".lffs/trash" / job / "temp_a.wav.~1~").read_text() == "old"
    assert shared.states(job) == {"temp_a.wav": "present", "temp_a.wav.~1~": "hidden"}


@pytest.mark.parametrize("kind", ["directory", "lazy directory", "link"])
def test_nothing_replaces_what_has_the_name_now(kind: str, shared: Mounted, job: str) -> None:
    job = job.replace(" ", "_")
    top = shared.path / job
    top.mkdir()
    (top / "temp_a.wav").write_text("old")
    shared.set_status(job, "completed")
    if kind == "link":
        (top / "temp_a.wav").symlink_to("nowhere")
    else:
        (top / "temp_a.wav").mkdir()
        if kind == "directory":
            (top / "temp_a.wav" / "in it").write_text("in it")
    shared.set_status(job, "running")
    assert not (top / "temp_a.wav").is_file()
    assert in_trash_of(shared, job) == {"temp_a.wav.~1~"}


def test_of_several_hidden_files_with_one_name_the_newest_comes_back(shared: Mounted, job: str) -> None:
    top = shared.path / job
    top.mkdir()
    for generation in ("first", "second", "third"):
        (top / "temp_a.wav").write_text(generation)
        shared.set_status(job, "completed")
    assert in_trash_of(shared, job) == {"temp_a.wav", "temp_a.wav.~1~", "temp_a.wav.~2~"}
    shared.set_status(job, "running")
    assert (top / "temp_a.wav").read_text() == "third"
    trash = shared.path / ".lffs/trash" / job
    assert contents(trash) == {"temp_a.wav.~1~": b"first", "temp_a.wav.~2~": b"second"}
    (top / "temp_a.wav").unlink()
    shared.set_status(job, "running")
    assert (top / "temp_a.wav").read_text() == "second"


def test_a_name_like_an_old_files_in_the_trash_is_hidden_too(shared: Mounted, job: str) -> None:
    top = shared.path / job
    top.mkdir()
    for generation in ("first", "second"):
        (top / "temp_a.wav").write_text(generation)
        shared.set_status(job, "completed")
    (top / "temp_a.wav.~1~").write_text("a pipeline's own")
    shared.set_status(job, "completed")
    assert os.listdir(top) == []
    shared.set_status(job, "running")
    assert contents(top) == {"temp_a.wav": b"second", "temp_a.wav.~1~": b"a pipeline's own"}


def test_a_file_where_a_directory_was_is_hidden_and_the_reverse(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "x.txt", "temp_a")
    shared.set_status(job, "completed")
    write(top, "temp_a/temp_b.wav")
    shared.set_status(job, "completed")
    assert tree(top) == {"x.txt"}
    write(top, "temp_a")
    shared.set_status(job, "completed")
    assert tree(top) == {"x.txt"}
    shared.set_status(job, "running")
    assert (top / "temp_a").is_file()


def test_what_comes_back_makes_again_the_parents_that_were_removed_since(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "ko/deep/temp_a.wav", "ko/deep/x.txt", "y.txt")
    (top / "ko").chmod(0o750)
    (top / "ko" / "deep").chmod(0o700)
    os.setxattr(top / "ko" / "deep", "user.color", b"blue")
    shared.set_status(job, "completed")
    shutil.rmtree(top / "ko")
    assert tree(top) == {"y.txt"}
    shared.set_status(job, "running")
    assert tree(top) == {"y.txt", "ko", "ko/deep", "ko/deep/temp_a.wav"}
    assert stat.S_IMODE((top / "ko").stat().st_mode) == 0o750
    assert stat.S_IMODE((top / "ko" / "deep").stat().st_mode) == 0o700
    assert os.getxattr(top / "ko" / "deep", "user.color") == b"blue"


def test_an_empty_directory_does_not_come_back_where_its_parent_was_removed(
    shared: Mounted, job: str
) -> None:
    top = shared.path / job
    write(top, "ko/x.txt", "y.txt")
    (top / "ko" / "empty").mkdir()
    shared.set_status(job, "completed")
    shutil.rmtree(top / "ko")
    shared.set_status(job, "running")
    assert tree(top) == {"y.txt"}
    (top / "ko").mkdir()
    assert tree(top) == {"y.txt", "ko"}
    (top / "ko").rmdir()


def test_a_link_put_where_a_parent_was_is_not_followed(shared: Mounted, job: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    top = shared.path / job
    write(top, "ko/temp_a.wav", "y.txt")
    shared.set_status(job, "completed")
    (top / "ko").symlink_to(outside)
    shared.set_status(job, "running")
    assert os.listdir(outside) == []
    assert in_trash_of(shared, job) == {"ko/temp_a.wav"}
    (top / "ko").unlink()
    shared.set_status(job, "running")
    assert (top / "ko" / "temp_a.wav").exists()


# -- hard links ------------------------------------------------------------------------------------


def test_hiding_takes_one_name_of_a_file_and_leaves_the_other(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.mkv")
    (top / "shorts").mkdir()
    os.link(top / "temp_a.mkv", top / "shorts" / "x.mkv")
    shared.set_status(job, "completed")
    assert tree(top, directories=False) == {"shorts/x.mkv"}
    assert (top / "shorts" / "x.mkv").read_bytes()
    os.link(top / "shorts" / "x.mkv", top / "shorts" / "y.mkv")
    (top / "shorts" / "x.mkv").write_bytes(b"changed")
    shared.set_status(job, "running")
    assert (top / "temp_a.mkv").read_bytes() == b"changed"
    assert (top / "temp_a.mkv").stat().st_ino == (top / "shorts" / "x.mkv").stat().st_ino


def test_two_temporary_names_of_one_file_both_go_and_come_back(shared: Mounted, job: str) -> None:
    top = shared.path / job
    write(top, "temp_a.mkv")
    os.link(top / "temp_a.mkv", top / "temp_b.mkv")
    shared.set_status(job, "completed")
    assert os.listdir(top) == []
    shared.set_status(job, "running")
    assert sorted(os.listdir(top)) == ["temp_a.mkv", "temp_b.mkv"]
    assert (top / "temp_a.mkv").stat().st_nlink == 2


# -- two at once, and busy -------------------------------------------------------------------------


def test_two_setters_at_once_leave_one_whole_result(shared: Mounted, job: str) -> None:
    top = shared.path / job
    finals = write(top, *(f"f{number}.txt" for number in range(20)))
    temporaries = write(top, *(f"temp_{number}.wav" for number in range(60)))
    command = [
        sys.executable,
        "-c",
        "import os, sys; os.setxattr(sys.argv[1], 'user.lffs.status', sys.argv[2].encode())",
    ]
    for _ in range(3):
        setters = [subprocess.Popen([*command, top, status]) for status in ("completed", "running")]
        assert [setter.wait() for setter in setters] == [0, 0]
        left = contents(top)
        assert left == (finals if shared.status(job) == "completed" else finals | temporaries)


def test_during_cleaning_up_another_status_is_busy(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("cleanup: {retention_hours: 0}\n")
    top = mounted.path / "job"
    top.mkdir()
    for number in range(400):
        (top / f"temp_{number:03}.wav").write_bytes(b"x")
    setter = threading.Thread(target=mounted.set_status, args=("job", "completed"))
    setter.start()
    refused = set()
    while setter.is_alive():
        try:
            if mounted.status("job") == "cleaning_up":
                mounted.set_status("job", "running")
        except OSError as exc:
            refused.add(exc.errno)
    setter.join()
    assert refused <= {errno.EBUSY}
    assert os.listdir(top) == []


# -- xattrs of a policy ----------------------------------------------------------------------------


def test_retention_set_on_a_job_shows_in_its_manifest(shared: Mounted, job: str) -> None:
    write(shared.path / job, "x.txt")
    os.setxattr(shared.path / job, "user.lffs.retention_hours", b"1.5")
    assert os.getxattr(shared.path / job, "user.lffs.retention_hours") == b"1.5"
    assert shared.manifest(job)["cleanup_policy"]["retention_hours"] == 1.5
    os.removexattr(shared.path / job, "user.lffs.retention_hours")
    assert os.getxattr(shared.path / job, "user.lffs.retention_hours") == b"24"


# -- preserve_on_failure ---------------------------------------------------------------------------


def test_preserve_on_failure_false_hides_as_completed_does(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("cleanup: {preserve_on_failure: false}\n")
    finals = write(mounted.path / "job", *FINAL)
    write(mounted.path / "job", *TEMPORARY)
    mounted.set_status("job", "failed")
    assert mounted.status("job") == "failed"
    assert contents(mounted.path / "job") == finals
    assert in_trash_of(mounted, "job") == set(TEMPORARY)
    mounted.advance(25)
    eventually(lambda: in_trash_of(mounted, "job") == set(), "reaped")
    assert mounted.status("job") == "failed"


# -- keep_unlinked ---------------------------------------------------------------------------------


def test_what_a_running_job_unlinks_is_kept_and_comes_back_on_failed(keeping: Mounted, job: str) -> None:
    top = keeping.path / job
    written = write(top, "temp_a.wav", "ko/temp_b.mkv", "temp_c.srt", "x.txt")
    for name in written:
        (top / name).unlink()
        assert not (top / name).exists()
    assert in_trash_of(keeping, job) == {"temp_a.wav", "ko/temp_b.mkv"}
    keeping.set_status(job, "running")
    assert tree(top, directories=False) == set()
    keeping.set_status(job, "failed")
    assert contents(top) == {name: written[name] for name in ("temp_a.wav", "ko/temp_b.mkv")}


def test_whole_directories_that_were_removed_come_back_as_they_were(keeping: Mounted, job: str) -> None:
    top = keeping.path / job
    written = write(top, "ko/slides/temp_a.mkv", "ko/slides/deep/temp_b.wav", "x.txt")
    (top / "ko").chmod(0o751)
    (top / "ko/slides").chmod(0o2770)
    (top / "ko/slides/deep").chmod(0o700)
    os.chown(top / "ko/slides/deep", 1234, 2345)
    os.setxattr(top / "ko/slides", "user.color", b"blue")
    shutil.rmtree(top / "ko")
    assert tree(top) == {"x.txt"}
    keeping.set_status(job, "failed")
    assert contents(top) == written
    found = {name: (top / name).stat() for name in ("ko", "ko/slides", "ko/slides/deep")}
    assert [stat.S_IMODE(one.st_mode) for one in found.values()] == [0o751, 0o2770, 0o700]
    assert (found["ko/slides/deep"].st_uid, found["ko/slides/deep"].st_gid) == (1234, 2345)
    assert os.getxattr(top / "ko/slides", "user.color") == b"blue"


def test_overwriting_keeps_nothing(keeping: Mounted, job: str) -> None:
    top = keeping.path / job
    write(top, "temp_a.wav", "temp_b.wav", "new")
    (top / "new").rename(top / "temp_a.wav")
    with open(top / "temp_b.wav", "wb"):
        pass
    assert in_trash_of(keeping, job) == set()


def test_the_same_name_unlinked_often_is_kept_each_time(keeping: Mounted, job: str) -> None:
    top = keeping.path / job
    top.mkdir()
    for generation in range(4):
        (top / "temp_a.wav").write_text(str(generation))
        (top / "temp_a.wav").unlink()
    keeping.set_status(job, "failed")
    assert contents(top) == {"temp_a.wav": b"3"}
    trash = keeping.path / ".lffs/trash" / job
    assert set(contents(trash).values()) == {b"0", b"1", b"2"}


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_outside_a_running_job_unlink_deletes(status: str, keeping: Mounted, job: str) -> None:
    top = keeping.path / job
    write(top, "temp_a.wav", "x.txt")
    os.setxattr(top, "user.lffs.debug", b"1")
    keeping.set_status(job, status)
    (top / "temp_a.wav").unlink()
    keeping.set_status(job, "failed")
    assert tree(top) == {"x.txt"}
    assert keeping.states(job) == {"x.txt": "present"}


def test_an_unlinked_file_that_is_open_lives_on_and_comes_back(keeping: Mounted, job: str) -> None:
    top = keeping.path / job
    top.mkdir()
    with open(top / "temp_a.wav", "w+b") as held:
        held.write(b"one")
        held.flush()
        (top / "temp_a.wav").unlink()
        assert os.fstat(held.fileno()).st_nlink == 0
        held.write(b" two")
        held.flush()
        held.seek(0)
        assert held.read() == b"one two"
        keeping.set_status(job, "failed")
        assert os.fstat(held.fileno()).st_nlink == 1
        held.write(b" three")
    assert (top / "temp_a.wav").read_bytes() == b"one two three"


def test_one_of_two_names_unlinked_is_kept_and_the_other_works_on(keeping: Mounted, job: str) -> None:
    top = keeping.path / job
    write(top, "temp_a.mkv")
    (top / "shorts").mkdir()
    os.link(top / "temp_a.mkv", top / "shorts" / "x.mkv")
    (top / "temp_a.mkv").unlink()
    assert (top / "shorts" / "x.mkv").stat().st_nlink == 1
    (top / "shorts" / "x.mkv").write_bytes(b"final")
    os.link(top / "shorts" / "x.mkv", top / "shorts" / "y.mkv")
    keeping.set_status(job, "completed")
    assert tree(top, directories=False) == {"shorts/x.mkv", "shorts/y.mkv"}
    keeping.set_status(job, "failed")
    assert (top / "temp_a.mkv").read_bytes() == b"final"
    assert (top / "temp_a.mkv").stat().st_nlink == 3


def test_an_adopted_file_that_the_pipeline_unlinks_goes_with_its_job(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount(KEEPING)
    write(mounted.path / "job", "x.txt")
    write(mounted.backing / "job", "temp_a.wav")
    (mounted.path / "job" / "temp_a.wav").unlink()
    assert mounted.in_trash() == {"temp_a.wav"}
    mounted.set_status("job", "completed")
    mounted.advance(25)
    eventually(lambda: mounted.in_trash() == set(), "reaped")
