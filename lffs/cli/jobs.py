"""Commands that look at jobs and set their status: jobs, show, status, manifest, verify."""

import argparse
from typing import Any

from lffs.cli.exits import Exit, say
from lffs.cli.output import Column, as_age, as_size, print_json, print_pairs, print_table, safe
from lffs.cli.targets import add_job, add_target, ask, ask_of_job
from lffs.errors import InvalidStatusError
from lffs.model import SETTABLE_STATUS, JobStatus

_COLUMNS = (
    Column("ID", "id"),
    Column("TYPE", "type"),
    Column("STATUS", "status"),
    Column("FILES", "files", is_number=True),
    Column("SIZE", "bytes", as_size, is_number=True),
    Column("TEMP", "temp_files", is_number=True),
    Column("TEMP SIZE", "temp_bytes", as_size, is_number=True),
    Column("HIDDEN", "hidden_bytes", as_size, is_number=True),
    Column("AGE", "age_s", as_age, is_number=True),
    Column("WHY", "why"),
)
_PROBLEMS = ("missing", "phantom", "corrupt", "unowned")


def add_commands(
    commands: Any, common: argparse.ArgumentParser, prints_data: argparse.ArgumentParser
) -> None:
    """Add this group to *commands*, what add_subparsers returned."""
    jobs = commands.add_parser(
        "jobs",
        parents=[prints_data],
        help="list the jobs",
        description="List the jobs, one row each. WHY says what keeps a job's temporaries on disk.",
    )
    add_target(jobs)
    jobs.add_argument("--status", metavar="STATUS", help="only jobs with this status")
    jobs.add_argument("--all", action="store_true", help="also jobs whose directory was removed")
    jobs.set_defaults(command=_jobs)

    show = commands.add_parser("show", parents=[prints_data], help="show one job in full")
    add_target(show)
    add_job(show)
    show.set_defaults(command=_show)

    status = commands.add_parser(
        "status",
        parents=[prints_data],
        help="print or set a job's status",
        description="Print a job's status, or set it: completed hides the job's temporaries, failed keeps"
        " them, running brings back what was hidden.",
    )
    add_target(status)
    add_job(status)
    status.add_argument("status", metavar="STATUS", nargs="?", help=" or ".join(SETTABLE_STATUS))
    status.set_defaults(command=_status)

    manifest = commands.add_parser("manifest", parents=[prints_data], help="print a job's manifest, as JSON")
    add_target(manifest)
    add_job(manifest)
    manifest.set_defaults(command=_manifest)

    verify = commands.add_parser(
        "verify",
        parents=[prints_data],
        help="compare the manifests with the disk",
        description="Compare the manifests with the disk; exit status 1 if they differ."
        ' "missing" means missing from the manifest: a file on disk that is not recorded.'
        ' "phantom": recorded, but not on disk. "corrupt": a manifest that can\'t be read.'
        ' "unowned": in the state directory, but no job\'s.',
    )
    add_target(verify)
    verify.add_argument("--repair", action="store_true", help="make the manifests agree with the disk first")
    verify.set_defaults(command=_verify)


def _jobs(args: argparse.Namespace) -> Exit:
    status = None if args.status is None else _status_named(args.status)
    rows = ask(args.target, lambda admin: admin.jobs(status=status, all=args.all))
    if args.json:
        print_json(rows)
    else:
        print_table(_COLUMNS, rows)
    return Exit.DONE


def _status_named(word: str) -> JobStatus:
    try:
        return SETTABLE_STATUS[word] if word in SETTABLE_STATUS else JobStatus(word)
    except ValueError:
        raise InvalidStatusError(f"--status {word}: there are {', '.join(JobStatus)}") from None


def _show(args: argparse.Namespace) -> Exit:
    _, job = ask_of_job(args.target, args.job, lambda admin, name: admin.show(name))
    if args.json:
        print_json(job)
    else:
        print_pairs(job)
    return Exit.DONE


def _status(args: argparse.Namespace) -> Exit:
    if args.status is not None and args.status not in SETTABLE_STATUS:
        raise InvalidStatusError(f"{args.status} can't be set; allowed are {', '.join(SETTABLE_STATUS)}")
    name, status = ask_of_job(args.target, args.job, lambda admin, name: admin.status(name, args.status))
    if args.json:
        print_json({"job": name, "status": status})
    elif args.status is None:
        print(status)
    return Exit.DONE


def _manifest(args: argparse.Namespace) -> Exit:
    _, manifest = ask_of_job(args.target, args.job, lambda admin, name: admin.manifest(name))
    print_json(manifest)
    return Exit.DONE


def _verify(args: argparse.Namespace) -> Exit:
    found = ask(args.target, lambda admin: admin.verify(args.repair))
    if args.json:
        print_json(found)
    else:
        for problem in _PROBLEMS:
            for path in found[problem]:
                print(f"{problem}\t{safe(str(path))}")
        counts = (f"{len(found[problem])} {problem}" for problem in _PROBLEMS if found[problem])
        say("the manifests agree with the disk" if found["ok"] else ", ".join(counts))
    return Exit.DONE if found["ok"] else Exit.FAILED
