"""Questions to a running daemon, over a Unix socket in its state directory: the answering side.

It decides nothing: who may ask is the socket's mode and SO_PEERCRED, what may be asked is CALLS, and
the answers are Admin's.  Whatever a client sends costs it an error or its connection, never the
daemon: this module lets no exception out but those of its own start.
"""

import contextlib
import errno
import json
import logging
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import trio

from lffs.control.api import AdminApi, JsonObject
from lffs.control.protocol import MAX_REQUEST_BYTES, SOCKET_NAME, RequestError, check_request, encode_error
from lffs.errors import LffsError, StoreInUseError
from lffs.progress import Progress, progress_to
from lffs.threads import carry_out
from lffs.work import Answer, Work

log = logging.getLogger(__name__)

IDLE_S = 30.0  # for a whole request to arrive, and for the client to take a piece of an answer
_PROGRESS_EVERY_S = 0.1
_PIECE_CHARACTERS = 1 << 16
_PEER_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


async def serve_control(
    directory_fd: int,
    admin: AdminApi,
    *,
    holds_lock: bool = False,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests on ``control.sock`` in the state directory until cancelled.

    *directory_fd* may be O_PATH and must stay open.  Started once the socket listens.  A socket file
    that is there already is replaced only with *holds_lock*, the caller's word that it holds the
    store's lock and so no other daemon listens; else StoreInUseError.  The file goes at the end.
    """
    with _listening_socket(directory_fd, holds_lock) as listening:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        task_status.started()
        await trio.serve_listeners(partial(_serve_connection, admin, os.geteuid()), [listener])


@contextlib.contextmanager
def _listening_socket(directory_fd: int, holds_lock: bool) -> Iterator[socket.socket]:
    # Through the magic link, since a socket's path may have 107 bytes and a state directory's 4095.
    path = f"/proc/self/fd/{directory_fd}/{SOCKET_NAME}"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # The daemon's umask is 0; the file that bind makes takes the mode of the socket's own inode
        # (unix_bind), so it is never open to others, not even until a chmod.
        os.fchmod(listening.fileno(), 0o600)
        try:
            listening.bind(path)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
            if not holds_lock:
                raise StoreInUseError(f"{SOCKET_NAME} is there already: another daemon's?") from exc
            _unlink_socket(directory_fd)
            listening.bind(path)
        made = os.stat(SOCKET_NAME, dir_fd=directory_fd, follow_symlinks=False)
        listening.listen()
        try:
            yield listening
        finally:
            with contextlib.suppress(OSError):  # gone with its directory, or someone else's by now
                if os.path.samestat(made, os.stat(SOCKET_NAME, dir_fd=directory_fd, follow_symlinks=False)):
                    os.unlink(SOCKET_NAME, dir_fd=directory_fd)
    finally:
        listening.close()


def _unlink_socket(directory_fd: int) -> None:
    """Remove a dead daemon's socket; whatever else bears the name is somebody's and stays."""
    found = os.stat(SOCKET_NAME, dir_fd=directory_fd, follow_symlinks=False)
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "in the way of the control socket and no socket", SOCKET_NAME)
    os.unlink(SOCKET_NAME, dir_fd=directory_fd)


async def _serve_connection(admin: AdminApi, owner: int, stream: trio.SocketStream) -> None:
    try:
        async with stream:
            await _converse(admin, owner, stream)
    except (trio.BrokenResourceError, trio.TooSlowError) as exc:
        log.debug("a control client went away: %r", exc)
    except Exception:  # a bug here must not end the mount; serve_listeners would let it
        log.exception("control connection failed")


async def _converse(admin: AdminApi, owner: int, stream: trio.SocketStream) -> None:
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    pid, uid, _ = _PEER_CREDENTIALS.unpack(credentials)
    if uid not in (0, owner):
        log.warning("refused a control connection of uid %d, pid %d", uid, pid)
        denied = PermissionError(errno.EACCES, "only root and the user who mounted may ask the daemon")
        await _send(stream, {"error": encode_error(denied)})
        return
    requests = _Requests(stream)
    while True:
        try:
            with trio.move_on_after(IDLE_S):
                line = await requests.receive()
        except RequestError as exc:  # too long: where the next one begins is anybody's guess
            await _send(stream, {"error": encode_error(exc)})
            return
        if not line:
            return
        await _send(stream, await _reply(admin, stream, line))


class _Requests:
    """The lines that arrive on a stream, each within MAX_REQUEST_BYTES."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def receive(self) -> bytes:
        """Return the next line with its newline; nothing at the end of the stream."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_REQUEST_BYTES:
                raise RequestError(f"a request has at most {MAX_REQUEST_BYTES} bytes")
            received = await self._stream.receive_some()
            if not received:
                return b""
            self._buffer += received
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line


async def _reply(admin: AdminApi, stream: trio.SocketStream, line: bytes) -> JsonObject:
    """Return the answer to one request; every failure is an answer too."""
    try:
        call, arguments = check_request(_parse(line))
        answer = call.invoke(admin, arguments)
        result = await _carry_out(answer, stream) if isinstance(answer, Work) else answer
    except (LffsError, OSError) as exc:
        return {"error": encode_error(exc)}
    except Exception as exc:
        log.exception("control request failed: %.200r", line)
        failed = OSError(errno.EIO, f"internal error, see the daemon's log: {type(exc).__name__}")
        return {"error": encode_error(failed)}
    return {"result": result}


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line.decode("ascii"))
    except (ValueError, RecursionError) as exc:  # the latter for "[[[[…"
        raise RequestError("a request is one line of JSON in ASCII") from exc


async def _carry_out(work: Work[Any, Any], stream: trio.SocketStream) -> Answer[Any]:
    """Do *work*, sending its progress meanwhile.  A client that left doesn't stop it."""
    sender, receiver = trio.open_memory_channel[Progress](1)
    token = trio.lowlevel.current_trio_token()
    last_sent_s = 0.0

    def offer(progress: Progress) -> None:
        # Full: the client is slow, the next report says more.  Closed: the work is over.
        with contextlib.suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            sender.send_nowait(progress)

    def listen(progress: Progress) -> None:
        # In the worker's thread.  A report a file would keep the loop from serving the mount.
        nonlocal last_sent_s
        if time.monotonic() - last_sent_s >= _PROGRESS_EVERY_S:
            last_sent_s = time.monotonic()
            token.run_sync_soon(offer, progress)

    outcome: Answer[Any] = None
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_progress, stream, receiver)
        with sender, progress_to(listen):
            try:
                outcome = await carry_out(work)
            except Exception as exc:  # raised again below: a nursery would wrap it in a group
                failure = exc
    if failure is not None:
        raise failure
    return outcome


async def _send_progress(stream: trio.SocketStream, reports: trio.MemoryReceiveChannel[Progress]) -> None:
    with reports, contextlib.suppress(trio.BrokenResourceError, trio.TooSlowError):
        async for progress in reports:
            await _send(stream, {"progress": asdict(progress)})


async def _send(stream: trio.SocketStream, message: JsonObject) -> None:
    """Send one line, in pieces: encoding the manifest of a large job at once would stop the mount."""
    pieces: list[str] = []
    size = 0
    for piece in json.JSONEncoder().iterencode(message):
        pieces.append(piece)
        size += len(piece)
        if size >= _PIECE_CHARACTERS:
            await _send_text(stream, "".join(pieces))
            pieces, size = [], 0
    pieces.append("\n")
    await _send_text(stream, "".join(pieces))


async def _send_text(stream: trio.SocketStream, text: str) -> None:
    with trio.fail_after(IDLE_S):
        await stream.send_all(text.encode("ascii"))
