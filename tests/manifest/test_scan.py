"""What a kill lost is found again, what appeared beside lffs is adopted, and nothing known is forgotten."""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lffs import syscalls
from lffs.backing import Backing
from lffs.directories import identity_of
from lffs.errors import StoreInUseError
from lffs.handles import DirectoryHandles
from lffs.jobs import JobRoots
from lffs.manifest.records import Creator, Entry, Job
from lffs.manifest.scan import walk_below, walk_jobs
from lffs.model import EntryKind, EntryOrigin, FileType, JobStatus
from tests.stores import (
    NOW_NS,
    Client,
    fast_directory,
    fill,
    make_entry,
    make_identity,
    make_room,
    make_settings,
    opened,
    problems,
    tree,
    until_full,
    until_killed,
)

NAMES = ["a", "b", "c.tmp", "d.mkv", "é"]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join)
# A name below a file of another name of the list is left out when the tree is made.
trees = st.dictionaries(paths, st.none() | st.binary(max_size=4), max_size=12)


def make_tree(top: Path, wanted: dict[str, bytes | None]) -> None:
    """None is a directory; what lies in the way of another is left out."""
    for path, content in sorted(wanted.items(), key=lambda item: item[0].count("/")):
        whole = top / path
        try:
            if content is None:
                whole.mkdir(parents=True, exist_ok=True)
            else:
                whole.parent.mkdir(parents=True, exist_ok=True)
                whole.write_bytes(content)
        except OSError:
            continue


def walked(top: Path, roots: list[str]) -> dict[str, set[str]]:
    descriptor = os.open(top, syscalls.DIRECTORY_FLAGS)
    handles = DirectoryHandles(descriptor, limit=2)
    try:
        return {
            os.fsdecode(job.path): set(map(os.fsdecode, (*job.files, *job.directories)))
            for job in walk_jobs(handles, JobRoots(roots))
        }
    finally:
        handles.close()
        os.close(descriptor)


@given(
    wanted=trees,
    roots=st.lists(st.sampled_from(["*", "*/*", "a", "a/*", "b/c.tmp"]), min_size=1, unique=True),
)
@settings(deadline=None)
def test_a_walk_finds_every_job_with_all_that_is_below(
    wanted: dict[str, bytes | None], roots: list[str]
) -> None:
    with fast_directory() as top:
        make_tree(top, wanted)
        on_disk = tree(top)
        expected: dict[str, set[str]] = {}
        for path in sorted(on_disk):
            job = JobRoots(roots).job_path(path.encode())
            if job is not None and on_disk[job.decode()] is None:
                name = job.decode()
                below = expected.setdefault(name, set())
                if path != name:
                    below.add(path[len(name) + 1 :])
        assert walked(top, roots) == expected


def test_a_walk_follows_no_link_and_stays_out_of_lffs_own(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    top = tmp_path / "top"
    for path in (".lffs/trash", ".hidden", "lost+found", "job"):
        (top / path).mkdir(parents=True)
    (top / "job/link").symlink_to(tmp_path / "outside")
    (top / "link").symlink_to(tmp_path / "outside")
    assert walked(top, ["*"]) == {"job": {"link"}}


def test_what_is_below_one_directory_is_walked_by_paths_below_it(tmp_path: Path) -> None:
    make_tree(tmp_path, {"a/b/c": b"", "a/d": b"", "e": b""})
    descriptor = os.open(tmp_path, syscalls.DIRECTORY_FLAGS)
    handles = DirectoryHandles(descriptor)
    assert {path for path, _ in walk_below(handles, b"a")} == {b"b", b"b/c", b"d"}
    assert {path for path, _ in walk_below(handles, b"")} == {b"a", b"a/b", b"a/b/c", b"a/d", b"e"}
    handles.close()
    os.close(descriptor)


# -- reconcile and compare --------------------------------------------------------------------------


def job_of(backing: Backing, path: bytes = b"job") -> Job:
    job = backing.jobs.at(path)
    assert job is not None
    return job


DAMAGES = ["forget entry", "invent entry", "swap identity", "forget directory", "invent directory"]
DAMAGES += ["forget job", "invent job"]
numbers = st.integers(0, 10**6)
damages = st.lists(
    st.tuples(
        st.sampled_from(DAMAGES),
        numbers,
    ),
    max_size=8,
)


def damage(backing: Backing, what: str, number: int) -> None:
    """Make the records wrong, as a kill, a full disk or someone beside lffs would."""
    store = backing.store
    jobs = store.jobs()
    if what == "invent job":
        if backing.jobs.at(b"gone%d" % number) is None:
            backing.jobs.begin(b"gone%d" % number, NOW_NS, make_identity(number))
        return
    if not jobs:
        return
    job = jobs[number % len(jobs)]
    entries, directories = store.entries(job.number), store.directories(job.path)
    match what:
        case "forget job":
            backing.jobs.end(job_of(backing, job.path), NOW_NS)
        case "invent entry":
            store.add_entry(make_entry(b"phantom%d" % number, job=job.number))
        case "invent directory":
            status = syscalls.Stat(mode=0o40755, ino=number + 1, birth_ns=1)
            backing.directories.record_real(job.path + b"/phantom%d" % number, status)
        case "forget entry" if entries:
            store.remove_entry(job.number, entries[number % len(entries)].path)
        case "swap identity" if entries:
            entry = entries[number % len(entries)]
            store.add_entry(dataclasses.replace(entry, identity=make_identity(number + 1)))
        case "forget directory" if directories:
            store.remove_directory(directories[number % len(directories)].path)


@given(wanted=trees, damage_done=damages, beside=trees)
@settings(deadline=None, max_examples=100)
def test_whatever_was_damaged_reconciling_leaves_nothing_to_find(
    wanted: dict[str, bytes | None],
    damage_done: list[tuple[str, int]],
    beside: dict[str, bytes | None],
) -> None:
    with fast_directory() as top:
        make_tree(top, wanted)
        with opened(top) as backing:
            assert problems(backing) == {}
            for what, number in damage_done:
                damage(backing, what, number)
            make_tree(top, beside)
            backing.handles.forget(b"")
            before = tree(top)
            backing.reconcile()
            assert problems(backing) == {}
            assert backing.reconcile() == 0
            assert tree(top) == before  # the disk is the truth
            for job in backing.jobs.live():
                assert {entry.path.decode() for entry in backing.store.entries(job.number)} == {
                    path[len(job.id) + 1 :]
                    for path, content in before.items()
                    if content is not None and path.startswith(job.id + "/")
                }


@given(
    wanted=trees,
    what=st.sampled_from(["forget entry", "invent entry", "swap identity", "invent directory"]),
    number=numbers,
)
@settings(deadline=None)
def test_whatever_differs_is_said(wanted: dict[str, bytes | None], what: str, number: int) -> None:
    with fast_directory() as top:
        make_tree(top, wanted)
        with opened(top) as backing:
            before = {
                (job.path, entry.path, entry.identity)
                for job in backing.jobs.live()
                for entry in backing.store.entries(job.number)
            } | {(one.path, b"", make_identity()) for one in backing.store.directories()}
            damage(backing, what, number)
            after = {
                (job.path, entry.path, entry.identity)
                for job in backing.jobs.live()
                for entry in backing.store.entries(job.number)
            } | {(one.path, b"", make_identity()) for one in backing.store.directories()}
            assert (problems(backing) != {}) == (before != after)


def test_each_difference_has_its_list(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        client = Client(backing)
        client.mkdir("job")
        for name in ("forgotten", "gone", "replaced", "hidden.tmp"):
            client.write(f"job/{name}")
        client.set("job", "status", "completed")
        number = job_of(backing).number
        backing.store.remove_entry(number, b"forgotten")
        (tmp_path / "job/gone").unlink()
        (tmp_path / "new").touch()
        (tmp_path / "new").replace(tmp_path / "job/replaced")
        (tmp_path / "job/beside").mkdir()
        (tmp_path / "other").mkdir()
        (tmp_path / f".lffs/trash/{number}/stray").touch()
        found = problems(backing)
        assert found == {
            "missing": ["job/beside", "job/forgotten", "other"],
            "phantom": ["job/gone"],
            "corrupt": ["job/replaced: another file than the recorded one"],
            "unowned": [f".lffs/trash/{number}/stray"],
        }
        (tmp_path / f".lffs/trash/{number}/hidden.tmp").unlink()
        assert any("hidden.tmp" in text for text in problems(backing)["corrupt"])


# -- origins ----------------------------------------------------------------------------------------


def entry_of(backing: Backing, path: bytes, job: bytes = b"job") -> Entry:
    entry = backing.store.entry(job_of(backing, job).number, path)
    assert entry is not None
    return entry


def test_what_is_there_at_the_first_mount_is_adopted_in_a_created_job(tmp_path: Path) -> None:
    make_tree(tmp_path, {"job/a.tmp": b"1", "empty": None})
    with opened(tmp_path) as backing:
        job = job_of(backing)
        assert (job.status, job.adopted, entry_of(backing, b"a.tmp").origin) == (
            JobStatus.CREATED, True, EntryOrigin.ADOPTED,
        )  # fmt: skip
        assert not job_of(backing, b"empty").adopted
        client = Client(backing)
        client.set("job", "status", "completed")
        assert client.list("job") == ["a.tmp"]


def test_the_same_after_the_first_mount_was_killed(tmp_path: Path) -> None:
    make_tree(tmp_path, {"job/a.tmp": b"1"})
    with until_killed(tmp_path):
        pass
    with opened(tmp_path) as backing:
        assert entry_of(backing, b"a.tmp").origin is EntryOrigin.ADOPTED


def killed_with_an_unrecorded_file(directory: Path, status: str | None) -> None:
    with until_killed(directory) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.write("job/known.tmp")
        if status:
            client.set("job", "status", status)
        backing.store.commit()
        client.fs.close()
    (directory / "job/found.tmp").write_bytes(b"found")


@pytest.mark.parametrize(
    ("status", "origin"),
    [
        (None, EntryOrigin.RECORDED),
        ("running", EntryOrigin.RECORDED),
        ("completed", EntryOrigin.ADOPTED),
        ("failed", EntryOrigin.ADOPTED),
    ],
)
def test_what_a_kill_lost_is_ordinary_in_a_job_that_was_active(
    tmp_path: Path, status: str | None, origin: EntryOrigin
) -> None:
    killed_with_an_unrecorded_file(tmp_path, status)
    with opened(tmp_path) as backing:
        found = entry_of(backing, b"found.tmp")
        assert (found.origin, found.type, found.size) == (origin, FileType.TEMP_VIDEO, 5)


def test_a_clean_end_needs_no_scan_and_an_unclean_one_does(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.write("job/a")
        client.fs.close()
    (tmp_path / "job/beside").touch()
    with until_killed(tmp_path) as backing:
        assert backing.store.entry(job_of(backing).number, b"beside") is None
    with opened(tmp_path) as backing:
        assert entry_of(backing, b"beside").path == b"beside"


WITHOUT_BACKUPS = make_settings(manifest={"backups": 0})


def test_a_lost_store_is_kept_and_everything_is_marked_rebuilt(tmp_path: Path) -> None:
    with opened(tmp_path, WITHOUT_BACKUPS) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.write("job/a.tmp")
        client.fs.close()
    (tmp_path / ".lffs/manifest.db").write_bytes(b"rubbish" * 1000)
    with opened(tmp_path, WITHOUT_BACKUPS) as backing:
        assert entry_of(backing, b"a.tmp").origin is EntryOrigin.REBUILT
        client = Client(backing)
        client.set("job", "status", "completed")
        assert client.list("job") == ["a.tmp"]
        client.fs.close()
    (kept,) = (tmp_path / ".lffs/damaged").glob("*/manifest.db")
    assert kept.read_bytes() == b"rubbish" * 1000


def test_a_store_whose_pages_are_damaged_is_rebuilt_too(tmp_path: Path) -> None:
    """The header may be whole where the rest is not."""
    with opened(tmp_path, WITHOUT_BACKUPS) as backing:
        client = Client(backing)
        client.mkdir("job")
        for number in range(200):
            client.write(f"job/{number}.tmp")
        client.fs.close()
    path = tmp_path / ".lffs/manifest.db"
    content = bytearray(path.read_bytes())
    for start in range(8192, len(content), 4096):
        content[start : start + 2048] = os.urandom(2048)
    path.write_bytes(bytes(content))
    with opened(tmp_path, WITHOUT_BACKUPS) as backing:
        assert entry_of(backing, b"7.tmp").origin is EntryOrigin.REBUILT
        assert problems(backing) == {}


def test_a_renamed_file_keeps_who_made_it_and_when(tmp_path: Path) -> None:
    """The rename may be younger than the last commit."""
    with until_killed(tmp_path) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.write("job/draft.tmp")
        made = entry_of(backing, b"draft.tmp")
        backing.store.commit()
        client.rename("job/draft.tmp", "job/v.mkv")
        client.fs.close()
    with opened(tmp_path) as backing:
        found = entry_of(backing, b"v.mkv")
        assert (found.creator, found.created_ns, found.origin) == (made.creator, made.created_ns, made.origin)
        assert found.type is FileType.FINAL_VIDEO
        assert backing.store.entry(job_of(backing).number, b"draft.tmp") is None
        assert found.creator.pid == os.getpid()


def test_a_file_replaced_beside_lffs_is_another_file(tmp_path: Path) -> None:
    with until_killed(tmp_path) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.write("job/a.tmp")
        client.set("job", "status", "failed")
        client.fs.close()
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "new").replace(tmp_path / "job/a.tmp")
    with opened(tmp_path) as backing:
        found = entry_of(backing, b"a.tmp")
        assert found.identity == identity_of(syscalls.statx(backing.handles.open(b"job"), b"a.tmp"))
        assert found.origin is EntryOrigin.ADOPTED


def test_a_job_that_was_moved_beside_lffs_takes_its_record_along(tmp_path: Path) -> None:
    with until_killed(tmp_path) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.write("job/d.tmp")
        client.mkdir("job/lazy")
        client.set("job", "status", "failed")
        number = job_of(backing).number
        client.fs.close()
    (tmp_path / "job").rename(tmp_path / "moved")
    with opened(tmp_path) as backing:
        job = job_of(backing, b"moved")
        assert (job.number, job.status) == (number, JobStatus.FAILED)
        assert entry_of(backing, b"d.tmp", b"moved").origin is EntryOrigin.RECORDED
        assert backing.directories.lazy_names(b"moved") == {b"lazy"}
        assert backing.jobs.at(b"job") is None


def test_a_job_that_was_removed_beside_lffs_ends_with_its_lazy_directories(tmp_path: Path) -> None:
    with until_killed(tmp_path) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.write("job/a")
        client.mkdir("job/lazy")
        client.fs.close()
    shutil.rmtree(tmp_path / "job")
    with opened(tmp_path) as backing:
        assert backing.jobs.live() == []
        client = Client(backing)
        client.mkdir("job")
        assert client.tree() == {"job": None}
        assert len(backing.store.jobs(ended=True)) == 2


def test_every_kind_of_file_is_known_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job/link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "job/fifo")
    (tmp_path / "job/file").touch()
    with opened(tmp_path) as backing:
        kinds = {entry.path: entry.kind for entry in backing.store.entries(job_of(backing).number)}
    assert kinds == {b"link": EntryKind.SYMLINK, b"fifo": EntryKind.FIFO, b"file": EntryKind.FILE}


def test_the_owner_stands_for_whoever_made_what_was_found(tmp_path: Path) -> None:
    make_tree(tmp_path, {"job/a": b""})
    status = (tmp_path / "job/a").stat()
    with opened(tmp_path) as backing:
        creator = entry_of(backing, b"a").creator
        assert creator == Creator(uid=status.st_uid, gid=status.st_gid)


def test_two_can_not_have_one_store(tmp_path: Path) -> None:
    in_use = pytest.raises(StoreInUseError, match=f"process {os.getpid()}")
    with opened(tmp_path), in_use, opened(tmp_path):
        pass


def test_with_room_again_a_scan_finds_what_a_full_disk_lost(tmp_path: Path) -> None:
    with opened(tmp_path, make_settings()) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.write("job/first")
        backing.store.commit()
        fill(backing.store)
        made = ["first"]
        while not backing.store.lost_writes:
            made.append(f"{len(made)}" + "x" * 200)
            client.write(f"job/{made[-1]}")  # the program never hears of it
        assert client.list("job") == sorted(made)
        make_room(backing.store)
        backing.store.lost_writes = False
        backing.reconcile()
        assert problems(backing) == {}
        assert {entry.origin for entry in backing.store.entries(job_of(backing).number)} == {
            EntryOrigin.RECORDED
        }


def test_a_directory_that_could_not_be_recorded_was_not_made(tmp_path: Path) -> None:
    """A lazy one is in the store or nowhere; mkdir said that the disk is full."""
    with opened(tmp_path) as backing:
        client = Client(backing)
        fill(backing.store)
        number = until_full(lambda number: client.mkdir(f"{number}" + "x" * 200))
        shown = client.list()
        make_room(backing.store)
        assert [job.id for job in backing.jobs.live()] == shown
        assert len(shown) == number - 1
        client.mkdir("later")
        client.write("later/a")
        client.fs.close()
    with opened(tmp_path) as backing:
        assert Client(backing).list() == sorted([*shown, "later_processing"])
        assert problems(backing) == {}
