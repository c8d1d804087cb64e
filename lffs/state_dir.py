"""Where a backing store keeps its state: the manifest store, its backups, lock, log and socket.

In BACKING/.lffs, unless the mount was given --state-dir; then a file in BACKING/.lffs names the
other directory, so that every command finds it from the backing store alone.
"""

import os
from pathlib import Path

STATE_NAME = ".lffs"  # below the backing store; below the mount the same name is the control tree
SETTINGS_NAME = "settings.json"  # of the last mount: what unmounted commands go by
POINTER_NAME = "state-dir"  # holds one absolute path: the bytes, no newline


def state_directory(backing: Path) -> Path:
    """Return the directory that holds the state of *backing*; it need not exist.

    Raises OSError if the pointer is there but can't be read.
    """
    home = backing / STATE_NAME
    try:
        pointer = (home / POINTER_NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return home
    return Path(os.fsdecode(pointer)) if pointer else home


def point_to_state_directory(backing: Path, state_dir: Path) -> None:
    """Record that the state of *backing* lies in *state_dir*; ``BACKING/.lffs`` exists already."""
    home = backing / STATE_NAME
    pointer = home / POINTER_NAME
    if state_dir == home:
        pointer.unlink(missing_ok=True)
        return
    write_private(pointer, os.fsencode(state_dir.absolute()))


def write_private(path: Path, content: bytes) -> None:
    """Write a file for lffs alone, in one step: a reader finds the old content or the new, whole."""
    draft = path.with_name(path.name + ".new")
    with open(draft, "wb", opener=_private) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
