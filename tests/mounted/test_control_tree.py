"""MOUNTPOINT/.lffs: what lffs knows, as files that anyone may read who could read what they show."""

import errno
import itertools
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lffs import __version__
from lffs.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from tests.harness import Mounted, eventually, tree
from tests.mounted.callers import as_user, refusal

pytestmark = pytest.mark.mounted

ALICE, BOB = 4001, 4002
STAFF, MEDIA = 5001, 5002

TOP = ["by-status", "health", "manifests", "metrics", "outputs", "trash", "version"]

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def shared(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    return make_shared_mount()


@pytest.fixture(scope="module")
def nested(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    return make_shared_mount("jobs: {roots: ['*/*']}")


@pytest.fixture
def job(shared: Mounted) -> str:
    """A running job that this test has for itself: finals, temporaries, and others."""
    name = f"job{next(_numbers)}"
    fill(shared.path / name)
    return name


def fill(job: Path) -> None:
    for path in ("ko/shorts/final.mkv", "ko/temp_a.wav", "ko/slides/temp_b.png", "notes.txt"):
        (job / path).parent.mkdir(parents=True, exist_ok=True)
        (job / path).write_text(f"content of {path}")


def control(mounted: Mounted, *below: str) -> Path:
    return mounted.path.joinpath(".lffs", *below)


# -- there, and never listed --------------------------------------------------------------------


def test_it_resolves_and_is_never_listed(shared: Mounted, job: str) -> None:
    assert ".lffs" not in os.listdir(shared.path)
    assert control(shared).is_dir()
    assert sorted(os.listdir(control(shared))) == TOP
    found = subprocess.run(["find", shared.path, "-name", "*lffs*"], capture_output=True, check=True)
    assert found.stdout == b""


def test_it_is_only_at_the_top(shared: Mounted, job: str) -> None:
    assert not (shared.path / job / ".lffs").exists()
    (shared.path / job / ".lffs").mkdir()
    (shared.path / job / ".lffs" / "mine").write_text("x")
    assert ".lffs" in os.listdir(shared.path / job)


def test_programs_walk_it(shared: Mounted, job: str, tmp_path: Path) -> None:
    shared.set_status(job, "completed")
    subprocess.run(["ls", "-laR", control(shared)], check=True, capture_output=True)
    subprocess.run(["du", "-a", control(shared)], check=True, capture_output=True)
    subprocess.run(["cp", "-r", control(shared), tmp_path / "copy"], check=True)
    assert (tmp_path / "copy" / "trash" / job / "ko" / "temp_a.wav").read_text() == "content of ko/temp_a.wav"
    subprocess.run(["tar", "-cf", tmp_path / "tar", "-C", control(shared), "trash", "by-status"], check=True)


# -- what it shows ------------------------------------------------------------------------------


def test_version_health_and_metrics(shared: Mounted, job: str) -> None:
    assert control(shared, "version").read_text().strip() == __version__
    health = json.loads(control(shared, "health").read_text())
    assert (health["status"], health["pid"]) == ("ok", shared.pid)
    lines = control(shared, "metrics").read_text().splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert samples
    for line in samples:
        name, value = line.rsplit(" ", 1)
        assert name.startswith("lffs_")
        assert float(value) >= 0


def test_manifests_are_json(shared: Mounted, job: str) -> None:
    manifest = json.loads(control(shared, "manifests", f"{job}.json").read_text())
    assert manifest == shared.manifest(job)
    assert manifest["job_id"] == job
    assert manifest["files"]["final_video"] == ["ko/shorts/final.mkv"]
    assert f"{job}.json" in os.listdir(control(shared, "manifests"))


def test_a_manifest_is_copied_whole_although_its_size_is_not_told(
    shared: Mounted, job: str, tmp_path: Path
) -> None:
    """It is made when it is opened; until then its size is 0, as of the files in /proc."""
    shown = control(shared, "manifests", f"{job}.json")
    assert shown.stat().st_size == 0
    subprocess.run(["cp", shown, tmp_path / "copy.json"], check=True)
    assert json.loads((tmp_path / "copy.json").read_text()) == shared.manifest(job)


def test_the_trash_shows_hidden_files_as_they_were(shared: Mounted, job: str) -> None:
    hidden = shared.path / job / "ko" / "temp_a.wav"
    hidden.write_bytes(bytes(range(256)) * 4096)
    hidden.chmod(0o640)
    os.chown(hidden, ALICE, STAFF)
    os.utime(hidden, ns=(1_500_000_000_000_000_001, 1_500_000_000_000_000_002))
    before = hidden.read_bytes()
    assert not control(shared, "trash", job).exists()
    shared.set_status(job, "completed")
    assert tree(control(shared, "trash", job), directories=False) == {"ko/temp_a.wav", "ko/slides/temp_b.png"}
    shown = control(shared, "trash", job, "ko", "temp_a.wav")
    assert shown.read_bytes() == before
    found = shown.stat()
    assert (found.st_size, found.st_uid, found.st_gid) == (len(before), ALICE, STAFF)
    assert stat.S_IMODE(found.st_mode) == 0o440
    assert found.st_mtime_ns == 1_500_000_000_000_000_002


def test_the_trash_shows_names_of_any_bytes_and_links(shared: Mounted, job: str) -> None:
    top = os.fsencode(shared.path / job)
    names = [b"temp_\xff\n.wav", "temp_슬라이드.png".encode(), b"temp_" + b"n" * 250]
    for name in names:
        with open(os.path.join(top, name), "wb") as stream:
            stream.write(name)
    os.symlink("nowhere", os.path.join(top, b"temp_link"))
    shared.set_status(job, "completed")
    trash = os.fsencode(control(shared, "trash", job))
    assert set(names) | {b"temp_link"} <= set(os.listdir(trash))
    for name in names:
        with open(os.path.join(trash, name), "rb") as stream:
            assert stream.read() == name
    assert os.readlink(os.path.join(trash, b"temp_link")) == b"nowhere"


def test_the_trash_forgets_what_came_back_or_was_reaped(shared: Mounted, job: str) -> None:
    shared.set_status(job, "completed")
    shown = control(shared, "trash", job, "ko", "temp_a.wav")
    assert shown.exists()
    shared.set_status(job, "running")
    assert not shown.exists()
    shared.set_status(job, "completed")
    with shown.open("rb") as stream:
        shared.advance(hours=25)
        eventually(lambda: shared.status(job) == "cleaned", "the job is cleaned")
        assert not shown.exists()
        assert stream.read() == b"content of ko/temp_a.wav"  # held open it is readable to the end


def test_the_trash_shows_what_was_hidden_last(shared: Mounted, job: str) -> None:
    """Under the same path, of the same size, right after the older one was read."""
    shown = control(shared, "trash", job, "ko", "temp_a.wav")
    for content in ("one", "two", "six"):
        (shared.path / job / "ko").mkdir(exist_ok=True)
        (shared.path / job / "ko" / "temp_a.wav").write_text(content)
        shared.set_status(job, "completed")
        assert shown.read_text() == content
        shared.set_status(job, "running")


def test_the_trash_of_a_removed_job_stays_readable(shared: Mounted, job: str) -> None:
    """A job made anew under the name has the plain one, the old one's bears its number."""
    shared.set_status(job, "completed")
    shutil.rmtree(shared.path / job)
    assert control(shared, "trash", job, "ko", "temp_a.wav").exists()
    fill(shared.path / job)
    (shared.path / job / "ko" / "temp_a.wav").write_text("new")
    shared.set_status(job, "completed")
    shown = sorted(name for name in os.listdir(control(shared, "trash")) if name.split(".")[0] == job)
    assert len(shown) == 2
    assert shown[0] == job
    assert shown[1].startswith(f"{job}.~")
    assert control(shared, "trash", shown[0], "ko", "temp_a.wav").read_text() == "new"
    assert control(shared, "trash", shown[1], "ko", "temp_a.wav").read_text() == "content of ko/temp_a.wav"


def test_by_status_shows_each_job_once_under_its_listed_name(shared: Mounted, job: str) -> None:
    def shown() -> set[str]:
        return {path for path in tree(control(shared, "by-status")) if f"/{job}_" in path}

    assert sorted(os.listdir(control(shared, "by-status"))) == ["completed", "failed", "running"]
    for status, name in (
        ("running", f"running/{job}_processing"),
        ("completed", f"completed/{job}_completed"),
        ("failed", f"failed/{job}_failed"),
    ):
        shared.set_status(job, status)
        assert shown() == {name}
        link = control(shared, "by-status", name)
        assert not os.readlink(link).startswith("/")
        assert link.resolve() == shared.path / job
        assert (link / "notes.txt").read_text() == "content of notes.txt"
    shared.set_status(job, "completed")
    shared.advance(hours=25)
    eventually(lambda: shared.status(job) == "cleaned", "the job is cleaned")
    assert shown() == {f"completed/{job}_completed"}


def test_a_created_job_has_no_status_to_show(shared: Mounted) -> None:
    (shared.path / "fresh").mkdir()
    assert not any("fresh" in path for path in tree(control(shared, "by-status")))
    assert control(shared, "manifests", "fresh.json").exists()


def test_outputs_are_flat_links_to_the_finals(shared: Mounted, job: str) -> None:
    (shared.path / job / "ko" / "shorts" / "other.mp4").write_text("other")
    outputs = control(shared, "outputs", job)
    assert sorted(os.listdir(outputs)) == ["final.mkv", "other.mp4"]
    link = outputs / "final.mkv"
    assert not os.readlink(link).startswith("/")
    assert link.resolve() == shared.path / job / "ko" / "shorts" / "final.mkv"
    assert link.read_text() == "content of ko/shorts/final.mkv"
    shared.set_status(job, "completed")
    assert link.read_text() == "content of ko/shorts/final.mkv"
    (shared.path / job / "ko" / "shorts" / "final.mkv").unlink()
    assert os.listdir(outputs) == ["other.mp4"]


def test_outputs_with_one_basename_get_their_parents_in_front(shared: Mounted, job: str) -> None:
    paths = ["en/shorts/final.mkv", "a/b_c/shorts/final.mkv", "a_b/c/shorts/final.mkv", "en/shorts/lone.mkv"]
    for path in paths:
        (shared.path / job / path).parent.mkdir(parents=True, exist_ok=True)
        (shared.path / job / path).write_text(f"content of {path}")
    outputs = control(shared, "outputs", job)
    names = os.listdir(outputs)
    assert {"ko_shorts_final.mkv", "en_shorts_final.mkv", "lone.mkv"} < set(names)
    assert len(names) == 5
    assert {(outputs / name).read_text() for name in names} == {
        f"content of {path}" for path in [*paths, "ko/shorts/final.mkv"]
    }


def test_ids_of_several_names_are_nested(nested: Mounted) -> None:
    fill(nested.path / "Suits" / "S01E01")
    fill(nested.path / "Suits" / "S01E02")
    nested.set_status("Suits/S01E01", "completed")
    assert os.listdir(control(nested, "manifests")) == ["Suits"]
    assert sorted(os.listdir(control(nested, "manifests", "Suits"))) == ["S01E01.json", "S01E02.json"]
    manifest = json.loads(control(nested, "manifests", "Suits", "S01E01.json").read_text())
    assert manifest["job_id"] == "Suits/S01E01"
    for path, target in (
        ("by-status/completed/Suits/S01E01_completed", "Suits/S01E01"),
        ("by-status/running/Suits/S01E02_processing", "Suits/S01E02"),
        ("outputs/Suits/S01E01/final.mkv", "Suits/S01E01/ko/shorts/final.mkv"),
    ):
        assert control(nested, path).resolve() == nested.path / target
    assert tree(control(nested, "trash"), directories=False) == {
        "Suits/S01E01/ko/temp_a.wav", "Suits/S01E01/ko/slides/temp_b.png",
    }  # fmt: skip


# -- nobody changes it --------------------------------------------------------------------------


def test_nobody_changes_anything_in_it(shared: Mounted, job: str) -> None:
    shared.set_status(job, "completed")
    outside = shared.path / job / "notes.txt"
    before = tree(control(shared))
    for directory in ("", "trash", f"trash/{job}/ko", "by-status/completed", f"outputs/{job}", "manifests"):
        new = control(shared, directory, "new")
        actions: list[Callable[[], object]] = [
            new.mkdir,
            lambda: os.close(os.open(new, os.O_CREAT | os.O_WRONLY)),  # noqa: B023
            lambda: os.symlink("x", new),  # noqa: B023
            lambda: os.mkfifo(new),  # noqa: B023
            lambda: os.mknod(new),  # noqa: B023
            lambda: os.link(outside, new),  # noqa: B023
            lambda: os.rename(outside, new),  # noqa: B023
            lambda: os.rename(shared.path / job, new),  # noqa: B023
        ]
        assert [refusal(action) for action in actions] == [errno.EPERM] * len(actions)
    for path in (
        "", "trash", f"trash/{job}", f"trash/{job}/ko/temp_a.wav", f"by-status/completed/{job}_completed",
        f"outputs/{job}/final.mkv", f"manifests/{job}.json", "metrics",
    ):  # fmt: skip
        there = control(shared, path)
        remove = os.rmdir if there.is_dir() and not there.is_symlink() else os.unlink
        actions = [
            lambda: remove(there),  # noqa: B023
            lambda: os.rename(there, shared.path / job / "stolen"),  # noqa: B023
            lambda: os.rename(there, there.with_name("new")),  # noqa: B023
            lambda: os.chown(there, ALICE, STAFF, follow_symlinks=False),  # noqa: B023
            lambda: os.utime(there, (1, 1), follow_symlinks=False),  # noqa: B023
            lambda: renameat2(-100, os.fsencode(there), -100, b"/x", RENAME_NOREPLACE),  # noqa: B023
        ]
        expected = [errno.EPERM] * (len(actions) - 1) + [errno.EXDEV]
        assert [refusal(action) for action in actions] == expected
        if there.is_file() and not there.is_symlink():
            actions = [
                lambda: os.open(there, os.O_WRONLY),  # noqa: B023
                lambda: os.open(there, os.O_RDWR),  # noqa: B023
                lambda: os.open(there, os.O_RDONLY | os.O_TRUNC),  # noqa: B023
                lambda: os.truncate(there, 0),  # noqa: B023
                lambda: os.chmod(there, 0o777),  # noqa: B023
                lambda: os.link(there, shared.path / job / "linked"),  # noqa: B023
                lambda: os.setxattr(there, "user.note", b"x"),  # noqa: B023
                lambda: os.setxattr(there, "user.lffs.keep", b"1"),  # noqa: B023
                lambda: os.removexattr(there, "user.note"),  # noqa: B023
            ]
            assert [refusal(action) for action in actions] == [errno.EPERM] * len(actions)
    assert tree(control(shared)) == before
    assert sorted(os.listdir(shared.path / job)) == ["ko", "notes.txt"]


def test_nothing_takes_its_place(shared: Mounted, job: str) -> None:
    top = control(shared)
    assert refusal(top.mkdir) == errno.EEXIST
    assert refusal(lambda: os.open(top, os.O_CREAT | os.O_EXCL)) == errno.EEXIST
    assert refusal(lambda: os.symlink("x", top)) == errno.EEXIST
    assert refusal(lambda: os.rename(shared.path / job, top)) == errno.EPERM
    assert refusal(
        lambda: renameat2(-100, os.fsencode(shared.path / job), -100, os.fsencode(top), RENAME_EXCHANGE)
    ) == errno.EPERM  # fmt: skip
    assert refusal(lambda: os.setxattr(top, "user.lffs.status", b"completed")) == errno.EPERM
    assert refusal(top.rmdir) == errno.EPERM
    assert sorted(os.listdir(top)) == TOP


def test_it_has_no_attributes(shared: Mounted, job: str) -> None:
    for path in ("", f"manifests/{job}.json", f"outputs/{job}"):
        there = control(shared, path)
        assert os.listxattr(there) == []
        for name in ("user.note", "user.lffs.status", "user.lffs.keep", "system.posix_acl_access"):
            assert refusal(lambda: os.getxattr(there, name)) in (errno.ENODATA, errno.EOPNOTSUPP)  # noqa: B023


def test_removing_everything_from_the_mount_leaves_it(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    fill(mounted.path / "job")
    mounted.set_status("job", "completed")
    subprocess.run(["sh", "-c", "rm -rf ./* && find . -mindepth 1"], cwd=mounted.path, check=True)
    assert os.listdir(mounted.path) == []
    assert control(mounted, "trash", "job", "ko", "temp_a.wav").exists()


# -- who may read it ----------------------------------------------------------------------------


def test_another_user_reads_what_modes_allow(shared: Mounted, job: str) -> None:
    """Hidden files keep the protection that they had in view, by their own modes and their parents'."""
    top = shared.path / job
    for path, mode, owner in (
        ("private/temp_a.wav", 0o644, ALICE),
        ("open/temp_public.wav", 0o644, ALICE),
        ("open/temp_secret.wav", 0o600, ALICE),
        ("open/temp_group.wav", 0o640, ALICE),
    ):
        (top / path).parent.mkdir(exist_ok=True)
        (top / path).write_text(path)
        (top / path).chmod(mode)
        os.chown(top / path, owner, MEDIA)
    (top / "private").chmod(0o700)
    os.chown(top / "private", ALICE, STAFF)

    def look(here: Path) -> list[int]:
        return [
            refusal(lambda: (here / "private" / "temp_a.wav").read_text()),  # noqa: PLW0108
            refusal(lambda: os.listdir(here / "private")),
            refusal(lambda: (here / "open" / "temp_public.wav").read_text()),  # noqa: PLW0108
            refusal(lambda: (here / "open" / "temp_secret.wav").read_text()),  # noqa: PLW0108
            refusal(lambda: (here / "open" / "temp_group.wav").read_text()),  # noqa: PLW0108
        ]

    no = errno.EACCES
    expected = {
        (ALICE, STAFF, ()): [0, 0, 0, 0, 0],
        (BOB, STAFF, ()): [no, no, 0, no, no],
        (BOB, STAFF, (MEDIA,)): [no, no, 0, no, 0],
    }
    for (user, group, groups), answer in expected.items():
        assert as_user(user, group, look, top, groups) == answer
    shared.set_status(job, "completed")
    for (user, group, groups), answer in expected.items():
        assert as_user(user, group, look, control(shared, "trash", job), groups) == answer


def test_what_shows_a_private_job_is_as_private(shared: Mounted, job: str) -> None:
    top = shared.path / job
    os.chown(top, ALICE, STAFF)
    top.chmod(0o700)
    shared.set_status(job, "completed")

    def look(here: Path) -> list[int]:
        return [
            refusal(lambda: (here / "manifests" / f"{job}.json").read_text()),  # noqa: PLW0108
            refusal(lambda: os.listdir(here / "outputs" / job)),
            refusal(lambda: os.listdir(here / "trash" / job)),
            refusal(lambda: (here / "trash" / job / "ko" / "temp_a.wav").read_text()),  # noqa: PLW0108
            refusal(lambda: os.listdir(here / "by-status" / "completed" / f"{job}_completed")),
        ]

    assert as_user(ALICE, STAFF, look, control(shared)) == [0] * 5
    assert as_user(BOB, STAFF, look, control(shared)) == [errno.EACCES] * 5


def test_what_shows_jobs_below_a_private_directory_is_as_private(nested: Mounted) -> None:
    fill(nested.path / "Private" / "E1")
    os.chown(nested.path / "Private", ALICE, STAFF)
    (nested.path / "Private").chmod(0o710)
    nested.set_status("Private/E1", "completed")

    def look(here: Path) -> list[int]:
        return [
            refusal(lambda: os.listdir(here / "manifests" / "Private")),
            refusal(lambda: (here / "manifests" / "Private" / "E1.json").read_text()),  # noqa: PLW0108
            refusal(lambda: os.listdir(here / "outputs" / "Private" / "E1")),
            refusal(lambda: (here / "trash" / "Private" / "E1" / "ko" / "temp_a.wav").read_text()),  # noqa: PLW0108
        ]

    assert as_user(ALICE, STAFF, look, control(nested)) == [0] * 4
    # Searching is not listing: whoever knows the name reads what the file's own mode allows.
    assert as_user(BOB, STAFF, look, control(nested)) == [errno.EACCES, 0, 0, 0]
    assert as_user(BOB, MEDIA, look, control(nested)) == [errno.EACCES] * 4


def test_another_user_reads_what_is_public_and_writes_nothing(shared: Mounted, job: str) -> None:
    shared.path.chmod(0o755)

    def look(here: Path) -> list[object]:
        return [
            sorted(os.listdir(here)) == TOP,
            (here / "version").read_text() != "",
            (here / "metrics").read_text() != "",
            refusal((here / "new").mkdir) in (errno.EPERM, errno.EACCES),
            refusal(lambda: os.open(here / "version", os.O_WRONLY)) in (errno.EPERM, errno.EACCES),
            refusal((here / "version").unlink) in (errno.EPERM, errno.EACCES),
            refusal(lambda: os.chmod(here / "version", 0o777)) in (errno.EPERM, errno.EACCES),
        ]

    assert all(as_user(BOB, STAFF, look, control(shared)))


def test_a_listing_of_the_trash_costs_the_same_for_each_name(shared: Mounted) -> None:
    """It was made anew for each of its names: minutes for some thousand hidden files."""
    job = shared.path / "many-hidden"
    job.mkdir()
    for number in range(1500):
        (job / f"temp_{number}.wav").touch()
    shared.set_status("many-hidden", "completed")
    trash = shared.path / ".lffs" / "trash" / "many-hidden"
    with os.scandir(trash) as entries:
        assert sum(os.lstat(entry.path).st_size == 0 for entry in entries) == 1500
