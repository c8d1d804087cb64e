"""Commands that begin and end a mount: mount, umount."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from lffs.cli.exits import Exit, report, say

if TYPE_CHECKING:
    from lffs.mounting.options import MountOptions


def add_commands(
    commands: Any, common: argparse.ArgumentParser, prints_data: argparse.ArgumentParser
) -> None:
    """Add this group to *commands*, what add_subparsers returned.  It prints no data."""
    mount = commands.add_parser(
        "mount",
        parents=[common],
        help="mount a backing directory",
        description="Mount BACKING at MOUNTPOINT; returns once it serves.",
    )
    mount.add_argument("backing", metavar="BACKING", help="the directory that holds the files")
    mount.add_argument("mountpoint", metavar="MOUNTPOINT", help="an empty directory elsewhere")
    mount.add_argument("-c", "--config", metavar="FILE", help="a YAML file, or a profile: default, langflix")
    mount.add_argument(
        "-f", "--foreground", action="store_true", help="stay: this very process is the daemon"
    )
    mount.add_argument(
        "-o",
        dest="options",
        metavar="OPTS",
        action="append",
        default=[],
        help="a comma list: allow_other, ro, suid, dev, transport=auto|pyfuse3|passthrough, config=FILE,"
        " status_names=suffix|plain, state_dir=DIR, debug, noexec, sync, and what mount(8) adds",
    )
    mount.add_argument(
        "--state-dir", metavar="DIR", help="keep manifests, backups, lock, log and socket there"
    )
    mount.set_defaults(command=_mount)

    umount = commands.add_parser(
        "umount",
        parents=[common],
        help="unmount, and wait until the daemon is gone",
        description="Unmount, and return when everything is written and the daemon is gone. A busy mount"
        " is refused and its holders are named.",
    )
    umount.add_argument("mountpoint", metavar="MOUNTPOINT")
    umount.add_argument(
        "--lazy",
        action="store_true",
        help="detach a busy mount too; the daemon ends when its last user leaves",
    )
    umount.set_defaults(command=_umount)


def _mount(args: argparse.Namespace) -> int:
    from lffs.config import load_settings
    from lffs.mounting.background import run_in_background
    from lffs.mounting.options import check_mount, mount_options

    options = mount_options(
        args.backing,
        args.mountpoint,
        args.options,
        config=args.config,
        state_dir=args.state_dir,
        foreground=args.foreground,
    )
    load_settings(options.config, os.environ, options.overrides)  # wrong ones are refused before all else
    options = check_mount(options, say)
    if options.foreground:
        return _serve_in_foreground(options, args.verbose)
    note = f"the scan that reconciles {options.backing} with its manifests is still running"
    return run_in_background(partial(_serve_in_background, options, args.verbose), note)


def _serve_in_foreground(options: "MountOptions", verbose: bool) -> int:
    from lffs.mounting.background import announced_to_systemd, leave_surroundings, log_to_stderr

    log_to_stderr(verbose)
    leave_surroundings()
    with announced_to_systemd() as announce:

        def ready() -> None:
            say(f"serving {options.backing} at {options.mountpoint} (pid {os.getpid()})")
            announce()

        _serve(options, ready)
    return Exit.DONE


def _serve_in_background(options: "MountOptions", verbose: bool, ready: Callable[[], None]) -> int:
    """The daemon's whole life; what fails before it serves is said, later it is logged."""
    import logging

    from lffs.mounting.background import EarlyLog
    from lffs.state_dir import state_directory

    early = EarlyLog(verbose)
    serves = False

    def now_ready() -> None:
        nonlocal serves
        early.move_to(options.state_dir or state_directory(options.backing))
        serves = True
        ready()

    try:
        _serve(options, now_ready)
    except Exception as exc:
        if not serves:
            return report(exc)
        logging.getLogger(__name__).critical("the daemon ends", exc_info=exc)
        return Exit.FAILED
    return Exit.DONE


def _serve(options: "MountOptions", ready: Callable[[], None]) -> None:
    from lffs.config import load_settings
    from lffs.daemon import run

    reload_settings = partial(load_settings, options.config, os.environ, options.overrides)
    run(options, reload_settings(), reload_settings, ready)


def _umount(args: argparse.Namespace) -> Exit:
    from lffs.mounting.unmounting import end_mount

    end_mount(args.mountpoint, lazy=args.lazy, say=say)
    return Exit.DONE
