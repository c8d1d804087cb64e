"""The extended attributes user.lffs.*: how anyone tells lffs things, and asks."""

import errno
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lffs.model import FileType, JobType
from tests.harness import Mounted
from tests.mounted.callers import as_user, refusal

pytestmark = pytest.mark.mounted

ALICE, BOB = 4001, 4002
STAFF, MEDIA = 5001, 5002

JOB_SETTABLE = ("status", "job_type", "retention_hours", "debug")
JOB_READ_ONLY = ("job_id", "files", "bytes", "temp_files", "temp_bytes")

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def shared(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    return make_shared_mount()


@pytest.fixture
def job(shared: Mounted) -> Path:
    """A running job that this test has for itself: a temporary, a final, something else."""
    top = shared.path / f"job{next(_numbers)}"
    (top / "shorts").mkdir(parents=True)
    (top / "temp_a.wav").write_text("temporary")
    (top / "shorts" / "final.mkv").write_text("final")
    (top / "notes.txt").write_text("notes")
    return top


def get(path: Path, name: str) -> str:
    return os.getxattr(path, f"user.lffs.{name}").decode()


def put(path: Path, name: str, value: str | bytes) -> None:
    os.setxattr(path, f"user.lffs.{name}", value.encode() if isinstance(value, str) else value)


def reset(path: Path, name: str) -> None:
    os.removexattr(path, f"user.lffs.{name}")


def by(
    user: int, directory: Path, *actions: Callable[[Path], object], groups: Sequence[int] = ()
) -> list[int]:
    """Return what another user's actions in *directory* are refused with."""

    def act(here: Path) -> list[int]:
        return [refusal(lambda: action(here)) for action in actions]  # noqa: B023

    return as_user(user, STAFF, act, directory, groups)


def own(*paths: Path) -> None:
    for path in paths:
        os.chown(path, ALICE, STAFF)


# -- job directories ----------------------------------------------------------------------------


def test_a_jobs_status_is_read_and_set(shared: Mounted, job: Path) -> None:
    assert get(job, "status") == "running"
    for value, status in (
        ("completed", "completed"),
        ("failed", "failed"),
        ("running", "running"),
        ("completed", "completed"),
        ("processing", "running"),
        ("failed", "failed"),
        ("failed", "failed"),
    ):
        put(job, "status", value)
        assert get(job, "status") == status


def test_setfattr_and_getfattr_work(job: Path) -> None:
    subprocess.run(["setfattr", "-n", "user.lffs.status", "-v", "completed", job], check=True)
    said = subprocess.run(
        ["getfattr", "--only-values", "-n", "user.lffs.status", job], check=True, capture_output=True
    )
    assert said.stdout == b"completed"
    dumped = subprocess.run(["getfattr", "-d", "-m", "-", job], check=True, capture_output=True)
    assert b"lffs." not in dumped.stdout
    subprocess.run(["setfattr", "-x", "user.lffs.status", job], check=True)
    assert get(job, "status") == "running"


@pytest.mark.parametrize(
    "value",
    ["created", "cleaning_up", "cleaned", "Running", "RUNNING", "run", "", " running", "completed,", "läuft",
     b"\xff\xfe", b"completed\n\n", b"completed\0\0", b"completed\n\0", b"comp\0leted", b"\n", b"x" * 60000],
)  # fmt: skip
def test_no_other_status_can_be_set(job: Path, value: str | bytes) -> None:
    assert refusal(lambda: put(job, "status", value)) == errno.EINVAL
    assert get(job, "status") == "running"


@pytest.mark.parametrize("ending", [b"\n", b"\0"])
def test_one_trailing_newline_or_nul_is_dropped(job: Path, ending: bytes) -> None:
    """From ``echo completed | setfattr``-like habits, and from C strings."""
    for path, name, value in (
        (job, "status", "failed"), (job, "job_type", "long_form"), (job, "retention_hours", "3"),
        (job, "debug", "1"), (job / "notes.txt", "file_type", "log"), (job / "notes.txt", "keep", "1"),
    ):  # fmt: skip
        put(path, name, value.encode() + ending)
        assert get(path, name) == value


def test_status_belongs_to_job_directories(shared: Mounted, job: Path) -> None:
    outside = shared.path / f".outside-{job.name}"
    outside.mkdir()
    for path in (job / "shorts", job / "notes.txt", outside, shared.path):
        for name in (*JOB_SETTABLE, *JOB_READ_ONLY):
            if path.is_file() and name == "job_id":
                continue
            assert refusal(lambda: get(path, name)) == errno.ENODATA  # noqa: B023
            assert refusal(lambda: put(path, name, "completed")) == errno.EINVAL  # noqa: B023
    assert get(job, "status") == "running"


def test_a_jobs_type_types_its_files(job: Path) -> None:
    (job / "expressions").mkdir()
    (job / "expressions" / "x.mkv").write_text("x")
    file = job / "expressions" / "x.mkv"
    assert (get(job, "job_type"), get(file, "file_type")) == ("short_form", "temp_expression")
    for value in JobType:
        put(job, "job_type", value)
        assert get(job, "job_type") == value
    put(job, "job_type", "expression_only")
    assert get(file, "file_type") == "final_video"
    for wrong in ("", "shortform", "SHORT_FORM", b"\xff"):
        assert refusal(lambda: put(job, "job_type", wrong)) == errno.EINVAL  # noqa: B023
    assert get(job, "job_type") == "expression_only"
    reset(job, "job_type")
    assert (get(job, "job_type"), get(file, "file_type")) == ("short_form", "temp_expression")


def test_retention_is_a_number_of_hours(job: Path) -> None:
    assert get(job, "retention_hours") == "24"
    for value in ("0", "1", "1.5", "0.25", "720", "1e3"):
        put(job, "retention_hours", value)
        assert float(get(job, "retention_hours")) == float(value)
    for wrong in ("-1", "-0.5", "nan", "inf", "", "1h", "x", "1,5", b"\xff", "٣", "1e300"):
        assert refusal(lambda: put(job, "retention_hours", wrong)) == errno.EINVAL  # noqa: B023
    assert float(get(job, "retention_hours")) == 1000
    reset(job, "retention_hours")
    assert get(job, "retention_hours") == "24"


def test_what_is_read_can_be_set(job: Path) -> None:
    """A script that saves a value and puts it back must not lose digits."""
    for value in ("123456.25", "0.0000001", "876600"):
        put(job, "retention_hours", value)
        assert float(get(job, "retention_hours")) == float(value)
        put(job, "retention_hours", get(job, "retention_hours"))
        assert float(get(job, "retention_hours")) == float(value)


def test_debug_keeps_everything_in_view(job: Path) -> None:
    assert get(job, "debug") == "0"
    put(job, "debug", "1")
    assert get(job, "debug") == "1"
    put(job, "status", "completed")
    assert (job / "temp_a.wav").exists()
    for wrong in ("2", "", "true", "yes", "01", b"\xff"):
        assert refusal(lambda: put(job, "debug", wrong)) == errno.EINVAL  # noqa: B023
    reset(job, "debug")
    assert get(job, "debug") == "0"
    put(job, "status", "completed")
    assert not (job / "temp_a.wav").exists()


def test_the_totals_are_what_is_there(job: Path) -> None:
    def totals() -> list[int]:
        return [int(get(job, name)) for name in ("files", "bytes", "temp_files", "temp_bytes")]

    assert totals() == [3, 19, 1, 9]
    (job / "temp_b.wav").write_bytes(bytes(1000))
    assert totals() == [4, 1019, 2, 1009]
    os.link(job / "temp_b.wav", job / "temp_c.wav")  # bytes count once an inode
    assert totals() == [5, 1019, 3, 1009]
    (job / "link").symlink_to("12345")
    assert totals() == [6, 1024, 3, 1009]
    (job / "notes.txt").unlink()
    assert totals() == [5, 1019, 3, 1009]
    (job / "temp_c.wav").unlink()
    put(job, "status", "completed")
    assert totals() == [2, 10, 0, 0]
    with (job / "shorts" / "final.mkv").open("a") as stream:
        stream.write(" more")
    assert totals() == [2, 15, 0, 0]


def test_the_job_id_is_the_path(shared: Mounted, job: Path) -> None:
    assert get(job, "job_id") == job.name
    odd = os.fsencode(shared.path) + b"/odd \xff\n"
    os.mkdir(odd)
    with open(odd + b"/x", "w"):
        pass
    assert os.getxattr(odd, "user.lffs.job_id") == b"odd \xff\n"
    assert os.getxattr(odd + b"/x", "user.lffs.job_id") == b"odd \xff\n"


@pytest.mark.parametrize("name", JOB_READ_ONLY)
def test_what_lffs_counts_nobody_sets(job: Path, name: str) -> None:
    before = get(job, name)
    own(job)
    assert refusal(lambda: put(job, name, "1")) == errno.EPERM
    assert refusal(lambda: reset(job, name)) == errno.EPERM
    assert by(ALICE, job.parent, lambda here: put(here / job.name, name, "1")) == [errno.EPERM]
    assert get(job, name) == before


def test_a_jobs_owner_and_root_set_its_attributes_and_nobody_else(job: Path) -> None:
    own(job)
    values = {"status": "failed", "job_type": "long_form", "retention_hours": "3", "debug": "1"}

    def setting(here: Path, name: str, value: str) -> None:
        put(here / job.name, name, value)

    for mode in (0o700, 0o777):
        job.chmod(mode)
        for name, value in values.items():
            before = get(job, name)
            refused = errno.EPERM if mode == 0o777 else errno.EACCES  # the kernel asks for w first
            assert by(
                BOB, job.parent,
                lambda here: setting(here, name, value),  # noqa: B023
                lambda here: reset(here / job.name, name),  # noqa: B023
            ) == [refused, refused]  # fmt: skip
            assert get(job, name) == before
            assert by(ALICE, job.parent, lambda here: setting(here, name, value)) == [0]  # noqa: B023
            assert get(job, name) == value
            reset(job, name)


def test_anyone_who_may_read_the_directory_reads_them(job: Path) -> None:
    own(job)

    def reading(here: Path) -> object:
        return [get(here / job.name, name) for name in (*JOB_SETTABLE, *JOB_READ_ONLY)]

    job.chmod(0o755)
    assert by(BOB, job.parent, reading) == [0]
    job.chmod(0o711)
    assert by(BOB, job.parent, reading) == [errno.EACCES]


def test_the_owner_of_a_job_releases_every_temporary_in_it(job: Path) -> None:
    """Also those that others made, in directories that are others'."""
    own(job)
    job.chmod(0o755)
    (job / "roots").mkdir(0o700)
    (job / "roots" / "temp_b.wav").write_text("x")
    (job / "roots" / "temp_b.wav").chmod(0o600)
    assert by(ALICE, job.parent, lambda here: put(here / job.name, "status", "completed")) == [0]
    assert not (job / "roots").exists()


# -- files --------------------------------------------------------------------------------------


def test_a_files_type_overrides_the_rules(shared: Mounted, job: Path) -> None:
    notes, temporary = job / "notes.txt", job / "temp_a.wav"
    assert (get(notes, "file_type"), get(temporary, "file_type")) == ("other", "temp_audio")
    for value in FileType:
        put(notes, "file_type", value)
        assert get(notes, "file_type") == value
    for wrong in ("", "temp", "TEMP_VIDEO", "temp_video ", b"\xff"):
        assert refusal(lambda: put(notes, "file_type", wrong)) == errno.EINVAL  # noqa: B023
    put(notes, "file_type", "temp_video")
    put(temporary, "file_type", "final_video")
    files = shared.manifest(job.name)["files"]
    assert (files["temp_video"], files["final_video"]) == (["notes.txt"], ["shorts/final.mkv", "temp_a.wav"])
    put(job, "status", "completed")
    assert (notes.exists(), temporary.exists()) == (False, True)
    put(job, "status", "running")
    assert get(notes, "file_type") == "temp_video"
    reset(notes, "file_type")
    reset(temporary, "file_type")
    assert (get(notes, "file_type"), get(temporary, "file_type")) == ("other", "temp_audio")


def test_a_files_type_and_pin_keep_to_the_inode(job: Path) -> None:
    """Not to the name: renames and hard links take them along, a file made anew has none."""
    file = job / "notes.txt"
    put(file, "file_type", "log")
    put(file, "keep", "1")
    os.link(file, job / "link.txt")
    os.rename(file, job / "temp_renamed.wav")
    for name in ("link.txt", "temp_renamed.wav"):
        assert (get(job / name, "file_type"), get(job / name, "keep")) == ("log", "1")
    file.write_text("new")
    assert (get(file, "file_type"), get(file, "keep")) == ("other", "0")
    (job / "link.txt").unlink()
    (job / "temp_renamed.wav").unlink()
    (job / "temp_renamed.wav").write_text("new")
    assert get(job / "temp_renamed.wav", "file_type") == "temp_audio"


def test_a_type_is_set_through_an_open_file(job: Path) -> None:
    with (job / "notes.txt").open("r+") as stream:
        os.setxattr(stream.fileno(), "user.lffs.file_type", b"log")
        assert os.getxattr(stream.fileno(), "user.lffs.file_type") == b"log"
    assert get(job / "notes.txt", "file_type") == "log"


def test_a_files_job_id_is_read_only(job: Path) -> None:
    assert get(job / "shorts" / "final.mkv", "job_id") == job.name
    assert refusal(lambda: put(job / "notes.txt", "job_id", "x")) == errno.EPERM
    assert refusal(lambda: reset(job / "notes.txt", "job_id")) == errno.EPERM


def test_a_file_outside_of_all_jobs_has_no_type_but_may_be_pinned(shared: Mounted) -> None:
    file = shared.path / f"loose{next(_numbers)}"
    file.write_text("x")
    assert refusal(lambda: get(file, "file_type")) == errno.ENODATA
    assert refusal(lambda: get(file, "job_id")) == errno.ENODATA
    assert refusal(lambda: put(file, "file_type", "log")) == errno.EINVAL
    put(file, "keep", "1")
    assert get(file, "keep") == "1"


def test_a_pin_keeps_a_file(job: Path) -> None:
    temporary = job / "temp_a.wav"
    assert get(temporary, "keep") == "0"
    put(temporary, "keep", "1")
    put(job, "status", "completed")
    assert temporary.read_text() == "temporary"
    for wrong in ("", "2", "yes", "-1", b"\xff"):
        assert refusal(lambda: put(temporary, "keep", wrong)) == errno.EINVAL  # noqa: B023
    assert get(temporary, "keep") == "1"
    reset(temporary, "keep")
    assert get(temporary, "keep") == "0"
    put(job, "status", "completed")
    assert not temporary.exists()


@pytest.mark.parametrize("pinned", ["", "a", "a/b"])
def test_a_pin_keeps_what_is_below_a_directory(job: Path, pinned: str) -> None:
    (job / "a" / "b" / "empty").mkdir(parents=True)
    (job / "a" / "b" / "temp_x.wav").write_text("x")
    put(job / pinned, "keep", "1")
    put(job, "status", "completed")
    assert (job / "a" / "b" / "temp_x.wav").exists()
    assert (job / "temp_a.wav").exists() == (pinned == "")
    put(job / pinned, "keep", "0")
    put(job, "status", "completed")
    assert not (job / "a").exists()


def test_pins_are_read_where_they_were_set(job: Path) -> None:
    (job / "a" / "b").mkdir(parents=True)
    put(job / "a", "keep", "1")
    assert [get(path, "keep") for path in (job, job / "a", job / "a" / "b")] == ["0", "1", "0"]
    os.rename(job / "a", job / "z")
    assert get(job / "z", "keep") == "1"
    (job / "a").mkdir()
    assert get(job / "a", "keep") == "0"


@pytest.mark.parametrize(("name", "value"), [("file_type", "log"), ("keep", "1")])
def test_typing_and_pinning_need_the_right_to_unlink(job: Path, name: str, value: str) -> None:
    file = job / "notes.txt"
    file.chmod(0o666)

    def change(here: Path) -> None:
        put(here / "notes.txt", name, value)

    def restore(here: Path) -> None:
        reset(here / "notes.txt", name)

    own(file)
    for mode, directory_owner, answer in (
        (0o755, 0, {ALICE: errno.EACCES, BOB: errno.EACCES}),  # owning the file is not enough
        (0o777, 0, {ALICE: 0, BOB: 0}),
        (0o1777, 0, {ALICE: 0, BOB: errno.EPERM}),
        (0o1777, BOB, {ALICE: 0, BOB: 0}),
        (0o755, BOB, {ALICE: errno.EACCES, BOB: 0}),
    ):
        os.chown(job, directory_owner, STAFF + 7)
        job.chmod(mode)
        for user, expected in answer.items():
            assert by(user, job, change, restore) == [expected, expected]
    os.chown(job, 0, MEDIA)
    job.chmod(0o775)
    assert by(BOB, job, change, groups=[MEDIA]) == [0]
    assert by(BOB, job, change) == [errno.EACCES]


def test_pinning_a_directory_needs_the_right_to_unlink_it(job: Path) -> None:
    (job / "shorts").chmod(0o777)
    job.chmod(0o755)
    assert by(BOB, job, lambda here: put(here / "shorts", "keep", "1")) == [errno.EACCES]
    job.chmod(0o777)
    assert by(BOB, job, lambda here: put(here / "shorts", "keep", "1")) == [0]
    assert get(job / "shorts", "keep") == "1"


def test_the_root_is_its_owners_to_pin(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    mounted.path.chmod(0o777)
    (mounted.path / "job").mkdir()
    (mounted.path / "job" / "temp_a.wav").write_text("x")
    assert by(BOB, mounted.path, lambda here: put(here, "keep", "1")) == [errno.EPERM]
    put(mounted.path, "keep", "1")
    mounted.set_status("job", "completed")
    assert (mounted.path / "job" / "temp_a.wav").exists()
    mounted.remount()
    assert get(mounted.path, "keep") == "1"
    put(mounted.path, "keep", "0")
    mounted.set_status("job", "completed")
    assert not (mounted.path / "job" / "temp_a.wav").exists()


# -- all of them --------------------------------------------------------------------------------


def test_names_that_nothing_has(shared: Mounted, job: Path) -> None:
    for path in (job, job / "shorts", job / "notes.txt", shared.path):
        for name in ("none", "", "STATUS", "status ", "status.x", "ünknown"):
            assert refusal(lambda: get(path, name)) == errno.ENODATA  # noqa: B023
            assert refusal(lambda: put(path, name, "1")) == errno.EINVAL  # noqa: B023
            assert refusal(lambda: reset(path, name)) == errno.ENODATA  # noqa: B023
    os.setxattr(job, "user.lffsx", b"passes")
    os.setxattr(job, "user.lffs", b"through")
    assert sorted(os.listxattr(job)) == ["user.lffs", "user.lffsx"]


def test_they_are_never_listed_nor_stored(shared: Mounted, job: Path) -> None:
    put(job, "retention_hours", "5")
    put(job / "notes.txt", "file_type", "log")
    put(job / "notes.txt", "keep", "1")
    for path in (job, job / "shorts", job / "notes.txt", job / "temp_a.wav"):
        assert os.listxattr(path) == []
        assert os.listxattr(shared.backing / path.relative_to(shared.path)) == []


def test_what_was_stored_beside_lffs_under_such_a_name_is_neither_listed_nor_read(
    shared: Mounted, job: Path
) -> None:
    beside = shared.backing / job.name / "notes.txt"
    os.setxattr(beside, "user.lffs.file_type", b"temp_video")
    os.setxattr(beside, "user.lffs.made_up", b"x")
    assert os.listxattr(job / "notes.txt") == []
    assert get(job / "notes.txt", "file_type") == "other"
    assert refusal(lambda: get(job / "notes.txt", "made_up")) == errno.ENODATA


def test_copies_do_not_take_them_along(shared: Mounted, job: Path) -> None:
    file = job / "temp_a.wav"
    os.setxattr(file, "user.note", b"copied")
    put(file, "file_type", "temp_video")
    put(file, "keep", "1")
    subprocess.run(["cp", "-a", file, job / "by cp.mkv"], check=True)
    subprocess.run(["rsync", "-aX", file, job / "by rsync.mkv"], check=True)
    shutil.copy2(file, job / "by shutil.mkv")
    for name in ("by cp.mkv", "by rsync.mkv", "by shutil.mkv"):
        assert os.getxattr(job / name, "user.note") == b"copied"
        assert (get(job / name, "file_type"), get(job / name, "keep")) == ("other", "0")
    put(job, "status", "failed")
    put(job, "retention_hours", "3")
    subprocess.run(["cp", "-a", job, job.with_name(f"{job.name}-copy")], check=True)
    copy = job.with_name(f"{job.name}-copy")
    assert (get(copy, "status"), get(copy, "retention_hours")) == ("running", "24")


def test_create_and_replace_flags_mean_what_they_say(job: Path) -> None:
    """The attributes that are always there can be replaced and not created."""
    name = "user.lffs.retention_hours"
    assert refusal(lambda: os.setxattr(job, name, b"1", os.XATTR_CREATE)) == errno.EEXIST
    os.setxattr(job, name, b"2", os.XATTR_REPLACE)
    assert get(job, "retention_hours") == "2"


def test_every_default_is_restored_by_removing(make_mount: Callable[..., Mounted]) -> None:
    """Defaults are the configuration's, as it is when asked."""
    config = "{debug: true, cleanup: {retention_hours: 5}, jobs: {default_type: long_form}}"
    mounted = make_mount(config)
    job = mounted.path / "job"
    job.mkdir()
    defaults = {"retention_hours": "5", "debug": "1", "job_type": "long_form"}
    for name, value in {"retention_hours": "7", "debug": "0", "job_type": "short_form"}.items():
        assert get(job, name) == defaults[name]
        put(job, name, value)
        assert get(job, name) == value
        reset(job, name)
        assert get(job, name) == defaults[name]
        reset(job, name)  # once more is no error: it has its default
    reset(job, "status")
    assert get(job, "status") == "created"
    mounted.configure("{cleanup: {retention_hours: 6}}")
    mounted.reload()
    assert (get(job, "retention_hours"), get(job, "debug")) == ("6", "0")


@pytest.mark.parametrize("end", [Mounted.remount, Mounted.kill_and_remount], ids=["cleanly", "killed"])
def test_they_survive_the_end_of_the_daemon(
    make_mount: Callable[..., Mounted], end: Callable[[Mounted], Mounted]
) -> None:
    mounted = make_mount()
    job = mounted.path / "job"
    (job / "lazy").mkdir(parents=True)
    (job / "real").mkdir()
    (job / "real" / "file").write_text("x")
    values = {
        (job, "job_type"): "slides_only",
        (job, "retention_hours"): "0.5",
        (job, "debug"): "1",
        (job, "status"): "failed",
        (job / "lazy", "keep"): "1",
        (job / "real", "keep"): "1",
        (job / "real" / "file", "keep"): "1",
        (job / "real" / "file", "file_type"): "metadata",
    }
    for (path, name), value in values.items():
        put(path, name, value)
    end(mounted)
    assert {(path, name): get(path, name) for path, name in values} == values
