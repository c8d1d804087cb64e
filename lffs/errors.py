"""What lffs itself refuses or fails at.

Every error knows the errno that a system call through the mount is answered with, so that an
adapter needs no table of its own.  What the backing store refuses stays the OSError it was.
"""

import errno


class LffsError(Exception):
    """Base of what lffs itself refuses or fails at; errno is what the kernel is told."""

    errno = errno.EIO


class ConfigError(LffsError, ValueError):
    """A configuration that can't be used; the message names file, line and key."""

    errno = errno.EINVAL


class InvalidStatusError(LffsError, ValueError):
    """No JobStatus, or not one that the job may take from where it stands."""

    errno = errno.EINVAL


class JobBusyError(LffsError):
    """The job is cleaning_up; its status can be set when that is over."""

    errno = errno.EBUSY


class InvalidJobIdError(LffsError, ValueError):
    """No id of a job: empty, absolute, with an empty, ``.`` or ``..`` component, or no job root's."""

    errno = errno.EINVAL


class InvalidPathError(LffsError, ValueError):
    """No path of a file or directory in the job: empty, with ``..``, or one that lies elsewhere."""

    errno = errno.EINVAL


class UnknownJobError(LffsError, LookupError):
    """No job of that id is recorded."""

    errno = errno.ENOENT


class CleanRefusedError(LffsError):
    """A cleanup would take more of a job than cleanup.max_share allows; nothing was touched."""

    errno = errno.EPERM


class StoreError(LffsError):
    """The manifest store can't be opened, read or written."""


class NewerStoreError(StoreError):
    """The manifest store was written by a newer lffs; nothing in it was touched."""


class StoreInUseError(StoreError):
    """Another lffs has the backing store; the message names its process."""

    errno = errno.EBUSY


class MountError(LffsError):
    """A mount that can't be made or ended; the message says what to do."""


class StaleFileError(LffsError):
    """What an inode number stood for is gone from its place; the kernel looks the path up again."""

    errno = errno.ESTALE
