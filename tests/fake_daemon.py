"""A daemon without a filesystem: it answers on the control socket from a dict.

What a client of the daemon can see is real (the socket, the protocol, the errors); only the store is
made up.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trio

from lffs.control.api import AdminApi, JsonObject
from lffs.control.server import serve_control
from lffs.errors import JobBusyError, UnknownJobError
from lffs.model import SETTABLE_STATUS
from lffs.progress import Progress, report_progress
from lffs.work import Work


def make_job(job_id: str, status: str = "running", **changes: object) -> JsonObject:
    """Return a row of ``lffs jobs``."""
    row: JsonObject = {
        "id": job_id, "type": "short_form", "status": status, "files": 3, "bytes": 4096,
        "temp_files": 2, "temp_bytes": 2048, "hidden_bytes": 0, "age_s": 5400, "why": "running",
    }  # fmt: skip
    return row | changes


class _Unasked:
    """The calls that are tested on real stores alone."""

    def clean(
        self,
        job: str | None,
        pattern: str | None,
        older_than_s: float | None,
        types: list[str] | None,
        dry_run: bool,
    ) -> JsonObject:
        raise NotImplementedError

    def restore(self, job: str, paths: list[str]) -> JsonObject:
        raise NotImplementedError

    def explain(self, path: str) -> JsonObject:
        raise NotImplementedError

    def expiring(self, within_s: float) -> list[JsonObject]:
        raise NotImplementedError

    def start_job(self, job: str, job_type: str) -> str:
        raise NotImplementedError

    def complete_job(self, job: str, success: bool) -> JsonObject:
        raise NotImplementedError

    def cleanup_job(self, job: str, preserve_on_failure: bool) -> JsonObject:
        raise NotImplementedError

    def reap(self) -> JsonObject:
        raise NotImplementedError

    def add_file(self, job: str, path: str, file_type: str) -> None:
        raise NotImplementedError

    def add_directory(self, job: str, path: str, dir_type: str) -> None:
        raise NotImplementedError

    def remove_from_manifest(self, job: str, path: str) -> bool:
        raise NotImplementedError

    def export(self, job: str) -> str:
        raise NotImplementedError

    def config(self) -> JsonObject:
        raise NotImplementedError


@dataclass
class FakeAdmin(_Unasked):
    """AdminApi over a dict of jobs."""

    rows: dict[str, JsonObject] = field(default_factory=dict)
    problems: JsonObject = field(default_factory=dict)
    reloads: int = 0

    def jobs(self, status: str | None, all: bool) -> list[JsonObject]:
        return [
            row
            for row in self.rows.values()
            if status in (None, row["status"]) and (all or row["status"] != "removed")
        ]

    def show(self, job: str) -> JsonObject:
        if job == "broken":
            raise ZeroDivisionError("a bug")
        if job == "forbidden":
            raise PermissionError(13, "Permission denied", b"/backing/x")
        if job not in self.rows:
            raise UnknownJobError(f"no job {job}")
        return self.rows[job]

    def status(self, job: str, status: str | None) -> str:
        row = self.show(job)
        if row["status"] == "cleaning_up":
            raise JobBusyError(f"{job} is being cleaned up")
        if status is not None:
            row["status"] = str(SETTABLE_STATUS[status])
        return str(row["status"])

    def manifest(self, job: str) -> JsonObject:
        return {"version": 1, "job_id": self.show(job)["id"], "files": {"other": ["caf\udce9.txt"]}}

    def verify(self, repair: bool = False) -> Work[list[str], JsonObject]:
        def scan() -> list[str]:
            report_progress(Progress("files checked", 1, 2))
            return list(self.problems)

        def finish(found: list[str]) -> JsonObject:
            none: JsonObject = {"missing": [], "phantom": [], "corrupt": [], "unowned": []}
            return {"ok": not found, **none, **self.problems}

        return Work(scan, finish)

    def health(self) -> JsonObject:
        return {
            "pid": os.getpid(),
            "version": "0",
            "mountpoint": "/mnt",
            "backing": "/b",
            "transport": "none",
        }

    def reload(self) -> None:
        self.reloads += 1


@contextlib.contextmanager
def served_in_thread(admin: AdminApi, state_dir: Path) -> Iterator[None]:
    """Answer for *admin* on the control socket in *state_dir*, from a thread with a loop of its own."""
    listening = threading.Event()
    ended: list[BaseException] = []
    scope = trio.CancelScope()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        directory_fd = os.open(state_dir, os.O_PATH)
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(functools.partial(serve_control, directory_fd, admin))
                    listening.set()
        finally:
            os.close(directory_fd)

    def run() -> None:
        try:
            trio.run(serve)
        except BaseException as exc:
            ended.append(exc)
        finally:
            listening.set()

    thread = threading.Thread(target=run)
    thread.start()
    listening.wait()
    try:
        yield
    finally:
        with contextlib.suppress(trio.RunFinishedError):
            tokens[0].run_sync_soon(scope.cancel)
        thread.join()
    assert not ended
