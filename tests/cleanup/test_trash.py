"""The trash moves and deletes the very file that it was told of, and touches nothing outside."""

import dataclasses
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lffs import syscalls
from lffs.cleanup.trash import ChangedFileError, Deleted, HeldFileError, Trash
from lffs.directories import identity_of
from lffs.manifest.records import HideReason, TrashEntry
from lffs.model import EntryKind, FileIdentity
from tests.stores import NOW_NS, descriptors_kept, make_entry, without_rights

JOB = 7


class Bench:
    """A job's directory, a trash, and what a service would do with them."""

    def __init__(self, directory: Path) -> None:
        self.job = directory / "job"
        self.outside = directory / "outside"
        self.bin = directory / "trash"
        for path in (self.job, self.outside, self.bin):
            path.mkdir()
        self.precious = self.outside / "precious"
        self.precious.write_bytes(b"precious")
        self.job_fd = os.open(self.job, syscalls.DIRECTORY_FLAGS)
        self._bin_fd = os.open(self.bin, syscalls.DIRECTORY_FLAGS)
        self.trash = Trash(self._bin_fd)
        self._last = 0

    def close(self) -> None:
        self.trash.forget_handles()
        os.close(self._bin_fd)
        os.close(self.job_fd)

    def parent_fd(self, path: bytes) -> int:
        return os.open(self.job / os.fsdecode(os.path.dirname(path)), syscalls.DIRECTORY_FLAGS)

    def row(self, path: bytes, identity: FileIdentity, **changes: object) -> TrashEntry:
        self._last += 1
        entry = make_entry(path, job=JOB, identity=identity, **changes)
        return TrashEntry(self._last, entry, path, HideReason.STATUS, NOW_NS, 24)

    def identity(self, path: bytes) -> FileIdentity:
        status = os.lstat(self.job / os.fsdecode(path))
        found = syscalls.statx(self.job_fd, path)
        assert found.ino == status.st_ino
        return identity_of(found)

    def hide(self, path: bytes, name: bytes | None = None, **changes: object) -> TrashEntry:
        """Move a file of the job into the trash."""
        row = self.row(path, self.identity(path), **changes)
        directory, _, base = path.rpartition(b"/")
        self.trash.prepare(JOB, self.job_fd, directory)
        source = self.parent_fd(path)
        try:
            self.trash.take(source, base, row.entry.identity, JOB, name or path)
        finally:
            os.close(source)
        return dataclasses.replace(row, name=name or path)

    def hide_new(self, path: bytes, content: bytes = b"temporary") -> TrashEntry:
        whole = self.job / os.fsdecode(path)
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_bytes(content)
        return self.hide(path)

    def delete(self, *rows: TrashEntry) -> list[Deleted]:
        deletions = [self.trash.deletion(row) for row in rows]
        done = self.trash.delete(deletions)
        self.trash.answered(deletions)
        self.trash.forget_handles()
        return done

    def hidden(self, path: str) -> Path:
        return self.bin / str(JOB) / path


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with descriptors_kept():
        made = Bench(tmp_path)
        yield made
        assert made.precious.read_bytes() == b"precious"
        made.close()


def test_a_file_lies_in_the_trash_at_the_path_it_had(bench: Bench) -> None:
    row = bench.hide_new(b"ko/slides/a.png")
    assert not (bench.job / "ko/slides/a.png").exists()
    assert bench.hidden("ko/slides/a.png").read_bytes() == b"temporary"
    assert bench.trash.identity(JOB, b"ko/slides/a.png") == row.entry.identity
    assert list(bench.trash.files()) == [(JOB, b"ko/slides/a.png", row.entry.identity)]


def test_a_hidden_file_comes_back_as_it_was(bench: Bench) -> None:
    row = bench.hide_new(b"a")
    bench.trash.put_back(row, bench.job_fd, b"a")
    assert (bench.job / "a").read_bytes() == b"temporary"
    assert list(bench.trash.files()) == []


def test_nothing_is_put_back_over_a_name_made_anew(bench: Bench) -> None:
    row = bench.hide_new(b"a")
    (bench.job / "a").write_bytes(b"new")
    with pytest.raises(FileExistsError):
        bench.trash.put_back(row, bench.job_fd, b"a")
    assert (bench.job / "a").read_bytes() == b"new"
    assert bench.hidden("a").read_bytes() == b"temporary"


def test_an_older_file_steps_aside_with_the_next_free_number(bench: Bench) -> None:
    first = bench.hide_new(b"d/a", b"first")
    assert bench.trash.move_aside(first) == b"d/a.~1~"
    second = bench.hide_new(b"d/a", b"second")
    assert bench.trash.move_aside(second) == b"d/a.~2~"
    assert bench.hidden("d/a.~1~").read_bytes() == b"first"
    assert bench.hidden("d/a.~2~").read_bytes() == b"second"


def test_stepping_aside_never_makes_a_name_too_long(bench: Bench) -> None:
    row = bench.hide_new(b"n" * 255)
    aside = bench.trash.move_aside(row)
    assert len(aside) == 255
    assert aside.endswith(b".~1~")
    assert bench.trash.find(JOB, row.name, row.entry.identity) == aside


# -- what the trash looks like to others ------------------------------------------------------------


def test_the_directories_of_the_trash_are_as_closed_as_the_jobs(bench: Bench) -> None:
    (bench.job / "open").mkdir(mode=0o755)
    (bench.job / "open/secret").mkdir()
    (bench.job / "open/secret").chmod(0o2700)
    os.setxattr(bench.job / "open/secret", "user.colour", b"red")
    bench.job.chmod(0o750)
    bench.hide_new(b"open/secret/a")
    modes = {path: stat.S_IMODE(bench.hidden(path).stat().st_mode) for path in (".", "open", "open/secret")}
    assert modes == {".": 0o750, "open": 0o755, "open/secret": 0o2700}
    assert os.getxattr(bench.hidden("open/secret"), "user.colour") == b"red"
    mirrored = bench.trash.mirrored(JOB, b"open/secret")
    assert mirrored is not None
    assert (stat.S_IMODE(mirrored[0].mode), mirrored[1]) == (0o2700, {"user.colour": b"red"})
    assert bench.trash.mirrored(JOB, b"nothing") is None


def test_the_directories_of_the_trash_belong_to_whom_the_jobs_belong(bench: Bench) -> None:
    assert os.geteuid() == 0, "only root gives files away: run the tests as root"
    (bench.job / "d").mkdir()
    os.chown(bench.job, 1000, 100)
    os.chown(bench.job / "d", 1001, 101)
    bench.hide_new(b"d/a")
    owners = [(found.st_uid, found.st_gid) for found in (bench.hidden(".").stat(), bench.hidden("d").stat())]
    assert owners == [(1000, 100), (1001, 101)]


# -- attacks ----------------------------------------------------------------------------------------


def test_a_file_that_was_swapped_before_hiding_stays_where_it_is(bench: Bench) -> None:
    (bench.job / "a").write_bytes(b"recorded")
    recorded = bench.identity(b"a")
    (bench.job / "b").write_bytes(b"another")
    (bench.job / "b").rename(bench.job / "a")
    bench.trash.prepare(JOB, bench.job_fd, b"")
    with pytest.raises(ChangedFileError) as caught:
        bench.trash.take(bench.job_fd, b"a", recorded, JOB, b"a")
    assert caught.value.errno == errno.ESTALE
    assert (bench.job / "a").read_bytes() == b"another"
    assert list(bench.trash.files()) == []


def test_a_link_put_in_a_files_place_is_not_hidden_and_not_followed(bench: Bench) -> None:
    (bench.job / "a").write_bytes(b"recorded")
    recorded = bench.identity(b"a")
    (bench.job / "a").unlink()
    (bench.job / "a").symlink_to(bench.precious)
    bench.trash.prepare(JOB, bench.job_fd, b"")
    with pytest.raises(ChangedFileError):
        bench.trash.take(bench.job_fd, b"a", recorded, JOB, b"a")
    assert (bench.job / "a").is_symlink()


def swapping(monkeypatch: pytest.MonkeyPatch, before_call: int, attack: Callable[[], None]) -> None:
    """Strike between two system calls: just before the rename of that number."""
    real, calls = syscalls.renameat2, [0]

    def renameat2(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int = 0) -> None:
        calls[0] += 1
        if calls[0] == before_call:
            attack()
        real(old_fd, old, new_fd, new, flags)

    monkeypatch.setattr(syscalls, "renameat2", renameat2)


def test_a_file_swapped_between_look_and_move_goes_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bench.job / "a").write_bytes(b"recorded")
    (bench.job / "b").write_bytes(b"another")
    recorded = bench.identity(b"a")
    bench.trash.prepare(JOB, bench.job_fd, b"")
    swapping(monkeypatch, 1, lambda: os.replace(bench.job / "b", bench.job / "a"))
    with pytest.raises(ChangedFileError):
        bench.trash.take(bench.job_fd, b"a", recorded, JOB, b"a")
    assert (bench.job / "a").read_bytes() == b"another"
    assert list(bench.trash.files()) == []


def test_a_link_put_for_a_directory_on_the_way_leads_nowhere(bench: Bench) -> None:
    """Preparing opens the job's directories: a link there must not show outside's modes, or lead there."""
    (bench.job / "d").symlink_to(bench.outside)
    with pytest.raises(NotADirectoryError):
        bench.trash.prepare(JOB, bench.job_fd, b"d")


def test_a_link_in_the_trash_is_not_followed_by_anything(bench: Bench) -> None:
    """The trash's directories belong to the job's owner, so he may put things there."""
    row = bench.hide_new(b"d/precious")
    bench.trash.forget_handles()
    bench.hidden("d").rename(bench.bin / "aside")
    bench.hidden("d").symlink_to(bench.outside)
    (done,) = bench.delete(row)
    assert isinstance(done.error, NotADirectoryError)
    assert bench.trash.identity(JOB, b"d/precious") is None
    assert not bench.trash.has(JOB, b"d/precious")
    with pytest.raises(NotADirectoryError):
        bench.trash.put_back(row, bench.job_fd, b"precious")


def test_another_file_in_the_trash_is_not_deleted(bench: Bench) -> None:
    row = bench.hide_new(b"a")
    bench.hidden("a").unlink()
    os.link(bench.precious, bench.hidden("a"))
    (done,) = bench.delete(row)
    assert isinstance(done.error, ChangedFileError)
    assert bench.hidden("a").read_bytes() == b"precious"
    with pytest.raises(ChangedFileError):
        bench.trash.put_back(row, bench.job_fd, b"a")


def test_a_link_in_a_hidden_files_place_is_not_deleted(bench: Bench) -> None:
    row = bench.hide_new(b"a")
    bench.hidden("a").unlink()
    bench.hidden("a").symlink_to(bench.precious)
    (done,) = bench.delete(row)
    assert done.error is not None
    assert bench.hidden("a").is_symlink()


def test_a_directory_in_a_hidden_files_place_is_not_deleted(bench: Bench) -> None:
    row = bench.hide_new(b"a")
    bench.hidden("a").unlink()
    bench.hidden("a").mkdir()
    (bench.hidden("a") / "precious").write_bytes(b"x")
    (done,) = bench.delete(row)
    assert isinstance(done.error, ChangedFileError)
    assert (bench.hidden("a") / "precious").exists()


# -- deleting ---------------------------------------------------------------------------------------


def test_deleting_tells_the_bytes_and_leaves_no_empty_directory(bench: Bench) -> None:
    rows = [bench.hide_new(b"d/e/a", b"12345"), bench.hide_new(b"b", b"123")]
    done = bench.delete(*rows)
    assert [(one.error, one.bytes_freed, one.was_last_name) for one in done] == [
        (None, 5, True),
        (None, 3, True),
    ]
    assert list(bench.bin.iterdir()) == []


def test_the_bytes_of_a_hard_link_are_freed_with_its_last_name(bench: Bench) -> None:
    (bench.job / "a").write_bytes(b"12345")
    os.link(bench.job / "a", bench.job / "final")
    (done,) = bench.delete(bench.hide(b"a"))
    assert (done.error, done.bytes_freed, done.was_last_name) == (None, 0, False)
    assert (bench.job / "final").read_bytes() == b"12345"


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR])
def test_a_file_that_anyone_has_open_for_writing_is_not_deleted(bench: Bench, flags: int) -> None:
    row = bench.hide_new(b"a")
    other = bench.hide_new(b"b")
    writer = os.open(bench.hidden("a"), flags)
    try:
        held, gone = bench.delete(row, other)
    finally:
        os.close(writer)
    assert isinstance(held.error, HeldFileError)
    assert (gone.error, bench.hidden("a").exists(), bench.hidden("b").exists()) == (None, True, False)
    (done,) = bench.delete(row)
    assert done.error is None


def test_a_file_that_is_only_read_is_deleted(bench: Bench) -> None:
    row = bench.hide_new(b"a")
    with bench.hidden("a").open("rb") as reader:
        (done,) = bench.delete(row)
        assert done.error is None
        assert reader.read() == b"temporary"


@pytest.mark.parametrize("kind", [EntryKind.SYMLINK, EntryKind.FIFO])
def test_links_and_fifos_are_hidden_and_deleted_themselves(bench: Bench, kind: EntryKind) -> None:
    if kind is EntryKind.SYMLINK:
        (bench.job / "a").symlink_to(bench.precious)
    else:
        os.mkfifo(bench.job / "a")
    (done,) = bench.delete(bench.hide(b"a", kind=kind))
    assert done.error is None
    assert list(bench.trash.files()) == []


def test_what_is_gone_already_counts_as_deleted(bench: Bench) -> None:
    row = bench.hide_new(b"a")
    bench.hidden("a").unlink()
    (done,) = bench.delete(row)
    assert (done.error, done.bytes_freed) == (None, 0)


def test_what_was_taken_back_meanwhile_is_not_deleted(bench: Bench) -> None:
    """The thread has its list already when the job is set running."""
    row = bench.hide_new(b"a")
    deletion = bench.trash.deletion(row)
    assert bench.trash.is_claimed(row)
    bench.trash.put_back(row, bench.job_fd, b"a")
    assert not bench.trash.is_claimed(row)
    assert bench.trash.delete([deletion]) == []
    assert (bench.job / "a").read_bytes() == b"temporary"


def test_what_stepped_aside_meanwhile_is_not_deleted(bench: Bench) -> None:
    row = bench.hide_new(b"a")
    deletion = bench.trash.deletion(row)
    bench.trash.move_aside(row)
    assert bench.trash.delete([deletion]) == []
    assert bench.hidden("a.~1~").exists()


def test_what_can_not_be_deleted_is_reported_and_the_rest_goes(bench: Bench) -> None:
    rows = [bench.hide_new(b"closed/a"), bench.hide_new(b"b")]
    # The trash belongs to root: to anybody else only the directory of b is open.
    bench.hidden(".").chmod(0o777)
    bench.hidden("closed").chmod(0o555)
    bench.bin.chmod(0o777)
    for above in list(bench.bin.parents)[:3]:
        above.chmod(above.stat().st_mode | 0o055)
    with without_rights():
        closed, gone = bench.delete(*rows)
    assert isinstance(closed.error, PermissionError)
    assert gone.error is None
    bench.hidden("closed").chmod(0o755)
