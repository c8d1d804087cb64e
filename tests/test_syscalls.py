"""The system calls that Python has no wrapper for do what their manual pages say, and follow no link."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffs import syscalls
from lffs.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.stores import descriptors_kept


@pytest.fixture
def here(tmp_path: Path) -> Iterator[int]:
    """A descriptor of tmp_path, held as lffs holds directories."""
    descriptor = os.open(tmp_path, syscalls.DIRECTORY_FLAGS)
    with descriptors_kept():
        yield descriptor
    os.close(descriptor)


def test_statx_says_what_stat_says(tmp_path: Path, here: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    path.chmod(0o640)
    os.link(path, tmp_path / "g")
    known, found = path.stat(), syscalls.statx(here, b"f")
    for name in ("mode", "ino", "dev", "nlink", "uid", "gid", "rdev", "size", "blocks", "blksize",
                 "atime_ns", "mtime_ns", "ctime_ns"):  # fmt: skip
        assert getattr(found, name) == getattr(known, f"st_{name}"), name
    assert not found.is_directory
    assert syscalls.statx(here).is_directory


def test_statx_of_a_descriptor_is_that_of_its_name(tmp_path: Path, here: int) -> None:
    (tmp_path / "f").touch()
    with syscalls.held(here, b"f") as descriptor:
        assert syscalls.statx(descriptor).ino == syscalls.statx(here, b"f").ino


def test_the_birth_time_outlives_a_rename_and_every_change(tmp_path: Path, here: int) -> None:
    (tmp_path / "f").touch()
    before = syscalls.statx(here, b"f")
    os.utime(tmp_path / "f", ns=(1, 2))
    (tmp_path / "f").chmod(0o600)
    (tmp_path / "f").rename(tmp_path / "g")
    after = syscalls.statx(here, b"g")
    assert (after.birth_ns, after.ino) == (before.birth_ns, before.ino)


def test_a_link_is_looked_at_itself(tmp_path: Path, here: int) -> None:
    (tmp_path / "target").write_bytes(b"x")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert stat.S_ISLNK(syscalls.statx(here, b"link").mode)
    assert syscalls.exists(here, b"dangling")
    assert not syscalls.exists(here, b"nowhere")


def test_what_is_not_there_is_file_not_found(here: int) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        syscalls.statx(here, b"\xff\xfe")
    assert os.fsencode(caught.value.filename) == b"\xff\xfe"


def test_device_numbers_come_through(here: int) -> None:
    null = os.open("/dev", syscalls.DIRECTORY_FLAGS)
    try:
        assert syscalls.statx(null, b"null").rdev == os.stat("/dev/null").st_rdev
    finally:
        os.close(null)


def test_a_link_to_a_directory_is_not_opened_as_one(tmp_path: Path, here: int) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(NotADirectoryError):
        syscalls.open_directory(here, b"link")
    os.close(syscalls.open_directory(here, b"real"))


def test_listing_a_directory_names_everything_but_the_dots(tmp_path: Path, here: int) -> None:
    names = {b"a", b"\xff", b"with\nnewline", b".hidden"}
    for name in names:
        os.mkdir(os.path.join(os.fsencode(tmp_path), name))
    assert {os.fsencode(entry.name) for entry in syscalls.list_directory(here)} == names


def test_a_listing_that_is_given_up_leaves_nothing_open(tmp_path: Path, here: int) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    assert next(iter(syscalls.list_directory(here))).name in "ab"


def test_noreplace_replaces_nothing(tmp_path: Path, here: int) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    with pytest.raises(FileExistsError):
        syscalls.renameat2(here, b"a", here, b"b", RENAME_NOREPLACE)
    assert (tmp_path / "b").read_bytes() == b"b"
    syscalls.renameat2(here, b"a", here, b"c", RENAME_NOREPLACE)
    assert (tmp_path / "c").read_bytes() == b"a"


def test_exchange_exchanges(tmp_path: Path, here: int) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").mkdir()
    syscalls.renameat2(here, b"a", here, b"b", RENAME_EXCHANGE)
    assert (tmp_path / "a").is_dir()
    assert (tmp_path / "b").read_bytes() == b"a"


def test_a_failed_rename_names_both(here: int) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        syscalls.renameat2(here, b"from", here, b"to")
    assert (caught.value.filename, caught.value.filename2) == ("from", "to")


TIMES = st.none() | st.integers(0, 2**33 * 10**9)


@given(atime=TIMES, mtime=TIMES)
def test_a_time_that_is_not_given_stays(
    tmp_path_factory: pytest.TempPathFactory, atime: int | None, mtime: int | None
) -> None:
    directory = tmp_path_factory.getbasetemp()
    path = directory / "times"
    path.touch()
    os.utime(path, ns=(123, 456))
    descriptor = os.open(directory, syscalls.DIRECTORY_FLAGS)
    try:
        syscalls.set_times(descriptor, b"times", atime, mtime)
    finally:
        os.close(descriptor)
    found = path.stat()
    assert found.st_atime_ns == (123 if atime is None else atime)
    assert found.st_mtime_ns == (456 if mtime is None else mtime)


def test_times_before_1970_are_times_too(tmp_path: Path, here: int) -> None:
    (tmp_path / "f").touch()
    syscalls.set_times(here, b"f", -1_500_000_000, -1)
    assert (tmp_path / "f").stat().st_mtime_ns == -1


def test_the_times_of_a_link_are_its_own(tmp_path: Path, here: int) -> None:
    (tmp_path / "target").touch()
    os.utime(tmp_path / "target", ns=(1, 1))
    (tmp_path / "link").symlink_to("target")
    syscalls.set_times(here, b"link", mtime_ns=99)
    assert (tmp_path / "link").lstat().st_mtime_ns == 99
    assert (tmp_path / "target").stat().st_mtime_ns == 1


def test_times_are_set_through_a_descriptor_without_a_name(tmp_path: Path, here: int) -> None:
    (tmp_path / "f").touch()
    with syscalls.held(here, b"f") as descriptor:
        syscalls.set_times(descriptor, b"", mtime_ns=7)
    assert (tmp_path / "f").stat().st_mtime_ns == 7
    with pytest.raises(FileNotFoundError):
        syscalls.set_times(here, b"nothing", mtime_ns=7)


def test_the_path_of_a_descriptor_leads_to_its_file(tmp_path: Path, here: int) -> None:
    (tmp_path / "f").write_bytes(b"x")
    with open(syscalls.descriptor_path(here, b"f"), "rb") as file:
        assert file.read() == b"x"
    with syscalls.held(here, b"f") as descriptor:
        os.chmod(syscalls.descriptor_path(descriptor), 0o600)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


def test_holding_a_link_holds_the_link_and_a_fifo_does_not_block(tmp_path: Path, here: int) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    for name, is_it in ((b"link", stat.S_ISLNK), (b"fifo", stat.S_ISFIFO)):
        with syscalls.held(here, name) as descriptor:
            assert is_it(syscalls.statx(descriptor).mode)


def test_only_attributes_that_can_be_copied_are_returned(tmp_path: Path, here: int) -> None:
    path = tmp_path / "f"
    path.touch()
    os.setxattr(path, "user.colour", b"\0red")
    assert syscalls.all_xattrs(here, b"f") == {"user.colour": b"\0red"}
    (tmp_path / "link").symlink_to("f")
    assert syscalls.all_xattrs(here, b"link") == {}


def test_a_file_without_attributes_has_none(tmp_path: Path, here: int) -> None:
    (tmp_path / "f").touch()
    assert syscalls.all_xattrs(here, b"f") == {}
    with pytest.raises(FileNotFoundError):
        syscalls.all_xattrs(here, b"nothing")


@pytest.mark.parametrize(
    ("flags", "expected"), [(os.O_WRONLY, True), (os.O_RDWR, True), (os.O_RDONLY, False)]
)
def test_the_kernel_tells_who_has_a_file_open_for_writing(
    tmp_path: Path, here: int, flags: int, expected: bool
) -> None:
    (tmp_path / "f").touch()
    other = os.open(tmp_path / "f", flags)
    mine = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        assert syscalls.is_open_for_writing(mine) is expected
        os.close(other)
        other = -1
        assert not syscalls.is_open_for_writing(mine)
    finally:
        os.close(mine)
        if other >= 0:
            os.close(other)


def test_asking_leaves_no_lease_behind(tmp_path: Path, here: int) -> None:
    """With one left, the next open for writing would block or send a signal."""
    (tmp_path / "f").touch()
    mine = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        syscalls.is_open_for_writing(mine)
        os.close(os.open(tmp_path / "f", os.O_WRONLY | os.O_NONBLOCK))
    finally:
        os.close(mine)


def test_syncfs_takes_a_readable_descriptor_and_reports_a_bad_one(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    syscalls.syncfs(descriptor)
    os.close(descriptor)
    with pytest.raises(OSError) as caught:
        syscalls.syncfs(descriptor)
    assert caught.value.errno == errno.EBADF
