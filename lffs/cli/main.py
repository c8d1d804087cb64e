"""The entry point: finds the command, runs it, and turns what happened into an exit status.

Modules that take long to import are imported by the command that needs them: most commands ask a
running daemon and are to answer at once.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from lffs.cli import clean, config, jobs, mount, run
from lffs.cli.exits import Exit, report

_GROUPS = (mount, jobs, clean, run, config)


class _ShowVersion(argparse.Action):
    """Print the version; found out when it is asked for, since that reads the installed packages."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import importlib.metadata

        try:
            version = importlib.metadata.version("lffs")
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed)"
        print(f"lffs {version}")
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="lffs",
        description="A filesystem for pipelines that work in stages: it records what a job makes and hides"
        " the job's temporaries once it has completed.",
        epilog="Exit status: 0 done, 1 failed or problems found, 2 wrong usage or configuration.",
    )
    parser.add_argument("--version", action=_ShowVersion)
    parser.set_defaults(verbose=False, json=False)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="say more, on stderr or in the log")
    prints_data = argparse.ArgumentParser(add_help=False, parents=[common])
    prints_data.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in _GROUPS:
        group.add_commands(commands, common, prints_data)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A name may hold what the locale can't say: escaped it arrives, an error helps nobody.
        with contextlib.suppress(AttributeError):  # not a text file of Python's own
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    ours, argv = run.split_command(list(sys.argv[1:] if arguments is None else arguments))
    args = make_parser().parse_args(ours, argparse.Namespace(argv=argv))
    if args.verbose:
        import logging

        logging.basicConfig(level=logging.DEBUG, format="lffs: %(message)s")  # a daemon takes its own
    try:
        status = int(args.command(args))
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_left()
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as a shell has it
    except Exception as exc:
        return report(exc)
    return status


def _reader_left() -> int:
    """End quietly when whoever read us (head, less) has enough."""
    # What is still buffered would raise once more when Python exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.FAILED


if __name__ == "__main__":
    sys.exit(main())
