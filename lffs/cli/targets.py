"""From TARGET and JOB, as people write them, to who answers for them."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from lffs.control.api import AdminApi
from lffs.errors import InvalidJobIdError, UnknownJobError
from lffs.library.session import open_session
from lffs.mounting.table import find_target
from lffs.progress import Progress, progress_to
from lffs.work import Answer

R = TypeVar("R")


def add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="a mountpoint, any path in it, or a backing directory that is not mounted",
    )


def add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="a job's id (Suits/S01E01), or a path of its directory")


def ask(target: str, question: Callable[[AdminApi], Answer[R]]) -> R:
    """Return the answer of whoever answers for TARGET."""
    with open_session(find_target(target)) as session, _shown_progress():
        return session.ask(question)


def ask_of_job(target: str, job: str, question: Callable[[AdminApi, str], Answer[R]]) -> tuple[str, R]:
    """Return the name that JOB goes by, and the answer; what JOB may mean is tried, ids first."""
    found = find_target(target)
    *others, last = found.job_names(job)
    with open_session(found) as session, _shown_progress():

        def ask_of(name: str) -> tuple[str, R]:
            return name, session.ask(lambda admin: question(admin, name))

        for name in others:
            with contextlib.suppress(UnknownJobError, InvalidJobIdError):
                return ask_of(name)
        return ask_of(last)


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
