"""lffs run: a command as a job."""

import argparse
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from lffs.cli.exits import Exit, say
from lffs.cli.targets import add_job, add_target
from lffs.errors import InvalidJobIdError
from lffs.model import JobType
from lffs.mounting.table import UsageError, find_target

if TYPE_CHECKING:
    import subprocess

TEMP_DIRECTORY = "temp"  # below the job; the classify rules call what lies there temporary


def add_commands(
    commands: Any, common: argparse.ArgumentParser, prints_data: argparse.ArgumentParser
) -> None:
    """Add this group to *commands*, what add_subparsers returned.  It prints no data."""
    run = commands.add_parser(
        "run",
        parents=[common],
        help="run a command as a job",
        description="Run COMMAND as a job: the job is running meanwhile, then completed or failed by the"
        " command's exit status. TMPDIR is the job's temp directory, made when something is written in it."
        " Exit status: 0 if the command succeeded, 1 if not.",
    )
    add_target(run)
    add_job(run)
    run.add_argument("--type", metavar="T", choices=list(JobType), help=f"one of {', '.join(JobType)}")
    run.set_defaults(command=_run)
    run.usage = "lffs run [-h] [-v] [--type T] TARGET JOB -- COMMAND..."


def split_command(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return what is ours and, after the first ``--`` of ``lffs run``, the command's words.

    argparse would look for our options among the command's.
    """
    if arguments[:1] != ["run"] or "--" not in arguments:
        return arguments, []
    end = arguments.index("--")
    return arguments[:end], arguments[end + 1 :]


def _run(args: argparse.Namespace) -> Exit:
    argv: list[str] = args.argv
    if not argv:
        raise UsageError("run needs a command: lffs run TARGET JOB -- COMMAND …")
    target = find_target(args.target)
    if target.mount is None:
        raise UsageError(f"{target.backing} is not mounted; a job's files are recorded by the mount")
    job = _job_directory(target.mount.mountpoint, target.job_names(args.job)[-1])
    _set(job, "status", "running", job_must_be=True)
    if args.type is not None:
        _set(job, "job_type", args.type)
    temp = job / TEMP_DIRECTORY
    temp.mkdir(exist_ok=True)
    status = _status_of(argv, os.environ | {"TMPDIR": str(temp)})
    _set(job, "status", "failed" if status else "completed")
    if status:
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with {status}"
        say(f"{argv[0]} {how}: the job failed, its files stay")
    return Exit.FAILED if status else Exit.DONE


def _job_directory(mountpoint: Path, name: str) -> Path:
    """Return the job's directory, made if need be."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidJobIdError(f"{name!r} is no job id: expected names joined by '/', like Suits/S01E01")
    job = mountpoint.joinpath(*parts)
    job.mkdir(parents=True, exist_ok=True)
    return job


def _set(job: Path, name: str, value: str, *, job_must_be: bool = False) -> None:
    try:
        os.setxattr(job, f"user.lffs.{name}", value.encode())
    except OSError as exc:
        if job_must_be and not _is_job(job):
            raise UsageError(f"{job} is no job: its path does not match jobs.roots") from exc
        raise


def _is_job(directory: Path) -> bool:
    try:
        os.getxattr(directory, "user.lffs.job_id")
    except OSError:
        return False
    return True


def _status_of(argv: list[str], environment: dict[str, str]) -> int:
    """Run the command to its end, passing signals on; return its status, negative for a signal."""
    import subprocess  # for this command only

    try:
        process = subprocess.Popen(argv, env=environment)
    except OSError as exc:
        say(f"{argv[0]}: {exc.strerror}")
        return 127 if isinstance(exc, FileNotFoundError) else 126
    with _passing_on(process):
        return process.wait()


@contextlib.contextmanager
def _passing_on(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """What should end us ends the command; the job's status is set all the same."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    # A terminal sends these to the command as well.
    before |= {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGQUIT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
