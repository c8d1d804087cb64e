"""How the daemon carries out what leaves the loop: the trio side of lffs.work."""

from typing import TypeVar

import trio

from lffs.work import Work

T = TypeVar("T")
R = TypeVar("R")


async def carry_out(work: Work[T, R]) -> R:
    """Run *work* in a thread and finish it on the loop.

    Cancelling can prevent the start, never the finish: trio waits for a thread that it began, and
    there is no await between the thread's end and *finish*, so the core hears of all that was done.
    """
    return work.finish(await trio.to_thread.run_sync(work.run))
