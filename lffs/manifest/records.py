"""The rows of the store as values.

Paths are bytes, relative: a job's below BACKING, an entry's below its job, a directory's below
BACKING.  Times are nanoseconds since the epoch (UTC).
"""

import enum
from dataclasses import dataclass, field

from lffs.model import (
    DirectoryType,
    EntryKind,
    EntryOrigin,
    FileIdentity,
    FileType,
    JobStatus,
    JobType,
)


@dataclass(frozen=True, slots=True)
class Creator:
    """Who made a file: the process that made the system call, as the kernel named it."""

    uid: int = 0
    gid: int = 0
    pid: int = 0  # 0: unknown, or in another PID namespace
    command: str = ""  # the first 15 bytes of its name (proc_pid_comm(5))


UNKNOWN_CREATOR = Creator()


@dataclass(slots=True)
class Job:
    """One job: a directory whose path matches jobs.roots, and what was asked of it."""

    number: int  # its key in the store and its directory's name in the trash
    path: bytes  # below BACKING; the job id
    type: JobType
    status: JobStatus
    created_ns: int
    updated_ns: int
    status_since_ns: int
    identity: FileIdentity | None = None  # of its directory; None while that is lazy
    ended_ns: int | None = None  # its directory was removed or renamed away
    retention_hours: float | None = None  # set by xattr; None: the configuration's
    debug: bool | None = None  # set by xattr; None: the configuration's
    type_set: bool = False  # by xattr, not the configuration's default
    adopted: bool = False  # found with content; it may hold what lffs never saw made

    @property
    def id(self) -> str:
        """The job id as text; bytes that are no UTF-8 as surrogate escapes."""
        return self.path.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a non-directory in a job."""

    job: int
    path: bytes
    kind: EntryKind
    type: FileType  # by the rules; a Mark of the file's overrides it
    size: int  # at the last close, bytes; stat has the truth while it is present
    created_ns: int
    creator: Creator
    identity: FileIdentity
    origin: EntryOrigin = EntryOrigin.RECORDED


@dataclass(frozen=True, slots=True)
class Mark:
    """What people said of one inode by xattr; holds for all its names."""

    keep: bool = False
    type: FileType | None = None


NO_MARK = Mark()


class HideReason(enum.StrEnum):
    """Why a file is in the trash; decides what brings it back and from when retention counts."""

    STATUS = "status"  # its job completed
    RELEASED = "released"  # its job failed, and its maker asked not to preserve it
    UNLINKED = "unlinked"  # the pipeline unlinked it and cleanup.keep_unlinked names its type


@dataclass(frozen=True, slots=True)
class TrashEntry:
    """One hidden file."""

    number: int
    entry: Entry  # what it was, and where it comes back to
    name: bytes  # below the job's trash directory: the path, or one ending in .~N~
    reason: HideReason
    hidden_ns: int
    retention_hours: float  # the job's when it was hidden
    held: bool = False  # open for writing: retention starts at the last close


class DirectoryState(enum.StrEnum):
    """Where a recorded directory is."""

    REAL = "real"
    LAZY = "lazy"  # made through the mount, nothing in it yet: in the store alone
    HIDDEN = "hidden"  # vanished with the temporaries; kept for its mode and owner


@dataclass(slots=True)
class Directory:
    """One directory that lffs has something to remember of."""

    path: bytes
    state: DirectoryState
    number: int  # its st_ino in the mount, the same before and after it is made for real; 0: BACKING's
    mode: int  # permission bits with suid, sgid and sticky
    uid: int
    gid: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    birth_ns: int
    creator: Creator = UNKNOWN_CREATOR
    identity: FileIdentity | None = None  # None while it is lazy or hidden
    keep: bool = False
    declared: bool = False  # by directories.types, not by anyone's mkdir
    xattrs: dict[str, bytes] = field(default_factory=dict)  # of a hidden one, to come back with
    type: DirectoryType | None = None  # said by the job's maker; None: what its name says


@dataclass(frozen=True, slots=True)
class Removal:
    """One file that lffs deleted for good, and why: the audit trail."""

    entry: Entry
    removed_ns: int
    why: str
