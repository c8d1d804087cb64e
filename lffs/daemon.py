"""The daemon: one trio nursery around a mounted backing store.

Which tasks there are, how they end, and what a signal does; nothing here knows what a job is.  What
leaves the loop for a thread, all of it: fsync and fsyncdir, deleting from the trash, the walk of
verify, backups, and writing back at the end.
"""

import contextlib
import json
import logging
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

import trio

from lffs import __version__
from lffs.backing import Backing, open_backing
from lffs.backing_up import BackupTask
from lffs.clock import Clock
from lffs.config import settings_to_json
from lffs.control.admin import Admin
from lffs.control.api import JsonObject
from lffs.control.server import serve_control
from lffs.errors import LffsError, MountError, StoreError
from lffs.fs.filesystem import Filesystem
from lffs.metrics import prometheus_text
from lffs.mounting.options import MountOptions, TransportChoice
from lffs.mounting.systemd import notify
from lffs.reaper import Reaper
from lffs.state_dir import SETTINGS_NAME, write_private
from lffs.transport.pyfuse import PyfuseKernel, PyfuseTransport, flush_everything

if TYPE_CHECKING:
    from lffs.config import LoadedSettings

log = logging.getLogger(__name__)

_COMMIT_AFTER_S = 0.1  # how long records gather before they are committed
_COMMIT_RETRY_S = 1.0  # when the disk is full


def run(
    options: MountOptions,
    loaded: "LoadedSettings",
    reload_settings: Callable[[], "LoadedSettings"],
    ready: Callable[[], None],
    clock: Clock | None = None,
) -> None:
    """Mount and serve until unmounted; *ready* is called once it serves.

    Raises LffsError or OSError when it can't start.
    """
    if options.transport is TransportChoice.PASSTHROUGH:
        raise MountError("transport=passthrough is not built yet; use auto or pyfuse3")
    _raise_descriptor_limit()
    settings = loaded.settings
    with open_backing(options.backing, settings, state_dir=options.state_dir, clock=clock) as backing:
        kernel = PyfuseKernel()
        filesystem = Filesystem(backing, kernel)
        transport = PyfuseTransport(filesystem, kernel)
        transport.mount(options)
        _remember_settings(backing, loaded)
        daemon = _Daemon(options, backing, filesystem, transport, reload_settings)
        try:
            with _unwrapped():
                trio.run(daemon.serve, ready)
        except BaseException:
            # Death is loud: the mountpoint fails from now on, and never looks like an empty directory.
            transport.abandon()
            raise
        else:
            transport.unmount()
        finally:
            filesystem.close()
        if backing.backups.has_changes:
            backing.backups.make_now(backing.clock.wall_ns())


@contextlib.contextmanager
def _unwrapped() -> Iterator[None]:
    """What ends the nursery arrives as a group; whoever started us wants the error itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        exc: BaseException = group
        while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
            exc = exc.exceptions[0]
        raise exc from group


def _raise_descriptor_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _remember_settings(backing: Backing, loaded: "LoadedSettings") -> None:
    """Leave the settings beside the store, so that commands on it unmounted go by the same."""
    try:
        write_private(backing.state_dir / SETTINGS_NAME, settings_to_json(loaded.settings).encode())
    except OSError as exc:
        log.warning("cannot note the settings for unmounted commands: %s", exc)


class _Daemon:
    def __init__(
        self,
        options: MountOptions,
        backing: Backing,
        filesystem: Filesystem,
        transport: PyfuseTransport,
        reload_settings: Callable[[], "LoadedSettings"],
    ) -> None:
        self._options = options
        self._backing = backing
        self._fs = filesystem
        self._transport = transport
        self._reload_settings = reload_settings
        self._begun = trio.Event()  # there is something to commit
        self._started_s = time.monotonic()
        self._reaper = Reaper(backing, filesystem, backing.export_changed)
        self._backup_task = BackupTask(backing)
        backing.store.began = self._note_begun
        filesystem.deadlines_changed = self._reaper.wake
        filesystem.control.texts.update(
            {
                b"health": lambda: json.dumps(self._health()).encode() + b"\n",
                b"metrics": self._metrics,
                b"version": lambda: __version__.encode() + b"\n",
            }
        )

    def _note_begun(self) -> None:
        self._begun.set()

    async def serve(self, ready: Callable[[], None]) -> None:
        """Serve until unmounted.  No task outlives this call, and one that crashes ends them all."""
        admin = Admin(
            self._backing,
            self._fs.change_status,
            set_job_type=self._fs.set_job_type,
            is_mounted=True,
            health=self._health,
            reload=self._reload,
            view=self._fs,
            reread=self._fs.reread,
        )
        state_fd = os.open(self._backing.state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                async with trio.open_nursery() as nursery:
                    await nursery.start(_serve_control, state_fd, admin)
                    nursery.start_soon(self._obey, signals)
                    nursery.start_soon(self._commit)
                    nursery.start_soon(self._reaper.run)
                    nursery.start_soon(self._backup_task.run)
                    ready()
                    await self._transport.run()
                    nursery.cancel_scope.cancel()
        finally:
            os.close(state_fd)
        log.info("unmounted %s", self._options.mountpoint)

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number != signal.SIGHUP:
                log.info("%s: unmounting", signal.Signals(number).name)
                notify("STOPPING=1")
                # Still serving: what the kernel holds back comes through as write requests.
                with contextlib.suppress(OSError):
                    await flush_everything(str(self._options.mountpoint))
                self._transport.stop()
                return
            try:
                self._reload()
            except (LffsError, OSError) as exc:
                log.error("reload: %s; the configuration in force stays", exc)

    def _reload(self) -> None:
        loaded = self._reload_settings()
        _remember_settings(self._backing, loaded)
        self._backing.configure(loaded.settings)
        self._fs.configured()
        self._reaper.trust_clock()
        self._backup_task.wake()
        log.info("the configuration was read again")

    async def _commit(self) -> None:
        """Commit what gathered; after a full disk find again what was lost."""
        while True:
            await self._begun.wait()
            self._begun = trio.Event()
            await trio.sleep(_COMMIT_AFTER_S)
            said = False
            while not self._commit_once(say=not said):
                said = True
                await trio.sleep(_COMMIT_RETRY_S)

    def _commit_once(self, *, say: bool) -> bool:
        store = self._backing.store
        try:
            store.commit()
            changed = self._backing.find_lost()
            if changed is not None:
                log.info("the manifest store has room again: %d records found by a scan", changed)
            self._backing.export_changed()
        except (StoreError, OSError) as exc:
            if say:
                log.error("%s; tried again every second", exc)
            return False
        except Exception:
            # Everything is on record; what failed is an export, a scan.  The mount goes on.
            log.exception("committing failed unexpectedly")
        return True

    def _health(self) -> JsonObject:
        return {
            "status": "ok",
            "pid": os.getpid(),
            "version": __version__,
            "mountpoint": str(self._options.mountpoint),
            "backing": str(self._options.backing),
            "transport": self._transport.name,
            "uptime_s": round(time.monotonic() - self._started_s, 3),
            "reaping": "holding: the clock jumped" if self._reaper.guard.is_holding else "ok",
            "lost_writes": self._backing.store.lost_writes,
            "store_damaged": self._backing.store.is_damaged,
        }

    def _metrics(self) -> bytes:
        by_status: dict[str, int] = {}
        for job in self._backing.jobs.live():
            by_status[job.status.value] = by_status.get(job.status.value, 0) + 1
        return prometheus_text(
            requests=self._transport.requests,
            jobs=by_status,
            inodes=len(self._fs.tree.nodes),
            open_files=len(self._fs.files),
            directory_handles=len(self._backing.handles),
            reaped_files=self._reaper.reaped_files,
            reaped_bytes=self._reaper.reaped_bytes,
        )


async def _serve_control(
    state_fd: int,
    admin: Admin,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    await serve_control(state_fd, admin, holds_lock=True, task_status=task_status)
