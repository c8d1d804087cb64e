"""From TARGET and JOB, as people write them, to who answers for them."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from lffs.admin_api import AdminApi
from lffs.errors import InvalidJobIdError, MountError, StoreInUseError, UnknownJobError
from lffs.mounts import Target, find_target, is_dead_mount
from lffs.progress import Progress, progress_to
from lffs.remote_admin import NoDaemonError, RemoteAdmin
from lffs.work import Answer, settle

R = TypeVar("R")


def add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="a mountpoint, any path in it, or a backing directory that is not mounted",
    )


def add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="a job's id (Suits/S01E01), or a path of its directory")


@contextlib.contextmanager
def opened(target: Target) -> Iterator[AdminApi]:
    """Give who answers for *target*: the daemon that has it mounted, or else the store itself."""
    if target.mount is not None:
        try:
            yield RemoteAdmin(target.backing)
        except NoDaemonError as exc:
            raise _no_daemon(target, exc) from exc
        return
    from lffs.admin import open_unmounted  # the whole core, for this case only

    with contextlib.ExitStack() as stack:
        try:
            admin: AdminApi = stack.enter_context(open_unmounted(target.backing, None))
        except StoreInUseError:
            # Mounted where this process doesn't see it, in a container perhaps: ask there.
            admin = RemoteAdmin(target.backing)
        yield admin


def _no_daemon(target: Target, exc: NoDaemonError) -> MountError:
    if target.mount is not None and is_dead_mount(target.mount.mountpoint):
        mountpoint = target.mount.mountpoint
        return MountError(
            f"{mountpoint}: a dead mount, its daemon is gone; mount it again:"
            f" lffs mount {target.backing} {mountpoint}"
        )
    return exc


def ask(target: str, question: Callable[[AdminApi], Answer[R]]) -> R:
    """Return the answer of whoever answers for TARGET."""
    with opened(find_target(target)) as admin, _shown_progress():
        return settle(question(admin))


def ask_of_job(target: str, job: str, question: Callable[[AdminApi, str], Answer[R]]) -> tuple[str, R]:
    """Return the name that JOB goes by, and the answer; what JOB may mean is tried, ids first."""
    found = find_target(target)
    *others, last = found.job_names(job)
    with opened(found) as admin, _shown_progress():
        for name in others:
            with contextlib.suppress(UnknownJobError, InvalidJobIdError):
                return name, settle(question(admin, name))
        return last, settle(question(admin, last))


@contextlib.contextmanager
def _shown_progress() -> Iterator[None]:
    """Show how far long work has come; on a terminal, and only if there is something to show."""
    if not sys.stderr.isatty():
        yield
        return
    was_shown = False

    def show(progress: Progress) -> None:
        nonlocal was_shown
        total = "" if progress.total is None else f" of {progress.total}"
        # Back to the line's start, and clear it to its end.
        print(f"\r{progress.what}: {progress.done}{total}\x1b[K", end="", file=sys.stderr, flush=True)
        was_shown = True

    try:
        with progress_to(show):
            yield
    finally:
        if was_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
