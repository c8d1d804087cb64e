"""Ending a mount from outside, and seeing it ended.

The daemon flushes and leaves when the kernel drops its mount; a command that returned before that
would let the next mount find the store in use.
"""

import os
import select
from collections.abc import Callable

from lffs.control.client import open_daemon
from lffs.errors import MountError
from lffs.mounting.table import (
    BusyMountError,
    Holder,
    Mount,
    UsageError,
    detach,
    find_holders,
    is_dead_mount,
    mount_over,
    read_mounts,
    resolve,
    unmount,
)

_DAEMON_LIMIT_S = 60.0
_BUSY_TRIES = 20
_BUSY_PAUSE_S = 0.05

Say = Callable[[str], None]


def end_mount(text: str, *, lazy: bool, say: Say) -> None:
    """Unmount the lffs mount at the path *text* and wait until its daemon is gone.

    A dead mount is detached, and said.  With *lazy* a busy mount is detached too; then the daemon
    ends later, with the last who is in it.  Raises UsageError if there is no lffs mount,
    BusyMountError naming the holders, MountError if the daemon stays.
    """
    mount = _lffs_mount_at(text)
    os.chdir("/")  # started in the mount, this very process would keep it busy
    daemon_fd = open_daemon(mount.backing)
    # Asked only where no daemon is found: one that hangs would never answer the question.
    if daemon_fd is None and is_dead_mount(mount.mountpoint):
        detach(mount.mountpoint)
        say(f"detached a dead mount of {mount.backing} at {mount.mountpoint}: its daemon had died")
        return
    try:
        held = find_holders(mount) if lazy else []
        if held:
            detach(mount.mountpoint)
            say(f"{mount.mountpoint} is detached; its daemon ends when these leave:\n{describe(held)}")
            return
        _unmount_patiently(mount, daemon_fd)
        _see_it_ended(mount, daemon_fd, say)
    finally:
        if daemon_fd is not None:
            os.close(daemon_fd)


def _lffs_mount_at(text: str) -> Mount:
    mounts = read_mounts()
    path = resolve(text, mounts)
    mount = mount_over(path, mounts)
    if mount is None or not mount.is_lffs:
        raise UsageError(f"{text}: no lffs mount; expected is a mountpoint")
    if mount.mountpoint != path:
        raise UsageError(f"{text} lies in an lffs mount; its mountpoint is {mount.mountpoint}")
    return mount


def _unmount_patiently(mount: Mount, daemon_fd: int | None) -> None:
    """Unmount; busy with no holder to be seen is a process in the middle of its exit: try again."""
    for _ in range(_BUSY_TRIES):
        try:
            unmount(mount.mountpoint)
            return
        except BusyMountError:
            holders = find_holders(mount)
            if holders:
                raise BusyMountError(
                    f"{mount.mountpoint} is busy; these hold it (--lazy detaches it all the same):\n"
                    + describe(holders)
                ) from None
        _has_ended(daemon_fd, _BUSY_PAUSE_S)
    raise BusyMountError(f"{mount.mountpoint} is busy; who holds it is not to be seen: are you root?")


def _see_it_ended(mount: Mount, daemon_fd: int | None, say: Say) -> None:
    left = [other.mountpoint for other in read_mounts() if other.device == mount.device]
    if left:  # a bind mount: the daemon has to stay
        say(f"{mount.mountpoint} is unmounted; {mount.backing} is still mounted at {left[0]}")
    elif daemon_fd is None:
        say(f"{mount.mountpoint} is unmounted; whether its daemon has ended is not to be seen from here")
    elif not _has_ended(daemon_fd, _DAEMON_LIMIT_S):
        raise MountError(
            f"{mount.mountpoint} is unmounted, but its daemon still runs after {_DAEMON_LIMIT_S:.0f} s:"
            " busy with the store, or mounted in another namespace (a container)"
        )


def _has_ended(daemon_fd: int | None, wait_s: float) -> bool:
    poll = select.poll()
    if daemon_fd is not None:
        poll.register(daemon_fd, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))


def describe(holders: list[Holder]) -> str:
    """Return a line for each holder: pid, command, path and how."""
    return "\n".join(
        f"  {f'pid {holder.pid}' if holder.pid else 'mount'}  {holder.command}  {holder.path}  ({holder.how})"
        for holder in holders
    )
