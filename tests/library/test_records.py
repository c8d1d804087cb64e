"""What the library hands out keeps its promises: checks, JSON and back, whole files or none."""

import contextlib
import json
import math
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffs.errors import InvalidJobIdError, NewerStoreError
from lffs.library.records import (
    CleanupPolicy,
    CleanupResult,
    DirectoryStructure,
    JobContext,
    JobManifest,
    ManifestEntry,
)
from lffs.model import TEMPORARY_TYPES, DirectoryType, EntryKind, EntryState, FileType, JobStatus, JobType

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def manifest(**changes: Any) -> JobManifest:
    fields: dict[str, Any] = {"job_id": "Suits/S01E01", "created_at": NOON, "job_type": JobType.SHORT_FORM}
    return JobManifest(**fields | changes)


def interface_json() -> dict[str, Any]:
    """The example of the interface's description, made consistent."""
    return {
        "version": 1,
        "job_id": "Suits/S01E01",
        "job_type": "short_form",
        "status": "running",
        "created_at": "2026-01-31T12:00:00+00:00",
        "updated_at": "2026-01-31T12:00:05+00:00",
        "files": {"temp_slide": ["ko/slides/a.png"], "final_video": ["ko/shorts/x.mkv"]},
        "directories": {"slides": ["ko/slides"], "shorts": ["ko/shorts"]},
        "cleanup_policy": {
            "enabled": True,
            "retention_hours": 24,
            "file_types_to_clean": ["temp_slide"],
            "preserve_on_failure": True,
            "debug_mode_disables": True,
        },
        "entries": {
            "ko/shorts/x.mkv": {
                "type": "final_video",
                "size": 1,
                "created_at": "2026-01-31T12:00:02+00:00",
                "state": "present",
                "kind": "file",
            },
            "ko/slides/a.png": {
                "type": "temp_slide",
                "size": 4096,
                "created_at": "2026-01-31T12:00:01+00:00",
                "state": "present",
                "kind": "file",
            },
        },
    }


# --- the manifest


def test_a_manifest_reads_and_writes_the_json_of_the_interface() -> None:
    read = JobManifest.from_dict(interface_json())
    assert read.files == {
        FileType.TEMP_SLIDE: [Path("ko/slides/a.png")],
        FileType.FINAL_VIDEO: [Path("ko/shorts/x.mkv")],
    }
    assert read.status is JobStatus.RUNNING
    assert read.entries[Path("ko/slides/a.png")].size == 4096
    assert read.to_dict() == interface_json()


def test_langflix_own_manifests_are_read() -> None:
    """Without version and entries, and with times without a zone."""
    read = JobManifest.from_dict(
        {"job_id": "a", "created_at": "2026-01-31T12:00:00", "job_type": "long_form", "cleanup_policy": None}
    )
    assert (read.created_at, read.status, read.cleanup_policy) == (NOON, JobStatus.CREATED, None)


def test_a_manifest_of_a_newer_version_is_refused_as_such(tmp_path: Path) -> None:
    newer = interface_json() | {"version": 2}
    with pytest.raises(NewerStoreError, match="version 2"):
        JobManifest.from_dict(newer)
    file = tmp_path / "m.json"
    file.write_text(json.dumps(newer))
    with pytest.raises(NewerStoreError, match=r"m\.json"):
        JobManifest.load_from_file(file)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", "1"),
        ("version", True),
        ("version", 0),
        ("job_id", ""),
        ("job_id", "../x"),
        ("job_id", "/x"),
        ("job_id", "a//b"),
        ("job_id", 5),
        ("job_type", "short"),
        ("status", "done"),
        ("created_at", "yesterday"),
        ("created_at", 5),
        ("updated_at", "yesterday"),
        ("files", []),
        ("files", {"temp": []}),
        ("files", {"log": "a"}),
        ("files", {"log": ["/etc/passwd"]}),
        ("files", {"log": ["../x"]}),
        ("files", {"log": [5]}),
        ("files", {"log": [""]}),
        ("directories", {"sub": []}),
        ("directories", {"base": ["a/../../b"]}),
        ("entries", {"../a": {}}),
        ("entries", {"a": 5}),
        ("entries", {"a": {"type": "log", "size": -1, "created_at": "2026-01-31"}}),
        ("entries", {"a": {"type": "log"}}),
        ("cleanup_policy", 5),
        ("cleanup_policy", {"retention_hours": -1}),
        ("cleanup_policy", {"retention_hours": "24"}),
        ("cleanup_policy", {"enabled": "yes"}),
        ("cleanup_policy", {"file_types_to_clean": ["slides"]}),
    ],
)
def test_a_manifest_that_can_not_be_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValueError):
        JobManifest.from_dict(interface_json() | {key: value})


@pytest.mark.parametrize("key", ["job_id", "created_at", "job_type"])
def test_a_manifest_without_what_it_needs_is_refused_by_the_key(key: str) -> None:
    incomplete = interface_json()
    del incomplete[key]
    with pytest.raises(ValueError, match=f"{key}: is missing"):
        JobManifest.from_dict(incomplete)


def test_files_and_entries_that_contradict_each_other_are_refused() -> None:
    contradictory = interface_json()
    contradictory["entries"]["ko/slides/a.png"]["state"] = "hidden"
    with pytest.raises(ValueError, match="files and entries differ"):
        JobManifest.from_dict(contradictory)


def test_a_file_recorded_as_two_types_is_refused() -> None:
    twice = interface_json() | {"files": {"log": ["a"], "other": ["a"]}, "entries": {}}
    with pytest.raises(ValueError, match="twice"):
        JobManifest.from_dict(twice)


def test_a_file_has_one_type_the_last_one() -> None:
    some = manifest()
    some.add_file(Path("a"), FileType.TEMP_VIDEO)
    some.add_file(Path("a"), FileType.FINAL_VIDEO)
    assert some.get_all_files() == [Path("a")]
    assert some.get_files_by_type(FileType.FINAL_VIDEO) == [Path("a")]
    assert some.get_files_by_type(FileType.TEMP_VIDEO) == []


def test_files_and_directories_come_and_go() -> None:
    some = manifest()
    some.add_file(Path("s/a"), FileType.LOG)
    some.add_directory(Path("s"), DirectoryType.SLIDES)
    assert some.get_all_directories() == some.get_directories_by_type(DirectoryType.SLIDES) == [Path("s")]
    assert some.remove_file(Path("s/a"))
    assert not some.remove_file(Path("s/a"))
    assert some.remove_directory(Path("s"))
    assert not some.remove_directory(Path("s"))
    assert some == manifest()


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", ".", "a\0b"])
def test_a_path_outside_of_the_job_is_not_recorded(path: str) -> None:
    with pytest.raises(ValueError, match="below the job's directory"):
        manifest().add_file(Path(path), FileType.LOG)
    with pytest.raises(ValueError, match="below the job's directory"):
        manifest().add_directory(Path(path), DirectoryType.BASE)


def test_cleanable_is_what_the_policy_names() -> None:
    some = manifest()
    some.add_file(Path("a.wav"), FileType.TEMP_AUDIO)
    some.add_file(Path("b.mkv"), FileType.FINAL_VIDEO)
    assert some.get_cleanable_files() == []
    some.cleanup_policy = CleanupPolicy()
    assert some.get_cleanable_files() == [Path("a.wav")]
    some.cleanup_policy = CleanupPolicy(file_types_to_clean=frozenset({FileType.TEMP_SLIDE}))
    assert some.get_cleanable_files() == []
    some.cleanup_policy = CleanupPolicy(enabled=False)
    assert some.get_cleanable_files() == []


names = st.binary(min_size=1, max_size=12).map(os.fsdecode)
paths = (
    st.lists(
        names.filter(lambda name: not {"/", "\0"} & set(name) and name not in (".", "..")),
        min_size=1,
        max_size=3,
    )
    .map("/".join)
    .map(Path)
)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
policies = st.builds(
    CleanupPolicy,
    enabled=st.booleans(),
    retention_hours=st.integers(0, 9000) | st.floats(0, 9000),
    file_types_to_clean=st.frozensets(st.sampled_from(FileType)),
    preserve_on_failure=st.booleans(),
    debug_mode_disables=st.booleans(),
)
entries = st.builds(
    ManifestEntry,
    type=st.sampled_from(FileType),
    size=st.integers(0, 2**63 - 1),
    created_at=moments,
    state=st.sampled_from(EntryState),
    kind=st.sampled_from(EntryKind),
)


@st.composite
def manifests(draw: st.DrawFn) -> JobManifest:
    some = manifest(
        created_at=draw(moments),
        updated_at=draw(moments),
        job_type=draw(st.sampled_from(JobType)),
        status=draw(st.sampled_from(JobStatus)),
        cleanup_policy=draw(st.none() | policies),
        entries=draw(st.dictionaries(paths, entries, max_size=4)),
    )
    for path in sorted(some.entries):  # to_dict sorts
        if some.entries[path].state is EntryState.PRESENT:
            some.add_file(path, some.entries[path].type)
    for path in sorted(draw(st.sets(paths, max_size=3))):
        some.add_directory(path, draw(st.sampled_from(DirectoryType)))
    return some


@given(manifests())
def test_a_manifest_survives_its_json_whatever_the_names(some: JobManifest) -> None:
    text = json.dumps(some.to_dict())
    assert text.isascii()
    read = JobManifest.from_dict(json.loads(text))
    assert read.to_dict() == some.to_dict()
    assert (read.entries, read.created_at, read.cleanup_policy) == (
        some.entries,
        some.created_at,
        some.cleanup_policy,
    )
    assert {os.fsencode(path) for path in read.get_all_files()} == {
        os.fsencode(p) for p in some.get_all_files()
    }


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(interface_json())), anything))
def test_any_json_is_a_manifest_or_refused_with_a_value_error(changes: dict[str, object]) -> None:
    with contextlib.suppress(ValueError, NewerStoreError):
        JobManifest.from_dict(interface_json() | changes).validate()


# --- its file


def test_a_saved_manifest_is_loaded_again_and_its_file_is_ascii(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    some = manifest()
    some.add_file(Path(os.fsdecode(b"caf\xe9/\xed\x95\x9c.wav")), FileType.TEMP_AUDIO)
    some.save_to_file(file)
    assert file.read_bytes().isascii()
    assert JobManifest.load_from_file(file).files == some.files


def test_saving_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / f"{'m' * 250}.json"  # 255 bytes: no room for a suffix
    manifest().save_to_file(file)
    manifest(status=JobStatus.FAILED).save_to_file(file)
    assert JobManifest.load_from_file(file).status is JobStatus.FAILED
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "m.json"
    manifest().save_to_file(file)
    before = file.read_bytes()

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        manifest(status=JobStatus.FAILED).save_to_file(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff\xfe", b"{}", b"[" * 100_000, b"NaN"])
def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "m.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.json: no valid manifest"):
        JobManifest.load_from_file(file)


# --- the others


def test_a_policy_cleans_the_types_that_it_names_if_enabled() -> None:
    policy = CleanupPolicy()
    assert policy.file_types_to_clean == TEMPORARY_TYPES
    assert policy.should_clean_file_type(FileType.TEMP_AUDIO)
    assert not policy.should_clean_file_type(FileType.FINAL_VIDEO)
    assert not CleanupPolicy(enabled=False).should_clean_file_type(FileType.TEMP_AUDIO)


def test_debug_mode_disables_cleanup_unless_the_policy_says_no() -> None:
    assert CleanupPolicy().is_cleanup_disabled_for_debug(debug=True)
    assert not CleanupPolicy().is_cleanup_disabled_for_debug(debug=False)
    assert not CleanupPolicy(debug_mode_disables=False).is_cleanup_disabled_for_debug(debug=True)


@pytest.mark.parametrize("hours", [-1, -0.1, math.nan, math.inf])
def test_a_retention_that_can_not_be_is_refused(hours: float) -> None:
    with pytest.raises(ValueError, match="retention_hours"):
        CleanupPolicy(retention_hours=hours).validate()


def test_a_policy_names_file_types_and_nothing_else() -> None:
    with pytest.raises(ValueError, match="'slides' is no FileType"):
        CleanupPolicy(file_types_to_clean=frozenset({"slides"})).validate()  # type: ignore[arg-type]


def test_directories_are_found_by_type() -> None:
    structure = DirectoryStructure(Path("/o"), slides_dir=Path("/o/slides"), temp_dir=Path("/o/temp"))
    assert structure.get_all_directories() == [Path("/o"), Path("/o/temp"), Path("/o/slides")]
    assert structure.get_directory_by_type(DirectoryType.BASE) == Path("/o")
    assert structure.get_directory_by_type(DirectoryType.SLIDES) == Path("/o/slides")
    assert structure.get_directory_by_type(DirectoryType.SHORTS) is None
    assert structure.get_directory_by_type(DirectoryType.SUBTITLES) is None
    structure.validate()


@pytest.mark.parametrize("path", ["/o", "/other", "/o/../x", "slides"])
def test_a_directory_outside_of_its_base_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is not below /o"):
        DirectoryStructure(Path("/o"), slides_dir=Path(path)).validate()


def test_two_types_do_not_share_a_directory() -> None:
    with pytest.raises(ValueError, match="the same"):
        DirectoryStructure(Path("/o"), slides_dir=Path("/o/a"), temp_dir=Path("/o/a")).validate()


def test_results_add_up_without_changing_the_parts() -> None:
    first = CleanupResult(files_removed=[Path("a")], directories_removed=[Path("d")], total_size_freed=3)
    second = CleanupResult(files_failed=[Path("b")], total_size_freed=4)
    second.add_error("b: Permission denied")
    merged = first.merge(second)
    assert merged == CleanupResult(
        success=False,
        files_removed=[Path("a")],
        files_failed=[Path("b")],
        directories_removed=[Path("d")],
        errors=["b: Permission denied"],
        total_size_freed=7,
    )
    assert (merged.total_files_processed, merged.total_directories_processed) == (2, 1)
    assert (first.has_failures, merged.has_failures) == (False, True)
    merged.files_removed.append(Path("c"))
    assert first.files_removed == [Path("a")]


@pytest.fixture
def context() -> JobContext:
    return JobContext(
        job_id="Suits/S01E01",
        job_type=JobType.SHORT_FORM,
        start_time=NOON + timedelta(seconds=1),
        output_dir=Path("/o"),
        manifest_path=Path("/o/.lffs/manifests/Suits/S01E01.json"),
        directories=DirectoryStructure(Path("/o/Suits/S01E01")),
    )


def test_a_context_notes_each_file_once(context: JobContext) -> None:
    for add, remove, noted in (
        (context.add_temp_file, context.remove_temp_file, context.temp_files),
        (context.add_final_output, context.remove_final_output, context.final_outputs),
    ):
        add(Path("a"))
        add(Path("a"))
        assert noted == [Path("a")]
        remove(Path("a"))
        remove(Path("a"))
        assert noted == []


def test_a_file_is_temporary_or_final_not_both(context: JobContext) -> None:
    context.validate()
    context.add_temp_file(Path("a"))
    context.add_final_output(Path("a"))
    with pytest.raises(ValueError, match="a is both"):
        context.validate()


@pytest.mark.parametrize(
    "change",
    [
        lambda context: setattr(context, "job_id", ""),
        lambda context: setattr(context, "job_id", "a/../b"),
        lambda context: setattr(context, "job_id", "a\0b"),
    ],
)
def test_an_id_that_can_not_be_is_refused(context: JobContext, change: Callable[[JobContext], None]) -> None:
    change(context)
    with pytest.raises(InvalidJobIdError):
        context.validate()
