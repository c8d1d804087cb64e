"""The configuration: what can be set, its defaults, and where each value came from.

Later layers win: built-in defaults, the YAML file, LFFS_ variables, the command line.  A layer sets
whole keys: a list or mapping replaces the one before, nothing is merged into it.  Everything wrong is
found in one go and raised as one ConfigError, a line for each problem.

Reads the one file it is given and nothing else.  Values are checked by pydantic, which takes a fifth
of a second to import: import this module where a configuration is needed, not below.
"""

import difflib
import enum
import importlib.resources
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, NamedTuple

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import ErrorDetails

from lffs.classify import pattern_regex
from lffs.errors import ConfigError
from lffs.library.records import CleanupPolicy
from lffs.located_yaml import dotted, read_yaml
from lffs.model import TEMPORARY_TYPES, DirectoryType, FileType, JobType, StatusNames
from lffs.units import MAX_RETENTION_HOURS, MinFree, parse_min_free

# ---------------------------------------------------------------------------------------------------
# What can be set
# ---------------------------------------------------------------------------------------------------


def _check_root(pattern: str) -> str:
    components = pattern.split("/")
    if pattern.startswith("/"):
        raise ValueError(f"{pattern!r} is absolute; write it relative to the mountpoint, such as */*")
    if "" in components:
        raise ValueError(f"{pattern!r} has an empty component")
    if "**" in pattern:
        raise ValueError(f"{pattern!r}: ** is not allowed, a job's depth is fixed; write * for each level")
    if "." in components or ".." in components:
        raise ValueError(f"{pattern!r} contains . or ..")
    if components[0] == ".lffs":
        raise ValueError(f"{pattern!r}: .lffs is lffs's own")
    return _check_text(pattern)


def _check_directory(path: str) -> str:
    path = path.removesuffix("/")
    components = path.split("/")
    if path.startswith("/"):
        raise ValueError(f"{path!r} is absolute; write it relative to the job's directory")
    if {"", ".", ".."} & set(components):
        raise ValueError(f"{path!r} has an empty component, . or ..")
    if any(len(component.encode()) > 255 for component in components):
        raise ValueError("a name is longer than 255 bytes")
    return _check_text(path)


def _check_text(text: str) -> str:
    if "\0" in text:
        raise ValueError("a NUL byte is in no path")
    return text


def _check_match(pattern: str) -> str:
    pattern_regex(pattern)
    return _check_text(pattern)


def _check_temporary(types: frozenset[FileType]) -> frozenset[FileType]:
    for file_type in FileType:
        if file_type in types and file_type not in TEMPORARY_TYPES:
            raise ValueError(
                f"{file_type} is never cleaned automatically; allowed: {_listed(_in_order(TEMPORARY_TYPES))}"
            )
    return types


def _read_min_free(value: object) -> object:
    if value is None or isinstance(value, MinFree):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("must be a size such as 10GiB, a percentage such as 5%, or null")
    return parse_min_free(str(value))


_MAX_BACKUPS = 1000
_Hours = Annotated[float, Field(ge=0, le=MAX_RETENTION_HOURS, allow_inf_nan=False)]
_TemporaryTypes = Annotated[frozenset[FileType], AfterValidator(_check_temporary)]


class _Section(BaseModel):
    """Frozen, without unknown keys, and without guesses: neither "yes" nor 1 is true."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class CleanupSettings(_Section):
    """When temporary files are hidden and deleted."""

    enabled: bool = True
    retention_hours: _Hours = 24
    failed_retention_hours: _Hours | None = None  # None: until someone cleans them
    # Only temporary types: a slip here must never cost a final output, and ``other`` is what nobody
    # has named.  Manual cleanup is not bound by it.
    file_types_to_clean: _TemporaryTypes = TEMPORARY_TYPES
    keep_unlinked: _TemporaryTypes = frozenset()
    preserve_on_failure: bool = True
    debug_mode_disables: bool = True
    min_free: Annotated[MinFree | None, PlainValidator(_read_min_free)] = None
    min_free_overrides_retention: bool = False
    # A cleanup that would take more of a job's bytes than this stops and says so; None: no limit.
    max_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None

    @property
    def policy(self) -> CleanupPolicy:
        """What the manifest of a job says of these settings."""
        return CleanupPolicy(
            enabled=self.enabled,
            retention_hours=self.retention_hours,
            file_types_to_clean=self.file_types_to_clean,
            preserve_on_failure=self.preserve_on_failure,
            debug_mode_disables=self.debug_mode_disables,
        )


class JobSettings(_Section):
    """Which directories are jobs, and how they are listed."""

    roots: tuple[Annotated[str, AfterValidator(_check_root)], ...] = ("*",)
    default_type: JobType = JobType.SHORT_FORM
    status_names: StatusNames = StatusNames.SUFFIX


class DirectorySettings(_Section):
    """When directories are made in the backing store, and which exist without mkdir."""

    lazy: bool = True
    types: Mapping[JobType, Mapping[DirectoryType, Annotated[str, AfterValidator(_check_directory)]]] = {}


class ManifestSettings(_Section):
    """How the manifest store is backed up."""

    backups: Annotated[int, Field(ge=0, le=_MAX_BACKUPS)] = 5
    backup_interval_hours: Annotated[float, Field(gt=0, le=MAX_RETENTION_HOURS, allow_inf_nan=False)] = 1


class Rule(_Section):
    """One line of ``classify``: files whose path matches are of this type."""

    match: Annotated[str, AfterValidator(_check_match)]  # gitignore's syntax without "!"
    type: FileType
    job_types: frozenset[JobType] | None = None  # None: in every job


def _default_rules() -> Iterator[Rule]:
    yield Rule(match="*.meta.json", type=FileType.METADATA)
    yield Rule(match="*.log", type=FileType.LOG)
    yield Rule(match="**/temp_slide*", type=FileType.TEMP_SLIDE)
    yield Rule(match="**/temp_*.wav", type=FileType.TEMP_AUDIO)
    yield Rule(match="**/temp_*.mp3", type=FileType.TEMP_AUDIO)
    yield Rule(match="**/temp_*.srt", type=FileType.TEMP_SUBTITLE)
    yield Rule(match="**/temp_expr*", type=FileType.TEMP_EXPRESSION)
    yield Rule(match="**/temp_*", type=FileType.TEMP_VIDEO)
    # What one type of job makes for its own use is what another is there to make.
    slides_only = frozenset({JobType.SLIDES_ONLY})
    expression_only = frozenset({JobType.EXPRESSION_ONLY})
    yield Rule(match="**/slides/*", type=FileType.FINAL_SLIDE, job_types=slides_only)
    yield Rule(match="**/slides/*", type=FileType.TEMP_SLIDE)
    yield Rule(match="**/subtitles/*.srt", type=FileType.TEMP_SUBTITLE)
    yield Rule(match="**/expressions/*.mkv", type=FileType.FINAL_VIDEO, job_types=expression_only)
    yield Rule(
        match="**/expressions/*.mkv", type=FileType.TEMP_EXPRESSION, job_types=frozenset({JobType.SHORT_FORM})
    )
    for directory in ("shorts", "long_form"):
        for extension in ("mkv", "mp4"):
            yield Rule(match=f"**/{directory}/*.{extension}", type=FileType.FINAL_VIDEO)
    yield Rule(match="**/metadata/**", type=FileType.METADATA)
    # The job's TMPDIR under ``lffs run``.
    yield Rule(match="temp/**", type=FileType.TEMP_VIDEO)


class Settings(_Section):
    """The whole configuration; ``Settings()`` is the built-in default, and config/default.yaml."""

    debug: bool = False
    cleanup: CleanupSettings = CleanupSettings()
    jobs: JobSettings = JobSettings()
    directories: DirectorySettings = DirectorySettings()
    manifest: ManifestSettings = ManifestSettings()
    classify: tuple[Rule, ...] = tuple(_default_rules())

    @property
    def automatic_cleanup(self) -> bool:
        """Whether anything may be hidden or deleted without being asked (requirements 4.1, 4.4)."""
        return self.cleanup.enabled and not (self.debug and self.cleanup.debug_mode_disables)


# ---------------------------------------------------------------------------------------------------
# Where it comes from
# ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and for each dotted key where its value came from."""

    settings: Settings
    sources: Mapping[str, str]  # "default", "FILE:LINE", "environment LFFS_DEBUG", "command line"


class ShownSetting(NamedTuple):
    """A line of ``lffs config show``; *value* is plain data, fit for JSON and YAML."""

    key: str
    value: object
    source: str


def load_settings(
    file: Path | None,
    environ: Mapping[str, str] = MappingProxyType({}),
    overrides: Mapping[str, object] = MappingProxyType({}),
) -> LoadedSettings:
    """Return the built-in defaults, changed by *file*, *environ* and *overrides*, the last one winning.

    *environ* is a whole environment: LFFS_DEBUG, and LFFS_SECTION__KEY with a value in YAML, count;
    empty ones are taken as unset.  *overrides* maps dotted keys to values; text is read as YAML there
    too.  Raises ConfigError with every problem found: file and line, or variable, the key, and what is
    allowed.
    """
    problems: list[str] = []
    layers = (
        _from_file(file, problems) if file is not None else {},
        _from_environment(environ, problems),
        _from_overrides(overrides, problems),
    )
    for layer in layers:  # each by itself: a mistake is one even where a later layer overrides it
        _validate(layer, problems)
    given = {key: value for layer in layers for key, value in layer.items()}
    settings = _validate(given, []) if not problems else None
    if settings is None:
        raise ConfigError("\n".join(problems))
    sources = {key: given[key].where(()) if key in given else "default" for key in _KEYS}
    return LoadedSettings(settings, MappingProxyType(sources))


def show_settings(loaded: LoadedSettings) -> list[ShownSetting]:
    """Return every key in the order of the documentation, with its value as plain data."""
    return [
        ShownSetting(key, _plain(_value_at(loaded.settings, key)), source)
        for key, source in loaded.sources.items()
    ]


def settings_to_values(settings: Settings) -> dict[str, object]:
    """Return every key with its value as plain data, such as `load_settings` takes as overrides."""
    return {key: _plain(_value_at(settings, key)) for key in _KEYS}


def settings_to_json(settings: Settings) -> str:
    """Return the settings as text that `settings_from_json` reads."""
    return json.dumps(settings_to_values(settings))


def settings_from_json(text: str) -> Settings:
    """Return the settings that were written by `settings_to_json`.  Raises ConfigError."""
    return load_settings(None, {}, json.loads(text)).settings


def find_profile(name: str) -> Path | None:
    """Return the YAML file of a profile that comes with lffs (``default``, ``langflix``), else None."""
    if not re.fullmatch("[a-z]+", name):
        return None
    try:
        shipped = importlib.resources.files("lffs.profiles") / f"{name}.yaml"
    except ModuleNotFoundError:  # the source tree, not installed
        shipped = Path(__file__).parent.parent / "config" / f"{name}.yaml"
    return shipped if isinstance(shipped, Path) and shipped.is_file() else None


@dataclass(frozen=True, slots=True)
class _Given:
    """The value that a layer gives to a key, and where its parts stand."""

    value: object
    origin: str
    lines: Mapping[tuple[str | int, ...], int] | None = None  # of a file: path in *value* -> line

    def where(self, path: tuple[str | int, ...]) -> str:
        """The place of the part at *path*, or of the nearest one around it that is known."""
        if self.lines is None:
            return self.origin
        while path not in self.lines:
            path = path[:-1]
        return f"{self.origin}:{self.lines[path]}"


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


_DEFAULTS = Settings()
_KEYS = tuple(_keys(Settings))  # dotted: debug, cleanup.enabled, ...
_SECTIONS = tuple(dict.fromkeys(key.partition(".")[0] for key in _KEYS if "." in key))


def _value_at(settings: Settings, key: str) -> object:
    value: object = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        fields = {name: _plain(getattr(value, name)) for name in type(value).model_fields}
        return {name: field for name, field in fields.items() if field is not None}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return [_plain(item) for item in _in_order(value)]
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, (enum.Enum, MinFree, Path)):
        return str(value)
    return value


def _in_order(items: Iterable[object]) -> list[object]:
    """Sets in the order in which the enums are written, so that output does not change by itself."""
    words = [*FileType, *JobType]
    return sorted(items, key=lambda item: (words.index(item) if item in words else -1, str(item)))


def _listed(words: Iterable[object]) -> str:
    return ", ".join(str(word) for word in words)


def _did_you_mean(word: str, allowed: Iterable[object]) -> str:
    close = difflib.get_close_matches(word, [str(candidate) for candidate in allowed], n=1)
    return f"; did you mean {close[0]}?" if close else ""


# ---------------------------------------------------------------------------------------------------
# The layers
# ---------------------------------------------------------------------------------------------------


def _from_file(file: Path, problems: list[str]) -> dict[str, _Given]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        problems.append(f"{file}: cannot be read: {exc.strerror or exc}")
        return {}
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        problems.append(f"{file}:{line}: not UTF-8 (byte {exc.object[exc.start]:#04x})")
        return {}
    document = read_yaml(text)
    problems += [f"{file}:{line}: {problem}" for line, problem in document.problems]
    if document.problems:
        return {}  # what was read in spite of them would only give problems that follow from these
    if document.value is None:  # empty, or nothing but comments
        return {}
    if not isinstance(document.value, dict):
        problems.append(f"{file}:{document.lines[()]}: must be a mapping of keys ({_listed(_TOP)}) to values")
        return {}
    given = {}
    for path, value in _flatten(document.value):
        key = ".".join(path)
        where = f"{file}:{document.lines[path]}"
        if key in _KEYS and path == tuple(key.split(".")):  # "cleanup.enabled: true" at the top is none
            below = {p[len(path) :]: line for p, line in document.lines.items() if p[: len(path)] == path}
            given[key] = _Given(value, str(file), below)
        elif key in _SECTIONS:
            problems.append(f"{where}: {key}: must be a mapping of keys ({_listed(_keys_in(key))}) to values")
        else:
            problems.append(f"{where}: {_unknown_key(path)}")
    return given


_TOP = tuple(Settings.model_fields)


def _keys_in(section: str) -> list[str]:
    return [key.removeprefix(f"{section}.") for key in _KEYS if key.startswith(f"{section}.")]


def _flatten(tree: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], object]]:
    """The keys of *tree* with their values; sections are gone into, an empty one has none."""
    for name, value in tree.items():
        if name not in _SECTIONS or not (value is None or isinstance(value, dict)):
            yield (name,), value
        else:
            yield from (((name, key), item) for key, item in (value or {}).items())


def _unknown_key(path: tuple[str, ...]) -> str:
    key = ".".join(path)
    allowed = _keys_in(path[0]) if path[:-1] else list(_TOP)
    guess = _did_you_mean(path[-1], allowed)
    if not guess:  # the right key in the wrong section, or without one
        homes = [known for known in _KEYS if known.split(".")[-1] == path[-1]]
        guess = f"; did you mean {homes[0]}?" if homes else ""
    return f"{key}: unknown key{guess} (allowed: {_listed(allowed)})"


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, _Given]:
    variables = {_variable(key): key for key in _KEYS}
    given: dict[str, _Given] = {}
    for variable, text in environ.items():
        if variable in variables and text:
            key = variables[variable]
            _add_text(given, key, text, f"environment {variable}", problems)
            # A flag in an environment is 1 or 0, as in LFFS_DEBUG=1; in YAML that is a number.
            if key in given and isinstance(_value_at(_DEFAULTS, key), bool) and text in ("0", "1"):
                given[key] = _Given(text == "1", given[key].origin)
        elif variable not in variables and variable.startswith(_VARIABLE_PREFIXES):
            guess = _did_you_mean(variable, variables)
            problems.append(f"environment {variable}: unknown variable{guess} (write LFFS_SECTION__KEY)")
    return given


def _variable(key: str) -> str:
    return "LFFS_" + key.replace(".", "__").upper()


# Other LFFS_ variables may be anybody's; one that begins like a section is a setting with a slip in it.
_VARIABLE_PREFIXES = tuple(f"{_variable(name)}_" for name in (*_SECTIONS, "classify"))


def _from_overrides(overrides: Mapping[str, object], problems: list[str]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for key, value in overrides.items():
        if key not in _KEYS:
            problems.append(f"command line: {key}: unknown key{_did_you_mean(key, _KEYS)}")
        elif isinstance(value, str):
            _add_text(given, key, value, "command line", problems)
        else:
            given[key] = _Given(_plain(value), "command line")
    return given


def _add_text(given: dict[str, _Given], key: str, text: str, origin: str, problems: list[str]) -> None:
    document = read_yaml(text)
    problems += [f"{origin}: {key}: {problem}" for _, problem in document.problems]
    if not document.problems:
        given[key] = _Given(document.value, origin)


# ---------------------------------------------------------------------------------------------------
# Checking
# ---------------------------------------------------------------------------------------------------


def _validate(given: Mapping[str, _Given], problems: list[str]) -> Settings | None:
    tree: dict[str, object] = {}
    for key, item in given.items():
        section, _, name = key.rpartition(".")
        target = tree.setdefault(section, {}) if section else tree
        assert isinstance(target, dict)
        target[name] = item.value
    try:
        # As JSON, since strict has a meaning of its own there: a list is a tuple and a word an enum's
        # value, which Python's types would refuse; "yes" and 1 are no bools either way.
        return Settings.model_validate_json(json.dumps(tree))
    except pydantic.ValidationError as exc:
        for error in exc.errors(include_url=False):
            path = tuple(part for part in error["loc"] if part != "[key]")
            if not path:  # no JSON: read_yaml lets no such text pass, overrides may hold one
                problems.append(f"command line: {error['msg']}")
                continue
            length = 2 if path[0] in _SECTIONS else 1
            item = given[".".join(str(part) for part in path[:length])]
            problems.append(f"{item.where(path[length:])}: {dotted(path)}: {_complaint(error)}")
        return None


def _complaint(error: ErrorDetails) -> str:
    value = error["input"]
    shown = repr(value) if not isinstance(value, str) or len(value) <= 60 else f"{value[:60]!r}..."
    match error["type"]:
        case "value_error":
            return str(error["ctx"]["error"])
        case "enum":
            words = _words_at(error["loc"])
            return f"{shown} is unknown{_did_you_mean(str(value), words)} (allowed: {_listed(words)})"
        case "extra_forbidden":
            allowed = tuple(Rule.model_fields)
            guess = _did_you_mean(str(error["loc"][-1]), allowed)
            return f"unknown key{guess} (allowed: {_listed(allowed)})"
        case "missing":
            return "is missing; a rule needs match and type"
        case "bool_type":
            return f"must be true or false, not {shown}"
        case "int_type" | "int_from_float" | "greater_than_equal" | "less_than_equal" if (
            error["loc"][-1] == "backups"
        ):
            return f"must be a whole number of backups from 0 to {_MAX_BACKUPS}, not {shown}"
        case "greater_than":
            return f"must be a number of hours above 0, not {shown}"
        case "float_type" | "finite_number" | "greater_than_equal" | "less_than_equal":
            return f"must be a number of hours from 0 to {MAX_RETENTION_HOURS} (100 years), not {shown}"
        case "string_type" | "string_unicode":
            return f"must be text, not {shown}; put it in quotes"
        case "tuple_type" | "frozen_set_type":
            return f"must be a list, not {shown}"
        case "mapping_type" | "dict_type" | "model_type":
            return f"must be a mapping of keys to values, not {shown}"
        case _:
            return f"{error['msg']}, not {shown}"


def _words_at(path: tuple[str | int, ...]) -> list[enum.StrEnum]:
    """The values that may stand at *path*, where pydantic found none of an enum."""
    if path[:2] == ("directories", "types"):
        return [*JobType] if len(path) == 4 else [*DirectoryType]  # .., job type, "[key]"
    if "job_types" in path or path[-1] == "default_type":
        return [*JobType]
    if path[-1] == "status_names":
        return [*StatusNames]
    return [*FileType] if path[0] == "classify" else [word for word in FileType if word.is_temporary]
