"""mount and umount, as far as they go without a daemon."""

from pathlib import Path

import pytest

from tests.bare_mount import bare_mount
from tests.cli.conftest import Lffs


@pytest.fixture
def backing(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "out").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["absent", "out"], 1, "absent does not exist"),
        (["data", "absent"], 1, "absent does not exist"),
        (["data", "data"], 2, "same directory"),
        (["data", "out", "-o", "frobnicate"], 2, "unknown mount option frobnicate"),
        (["data", "out", "-o", "status_names=prefix"], 2, "jobs.status_names"),
        (["data", "out", "-c", "absent.yaml"], 2, "absent.yaml does not exist"),
        (["data", "out", "-c", "bad.yaml"], 2, "bad.yaml:1: debugg"),
        (["data", "full"], 1, "is not empty"),
    ],
)
def test_what_speaks_against_a_mount_is_said_before_it_is_made(
    lffs: Lffs,
    backing: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    monkeypatch.chdir(backing.parent)
    (backing.parent / "bad.yaml").write_text("debugg: true\n")
    (backing.parent / "full").mkdir()
    (backing.parent / "full/file").write_text("")
    done = lffs("mount", *arguments)
    assert (done.status, done.out) == (status, "")
    assert message in done.err
    assert all(line.startswith("lffs: ") for line in done.err.splitlines())
    assert list(backing.iterdir()) == []


def test_umount_of_what_is_not_mounted_is_wrong_usage(lffs: Lffs, tmp_path: Path) -> None:
    done = lffs("umount", tmp_path)
    assert done.status == 2
    assert "no lffs mount" in done.err


@pytest.mark.mounted
def test_umount_of_a_dead_mount_detaches_it_and_is_done(
    lffs: Lffs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # umount leaves the directory: this brings it back
    with bare_mount(tmp_path) as bare:
        bare.kill_daemon()
        done = lffs("umount", bare.mountpoint)
        assert (done.status, done.out) == (0, "")
        assert "detached a dead mount" in done.err
        assert not bare.is_mounted()
