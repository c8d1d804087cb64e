"""The command line run in this process, on a mount that exists only in the mount table.

The table is made up; the daemon behind it (tests.fake_daemon) answers on a real control socket.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from lffs.cli.main import main
from lffs.mounting.table import FS_TYPE, Mount
from tests.fake_daemon import FakeAdmin, make_job, served_in_thread


@dataclass(frozen=True)
class Outcome:
    """What a command did, as a shell sees it."""

    status: int
    out: str
    err: str


Lffs = Callable[..., Outcome]


@pytest.fixture
def lffs(capfd: pytest.CaptureFixture[str]) -> Lffs:
    """Run ``lffs`` with these arguments."""

    def run(*arguments: object) -> Outcome:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exc:  # argparse's way out
            status = int(exc.code or 0)
        return Outcome(status, *capfd.readouterr())

    return run


@dataclass(frozen=True)
class Mounted:
    """A mount in the table, and who answers for it."""

    mountpoint: Path
    backing: Path
    admin: FakeAdmin


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mounted]:
    backing, mountpoint = tmp_path / "backing", tmp_path / "mnt"
    (backing / ".lffs").mkdir(parents=True)
    mountpoint.mkdir()
    table = [
        Mount(1, 1, "0:1", PurePosixPath("/"), Path("/"), "ext4", "/dev/vda"),
        Mount(2, 1, "0:2", PurePosixPath("/"), mountpoint, FS_TYPE, str(backing)),
    ]
    monkeypatch.setattr("lffs.mounting.table.read_mounts", lambda: table)
    admin = FakeAdmin(
        {
            "Suits/S01E01": make_job("Suits/S01E01", "completed", why=None),
            "Suits/S01E02": make_job("Suits/S01E02"),
        }
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(served_in_thread(admin, backing / ".lffs"))
        yield Mounted(mountpoint, backing, admin)
