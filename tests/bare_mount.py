"""An lffs mount with a daemon that answers nothing: all that a mount table, a signal and umount see.

The daemon is a process that holds /dev/fuse and the control socket and ends when the kernel drops the
mount, as the real one does.  It never answers INIT, so whoever touches the mount waits: what must
not touch it is tested here.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lffs.mounting.table import FS_TYPE, mount_over, read_mounts

_DAEMON = """
import ctypes, errno, os, socket, sys
backing, mountpoint, fs_type = map(os.fsencode, sys.argv[1:])
fuse = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % fuse
if libc.mount(backing, mountpoint, fs_type, 0, options):
    sys.exit(os.strerror(ctypes.get_errno()))
os.chdir(backing + b"/.lffs")
control = socket.socket(socket.AF_UNIX)
control.bind("control.sock")
control.listen()
os.write(1, b"mounted")
os.close(1)
try:
    while True:
        os.read(fuse, 1 << 17)
except OSError as exc:
    sys.exit(0 if exc.errno == errno.ENODEV else 1)
"""


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.fail("this test calls mount(2) itself, so it needs root")


@dataclass(frozen=True)
class BareMount:
    """The mount and its daemon."""

    backing: Path
    mountpoint: Path
    daemon: subprocess.Popen[bytes]

    def kill_daemon(self) -> None:
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()

    def is_mounted(self) -> bool:
        mount = mount_over(self.mountpoint, read_mounts())
        return mount is not None and mount.mountpoint == self.mountpoint

    def daemon_has_ended(self, wait_s: float = 0) -> bool:
        daemon_fd = os.pidfd_open(self.daemon.pid)
        try:
            return bool(select.select([daemon_fd], [], [], wait_s)[0])
        finally:
            os.close(daemon_fd)


@contextlib.contextmanager
def bare_mount(directory: Path) -> Iterator[BareMount]:
    """Mount ``directory/backing`` at ``directory/mnt``; both are made."""
    needs_root()
    backing, mountpoint = directory / "backing", directory / "mnt"
    (backing / ".lffs").mkdir(parents=True)
    mountpoint.mkdir()
    command = [sys.executable, "-c", _DAEMON, str(backing), str(mountpoint), FS_TYPE]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:
        mount = BareMount(backing, mountpoint, daemon)
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.read() == b"mounted", "cannot mount: is there a /dev/fuse?"
            yield mount
        finally:
            while mount.is_mounted():
                subprocess.run(["umount", "-i", "-l", mountpoint], check=True)
            daemon.kill()
