"""Whatever programs do, in whatever order: mount, manifest and backing store agree with a plain dict."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lffs.backing import Backing
from lffs.errors import StaleFileError
from lffs.fs.caller import Caller
from lffs.fs.filesystem import Changes
from lffs.model import FileType
from lffs.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.stores import (
    ME,
    Client,
    FakeClock,
    carried_out,
    error_of,
    fast_directory,
    make_settings,
    opened,
    problems,
    reap,
    tree,
    until_killed,
)

# ---------------------------------------------------------------------------------------------------
# The oracle
# ---------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class OracleFile:
    """An inode: what is in it, and what was said of it."""

    content: bytes
    keep: bool = False


@dataclass
class OracleHidden:
    path: str  # below the job
    file: OracleFile
    order: int
    by_unlink: bool


@dataclass(eq=False)
class OracleJob:
    status: str = "created"
    trash: list[OracleHidden] = field(default_factory=list)
    vanished: set[str] = field(default_factory=set)  # directories, below the job


def above(path: str) -> str:
    return path.rpartition("/")[0]


def is_below(path: str, directory: str) -> bool:
    return path.startswith(directory + "/")


def swap(path: str, first: str, second: str) -> str:
    """The path that *path* has after the two names were exchanged."""
    for old, new in ((first, second), (second, first)):
        if path == old or is_below(path, old):
            return new + path[len(old) :]
    return path


class Oracle:
    """A dict of names.  Jobs are the directories at the top; *.tmp and *.wav are temporary there."""

    def __init__(self) -> None:
        self.files: dict[str, OracleFile] = {}
        self.directories: set[str] = set()
        self.real: set[str] = set()  # directories that something was once made in
        self.pinned: set[str] = set()
        self.jobs: dict[str, OracleJob] = {}
        self.ended: list[OracleJob] = []
        self.order = 0

    def view(self) -> dict[str, bytes | None]:
        return {path: file.content for path, file in self.files.items()} | dict.fromkeys(self.directories)

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.directories

    def is_empty(self, directory: str) -> bool:
        return not any(is_below(path, directory) for path in (*self.files, *self.directories))

    def job(self, path: str) -> OracleJob | None:
        """The job that a file at *path* is in."""
        top, slash, _ = path.partition("/")
        return self.jobs[top] if slash else None

    def type_of(self, path: str) -> str:
        """What the rules make of it: one that matches a directory matches all below."""
        below = path.split("/")[1:]
        for ending in ("tmp", "wav"):
            if any(name.endswith("." + ending) for name in below):
                return ending
        return "other"

    # -- changes ------------------------------------------------------------------------------

    def materialise(self, directory: str) -> None:
        while directory:
            self.real.add(directory)
            directory = above(directory)

    def add_file(self, path: str, file: OracleFile) -> None:
        self.files[path] = file
        self.materialise(above(path))
        job = self.job(path)
        if job is not None and job.status == "created":
            job.status = "running"

    def add_directory(self, path: str) -> None:
        self.directories.add(path)
        if "/" not in path:
            self.jobs[path] = OracleJob()
        else:
            self.jobs[path.partition("/")[0]].vanished.discard(path.partition("/")[2])

    def remove_directory(self, path: str) -> None:
        self.directories.discard(path)
        self.real.discard(path)
        self.pinned.discard(path)
        if "/" not in path:
            self.ended.append(self.jobs.pop(path))

    def unlink(self, path: str) -> None:
        file = self.files.pop(path)
        job = self.job(path)
        if job is not None and job.status == "running" and self.type_of(path) == "wav":
            self.hide(job, path.partition("/")[2], file, by_unlink=True)

    def hide(self, job: OracleJob, path: str, file: OracleFile, *, by_unlink: bool) -> None:
        self.order += 1
        job.trash.append(OracleHidden(path, file, self.order, by_unlink))

    def rename_file(self, old: str, new: str) -> None:
        file = self.files.pop(old)
        self.add_file(new, file)

    def rename_directory(self, old: str, new: str) -> None:
        if new in self.directories:
            self.remove_directory(new)
        if old in self.real:
            self.materialise(above(new))
        for names in (self.directories, self.real, self.pinned):
            moved = {name for name in names if name == old or is_below(name, old)}
            names.difference_update(moved)
            names.update(new + name[len(old) :] for name in moved)
        if "/" not in old and "/" not in new:
            self.jobs[new] = self.jobs.pop(old)
        elif "/" not in old:
            self.ended.append(self.jobs.pop(old))
        elif "/" not in new:
            self.jobs[new] = OracleJob()
        for path in [path for path in self.files if is_below(path, old)]:
            self.files[new + path[len(old) :]] = self.files.pop(path)
            job = self.job(new + path[len(old) :])
            if job is not None and job.status == "created":
                job.status = "running"
        if "/" in old and "/" in new:  # what vanished below the directory goes with it
            before, after = self.jobs[old.partition("/")[0]], self.jobs[new.partition("/")[0]]
            inside, outside = old.partition("/")[2], new.partition("/")[2]
            moved = {name for name in before.vanished if is_below(name, inside)}
            before.vanished -= moved
            after.vanished |= {outside + name[len(inside) :] for name in moved}

    def exchange(self, first: str, second: str) -> None:
        for path in (first, second):
            if path in self.directories:
                self.materialise(path)
        for names in (self.directories, self.real, self.pinned):
            swapped = {swap(name, first, second) for name in names}
            names.clear()
            names.update(swapped)
        self.files = {swap(path, first, second): file for path, file in self.files.items()}
        jobs = self.jobs
        moved = {swap(name, first, second): name for name in jobs}
        # A job whose new place is a job's goes there with all it is; what else lies there is a new one.
        self.jobs = {
            name: jobs[moved[name]] if name in moved else OracleJob()
            for name in self.directories
            if "/" not in name
        }
        self.ended += [job for job in jobs.values() if job not in self.jobs.values()]
        for path in self.files:
            job = self.job(path)
            if job is not None and job.status == "created":
                job.status = "running"

    # -- status -------------------------------------------------------------------------------

    def is_pinned(self, path: str) -> bool:
        return any(path == pin or is_below(path, pin) for pin in self.pinned)

    def complete(self, name: str) -> None:
        job = self.jobs[name]
        job.status = "completed"
        for path in sorted(path for path in self.files if is_below(path, name)):
            file = self.files[path]
            if self.type_of(path) != "other" and not file.keep and not self.is_pinned(path):
                self.hide(job, path.partition("/")[2], self.files.pop(path), by_unlink=False)
        for path in sorted((path for path in self.directories if is_below(path, name)), reverse=True):
            if self.is_empty(path) and not self.is_pinned(path):
                self.directories.discard(path)
                self.real.discard(path)
                job.vanished.add(path.partition("/")[2])

    def restore(self, name: str, *, also_unlinked: bool) -> set[str]:
        """Bring files back; return the directories that may come back with them."""
        job = self.jobs[name]
        for hidden in sorted(job.trash, key=lambda hidden: hidden.order, reverse=True):
            path = f"{name}/{hidden.path}"
            if hidden.by_unlink and not also_unlinked:
                continue
            taken = self.exists(path) or any(is_below(path, file) for file in self.files)
            if not taken:
                job.trash.remove(hidden)
                self.files[path] = hidden.file
                directory = above(path)
                while directory:
                    self.directories.add(directory)
                    self.real.add(directory)
                    job.vanished.discard(directory.partition("/")[2])
                    directory = above(directory)
        return {f"{name}/{path}" for path in job.vanished}


# ---------------------------------------------------------------------------------------------------
# The machine
# ---------------------------------------------------------------------------------------------------

NAMES = ["a", "b", "a.tmp", "b.wav", "c.mkv"]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
contents = st.binary(max_size=6)
numbers = st.integers(0, 10**6)


class MountManifestAndDiskAgree(RuleBasedStateMachine):
    """Properties 2, 3 and 5 in small: view, records and backing store are what a dict says."""

    def __init__(self) -> None:
        super().__init__()
        self.life = contextlib.ExitStack()
        self.directory = self.life.enter_context(fast_directory())
        self.clock = FakeClock()
        self.settings = make_settings(cleanup={"keep_unlinked": frozenset({FileType.TEMP_AUDIO})})
        self.oracle = Oracle()
        self.handles: list[tuple[int, OracleFile]] = []
        self.open()

    def open(self) -> None:
        # Killed or not is decided when the life ends.
        self.killer = until_killed(self.directory, self.settings, self.clock)
        self.backing: Backing = self.killer.__enter__()
        self.client = Client(self.backing)
        self.known: dict[int, OracleFile] = {}

    def close(self, *, kill: bool) -> None:
        for handle, _ in self.handles:
            self.client.fs.release(handle)
        self.handles = []
        self.client.fs.close()
        if not kill:
            self.backing.store.commit()
        self.killer.__exit__(None, None, None)

    def teardown(self) -> None:
        self.close(kill=True)
        self.life.close()

    def look(self, path: str, file: OracleFile) -> None:
        """Look the file up and keep the number, as a kernel does."""
        number = self.client.number(path)
        assert self.known.setdefault(number, file) is file

    def some_file(self, number: int) -> str | None:
        files = sorted(self.oracle.files)
        return files[number % len(files)] if files else None

    def some_directory(self, number: int) -> str | None:
        directories = sorted(self.oracle.directories)
        return directories[number % len(directories)] if directories else None

    def expected_error(self, path: str) -> int:
        """What creating *path* must fail with, 0 for nothing."""
        directory = above(path)
        if directory and directory not in self.oracle.directories:
            return errno.ENOENT
        return errno.EEXIST if self.oracle.exists(path) else 0

    # -- making -------------------------------------------------------------------------------

    @rule(path=paths)
    def mkdir(self, path: str) -> None:
        expected = self.expected_error(path)
        if expected == errno.ENOENT:
            return
        assert error_of(lambda: self.client.mkdir(path)) == expected
        if not expected:
            self.oracle.add_directory(path)

    @rule(path=paths, content=contents, leave_open=st.booleans())
    def create(self, path: str, content: bytes, leave_open: bool) -> None:
        if self.expected_error(path):
            return
        handle = self.client.create(path)
        self.client.fs.write(handle, 0, content)
        file = OracleFile(content)
        self.oracle.add_file(path, file)
        if leave_open and len(self.handles) < 3:
            self.handles.append((handle, file))
        else:
            self.client.fs.release(handle)

    @rule(where=numbers, name=st.sampled_from(NAMES), content=contents)
    def create_in_a_directory_that_is_there(self, where: int, name: str, content: bytes) -> None:
        directory = self.some_directory(where)
        if directory is not None:
            self.create(f"{directory}/{name}", content, leave_open=False)

    @rule(which=numbers, content=contents)
    def overwrite(self, which: int, content: bytes) -> None:
        path = self.some_file(which)
        if path is not None:
            self.client.write(path, content)
            self.oracle.files[path].content = content

    @rule(which=numbers, content=contents)
    def write_through_a_handle(self, which: int, content: bytes) -> None:
        """Also of a file that was renamed, unlinked or hidden meanwhile."""
        if self.handles:
            handle, file = self.handles[which % len(self.handles)]
            self.client.fs.write(handle, 0, content)
            file.content = content + file.content[len(content) :]
            assert self.client.fs.read(handle, 0, 100) == file.content

    @rule(which=numbers)
    def close_a_handle(self, which: int) -> None:
        if self.handles:
            handle, _ = self.handles.pop(which % len(self.handles))
            self.client.fs.release(handle)

    @rule(which=numbers, path=paths)
    def link(self, which: int, path: str) -> None:
        old = self.some_file(which)
        if old is None or (expected := self.expected_error(path)) == errno.ENOENT:
            return
        assert error_of(lambda: self.client.link(old, path)) == expected
        if not expected:
            self.oracle.add_file(path, self.oracle.files[old])

    # -- removing and renaming ----------------------------------------------------------------

    @rule(which=numbers)
    def unlink(self, which: int) -> None:
        path = self.some_file(which)
        if path is not None:
            self.client.unlink(path)
            self.oracle.unlink(path)

    @rule(which=numbers)
    def rmdir(self, which: int) -> None:
        path = self.some_directory(which)
        if path is None:
            return
        expected = 0 if self.oracle.is_empty(path) else errno.ENOTEMPTY
        assert error_of(lambda: self.client.rmdir(path)) == expected
        if not expected:
            self.oracle.remove_directory(path)

    @rule(which=numbers, new=paths, noreplace=st.booleans())
    def rename_a_file(self, which: int, new: str, noreplace: bool) -> None:
        old = self.some_file(which)
        if old is None or self.expected_error(new) == errno.ENOENT:
            return
        expected = 0
        if self.oracle.exists(new) and noreplace:
            expected = errno.EEXIST
        elif new in self.oracle.directories:
            expected = errno.EISDIR
        assert error_of(lambda: self.client.rename(old, new, noreplace * RENAME_NOREPLACE)) == expected
        if not expected and self.oracle.files.get(new) is not self.oracle.files[old]:
            self.oracle.rename_file(old, new)

    @rule(which=numbers, new=paths)
    def rename_a_directory(self, which: int, new: str) -> None:
        old = self.some_directory(which)
        # The kernel itself refuses to move a directory below itself.
        if (
            old is None
            or self.expected_error(new) == errno.ENOENT
            or is_below(new, old)
            or is_below(old, new)
        ):
            return
        expected = 0
        if new in self.oracle.files:
            expected = errno.ENOTDIR
        elif new != old and new in self.oracle.directories and not self.oracle.is_empty(new):
            expected = errno.ENOTEMPTY
        number = self.client.number(old)
        assert error_of(lambda: self.client.rename(old, new)) == expected
        if not expected and old != new:
            self.oracle.rename_directory(old, new)
            assert self.client.number(new) == number

    @rule(first=numbers, second=numbers)
    def exchange(self, first: int, second: int) -> None:
        names = sorted(self.oracle.view())
        if not names:
            return
        one, other = names[first % len(names)], names[second % len(names)]
        if one == other or is_below(one, other) or is_below(other, one):
            return  # the kernel itself refuses or does nothing
        self.client.rename(one, other, RENAME_EXCHANGE)
        if one in self.oracle.directories or self.oracle.files[one] is not self.oracle.files.get(other):
            self.oracle.exchange(one, other)

    # -- what is said of files and jobs -------------------------------------------------------

    @rule(which=numbers, keep=st.booleans())
    def keep_a_file(self, which: int, keep: bool) -> None:
        path = self.some_file(which)
        if path is not None:
            self.client.set(path, "keep", str(int(keep)))
            self.oracle.files[path].keep = keep

    @rule(which=numbers, keep=st.booleans())
    def keep_a_directory(self, which: int, keep: bool) -> None:
        path = self.some_directory(which)
        if path is not None:
            self.client.set(path, "keep", str(int(keep)))
            (self.oracle.pinned.add if keep else self.oracle.pinned.discard)(path)

    def some_job(self, number: int) -> str | None:
        jobs = sorted(self.oracle.jobs)
        return jobs[number % len(jobs)] if jobs else None

    @rule(which=numbers)
    def complete(self, which: int) -> None:
        name = self.some_job(which)
        if name is not None:
            self.client.set(name, "status", "completed")
            self.oracle.complete(name)

    @rule(which=numbers, status=st.sampled_from(["running", "failed"]))
    def run_or_fail(self, which: int, status: str) -> None:
        name = self.some_job(which)
        if name is None:
            return
        self.client.set(name, "status", status)
        self.oracle.jobs[name].status = status
        self.with_directories_that_may_come_back(
            self.oracle.restore(name, also_unlinked=status == "failed"), self.oracle.jobs[name]
        )

    def with_directories_that_may_come_back(self, may: set[str], job: OracleJob) -> None:
        """Of the directories that vanished those come back whose place is still there."""
        for path in sorted(may):
            if above(path) in self.oracle.directories and not self.oracle.exists(path):
                self.oracle.directories.add(path)
            job.vanished.discard(path.partition("/")[2])

    @rule()
    def a_day_passes_and_the_reaper_comes(self) -> None:
        self.clock.advance(hours=25)
        reap(self.backing)
        being_written = {id(file) for _, file in self.handles}
        for name, job in [*self.oracle.jobs.items(), *((None, job) for job in self.oracle.ended)]:
            if name is None or job.status == "completed":
                job.trash = [
                    hidden
                    for hidden in job.trash
                    if id(hidden.file) in being_written
                    or hidden.file.keep
                    or (name is not None and self.oracle.is_pinned(f"{name}/{hidden.path}"))
                ]

    # -- lives --------------------------------------------------------------------------------

    @rule(which=numbers)
    def the_kernel_looks_up(self, which: int) -> None:
        path = self.some_file(which)
        if path is not None:
            self.look(path, self.oracle.files[path])

    @rule()
    def the_kernel_forgets(self) -> None:
        self.client.forget()
        self.known.clear()
        opened_files = {self.client.fs.files[handle].node.number for handle, _ in self.handles}
        needed = {1} | opened_files
        left = set(self.client.fs.tree.nodes.numbers())
        # What is open keeps its parents.
        assert needed <= left
        if not self.handles:
            assert left == {1}

    @rule(kill=st.booleans())
    def the_daemon_ends_and_comes_back(self, kill: bool) -> None:
        # What is found beside a good store is ordinary only in a job that was active.
        active = all(job.status in ("created", "running") for job in self.oracle.jobs.values())
        before = {path: self.client.number(path) for path in self.oracle.directories}
        self.close(kill=kill and active)
        self.open()
        assert {path: self.client.number(path) for path in self.oracle.directories} == before

    # -- what must hold -----------------------------------------------------------------------

    @invariant()
    def the_view_is_the_oracles(self) -> None:
        assert self.client.tree() == self.oracle.view()

    @invariant()
    def the_backing_store_holds_the_view_but_for_lazy_directories(self) -> None:
        on_disk = tree(self.directory)
        assert {path: content for path, content in on_disk.items() if content is not None} == {
            path: file.content for path, file in self.oracle.files.items()
        }
        assert {path for path, content in on_disk.items() if content is None} == self.oracle.real

    @invariant()
    def the_manifests_are_the_oracles(self) -> None:
        assert [job.id for job in self.backing.jobs.live()] == sorted(self.oracle.jobs)
        for job in self.backing.jobs.live():
            manifest = self.backing.manifest(job)
            recorded = {path for paths in manifest["files"].values() for path in paths}
            assert recorded == {
                path.partition("/")[2] for path in self.oracle.files if is_below(path, job.id)
            }
            temporary = {
                path
                for type_, paths in manifest["files"].items()
                for path in paths
                if FileType(type_).is_temporary
            }
            assert temporary == {
                path for path in recorded if self.oracle.type_of(f"{job.id}/{path}") != "other"
            }
            known = {path for paths in manifest["directories"].values() for path in paths}
            assert known == {
                path.partition("/")[2] for path in self.oracle.directories if is_below(path, job.id)
            }

    @invariant()
    def the_status_is_the_oracles(self) -> None:
        for name, job in self.oracle.jobs.items():
            status = self.client.get(name, "status")
            assert status == job.status or (status, job.status) == ("cleaned", "completed")

    @invariant()
    def the_trash_holds_what_the_oracle_hid(self) -> None:
        for name, job in self.oracle.jobs.items():
            found = self.backing.jobs.at(name.encode())
            assert found is not None
            hidden = [one.entry.path.decode() for one in self.backing.store.trash(found.number)]
            assert sorted(hidden) == sorted(one.path for one in job.trash)

    @invariant()
    def a_number_that_the_kernel_knows_is_never_another_file(self) -> None:
        in_view = set(map(id, self.oracle.files.values()))
        for number, file in self.known.items():
            try:
                status = self.client.fs.getattr(number).status
            except StaleFileError:
                assert id(file) not in in_view  # hidden: the kernel looks its path up again
            else:
                assert status is not None
                assert status.size == len(file.content)

    @invariant()
    def verify_finds_nothing(self) -> None:
        assert problems(self.backing) == {}


TestMountManifestAndDiskAgree = MountManifestAndDiskAgree.TestCase
TestMountManifestAndDiskAgree.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# ---------------------------------------------------------------------------------------------------
# Single rules
# ---------------------------------------------------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    before = os.umask(0)  # as the daemon's
    try:
        with opened(tmp_path / "store", clock=FakeClock()) as backing:
            made = Client(backing)
            yield made
            made.fs.close()
            made.forget()
            assert made.fs.tree.nodes.numbers() == [1]
            assert problems(backing) == {}
    finally:
        os.umask(before)


# -- names of jobs ----------------------------------------------------------------------------------


def test_a_job_is_listed_by_its_status_and_found_by_every_name(client: Client) -> None:
    client.mkdir("job")
    assert client.list() == ["job"]
    client.write("job/v.mkv")
    assert client.list() == ["job_processing"]
    number = client.number("job")
    for status, listed in (
        ("completed", "job_completed"),
        ("failed", "job_failed"),
        ("running", "job_processing"),
    ):
        client.set(f"{client.list()[0]}", "status", status)
        assert client.list() == [listed]
        for name in ("job", "job_processing", "job_completed", "job_failed"):
            assert client.number(name) == number
            assert client.read(f"{name}/v.mkv") == b"data"


def test_a_new_name_may_be_no_jobs_alias(client: Client) -> None:
    client.mkdir("job")
    client.write("file")
    for call in (
        lambda: client.mkdir("job_failed"),
        lambda: client.create("job_completed"),
        lambda: client.link("file", "job_processing"),
        lambda: client.symlink("x", "job_failed"),
    ):
        assert error_of(call) == errno.EEXIST


def test_every_operation_on_what_is_there_takes_the_alias(client: Client) -> None:
    client.mkdir("job")
    client.rename("job_failed", "other")
    assert client.list() == ["other"]
    client.mkdir("empty")
    client.rename("empty", "other_completed")  # as the target of a rename it means the job
    assert client.list() == ["other"]
    client.rmdir("other_processing")
    assert client.list() == []


def test_a_rename_of_a_job_to_its_alias_changes_nothing(client: Client) -> None:
    client.mkdir("job")
    client.write("job/a.tmp")
    before = client.tree()
    client.rename("job", "job_failed")
    assert client.tree() == before
    assert client.get("job", "status") == "running"


def test_a_real_entry_wins_over_an_alias(client: Client) -> None:
    client.mkdir("job_failed")
    client.mkdir("job")
    client.set("job", "status", "failed")
    assert client.number("job_failed") != client.number("job")
    assert client.list() == ["job", "job_failed"]


def test_a_name_too_long_for_a_suffix_is_listed_plain(client: Client) -> None:
    name = "n" * 250
    client.mkdir(name)
    client.set(name, "status", "failed")
    assert client.list() == [name]
    assert error_of(lambda: client.mkdir("n" * 256)) == errno.ENAMETOOLONG
    assert error_of(lambda: client.lookup("n" * 256)) == errno.ENAMETOOLONG


def test_a_negative_entry_is_believed_only_where_it_can_be_taken_back(client: Client, tmp_path: Path) -> None:
    assert client.fs.lookup(1, b"nothing").entry_timeout_s > 0
    assert client.fs.lookup(1, b"job_failed").entry_timeout_s == 0
    with opened(tmp_path / "other") as backing:
        older = Client(backing, can_age_names=False)
        assert older.fs.lookup(1, b"nothing").entry_timeout_s == 0


# -- lives of jobs ----------------------------------------------------------------------------------


def test_a_renamed_job_takes_status_and_trash_along(client: Client) -> None:
    client.mkdir("job")
    client.write("job/a.tmp", b"hidden")
    client.set("job", "status", "completed")
    client.rename("job", "new")
    assert client.get("new", "status") == "completed"
    assert client.read(".lffs/trash/new/a.tmp") == b"hidden"
    client.set("new", "status", "running")
    assert client.read("new/a.tmp") == b"hidden"


def test_a_job_that_moves_into_another_ends_and_its_files_are_the_others(client: Client) -> None:
    for name in ("one", "two"):
        client.mkdir(name)
        client.write(f"{name}/a.tmp")
    client.rename("one", "two/one")
    assert [job.id for job in client.fs.backing.jobs.live()] == ["two"]
    assert client.get("two", "files") == "2"
    client.set("two", "status", "completed")
    assert client.list("two") == []


def test_a_file_that_is_renamed_to_a_final_name_is_final(client: Client) -> None:
    client.mkdir("job")
    client.write("job/temp.tmp", b"final")
    client.rename("job/temp.tmp", "job/v.mkv")
    client.set("job", "status", "completed")
    assert client.read("job/v.mkv") == b"final"


def test_what_leaves_all_jobs_is_dropped_and_what_comes_in_is_recorded(client: Client) -> None:
    client.mkdir("job")
    client.write("job/a.tmp")
    client.rename("job/a.tmp", "a.tmp")
    assert client.get("job", "files") == "0"
    client.rename("a.tmp", "job/b.tmp")
    assert client.get("job/b.tmp", "file_type") == "temp_video"


def test_jobs_below_a_renamed_directory_go_along(tmp_path: Path) -> None:
    with opened(tmp_path, make_settings(jobs={"roots": ("*/*",)})) as backing:
        client = Client(backing)
        client.mkdir("Suits")
        client.mkdir("Suits/S01")
        client.write("Suits/S01/a.tmp")
        client.set("Suits/S01", "status", "failed")
        client.rename("Suits", "Friends")
        assert [(job.id, job.status) for job in backing.jobs.live()] == [("Friends/S01", "failed")]
        client.rename("Friends/S01", "S01")
        assert backing.jobs.live() == []
        assert problems(backing) == {}
        client.fs.close()


def test_the_first_file_makes_a_job_run_and_a_write_into_a_completed_one_changes_nothing(
    client: Client,
) -> None:
    client.mkdir("job")
    client.mkdir("job/d")
    assert client.get("job", "status") == "created"
    client.write("job/d/v.mkv")
    assert client.get("job", "status") == "running"
    client.set("job", "status", "completed")
    client.write("job/w.mkv")
    assert client.get("job", "status") == "completed"


def test_two_setters_one_after_the_other_both_hold(client: Client) -> None:
    client.mkdir("job")
    client.write("job/a.tmp")
    client.set("job", "status", "completed")
    client.set("job", "status", "completed")
    client.set("job", "status", "failed")
    assert client.list("job") == ["a.tmp"]


# -- hiding -----------------------------------------------------------------------------------------


def test_a_hidden_file_is_stale_to_whoever_knows_its_number(client: Client) -> None:
    client.mkdir("job")
    client.write("job/a.tmp")
    number = client.number("job/a.tmp")
    names_before = client.kernel.aged_names
    client.set("job", "status", "completed")
    assert error_of(lambda: client.fs.open(number, os.O_RDONLY, ME)) == errno.ESTALE
    assert error_of(lambda: client.fs.getattr(number)) == errno.ESTALE
    assert error_of(lambda: client.lookup("job/a.tmp")) == errno.ENOENT
    assert client.kernel.aged_names > names_before
    assert number in client.kernel.aged_attributes
    client.write("job/a.tmp", b"made anew")
    assert client.number("job/a.tmp") != number
    assert client.read("job/a.tmp") == b"made anew"


def test_a_hidden_file_comes_back_under_the_number_that_the_kernel_knows(client: Client) -> None:
    client.mkdir("job")
    client.write("job/a.tmp")
    number = client.number("job/a.tmp")
    client.set("job", "status", "completed")
    client.set("job", "status", "running")
    assert client.number("job/a.tmp") == number
    assert client.stat("job/a.tmp").size == 4


def test_a_directory_that_vanished_under_somebody_is_alive_when_it_is_back(client: Client) -> None:
    client.mkdir("job")
    client.write("job/v.mkv")
    for make_real in (False, True):
        client.mkdir("job/d")
        if make_real:
            client.write("job/d/a.tmp")
        number = client.number("job/d")
        handle = client.fs.opendir(number)
        client.set("job", "status", "completed")
        assert client.list("job") == ["v.mkv"]
        assert [name for name, *_ in client.fs.readdir(handle, 0)] in ([], [b".", b".."])
        client.set("job", "status", "running")
        assert client.number("job/d") == number
        assert client.stat("job/d").nlink == 2
        client.mkdir("job/d/e")
        assert "e" in client.list("job/d")
        client.fs.releasedir(handle)
        client.rmdir("job/d/e")
        if not make_real:
            client.rmdir("job/d")


def test_a_hard_links_final_name_stays_when_the_temporary_one_is_hidden(client: Client) -> None:
    client.mkdir("job")
    client.write("job/a.tmp", b"both")
    client.link("job/a.tmp", "job/v.mkv")
    client.set("job", "status", "completed")
    assert client.list("job") == ["v.mkv"]
    assert client.read("job/v.mkv") == b"both"


# -- lazy directories -------------------------------------------------------------------------------


def test_a_lazy_directory_is_a_directory_in_every_respect_but_on_disk(client: Client) -> None:
    client.mkdir("job", 0o2750)
    client.mkdir("job/d", 0o700)
    found = client.stat("job/d")
    assert stat.S_IMODE(found.mode) == 0o2700  # setgid is inherited
    assert (found.nlink, client.stat("job").nlink) == (2, 3)
    number = client.number("job/d")
    client.fs.setattr(number, Changes(mode=0o711, mtime_ns=5), None)
    client.rename("job/d", "job/e")
    assert client.number("job/e") == number
    assert error_of(lambda: client.mkdir("job/e")) == errno.EEXIST
    assert error_of(lambda: client.unlink("job/e")) == errno.EISDIR
    assert error_of(lambda: client.rmdir("job")) == errno.ENOTEMPTY
    assert tree(client.fs.backing.path) == {}
    client.write("job/e/file")
    on_disk = (client.fs.backing.path / "job/e").stat()
    assert stat.S_IMODE(on_disk.st_mode) == 0o711
    assert client.number("job/e") == number
    assert stat.S_IMODE((client.fs.backing.path / "job").stat().st_mode) == 0o2750


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_is_made_belongs_to_the_caller_and_to_a_setgid_directorys_group(client: Client) -> None:
    caller = Caller(1000, 100, os.getpid())
    client.mkdir("plain", 0o777, caller)
    client.mkdir("shared", 0o2777, caller)
    other = Caller(1001, 101, os.getpid())
    for directory, gid in (("plain", 101), ("shared", 100)):
        client.mkdir(f"{directory}/d", 0o755, other)
        client.fs.release(client.create(f"{directory}/f", 0o6755, other))
        for name in ("d", "f"):
            found = client.stat(f"{directory}/{name}")
            assert (found.uid, found.gid) == (1001, gid)
        assert stat.S_IMODE(client.stat(f"{directory}/f").mode) == 0o6755
    assert (client.fs.backing.path / "shared").stat().st_gid == 100


def test_a_directory_removed_while_it_is_held_is_empty_and_takes_nothing(client: Client) -> None:
    for make_real in (False, True):
        client.mkdir("d")
        if make_real:
            client.write("d/f")
            client.unlink("d/f")
        number = client.number("d")
        handle = client.fs.opendir(number)
        client.rmdir("d")
        assert list(client.fs.readdir(handle, 0)) == []
        found = client.fs.getattr(number).status
        assert found is not None
        assert found.nlink == 0
        assert error_of(lambda: client.fs.mkdir(number, b"x", 0o755, ME)) == errno.ENOENT  # noqa: B023
        assert client.fs.lookup(number, b"x").status is None
        client.fs.releasedir(handle)


def test_directories_are_real_at_once_where_the_configuration_says_so(tmp_path: Path) -> None:
    with opened(tmp_path, make_settings(directories={"lazy": False})) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.mkdir("job/d")
        assert tree(tmp_path) == {"job": None, "job/d": None}
        assert problems(backing) == {}
        client.fs.close()


def test_lazy_holds_outside_of_jobs_too(tmp_path: Path) -> None:
    with opened(tmp_path, make_settings(jobs={"roots": ("*/*",)})) as backing:
        client = Client(backing)
        client.mkdir("Suits")
        assert tree(tmp_path) == {}
        client.write("Suits/notes")
        assert tree(tmp_path) == {"Suits": None, "Suits/notes": b"data"}
        client.fs.close()


def test_directories_exchange_with_all_that_is_in_them(client: Client) -> None:
    client.mkdir("job")
    for name in ("a", "b"):
        client.mkdir(f"job/{name}")
        client.mkdir(f"job/{name}/lazy_{name}")
        client.write(f"job/{name}/{name}.tmp", name.encode())
    numbers = (client.number("job/a"), client.number("job/b"))
    client.set("job/a", "keep", "1")
    client.rename("job/a", "job/b", RENAME_EXCHANGE)
    assert (client.number("job/b"), client.number("job/a")) == numbers
    assert client.list("job/a") == ["b.tmp", "lazy_b"]
    assert client.list("job/b") == ["a.tmp", "lazy_a"]
    assert (client.get("job/a", "keep"), client.get("job/b", "keep")) == ("0", "1")
    (job,) = client.fs.backing.jobs.live()
    entry = client.fs.backing.store.entry(job.number, b"a/b.tmp")
    assert entry is not None
    assert entry.creator.pid == os.getpid()


def test_exchanged_jobs_take_their_status_along(client: Client) -> None:
    for name, status in (("a", "failed"), ("b", "completed")):
        client.mkdir(name)
        client.write(f"{name}/v.mkv")
        client.set(name, "status", status)
    client.rename("a", "b", RENAME_EXCHANGE)
    assert (client.get("a", "status"), client.get("b", "status")) == ("completed", "failed")


# -- files ------------------------------------------------------------------------------------------


def test_an_unlinked_file_works_on_until_its_last_close(client: Client) -> None:
    client.mkdir("job")
    handle = client.create("job/a")
    number = client.number("job/a")
    client.unlink("job/a")
    client.fs.write(handle, 0, b"still here")
    found = client.fs.getattr(number).status
    assert found is not None
    assert (found.size, found.nlink) == (10, 0)
    assert client.fs.read(handle, 6, 10) == b"here"
    client.fs.release(handle)


def test_one_opened_for_writing_can_be_read_by_the_writeback_cache(client: Client) -> None:
    client.write("f", b"12345")
    handle = client.open("f", os.O_WRONLY | os.O_APPEND)
    assert client.fs.read(handle, 0, 10) == b"12345"
    client.fs.write(handle, 0, b"x")  # the kernel says where: O_APPEND must not move it
    assert client.read("f") == b"x2345"
    client.fs.release(handle)


def test_a_read_only_handle_does_not_write(client: Client) -> None:
    client.write("f")
    handle = client.open("f", os.O_RDONLY)
    assert error_of(lambda: client.fs.write(handle, 0, b"x")) == errno.EBADF
    client.fs.release(handle)


def test_sizes_and_times_are_set_by_setattr(client: Client) -> None:
    client.mkdir("job")
    client.write("job/a.tmp", b"12345")
    number = client.number("job/a.tmp")
    answered = client.fs.setattr(number, Changes(size=2, mtime_ns=7, mode=0o600), None)
    assert answered.status is not None
    assert (answered.status.size, answered.status.mtime_ns, stat.S_IMODE(answered.status.mode)) == (
        2,
        7,
        0o600,
    )
    (job,) = client.fs.backing.jobs.live()
    assert client.fs.backing.manifest(job)["entries"]["a.tmp"]["size"] == 2


def test_links_are_links_and_are_not_followed(client: Client) -> None:
    client.mkdir("job")
    client.symlink("/etc/passwd", "job/link.tmp")
    number = client.number("job/link.tmp")
    assert client.fs.readlink(number) == b"/etc/passwd"
    before = Path("/etc/passwd").stat()
    client.fs.setattr(number, Changes(mtime_ns=7), None)
    assert Path("/etc/passwd").stat().st_mtime_ns == before.st_mtime_ns
    client.set("job", "status", "completed")
    assert client.list("job") == []


def test_fifos_are_made_recorded_and_hidden(client: Client) -> None:
    client.mkdir("job")
    answered = client.fs.mknod(*client.parent("job/p.tmp"), stat.S_IFIFO | 0o600, 0, ME)
    assert answered.status is not None
    client.counts[answered.status.ino] += 1
    (job,) = client.fs.backing.jobs.live()
    assert client.fs.backing.manifest(job)["entries"]["p.tmp"]["kind"] == "fifo"
    client.set("job", "status", "completed")
    assert client.list("job") == []


def test_what_vanished_beside_lffs_is_an_error_and_never_another_file(client: Client) -> None:
    client.mkdir("job")
    client.write("job/a", b"recorded")
    number = client.number("job/a")
    path = client.fs.backing.path / "job/a"
    path.unlink()
    assert error_of(lambda: client.fs.getattr(number)) == errno.ESTALE
    path.write_bytes(b"another")
    assert error_of(lambda: client.fs.open(number, os.O_RDONLY, ME)) in (0, errno.ESTALE)
    assert client.read("job/a") == b"another"
    for handle in range(1, 10):
        with contextlib.suppress(KeyError):
            client.fs.release(handle)


def test_what_appears_beside_lffs_is_adopted_when_it_is_met(client: Client) -> None:
    client.mkdir("job")
    client.write("job/known.tmp")
    (client.fs.backing.path / "job/beside.tmp").write_bytes(b"beside")
    (client.fs.backing.path / "other").mkdir()
    (client.fs.backing.path / "other/file.tmp").touch()
    assert client.list("job") == ["beside.tmp", "known.tmp"]
    assert client.get("job", "files") == "2"
    assert client.get("other", "status") == "created"
    client.set("job", "status", "completed")
    assert client.list("job") == ["beside.tmp"]


def test_names_of_any_bytes_are_files(client: Client) -> None:
    client.mkdir(b"\xff\n")
    client.write(b"\xff\n/\xfe .tmp", b"x")
    assert client.read(b"\xff\n/\xfe .tmp") == b"x"
    client.rename(b"\xff\n/\xfe .tmp", b"\xff\n/\x01")
    assert client.fs.backing.manifest(client.fs.backing.jobs.live()[0])["files"] == {"other": ["\x01"]}


def test_a_path_deeper_than_a_system_call_takes_works(client: Client) -> None:
    path = "job"
    client.mkdir(path)
    for _ in range(20):
        path += "/" + "d" * 250
        client.mkdir(path)
    client.write(f"{path}/a.tmp", b"deep")
    assert len(path) > 4096
    assert client.read(f"{path}/a.tmp") == b"deep"
    client.set("job", "status", "completed")
    assert client.list("job") == []
    assert client.fs.backing.directories.hidden(b"job")
    client.set("job", "status", "failed")
    assert client.read(f"{path}/a.tmp") == b"deep"
    client.unlink(f"{path}/a.tmp")
    while path:  # rmtree can't reach this deep
        client.rmdir(path)
        path = above(path)


def test_fsync_is_work_for_a_thread(client: Client) -> None:
    client.mkdir("d")
    handle = client.create("d/f")
    for datasync in (False, True):
        carried_out(client.fs.fsync(handle, datasync))
    client.fs.release(handle)
    listing = client.fs.opendir(client.number("d"))
    carried_out(client.fs.fsyncdir(listing))
    client.fs.releasedir(listing)


def test_statfs_tells_the_backing_filesystems_figures(client: Client) -> None:
    assert client.fs.statfs().f_namemax == os.statvfs(client.fs.backing.path).f_namemax


def test_a_rename_with_unknown_flags_is_einval(client: Client) -> None:
    client.write("f")
    assert error_of(lambda: client.rename("f", "g", 4)) == errno.EINVAL
    assert error_of(lambda: client.rename("f", "g", RENAME_EXCHANGE)) == errno.ENOENT
    assert error_of(lambda: client.rename("nothing", "g")) == errno.ENOENT
