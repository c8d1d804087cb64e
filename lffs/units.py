"""Durations and sizes as people write them, and back.

``90m``, ``1h30m``, ``7d``; ``10GiB``, ``500MB``, ``5%``.  Text and numbers only: no clock and no disk
is asked.  Every ValueError says what would have been accepted.
"""

import math
import re
from dataclasses import dataclass
from datetime import timedelta

# Longer than anybody waits, and far below what nanoseconds in 64 bits and timedelta can hold.
MAX_RETENTION_HOURS = 876_600  # 100 years
_MAX_DURATION = timedelta(hours=MAX_RETENTION_HOURS)
_MAX_SIZE_BYTES = 2**63 - 1  # what off_t holds

_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_NUMBER = r"[0-9]{1,19}(?:\.[0-9]{1,9})?"  # [0-9], since \d takes digits of every script
# From the long unit to the short one, each at most once: "30m1h" is more likely a slip than a wish.
_DURATION = re.compile(r"\s*".join(rf"(?:({_NUMBER})\s*{unit})?" for unit in _SECONDS), re.IGNORECASE)
_DURATION_HINT = "a duration such as 90m, 24h, 7d or 1h30m (w, d, h, m, s)"

# As coreutils: GB is a power of 1000, GiB and the bare G are powers of 1024.
_POWERS = "KMGTPE"
_SIZE = re.compile(rf"({_NUMBER})\s*(?:([{_POWERS}])(i?B)?|B)?", re.IGNORECASE)
_SIZE_HINT = "a size such as 10GiB, 500MB or a number of bytes"
_PERCENT = re.compile(rf"({_NUMBER})\s*%")


def parse_duration(text: str, plain_unit: str | None = None) -> timedelta:
    """Return what *text* says: numbers with units, from the long unit to the short one.

    A number without a unit counts in *plain_unit* (one of w, d, h, m, s); if that is None only ``0``
    may stand alone.  Raises ValueError for anything else, negative and more than 100 years included.
    """
    stripped = text.strip()
    if re.fullmatch(_NUMBER, stripped) and (plain_unit or float(stripped) == 0):
        return _bounded(float(stripped) * _SECONDS[plain_unit or "s"], text)
    match = _DURATION.fullmatch(stripped)
    if match is None or match.lastindex is None:
        raise ValueError(f"{text!r} is not {_DURATION_HINT}")
    amounts = zip(match.groups(), _SECONDS.values(), strict=True)
    return _bounded(sum(float(amount) * seconds for amount, seconds in amounts if amount), text)


def _bounded(seconds: float, text: str) -> timedelta:
    if seconds > _MAX_DURATION.total_seconds():
        raise ValueError(f"{text!r} is too long: at most {_MAX_DURATION.days}d (100 years)")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Return the two greatest units of *duration*, rounded down: ``6d23h``, ``1h30m``, ``0s``.

    parse_duration reads it back.  A negative duration is printed with a minus sign, which it does not.
    """
    seconds = int(abs(duration).total_seconds())
    sign = "-" if duration < timedelta(0) and seconds else ""
    units = [(unit, size) for unit, size in _SECONDS.items() if unit != "w"]  # 10d says more than 1w3d
    for position, (unit, size) in enumerate(units):
        if seconds < size:
            continue
        rest = seconds % size
        small, small_size = units[position + 1] if position + 1 < len(units) else ("", 1)
        second_part = f"{rest // small_size}{small}" if rest >= small_size and small else ""
        return f"{sign}{seconds // size}{unit}{second_part}"
    return "0s"


def parse_size(text: str) -> int:
    """Return the bytes that *text* says; a number without a unit counts bytes.

    Units are case-insensitive and as coreutils has them: ``MB`` is 1000², ``MiB`` and ``M`` are 1024².
    Raises ValueError for anything else, and for more than a file can hold.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not {_SIZE_HINT}")
    number, prefix, suffix = match.groups()
    base = 1000 if (suffix or "").upper() == "B" else 1024
    factor = base ** (1 + _POWERS.index(prefix.upper())) if prefix else 1
    # Whole numbers stay whole: a float would lose bytes above 2**53.
    size = int(float(number) * factor) if "." in number else int(number) * factor
    if size > _MAX_SIZE_BYTES:
        raise ValueError(f"{text!r} is too much: at most {_MAX_SIZE_BYTES} bytes")
    return size


def format_size(size: int) -> str:
    """Return *size* (bytes) in the binary unit that leaves one to four digits: ``512 B``, ``1.5 GiB``."""
    if abs(size) < 1024:
        return f"{size} B"
    amount = float(size)
    for prefix in _POWERS:
        amount /= 1024
        # 1023.95 would be printed as 1024.0 of this unit, which is 1.0 of the next.
        if abs(amount) < 1023.95:
            return f"{amount:.1f} {prefix}iB"
    return f"{amount:.1f} {_POWERS[-1]}iB"


@dataclass(frozen=True, slots=True)
class MinFree:
    """How much of a filesystem is to stay free: *amount* bytes, or per cent of its size."""

    amount: float
    is_percent: bool

    def needed_bytes(self, total_bytes: int) -> int:
        """Return the bytes that must be free on a filesystem of *total_bytes*."""
        return math.ceil(total_bytes * self.amount / 100) if self.is_percent else int(self.amount)

    def __str__(self) -> str:
        """What parse_min_free reads back."""
        return f"{self.amount:g}%" if self.is_percent else str(int(self.amount))


def parse_min_free(text: str) -> MinFree:
    """Return what *text* says: a size, or a percentage from 0% to 100%.  Raises ValueError for else."""
    if match := _PERCENT.fullmatch(text.strip()):
        percent = float(match[1])
        if percent > 100:
            raise ValueError(f"{text!r} is more than the whole filesystem: from 0% to 100%")
        return MinFree(percent, is_percent=True)
    try:
        return MinFree(parse_size(text), is_percent=False)
    except ValueError as exc:
        raise ValueError(f"{exc}, or a percentage such as 5%") from None
