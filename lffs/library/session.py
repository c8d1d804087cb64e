"""A store opened for questions: the one place that knows whether the daemon answers them or we do.

A mounted store is the daemon's, and every question goes through its control socket.  One that is not
mounted is opened here, under its lock, for as long as the session lasts.  Command line and library
ask the same way and see no difference.  What the answers mean is not known here.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from lffs.control.api import AdminApi, JsonObject
from lffs.control.client import NoDaemonError, RemoteAdmin
from lffs.errors import InvalidPathError, LffsError, MountError, StoreInUseError
from lffs.library.settings_access import installed_settings
from lffs.mounting.table import Target, UsageError, find_target, is_dead_mount, read_mounts, resolve
from lffs.state_dir import STATE_NAME
from lffs.work import Answer, settle

if TYPE_CHECKING:
    from lffs.backing import Backing
    from lffs.clock import Clock
    from lffs.config import Settings

R = TypeVar("R")

# Another process has an unmounted store for a call at a time, a daemon until it is unmounted.
LOCK_WAIT_S = 10.0
_LOCK_PAUSE_S = 0.02


class Session:
    """One store and who answers for it, until the block of `open_store` ends; for one thread."""

    def __init__(self, target: Target, admin: AdminApi, opened: "Backing | None" = None) -> None:
        """*opened* is the store itself where it is this session that has it open."""
        self._target = target
        self._admin = admin
        self._opened = opened
        self._is_open = True

    @property
    def backing(self) -> Path:
        return self._target.backing

    @property
    def is_mounted(self) -> bool:
        """Whether a daemon has the store, here or where this process does not see the mount."""
        return self._opened is None

    def ask(self, question: Callable[[AdminApi], Answer[R]]) -> R:
        """Return the answer, with the work that it takes done."""
        if not self._is_open:
            raise ValueError(f"the session of {self.backing} is closed")
        if self._opened is not None:
            # Beside us the program works on the very directories that we hold open.
            self._opened.handles.forget(b"")
        try:
            return settle(question(self._admin))
        except NoDaemonError as exc:
            raise _no_daemon(self._target, exc) from exc
        except (LffsError, OSError):
            raise  # refused; the records are as true as before
        except BaseException:
            if self._opened is not None:
                self._opened.store.lost_writes = True  # the next opening scans the disk
            raise

    def close(self) -> None:
        """No question is answered from now on."""
        self._is_open = False

    def path_of(self, below: str) -> Path:
        """Return where a program finds what lies at *below*: in the mount, or else in the backing store."""
        mount = self._target.mount
        if mount is not None:
            whole = PurePosixPath("/", below)
            if whole.is_relative_to(mount.root):
                return mount.mountpoint / whole.relative_to(mount.root)
        return self.backing / below

    def path_in_store(self, path: Path) -> str:
        """Return an absolute path of a program's as one below the store's root, its parents' links followed.

        Raises InvalidPathError if it lies elsewhere.
        """
        parent = resolve(path.parent, read_mounts(), enter_lffs=self._target.mount is not None)
        below = self._target.below(parent / path.name)
        if not below:
            raise InvalidPathError(f"{path} does not lie in {self.path_of('')}")
        return below

    def make_directory(self, below: str) -> None:
        """Make a directory and what is missing above it: lazily in a mount, else for real."""
        if self._opened is not None:
            from lffs.registering import make_directory

            opened = self._opened
            self.ask(lambda admin: make_directory(opened, below.encode("utf-8", "surrogateescape")))
        elif self._target.mount is not None:
            # By the program's own mkdir: its umask and owner, and the mount does what it always does.
            self.path_of(below).mkdir(parents=True, exist_ok=True)
        else:
            raise MountError(
                f"{self.backing} is mounted where this process does not see it: nothing may be made beside"
                " its daemon; use the mountpoint there"
            )

    def settings(self) -> "Settings":
        """Return the configuration in force."""
        from lffs.config import load_settings

        values: JsonObject = self.ask(lambda admin: admin.config())
        return load_settings(None, {}, values).settings


Store: TypeAlias = str | os.PathLike[str] | Session


@contextlib.contextmanager
def open_session(
    target: Target, *, settings: "Settings | None" = None, clock: "Clock | None" = None
) -> Iterator[Session]:
    """Open *target* for the block.  *settings* and *clock* are for a store that no daemon has."""
    refused: BaseException | None = None
    with contextlib.ExitStack() as stack:
        session = _begin(target, settings, clock, stack)
        try:
            yield session
        except BaseException as exc:
            # Raised outside: what happens in the caller's block is no unclean end of the store.
            refused = exc
        finally:
            session.close()
    if refused is not None:
        raise refused


def _begin(
    target: Target, settings: "Settings | None", clock: "Clock | None", stack: contextlib.ExitStack
) -> Session:
    if target.mount is not None:
        return Session(target, RemoteAdmin(target.backing))
    from lffs.control.admin import admin_of_unmounted, open_unmounted  # the whole core, for this case only

    if settings is None:
        settings = installed_settings()
    end_s = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            opened = stack.enter_context(open_unmounted(target.backing, settings=settings, clock=clock))
        except StoreInUseError:
            remote = RemoteAdmin(target.backing)
            if _listens(remote):  # mounted where this process doesn't see it, in a container perhaps
                return Session(target, remote)
            if time.monotonic() > end_s:
                raise
            time.sleep(_LOCK_PAUSE_S)
        else:
            return Session(target, admin_of_unmounted(opened), opened)


def _listens(remote: RemoteAdmin) -> bool:
    try:
        remote.daemon_pid()
    except NoDaemonError:
        return False
    return True


def _no_daemon(target: Target, exc: NoDaemonError) -> MountError:
    if target.mount is not None and is_dead_mount(target.mount.mountpoint):
        mountpoint = target.mount.mountpoint
        return MountError(
            f"{mountpoint}: a dead mount, its daemon is gone; mount it again:"
            f" lffs mount {target.backing} {mountpoint}"
        )
    return MountError(str(exc))


# ---------------------------------------------------------------------------------------------------
# By path, as the library's classes take it
# ---------------------------------------------------------------------------------------------------


class _Held(threading.local):
    """The sessions that this thread has open."""

    def __init__(self) -> None:
        self.by_backing: dict[Path, Session] = {}


_held = _Held()


@contextlib.contextmanager
def open_store(
    path: str | os.PathLike[str], settings: "Settings | None" = None, *, clock: "Clock | None" = None
) -> Iterator[Session]:
    """Open the store at *path* for the block: a mountpoint, or a backing directory, mounted or not.

    A directory becomes a store when it is opened first.  Until the block ends, this thread's calls for
    the same store use the session, and nobody else has the store if it is not mounted.  *settings*
    and *clock* are for that case, and remembered for the next opening; without them a store goes by
    what `lffs.library.settings_access.use_settings` installed, else by those of its last mount or opening.
    A mounted store goes by its daemon's.

    Raises UsageError for a path that can be no store, StoreInUseError when another process keeps it,
    MountError for a dead mount.
    """
    target = find_store(path)
    held = _held.by_backing.get(target.backing)
    if held is not None:
        if settings is not None or clock is not None:
            raise UsageError(f"{target.backing} is open in this thread already: it has its settings")
        yield held
        return
    with open_session(target, settings=settings, clock=clock) as session:
        _held.by_backing[target.backing] = session
        try:
            yield session
        finally:
            del _held.by_backing[target.backing]


def find_store(path: str | os.PathLike[str]) -> Target:
    """Return what *path* means, as a TARGET or as the directory that is to become a store.

    Raises UsageError where there is no directory, and for one inside of a backing store.
    """
    text = os.fspath(path)
    try:
        return find_target(text)
    except UsageError:
        if not os.path.isdir(text):
            raise
    directory = resolve(text, read_mounts())
    for above in directory.parents:
        if (above / STATE_NAME).is_dir():
            raise UsageError(f"{text} lies in the backing store {above}, and can be no store itself")
    return Target(directory, None)


def opener(store: Store) -> Callable[[], AbstractContextManager[Session]]:
    """Return what opens *store* for one call; a relative path is one of now, whatever chdir comes."""
    if isinstance(store, Session):
        return lambda: contextlib.nullcontext(store)
    path = os.path.abspath(store)
    return lambda: open_store(path)
