"""user.lffs.*: what can be asked and said of jobs, files and directories, and by whom."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lffs.fs.caller import Caller
from lffs.model import DirectoryType, JobType
from lffs.units import MAX_RETENTION_HOURS
from tests.stores import Client, FakeClock, error_of, make_settings, opened

ROOT = Caller(0, 0, os.getpid())
OWNER = Caller(os.geteuid(), os.getegid(), os.getpid())
STRANGER = Caller(4242, 4242, 0)
NAMES = [
    "status", "job_type", "retention_hours", "debug", "job_id", "files", "bytes", "temp_files", "temp_bytes",
    "file_type", "keep",
]  # fmt: skip


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with opened(tmp_path, clock=FakeClock()) as backing:
        made = Client(backing)
        made.mkdir("job")
        made.mkdir("job/d")
        made.write("job/d/a.tmp", b"12345")
        made.write("job/v.mkv", b"123")
        made.write("outside", b"1")
        yield made
        made.fs.close()


def test_a_job_directory_tells_what_it_is_and_has(client: Client) -> None:
    found = {name: client.get("job", name) for name in NAMES if name != "file_type"}
    assert found == {
        "status": "running", "job_type": "short_form", "retention_hours": "24", "debug": "0", "job_id": "job",
        "files": "2", "bytes": "8", "temp_files": "1", "temp_bytes": "5", "keep": "0",
    }  # fmt: skip


def test_a_file_tells_its_job_and_type(client: Client) -> None:
    assert client.get("job/d/a.tmp", "job_id") == "job"
    assert client.get("job/d/a.tmp", "file_type") == "temp_video"
    assert client.get("job/v.mkv", "file_type") == "final_video"
    assert client.get("job/v.mkv", "keep") == "0"


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("job", ["file_type", "nothing", ""]),
        ("job/d", ["status", "job_type", "job_id", "files", "file_type"]),
        ("job/v.mkv", ["status", "job_type", "debug", "files"]),
        ("outside", ["status", "job_id", "file_type"]),
        ("", ["status", "job_id", "file_type"]),
    ],
)
def test_what_something_does_not_have_is_enodata(client: Client, path: str, names: list[str]) -> None:
    for name in names:
        assert error_of(lambda name=name: client.get(path, name)) == errno.ENODATA


def test_none_is_ever_listed(client: Client) -> None:
    """cp -a copies what is listed."""
    client.set("job/v.mkv", "keep", "1")
    client.set("job/d", "keep", "1")
    for path in ("", "job", "job/d", "job/v.mkv"):
        assert client.fs.listxattr(client.number(path)) == []


def test_others_pass_through_to_the_backing_file(client: Client) -> None:
    number = client.number("job/v.mkv")
    client.fs.setxattr(number, b"user.colour", b"red", OWNER)
    backing_file = client.fs.backing.path / "job/v.mkv"
    assert os.getxattr(backing_file, "user.colour") == b"red"
    assert client.fs.listxattr(number) == [b"user.colour"]
    assert client.fs.getxattr(number, b"user.colour") == b"red"
    client.fs.removexattr(number, b"user.colour", OWNER)
    assert error_of(lambda: client.fs.getxattr(number, b"user.colour")) == errno.ENODATA


def test_an_attribute_that_a_lazy_directory_can_not_keep_makes_it_real(client: Client) -> None:
    client.mkdir("job/lazy")
    number = client.number("job/lazy")
    client.set("job/lazy", "keep", "1")
    assert not (client.fs.backing.path / "job/lazy").exists()
    client.fs.setxattr(number, b"user.colour", b"red", OWNER)
    assert os.getxattr(client.fs.backing.path / "job/lazy", "user.colour") == b"red"
    assert client.number("job/lazy") == number


# -- setting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "reads", "default"),
    [
        ("status", "completed", "completed", "running"),
        ("status", "processing", "running", "running"),
        ("job_type", "slides_only", "slides_only", "short_form"),
        ("retention_hours", "1.5", "1.5", "24"),
        ("retention_hours", "0", "0", "24"),
        ("retention_hours", "1234567.25", None, "24"),
        ("retention_hours", "12345.678", "12345.678", "24"),
        ("debug", "1", "1", "0"),
        ("keep", "1", "1", "0"),
    ],
)
def test_what_can_be_set_reads_back_and_has_a_default(
    client: Client, name: str, value: str, reads: str | None, default: str
) -> None:
    for ending in ("", "\n", "\0"):
        if reads is None:
            assert error_of(lambda: client.set("job", name, value)) == errno.EINVAL
            continue
        client.set("job", name, value + ending)
        assert client.get("job", name) == reads
        client.unset("job", name)
        assert client.get("job", name) == default


def test_a_file_type_overrides_the_rules_for_all_names_of_the_file(client: Client) -> None:
    client.link("job/v.mkv", "job/w.tmp")
    client.set("job/v.mkv", "file_type", "metadata")
    assert client.get("job/w.tmp", "file_type") == "metadata"
    client.unset("job/w.tmp", "file_type")
    # Each name has its own type again; asked by xattr an inode can tell only one of them.
    (job,) = client.fs.backing.jobs.live()
    assert client.fs.backing.manifest(job)["files"] == {
        "final_video": ["v.mkv"],
        "temp_video": ["d/a.tmp", "w.tmp"],
    }


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("job", "status", "done"),
        ("job", "status", "cleaned"),
        ("job", "status", "created"),
        ("job", "status", "completed\n\n"),
        ("job", "status", " completed"),
        ("job", "job_type", "long"),
        ("job", "debug", "2"),
        ("job", "debug", "true"),
        ("job", "keep", "yes"),
        ("job", "nothing", "1"),
        ("job", "file_type", "log"),
        ("job/d", "status", "completed"),
        ("job/v.mkv", "status", "completed"),
        ("job/v.mkv", "file_type", "temp"),
        ("outside", "file_type", "log"),
        ("outside", "status", "failed"),
        ("", "status", "failed"),
    ],
)
def test_what_is_not_understood_is_einval_and_changes_nothing(
    client: Client, path: str, name: str, value: str
) -> None:
    before = client.tree()
    assert error_of(lambda: client.set(path, name, value)) == errno.EINVAL
    assert client.tree() == before
    assert client.get("job", "status") == "running"


@pytest.mark.parametrize(
    "value", ["", "-1", "nan", "inf", "-inf", "1e400", "1e300", "x", "１２", str(MAX_RETENTION_HOURS + 1)]
)
def test_a_retention_that_nobody_can_mean_is_refused(client: Client, value: str) -> None:
    """1e300 hours in nanoseconds is no number any more, and would have ended the reaper."""
    assert error_of(lambda: client.set("job", "retention_hours", value)) == errno.EINVAL
    assert client.get("job", "retention_hours") == "24"


@pytest.mark.parametrize("value", [b"\xff\xfe", b"", b"\0", b"\n", b"completed\xff", b"a" * 60_000])
def test_a_status_of_any_bytes_is_einval(client: Client, value: bytes) -> None:
    number = client.number("job")
    assert error_of(lambda: client.fs.setxattr(number, b"user.lffs.status", value, OWNER)) == errno.EINVAL


def test_a_name_of_any_bytes_is_einval_to_set_and_enodata_to_get(client: Client) -> None:
    number = client.number("job")
    assert error_of(lambda: client.fs.setxattr(number, b"user.lffs.\xff", b"1", OWNER)) == errno.EINVAL
    assert error_of(lambda: client.fs.getxattr(number, b"user.lffs.\xff")) == errno.ENODATA
    assert error_of(lambda: client.fs.removexattr(number, b"user.lffs.\xff", OWNER)) == errno.ENODATA


@pytest.mark.parametrize("name", ["job_id", "files", "bytes", "temp_files", "temp_bytes"])
def test_what_lffs_alone_knows_nobody_sets(client: Client, name: str) -> None:
    for caller in (ROOT, OWNER):
        assert error_of(lambda caller=caller: client.set("job", name, "1", caller)) == errno.EPERM
    assert error_of(lambda: client.unset("job", name)) == errno.EPERM


def test_a_files_job_is_not_set_either(client: Client) -> None:
    assert error_of(lambda: client.set("job/v.mkv", "job_id", "other")) == errno.EPERM
    assert error_of(lambda: client.unset("job/v.mkv", "job_id")) == errno.EPERM


# -- rights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("status", "completed"), ("job_type", "long_form"), ("retention_hours", "1"), ("debug", "1")],
)
def test_only_the_owner_or_root_sets_what_a_job_does(client: Client, name: str, value: str) -> None:
    assert error_of(lambda: client.set("job", name, value, STRANGER)) == errno.EPERM
    client.set("job", name, value, ROOT)
    client.set("job", name, value, OWNER)


def test_a_type_or_a_pin_takes_the_right_to_unlink_the_name(client: Client) -> None:
    directory = client.fs.backing.path / "job/d"
    for mode, expected in ((0o755, errno.EACCES), (0o777, 0), (0o1777, errno.EPERM), (0o776, errno.EACCES)):
        directory.chmod(mode)
        for name, value in (("keep", "1"), ("file_type", "log")):
            if expected:
                assert error_of(lambda: client.set("job/d/a.tmp", name, value, STRANGER)) == expected  # noqa: B023
            else:
                client.set("job/d/a.tmp", name, value, STRANGER)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_in_a_sticky_directory_the_files_owner_may(client: Client) -> None:
    directory = client.fs.backing.path / "job/d"
    directory.chmod(0o1777)
    os.chown(directory / "a.tmp", STRANGER.uid, STRANGER.gid)
    client.set("job/d/a.tmp", "keep", "1", STRANGER)


def test_only_root_or_its_owner_pins_the_mountpoint(client: Client) -> None:
    assert error_of(lambda: client.set("", "keep", "1", STRANGER)) == errno.EPERM
    client.set("", "keep", "1")
    assert client.get("", "keep") == "1"
    client.set("job", "status", "completed")
    assert client.list("job/d") == ["a.tmp"]


# -- what follows -----------------------------------------------------------------------------------


def test_a_pinned_file_and_what_is_below_a_pinned_directory_stay_in_view(client: Client) -> None:
    client.write("job/b.tmp")
    client.write("job/c.tmp")
    client.set("job/d", "keep", "1")
    client.set("job/b.tmp", "keep", "1")
    client.set("job", "status", "completed")
    assert client.list("job") == ["b.tmp", "d", "v.mkv"]
    assert client.list("job/d") == ["a.tmp"]
    client.set("job/d", "keep", "0")
    client.set("job", "status", "completed")
    assert client.list("job") == ["b.tmp", "v.mkv"]


def test_a_typed_file_is_hidden_or_kept_by_that(client: Client) -> None:
    client.set("job/v.mkv", "file_type", "temp_video")
    client.set("job/d/a.tmp", "file_type", "final_video")
    assert (client.get("job", "temp_files"), client.get("job", "temp_bytes")) == ("1", "3")
    client.set("job", "status", "completed")
    assert client.list("job") == ["d"]
    assert client.list("job/d") == ["a.tmp"]


def test_what_is_said_of_a_file_goes_along_with_a_rename_and_away_with_it(client: Client) -> None:
    client.set("job/v.mkv", "keep", "1")
    client.rename("job/v.mkv", "job/d/w.mkv")
    assert client.get("job/d/w.mkv", "keep") == "1"
    client.unlink("job/d/w.mkv")
    client.write("job/d/w.mkv")
    assert client.get("job/d/w.mkv", "keep") == "0"


def test_a_hard_linked_file_counts_once_in_bytes_and_by_name_in_files(client: Client) -> None:
    client.link("job/v.mkv", "job/w.mkv")
    assert (client.get("job", "files"), client.get("job", "bytes")) == ("3", "8")


def test_a_hidden_name_does_not_keep_the_others_from_being_linked(client: Client) -> None:
    client.link("job/v.mkv", "job/w.tmp")
    client.set("job", "status", "completed")
    client.link("job/v.mkv", "job/x.mkv")
    assert client.read("job/x.mkv") == b"123"


def test_the_declared_directories_follow_the_type(tmp_path: Path) -> None:
    declared = {
        JobType.SHORT_FORM: {DirectoryType.SHORTS: "shorts"},
        JobType.LONG_FORM: {DirectoryType.LONG_FORM: "long", DirectoryType.TEMP: "a/b"},
    }
    with opened(tmp_path, make_settings(directories={"types": declared})) as backing:
        client = Client(backing)
        client.mkdir("job", 0o750)
        assert client.list("job") == ["shorts"]
        assert stat.S_IMODE(client.stat("job/shorts").mode) == 0o750
        client.set("job", "job_type", "long_form")
        assert client.list("job") == ["a", "long"]
        assert client.list("job/a") == ["b"]
        client.write("job/long/x")
        client.unset("job", "job_type")
        assert client.list("job") == ["long", "shorts"]
        assert set(os.listdir(tmp_path / "job")) == {"long"}


@given(name=st.binary(max_size=20), value=st.binary(max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
def test_no_name_and_no_value_is_answered_by_anything_but_an_errno(
    client: Client, name: bytes, value: bytes
) -> None:
    for path in ("job", "job/d", "job/v.mkv", "outside", ""):
        number = client.number(path)
        for call in (
            lambda: client.fs.setxattr(number, b"user.lffs." + name, value, OWNER),  # noqa: B023
            lambda: client.fs.getxattr(number, b"user.lffs." + name),  # noqa: B023
            lambda: client.fs.removexattr(number, b"user.lffs." + name, OWNER),  # noqa: B023
        ):
            assert error_of(call) in (0, errno.EINVAL, errno.ENODATA, errno.EPERM)
