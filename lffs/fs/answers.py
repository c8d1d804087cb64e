"""What the core answers a transport with, as plain values."""

from dataclasses import dataclass

from lffs.syscalls import Stat

# What only lffs changes the kernel may believe until it is told otherwise.
LONG_S = 3600.0


@dataclass(frozen=True, slots=True)
class Answered:
    """What is told of one entry: its attributes and how long the kernel may believe them."""

    status: Stat | None  # st_ino is the inode number; None: there is no such name
    entry_timeout_s: float = LONG_S
    attr_timeout_s: float = LONG_S


@dataclass(frozen=True, slots=True)
class Opened:
    """A handle, and whether its reads must come to lffs each time."""

    handle: int
    direct_io: bool = False
