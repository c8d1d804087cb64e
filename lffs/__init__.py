"""lffs: a filesystem for pipelines that work in stages; see README.md.

What the package names itself is the library.  Each name is imported when it is first used, so that
``import lffs`` costs nothing; none needs FUSE.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lffs.config import Settings, load_settings
    from lffs.errors import (
        CleanRefusedError,
        ConfigError,
        InvalidJobIdError,
        InvalidPathError,
        InvalidStatusError,
        JobBusyError,
        LffsError,
        MountError,
        NewerStoreError,
        StoreError,
        StoreInUseError,
        UnknownJobError,
    )
    from lffs.library.cleanup_service import CleanupService
    from lffs.library.directory_manager import DirectoryManager
    from lffs.library.job_manager import JobManager
    from lffs.library.manifest_tracker import ManifestTracker
    from lffs.library.records import (
        CleanupPolicy,
        CleanupResult,
        DirectoryStructure,
        JobContext,
        JobManifest,
        ManifestEntry,
    )
    from lffs.library.session import Session, open_store
    from lffs.library.settings_access import current_settings, reload_settings, use_settings
    from lffs.model import DirectoryType, EntryKind, EntryState, FileType, JobStatus, JobType
    from lffs.mounting.table import UsageError

_MODULES = {
    "library.cleanup_service": ["CleanupService"],
    "config": ["Settings", "load_settings"],
    "library.directory_manager": ["DirectoryManager"],
    "errors": [
        "CleanRefusedError",
        "ConfigError",
        "InvalidJobIdError",
        "InvalidPathError",
        "InvalidStatusError",
        "JobBusyError",
        "LffsError",
        "MountError",
        "NewerStoreError",
        "StoreError",
        "StoreInUseError",
        "UnknownJobError",
    ],
    "library.job_manager": ["JobManager"],
    "library.records": [
        "CleanupPolicy",
        "CleanupResult",
        "DirectoryStructure",
        "JobContext",
        "JobManifest",
        "ManifestEntry",
    ],
    "library.manifest_tracker": ["ManifestTracker"],
    "model": ["DirectoryType", "EntryKind", "EntryState", "FileType", "JobStatus", "JobType"],
    "mounting.table": ["UsageError"],
    "library.session": ["Session", "open_store"],
    "library.settings_access": ["current_settings", "reload_settings", "use_settings"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "CleanRefusedError",
    "CleanupPolicy",
    "CleanupResult",
    "CleanupService",
    "ConfigError",
    "DirectoryManager",
    "DirectoryStructure",
    "DirectoryType",
    "EntryKind",
    "EntryState",
    "FileType",
    "InvalidJobIdError",
    "InvalidPathError",
    "InvalidStatusError",
    "JobBusyError",
    "JobContext",
    "JobManager",
    "JobManifest",
    "JobStatus",
    "JobType",
    "LffsError",
    "ManifestEntry",
    "ManifestTracker",
    "MountError",
    "NewerStoreError",
    "Session",
    "Settings",
    "StoreError",
    "StoreInUseError",
    "UnknownJobError",
    "UsageError",
    "__version__",
    "current_settings",
    "load_settings",
    "open_store",
    "reload_settings",
    "use_settings",
]


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'lffs' has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(f"lffs.{module}"), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
