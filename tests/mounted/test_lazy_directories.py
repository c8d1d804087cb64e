"""Directories that exist on the mount at once and in the backing store from their first file on."""

import errno
import itertools
import os
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lffs.syscalls import RENAME_EXCHANGE, renameat2
from tests.harness import Mounted
from tests.mounted.callers import as_user, refusal

pytestmark = pytest.mark.mounted

ALICE, STAFF = 4001, 5001

DECLARED = """
directories:
  types:
    short_form: {slides: slides, shorts: out/shorts}
    long_form: {long_form: long, shorts: out/shorts}
"""

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def shared(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    return make_shared_mount()


@pytest.fixture(scope="module")
def declaring(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    return make_shared_mount(DECLARED)


@pytest.fixture
def job() -> str:
    """The name of a job that this test has for itself."""
    return f"job{next(_numbers)}"


def below(mounted: Mounted, job: str) -> set[str]:
    """Return what lies in the backing store at and below a job."""
    return {path for path in mounted.in_backing() if path == job or path.startswith(job + "/")}


def make(path: Path) -> None:
    path.write_text("x")


def bind(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # an address holds 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


FIRST_ENTRIES: dict[str, Callable[[Path], object]] = {
    "file": make,
    "symlink": lambda path: path.symlink_to("nowhere"),
    "fifo": os.mkfifo,
    "socket": bind,
    "node": os.mknod,
}

# -- existing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", ".outside/"])
def test_a_directory_exists_at_once_and_not_in_the_backing_store(
    shared: Mounted, job: str, place: str
) -> None:
    top = shared.path / (place + job)
    (top / "slides" / "deep").mkdir(parents=True)
    assert (top / "slides" / "deep").is_dir()
    assert os.listdir(top) == ["slides"]
    assert os.listdir(top / "slides") == ["deep"]
    assert os.listdir(top / "slides" / "deep") == []
    assert below(shared, place + job) == set()


@pytest.mark.parametrize("place", ["", ".outside/"])
@pytest.mark.parametrize("kind", FIRST_ENTRIES)
def test_the_first_entry_makes_it_and_its_parents_and_nothing_else(
    shared: Mounted, job: str, kind: str, place: str
) -> None:
    job = place + job + kind
    top = shared.path / job
    (top / "slides" / "deep").mkdir(parents=True)
    (top / "slides" / "beside").mkdir()
    (top / "never").mkdir()
    FIRST_ENTRIES[kind](top / "slides" / "deep" / "first")
    assert below(shared, job) == {job, f"{job}/slides", f"{job}/slides/deep", f"{job}/slides/deep/first"}
    assert sorted(os.listdir(top)) == ["never", "slides"]
    assert sorted(os.listdir(top / "slides")) == ["beside", "deep"]


def test_a_hard_link_makes_it(shared: Mounted, job: str) -> None:
    top = shared.path / job
    (top / "lazy").mkdir(parents=True)
    make(top / "file")
    os.link(top / "file", top / "lazy" / "link")
    assert below(shared, job) == {job, f"{job}/file", f"{job}/lazy", f"{job}/lazy/link"}


def test_a_file_or_real_directory_renamed_into_it_makes_it(shared: Mounted, job: str) -> None:
    top = shared.path / job
    for name in ("lazy1", "lazy2", "real"):
        (top / name).mkdir(parents=True)
    make(top / "file")
    make(top / "real" / "x")
    os.rename(top / "file", top / "lazy1" / "file")
    os.rename(top / "real", top / "lazy2" / "real")
    assert below(shared, job) == {
        job, f"{job}/lazy1", f"{job}/lazy1/file", f"{job}/lazy2", f"{job}/lazy2/real", f"{job}/lazy2/real/x",
    }  # fmt: skip


def test_a_lazy_directory_renamed_into_it_does_not(shared: Mounted, job: str) -> None:
    top = shared.path / job
    (top / "one" / "below").mkdir(parents=True)
    (top / "two").mkdir()
    os.rename(top / "one", top / "two" / "one")
    assert (top / "two" / "one" / "below").is_dir()
    assert not (top / "one").exists()
    assert below(shared, job) == set()
    make(top / "two" / "one" / "below" / "x")
    assert f"{job}/two/one/below/x" in below(shared, job)


def test_looking_and_changing_attributes_do_not_make_it(shared: Mounted, job: str) -> None:
    top = shared.path / job
    lazy = top / "lazy"
    lazy.mkdir(parents=True)
    lazy.chmod(0o2750)
    os.chown(lazy, ALICE, STAFF)
    os.utime(lazy, ns=(5, 7))
    os.setxattr(lazy, "user.lffs.keep", b"1")
    os.listxattr(lazy)
    assert refusal(lambda: os.getxattr(lazy, "user.note")) == errno.ENODATA
    assert refusal(lambda: os.removexattr(lazy, "user.note")) == errno.ENODATA
    assert refusal((lazy / "none").stat) == errno.ENOENT
    descriptor = os.open(lazy, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    shutil.copytree(top, shared.path / f"{job}-copy")
    os.sync()
    assert below(shared, job) == below(shared, f"{job}-copy") == set()


def test_an_xattr_that_it_cannot_keep_makes_it(shared: Mounted, job: str) -> None:
    top = shared.path / job
    for name in ("note", "acl"):
        (top / name).mkdir(parents=True)
    os.setxattr(top / "note", "user.note", b"x")
    subprocess.run(["setfacl", "-m", f"u:{ALICE}:rwx", top / "acl"], check=True)
    assert below(shared, job) == {job, f"{job}/note", f"{job}/acl"}
    assert os.getxattr(shared.backing / job / "note", "user.note") == b"x"


def test_below_a_default_acl_it_is_made_at_once(shared: Mounted, job: str) -> None:
    """What is inherited only the backing filesystem knows to apply."""
    top = shared.path / job
    top.mkdir()
    subprocess.run(["setfacl", "-m", f"d:u:{ALICE}:rwx", top], check=True)
    (top / "a" / "b").mkdir(parents=True)
    assert below(shared, job) == {job, f"{job}/a", f"{job}/a/b"}
    assert "system.posix_acl_default" in os.listxattr(top / "a" / "b")


def test_an_exchange_makes_it_and_takes_along_what_is_lazy_below(shared: Mounted, job: str) -> None:
    top = shared.path / job
    (top / "one" / "lazy").mkdir(parents=True)
    (top / "two" / "other").mkdir(parents=True)
    make(top / "two" / "other" / "x")
    renameat2(-100, os.fsencode(top / "one"), -100, os.fsencode(top / "two"), RENAME_EXCHANGE)
    assert os.listdir(top / "one") == ["other"]
    assert os.listdir(top / "two") == ["lazy"]
    assert f"{job}/two/lazy" not in below(shared, job)
    assert shared.states(job) == {"one/other/x": "present"}


def test_one_that_vanished_and_came_back_has_the_attributes_it_had(shared: Mounted, job: str) -> None:
    """It is lazy again, and yet has what once made it be made for real."""
    top = shared.path / job
    (top / "empty").mkdir(parents=True)
    os.setxattr(top / "empty", "user.note", b"x")
    os.setxattr(top / "empty", "user.gone", b"x")
    subprocess.run(["setfacl", "-m", f"u:{ALICE}:rwx,d:u:{ALICE}:rwx", top / "empty"], check=True)
    make(top / "temp_a.wav")
    mode = (top / "empty").stat().st_mode
    shared.set_status(job, "completed")
    assert not (top / "empty").exists()
    shared.set_status(job, "running")
    assert f"{job}/empty" not in below(shared, job)
    assert (top / "empty").stat().st_mode == mode
    names = ["system.posix_acl_access", "system.posix_acl_default", "user.gone", "user.note"]
    assert sorted(os.listxattr(top / "empty")) == names
    assert os.getxattr(top / "empty", "user.note") == b"x"
    os.removexattr(top / "empty", "user.gone")
    assert refusal(lambda: os.removexattr(top / "empty", "user.none")) == errno.ENODATA
    (top / "empty" / "below").mkdir()
    assert "system.posix_acl_default" in os.listxattr(top / "empty" / "below")
    names.remove("user.gone")
    assert sorted(os.listxattr(shared.backing / job / "empty")) == names


# -- attributes ---------------------------------------------------------------------------------


def test_what_was_set_on_it_is_on_the_real_one(shared: Mounted, job: str) -> None:
    top = shared.path / job
    lazy = top / "lazy"
    lazy.mkdir(parents=True)
    os.chown(lazy, ALICE, STAFF)
    lazy.chmod(0o3751)
    make(lazy / "x")
    real = os.stat(shared.backing / job / "lazy")
    assert (stat.S_IMODE(real.st_mode), real.st_uid, real.st_gid) == (0o3751, ALICE, STAFF)


def test_it_belongs_to_its_maker_whoever_makes_the_first_file(shared: Mounted, job: str) -> None:
    top = shared.path / job
    top.mkdir()
    top.chmod(0o777)
    as_user(ALICE, STAFF, lambda here: (here / "theirs" / "below").mkdir(parents=True), top)
    make(top / "theirs" / "below" / "roots")
    for path in ("theirs", "theirs/below"):
        found = os.stat(shared.backing / job / path)
        assert (found.st_uid, found.st_gid) == (ALICE, STAFF)
    assert os.stat(top / "theirs/below/roots").st_uid == 0


def test_permissions_on_it_hold(shared: Mounted, job: str) -> None:
    top = shared.path / job
    top.mkdir()
    (top / "closed").mkdir(0o700)
    (top / "open").mkdir()
    (top / "open").chmod(0o777)

    def attack(here: Path) -> list[int]:
        return [
            refusal(lambda: make(here / "closed" / "x")),
            refusal((here / "closed" / "x").mkdir),
            refusal(lambda: os.listdir(here / "closed")),
            refusal((here / "open").rmdir),
            refusal(lambda: (here / "open").chmod(0o700)),
            refusal(lambda: os.rename(here / "open", here / "stolen")),
            refusal(lambda: make(here / "open" / "x")),
        ]

    assert as_user(ALICE, STAFF, attack, top) == [
        errno.EACCES, errno.EACCES, errno.EACCES, errno.EACCES, errno.EPERM, errno.EACCES, 0,
    ]  # fmt: skip


def test_its_number_stays_when_it_is_made_for_real(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    lazy = mounted.path / "job" / "a" / "b"
    lazy.mkdir(parents=True)
    before = [lazy.stat().st_ino, lazy.parent.stat().st_ino, (mounted.path / "job").stat().st_ino]

    def numbers() -> list[int]:
        return [path.stat().st_ino for path in (lazy, lazy.parent, mounted.path / "job")]

    mounted.remount()
    assert numbers() == before
    make(lazy / "x")
    assert numbers() == before
    assert {entry.name: entry.inode() for entry in os.scandir(lazy.parent)} == {"b": before[0]}
    mounted.remount()
    assert numbers() == before
    mounted.kill_and_remount()
    assert numbers() == before
    os.rename(lazy, lazy.with_name("c"))
    mounted.remount()
    assert lazy.with_name("c").stat().st_ino == before[0]


@pytest.mark.parametrize("end", [Mounted.remount, Mounted.kill_and_remount], ids=["cleanly", "killed"])
def test_it_survives_the_end_of_the_daemon(
    make_mount: Callable[..., Mounted], end: Callable[[Mounted], Mounted]
) -> None:
    """The lazy ones in a job, a job itself and those outside, with all that stat says."""
    mounted = make_mount()
    names = ("job", "job/a", "job/a/b", ".outside", ".outside/c", "empty job")
    paths = [mounted.path / name for name in names]
    for path in paths:
        path.mkdir()
    os.chown(paths[2], ALICE, STAFF)
    paths[2].chmod(0o2711)
    os.utime(paths[2], ns=(1_000_000_001, 1_600_000_000_123_456_789))
    before = [os.stat(path) for path in paths]
    end(mounted)
    for path, old in zip(paths, before, strict=True):
        new = os.stat(path)
        assert (new.st_ino, new.st_mode, new.st_uid, new.st_gid, new.st_nlink) == (
            old.st_ino, old.st_mode, old.st_uid, old.st_gid, old.st_nlink
        )  # fmt: skip
        assert (new.st_atime_ns, new.st_mtime_ns, new.st_ctime_ns) == (
            old.st_atime_ns, old.st_mtime_ns, old.st_ctime_ns
        )  # fmt: skip
    assert mounted.in_backing() == set()


def test_a_removed_one_stays_removed(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    for name in ("a", "b", "c"):
        (mounted.path / "job" / name).mkdir(parents=True)
    (mounted.path / "job" / "a").rmdir()
    os.rename(mounted.path / "job" / "b", mounted.path / "job" / "z")
    make(mounted.path / "job" / "c" / "x")
    shutil.rmtree(mounted.path / "job" / "c")
    mounted.kill_and_remount()
    assert os.listdir(mounted.path / "job") == ["z"]
    assert mounted.in_backing() == {"job"}


def test_making_it_for_real_changes_no_parents_times(shared: Mounted, job: str) -> None:
    """The parent changed when mkdir said so, not when the first file came."""
    top = shared.path / job
    (top / "lazy").mkdir(parents=True)
    make(top / "file")
    os.utime(top, ns=(5, 7))
    make(top / "lazy" / "x")
    assert os.stat(top).st_mtime_ns == 7
    assert os.stat(shared.backing / job).st_mtime_ns == 7


def test_link_counts_of_parents_count_it_before_and_after(shared: Mounted, job: str) -> None:
    top = shared.path / job
    for name in ("a", "b", "c"):
        (top / name).mkdir(parents=True)
    counts = [os.stat(top).st_nlink]
    make(top / "a" / "x")
    counts.append(os.stat(top).st_nlink)
    make(top / "b" / "x")
    counts.append(os.stat(top).st_nlink)
    (top / "c").rmdir()
    counts.append(os.stat(top).st_nlink)
    shutil.rmtree(top / "b")
    counts.append(os.stat(top).st_nlink)
    assert counts == [5, 5, 5, 4, 3]


def test_roots_link_count_is_that_of_a_plain_directory(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    assert os.stat(mounted.path).st_nlink == 2
    (mounted.path / "lazy").mkdir()
    make(mounted.path / "file")
    assert os.stat(mounted.path).st_nlink == 3
    make(mounted.path / "lazy" / "x")
    assert os.stat(mounted.path).st_nlink == 3


def test_a_name_of_255_bytes_is_the_longest(shared: Mounted, job: str) -> None:
    top = shared.path / job
    top.mkdir()
    (top / ("n" * 255)).mkdir()
    assert refusal((top / ("n" * 256)).mkdir) == errno.ENAMETOOLONG
    assert refusal((top / ("ü" * 128)).mkdir) == errno.ENAMETOOLONG
    make(top / ("n" * 255) / ("n" * 255))


def test_mkdir_of_what_is_there_is_eexist(shared: Mounted, job: str) -> None:
    top = shared.path / job
    (top / "lazy").mkdir(parents=True)
    (top / "real").mkdir()
    make(top / "real" / "file")
    (top / "link").symlink_to("none")
    for path in ("lazy", "real", "real/file", "link", ""):
        assert refusal((top / path).mkdir) == errno.EEXIST
    for action in (
        lambda: os.open(top / "lazy", os.O_CREAT | os.O_EXCL),
        lambda: os.mkfifo(top / "lazy"),
        lambda: os.symlink("x", top / "lazy"),
        lambda: os.link(top / "real" / "file", top / "lazy"),
    ):
        assert refusal(action) == errno.EEXIST
    assert refusal(lambda: os.open(top / "lazy", os.O_CREAT | os.O_WRONLY)) == errno.EISDIR


def test_it_is_removed_only_when_empty(shared: Mounted, job: str) -> None:
    top = shared.path / job
    (top / "a" / "b").mkdir(parents=True)
    assert refusal((top / "a").rmdir) == errno.ENOTEMPTY
    assert refusal(lambda: os.unlink(top / "a")) == errno.EISDIR
    (top / "a" / "b").rmdir()
    (top / "a").rmdir()
    assert os.listdir(top) == []
    (top / "a").mkdir()
    assert os.listdir(top / "a") == []


def test_a_real_directory_with_only_lazy_ones_in_it_is_not_empty(shared: Mounted, job: str) -> None:
    top = shared.path / job
    (top / "real" / "lazy").mkdir(parents=True)
    make(top / "real" / "x")
    (top / "real" / "x").unlink()
    assert refusal((top / "real").rmdir) == errno.ENOTEMPTY
    (top / "other").mkdir()
    assert refusal(lambda: os.rename(top / "other", top / "real")) == errno.ENOTEMPTY
    (top / "real" / "lazy").rmdir()
    (top / "real").rmdir()


# -- held while it changes ----------------------------------------------------------------------


def test_a_handle_on_it_lives_through_its_making(shared: Mounted, job: str) -> None:
    top = shared.path / job
    (top / "lazy").mkdir(parents=True)
    held = os.open(top / "lazy", os.O_RDONLY)
    try:
        number = os.fstat(held).st_ino
        os.close(os.open("by handle", os.O_CREAT | os.O_WRONLY, dir_fd=held))
        os.mkdir("sub", dir_fd=held)
        assert os.fstat(held).st_ino == number
        assert sorted(os.listdir(held)) == ["by handle", "sub"]
        os.rename(top / "lazy", top / "renamed")
        os.rename("by handle", "moved", src_dir_fd=held, dst_dir_fd=held)
        assert (top / "renamed" / "moved").exists()
    finally:
        os.close(held)


def test_two_writers_make_it_together(shared: Mounted, job: str) -> None:
    top = shared.path / job
    chain = top.joinpath(*"abcdefgh")
    chain.mkdir(parents=True)
    barrier = threading.Barrier(4)
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            barrier.wait()
            make(chain / f"file{number}")
        except BaseException as exc:
            failed.append(exc)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failed == []
    assert sorted(os.listdir(chain)) == [f"file{number}" for number in range(4)]


# -- beside lffs --------------------------------------------------------------------------------


def test_a_real_directory_made_beside_lffs_wins(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    for name in ("met", "scanned", "first file"):
        (mounted.path / "job" / name / "below").mkdir(parents=True)
    make(mounted.path / "job" / "x")
    before = (mounted.path / "job" / "met").stat().st_ino
    for name in ("met", "scanned", "first file"):
        beside = mounted.backing / "job" / name
        beside.mkdir()
        beside.chmod(0o711)
        make(beside / "theirs")
    make(mounted.path / "job" / "first file" / "ours")
    mounted.reload()
    for name in ("met", "first file"):
        found = mounted.path / "job" / name
        assert stat.S_IMODE(found.stat().st_mode) == 0o711
        assert {"below", "theirs"} <= set(os.listdir(found))
    assert (mounted.path / "job" / "met").stat().st_ino == before
    mounted.remount()
    assert sorted(os.listdir(mounted.path / "job" / "scanned")) == ["below", "theirs"]
    make(mounted.path / "job" / "scanned" / "below" / "x")
    assert "job/scanned/below/x" in mounted.in_backing()


def test_a_file_made_beside_lffs_in_its_place_wins(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    (mounted.path / "job" / "lazy" / "below").mkdir(parents=True)
    make(mounted.path / "job" / "x")
    make(mounted.backing / "job" / "lazy")
    mounted.remount()
    assert (mounted.path / "job" / "lazy").read_text() == "x"
    assert sorted(os.listdir(mounted.path / "job")) == ["lazy", "x"]
    assert refusal((mounted.path / "job" / "lazy" / "below").stat) == errno.ENOTDIR
    (mounted.path / "job" / "lazy").unlink()


# -- configuration ------------------------------------------------------------------------------


def test_lazy_false_makes_directories_at_once(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("directories: {lazy: false}")
    mounted.path.chmod(0o777)
    as_user(ALICE, STAFF, lambda here: (here / "job" / "a").mkdir(parents=True), mounted.path)
    assert mounted.in_backing() == {"job", "job/a"}
    assert os.stat(mounted.backing / "job" / "a").st_uid == ALICE
    assert mounted.status("job") == "created"


def test_lazy_ones_stay_lazy_when_the_configuration_changes(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    (mounted.path / "job" / "lazy").mkdir(parents=True)
    mounted.configure("directories: {lazy: false}")
    mounted.reload()
    (mounted.path / "job" / "real").mkdir()
    assert mounted.in_backing() == {"job", "job/real"}
    assert sorted(os.listdir(mounted.path / "job")) == ["lazy", "real"]


def test_declared_directories_exist_without_mkdir(declaring: Mounted) -> None:
    job = declaring.path / "declared"
    job.mkdir(0o750)
    os.chown(job, ALICE, STAFF)
    assert sorted(os.listdir(job)) == ["out", "slides"]
    assert os.listdir(job / "out") == ["shorts"]
    (job / "slides").mkdir(exist_ok=True)
    assert refusal((job / "slides").mkdir) == errno.EEXIST
    assert declaring.in_backing() & {"declared"} == set()
    make(job / "out" / "shorts" / "x.mkv")
    assert below(declaring, "declared") == {
        "declared", "declared/out", "declared/out/shorts", "declared/out/shorts/x.mkv",
    }  # fmt: skip


def test_declared_directories_are_the_jobs_owners(declaring: Mounted) -> None:
    declaring.path.chmod(0o777)

    def work(here: Path) -> None:
        os.mkdir(here / "owned", 0o750)
        make(here / "owned" / "slides" / "a.png")

    as_user(ALICE, STAFF, work, declaring.path)
    for path in ("owned/slides", "owned/out", "owned/out/shorts"):
        found = os.stat(declaring.path / path)
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (ALICE, STAFF, 0o750)


def test_declared_directories_change_with_the_jobs_type(declaring: Mounted) -> None:
    """What is empty and was only declared goes; what holds anything stays."""
    job = declaring.path / "changing"
    job.mkdir()
    os.setxattr(job, "user.lffs.job_type", b"long_form")
    assert sorted(os.listdir(job)) == ["long", "out"]
    assert refusal((job / "slides").stat) == errno.ENOENT
    os.setxattr(job, "user.lffs.job_type", b"short_form")
    make(job / "slides" / "a.png")
    os.setxattr(job, "user.lffs.job_type", b"long_form")
    assert sorted(os.listdir(job)) == ["long", "out", "slides"]
    (job / "long" / "mine").mkdir()
    os.setxattr(job, "user.lffs.job_type", b"slides_only")
    assert sorted(os.listdir(job)) == ["long", "slides"]


def test_a_directory_that_someone_made_stays_when_the_type_changes(declaring: Mounted) -> None:
    job = declaring.path / "someone"
    job.mkdir()
    os.setxattr(job, "user.lffs.job_type", b"slides_only")
    (job / "slides").mkdir()
    os.setxattr(job, "user.lffs.job_type", b"short_form")
    os.setxattr(job, "user.lffs.job_type", b"long_form")
    assert sorted(os.listdir(job)) == ["long", "out", "slides"]


def test_declared_directories_exist_in_a_job_that_was_found(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount(DECLARED)
    (mounted.backing / "found").mkdir()
    make(mounted.backing / "found" / "x")
    assert sorted(os.listdir(mounted.path / "found")) == ["out", "slides", "x"]
    mounted.stop()
    (mounted.backing / "found later").mkdir()
    mounted.start()
    assert sorted(os.listdir(mounted.path / "found later")) == ["out", "slides"]


def test_declared_directories_can_be_removed(declaring: Mounted) -> None:
    job = declaring.path / "removing"
    job.mkdir()
    shutil.rmtree(job / "out")
    assert os.listdir(job) == ["slides"]
    shutil.rmtree(job)
    assert not job.exists()


# -- the manifest -------------------------------------------------------------------------------


def test_the_manifest_lists_it(shared: Mounted, job: str) -> None:
    top = shared.path / job
    (top / "slides" / "deep").mkdir(parents=True)
    directories = shared.manifest(job)["directories"]
    assert sorted(path for paths in directories.values() for path in paths) == ["slides", "slides/deep"]
    make(top / "slides" / "deep" / "x")
    assert shared.manifest(job)["directories"] == directories
    os.rename(top / "slides", top / "moved")
    directories = shared.manifest(job)["directories"]
    assert sorted(path for paths in directories.values() for path in paths) == ["moved", "moved/deep"]


def test_a_job_is_created_by_its_lazy_directory_and_running_from_its_first_file(
    shared: Mounted, job: str
) -> None:
    top = shared.path / job
    (top / "slides").mkdir(parents=True)
    assert shared.status(job) == "created"
    make(top / "slides" / "a.png")
    assert shared.status(job) == "running"
