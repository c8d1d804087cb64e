"""Work that leaves the loop: what can take long, as a value.

The core is synchronous and runs between two awaits.  What can take long (fsync, scans, backups,
deleting large files) it hands out as a Work: one half for a thread, one for the way back.  Who
carries it out is not known here: the daemon does it with trio (lffs.threads), a program without a
loop with settle().
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Work(Generic[T, R]):
    """Something slow to do, then something quick that makes it known.

    Either both halves run or, if *run* raises, only the first; its exception is the caller's.  A
    core that must know of a failure returns it from *run* as a value.
    """

    run: Callable[[], T]  # in a thread: touches only the disk, holds plain values
    finish: Callable[[T], R]  # back on the loop: the state may have changed since


Answer: TypeAlias = R | Work[Any, R]


def settle(answer: "Answer[R]") -> R:
    """Return what *answer* comes to, doing its work here and now: for programs without a loop."""
    if isinstance(answer, Work):
        done: R = answer.finish(answer.run())
        return done
    return answer
