"""Becoming a daemon: a process of its own, heard until it serves, and its log.

The starting process waits: a mount command that returned before the mount serves would let a pipeline
write beside it.  What the daemon says until then, the user reads on his own stderr; afterwards it is
in the log.  Nothing here knows what is served.
"""

import contextlib
import logging
import logging.handlers
import os
import selectors
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn, TextIO

from lffs.mounting import systemd

log = logging.getLogger(__name__)

LOG_NAME = "lffs.log"  # in the state directory
_LOG_BYTES = 4 << 20
_LOG_GENERATIONS = 3
_EARLY_RECORDS = 10_000
_NOTE_AFTER_S = 10.0
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

Ready = Callable[[], None]


# ---------------------------------------------------------------------------------------------------
# The process
# ---------------------------------------------------------------------------------------------------


def leave_surroundings() -> None:
    """Hold no directory busy, and give files the modes that are asked for: not less a umask."""
    os.chdir("/")
    os.umask(0)


def run_in_background(serve: Callable[[Ready], int], note: str, note_after_s: float = _NOTE_AFTER_S) -> int:
    """Run *serve* in a process of its own; return 0 once it says that it is ready.

    If *serve* returns before that, return its result, and 1 if the process was killed.  What it writes
    to stderr until it is ready goes to ours.  There is no time limit: a scan of a large store takes
    what it takes; *note* is said once if that is long.  Call it while this process has one thread.
    """
    ready_read, ready_write = os.pipe()
    said_read, said_write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_daemon(serve, ready_write, said_write)
    os.close(ready_write)
    os.close(said_write)
    try:
        with open(ready_read, "rb", buffering=0) as ready, open(said_read, "rb", buffering=0) as said:
            if _relay_until_ready(ready, said, note, note_after_s):
                return 0
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            _relay(said)
    except KeyboardInterrupt:  # who waits gives up: then nothing is to come of it later
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    if status <= 0:
        how = f"was killed by {signal.Signals(-status).name}" if status else "ended"
        _say(f"lffs: the daemon {how} before it served\n".encode())
    return status if status > 0 else 1


def _relay_until_ready(ready: BinaryIO, said: BinaryIO, note: str, note_after_s: float) -> bool:
    """Pass on what is said; True when ready, False when the daemon ended first."""
    os.set_blocking(said.fileno(), False)
    timeout_s: float | None = note_after_s
    with selectors.DefaultSelector() as selector:
        selector.register(ready, selectors.EVENT_READ)
        selector.register(said, selectors.EVENT_READ)
        while True:
            events = selector.select(timeout_s)
            if not events:
                _say(f"lffs: {note}\n".encode())
                timeout_s = None
            if any(key.fileobj is said for key, _ in events) and not _relay(said):
                selector.unregister(said)
            if any(key.fileobj is ready for key, _ in events):
                _relay(said)  # all was written before ready was
                return bool(ready.read(1))


def _relay(said: BinaryIO) -> bool:
    """Pass on what there is at the moment; False at the end."""
    while chunk := said.read(1 << 16):
        _say(chunk)
    return chunk is None  # None: nothing yet; b"": closed


def _say(text: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody listens: that must not stop a mount
        os.write(2, text)


def _be_daemon(serve: Callable[[Ready], int], ready_write: int, said_write: int) -> NoReturn:
    # os._exit, whatever happens: the frames above belong to the starting process.
    status = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor, source in ((0, null), (1, null), (2, said_write)):
            os.dup2(source, descriptor)
        _close_others(ready_write)
        leave_surroundings()

        def ready() -> None:
            silence = os.open(os.devnull, os.O_WRONLY)
            sys.stderr.flush()
            os.dup2(silence, 2)
            os.close(silence)
            os.write(ready_write, b"1")
            os.close(ready_write)

        status = serve(ready)
        logging.shutdown()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(status)


def _close_others(kept: int) -> None:
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


# ---------------------------------------------------------------------------------------------------
# The log
# ---------------------------------------------------------------------------------------------------


def log_to_stderr(verbose: bool) -> None:
    """Log as a foreground daemon does; the journal puts the time there itself."""
    in_journal = "JOURNAL_STREAM" in os.environ
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s" if in_journal else _FORMAT))
    _install(verbose, handler)


class EarlyLog:
    """The log of a background daemon while it starts: warnings to stderr, all of it kept.

    Only a daemon that serves owns the log file: one that finds the store in use must not write to
    (or rotate) the other's.
    """

    def __init__(self, verbose: bool) -> None:
        self._stderr: logging.StreamHandler[TextIO] = logging.StreamHandler()
        self._stderr.setLevel(logging.WARNING)
        self._stderr.setFormatter(logging.Formatter("lffs: %(message)s"))
        # flushLevel above all levels, flushOnClose off: nothing is lost or written early.
        self._kept = logging.handlers.MemoryHandler(
            _EARLY_RECORDS, flushLevel=logging.CRITICAL + 1, flushOnClose=False
        )
        _install(verbose, self._stderr, self._kept)

    def move_to(self, state_dir: Path) -> None:
        """From now on log to the file in *state_dir*, beginning with what was kept."""
        root = logging.getLogger()
        try:
            file = PrivateLogFile(state_dir / LOG_NAME)
        except OSError as exc:
            log.warning("no log is kept: cannot write %s: %s", state_dir / LOG_NAME, exc.strerror)
        else:
            root.addHandler(file)
            self._kept.setTarget(file)
            self._kept.flush()
        for handler in (self._stderr, self._kept):
            root.removeHandler(handler)
            handler.close()


class PrivateLogFile(logging.handlers.RotatingFileHandler):
    """A log that only its owner reads: it names every file.  The daemon's umask is 0."""

    def __init__(self, path: Path, max_bytes: int = _LOG_BYTES) -> None:
        super().__init__(path, maxBytes=max_bytes, backupCount=_LOG_GENERATIONS, encoding="utf-8",
                         errors="backslashreplace")  # fmt: skip
        self.setFormatter(logging.Formatter(_FORMAT))

    def _open(self) -> TextIO:  # type: ignore[override]
        return open(self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _install(verbose: bool, *handlers: logging.Handler) -> None:
    # force: what the command itself logged to is not the daemon's.
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=handlers, force=True)


@contextlib.contextmanager
def announced_to_systemd() -> Iterator[Ready]:
    """Give a callback for the moment of readiness; at the end say that the service stops."""
    try:
        yield lambda: systemd.notify("READY=1")
    finally:
        systemd.notify("STOPPING=1")
