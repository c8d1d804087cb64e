"""Directories that every container of a LangFlix deployment may write in, whatever its user.

They share the output tree under different uids and one group.  That a mode or group can't be set is no
reason to stop: the one who may not set it is rarely the one who needs it.
"""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

GROUP = 1000
_DIRECTORY_MODE = 0o775
_FILE_MODE = 0o664


def ensure_write_permissions(path: Path | str, is_file: bool = False) -> None:
    """Give *path* to the group, as far as that is allowed; what doesn't exist is left alone."""
    try:
        os.chmod(path, _FILE_MODE if is_file else _DIRECTORY_MODE)
    except FileNotFoundError:
        return
    except OSError as exc:
        log.warning("cannot open %s to its group: %s", path, exc)
        return
    try:
        if os.stat(path).st_gid != GROUP:
            os.chown(path, -1, GROUP)
    except OSError as exc:  # the usual case for who is neither root nor in the group
        log.debug("cannot give %s to group %d: %s", path, GROUP, exc)


def make_shared_directory(path: Path) -> Path:
    """Make *path* and what it lies in if need be, and return it.  Only a new one gets its permissions."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        ensure_write_permissions(path)
    return path
