"""What the library hands out: a job, its manifest, its directories, its policy, a cleanup's result.

Plain records with checks and a JSON form; the words in them come from model.  Nothing here asks a
clock, and the only disk access is a manifest's own save_to_file and load_from_file.  Paths in a
manifest are relative to the job's directory, and may be names of any bytes: a byte that is not UTF-8
is a surrogate, as in os.fsdecode, and an escape in the JSON, which is ASCII.
"""

import contextlib
import dataclasses
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from lffs.errors import InvalidJobIdError, NewerStoreError
from lffs.model import (
    TEMPORARY_TYPES,
    DirectoryType,
    EntryKind,
    EntryState,
    FileType,
    JobStatus,
    JobType,
)
from lffs.units import MAX_RETENTION_HOURS

MANIFEST_VERSION = 1

_Kind = TypeVar("_Kind", FileType, DirectoryType)
_save_counter = itertools.count()


@dataclass(frozen=True, slots=True)
class CleanupPolicy:
    """What automatic cleanup may do to a job's files."""

    enabled: bool = True
    retention_hours: float = 24
    file_types_to_clean: frozenset[FileType] = TEMPORARY_TYPES
    preserve_on_failure: bool = True
    debug_mode_disables: bool = True

    def should_clean_file_type(self, file_type: FileType) -> bool:
        return self.enabled and file_type in self.file_types_to_clean

    def is_cleanup_disabled_for_debug(self, debug: bool) -> bool:
        return debug and self.debug_mode_disables

    def validate(self) -> None:
        """Raise ValueError for a retention that is negative or no number, or a type that is none."""
        # Written so that NaN, which is neither, is refused too.
        if not 0 <= self.retention_hours <= MAX_RETENTION_HOURS:
            raise ValueError(
                f"retention_hours must be from 0 to {MAX_RETENTION_HOURS}, not {self.retention_hours}"
            )
        for file_type in self.file_types_to_clean:
            if not isinstance(file_type, FileType):
                raise ValueError(f"file_types_to_clean: {file_type!r} is no FileType")

    def to_dict(self) -> dict[str, Any]:
        hours = self.retention_hours
        return {
            "enabled": self.enabled,
            "retention_hours": int(hours) if hours == int(hours) else hours,
            "file_types_to_clean": [str(word) for word in FileType if word in self.file_types_to_clean],
            "preserve_on_failure": self.preserve_on_failure,
            "debug_mode_disables": self.debug_mode_disables,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "CleanupPolicy":
        """Return the policy that *data* (to_dict's form) says; what is absent has its default.

        Raises ValueError, which names the key.
        """
        given = dict(data)
        for name in ("enabled", "preserve_on_failure", "debug_mode_disables"):
            if not isinstance(given.get(name, True), bool):
                raise ValueError(f"cleanup_policy.{name}: must be true or false, not {given[name]!r}")
        hours = given.get("retention_hours", 0)
        if isinstance(hours, bool) or not isinstance(hours, (int, float)):
            raise ValueError(f"cleanup_policy.retention_hours: must be a number, not {hours!r}")
        if "file_types_to_clean" in given:
            words = _list(given["file_types_to_clean"], "cleanup_policy.file_types_to_clean")
            given["file_types_to_clean"] = frozenset(FileType(word) for word in words)
        known = {item.name for item in dataclasses.fields(cls)}
        policy = cls(**{name: value for name, value in given.items() if name in known})
        policy.validate()
        return policy


@dataclass(frozen=True, slots=True)
class DirectoryStructure:
    """The directories of a job; None: a job of this type has no such directory."""

    base_dir: Path
    temp_dir: Path | None = None
    slides_dir: Path | None = None
    expressions_dir: Path | None = None
    shorts_dir: Path | None = None
    long_form_dir: Path | None = None
    metadata_dir: Path | None = None

    def get_all_directories(self) -> list[Path]:
        """Return the directories there are, the base first."""
        values = (getattr(self, item.name) for item in dataclasses.fields(self))
        return [path for path in values if path is not None]

    def get_directory_by_type(self, dir_type: DirectoryType) -> Path | None:
        """Return the directory of that type; subtitles have no field, so None."""
        directory: Path | None = getattr(self, f"{dir_type}_dir", None)
        return directory

    def validate(self) -> None:
        """Raise ValueError if a directory does not lie below the base, or two are the same."""
        _, *below = self.get_all_directories()
        for path in below:
            if ".." in path.parts or path == self.base_dir or not path.is_relative_to(self.base_dir):
                raise ValueError(f"{path} is not below {self.base_dir}")
        if len(set(below)) < len(below):
            raise ValueError(f"two directories of {self.base_dir} are the same")


@dataclass(slots=True)
class CleanupResult:
    """What a cleanup did.  *errors* says why, a line for each failure."""

    success: bool = True
    files_removed: list[Path] = field(default_factory=list)
    files_failed: list[Path] = field(default_factory=list)
    directories_removed: list[Path] = field(default_factory=list)
    directories_failed: list[Path] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    total_size_freed: int = 0  # bytes

    @property
    def total_files_processed(self) -> int:
        return len(self.files_removed) + len(self.files_failed)

    @property
    def total_directories_processed(self) -> int:
        return len(self.directories_removed) + len(self.directories_failed)

    @property
    def has_failures(self) -> bool:
        return bool(self.files_failed or self.directories_failed or self.errors)

    def add_error(self, error: str) -> None:
        """Note what went wrong; the cleanup is then no success."""
        self.errors.append(error)
        self.success = False

    def merge(self, other: "CleanupResult") -> "CleanupResult":
        """Return both results in one; neither is changed."""
        return CleanupResult(
            success=self.success and other.success,
            files_removed=self.files_removed + other.files_removed,
            files_failed=self.files_failed + other.files_failed,
            directories_removed=self.directories_removed + other.directories_removed,
            directories_failed=self.directories_failed + other.directories_failed,
            errors=self.errors + other.errors,
            total_size_freed=self.total_size_freed + other.total_size_freed,
        )


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """What the manifest knows of one non-directory."""

    type: FileType
    size: int  # bytes, as stat says; of a hidden file: what it was
    created_at: datetime
    state: EntryState = EntryState.PRESENT
    kind: EntryKind = EntryKind.FILE

    def to_dict(self) -> dict[str, Any]:
        return {
            "type": str(self.type),
            "size": self.size,
            "created_at": self.created_at.isoformat(),
            "state": str(self.state),
            "kind": str(self.kind),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ManifestEntry":
        size = data["size"]
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise ValueError(f"size: {size!r} is no number of bytes")
        return cls(
            type=FileType(data["type"]),
            size=size,
            created_at=_moment(data["created_at"]),
            state=EntryState(data.get("state", EntryState.PRESENT)),
            kind=EntryKind(data.get("kind", EntryKind.FILE)),
        )


@dataclass(slots=True)
class JobManifest:
    """What a job made.  *files* and *directories* hold what is present, *entries* everything known."""

    job_id: str
    created_at: datetime
    job_type: JobType
    files: dict[FileType, list[Path]] = field(default_factory=dict)
    directories: dict[DirectoryType, list[Path]] = field(default_factory=dict)
    status: JobStatus = JobStatus.CREATED
    cleanup_policy: CleanupPolicy | None = None
    updated_at: datetime | None = None
    entries: dict[Path, ManifestEntry] = field(default_factory=dict)

    def add_file(self, path: Path, file_type: FileType) -> None:
        """Record *path*; one that is known already only changes its type.

        Raises ValueError for an absolute path and one that leaves the job's directory.
        """
        _add(self.files, path, file_type)

    def remove_file(self, path: Path) -> bool:
        """Drop *path*, and return whether it was there."""
        self.entries.pop(path, None)
        return _remove(self.files, path)

    def get_files_by_type(self, file_type: FileType) -> list[Path]:
        return list(self.files.get(file_type, ()))

    def get_all_files(self) -> list[Path]:
        return [path for paths in self.files.values() for path in paths]

    def add_directory(self, path: Path, dir_type: DirectoryType) -> None:
        """Record *path*; one that is known already only changes its type.  Raises as add_file."""
        _add(self.directories, path, dir_type)

    def remove_directory(self, path: Path) -> bool:
        """Drop *path*, and return whether it was there."""
        return _remove(self.directories, path)

    def get_directories_by_type(self, dir_type: DirectoryType) -> list[Path]:
        return list(self.directories.get(dir_type, ()))

    def get_all_directories(self) -> list[Path]:
        return [path for paths in self.directories.values() for path in paths]

    def get_cleanable_files(self) -> list[Path]:
        """Return the files whose type the policy cleans; none without a policy or with one disabled."""
        policy = self.cleanup_policy
        if policy is None:
            return []
        cleaned = (paths for kind, paths in self.files.items() if policy.should_clean_file_type(kind))
        return [path for paths in cleaned for path in paths]

    def validate(self) -> None:
        """Raise ValueError for an id, path or policy that can't be, or files that contradict entries."""
        check_job_id(self.job_id)
        for group in (self.files, self.directories):
            paths = [path for kind in group.values() for path in kind]
            for path in paths:
                _check_path(path)
            if len(set(paths)) < len(paths):
                twice = next(path for path in paths if paths.count(path) > 1)
                raise ValueError(f"{twice} is recorded twice")
        if self.cleanup_policy is not None:
            self.cleanup_policy.validate()
        if self.entries:  # absent in what only the library recorded
            present = EntryState.PRESENT
            by_entries = {
                (path, entry.type) for path, entry in self.entries.items() if entry.state is present
            }
            by_files = {(path, kind) for kind, paths in self.files.items() for path in paths}
            for path, kind in by_entries ^ by_files:
                raise ValueError(f"{path} ({kind}): files and entries differ")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; keys and lists are sorted, so equal manifests give equal text."""
        return {
            "version": MANIFEST_VERSION,
            "job_id": self.job_id,
            "job_type": str(self.job_type),
            "status": str(self.status),
            "created_at": self.created_at.isoformat(),
            "updated_at": (self.updated_at or self.created_at).isoformat(),
            "files": _grouped(self.files, FileType),
            "directories": _grouped(self.directories, DirectoryType),
            "cleanup_policy": self.cleanup_policy.to_dict() if self.cleanup_policy else None,
            "entries": {str(path): self.entries[path].to_dict() for path in sorted(self.entries)},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "JobManifest":
        """Return the manifest that *data* (to_dict's form) says.

        Only job_id, created_at and job_type are needed; times without a zone are taken as UTC.  Raises
        NewerStoreError for a later version, and ValueError, which names the key, for all else.
        """
        version = data.get("version", MANIFEST_VERSION)
        if isinstance(version, int) and version > MANIFEST_VERSION:
            raise NewerStoreError(f"manifest of version {version}; this lffs knows {MANIFEST_VERSION}")
        if version != MANIFEST_VERSION or isinstance(version, bool):
            raise ValueError(f"version: {version!r} is no version of a manifest")
        try:
            manifest = cls(
                job_id=data["job_id"],
                created_at=_moment(data["created_at"]),
                job_type=JobType(data["job_type"]),
                files=_ungrouped(data.get("files", {}), FileType, "files"),
                directories=_ungrouped(data.get("directories", {}), DirectoryType, "directories"),
                status=JobStatus(data.get("status", JobStatus.CREATED)),
            )
            if data.get("updated_at") is not None:
                manifest.updated_at = _moment(data["updated_at"])
            if data.get("cleanup_policy") is not None:
                policy = _mapping(data["cleanup_policy"], "cleanup_policy")
                manifest.cleanup_policy = CleanupPolicy.from_dict(policy)
            for path, entry in _mapping(data.get("entries", {}), "entries").items():
                manifest.entries[_checked(path)] = ManifestEntry.from_dict(_mapping(entry, f"entries.{path}"))
        except KeyError as exc:
            raise ValueError(f"{exc.args[0]}: is missing") from exc
        manifest.validate()
        return manifest

    def save_to_file(self, path: Path) -> None:
        """Write the JSON to *path*, so that at every instant the old text or the new one is there."""
        text = json.dumps(self.to_dict(), indent=2) + "\n"
        # In the same directory, for rename; a name of its own length, since *path*'s may have 255 bytes.
        unfinished = path.with_name(f".lffs-{os.getpid()}-{next(_save_counter)}.tmp")
        try:
            with open(unfinished, "x", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise

    @classmethod
    def load_from_file(cls, path: Path) -> "JobManifest":
        """Return the manifest in *path*.  Raises OSError, and what from_dict does with *path* in front."""
        try:
            data = json.loads(path.read_bytes())
            return cls.from_dict(_mapping(data, "the document"))
        except NewerStoreError as exc:
            raise NewerStoreError(f"{path}: {exc}") from exc
        except (ValueError, RecursionError) as exc:  # JSONDecodeError and UnicodeDecodeError included
            raise ValueError(f"{path}: no valid manifest: {exc}") from exc


@dataclass(slots=True)
class JobContext:
    """A job as its maker sees it: where it writes and what it has noted so far."""

    job_id: str
    job_type: JobType
    start_time: datetime
    output_dir: Path
    manifest_path: Path
    directories: DirectoryStructure
    temp_files: list[Path] = field(default_factory=list)
    final_outputs: list[Path] = field(default_factory=list)

    def add_temp_file(self, path: Path) -> None:
        """Note *path*, once."""
        if path not in self.temp_files:
            self.temp_files.append(path)

    def remove_temp_file(self, path: Path) -> None:
        """Drop *path*; nothing happens if it was never noted."""
        if path in self.temp_files:
            self.temp_files.remove(path)

    def add_final_output(self, path: Path) -> None:
        """Note *path*, once."""
        if path not in self.final_outputs:
            self.final_outputs.append(path)

    def remove_final_output(self, path: Path) -> None:
        """Drop *path*; nothing happens if it was never noted."""
        if path in self.final_outputs:
            self.final_outputs.remove(path)

    def validate(self) -> None:
        """Raise ValueError for an id or directories that can't be, or a file that is both."""
        check_job_id(self.job_id)
        self.directories.validate()
        for path in self.temp_files:
            if path in self.final_outputs:
                raise ValueError(f"{path} is both a temporary file and a final output")


def check_job_id(job_id: object) -> None:
    """Raise InvalidJobIdError unless *job_id* is a relative path without ``.``, ``..`` and empty parts."""
    if not isinstance(job_id, str) or not job_id:
        raise InvalidJobIdError(f"job_id: {job_id!r} is no id of a job")
    if "\0" in job_id or {"", ".", ".."} & set(job_id.split("/")):
        raise InvalidJobIdError(f"job_id: {job_id!r} is absolute, or has an empty, . or .. component")


def _check_path(path: Path) -> None:
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in str(path):
        raise ValueError(f"{str(path)!r} is no path below the job's directory")


def _checked(text: object) -> Path:
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no path")
    path = Path(text)
    _check_path(path)
    return path


def _add(group: dict[_Kind, list[Path]], path: Path, kind: _Kind) -> None:
    _check_path(path)
    _remove(group, path)
    group.setdefault(kind, []).append(path)


def _remove(group: dict[_Kind, list[Path]], path: Path) -> bool:
    for kind, paths in group.items():
        if path in paths:
            paths.remove(path)
            if not paths:
                del group[kind]
            return True
    return False


def _grouped(group: Mapping[_Kind, Sequence[Path]], kinds: Iterable[_Kind]) -> dict[str, list[str]]:
    return {str(kind): sorted(str(path) for path in group[kind]) for kind in kinds if group.get(kind)}


def _ungrouped(data: object, kinds: type[_Kind], key: str) -> dict[_Kind, list[Path]]:
    return {
        kinds(kind): [_checked(path) for path in _list(paths, f"{key}.{kind}")]
        for kind, paths in _mapping(data, key).items()
    }


def _mapping(data: object, key: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"{key}: must be an object, not {data!r}")
    return data


def _list(data: object, key: str) -> list[Any]:
    if not isinstance(data, list):
        raise ValueError(f"{key}: must be a list, not {data!r}")
    return data


def _moment(text: object) -> datetime:
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no time")
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
