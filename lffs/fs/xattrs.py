"""The extended attributes user.lffs.*: how anyone tells lffs things, and asks.

Each name is a row of a table: on what it is, how it is read, how it is set.  listxattr never names
them: what is listed is copied by cp -a, and a copied file type would make a final a temporary.
"""

import dataclasses
import errno
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from lffs.directories import identity_of
from lffs.fs.caller import Caller, require_owner, require_right_to_unlink
from lffs.fs.inodes import ROOT_NUMBER, Node
from lffs.handles import join
from lffs.jobs import parse_status
from lffs.manifest.records import Entry, Job, Mark
from lffs.model import FileIdentity, FileType, JobStatus, JobType
from lffs.units import MAX_RETENTION_HOURS
from lffs.work import Answer

if TYPE_CHECKING:
    from lffs.fs.filesystem import Filesystem

_PREFIX = b"user.lffs."
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _JobAttribute:
    """An attribute of job directories; without *set* it is read-only."""

    get: Callable[["LffsXattrs", Job], str]
    set: Callable[["LffsXattrs", Job, bytes], Answer[None]] | None = None
    reset: Callable[["LffsXattrs", Job], Answer[None]] | None = None


class LffsXattrs:
    """Reads and sets user.lffs.* on the nodes of a filesystem."""

    def __init__(self, filesystem: "Filesystem") -> None:
        self._fs = filesystem
        self._backing = filesystem.backing

    def owns(self, name: bytes) -> bool:
        """Tell whether the attribute is lffs's own."""
        return name.startswith(_PREFIX)

    def get(self, node: Node, name: bytes) -> bytes:
        """Return the value; ENODATA for what this file or directory does not have."""
        key = name[len(_PREFIX) :].decode("ascii", "replace")
        job = self._job_at(node)
        if job is not None and key in _JOB_ATTRIBUTES:
            return _JOB_ATTRIBUTES[key].get(self, job).encode("utf-8", "surrogateescape")
        if key == "keep":
            return b"1" if self._is_kept(node) else b"0"
        if not node.is_directory and key in ("file_type", "job_id"):
            owner, entry = self._recorded(node)
            if owner is not None and key == "job_id":
                return owner.path
            if entry is not None:
                mark = self._backing.store.mark(entry.identity)
                return (mark.type or entry.type).value.encode()
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))

    def set(self, node: Node, name: bytes, value: bytes, caller: Caller) -> Answer[None]:
        """Set the attribute, or raise: EPERM without the right, EINVAL for anything not understood."""
        if value.endswith((b"\n", b"\0")):
            value = value[:-1]
        key = name[len(_PREFIX) :].decode("ascii", "replace")
        job = self._job_at(node)
        if job is not None and key in _JOB_ATTRIBUTES:
            attribute = _JOB_ATTRIBUTES[key]
            self._require_settable(node, attribute.set is not None, caller, key)
            assert attribute.set is not None
            return attribute.set(self, job, value)
        if key == "keep":
            self._require_unlink(node, caller)
            self._set_keep(node, _parse_switch(value))
            return None
        if not node.is_directory and key == "file_type":
            self._require_unlink(node, caller)
            self._set_type(node, _parse(FileType, value))
            return None
        if not node.is_directory and key == "job_id":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def remove(self, node: Node, name: bytes, caller: Caller) -> Answer[None]:
        """Restore a settable attribute's default."""
        key = name[len(_PREFIX) :].decode("ascii", "replace")
        job = self._job_at(node)
        if job is not None and key in _JOB_ATTRIBUTES:
            attribute = _JOB_ATTRIBUTES[key]
            self._require_settable(node, attribute.reset is not None, caller, key)
            assert attribute.reset is not None
            return attribute.reset(self, job)
        if key == "keep":
            self._require_unlink(node, caller)
            self._set_keep(node, False)
            return None
        if not node.is_directory and key == "file_type":
            self._require_unlink(node, caller)
            self._set_type(node, None)
            return None
        if not node.is_directory and key == "job_id":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))

    # -- rights -------------------------------------------------------------------------------

    def _require_settable(self, node: Node, settable: bool, caller: Caller, key: str) -> None:
        require_owner(caller, self._fs.tree.status(node), key)
        if not settable:
            raise PermissionError(errno.EPERM, f"user.lffs.{key} is lffs's own to set")

    def _require_unlink(self, node: Node, caller: Caller) -> None:
        status = self._fs.tree.status(node)
        if node.number == ROOT_NUMBER:
            require_owner(caller, status, "keep")
            return
        parent = next((parent for parent, _ in node.dentries), None)
        if parent is None:
            raise OSError(errno.EINVAL, "the file has no name any more")
        require_right_to_unlink(caller, self._fs.tree.status(parent), status, "user.lffs")

    # -- files and directories ----------------------------------------------------------------

    def _job_at(self, node: Node) -> Job | None:
        if not node.is_directory or not node.dentries:
            return None
        return self._backing.jobs.at(node.path())

    def _recorded(self, node: Node) -> tuple[Job | None, Entry | None]:
        for parent, name in node.dentries:
            job, entry = self._fs.recorder.entry_at(join(parent.path(), name))
            if job is not None:
                return job, entry
        return None, None

    def _is_kept(self, node: Node) -> bool:
        if not node.dentries and node.number != ROOT_NUMBER:
            return False  # it has no name any more, and with it lost its pin
        if node.is_directory:
            return self._backing.directories.has_pin(self._path(node))
        return self._backing.store.mark(self._identity(node)).keep

    def _set_keep(self, node: Node, keep: bool) -> None:
        if node.is_directory:
            path = self._path(node)
            status = self._fs.tree.status(node)
            status.ino = node.ino
            self._backing.directories.set_keep(path, status, keep)
        else:
            self._change_mark(node, lambda mark: dataclasses.replace(mark, keep=keep))
        self._backing.store.commit()

    def _set_type(self, node: Node, type_: FileType | None) -> None:
        if self._recorded(node)[1] is None:
            raise OSError(errno.EINVAL, "only a file of a job has a type")
        self._change_mark(node, lambda mark: dataclasses.replace(mark, type=type_))
        self._backing.store.commit()

    def _change_mark(self, node: Node, change: Callable[[Mark], Mark]) -> None:
        identity = self._identity(node)
        self._backing.store.set_mark(identity, change(self._backing.store.mark(identity)))

    def _identity(self, node: Node) -> FileIdentity:
        status = self._fs.tree.place(node).status
        return identity_of(status)

    def _path(self, node: Node) -> bytes:
        return node.path()

    # -- jobs ---------------------------------------------------------------------------------

    def set_status(self, job: Job, value: bytes) -> Answer[None]:
        return self._fs.set_status(job, parse_status(value))

    def reset_status(self, job: Job) -> Answer[None]:
        """A job's default status is the one it has from its first file."""
        if job.status is JobStatus.CREATED:
            return None
        return self._fs.set_status(job, JobStatus.RUNNING)

    def set_type(self, job: Job, value: bytes) -> None:
        self._fs.set_job_type(job, _parse(JobType, value))

    def reset_type(self, job: Job) -> None:
        self._fs.set_job_type(job, None)

    def set_retention(self, job: Job, value: bytes) -> None:
        self._change_job(job, retention_hours=_parse_hours(value))

    def reset_retention(self, job: Job) -> None:
        self._change_job(job, retention_hours=None)

    def set_debug(self, job: Job, value: bytes) -> None:
        self._change_job(job, debug=_parse_switch(value))

    def reset_debug(self, job: Job) -> None:
        self._change_job(job, debug=None)

    def _change_job(self, job: Job, **values: object) -> None:
        for key, value in values.items():
            setattr(job, key, value)
        self._backing.jobs.update(job, self._backing.clock.wall_ns())
        self._backing.store.commit()
        self._fs.deadlines_changed()

    def retention(self, job: Job) -> float:
        return self._backing.jobs.retention_hours(job)

    def debug(self, job: Job) -> bool:
        return self._backing.jobs.debug(job)

    def total(self, job: Job, key: str) -> str:
        return str(getattr(self._backing.totals(job), key))


_JOB_ATTRIBUTES = {
    "status": _JobAttribute(
        lambda xattrs, job: job.status.value, LffsXattrs.set_status, LffsXattrs.reset_status
    ),
    "job_type": _JobAttribute(lambda xattrs, job: job.type.value, LffsXattrs.set_type, LffsXattrs.reset_type),
    "retention_hours": _JobAttribute(
        lambda xattrs, job: _hours_text(xattrs.retention(job)),
        LffsXattrs.set_retention,
        LffsXattrs.reset_retention,
    ),
    "debug": _JobAttribute(
        lambda xattrs, job: str(int(xattrs.debug(job))),
        LffsXattrs.set_debug,
        LffsXattrs.reset_debug,
    ),
    "job_id": _JobAttribute(lambda xattrs, job: job.id),
    "files": _JobAttribute(lambda xattrs, job: xattrs.total(job, "files")),
    "bytes": _JobAttribute(lambda xattrs, job: xattrs.total(job, "bytes")),
    "temp_files": _JobAttribute(lambda xattrs, job: xattrs.total(job, "temp_files")),
    "temp_bytes": _JobAttribute(lambda xattrs, job: xattrs.total(job, "temp_bytes")),
}


def _parse(kind: Callable[[str], T], value: bytes) -> T:
    try:
        return kind(value.decode("ascii"))
    except ValueError:
        raise OSError(errno.EINVAL, f"{value!r} is not one of the values allowed") from None


def _parse_switch(value: bytes) -> bool:
    if value not in (b"0", b"1"):
        raise OSError(errno.EINVAL, f"{value!r} is neither 0 nor 1")
    return value == b"1"


def _parse_hours(value: bytes) -> float:
    try:
        hours = float(value.decode("ascii"))
    except ValueError:
        hours = math.nan
    # As in the configuration: beyond it no clock could count, and nobody means it.
    if not 0 <= hours <= MAX_RETENTION_HOURS:
        raise OSError(errno.EINVAL, f"{value!r} is no number of hours from 0 to {MAX_RETENTION_HOURS}")
    return hours


def _hours_text(hours: float) -> str:
    """Return the number in full: what is read can be set again."""
    return str(int(hours)) if hours == int(hours) else repr(hours)
