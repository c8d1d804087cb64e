"""A real mount for tests: started, killed, mounted again, its clock set, its daemon's log read."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lffs.control.client import RemoteAdmin
from lffs.mounting.table import detach, is_dead_mount

ROOT = Path(__file__).parent.parent
HOUR_NS = 3_600_000_000_000
LIMIT_S = 30.0


def eventually(condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait until *condition* holds; fail, saying *what* did not come, after *limit_s*."""
    end = time.monotonic() + limit_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, f"waited {limit_s} s in vain: {what}"
        pause.wait(0.01)


class Mounted:
    """One backing store and its mount.  ``path`` is the mountpoint."""

    def __init__(
        self,
        directory: Path,
        config: str = "",
        options: str = "",
        backing: Path | None = None,
        *,
        old_kernel: bool = False,
    ) -> None:
        """*config* is YAML text, or a profile's name (``langflix``).

        With *old_kernel* the daemon gets along without FUSE_NOTIFY_INC_EPOCH, as before Linux 6.16.
        """
        self.backing = backing or directory / "backing"
        self.path = directory / "mnt"
        self._clock = directory / "clock"
        self._log = directory / "log"
        self._config = directory / "config.yaml"
        self._profile = config if config.isidentifier() else ""
        self.options = options
        self._old_kernel = old_kernel
        self.prefix: list[str] = []  # what runs the daemon: prlimit, setpriv
        self.verify_at_end = True
        self._process: subprocess.Popen[bytes] | None = None
        self._offsets = [0, 0]
        self.backing.mkdir(exist_ok=True)
        self.path.mkdir(exist_ok=True)
        self.configure("" if self._profile else config)
        self._set_clock()

    # -- the daemon ---------------------------------------------------------------------------

    def start(self) -> "Mounted":
        """Mount; returns once it serves."""
        assert Path("/dev/fuse").exists(), "no /dev/fuse on this machine: run 'modprobe fuse' as root"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self.prefix,
                    sys.executable,
                    str(ROOT / "tests" / "serving.py"),
                    *map(str, (self._clock, self.backing, self.path)),
                    self._profile or str(self._config),
                    self.options,
                    *(["old-kernel"] if self._old_kernel else []),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self._ended()
            raise AssertionError(self.log())
        return self

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL the daemon; the mountpoint then fails until `start`, which clears it."""
        assert self._process is not None
        self._process.kill()
        self._ended()

    def stop(self) -> int:
        """SIGTERM the daemon, wait until it is gone; return its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._ended()

    def unmount(self) -> int:
        """umount(8) as an operator does; return the daemon's exit status."""
        subprocess.run(["umount", self.path], check=True)
        return self._ended()

    def _ended(self) -> int:
        assert self._process is not None
        status = self._process.wait(LIMIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return status

    def remount(self) -> "Mounted":
        """End cleanly and mount again."""
        assert self.stop() == 0, self.log()
        return self.start()

    def kill_and_remount(self) -> "Mounted":
        """What a crash and an operator do."""
        self.kill()
        return self.start()

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self._process is not None:
            self.stop()
        if is_dead_mount(self.path) or os.path.ismount(self.path):
            detach(self.path)

    def log(self) -> str:
        """Return what the daemon logged so far, over all its lives."""
        return self._log.read_text() if self._log.exists() else ""

    # -- time and configuration ---------------------------------------------------------------

    def _set_clock(self) -> None:
        draft = self._clock.with_suffix(".new")
        draft.write_text("{} {}".format(*self._offsets))
        draft.replace(self._clock)

    def advance(self, hours: float) -> None:
        """Let time pass, on both clocks, and have the reaper look."""
        self.pass_while_stopped(hours)
        self.reload()

    def pass_while_stopped(self, hours: float) -> None:
        """Let time pass, on both clocks, while no daemon runs."""
        self._offsets = [offset + round(hours * HOUR_NS) for offset in self._offsets]
        self._set_clock()

    def set_wall_clock(self, hours: float) -> None:
        """Set the wall clock ahead (or back) alone, as an administrator or NTP does."""
        self._offsets[0] += round(hours * HOUR_NS)
        self._set_clock()

    def configure(self, text: str) -> None:
        """Write the configuration; `reload` makes a running daemon read it."""
        self._config.write_text(text or "{}\n")

    def reload(self) -> None:
        """Have the daemon read the configuration again, and wait until it did (and reaped)."""
        self.admin.reload()

    # -- asking -------------------------------------------------------------------------------

    @property
    def admin(self) -> RemoteAdmin:
        return RemoteAdmin(self.backing)

    def set_status(self, job: str, status: str) -> None:
        os.setxattr(self.path / job, "user.lffs.status", status.encode())

    def status(self, job: str) -> str:
        return os.getxattr(self.path / job, "user.lffs.status").decode()

    def manifest(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = self.admin.manifest(job)
        return found

    def states(self, job: str) -> dict[str, str]:
        """Return path → state of the manifest's entries."""
        return {path: entry["state"] for path, entry in self.manifest(job)["entries"].items()}

    def verify(self) -> None:
        """Fail unless every manifest agrees with the disk."""
        found = self.admin.verify()
        assert found == {"ok": True, "missing": [], "phantom": [], "corrupt": [], "unowned": []}, found

    def in_backing(self) -> set[str]:
        """Return what lies in the backing store, lffs's own directory left out."""
        return {path for path in tree(self.backing) if path.split("/")[0] != ".lffs"}

    def in_trash(self) -> set[str]:
        """Return the hidden files below the trash, without the jobs' numbers."""
        trash = self.backing / ".lffs" / "trash"
        return {path.split("/", 1)[1] for path in tree(trash, directories=False)}

    def requests(self) -> dict[str, int]:
        """Return how many requests of each kind the daemon has answered."""
        counts = {}
        for line in (self.path / ".lffs" / "metrics").read_text().splitlines():
            if line.startswith("lffs_requests_total"):
                counts[line.split('"')[1]] = int(line.rsplit(" ", 1)[1])
        return counts


def tree(top: Path, *, directories: bool = True) -> set[str]:
    """Return the paths below *top*."""
    found = set()
    for parent, names, files in os.walk(top):
        below = os.path.relpath(parent, top)
        for name in [*files, *(names if directories else [])]:
            found.add(os.path.normpath(os.path.join(below, name)))
    return found


def is_dead(path: Path) -> bool:
    """Tell whether the path fails as a mount does whose daemon was killed."""
    try:
        os.statvfs(path)  # always asked of the daemon; a stat may be answered from the cache
    except OSError as exc:
        return exc.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False
