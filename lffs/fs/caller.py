"""Who makes a request, and what they may do where the kernel does not check it for lffs."""

import errno
import os
import stat
from typing import NamedTuple

from lffs.manifest.records import Creator
from lffs.process import command_name, supplementary_groups
from lffs.syscalls import Stat


class Caller(NamedTuple):
    """The process behind a request, as the kernel names it."""

    uid: int
    gid: int
    pid: int  # 0: in a PID namespace that this one can't see
    umask: int = 0

    def creator(self) -> Creator:
        """Return who to record as the maker of a file."""
        return Creator(self.uid, self.gid, self.pid, command_name(self.pid))


def require_owner(caller: Caller, status: Stat, what: str) -> None:
    """Raise PermissionError (EPERM) unless the caller owns the file or is root."""
    if caller.uid not in (0, status.uid):
        raise PermissionError(errno.EPERM, f"only the owner or root may set {what}")


def require_right_to_unlink(caller: Caller, parent: Stat, status: Stat, what: str) -> None:
    """Raise PermissionError unless the caller could unlink the file from its directory.

    That takes write and search permission on the directory and, where that is sticky, owning it or
    the file (unlink(2)).  POSIX ACLs are not looked at: who has the right by an ACL alone is
    refused.
    """
    if caller.uid == 0:
        return
    if not _may_write_directory(caller, parent):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), what)
    if parent.mode & stat.S_ISVTX and caller.uid not in (parent.uid, status.uid):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), what)


def mode_after_change(status: Stat, caller: Caller) -> int:
    """Return the mode that a file has after the caller changed what is in it.

    Root leaves it as it is; others clear suid, and sgid unless that stands without group execution
    (where it once meant mandatory locking) and the group is one of theirs.
    """
    if caller.uid == 0:
        return status.mode
    if status.mode & stat.S_IXGRP or not _is_in_group(caller, status.gid):
        return status.mode & ~(stat.S_ISUID | stat.S_ISGID)
    return status.mode & ~stat.S_ISUID


def _is_in_group(caller: Caller, gid: int) -> bool:
    return caller.gid == gid or gid in supplementary_groups(caller.pid)


def _may_write_directory(caller: Caller, directory: Stat) -> bool:
    if caller.uid == directory.uid:
        bits = directory.mode >> 6
    elif _is_in_group(caller, directory.gid):
        bits = directory.mode >> 3
    else:
        bits = directory.mode
    return bits & 0o3 == 0o3
