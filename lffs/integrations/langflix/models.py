"""LangFlix's data model of cleanup: its members, its defaults, its JSON, and the way to lffs's own.

Where both agree it is lffs's: JobType, JobStatus, DirectoryType.  Where they differ LangFlix's is here:
its records can be changed, paths are mostly absolute, times bear no zone, and there is no type ``other``.
to_library and from_library lead from one to the other; a time without a zone is taken as UTC, as lffs
does when it reads LangFlix's JSON.
"""

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from lffs import model
from lffs.library import records as library
from lffs.model import DirectoryType, JobStatus, JobType

__all__ = [
    "CleanupPolicy",
    "CleanupResult",
    "DirectoryStructure",
    "DirectoryType",
    "FileType",
    "JobContext",
    "JobManifest",
    "JobStatus",
    "JobType",
]


class FileType(enum.StrEnum):
    """What a file is; equal to lffs's type of the same name."""

    TEMP_VIDEO = model.FileType.TEMP_VIDEO.value
    TEMP_SLIDE = model.FileType.TEMP_SLIDE.value
    TEMP_EXPRESSION = model.FileType.TEMP_EXPRESSION.value
    TEMP_AUDIO = model.FileType.TEMP_AUDIO.value
    TEMP_SUBTITLE = model.FileType.TEMP_SUBTITLE.value
    FINAL_VIDEO = model.FileType.FINAL_VIDEO.value
    FINAL_SLIDE = model.FileType.FINAL_SLIDE.value
    METADATA = model.FileType.METADATA.value
    MANIFEST = model.FileType.MANIFEST.value
    LOG = model.FileType.LOG.value


_Kind = TypeVar("_Kind", FileType, DirectoryType)


@dataclass(slots=True)
class CleanupPolicy:
    """What automatic cleanup may do to a job's files."""

    enabled: bool = True
    retention_hours: float = 24
    file_types_to_clean: list[FileType] = field(
        default_factory=lambda: [FileType(kind.value) for kind in model.FileType if kind.is_temporary]
    )
    preserve_on_failure: bool = True
    debug_mode_disables: bool = True

    def should_clean_file_type(self, file_type: FileType) -> bool:
        """Return whether the type is listed; unlike in lffs ``enabled`` has no say in it."""
        return file_type in self.file_types_to_clean

    def is_cleanup_disabled_for_debug(self, debug_mode: bool) -> bool:
        return debug_mode and self.debug_mode_disables

    def validate(self) -> None:
        """Raise ValueError for a negative retention, or a type that is none."""
        if self.retention_hours < 0:
            raise ValueError(f"retention_hours must not be negative: {self.retention_hours}")
        if not isinstance(self.file_types_to_clean, list):
            raise ValueError(f"file_types_to_clean must be a list: {self.file_types_to_clean!r}")
        _check_each(self.file_types_to_clean, FileType, "file_types_to_clean")

    def to_library(self) -> library.CleanupPolicy:
        """Return lffs's own policy.  Raises ValueError for one that can't be."""
        policy = library.CleanupPolicy(
            enabled=self.enabled,
            retention_hours=self.retention_hours,
            file_types_to_clean=frozenset(model.FileType(kind) for kind in self.file_types_to_clean),
            preserve_on_failure=self.preserve_on_failure,
            debug_mode_disables=self.debug_mode_disables,
        )
        policy.validate()
        return policy

    @classmethod
    def from_library(cls, policy: library.CleanupPolicy) -> "CleanupPolicy":
        return _policy_from_dict(policy.to_dict())


@dataclass(slots=True)
class DirectoryStructure:
    """The directories of a job; None: there is no such directory."""

    base_dir: Path
    temp_dir: Path | None = None
    slides_dir: Path | None = None
    expressions_dir: Path | None = None
    shorts_dir: Path | None = None
    long_form_dir: Path | None = None
    metadata_dir: Path | None = None

    def get_all_directories(self) -> list[Path]:
        """Return the directories there are, the base first."""
        return self.to_library().get_all_directories()

    def get_directory_by_type(self, dir_type: DirectoryType) -> Path | None:
        """Return the directory of that type; subtitles have no field, so None."""
        return self.to_library().get_directory_by_type(dir_type)

    def validate(self) -> None:
        """Raise ValueError without a base, or for what is no Path."""
        _check_each([self.base_dir, *self.get_all_directories()], Path, "directories")

    def to_library(self) -> library.DirectoryStructure:
        """Return lffs's own structure, which can't be changed; it is not validated."""
        return library.DirectoryStructure(**{item.name: getattr(self, item.name) for item in fields(self)})

    @classmethod
    def from_library(cls, structure: library.DirectoryStructure) -> "DirectoryStructure":
        return cls(**{item.name: getattr(structure, item.name) for item in fields(structure)})


@dataclass(slots=True)
class CleanupResult(library.CleanupResult):
    """What a cleanup did.  Unlike in lffs an error alone neither is a failure nor ends the success."""

    @property
    def has_failures(self) -> bool:
        return bool(self.files_failed or self.directories_failed)

    def add_error(self, error: str) -> None:
        self.errors.append(error)

    def merge(self, other: library.CleanupResult) -> "CleanupResult":
        """Return both results in one; neither is changed."""
        # Not super(): a class with slots is made twice, and the method knows only the first of them.
        both = library.CleanupResult.merge(self, other)
        return CleanupResult(**{item.name: getattr(both, item.name) for item in fields(both)})


@dataclass(slots=True)
class JobManifest:
    """What a job made, by type."""

    job_id: str
    created_at: datetime
    job_type: JobType
    files: dict[FileType, list[Path]] = field(default_factory=dict)
    directories: dict[DirectoryType, list[Path]] = field(default_factory=dict)
    status: JobStatus = JobStatus.CREATED
    cleanup_policy: CleanupPolicy | None = None

    def add_file(self, file_path: Path, file_type: FileType) -> None:
        """Record the file, once for each type."""
        _add(self.files, file_path, file_type)

    def remove_file(self, file_path: Path) -> bool:
        """Drop the file from the first type that has it, and return whether one had."""
        return _remove(self.files, file_path)

    def get_files_by_type(self, file_type: FileType) -> list[Path]:
        return list(self.files.get(file_type, ()))

    def get_all_files(self) -> list[Path]:
        return [path for paths in self.files.values() for path in paths]

    def add_directory(self, dir_path: Path, dir_type: DirectoryType) -> None:
        """Record the directory, once for each type."""
        _add(self.directories, dir_path, dir_type)

    def remove_directory(self, dir_path: Path) -> bool:
        """Drop the directory from the first type that has it, and return whether one had."""
        return _remove(self.directories, dir_path)

    def get_directories_by_type(self, dir_type: DirectoryType) -> list[Path]:
        return list(self.directories.get(dir_type, ()))

    def get_all_directories(self) -> list[Path]:
        return [path for paths in self.directories.values() for path in paths]

    def get_cleanable_files(self) -> list[Path]:
        """Return the files of the types that the policy lists; none without a policy."""
        policy = self.cleanup_policy
        if policy is None:
            return []
        cleaned = (paths for kind, paths in self.files.items() if policy.should_clean_file_type(kind))
        return [path for paths in cleaned for path in paths]

    def to_dict(self) -> dict[str, Any]:
        policy = self.cleanup_policy
        return {
            "job_id": self.job_id,
            "created_at": self.created_at.isoformat(),
            "job_type": str(self.job_type),
            "files": {str(kind): [str(path) for path in paths] for kind, paths in self.files.items()},
            "directories": {
                str(kind): [str(path) for path in paths] for kind, paths in self.directories.items()
            },
            "status": str(self.status),
            "cleanup_policy": None if policy is None else _policy_to_dict(policy),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "JobManifest":
        """Return the manifest that *data* says.

        Raises KeyError without job_id, created_at or job_type, and ValueError for unknown words.
        """
        policy = data.get("cleanup_policy")
        return cls(
            job_id=data["job_id"],
            created_at=datetime.fromisoformat(data["created_at"]),
            job_type=JobType(data["job_type"]),
            files=_paths_by(FileType, data.get("files", {})),
            directories=_paths_by(DirectoryType, data.get("directories", {})),
            status=JobStatus(data.get("status", JobStatus.CREATED)),
            cleanup_policy=_policy_from_dict(policy) if policy else None,
        )

    def save_to_file(self, file_path: Path) -> None:
        """Write the JSON over what is there.  Not atomic; lffs's own manifest is."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
        # Encoded before the file is opened, and so emptied.
        file_path.write_bytes(text.encode("utf-8", "surrogateescape"))

    @classmethod
    def load_from_file(cls, file_path: Path) -> "JobManifest":
        """Return the manifest in the file.  Raises OSError, ValueError for no JSON, and as from_dict."""
        return cls.from_dict(json.loads(file_path.read_bytes().decode("utf-8", "surrogateescape")))

    def validate(self) -> None:
        """Raise ValueError without an id, or for a word, path or policy that is none."""
        if not self.job_id:
            raise ValueError("job_id is required")
        _check_each([self.job_type], JobType, "job_type")
        _check_each([self.status], JobStatus, "status")
        _check_each(self.files, FileType, "files")
        _check_each(self.get_all_files(), Path, "files")
        _check_each(self.directories, DirectoryType, "directories")
        _check_each(self.get_all_directories(), Path, "directories")
        if self.cleanup_policy is not None:
            self.cleanup_policy.validate()

    def to_library(self, directory: Path) -> library.JobManifest:
        """Return lffs's own manifest, with paths relative to the job's *directory*.

        Of a file under two types the last counts.  Raises ValueError for an absolute path that does not
        lie in *directory*, and for what lffs refuses.
        """
        manifest = library.JobManifest(
            job_id=self.job_id,
            created_at=self.created_at if self.created_at.tzinfo else self.created_at.replace(tzinfo=UTC),
            job_type=self.job_type,
            status=self.status,
            cleanup_policy=None if self.cleanup_policy is None else self.cleanup_policy.to_library(),
        )
        for kind, paths in self.files.items():
            for path in paths:
                manifest.add_file(_below(directory, path), model.FileType(kind))
        for dir_type, paths in self.directories.items():
            for path in paths:
                manifest.add_directory(_below(directory, path), dir_type)
        manifest.validate()
        return manifest

    @classmethod
    def from_library(cls, manifest: library.JobManifest, directory: Path) -> "JobManifest":
        """Return LangFlix's form, with paths in the job's *directory*.

        What is of type ``other`` is left out: LangFlix has no word for it.
        """
        policy = manifest.cleanup_policy
        return cls(
            job_id=manifest.job_id,
            created_at=manifest.created_at.astimezone(UTC).replace(tzinfo=None),
            job_type=manifest.job_type,
            files={
                FileType(kind): [directory / path for path in paths]
                for kind, paths in manifest.files.items()
                if kind is not model.FileType.OTHER
            },
            directories={
                kind: [directory / path for path in paths] for kind, paths in manifest.directories.items()
            },
            status=manifest.status,
            cleanup_policy=None if policy is None else CleanupPolicy.from_library(policy),
        )


@dataclass(slots=True)
class JobContext:
    """A job as its maker sees it."""

    job_id: str
    job_type: JobType
    start_time: datetime
    output_dir: Path
    manifest_path: Path
    directories: DirectoryStructure
    temp_files: list[Path] = field(default_factory=list)
    final_outputs: list[Path] = field(default_factory=list)

    def add_temp_file(self, file_path: Path) -> None:
        """Note the file, once."""
        if file_path not in self.temp_files:
            self.temp_files.append(file_path)

    def remove_temp_file(self, file_path: Path) -> bool:
        """Drop the file, and return whether it was noted."""
        return _drop(self.temp_files, file_path)

    def add_final_output(self, file_path: Path) -> None:
        """Note the file, once."""
        if file_path not in self.final_outputs:
            self.final_outputs.append(file_path)

    def remove_final_output(self, file_path: Path) -> bool:
        """Drop the file, and return whether it was noted."""
        return _drop(self.final_outputs, file_path)

    def get_all_tracked_files(self) -> list[Path]:
        return self.temp_files + self.final_outputs

    def validate(self) -> None:
        """Raise ValueError without an id, or for a word, path or directory that is none."""
        if not self.job_id:
            raise ValueError("job_id is required")
        _check_each([self.job_type], JobType, "job_type")
        _check_each([self.output_dir], Path, "output_dir")
        _check_each([self.manifest_path], Path, "manifest_path")
        self.directories.validate()
        _check_each(self.get_all_tracked_files(), Path, "files")


def _policy_to_dict(policy: CleanupPolicy) -> dict[str, Any]:
    values = {item.name: getattr(policy, item.name) for item in fields(policy)}
    return values | {"file_types_to_clean": [str(kind) for kind in policy.file_types_to_clean]}


def _policy_from_dict(data: Mapping[str, Any]) -> CleanupPolicy:
    values = {item.name: data[item.name] for item in fields(CleanupPolicy) if item.name in data}
    # Without the key LangFlix takes none, although the class's own default is five.
    values["file_types_to_clean"] = [FileType(word) for word in data.get("file_types_to_clean", ())]
    return CleanupPolicy(**values)


def _paths_by(kinds: type[_Kind], data: Mapping[str, Iterable[str]]) -> dict[_Kind, list[Path]]:
    return {kinds(word): [Path(path) for path in paths] for word, paths in data.items()}


def _add(group: dict[_Kind, list[Path]], path: Path, kind: _Kind) -> None:
    paths = group.setdefault(kind, [])
    if path not in paths:
        paths.append(path)


def _remove(group: dict[_Kind, list[Path]], path: Path) -> bool:
    return any(_drop(paths, path) for paths in group.values())


def _drop(paths: list[Path], path: Path) -> bool:
    if path not in paths:
        return False
    paths.remove(path)
    return True


def _below(directory: Path, path: Path) -> Path:
    return path.relative_to(directory) if path.is_absolute() else path


def _check_each(values: Iterable[object], kind: type, what: str) -> None:
    for value in values:
        if not isinstance(value, kind):
            raise ValueError(f"{what}: {value!r} is no {kind.__name__}")
