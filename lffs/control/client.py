"""Questions to a running daemon: the asking side, for programs without a loop.

The calls are those of Admin and fail with the same errors; nobody needs to know on which side of
the socket the answer is found.  One connection a call: a client may live long and ask seldom.
"""

import contextlib
import errno
import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lffs.control.api import JsonObject
from lffs.control.protocol import SOCKET_NAME, decode_error
from lffs.errors import MountError
from lffs.progress import Progress, report_progress
from lffs.state_dir import STATE_NAME, state_directory

_CONNECT_LIMIT_S = 5.0


class NoDaemonError(MountError):
    """Nobody listens on the control socket: never mounted, unmounted, or the daemon died."""


class RemoteAdmin:
    """AdminApi over the control socket."""

    def __init__(self, directory: Path, *, timeout_s: float | None = None) -> None:
        """Ask the daemon of *directory*: a backing store, or the directory that holds its state.

        *timeout_s* bounds each wait for a line.  None waits as long as the daemon works.
        """
        self._directory = directory
        self._timeout_s = timeout_s

    def jobs(self, status: str | None, all: bool) -> list[JsonObject]:
        return self._call("jobs", status=status, all=all)  # type: ignore[no-any-return]

    def show(self, job: str) -> JsonObject:
        return self._call("show", job=job)  # type: ignore[no-any-return]

    def status(self, job: str, status: str | None) -> str:
        return self._call("status", job=job, status=status)  # type: ignore[no-any-return]

    def manifest(self, job: str) -> JsonObject:
        return self._call("manifest", job=job)  # type: ignore[no-any-return]

    def verify(self, repair: bool = False) -> JsonObject:
        return self._call("verify", repair=repair)  # type: ignore[no-any-return]

    def clean(
        self,
        job: str | None,
        pattern: str | None,
        older_than_s: float | None,
        types: list[str] | None,
        dry_run: bool,
    ) -> JsonObject:
        return self._call(  # type: ignore[no-any-return]
            "clean", job=job, pattern=pattern, older_than_s=older_than_s, types=types, dry_run=dry_run
        )

    def restore(self, job: str, paths: list[str]) -> JsonObject:
        return self._call("restore", job=job, paths=paths)  # type: ignore[no-any-return]

    def explain(self, path: str) -> JsonObject:
        return self._call("explain", path=path)  # type: ignore[no-any-return]

    def expiring(self, within_s: float) -> list[JsonObject]:
        return self._call("expiring", within_s=within_s)  # type: ignore[no-any-return]

    def start_job(self, job: str, job_type: str) -> str:
        return self._call("start_job", job=job, job_type=job_type)  # type: ignore[no-any-return]

    def complete_job(self, job: str, success: bool) -> JsonObject:
        return self._call("complete_job", job=job, success=success)  # type: ignore[no-any-return]

    def cleanup_job(self, job: str, preserve_on_failure: bool) -> JsonObject:
        return self._call(  # type: ignore[no-any-return]
            "cleanup_job", job=job, preserve_on_failure=preserve_on_failure
        )

    def reap(self) -> JsonObject:
        return self._call("reap")  # type: ignore[no-any-return]

    def add_file(self, job: str, path: str, file_type: str) -> None:
        self._call("add_file", job=job, path=path, file_type=file_type)

    def add_directory(self, job: str, path: str, dir_type: str) -> None:
        self._call("add_directory", job=job, path=path, dir_type=dir_type)

    def remove_from_manifest(self, job: str, path: str) -> bool:
        return self._call("remove_from_manifest", job=job, path=path)  # type: ignore[no-any-return]

    def export(self, job: str) -> str:
        return self._call("export", job=job)  # type: ignore[no-any-return]

    def config(self) -> JsonObject:
        return self._call("config")  # type: ignore[no-any-return]

    def health(self) -> JsonObject:
        return self._call("health")  # type: ignore[no-any-return]

    def reload(self) -> None:
        self._call("reload")

    def daemon_pid(self) -> int:
        """Return the daemon's process id as this process sees it; a daemon that hangs has one too."""
        with self._connection() as connection:
            # The kernel's word, of listen(2)'s caller: right across pid namespaces, where the pid
            # that the daemon itself would tell is another process here.
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid: int = struct.unpack("3i", credentials)[0]
            return pid

    @contextlib.contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        has_state_below = os.path.isdir(self._directory / STATE_NAME)
        state = state_directory(self._directory) if has_state_below else self._directory
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with connection:
            connection.settimeout(self._timeout_s)
            try:
                state_fd = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    # Through the magic link: a socket's own path may have 107 bytes only.
                    connection.connect(f"/proc/self/fd/{state_fd}/{SOCKET_NAME}")
                finally:
                    os.close(state_fd)
            except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as exc:
                raise NoDaemonError(f"no daemon serves {self._directory}") from exc
            except PermissionError as exc:
                who = "only root and the user who mounted it may ask its daemon"
                raise PermissionError(errno.EACCES, who, str(self._directory)) from exc
            yield connection

    def _call(self, name: str, **arguments: object) -> Any:
        request = json.dumps({"call": name, "arguments": arguments}) + "\n"
        with self._connection() as connection, connection.makefile("rb") as answers:
            # Refused before it was read: the daemon's answer says why.
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(request.encode("ascii"))
            try:
                return _await_result(answers)
            except TimeoutError as exc:
                message = f"the daemon of {self._directory} does not answer within {self._timeout_s:g} s"
                raise MountError(message) from exc
            except ConnectionResetError as exc:
                raise MountError(f"the daemon of {self._directory} ended before it answered") from exc


def _await_result(answers: Iterator[bytes]) -> Any:
    for line in answers:
        answer = json.loads(line)
        if "progress" in answer:
            report_progress(Progress(**answer["progress"]))
        elif "error" in answer:
            raise decode_error(answer["error"])
        else:
            return answer["result"]
    raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


def open_daemon(backing: Path) -> int | None:
    """Return a pidfd of the daemon that has *backing*; None if there is none to be seen from here.

    It names this process and no later one of the same number.  The mount is not asked, nor does the
    daemon have to answer: one that hangs is found too.
    """
    try:
        return os.pidfd_open(RemoteAdmin(backing, timeout_s=_CONNECT_LIMIT_S).daemon_pid())
    except (MountError, OSError):  # no socket, another user's, or a pid namespace that hides it
        return None
