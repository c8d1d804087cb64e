"""The trash: BACKING/.lffs/trash, one directory a job, named by the job's number.

Below it hidden files lie at the paths they had, in directories of the same mode and owner, so that
reading them there takes the same rights.  This module moves and deletes single files, by
descriptor, name by name, following no link, and makes sure each time that it has the very file that
it was told of.  It decides nothing and writes no records.
"""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from lffs import syscalls
from lffs.directories import identity_of
from lffs.errors import LffsError
from lffs.handles import DirectoryHandles, join, split
from lffs.jobs import NAME_MAX
from lffs.manifest.records import TrashEntry
from lffs.model import EntryKind, FileIdentity


class ChangedFileError(LffsError):
    """Another file has the name now; it was not touched."""

    errno = errno.ESTALE


class HeldFileError(LffsError):
    """The file is open for writing; it is deleted after its last close."""

    errno = errno.EBUSY


@dataclass(frozen=True, slots=True)
class Deletion:
    """One file to delete from the trash, as plain values for a thread."""

    hidden: TrashEntry
    directory: bytes  # below the trash
    name: bytes


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of a deletion."""

    hidden: TrashEntry
    error: OSError | LffsError | None  # None: it is gone
    bytes_freed: int = 0  # 0 while another hard link holds the bytes
    was_last_name: bool = False


class Trash:
    """The trash of one backing store."""

    def __init__(self, descriptor: int) -> None:
        """*descriptor* is an open directory, readable by its owner alone."""
        self._handles = DirectoryHandles(descriptor, limit=64)
        self._fd = descriptor
        # The hidden files that threads have been told to delete, by number.  Whoever takes one back
        # or renames it calls it off first; the lock makes sure that the thread's last look at the
        # claim and its unlink are one step, so that what was called off is not deleted.
        self._claims: set[int] = set()
        self._claims_lock = threading.Lock()

    def directory_of(self, job: int) -> bytes:
        """Return the job's directory below the trash."""
        return b"%d" % job

    def open(self, path: bytes) -> int:
        """Return a descriptor of a directory below the trash, for looking at hidden files."""
        return self._handles.open(path)

    def identity(self, job: int, name: bytes) -> FileIdentity | None:
        """Return which file lies in the job's trash at *name*, or None."""
        directory, base = split(join(self.directory_of(job), name))
        try:
            return identity_of(syscalls.statx(self._handles.open(directory), base))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def take(self, source_fd: int, source: bytes, identity: FileIdentity, job: int, name: bytes) -> None:
        """Move the file *source* into the job's trash at *name*, whose directory `prepare` made.

        Raises ChangedFileError if *source* is another file than *identity*, which then lies where
        it lay, and FileExistsError if the trash has that name.
        """
        if identity_of(syscalls.statx(source_fd, source)) != identity:
            raise ChangedFileError(f"{os.fsdecode(source)}: another file has this name now")
        directory, base = split(join(self.directory_of(job), name))
        trash_fd = self._handles.open(directory)
        syscalls.renameat2(source_fd, source, trash_fd, base, syscalls.RENAME_NOREPLACE)
        # The name may have been swapped between the look and the move: then it goes back.
        if identity_of(syscalls.statx(trash_fd, base)) != identity:
            syscalls.renameat2(trash_fd, base, source_fd, source, syscalls.RENAME_NOREPLACE)
            raise ChangedFileError(f"{os.fsdecode(source)}: another file has this name now")

    def put_back(self, hidden: TrashEntry, target_fd: int, target: bytes) -> None:
        """Move a hidden file to *target*.

        Raises FileExistsError if that name is taken and ChangedFileError if the trash holds
        another file.
        """
        self._call_off(hidden)
        directory, base = split(join(self.directory_of(hidden.entry.job), hidden.name))
        trash_fd = self._handles.open(directory)
        if identity_of(syscalls.statx(trash_fd, base)) != hidden.entry.identity:
            raise ChangedFileError(f"{os.fsdecode(hidden.name)} in the trash is another file")
        syscalls.renameat2(trash_fd, base, target_fd, target, syscalls.RENAME_NOREPLACE)

    def move_aside(self, hidden: TrashEntry) -> bytes:
        """Rename a hidden file to ``NAME.~N~``, N the next free; return that name."""
        self._call_off(hidden)
        directory, base = split(hidden.name)
        job = hidden.entry.job
        trash_fd = self._handles.open(join(self.directory_of(job), directory).rstrip(b"/"))
        while True:
            aside = self.free_name(job, hidden.name)
            try:
                syscalls.renameat2(trash_fd, base, trash_fd, split(aside)[1], syscalls.RENAME_NOREPLACE)
            except FileExistsError:
                continue
            return aside

    def free_name(self, job: int, name: bytes) -> bytes:
        """Return the first of ``NAME.~1~``, ``NAME.~2~``, ... that the job's trash does not have."""
        directory, base = split(name)
        number = 1
        while True:
            ending = b".~%d~" % number
            aside = join(directory, base[: NAME_MAX - len(ending)] + ending)
            if not self.has(job, aside):
                return aside
            number += 1

    def has(self, job: int, name: bytes) -> bool:
        """Tell whether the job's trash has anything at *name*."""
        directory, base = split(join(self.directory_of(job), name))
        try:
            return syscalls.exists(self._handles.open(directory), base)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def find(self, job: int, name: bytes, identity: FileIdentity) -> bytes | None:
        """Return where the file lies in the trash directory of *name*, under whatever name."""
        directory = split(name)[0]
        try:
            descriptor = self._handles.open(join(self.directory_of(job), directory).rstrip(b"/"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        for entry in syscalls.list_directory(descriptor):
            base = os.fsencode(entry.name)
            if identity_of(syscalls.statx(descriptor, base)) == identity:
                return join(directory, base)
        return None

    def prepare(self, job: int, job_fd: int, directory: bytes) -> None:
        """Make the job's trash directory and, below it, *directory*, like those in the job.

        *job_fd* is the job's directory; modes, owners and xattrs are copied from there, so that a
        hidden file is as hard to reach as it was in its place.
        """
        target = self.directory_of(job)
        _mirror(self._fd, target, job_fd)
        source_fd, owned = job_fd, False
        try:
            for name in directory.split(b"/") if directory else []:
                below = syscalls.open_directory(source_fd, name)
                if owned:
                    os.close(source_fd)
                source_fd, owned = below, True
                _mirror(self._handles.open(target), name, source_fd)
                target = join(target, name)
        finally:
            if owned:
                os.close(source_fd)

    def mirrored(self, job: int, directory: bytes) -> tuple[syscalls.Stat, dict[str, bytes]] | None:
        """Return what is kept of the job's *directory* (mode, owner and xattrs), or None."""
        try:
            descriptor = self._handles.open(join(self.directory_of(job), directory))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return syscalls.statx(descriptor), syscalls.all_xattrs(descriptor, b".")

    # -- deleting -----------------------------------------------------------------------------

    def is_claimed(self, hidden: TrashEntry) -> bool:
        """Tell whether a thread has been told to delete the hidden file and has not answered yet."""
        return hidden.number in self._claims

    def answered(self, deletions: list[Deletion]) -> None:
        """The thread is done with these."""
        with self._claims_lock:
            self._claims.difference_update(deletion.hidden.number for deletion in deletions)

    def _call_off(self, hidden: TrashEntry) -> None:
        with self._claims_lock:
            self._claims.discard(hidden.number)

    def deletion(self, hidden: TrashEntry) -> Deletion:
        """Return what a thread needs to delete the hidden file, and claim it."""
        self._claims.add(hidden.number)
        directory, base = split(join(self.directory_of(hidden.entry.job), hidden.name))
        return Deletion(hidden, directory, base)

    def delete(self, deletions: list[Deletion]) -> list[Deleted]:
        """Delete hidden files for good; runs in a thread and touches nothing but the trash.

        Each is looked at again just before: the very file, open for writing nowhere, and not called
        off.  What can't be deleted is returned with its error, what was called off is not returned,
        and the rest is deleted.
        """
        handles = DirectoryHandles(self._fd, limit=64)
        done = []
        try:
            for deletion in deletions:
                try:
                    status = self._delete(handles.open(deletion.directory), deletion)
                except FileNotFoundError:
                    if deletion.hidden.number in self._claims:  # else it was just moved
                        done.append(Deleted(deletion.hidden, None))
                except (OSError, LffsError) as exc:
                    done.append(Deleted(deletion.hidden, exc))
                else:
                    if status is not None:
                        last = status.nlink == 1
                        done.append(Deleted(deletion.hidden, None, status.size if last else 0, last))
            for directory in {deletion.directory for deletion in deletions}:
                _remove_empty(handles, directory)
        finally:
            handles.close()
        return done

    def _delete(self, directory_fd: int, deletion: Deletion) -> syscalls.Stat | None:
        """Delete one file; None if it was called off."""
        with _held_open(directory_fd, deletion), self._claims_lock:
            if deletion.hidden.number not in self._claims:
                return None
            status = syscalls.statx(directory_fd, deletion.name)
            if identity_of(status) != deletion.hidden.entry.identity or stat.S_ISDIR(status.mode):
                raise ChangedFileError(f"{os.fsdecode(deletion.name)} in the trash is another file")
            # Held open as it is, this takes no time, however large the file: closing it does.
            os.unlink(deletion.name, dir_fd=directory_fd)
            return status

    def forget_handles(self) -> None:
        """Close the cached directories: a thread may have removed some of them."""
        self._handles.forget(b"")

    def highest_job(self) -> int:
        """Return the highest number of a job's directory, 0 where there is none."""
        # A longer number is no job's: SQLite could not hold it.
        numbers = (int(name) for name in _names(self._fd) if name.isdigit() and len(name) <= 18)
        return max(numbers, default=0)

    def files(self, job: int | None = None) -> Iterator[tuple[int, bytes, FileIdentity]]:
        """Yield (job number, name, identity) of everything that lies in the trash."""
        top = [b"%d" % job] if job is not None else _names(self._fd)
        for number in top:
            if number.isdigit():
                for name, identity in _walk(self._handles, number, b""):
                    yield int(number), name, identity


@contextlib.contextmanager
def _held_open(directory_fd: int, deletion: Deletion) -> Iterator[None]:
    """Hold the file that is to be deleted; raise if it is another one, or open for writing.

    What is no regular file, or can't be opened (a daemon that is not root, a file of mode 000: its
    own handles are all that it can know), is not held.
    """
    if deletion.hidden.entry.kind is not EntryKind.FILE:
        yield
        return
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(deletion.name, flags, dir_fd=directory_fd)
    except PermissionError:
        yield
        return
    try:
        if identity_of(syscalls.statx(descriptor)) != deletion.hidden.entry.identity:
            raise ChangedFileError(f"{os.fsdecode(deletion.name)} in the trash is another file")
        if syscalls.is_open_for_writing(descriptor):
            raise HeldFileError(f"{os.fsdecode(deletion.name)} is open for writing")
        yield
    finally:
        os.close(descriptor)


def _remove_empty(handles: DirectoryHandles, directory: bytes) -> None:
    """Remove trash directories that nothing is left in, from *directory* upwards.

    One that can't be removed is no failure: it is tried again when the next file in it is deleted.
    """
    while directory:
        parent, name = split(directory)
        handles.forget(directory)
        try:
            os.rmdir(name, dir_fd=handles.open(parent))
        except FileNotFoundError:
            pass
        except OSError:
            return
        directory = parent


def _mirror(parent_fd: int, name: bytes, like_fd: int) -> None:
    """Make a directory as hard to enter as the one it stands for; one that is there is made so."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent_fd)
    like = syscalls.statx(like_fd)
    mode = stat.S_IMODE(like.mode)
    if os.geteuid() != 0:
        mode |= stat.S_IRWXU  # not being root, lffs must itself be able to move files in and out
    found = syscalls.statx(parent_fd, name)
    if (found.uid, found.gid) != (like.uid, like.gid):
        os.chown(name, like.uid, like.gid, dir_fd=parent_fd, follow_symlinks=False)
        found = syscalls.statx(parent_fd, name)
    wanted = syscalls.all_xattrs(like_fd, b".")
    if stat.S_IMODE(found.mode) == mode and wanted == syscalls.all_xattrs(parent_fd, name):
        return
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    try:
        for attribute in syscalls.all_xattrs(parent_fd, name).keys() - wanted.keys():
            os.removexattr(descriptor, attribute)
        for attribute, value in wanted.items():
            os.setxattr(descriptor, attribute, value)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _names(descriptor: int) -> list[bytes]:
    return [os.fsencode(entry.name) for entry in syscalls.list_directory(descriptor)]


def _walk(handles: DirectoryHandles, root: bytes, below: bytes) -> Iterator[tuple[bytes, FileIdentity]]:
    with contextlib.suppress(FileNotFoundError):
        descriptor = handles.open(join(root, below).rstrip(b"/"))
        for name in _names(descriptor):
            status = syscalls.statx(handles.open(join(root, below).rstrip(b"/")), name)
            if status.is_directory:
                yield from _walk(handles, root, join(below, name))
            else:
                yield join(below, name), identity_of(status)
