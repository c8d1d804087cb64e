"""Directories that lffs remembers: lazy ones, and what real ones need kept.

A lazy directory was made through the mount and lives in the store alone until the first file, link
or node is made in or below it (requirement 1.1); then it is made in the backing store with the mode,
owner and times that it has, in one step that a crash can't cut in two.  All lazy directories are in
memory, by path.  Real directories of jobs are rows in the store; in memory only where their inode
number in the mount is not the backing store's.
"""

import contextlib
import errno
import logging
import os
import stat

from lffs import syscalls
from lffs.handles import DirectoryHandles, split
from lffs.manifest.records import UNKNOWN_CREATOR, Creator, Directory, DirectoryState
from lffs.manifest.store import Store
from lffs.model import DirectoryType, FileIdentity
from lffs.syscalls import Stat

log = logging.getLogger(__name__)

# Inode numbers that lffs hands out itself start here: above what backing filesystems count to.
FIRST_OWN_NUMBER = 1 << 48


def identity_of(status: Stat) -> FileIdentity:
    """Return which very file *status* is of; the inode number kept within SQLite's 63 bits."""
    return FileIdentity(status.ino & 0x7FFF_FFFF_FFFF_FFFF, status.birth_ns)


class Directories:
    """The remembered directories of one backing store."""

    def __init__(self, store: Store, handles: DirectoryHandles, staging_fd: int) -> None:
        """*staging_fd* is a directory on BACKING's filesystem that nobody else looks into."""
        self._store = store
        self._handles = handles
        self._staging_fd = staging_fd
        self._device = syscalls.statx(handles.root_fd).dev
        self._next_number = FIRST_OWN_NUMBER
        self.reload()

    def reload(self) -> None:
        """Take everything from the store: at the start, and when it lost what was not committed."""
        self._lazy: dict[bytes, Directory] = {}
        self._lazy_names: dict[bytes, set[bytes]] = {}
        self._numbers: dict[FileIdentity, int] = {}
        self._pinned: set[bytes] = set()
        for directory in self._store.directories():
            self._remember(directory)

    # -- looking ------------------------------------------------------------------------------

    def lazy(self, path: bytes) -> Directory | None:
        """Return the lazy directory at *path*."""
        return self._lazy.get(path)

    def lazy_names(self, parent: bytes) -> frozenset[bytes]:
        """Return the names of the lazy directories in *parent*, itself lazy or real."""
        return frozenset(self._lazy_names.get(parent, ()))

    def number_of(self, identity: FileIdentity) -> int | None:
        """Return the inode number in the mount of a real directory, where it is not its own."""
        return self._numbers.get(identity)

    def new_number(self) -> int:
        """Return an inode number that was never handed out before."""
        self._next_number += 1
        return self._next_number

    def is_pinned(self, path: bytes) -> bool:
        """Tell whether the directory at *path* or one above it has user.lffs.keep = 1."""
        if not self._pinned:
            return False
        while path:
            if path in self._pinned:
                return True
            path = split(path)[0]
        return b"" in self._pinned

    def has_pin(self, path: bytes) -> bool:
        """Tell whether the directory at *path* has user.lffs.keep = 1 itself."""
        return path in self._pinned

    def pins(self) -> frozenset[bytes]:
        """Return the directories that have user.lffs.keep = 1 themselves."""
        return frozenset(self._pinned)

    # -- making and removing ------------------------------------------------------------------

    def make_lazy(
        self,
        path: bytes,
        *,
        mode: int,
        uid: int,
        gid: int,
        now_ns: int,
        creator: Creator = UNKNOWN_CREATOR,
        declared: bool = False,
    ) -> Directory:
        """Remember a directory that is not in the backing store yet."""
        directory = Directory(
            path=path,
            state=DirectoryState.LAZY,
            number=self.new_number(),
            mode=stat.S_IMODE(mode),
            uid=uid,
            gid=gid,
            atime_ns=now_ns,
            mtime_ns=now_ns,
            ctime_ns=now_ns,
            birth_ns=now_ns,
            creator=creator,
            declared=declared,
        )
        self._put(directory)
        return directory

    def record_real(self, path: bytes, status: Stat, creator: Creator = UNKNOWN_CREATOR) -> None:
        """Record a directory of a job that is in the backing store."""
        known = self._store.directory(path)
        if known is not None and known.state is DirectoryState.LAZY:
            self.found_real(path, status)
            return
        if known is not None and known.identity == identity_of(status):
            return
        self._put(
            Directory(
                path=path,
                state=DirectoryState.REAL,
                number=known.number if known and known.state is DirectoryState.REAL else 0,
                mode=stat.S_IMODE(status.mode),
                uid=status.uid,
                gid=status.gid,
                atime_ns=status.atime_ns,
                mtime_ns=status.mtime_ns,
                ctime_ns=status.ctime_ns,
                birth_ns=status.birth_ns,
                creator=creator,
                identity=identity_of(status),
                keep=known.keep if known else False,
                type=known.type if known else None,
            )
        )

    def found_real(self, path: bytes, status: Stat) -> None:
        """A lazy directory turned out to exist: the real one wins, and keeps the number."""
        directory = self._lazy[path]
        self._forget_in_memory(directory)
        directory.state = DirectoryState.REAL
        directory.identity = identity_of(status)
        self._put(directory)

    def change(self, directory: Directory) -> None:
        """Write what was changed in a lazy directory's record."""
        self._store.put_directory(directory)

    def set_keep(self, path: bytes, status: Stat, keep: bool) -> None:
        """Pin the directory at *path*, or unpin it."""
        directory = self._lazy.get(path) or self._store.directory(path)
        if directory is None or directory.state is DirectoryState.HIDDEN:
            self.record_real(path, status)
            directory = self._store.directory(path)
            assert directory is not None
        directory.keep = keep
        self._put(directory)
        self._store.said_changed = True

    def set_type(self, path: bytes, status: Stat, type_: DirectoryType) -> None:
        """Say what the directory at *path*, real or lazy, is for."""
        if path not in self._lazy:
            self.record_real(path, status)
        directory = self._lazy.get(path) or self._store.directory(path)
        assert directory is not None
        directory.type = type_
        self._put(directory)

    def remove(self, path: bytes) -> None:
        """Forget the directory at *path*: it was removed."""
        directory = self._lazy.get(path) or self._store.directory(path)
        if directory is None:
            return
        self._forget_in_memory(directory)
        self._store.remove_directory(path)

    def move(self, old: bytes, new: bytes) -> list[Directory]:
        """Follow the rename of a directory: give it and all below it their new paths."""
        replaced = self._store.directory(new)
        if replaced is not None:
            self._forget_in_memory(replaced)
            self._store.remove_directory(new)
        for directory in self._store.directories(old):
            self._forget_in_memory(directory)
        moved = self._store.move_directories(old, new)
        for directory in moved:
            self._remember(directory)
        return moved

    def exchange(self, first: bytes, second: bytes) -> None:
        """Follow the exchange of two paths: what is remembered at and below each has the other's."""
        there = [(directory, first, second) for directory in self._store.directories(first)]
        back = [(directory, second, first) for directory in self._store.directories(second)]
        for directory, _, _ in there + back:
            self._forget_in_memory(directory)
            self._store.remove_directory(directory.path)
        for directory, old, new in there + back:
            directory.path = new + directory.path[len(old) :]
            self._store.put_directory(directory)
            self._remember(directory)

    # -- making for real ----------------------------------------------------------------------

    def materialise(self, path: bytes) -> int:
        """Make the directory at *path* and its lazy parents in the backing store.

        Returns a descriptor as `DirectoryHandles.open` does.  Each comes into being complete, by
        a rename from the staging directory, so that a kill leaves either nothing or a directory
        with its mode and owner.  Raises the OSError of the backing store (ENOSPC, EROFS, ...).
        """
        lazy = []
        while path in self._lazy:
            lazy.append(path)
            path = split(path)[0]
        for step in reversed(lazy):
            self._make_real(self._lazy[step])
        return self._handles.open(lazy[0] if lazy else path)

    def _make_real(self, directory: Directory) -> None:
        parent, name = split(directory.path)
        parent_fd = self._handles.open(parent)
        before = syscalls.statx(parent_fd)
        try:
            self._place(directory, parent_fd, name)
        except FileExistsError:
            pass  # made beside lffs: the real one wins
        else:
            # That it was not there before is nobody's business: the parent changed at the mkdir.
            syscalls.set_times(parent_fd, b"", mtime_ns=before.mtime_ns)
        self.found_real(directory.path, syscalls.statx(parent_fd, name))

    def _place(self, directory: Directory, parent_fd: int, name: bytes) -> None:
        staged = b"%d" % directory.number
        with contextlib.suppress(FileNotFoundError):  # what a kill left behind
            os.rmdir(staged, dir_fd=self._staging_fd)
        os.mkdir(staged, 0o700, dir_fd=self._staging_fd)
        try:
            _dress(directory, self._staging_fd, staged)
            syscalls.renameat2(self._staging_fd, staged, parent_fd, name, syscalls.RENAME_NOREPLACE)
        except OSError as exc:
            os.rmdir(staged, dir_fd=self._staging_fd)
            if exc.errno != errno.EXDEV:
                raise
            # Below another filesystem's mount no rename reaches: make it there, then dress it.
            os.mkdir(name, 0o700, dir_fd=parent_fd)
            _dress(directory, parent_fd, name)

    # -- vanishing with the temporaries -------------------------------------------------------

    def vanish(self, path: bytes, now_ns: int) -> bool:
        """Take an empty directory out of view and out of the backing store.

        Its mode, owner and xattrs are kept so that `reappear` can bring it back as it was.
        Returns False, changing nothing, when it is not empty (or can't be removed).
        """
        if self._lazy_names.get(path):
            return False
        directory = self._lazy.get(path)
        if directory is None:
            directory = self._take_out_real(path)
            if directory is None:
                return False
        self._forget_in_memory(directory)
        directory.state = DirectoryState.HIDDEN
        directory.identity = None
        directory.number = directory.number or self.new_number()
        directory.ctime_ns = now_ns
        self._store.put_directory(directory)
        return True

    def _take_out_real(self, path: bytes) -> Directory | None:
        parent, name = split(path)
        known = self._store.directory(path)
        try:
            parent_fd = self._handles.open(parent)
            status = syscalls.statx(parent_fd, name)
            if status.dev != self._device:
                return None  # another filesystem, mounted below BACKING: none of lffs's to remove
            xattrs = syscalls.all_xattrs(parent_fd, name)
            os.rmdir(name, dir_fd=parent_fd)
        except OSError as exc:
            # Another user's, an immutable one, one that something is mounted on: it stays, and the
            # job it is in completes all the same.
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
                log.warning("cannot remove the empty directory %s: %s", os.fsdecode(path), exc.strerror)
            return None
        self._handles.forget(path)
        return Directory(
            path=path,
            state=DirectoryState.HIDDEN,
            number=known.number if known else 0,
            mode=stat.S_IMODE(status.mode),
            uid=status.uid,
            gid=status.gid,
            atime_ns=status.atime_ns,
            mtime_ns=status.mtime_ns,
            ctime_ns=status.ctime_ns,
            birth_ns=status.birth_ns,
            creator=known.creator if known else UNKNOWN_CREATOR,
            declared=known.declared if known else False,
            xattrs=xattrs,
            type=known.type if known else None,
        )

    def hidden(self, job_path: bytes) -> list[Directory]:
        """Return the vanished directories of a job, parents first."""
        return [
            directory
            for directory in self._store.directories(job_path)
            if directory.state is DirectoryState.HIDDEN
        ]

    def reappear(self, directory: Directory) -> bool:
        """Bring a vanished directory back to view, lazy as yet; a real one of that name wins.

        It stays away where its parent was removed.  Returns whether it is back.
        """
        parent, name = split(directory.path)
        if directory.path in self._lazy:
            return False
        if parent not in self._lazy:
            try:
                is_there = syscalls.exists(self._handles.open(parent), name)
            except (FileNotFoundError, NotADirectoryError):
                return False
            if is_there:
                self._store.remove_directory(directory.path)
                return False
        directory.state = DirectoryState.LAZY
        self._put(directory)
        return True

    def make_again(self, path: bytes, like: Stat, xattrs: dict[str, bytes]) -> None:
        """Make a directory that was removed, with the mode and owner of *like*."""
        directory = self.make_lazy(path, mode=like.mode, uid=like.uid, gid=like.gid, now_ns=like.mtime_ns)
        directory.xattrs = xattrs
        self.materialise(path)

    def meet_disk(self) -> int:
        """Look at the place of each lazy directory, as after a kill; return how many had to go.

        What is there in the meantime wins: a lazy directory would hide a file.  One whose parent is
        nowhere any more goes too.
        """
        dropped = 0
        for path in sorted(self._lazy):  # parents come first
            parent, name = split(path)
            if path not in self._lazy or parent in self._lazy:
                continue
            try:
                status = syscalls.statx(self._handles.open(parent), name)
            except FileNotFoundError:
                if self._is_directory(parent):
                    continue
            except NotADirectoryError:
                pass
            else:
                if status.is_directory:
                    self.found_real(path, status)
                    continue
            self.drop_below(path)
            dropped += 1
        return dropped

    def _is_directory(self, path: bytes) -> bool:
        try:
            self._handles.open(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def drop_below(self, path: bytes) -> None:
        """Forget the directory at *path* and all below it: it was removed beside lffs."""
        for directory in self._store.directories(path):
            self._forget_in_memory(directory)
            self._store.remove_directory(directory.path)

    def drop_hidden(self, job_path: bytes) -> None:
        """Forget a job's vanished directories: nothing can come back to them any more."""
        for directory in self.hidden(job_path):
            self._store.remove_directory(directory.path)

    # -- in memory ----------------------------------------------------------------------------

    def _put(self, directory: Directory) -> None:
        self._forget_in_memory(directory)
        self._store.put_directory(directory)
        self._remember(directory)

    def _remember(self, directory: Directory) -> None:
        self._next_number = max(self._next_number, directory.number)
        if directory.state is DirectoryState.HIDDEN:
            return
        if directory.keep:
            self._pinned.add(directory.path)
        if directory.state is DirectoryState.LAZY:
            parent, name = split(directory.path)
            self._lazy[directory.path] = directory
            self._lazy_names.setdefault(parent, set()).add(name)
        elif directory.number and directory.identity is not None:
            self._numbers[directory.identity] = directory.number

    def _forget_in_memory(self, directory: Directory) -> None:
        self._pinned.discard(directory.path)
        if self._lazy.pop(directory.path, None) is not None:
            parent, name = split(directory.path)
            names = self._lazy_names[parent]
            names.discard(name)
            if not names:
                del self._lazy_names[parent]
        if directory.identity is not None:
            self._numbers.pop(directory.identity, None)


def _dress(directory: Directory, parent_fd: int, name: bytes) -> None:
    """Give a new directory the owner, mode, xattrs and times of its record, in that order."""
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    try:
        if (directory.uid, directory.gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, directory.uid, directory.gid)
        for attribute, value in directory.xattrs.items():
            os.setxattr(descriptor, attribute, value)
        os.fchmod(descriptor, directory.mode)  # after chown, which clears suid and sgid
        syscalls.set_times(descriptor, b"", directory.atime_ns, directory.mtime_ns)
    finally:
        os.close(descriptor)
