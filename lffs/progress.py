"""How far long work has come, told to whoever wants to know.

A scan deep in the core says report_progress(); a terminal or a control connection listens with
progress_to().  In between nothing passes a callback along: the listener belongs to the context, and
trio hands the context on to its threads.  So a listener may be called from any thread, often.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of how far something is."""

    what: str  # "files checked": what *done* counts
    done: int
    total: int | None = None  # None: not known yet


_listener: ContextVar[Callable[[Progress], None] | None] = ContextVar("lffs_progress", default=None)


def report_progress(progress: Progress) -> None:
    """Tell the listener of this context, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(progress)


@contextlib.contextmanager
def progress_to(listener: Callable[[Progress], None]) -> Iterator[None]:
    """Send the reports of what runs inside to *listener*, also those from threads begun there."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
