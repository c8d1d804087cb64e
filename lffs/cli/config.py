"""Commands that look at configurations: config check, config show."""

import argparse
import json
import os
from typing import Any

from lffs.cli.exits import Exit
from lffs.cli.output import Column, print_json, print_table


def add_commands(
    commands: Any, common: argparse.ArgumentParser, prints_data: argparse.ArgumentParser
) -> None:
    """Add this group to *commands*, what add_subparsers returned."""
    group = commands.add_parser("config", help="check or show a configuration")
    actions = group.add_subparsers(metavar="ACTION", required=True)

    check = actions.add_parser(
        "check",
        parents=[prints_data],
        help="validate a configuration file",
        description="Validate a configuration; each problem is named with file, line and key, exit status 2.",
    )
    check.add_argument("file", metavar="FILE", help="a YAML file, or a profile: default, langflix")
    check.set_defaults(command=_check)

    show = actions.add_parser(
        "show",
        parents=[prints_data],
        help="print the effective configuration",
        description="Print every key, its value, and where that comes from: default, file or environment.",
    )
    show.add_argument("file", metavar="FILE", nargs="?", help="a YAML file, or a profile: default, langflix")
    show.set_defaults(command=_show)


def _check(args: argparse.Namespace) -> Exit:
    from lffs.config import load_settings  # pydantic, a fifth of a second
    from lffs.mounting.options import find_config

    file = find_config(args.file)
    load_settings(file)  # the file alone: the environment of whoever checks it is not in it
    if args.json:
        print_json({"ok": True, "file": str(file)})
    return Exit.DONE


def _show(args: argparse.Namespace) -> Exit:
    from lffs.config import load_settings, show_settings
    from lffs.mounting.options import find_config

    shown = show_settings(load_settings(find_config(args.file), os.environ))
    if args.json:
        print_json({setting.key: {"value": setting.value, "source": setting.source} for setting in shown})
    else:
        columns = [Column("KEY", "key"), Column("VALUE", "value"), Column("SOURCE", "source")]
        # JSON is YAML too, and keeps a value in one line.
        rows = ({**setting._asdict(), "value": json.dumps(setting.value)} for setting in shown)
        print_table(columns, rows)
    return Exit.DONE
