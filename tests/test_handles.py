"""Directories are opened name by name, a bounded number of them, and never through a link."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffs import syscalls
from lffs.handles import DirectoryHandles, is_within, join, split
from tests.stores import descriptors_kept

names = st.binary(min_size=1, max_size=8).filter(lambda name: b"/" not in name)
paths = st.lists(names, min_size=1, max_size=5).map(b"/".join)


@given(parent=st.just(b"") | paths, name=names)
def test_join_and_split_are_each_others_inverse(parent: bytes, name: bytes) -> None:
    assert split(join(parent, name)) == (parent, name)


@given(first=paths, second=paths)
def test_within_counts_names_not_letters(first: bytes, second: bytes) -> None:
    above = first.split(b"/")
    assert is_within(second, first) == (second.split(b"/")[: len(above)] == above)
    assert is_within(first, first)
    assert is_within(first, b"")
    assert not is_within(first + b"x", first)


@pytest.fixture
def handles(tmp_path: Path) -> Iterator[DirectoryHandles]:
    with descriptors_kept():
        root = os.open(tmp_path, syscalls.DIRECTORY_FLAGS)
        made = DirectoryHandles(root, limit=3)
        yield made
        made.close()
        os.close(root)


def leads_to(descriptor: int, path: Path) -> bool:
    return syscalls.statx(descriptor).ino == path.stat().st_ino


def test_a_path_leads_to_its_directory(tmp_path: Path, handles: DirectoryHandles) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    for path in ("a/b/c", "a", "a/b", "a/b/c"):
        assert leads_to(handles.open(path.encode()), tmp_path / path)
    assert leads_to(handles.open(b""), tmp_path)


def test_no_more_than_the_limit_is_held(tmp_path: Path, handles: DirectoryHandles) -> None:
    for number in range(10):
        (tmp_path / f"{number}").mkdir()
        handles.open(b"%d" % number)
        assert len(handles) <= 3
    assert leads_to(handles.open(b"0"), tmp_path / "0")  # closed long ago, found again


def test_an_operation_may_use_as_many_as_the_limit(tmp_path: Path, handles: DirectoryHandles) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    held = {name: handles.open(name.encode()) for name in "abc"}
    assert all(leads_to(descriptor, tmp_path / name) for name, descriptor in held.items())


def test_what_was_used_last_is_closed_last(tmp_path: Path, handles: DirectoryHandles) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()
    first = handles.open(b"a")
    handles.open(b"b")
    handles.open(b"c")
    assert handles.open(b"a") == first
    handles.open(b"d")
    assert handles.open(b"a") == first
    assert leads_to(first, tmp_path / "a")


def test_a_link_on_the_way_is_not_followed(tmp_path: Path, handles: DirectoryHandles) -> None:
    (tmp_path / "real/below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").touch()
    for path in (b"link", b"link/below", b"file", b"file/below"):
        with pytest.raises(NotADirectoryError):
            handles.open(path)


def test_what_is_not_there_is_file_not_found(tmp_path: Path, handles: DirectoryHandles) -> None:
    (tmp_path / "a").mkdir()
    for path in (b"nothing", b"a/nothing", b"a/nothing/deeper"):
        with pytest.raises(FileNotFoundError):
            handles.open(path)


def test_a_path_may_be_longer_than_any_system_call_takes(handles: DirectoryHandles) -> None:
    name = b"n" * 250
    path = b""
    for _ in range(20):
        os.mkdir(name, dir_fd=handles.open(path))
        path = join(path, name)
    assert len(path) > 4096
    handles.forget(b"")
    expected = syscalls.statx(handles.open(path)).ino
    handles.forget(b"")
    parent, last = split(path)
    assert syscalls.statx(handles.open(parent), last).ino == expected
    while path:  # rmtree of tmp_path can't reach this deep
        parent, last = split(path)
        handles.forget(path)
        os.rmdir(last, dir_fd=handles.open(parent))
        path = parent


def test_after_forgetting_the_path_is_walked_anew(tmp_path: Path, handles: DirectoryHandles) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "ab").mkdir()
    handles.open(b"a/b")
    untouched = handles.open(b"ab")
    (tmp_path / "a").rename(tmp_path / "old")
    (tmp_path / "a/b").mkdir(parents=True)
    assert leads_to(handles.open(b"a/b"), tmp_path / "old/b")
    handles.forget(b"a")
    assert leads_to(handles.open(b"a/b"), tmp_path / "a/b")
    assert handles.open(b"ab") == untouched


def test_a_walk_that_fails_half_way_leaves_nothing_open(tmp_path: Path, handles: DirectoryHandles) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    with descriptors_kept(), pytest.raises(FileNotFoundError):
        handles.open(b"a/b/c/d")


def test_closing_leaves_the_root_to_its_owner(tmp_path: Path, handles: DirectoryHandles) -> None:
    (tmp_path / "a").mkdir()
    handles.open(b"a")
    handles.close()
    assert len(handles) == 0
    assert leads_to(handles.open(b""), tmp_path)
