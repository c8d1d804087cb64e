"""The command line as a whole: usage, exit statuses, errors, a reader that leaves, start-up."""

import contextlib
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lffs.cli.exits import Exit, report
from lffs.errors import ConfigError, InvalidJobIdError, InvalidStatusError, MountError, UnknownJobError
from lffs.mounting.table import UsageError
from tests.cli.conftest import Lffs, Mounted

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["jobs"],
        ["jobs", "/", "--frobnicate"],
        ["show", "/"],
        ["status", "/", "job", "completed", "more"],
        ["mount", "/data"],
        ["config"],
    ],
)
def test_wrong_usage_is_status_2_and_on_stderr(lffs: Lffs, arguments: list[str]) -> None:
    done = lffs(*arguments)
    assert (done.status, done.out) == (2, "")
    assert "usage: lffs" in done.err


@pytest.mark.parametrize("command", ["jobs", "show", "status", "manifest", "verify"])
def test_every_command_that_prints_data_takes_json(lffs: Lffs, command: str) -> None:
    assert "--json" in lffs(command, "--help").out


def test_the_version_is_printed(lffs: Lffs) -> None:
    done = lffs("--version")
    assert done.status == 0
    assert done.out.startswith("lffs ")


@pytest.mark.parametrize(
    ("exc", "status", "said"),
    [
        (UsageError("so"), Exit.USAGE, "lffs: so\n"),
        (ConfigError("a.yaml:1: x\na.yaml:2: y"), Exit.USAGE, "lffs: a.yaml:1: x\nlffs: a.yaml:2: y\n"),
        (InvalidStatusError("so"), Exit.USAGE, "lffs: so\n"),
        (InvalidJobIdError("so"), Exit.USAGE, "lffs: so\n"),
        (UnknownJobError("no job x"), Exit.FAILED, "lffs: no job x\n"),
        (MountError("busy:\n  pid 1"), Exit.FAILED, "lffs: busy:\n  pid 1\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x"),
            Exit.FAILED,
            "lffs: /x: Permission denied\n",
        ),
        (
            OSError(errno.EXDEV, "Cross-device", "/x", None, "/y"),
            Exit.FAILED,
            "lffs: /x -> /y: Cross-device\n",
        ),
        (
            OSError(errno.ENOTCONN, "not connected", "/x"),
            Exit.FAILED,
            "lffs: /x: a dead mount, its daemon is gone; ",
        ),
        (OSError("no number"), Exit.FAILED, "lffs: no number\n"),
        (
            ExceptionGroup(
                "tasks", [MountError("one"), ExceptionGroup("more", [MountError("two"), MountError("one")])]
            ),
            Exit.FAILED,
            "lffs: one\nlffs: two\n",
        ),
        (
            ExceptionGroup("tasks", [MountError("one"), ConfigError("two")]),
            Exit.USAGE,
            "lffs: one\nlffs: two\n",
        ),
    ],
)
def test_a_failure_is_said_in_clear_lines(
    exc: Exception, status: Exit, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(exc) is status
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize(
    "exc", [ZeroDivisionError(), ExceptionGroup("tasks", [MountError("one"), KeyError("two")])]
)
def test_a_bug_keeps_its_traceback(exc: Exception) -> None:
    with pytest.raises(type(exc)) as caught:
        report(exc)
    assert caught.value is exc


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_reader_that_leaves_ends_the_command_quietly(mounted: Mounted) -> None:
    """As ``lffs config show | head -n 1``."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lffs.cli", "config", "show", "--json"],
            stdout=write_end, stderr=subprocess.PIPE, env=_environment(), check=False,
        )  # fmt: skip
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (1, b"")


def test_asking_a_daemon_imports_nothing_that_takes_long() -> None:
    """trio, pyfuse3, pydantic and rich are a third of a second; a script asks for many statuses."""
    script = (
        "import sys; from lffs.cli.main import main; main(['jobs', '/nonexistent']);"
        "print(sorted({'trio', 'pyfuse3', 'pydantic', 'yaml', 'rich', 'sqlite3', 'subprocess', 'ctypes'}"
        " & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=_environment(), check=True
    )
    assert done.stdout == "[]\n"


def test_a_terminal_gets_a_table_that_cuts_nothing(
    mounted: Mounted, lffs: Lffs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a narrow one too; the name here is longer than the window."""
    name = "[red]" + "x" * 100
    mounted.admin.rows = {name: {**mounted.admin.rows["Suits/S01E01"], "id": name}}
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    controller, terminal = os.openpty()
    try:
        with open(terminal, "w") as stdout:
            monkeypatch.setattr("sys.stdout", stdout)
            assert lffs("jobs", mounted.mountpoint).status == 0
        shown = re.sub(r"\x1b\[[0-9;]*m", "", _read_to_end(controller))  # colours have no width
    finally:
        os.close(controller)
    assert shown.count("x") == 100
    assert "[red]" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def _read_to_end(terminal: int) -> str:
    shown = b""
    with contextlib.suppress(OSError):  # EIO is how a terminal ends
        while chunk := os.read(terminal, 4096):
            shown += chunk
    return shown.decode()
