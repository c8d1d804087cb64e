"""What is mounted, what a path or TARGET means, and who holds a mount."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from lffs.mounting.table import (
    BusyMountError,
    Holder,
    Mount,
    Target,
    UsageError,
    detach,
    find_holders,
    find_target,
    is_dead_mount,
    mount_over,
    parse_mountinfo,
    read_mounts,
    resolve,
    unmount,
)
from lffs.mounting.unmounting import end_mount
from tests.bare_mount import BareMount, bare_mount, needs_root


def mount_at(
    mountpoint: str | Path, mount_id: int, parent_id: int, fs_type: str = "ext4", **fields: str
) -> Mount:
    root, source = PurePosixPath(fields.get("root", "/")), fields.get("source", "none")
    return Mount(mount_id, parent_id, f"0:{mount_id}", root, Path(mountpoint), fs_type, source)


ROOT = mount_at("/", 1, 1)


# -- the table ------------------------------------------------------------------------------------


def test_a_line_of_the_table_is_read_as_the_kernel_escapes_it() -> None:
    table = (
        b"24 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n"
        b"50 24 0:52 /sub /mnt/a\\040b\\011c\\134 rw - fuse.lffs /data/caf\\303\\251\\012\xe9 rw\n"
        b"51 24 0:53 / /empty-source rw - tmpfs  rw\n"
    )
    first, second, third = parse_mountinfo(table)
    assert first == Mount(24, 1, "254:0", PurePosixPath("/"), Path("/"), "ext4", "/dev/vda")
    assert second.mountpoint == Path("/mnt/a b\tc\\")
    assert os.fsencode(second.backing) == b"/data/caf\xc3\xa9\n\xe9"
    assert second.root == PurePosixPath("/sub")
    assert second.is_lffs
    assert not first.is_lffs
    assert third.source == ""


def test_this_machines_own_table_can_be_read() -> None:
    mounts = read_mounts()
    assert mount_over(Path("/proc/self"), mounts) in [mount for mount in mounts if mount.fs_type == "proc"]


@pytest.mark.parametrize(
    ("path", "mount_id"),
    [
        ("/", 1),
        ("/mnt", 2),
        ("/mnt/out", 4),
        ("/mnt/out/a/b", 4),
        ("/mnt/outer", 2),
        ("/srv/x/y", 6),
        ("/srv", 1),
    ],
)
def test_the_mount_over_a_path_is_the_topmost_that_is_not_covered(path: str, mount_id: int) -> None:
    mounts = [
        ROOT,
        mount_at("/mnt", 2, 1),
        mount_at("/mnt/out", 3, 2, "fuse.lffs"),
        mount_at("/mnt/out", 4, 3, "fuse.lffs"),  # a second one on top
        mount_at("/srv/x/y", 5, 1, "fuse.lffs"),  # not seen: the next one covers it farther up
        mount_at("/srv/x", 6, 1),
    ]
    over = mount_over(Path(path), mounts)
    assert over is not None
    assert over.mount_id == mount_id


def test_a_table_seen_from_a_chroot_has_no_root() -> None:
    inside = mount_at("/mnt", 7, 3)
    assert mount_over(Path("/mnt/x"), [inside]) == inside
    assert mount_over(Path("/elsewhere"), [inside]) is None


# -- paths ----------------------------------------------------------------------------------------


def test_links_are_followed_up_to_an_lffs_mountpoint_and_no_farther(tmp_path: Path) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    (tmp_path / "shortcut").symlink_to("mnt")
    (mountpoint / "latest").symlink_to("Suits")
    mounts = [ROOT, mount_at(mountpoint, 2, 1, "fuse.lffs")]
    assert resolve(tmp_path / "shortcut/latest/x", mounts) == mountpoint / "latest/x"
    assert resolve(tmp_path / "shortcut/latest/x", mounts, enter_lffs=True) == mountpoint / "Suits/x"
    assert resolve(tmp_path / "shortcut/latest/../../other", mounts) == tmp_path / "other"


def test_a_relative_path_begins_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve(".//a/./b/", [ROOT]) == tmp_path / "a/b"
    assert resolve("..", [ROOT]) == tmp_path.parent
    assert resolve("/../..", [ROOT]) == Path("/")


def test_links_that_lead_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError) as caught:
        resolve(tmp_path / "a", [ROOT])
    assert caught.value.errno == errno.ELOOP


# -- targets --------------------------------------------------------------------------------------


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> list[Mount]:
    """What the mount table says, for the test to fill."""
    mounts = [ROOT]
    monkeypatch.setattr("lffs.mounting.table.read_mounts", lambda: mounts)
    return mounts


def test_any_path_in_a_mount_is_the_target(table: list[Mount], tmp_path: Path) -> None:
    mount = mount_at(tmp_path, 2, 1, "fuse.lffs", source="/data")
    table.append(mount)
    for text in (str(tmp_path), f"{tmp_path}/", f"{tmp_path}/Suits/S01E01/no/such"):
        assert find_target(text) == Target(Path("/data"), mount)


def test_a_backing_store_is_the_target_with_its_mount_if_it_has_one(
    table: list[Mount], tmp_path: Path
) -> None:
    (tmp_path / ".lffs").mkdir()
    assert find_target(str(tmp_path)) == Target(tmp_path, None)
    mount = mount_at("/mnt", 2, 1, "fuse.lffs", source=str(tmp_path))
    table.append(mount)
    assert find_target(str(tmp_path)) == Target(tmp_path, mount)


def test_what_is_neither_is_wrong_usage(table: list[Mount], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither an lffs mount nor a backing store"):
        find_target(str(tmp_path))
    with pytest.raises(UsageError, match="no such directory; TARGET is"):
        find_target(str(tmp_path / "absent"))


def test_a_job_is_named_by_id_or_by_path(
    table: list[Mount], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mountpoint, backing = tmp_path / "mnt", tmp_path / "data"
    (mountpoint / "Suits").mkdir(parents=True)
    mount = mount_at(mountpoint, 2, 1, "fuse.lffs", source=str(backing))
    table.append(mount)
    target = Target(backing, mount)
    assert target.job_names("Suits/S01E01") == ["Suits/S01E01"]
    assert target.job_names("Suits/S01E01/") == ["Suits/S01E01"]
    assert target.job_names(f"{mountpoint}/Suits/S01E01_completed") == ["Suits/S01E01_completed"]
    assert target.job_names(f"{backing}/Suits/S01E01") == ["Suits/S01E01"]
    monkeypatch.chdir(mountpoint / "Suits")
    assert target.job_names("S01E01") == ["S01E01", "Suits/S01E01"]  # an id first
    assert target.job_names("./S01E01") == ["Suits/S01E01"]
    assert target.job_names("../Suits/S01E01") == ["Suits/S01E01"]
    assert target.job_names(".") == ["Suits"]


def test_a_job_seen_through_a_bind_mount_has_its_whole_name(table: list[Mount], tmp_path: Path) -> None:
    mount = mount_at(tmp_path, 2, 1, "fuse.lffs", source="/data", root="/Suits")
    assert Target(Path("/data"), mount).job_names(f"{tmp_path}/S01E01") == ["Suits/S01E01"]


@pytest.mark.parametrize("job", ["", "/elsewhere/Suits", ".", "/data", "/"])
def test_a_path_that_can_be_no_job_is_wrong_usage(
    table: list[Mount], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        Target(Path("/data"), None).job_names(job)


# -- real mounts ----------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[BareMount]:
    with bare_mount(tmp_path) as mount:
        yield mount


@pytest.mark.mounted
def test_a_mount_that_never_answers_is_named_without_being_asked(bare: BareMount) -> None:
    """A stat of it would wait for ever, and this test with it."""
    target = find_target(f"{bare.mountpoint}/Suits/../Suits/S01E01")
    assert target.backing == bare.backing
    assert target.mount is not None
    assert target.mount.mountpoint == bare.mountpoint


@pytest.mark.mounted
def test_a_mount_without_its_daemon_is_dead_and_can_be_detached(bare: BareMount) -> None:
    bare.kill_daemon()
    assert is_dead_mount(bare.mountpoint)
    assert find_target(str(bare.mountpoint)).backing == bare.backing
    detach(bare.mountpoint)
    assert not is_dead_mount(bare.mountpoint)
    assert list(bare.mountpoint.iterdir()) == []


@pytest.mark.mounted
def test_umount_detaches_a_dead_mount_and_says_so(bare: BareMount) -> None:
    bare.kill_daemon()
    said: list[str] = []
    end_mount(str(bare.mountpoint), lazy=False, say=said.append)
    assert said == [f"detached a dead mount of {bare.backing} at {bare.mountpoint}: its daemon had died"]
    assert not bare.is_mounted()


@pytest.mark.mounted
def test_umount_waits_for_the_daemons_end(bare: BareMount) -> None:
    """Also of one that answers nothing: it is found by its socket, not by a question."""
    said: list[str] = []
    end_mount(str(bare.mountpoint), lazy=False, say=said.append)
    assert said == []
    assert bare.daemon_has_ended()


@pytest.mark.mounted
def test_umount_of_a_busy_mount_names_who_holds_it_and_lazy_detaches_it(bare: BareMount) -> None:
    said: list[str] = []
    inside = os.open(bare.mountpoint, os.O_PATH)
    try:
        with pytest.raises(BusyMountError, match=f"pid {os.getpid()} .* {bare.mountpoint} "):
            end_mount(str(bare.mountpoint), lazy=False, say=said.append)
        assert bare.is_mounted()
        end_mount(str(bare.mountpoint), lazy=True, say=said.append)
        assert not bare.is_mounted()
        assert f"pid {os.getpid()}" in said[0]
        assert not bare.daemon_has_ended()
    finally:
        os.close(inside)
    assert bare.daemon_has_ended(wait_s=10)


@pytest.mark.mounted
def test_umount_of_a_bind_mount_leaves_the_daemon(bare: BareMount, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", "-i", bare.mountpoint, other], check=True)
    said: list[str] = []
    end_mount(str(other), lazy=False, say=said.append)
    assert said == [f"{other} is unmounted; {bare.backing} is still mounted at {bare.mountpoint}"]
    assert not bare.daemon_has_ended()


@pytest.mark.mounted
def test_umount_takes_nothing_but_an_lffs_mountpoint(bare: BareMount, tmp_path: Path) -> None:
    for path, message in ((tmp_path, "no lffs mount"), (bare.mountpoint / "Suits", "its mountpoint is")):
        with pytest.raises(UsageError, match=message):
            end_mount(str(path), lazy=False, say=pytest.fail)
    assert bare.is_mounted()


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Mount]:
    """A mount that answers: who holds a mount is the same for every filesystem."""
    needs_root()
    mountpoint = tmp_path / "tmpfs"
    mountpoint.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", mountpoint], check=True)
    mount = mount_over(mountpoint, read_mounts())
    assert mount is not None
    yield mount
    subprocess.run(["umount", "-l", mountpoint], check=True)


def _holders(mount: Mount) -> set[tuple[int, str, str, str]]:
    return {(holder.pid, holder.command, holder.path, holder.how) for holder in find_holders(mount)}


@pytest.mark.mounted
def test_holders_are_named_with_what_they_hold(tmpfs: Mount) -> None:
    path = tmpfs.mountpoint / "a file"
    (tmpfs.mountpoint / "dir").mkdir()
    assert find_holders(tmpfs) == []
    with path.open("wb") as file:
        holder = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file, cwd=tmpfs.mountpoint / "dir")
    with holder:
        assert _holders(tmpfs) == {
            (holder.pid, "cat", str(tmpfs.mountpoint / "dir"), "cwd"),
            (holder.pid, "cat", str(path), "fd"),
        }
        with pytest.raises(BusyMountError):
            unmount(tmpfs.mountpoint)
        assert holder.stdin is not None
        holder.stdin.close()
    assert find_holders(tmpfs) == []


_MAP = """
import mmap, os, sys
mapped = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 4096, prot=mmap.PROT_READ)
os.closerange(3, 99)  # the map outlives its descriptors
print("mapped", flush=True)
sys.stdin.read()
"""


@pytest.mark.mounted
def test_a_file_that_is_only_mapped_holds_the_mount_too(tmpfs: Mount) -> None:
    path = tmpfs.mountpoint / "mapped"
    path.write_bytes(b"x" * 4096)
    command = [sys.executable, "-c", _MAP, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mapped\n"
        assert [(found.pid, found.path, found.how) for found in find_holders(tmpfs)] == [
            (holder.pid, str(path), "map")
        ]
        holder.communicate()


@pytest.mark.mounted
def test_a_mount_on_top_holds_the_one_below(tmpfs: Mount) -> None:
    above = tmpfs.mountpoint / "above"
    above.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", above], check=True)
    try:
        assert find_holders(tmpfs) == [Holder(0, "tmpfs", str(above), "mount")]
    finally:
        subprocess.run(["umount", above], check=True)


@pytest.mark.parametrize("end", [unmount, detach])
def test_what_is_not_mounted_cannot_be_unmounted(end: Callable[[Path], None], tmp_path: Path) -> None:
    needs_root()
    with pytest.raises(OSError) as caught:
        end(tmp_path)
    assert caught.value.errno == errno.EINVAL
