"""A lazy directory lives in the store alone until something is made in it; then it is made as it was said."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lffs import syscalls
from lffs.backing import Backing
from lffs.directories import FIRST_OWN_NUMBER, Directories
from lffs.manifest.records import DirectoryState
from tests.stores import NOW_NS, Client, descriptors_kept, opened, tree, until_killed

ME = {"uid": os.geteuid(), "gid": os.getegid()}


@pytest.fixture
def backing(tmp_path: Path) -> Iterator[Backing]:
    with descriptors_kept(), opened(tmp_path / "store") as made:
        yield made


@pytest.fixture
def directories(backing: Backing) -> Directories:
    return backing.directories


def make(directories: Directories, path: bytes, mode: int = 0o755, **changes: Any) -> None:
    directories.make_lazy(path, mode=mode, **(ME | {"now_ns": NOW_NS} | changes))


def test_a_lazy_directory_is_there_and_not_in_the_backing_store(
    backing: Backing, directories: Directories
) -> None:
    make(directories, b"a")
    make(directories, b"a/b", 0o2700)
    assert directories.lazy_names(b"") == {b"a"}
    assert directories.lazy_names(b"a") == {b"b"}
    lazy = directories.lazy(b"a/b")
    assert lazy is not None
    assert (lazy.mode, lazy.number >= FIRST_OWN_NUMBER, lazy.birth_ns) == (0o2700, True, NOW_NS)
    assert tree(backing.path) == {}


def test_making_it_makes_its_parents_each_as_it_was_said(backing: Backing, directories: Directories) -> None:
    make(directories, b"a", 0o750, now_ns=NOW_NS - 5)
    make(directories, b"a/b", 0o1711)
    make(directories, b"a/other")
    descriptor = directories.materialise(b"a/b")
    assert syscalls.statx(descriptor).ino == (backing.path / "a/b").stat().st_ino
    assert tree(backing.path) == {"a": None, "a/b": None}
    found = (backing.path / "a/b").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o1711, NOW_NS)
    above = (backing.path / "a").stat()
    assert (stat.S_IMODE(above.st_mode), above.st_mtime_ns) == (0o750, NOW_NS - 5)
    assert directories.lazy(b"a/b") is None
    assert directories.lazy_names(b"a") == {b"other"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_a_directory_belongs_to_whoever_made_it(backing: Backing, directories: Directories) -> None:
    make(directories, b"a", 0o2755, uid=1000, gid=100)
    directories.materialise(b"a")
    found = (backing.path / "a").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1000, 100, 0o2755)


def test_the_number_stays_when_it_is_made_moved_and_read_again(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        make(backing.directories, b"a")
        make(backing.directories, b"a/b")
        lazy = backing.directories.lazy(b"a/b")
        assert lazy is not None
        number = lazy.number
        backing.directories.materialise(b"a/b")
        os.rename(tmp_path / "a", tmp_path / "c")
        backing.handles.forget(b"")
        backing.directories.move(b"a", b"c")
    with opened(tmp_path) as backing:
        status = syscalls.statx(backing.handles.open(b"c/b"))
        identity = backing.store.directory(b"c/b")
        assert identity is not None
        assert identity.identity is not None
        assert identity.identity.inode == status.ino
        assert backing.directories.number_of(identity.identity) == number
        assert backing.directories.new_number() > number


def test_numbers_are_never_handed_out_twice(tmp_path: Path) -> None:
    seen: set[int] = set()
    for name in (b"a", b"b", b"c"):
        with opened(tmp_path) as backing:
            make(backing.directories, name)
            lazy = backing.directories.lazy(name)
            assert lazy is not None
            assert lazy.number not in seen
            seen.add(lazy.number)


def test_a_committed_lazy_directory_outlives_a_kill(tmp_path: Path) -> None:
    with until_killed(tmp_path) as backing:
        make(backing.directories, b"a", 0o711)
        backing.store.commit()
        make(backing.directories, b"lost")
    with opened(tmp_path) as backing:
        lazy = backing.directories.lazy(b"a")
        assert lazy is not None
        assert lazy.mode == 0o711
        assert backing.directories.lazy(b"lost") is None


class Died(BaseException):
    pass


@pytest.mark.parametrize("call", ["mkdir", "fchmod", "rename", "after"])
def test_a_kill_in_the_middle_leaves_nothing_or_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """It is dressed in the staging directory and comes into being by one rename."""

    def die(*args: Any, **kwargs: Any) -> None:
        raise Died

    with until_killed(tmp_path) as backing:
        make(backing.directories, b"a", 0o700)
        backing.store.commit()
        with monkeypatch.context() as patch:
            if call == "rename":
                patch.setattr(syscalls, "renameat2", die)
            elif call == "after":
                patch.setattr(Directories, "found_real", die)
            else:
                patch.setattr(os, call, die)
            with pytest.raises(Died):
                backing.directories.materialise(b"a")
    expected = {"a": None} if call == "after" else {}
    assert tree(tmp_path) == expected
    with opened(tmp_path) as backing:
        client = Client(backing)
        assert client.list() == ["a"]
        assert stat.S_IMODE(client.stat("a").mode) == 0o700
        client.write("a/file")
        assert tree(tmp_path) == {"a": None, "a/file": b"data"}
        assert list((tmp_path / ".lffs/staging").iterdir()) == []


def test_a_real_directory_made_beside_lffs_wins(backing: Backing, directories: Directories) -> None:
    make(directories, b"a", 0o700)
    (backing.path / "a").mkdir()
    (backing.path / "a").chmod(0o755)
    directories.materialise(b"a")
    assert stat.S_IMODE((backing.path / "a").stat().st_mode) == 0o755
    assert directories.lazy(b"a") is None


def test_where_it_can_not_be_made_it_stays_lazy(
    backing: Backing, directories: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(directories, b"a")

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(OSError, match="No space left"):
        directories.materialise(b"a")
    assert directories.lazy(b"a") is not None


def test_a_file_in_its_place_is_an_error_and_not_replaced(backing: Backing, directories: Directories) -> None:
    make(directories, b"a")
    (backing.path / "a").write_bytes(b"precious")
    with pytest.raises(NotADirectoryError):
        directories.materialise(b"a")
    assert (backing.path / "a").read_bytes() == b"precious"


def test_making_it_does_not_change_when_its_parent_changed(
    backing: Backing, directories: Directories
) -> None:
    """The parent changed at the mkdir, that the program saw."""
    make(directories, b"a")
    os.utime(backing.path, ns=(1, 2))
    directories.materialise(b"a")
    assert backing.path.stat().st_mtime_ns == 2


# -- vanishing --------------------------------------------------------------------------------------


def reappear_all(directories: Directories, job: bytes) -> None:
    for directory in directories.hidden(job):
        directories.reappear(directory)


def test_an_empty_directory_vanishes_and_comes_back_lazy(backing: Backing, directories: Directories) -> None:
    (backing.path / "job/a").mkdir(parents=True)
    (backing.path / "job/a").chmod(0o2750)
    os.setxattr(backing.path / "job/a", "user.colour", b"red")
    assert directories.vanish(b"job/a", NOW_NS)
    assert tree(backing.path) == {"job": None}
    assert [directory.path for directory in directories.hidden(b"job")] == [b"job/a"]
    reappear_all(directories, b"job")
    assert directories.lazy_names(b"job") == {b"a"}
    assert tree(backing.path) == {"job": None}
    directories.materialise(b"job/a")
    assert stat.S_IMODE((backing.path / "job/a").stat().st_mode) == 0o2750
    assert os.getxattr(backing.path / "job/a", "user.colour") == b"red"


def test_a_lazy_directory_keeps_its_number_when_it_vanishes_and_comes_back(directories: Directories) -> None:
    make(directories, b"job")
    make(directories, b"job/a")
    before = directories.lazy(b"job/a")
    assert before is not None
    assert directories.vanish(b"job/a", NOW_NS)
    assert directories.lazy(b"job/a") is None
    reappear_all(directories, b"job")
    after = directories.lazy(b"job/a")
    assert after is not None
    assert after.number == before.number


def test_what_is_not_empty_does_not_vanish(backing: Backing, directories: Directories) -> None:
    (backing.path / "real").mkdir()
    (backing.path / "real/file").touch()
    (backing.path / "holds").mkdir()
    make(directories, b"holds/lazy")
    make(directories, b"lazy")
    make(directories, b"lazy/below")
    for path in (b"real", b"holds", b"lazy", b"nothing"):
        assert not directories.vanish(path, NOW_NS)
    assert tree(backing.path) == {"real": None, "real/file": b"", "holds": None}
    assert directories.hidden(b"lazy") == []


def test_a_vanished_directory_stays_away_where_its_name_was_made_anew(
    backing: Backing, directories: Directories
) -> None:
    (backing.path / "job/a").mkdir(parents=True)
    assert directories.vanish(b"job/a", NOW_NS)
    (backing.path / "job/a").write_bytes(b"a file now")
    reappear_all(directories, b"job")
    assert directories.lazy(b"job/a") is None
    assert (backing.path / "job/a").read_bytes() == b"a file now"


def test_a_vanished_directory_stays_away_where_its_parent_was_removed(
    backing: Backing, directories: Directories
) -> None:
    (backing.path / "job/a/b").mkdir(parents=True)
    assert directories.vanish(b"job/a/b", NOW_NS)
    (backing.path / "job/a").rmdir()
    backing.handles.forget(b"job/a")
    reappear_all(directories, b"job")
    assert directories.lazy(b"job/a/b") is None
    assert directories.lazy_names(b"job/a") == set()


# -- moving and pinning -----------------------------------------------------------------------------


def test_a_renamed_directory_takes_the_lazy_ones_and_the_pins_below_along(directories: Directories) -> None:
    for path in (b"a", b"a/b", b"a/b/c", b"ab"):
        make(directories, path)
    directories.set_keep(b"a/b", syscalls.Stat(mode=0o40755, ino=1), keep=True)
    directories.move(b"a", b"n")
    assert directories.lazy_names(b"") == {b"n", b"ab"}
    assert directories.lazy_names(b"n/b") == {b"c"}
    assert directories.lazy(b"a/b") is None
    assert directories.is_pinned(b"n/b/c")
    assert not directories.is_pinned(b"a/b")


def test_a_rename_replaces_what_was_remembered_of_the_target(directories: Directories) -> None:
    make(directories, b"a", 0o700)
    make(directories, b"b", 0o755)
    directories.move(b"a", b"b")
    lazy = directories.lazy(b"b")
    assert lazy is not None
    assert lazy.mode == 0o700
    assert directories.lazy_names(b"") == {b"b"}


def test_an_exchange_swaps_everything_below(directories: Directories) -> None:
    for path in (b"a", b"a/x", b"b", b"b/y"):
        make(directories, path)
    directories.set_keep(b"a/x", syscalls.Stat(mode=0o40755, ino=1), keep=True)
    directories.exchange(b"a", b"b")
    assert directories.lazy_names(b"a") == {b"y"}
    assert directories.lazy_names(b"b") == {b"x"}
    assert directories.has_pin(b"b/x")
    assert not directories.has_pin(b"a/x")


def test_a_pin_holds_for_all_below_and_over_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        (tmp_path / "job/a").mkdir(parents=True)
        backing.directories.set_keep(b"job/a", syscalls.statx(backing.handles.open(b"job/a")), keep=True)
    with opened(tmp_path) as backing:
        pinned = {
            path
            for path in (b"", b"job", b"job/a", b"job/a/b/c", b"job/ab")
            if backing.directories.is_pinned(path)
        }
        assert pinned == {b"job/a", b"job/a/b/c"}
        assert not backing.directories.has_pin(b"job/a/b")
        backing.directories.set_keep(b"job/a", syscalls.statx(backing.handles.open(b"job/a")), keep=False)
        assert not backing.directories.is_pinned(b"job/a")


def test_the_mountpoint_itself_can_be_pinned(backing: Backing, directories: Directories) -> None:
    directories.set_keep(b"", syscalls.statx(backing.handles.root_fd), keep=True)
    assert directories.is_pinned(b"any/thing")


def test_what_is_removed_is_forgotten(backing: Backing, directories: Directories) -> None:
    make(directories, b"a")
    directories.set_keep(b"a", syscalls.Stat(mode=0o40755, ino=1), keep=True)
    directories.remove(b"a")
    assert directories.lazy(b"a") is None
    assert directories.lazy_names(b"") == frozenset()
    assert not directories.is_pinned(b"a")
    assert backing.store.directory(b"a") is None


def test_a_real_directory_keeps_what_was_said_of_it_when_it_is_seen_again(
    backing: Backing, directories: Directories
) -> None:
    (backing.path / "a").mkdir()
    status = syscalls.statx(backing.handles.open(b"a"))
    directories.record_real(b"a", status)
    directories.set_keep(b"a", status, keep=True)
    directories.record_real(b"a", status)
    known = backing.store.directory(b"a")
    assert known is not None
    assert (known.state, known.keep) == (DirectoryState.REAL, True)
