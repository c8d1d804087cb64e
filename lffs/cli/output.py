"""How data reaches people and programs: rows, pairs and JSON on stdout.

On a terminal a table fits the window; in a pipe a row is a line, its fields apart by tabs, nothing is
cut and nothing coloured.  Either way a name can't play tricks: what is not printable is escaped.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lffs.control.api import JsonObject
from lffs.units import format_duration, format_size


def print_json(data: Any) -> None:
    """Print *data*; ASCII, so a name that is not UTF-8 arrives as it is: with surrogate escapes."""
    json.dump(data, sys.stdout, indent=2)
    print()


def safe(text: str) -> str:
    r"""Return *text* for a terminal: bytes that are no UTF-8 as ``\xff``, control characters escaped."""
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a surrogate escape: one byte
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def as_size(value: Any) -> str:
    return "-" if value is None else format_size(value)


def as_age(value: Any) -> str:
    return "-" if value is None else format_duration(timedelta(seconds=value))


def as_text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return safe(str(value))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: what of a row it shows, and how."""

    header: str
    key: str
    show: Callable[[Any], str] = as_text
    is_number: bool = False


def print_table(columns: Sequence[Column], rows: Iterable[JsonObject]) -> None:
    """Print a header and a line for each row."""
    lines = [[column.show(row.get(column.key)) for column in columns] for row in rows]
    if not sys.stdout.isatty():
        for line in ([column.header for column in columns], *lines):
            print("\t".join(line))
        return
    from rich.console import Console  # a tenth of a second, for terminals only
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.header,
            justify="right" if column.is_number else "left",
            no_wrap=column.is_number,
            overflow="fold",  # a name is broken into lines rather than cut
        )
    for line in lines:
        table.add_row(*map(Text, line))  # Text: "[red]" in a name is part of the name
    Console().print(table)


def print_pairs(data: JsonObject) -> None:
    """Print what one thing is, a line a value; what is nested bears the names around it."""
    print_table([Column("KEY", "key"), Column("VALUE", "value")], _pairs(data, ""))


def _pairs(data: JsonObject, prefix: str) -> Iterable[JsonObject]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _pairs(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value:
            yield from ({"key": prefix + key, "value": json_or_text(item)} for item in value)
        else:
            yield {"key": prefix + key, "value": _shown(key, value)}


def _shown(key: str, value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if key == "size" or key.endswith("bytes"):
            return as_size(value)
        if key.endswith("_s"):
            return as_age(value)
    return json_or_text(value)


def json_or_text(value: Any) -> Any:
    """Return a scalar as it is, anything else as JSON in one line."""
    return json.dumps(value) if isinstance(value, dict | list) else value
