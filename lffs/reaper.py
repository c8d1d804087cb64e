"""The reaper: deletes what is past its retention, round after round, for as long as the mount lasts.

What is due is the core's decision (`lffs.cleanup`); this task knows when to look.  The wall clock
counts retention.  When it jumps ahead of the steady one by more than an hour between two rounds,
somebody set it: nothing is deleted until it is back, or an operator reloads (SIGHUP).
"""

import logging
import os
from collections.abc import Callable

import trio

from lffs.backing import Backing
from lffs.clock import Clock
from lffs.errors import LffsError
from lffs.fs.filesystem import Filesystem
from lffs.manifest.records import TrashEntry
from lffs.threads import carry_out

log = logging.getLogger(__name__)

_BATCH = 1000  # files a thread deletes before the loop hears of it
_LONGEST_S = 60.0  # between two rounds, so that a failure is tried again and free space is watched
_SHORTEST_S = 0.05
_JUMP_NS = 3_600_000_000_000


class ClockGuard:
    """Tells when the wall clock was set ahead between two looks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.now_ns = clock.wall_ns()  # what the wall clock said at the last look
        self._offset_ns = self.now_ns - clock.steady_ns()
        self.is_holding = False

    def look(self) -> bool:
        """Return whether the wall clock can be trusted to count retention by: by `now_ns`.

        The very reading that was judged: the clock may be set between this look and the next one.
        """
        self.now_ns = self._clock.wall_ns()
        offset_ns = self.now_ns - self._clock.steady_ns()
        jumped = offset_ns - self._offset_ns > _JUMP_NS
        if not jumped:
            # A clock that is slewed drifts slowly: follow it, so that it never adds up to a jump.
            self._offset_ns = offset_ns
        if jumped and not self.is_holding:
            log.error(
                "the clock was set ahead by %.1f hours: nothing is reaped until it is back, or"
                " until a reload (SIGHUP) says that it is right",
                (offset_ns - self._offset_ns) / _JUMP_NS,
            )
        elif not jumped and self.is_holding:
            log.info("the clock is back; reaping goes on")
        self.is_holding = jumped
        return not jumped

    def trust(self) -> None:
        """An operator says that the clock is right."""
        self.now_ns = self._clock.wall_ns()
        self._offset_ns = self.now_ns - self._clock.steady_ns()
        self.is_holding = False


class Reaper:
    """The task; `wake` makes it look at once."""

    def __init__(self, backing: Backing, filesystem: Filesystem, changed: Callable[[], None]) -> None:
        """*changed* is told after each round that deleted something."""
        self._backing = backing
        self._fs = filesystem
        self._changed = changed
        self._woken = trio.Event()
        self.guard = ClockGuard(backing.clock)
        self.reaped_files = 0
        self.reaped_bytes = 0

    def wake(self) -> None:
        """Something may be due earlier than it was."""
        self._woken.set()

    def trust_clock(self) -> None:
        """An operator reloaded: the clock is right, and other things may be due."""
        self.guard.trust()
        self.wake()

    async def run(self) -> None:
        """Look, delete, wait; until cancelled."""
        while True:
            try:
                await self.round()
                wait_s = self._wait_s()
            except (LffsError, OSError) as exc:
                # The disk's trouble is not the mount's: the next round tries again.
                log.warning("reaping: %s; tried again in the next round", exc)
                wait_s = _LONGEST_S
            except Exception:
                # Nothing was deleted that should not be; to end the mount for it would cost more.
                log.exception("reaping failed unexpectedly; tried again in the next round")
                wait_s = _LONGEST_S
            with trio.move_on_after(wait_s):
                await self._woken.wait()
            self._woken = trio.Event()

    def _wait_s(self) -> float:
        # What was due and failed is no reason to hurry: it is tried again after the longest wait.
        now_ns = self._backing.clock.wall_ns()
        due_ns = self._backing.cleanup.next_due_ns(now_ns)
        if due_ns is None:
            return _LONGEST_S
        return min(_LONGEST_S, max(_SHORTEST_S, (due_ns - now_ns) / 1e9))

    async def round(self) -> None:
        """Delete what is due now."""
        if not self.guard.look() or self._backing.store.is_damaged:
            return
        cleanup = self._backing.cleanup
        for job, hidden in cleanup.release_failed(self.guard.now_ns, self._fs.is_open_for_writing):
            self._fs.show_hidden(job, hidden)
        tried: set[int] = set()
        while True:
            now_ns = self.guard.now_ns
            due = [one for one in cleanup.due(now_ns) if one.number not in tried][:_BATCH]
            why = "retention is over"
            if not due:
                due = [one for one in self._over_min_free() if one.number not in tried][:_BATCH]
                why = "less than cleanup.min_free was left"
            if not due:
                break
            tried.update(one.number for one in due)
            reaped = await carry_out(cleanup.reap(due, now_ns, why))
            self.reaped_files += len(reaped.removed)
            self.reaped_bytes += reaped.bytes_freed
            self._changed()
            if not self.guard.look():  # deleting takes its time, in which somebody may set the clock
                return
        cleanup.settle_all(self.guard.now_ns)

    def _over_min_free(self) -> list[TrashEntry]:
        """Return what goes before its retention is over, oldest first: only if that is allowed."""
        policy = self._backing.settings.cleanup
        if policy.min_free is None or not policy.min_free_overrides_retention:
            return []
        found = os.fstatvfs(self._backing.handles.root_fd)
        needed = policy.min_free.needed_bytes(found.f_blocks * found.f_frsize)
        missing = needed - found.f_bavail * found.f_frsize
        chosen = []
        for one in self._backing.cleanup.reapable():
            if missing <= 0:
                break
            missing -= one.entry.size
            chosen.append(one)
        return chosen
