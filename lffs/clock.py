"""Time, as an argument: what the daemon reads and what a test sets."""

import time
from typing import Protocol


class Clock(Protocol):
    """The two clocks that lffs goes by."""

    def wall_ns(self) -> int:
        """Return nanoseconds since the epoch: what retention is counted in."""
        ...

    def steady_ns(self) -> int:
        """Return nanoseconds on a clock that nobody sets: what shows a jump of the other."""
        ...


class SystemClock:
    """The clocks of this machine.

    CLOCK_BOOTTIME goes on while the machine sleeps, so waking up is no jump of the wall clock.
    """

    def wall_ns(self) -> int:
        return time.time_ns()

    def steady_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
