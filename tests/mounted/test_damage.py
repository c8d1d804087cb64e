"""A mount whose manifest was damaged serves every file, and deletes none that it did not see being made."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import Mounted, eventually

pytestmark = pytest.mark.mounted

FILES = {
    "done/final.mkv": b"film",
    "done/deep/notes.txt": b"notes",
    "failed/temp_a.wav": b"sound",
    "running/temp_b.wav": b"more sound",
    "running/deep/x.bin": bytes(range(256)),
    "pinned/temp_c.wav": b"pinned",
}
HIDDEN = {"temp_h.wav": b"hidden", "deep/temp_i.mp3": b"hidden too"}


def populate(mount: Mounted) -> None:
    for path, content in {**FILES, **{f"done/{path}": content for path, content in HIDDEN.items()}}.items():
        (mount.path / path).parent.mkdir(parents=True, exist_ok=True)
        (mount.path / path).write_bytes(content)
    os.setxattr(mount.path / "pinned/temp_c.wav", "user.lffs.keep", b"1")
    (mount.path / "running/empty").mkdir()
    mount.set_status("failed", "failed")
    mount.set_status("done", "completed")
    mount.set_status("pinned", "completed")


def expect_everything(mount: Mounted) -> None:
    for path, content in FILES.items():
        assert (mount.path / path).read_bytes() == content
        assert (mount.backing / path).read_bytes() == content
    assert mount.in_trash() == set(HIDDEN)
    mount.verify()


def state_of(mount: Mounted) -> Path:
    return mount.backing / ".lffs"


def garbage(state: Path) -> None:
    (state / "manifest.db").write_bytes(b"garbage" * 10_000)


def truncated(state: Path) -> None:
    os.truncate(state / "manifest.db", (state / "manifest.db").stat().st_size // 2 + 100)


def flipped(state: Path) -> None:
    content = bytearray((state / "manifest.db").read_bytes())
    content[len(content) // 2] ^= 4
    (state / "manifest.db").write_bytes(content)


def deleted(state: Path) -> None:
    for path in state.glob("manifest.db*"):
        path.unlink()


def log_deleted(state: Path) -> None:
    (state / "manifest.db-wal").unlink(missing_ok=True)


def log_garbage(state: Path) -> None:
    for ending in ("-wal", "-shm"):
        (state / f"manifest.db{ending}").write_bytes(b"garbage" * 10_000)


@pytest.mark.parametrize(
    ("damage", "end"),
    [
        (garbage, "stop"),
        (truncated, "kill"),
        (flipped, "stop"),
        (deleted, "kill"),
        (log_deleted, "kill"),
        (log_garbage, "kill"),
    ],
)
def test_with_a_backup_everything_is_what_it_was(
    make_mount: Callable[..., Mounted], damage: Callable[[Path], None], end: str
) -> None:
    mount = make_mount()
    backups = state_of(mount) / "backups"
    eventually(lambda: len(list(backups.glob("*.db"))) == 1, "the first backup")
    populate(mount)
    mount.advance(2)
    eventually(lambda: len(list(backups.glob("*.db"))) == 2, "a backup of all that")
    mount.kill() if end == "kill" else mount.stop()
    damage(state_of(mount))
    mount.start()
    expect_everything(mount)
    assert mount.status("done") == mount.status("pinned") == "completed"
    assert (mount.status("failed"), mount.status("running")) == ("failed", "running")
    assert (mount.path / "running/empty").is_dir()
    assert os.getxattr(mount.path / "pinned/temp_c.wav", "user.lffs.keep") == b"1"
    mount.set_status("running", "completed")
    assert not (mount.path / "running/temp_b.wav").exists()  # seen being made, as the backup knows
    mount.advance(23)
    assert mount.in_trash() == {*HIDDEN, "temp_b.wav"}
    mount.advance(2)
    eventually(lambda: mount.in_trash() == set(), "retention is over")
    assert (mount.path / "pinned/temp_c.wav").read_bytes() == b"pinned"


@pytest.mark.parametrize("lost", [["backups"], ["backups", "manifests"]])
def test_with_no_backup_nothing_goes_by_itself(make_mount: Callable[..., Mounted], lost: list[str]) -> None:
    mount = make_mount()
    populate(mount)
    mount.stop()
    garbage(state_of(mount))
    for name in lost:
        shutil.rmtree(state_of(mount) / name)
    mount.start()
    assert "rebuilt by scanning" in mount.log()
    expect_everything(mount)
    for job in ("running", "failed", "done", "pinned"):
        mount.set_status(job, "completed")
    mount.advance(10_000)
    expect_everything(mount)


def test_a_backup_is_made_while_mounted_and_at_the_end(make_mount: Callable[..., Mounted]) -> None:
    mount = make_mount("manifest: {backup_interval_hours: 2, backups: 2}\n")
    backups = state_of(mount) / "backups"

    def names() -> list[str]:
        return sorted(path.name for path in backups.glob("*.db"))

    eventually(lambda: len(names()) == 1, "the first backup")
    populate(mount)
    mount.advance(3)
    eventually(lambda: len(names()) == 2, "a backup when the interval is over")
    before = names()
    (mount.path / "running/late").touch()
    mount.stop()
    after = names()
    assert len(after) == 2
    assert after[0] == before[1]
    mount.start()
    mount.stop()
    assert names() == after  # nothing changed


def test_a_damaged_export_is_written_anew(make_mount: Callable[..., Mounted]) -> None:
    mount = make_mount()
    populate(mount)
    export = state_of(mount) / "manifests/done.json"
    eventually(export.exists, "the export")
    mount.stop()
    export.write_bytes(b"{")
    mount.start()
    assert b'"status": "completed"' in export.read_bytes()
