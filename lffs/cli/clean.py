"""Commands about what is deleted and what comes back: clean, restore, explain, expiring."""

import argparse
import sys
from typing import Any

from lffs.cli.exits import Exit, say
from lffs.cli.output import Column, as_size, as_text, print_json, print_pairs, print_table, safe
from lffs.cli.targets import add_job, add_target, ask, ask_of_job
from lffs.model import FileType
from lffs.mounting.table import UsageError, find_target
from lffs.units import format_size, parse_duration

_EXPIRING = (
    Column("AT", "at"),
    Column("PATH", "path"),
    Column("TYPE", "type"),
    Column("SIZE", "bytes", as_size, is_number=True),
)


def add_commands(
    commands: Any, common: argparse.ArgumentParser, prints_data: argparse.ArgumentParser
) -> None:
    """Add this group to *commands*, what add_subparsers returned."""
    clean = commands.add_parser(
        "clean",
        parents=[prints_data],
        help="delete temporary files for good, now",
        description="Delete temporary files for good, hidden ones too, whatever the automatic settings are."
        " Without --type only temporaries are meant, with --pattern also what no rule names. Pinned files and"
        " files open for writing stay. Asks first on a terminal; needs --yes without one.",
    )
    add_target(clean)
    clean.add_argument("--job", metavar="JOB", help="only of this job")
    clean.add_argument("--pattern", metavar="GLOB", help="only paths that match, in gitignore's syntax")
    clean.add_argument("--older-than", metavar="AGE", help="only what is as old as that: 90m, 24h, 7d")
    clean.add_argument(
        "--type", metavar="FILETYPE", dest="types", action="append", help=f"one of {', '.join(FileType)}"
    )
    clean.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    clean.add_argument("--yes", action="store_true", help="don't ask")
    clean.set_defaults(command=_clean)

    restore = commands.add_parser(
        "restore", parents=[prints_data], help="bring hidden files of a job back to view"
    )
    add_target(restore)
    add_job(restore)
    restore.add_argument("paths", metavar="PATH", nargs="*", help="below the job; none: all that is hidden")
    restore.set_defaults(command=_restore)

    explain = commands.add_parser(
        "explain",
        parents=[prints_data],
        help="say what gives a file its type, and what will happen to it",
    )
    add_target(explain)
    explain.add_argument("path", metavar="PATH", help="a file's path: below the mountpoint, or anywhere")
    explain.set_defaults(command=_explain)

    expiring = commands.add_parser(
        "expiring", parents=[prints_data], help="list what will be deleted for good soon"
    )
    add_target(expiring)
    expiring.add_argument("--within", metavar="AGE", required=True, help="until then: 90m, 24h, 7d")
    expiring.set_defaults(command=_expiring)


def _seconds(option: str, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return parse_duration(value).total_seconds()
    except ValueError as exc:
        raise UsageError(f"{option}: {exc}") from None


def _clean(args: argparse.Namespace) -> Exit:
    for name in args.types or []:
        if name not in list(FileType):
            raise UsageError(f"--type {name}: there are {', '.join(FileType)}")
    older_than_s = _seconds("--older-than", args.older_than)
    _check_pattern(args.pattern)

    def cleaned(job: str | None, *, dry_run: bool) -> Any:
        def question(admin: Any, name: str | None = job) -> Any:
            return admin.clean(name, args.pattern, older_than_s, args.types, dry_run)

        if job is None:
            return ask(args.target, question)
        return ask_of_job(args.target, job, question)[1]

    if not args.dry_run and not args.yes and not _agreed(cleaned(args.job, dry_run=True)):
        return Exit.FAILED
    result = cleaned(args.job, dry_run=args.dry_run)
    if args.json:
        print_json(result)
    else:
        for path in result["removed"]:
            print(safe(path))
        for failure in result["failed"]:
            say(f"{safe(failure['path'])}: not removed: {failure['reason']}")
        would = "would be " if args.dry_run else ""
        count = len(result["removed"])
        say(f"{count} {'file' if count == 1 else 'files'} {would}removed, {format_size(result['bytes'])}")
    return Exit.FAILED if result["failed"] else Exit.DONE


def _check_pattern(pattern: str | None) -> None:
    if pattern is None:
        return
    from lffs.classify import pattern_regex

    try:
        pattern_regex(pattern)
    except ValueError as exc:
        raise UsageError(f"--pattern: {exc}") from None


def _agreed(plan: Any) -> bool:
    """Ask on a terminal, showing what would go; without one nobody is there to ask."""
    if not plan["removed"]:
        return True
    if not sys.stdin.isatty():
        raise UsageError("clean deletes for good: say --yes, or --dry-run to see what would go")
    for path in plan["removed"]:
        print(safe(path), file=sys.stderr)
    size = format_size(plan["bytes"])
    print(f"Delete these {len(plan['removed'])} files ({size}) for good? [y/N] ", end="", file=sys.stderr)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _restore(args: argparse.Namespace) -> Exit:
    _, result = ask_of_job(args.target, args.job, lambda admin, name: admin.restore(name, args.paths))
    if args.json:
        print_json(result)
    else:
        for path in result["restored"]:
            print(safe(path))
        for failure in result["failed"]:
            say(f"{safe(failure['path'])}: not restored: {failure['reason']}")
        say(f"{len(result['restored'])} restored")
    return Exit.FAILED if result["failed"] else Exit.DONE


def _explain(args: argparse.Namespace) -> Exit:
    *others, last = find_target(args.target).job_names(args.path)
    result = None
    for name in [*others, last]:
        try:
            result = ask(args.target, lambda admin, name=name: admin.explain(name))  # type: ignore[misc]
            break
        except LookupError:
            continue
        except ValueError:
            if name == last:
                raise
    if args.json:
        print_json(result)
    else:
        print_pairs(result or {})
    return Exit.DONE


def _expiring(args: argparse.Namespace) -> Exit:
    within_s = _seconds("--within", args.within)
    assert within_s is not None
    rows = ask(args.target, lambda admin: admin.expiring(within_s))
    if args.json:
        print_json(rows)
    else:
        print_table(_EXPIRING, rows)
        if not rows:
            say(f"nothing is deleted within {as_text(args.within)}")
    return Exit.DONE
