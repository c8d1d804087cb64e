"""The task that backs up the manifest store while the mount lasts.

When a backup is due and how it is made is the manifest's matter (lffs.manifest.backup); this task
looks in time and has it made in a thread.
"""

import logging

import trio

from lffs.backing import Backing
from lffs.threads import carry_out

log = logging.getLogger(__name__)

_LONGEST_S = 60.0  # between two looks: the wall clock may be set, a failure is tried again
_SHORTEST_S = 1.0


class BackupTask:
    """The task; `wake` makes it look at once."""

    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._woken = trio.Event()

    def wake(self) -> None:
        """The interval may be another one."""
        self._woken.set()

    async def run(self) -> None:
        """Look, back up, wait; until cancelled."""
        backups, clock = self._backing.backups, self._backing.clock
        while True:
            if backups.is_due(clock.wall_ns()):
                await carry_out(backups.make(clock.wall_ns()))
            with trio.move_on_after(min(_LONGEST_S, max(_SHORTEST_S, backups.wait_s(clock.wall_ns())))):
                await self._woken.wait()
            self._woken = trio.Event()
