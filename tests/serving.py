"""A daemon with a clock that a test sets.

``python tests/serving.py CLOCK BACKING MOUNTPOINT CONFIG OPTIONS [old-kernel]``.  Everything else is the
program's own.  CLOCK is a file holding two numbers of nanoseconds that are
added to the wall clock and to the steady one.  With "old-kernel" the kernel's names can't be aged, as
before Linux 6.16.  Says "ready" on stdout once it serves.
"""

import os
import sys
from functools import partial
from pathlib import Path

from lffs.clock import SystemClock
from lffs.config import load_settings
from lffs.daemon import run
from lffs.mounting.background import leave_surroundings, log_to_stderr
from lffs.mounting.options import check_mount, mount_options
from lffs.transport import pyfuse


class SetClock:
    """The machine's clocks, each moved by what the file says."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._clock = SystemClock()

    def _offsets(self) -> list[int]:
        return [int(word) for word in self._file.read_text().split()]

    def wall_ns(self) -> int:
        return self._clock.wall_ns() + self._offsets()[0]

    def steady_ns(self) -> int:
        return self._clock.steady_ns() + self._offsets()[1]


def main() -> None:
    clock, backing, mountpoint, config, options, *quirks = sys.argv[1:]
    if "old-kernel" in quirks:
        vars(pyfuse)["increase_epoch"] = lambda descriptor: False
    log_to_stderr(verbose=False)
    wanted = mount_options(
        backing,
        mountpoint,
        [options] if options else [],
        config=config or None,
        state_dir=None,
        foreground=True,
    )
    wanted = check_mount(wanted, lambda text: print(text, file=sys.stderr))
    read = partial(load_settings, wanted.config, os.environ, wanted.overrides)
    leave_surroundings()
    run(wanted, read(), read, lambda: print("ready", flush=True), SetClock(Path(clock)))


if __name__ == "__main__":
    main()
