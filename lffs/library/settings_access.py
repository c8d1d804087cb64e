"""The settings of this process, one function a value, in the manner of LangFlix's settings.py.

Loaded at the first question: the defaults and the environment, or what `use_settings` was given.  The
functions answer for this process; a mounted store goes by the configuration of its daemon.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lffs.model import FileType, JobType, StatusNames

if TYPE_CHECKING:
    from lffs.config import LoadedSettings, Settings
    from lffs.library.records import CleanupPolicy
    from lffs.units import MinFree


class _Process:
    """What is loaded, and from where it can be loaded again."""

    def __init__(self) -> None:
        self.loaded: LoadedSettings | None = None
        self.is_installed = False  # by use_settings, not by a first question
        self.file: Path | None = None
        self.overrides: dict[str, object] = {}


_process = _Process()


def use_settings(
    file: str | os.PathLike[str] | None = None, overrides: Mapping[str, object] | None = None
) -> "Settings":
    """Load *file* (YAML, or a profile's name such as ``langflix``) for this process and return it.

    The environment goes before the file, *overrides* (dotted key → value) before both.  Stores that
    this process opens go by it from now on.  Raises UsageError where there is no such file and
    ConfigError for mistakes in it; the settings so far stay then.
    """
    from lffs.mounting.options import find_config

    found = find_config(None if file is None else os.fspath(file))
    given = dict(overrides or {})
    loaded = _load(found, given)
    _process.loaded, _process.file, _process.overrides = loaded, found, given
    _process.is_installed = True
    return loaded.settings


def reload_settings() -> "Settings":
    """Read file and environment again.  Raises ConfigError, and the settings so far stay."""
    _process.loaded = _load(_process.file, _process.overrides)
    return _process.loaded.settings


def forget_settings() -> None:
    """Go back to the start: the next question loads the defaults and the environment."""
    _process.loaded, _process.file, _process.overrides = None, None, {}
    _process.is_installed = False


def _load(file: Path | None, overrides: Mapping[str, object]) -> "LoadedSettings":
    from lffs.config import load_settings  # pydantic, a fifth of a second

    return load_settings(file, os.environ, overrides)


def current_settings() -> "Settings":
    """Return the settings in force."""
    return reload_settings() if _process.loaded is None else _process.loaded.settings


def installed_settings() -> "Settings | None":
    """Return the settings that `use_settings` was given; None: nobody has."""
    loaded = _process.loaded
    return loaded.settings if _process.is_installed and loaded is not None else None


# -- cleanup --------------------------------------------------------------------------------------


def get_cleanup_config() -> dict[str, object]:
    """Return the section ``cleanup`` as plain data, without regard to debug mode."""
    from lffs.config import settings_to_values

    values = settings_to_values(current_settings())
    return {
        key.removeprefix("cleanup."): value for key, value in values.items() if key.startswith("cleanup.")
    }


def get_cleanup_policy() -> "CleanupPolicy":
    """Return the policy that a job's manifest says, without regard to debug mode."""
    return current_settings().cleanup.policy


def get_cleanup_enabled() -> bool:
    """Whether anything is hidden or deleted automatically: not in debug mode (4.1, 4.4)."""
    return current_settings().automatic_cleanup


def get_retention_hours() -> float:
    return current_settings().cleanup.retention_hours


def get_failed_retention_hours() -> float | None:
    """How long a failed job's temporaries stay; None: until someone cleans them."""
    return current_settings().cleanup.failed_retention_hours


def get_file_types_to_clean() -> list[FileType]:
    """The types that are cleaned automatically: none where automatic cleanup is off or debug mode is on."""
    settings = current_settings()
    chosen = settings.cleanup.file_types_to_clean if settings.automatic_cleanup else frozenset()
    return [type_ for type_ in FileType if type_ in chosen]


def get_keep_unlinked() -> list[FileType]:
    """The types that are kept when a running job unlinks them itself."""
    return [type_ for type_ in FileType if type_ in current_settings().cleanup.keep_unlinked]


def get_preserve_on_failure() -> bool:
    """Whether a failed job's temporaries stay: always in debug mode."""
    settings = current_settings()
    return settings.cleanup.preserve_on_failure or not settings.automatic_cleanup


def get_min_free() -> "MinFree | None":
    return current_settings().cleanup.min_free


def get_max_share() -> float | None:
    return current_settings().cleanup.max_share


# -- debug mode -----------------------------------------------------------------------------------


def is_debug_mode() -> bool:
    return current_settings().debug


def get_debug_mode_disables() -> bool:
    """Whether debug mode turns automatic cleanup off."""
    return current_settings().cleanup.debug_mode_disables


# -- jobs and directories -------------------------------------------------------------------------


def get_job_roots() -> list[str]:
    return list(current_settings().jobs.roots)


def get_default_job_type() -> JobType:
    return current_settings().jobs.default_type


def get_status_names() -> StatusNames:
    return current_settings().jobs.status_names


def is_lazy_directories_enabled() -> bool:
    """Whether directories are made in the backing store when the first file is created in them."""
    return current_settings().directories.lazy
