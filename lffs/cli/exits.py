"""How a command ends: its exit status, and one clear line for what went wrong."""

import enum
import errno
import sys
from collections.abc import Iterator

from lffs.errors import ConfigError, InvalidJobIdError, InvalidStatusError, LffsError
from lffs.mounting.table import UsageError


class Exit(enum.IntEnum):
    """The contract of interface.md; scripts rely on it."""

    DONE = 0
    FAILED = 1  # or problems found
    USAGE = 2  # wrong usage or configuration


_WRONG_USAGE = (UsageError, ConfigError, InvalidStatusError, InvalidJobIdError)


def say(message: str) -> None:
    """Tell the user, on stderr; lines after the first that are indented belong to it."""
    for line in message.splitlines():
        print(line if line.startswith(" ") else f"lffs: {line}", file=sys.stderr, flush=True)


def report(exc: Exception) -> Exit:
    """Say what *exc* means to the user and return the exit status for it.

    Raises *exc* again if it, or one of the exceptions that it groups (a trio nursery's do), is no
    failure that lffs or the system names: that is a bug and keeps its traceback.
    """
    failures = list(_ungrouped(exc))
    if not all(isinstance(failure, LffsError | OSError) for failure in failures):
        raise exc
    for message in dict.fromkeys(map(_in_words, failures)):
        say(message)
    is_usage = any(isinstance(failure, _WRONG_USAGE) for failure in failures)
    return Exit.USAGE if is_usage else Exit.FAILED


def _ungrouped(exc: Exception) -> Iterator[Exception]:
    if isinstance(exc, ExceptionGroup):
        for inner in exc.exceptions:
            yield from _ungrouped(inner)
    else:
        yield exc


def _in_words(exc: Exception) -> str:
    if not isinstance(exc, OSError) or exc.strerror is None:
        return str(exc) or type(exc).__name__
    if exc.errno == errno.ENOTCONN and exc.filename is not None:
        return f"{exc.filename}: a dead mount, its daemon is gone; mount it again, or lffs umount it"
    # Not str(exc): "[Errno 2] …: 'name'" is written for programmers.
    names = [str(name) for name in (exc.filename, exc.filename2) if name is not None]
    return ": ".join([" -> ".join(names), exc.strerror]) if names else exc.strerror
