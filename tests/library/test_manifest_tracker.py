"""ManifestTracker: what a program says of its files is what the manifest says; the disk is not touched."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lffs import (
    DirectoryType,
    EntryState,
    FileType,
    InvalidJobIdError,
    InvalidPathError,
    JobManager,
    JobManifest,
    JobType,
    ManifestTracker,
    UnknownJobError,
    open_store,
)
from tests.harness import Mounted
from tests.places import Place, unmounted
from tests.stores import tree


@pytest.fixture
def job(place: Place, job_id: str) -> Path:
    """A started job's directory."""
    return JobManager(place.path).start_job(job_id, JobType.SHORT_FORM).output_dir


@pytest.fixture
def tracker(place: Place) -> ManifestTracker:
    return ManifestTracker(place.path)


def write(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(os.fsencode(name))


def origin_of(place: Place, job_id: str, path: str) -> str:
    exported = json.loads(ManifestTracker(place.path).create_manifest(job_id).read_text())
    origin: str = exported["entries"][path]["origin"]
    return origin


# -- files ----------------------------------------------------------------------------------------


def test_a_file_is_recorded_with_the_type_that_it_is_given(
    place: Place, job: Path, job_id: str, tracker: ManifestTracker
) -> None:
    """No rule would call it that."""
    write(job, "ko/a.bin")
    tracker.add_file(job_id, "ko/a.bin", FileType.TEMP_AUDIO)
    found = tracker.get_manifest(job_id)
    assert found.files == {FileType.TEMP_AUDIO: [Path("ko/a.bin")]}
    assert found.directories == {DirectoryType.BASE: [Path("ko")]}
    entry = found.entries[Path("ko/a.bin")]
    assert (entry.type, entry.size, entry.state) == (FileType.TEMP_AUDIO, 8, EntryState.PRESENT)
    assert origin_of(place, job_id, "ko/a.bin") == "recorded"


def test_a_path_may_be_relative_to_the_job_or_absolute(
    place: Place, job: Path, job_id: str, tracker: ManifestTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b", "c", "d/e"]
    write(job, *names)
    monkeypatch.chdir(job / "d")  # has no say
    tracker.add_file(job_id, "a", "metadata")
    tracker.add_file(job_id, job / "b", "metadata")
    tracker.add_file(job_id, place.backing / job_id / "c", "metadata")
    tracker.add_file(job_id, "./d//e", "metadata")
    found = tracker.get_manifest(job_id).get_files_by_type(FileType.METADATA)
    assert found == [Path(name) for name in names]


def test_the_listed_name_of_the_job_leads_to_the_file_too(
    place: Place, job: Path, job_id: str, tracker: ManifestTracker
) -> None:
    write(job, "a")
    tracker.add_file(f"{job_id}_processing", place.path / f"{job_id}_processing" / "a", "log")
    assert tracker.get_manifest(job_id).get_all_files() == [Path("a")]


def test_links_on_the_way_are_the_programs(place: Place, job: Path, job_id: str, tmp_path: Path) -> None:
    """A way around through a link in the store's own path is followed, one in the job is not."""
    write(job, "d/a")
    os.symlink(place.path, tmp_path / "around")
    tracker = ManifestTracker(tmp_path / "around")
    tracker.add_file(job_id, tmp_path / "around" / job_id / "d/a", "log")
    assert tracker.get_manifest(job_id).get_files_by_type(FileType.LOG) == [Path("d/a")]
    os.symlink("d", job / "link")
    with pytest.raises(FileNotFoundError):
        tracker.add_file(job_id, "link/a", "log")
    tracker.add_file(job_id, "link", "other")  # the link itself is a file of the job
    assert tracker.get_manifest(job_id).entries[Path("link")].kind == "symlink"


def test_adding_again_changes_the_type_alone(
    place: Place, job: Path, job_id: str, tracker: ManifestTracker, tmp_path: Path
) -> None:
    write(job, "a")
    tracker.add_file(job_id, "a", "temp_video")
    before = tracker.get_manifest(job_id).entries[Path("a")]
    place.advance(0.001)
    tracker.add_file(job_id, "a", "final_video")
    found = tracker.get_manifest(job_id)
    assert found.files == {FileType.FINAL_VIDEO: [Path("a")]}
    assert found.entries[Path("a")].created_at == before.created_at


def test_an_adopted_file_that_is_added_is_the_jobs_own(place: Place, job_id: str) -> None:
    write(place.backing / job_id, "temp_a.wav", "temp_b.wav")
    jobs, tracker = JobManager(place.path), ManifestTracker(place.path)
    context = jobs.start_job(job_id, "short_form")
    assert origin_of(place, job_id, "temp_a.wav") == "adopted"
    tracker.add_file(job_id, "temp_a.wav", "temp_audio")
    assert origin_of(place, job_id, "temp_a.wav") == "recorded"
    assert jobs.complete_job(job_id, True).files_removed == [context.output_dir / "temp_a.wav"]
    assert (context.output_dir / "temp_b.wav").exists()


def test_names_of_any_bytes_can_be_added(job: Path, job_id: str, tracker: ManifestTracker) -> None:
    names = ["눈치가_빠르네.mkv", "caf\udce9.mkv", "a\nb", " ", "*", "~"]
    write(job, *names)
    for name in names:
        tracker.add_file(job_id, name, "final_video")
    assert sorted(map(str, tracker.get_manifest(job_id).get_all_files())) == sorted(names)


@pytest.mark.parametrize("path", ["", ".", "..", "../x", "a/../a", "a/..", "/", "/etc/passwd", "a\0b"])
def test_a_path_that_is_none_in_the_job_is_refused(
    job: Path, job_id: str, tracker: ManifestTracker, path: str
) -> None:
    write(job, "a")
    for add in (
        lambda: tracker.add_file(job_id, path, "log"),
        lambda: tracker.add_directory(job_id, path, "temp"),
        lambda: tracker.remove_from_manifest(job_id, path),
    ):
        with pytest.raises(InvalidPathError):
            add()


def test_a_path_in_another_job_is_refused_by_its_name(
    place: Place, job: Path, job_id: str, tracker: ManifestTracker
) -> None:
    other = JobManager(place.path).start_job(f"{job_id}_other", "short_form").output_dir
    write(other, "a")
    with pytest.raises(InvalidPathError, match=f"lies in job {job_id}_other, not in {job_id}"):
        tracker.add_file(job_id, other / "a", "log")
    with pytest.raises(InvalidPathError, match="does not lie in job"):
        tracker.add_file(job_id, job, "log")
    with pytest.raises(InvalidPathError):
        tracker.add_file(job_id, f"{other}/../{job_id}/a", "log")
    tracker.add_file(other.name, "a", "log")


def test_what_does_not_exist_or_is_no_file_is_refused(
    job: Path, job_id: str, tracker: ManifestTracker
) -> None:
    write(job, "d/a")
    with pytest.raises(FileNotFoundError, match="there is no such path in job"):
        tracker.add_file(job_id, "absent", "log")
    with pytest.raises(FileNotFoundError):
        tracker.add_file(job_id, "d/a/b", "log")
    with pytest.raises(IsADirectoryError):
        tracker.add_file(job_id, "d", "log")
    with pytest.raises(FileNotFoundError):
        tracker.add_directory(job_id, "absent", "temp")
    with pytest.raises(NotADirectoryError):
        tracker.add_directory(job_id, "d/a", "temp")


def test_unknown_words_and_jobs_are_refused(job: Path, job_id: str, tracker: ManifestTracker) -> None:
    write(job, "a", "d/a")
    with pytest.raises(ValueError, match="is not a valid FileType"):
        tracker.add_file(job_id, "a", "video")
    with pytest.raises(ValueError, match="is not a valid DirectoryType"):
        tracker.add_directory(job_id, "d", "videos")
    with pytest.raises(UnknownJobError):
        tracker.add_file("never", "a", "log")
    with pytest.raises(UnknownJobError):
        tracker.get_manifest("never")
    with pytest.raises(UnknownJobError):
        tracker.create_manifest("never")
    with pytest.raises(InvalidJobIdError):
        tracker.add_file("/never", "a", "log")


# -- directories ----------------------------------------------------------------------------------


def test_a_directory_is_what_its_maker_says(job: Path, job_id: str, tracker: ManifestTracker) -> None:
    (job / "cuts").mkdir()
    (job / "slides").mkdir()
    tracker.add_directory(job_id, "cuts", DirectoryType.TEMP)
    tracker.add_directory(job_id, job / "slides", "metadata")
    found = tracker.get_manifest(job_id).directories
    assert found == {DirectoryType.TEMP: [Path("cuts")], DirectoryType.METADATA: [Path("slides")]}
    write(job, "cuts/a")  # made for real in a mount only now
    assert tracker.get_manifest(job_id).directories[DirectoryType.TEMP] == [Path("cuts")]


def test_what_a_directory_is_for_outlasts_its_vanishing(place: Place, job: Path, job_id: str) -> None:
    tracker, jobs = ManifestTracker(place.path), JobManager(place.path)
    write(job, "cuts/a")
    tracker.add_directory(job_id, "cuts", "temp")
    tracker.add_file(job_id, "cuts/a", "temp_video")
    jobs.complete_job(job_id, True)
    assert tracker.get_manifest(job_id).directories == {}
    jobs.start_job(job_id, "short_form")
    assert tracker.get_manifest(job_id).directories == {DirectoryType.TEMP: [Path("cuts")]}


# -- removing -------------------------------------------------------------------------------------


def test_a_file_that_the_program_deleted_leaves_the_manifest(tmp_path: Path) -> None:
    with unmounted(tmp_path / "store") as place:
        job = JobManager(place.path).start_job("job", "short_form").output_dir
        tracker = ManifestTracker(place.path)
        write(job, "a", "d/b", "d/e/c")
        for name in ("a", "d/b", "d/e/c"):
            tracker.add_file("job", name, "temp_video")
        (job / "a").unlink()
        assert tracker.remove_from_manifest("job", "a")
        assert not tracker.remove_from_manifest("job", "a")
        assert not tracker.remove_from_manifest("job", "absent")
        with pytest.raises(InvalidPathError, match="is a directory that is there"):
            tracker.remove_from_manifest("job", "d")
        shutil.rmtree(job / "d")
        assert tracker.remove_from_manifest("job", "d")
        found = tracker.get_manifest("job")
        assert (found.files, found.directories) == ({}, {})
        place.verify()


def test_a_file_that_left_the_manifest_is_not_cleaned(place: Place, job: Path, job_id: str) -> None:
    tracker = ManifestTracker(place.path)
    write(job, "temp_a.wav")
    tracker.add_file(job_id, "temp_a.wav", "temp_audio")
    assert tracker.remove_from_manifest(job_id, "temp_a.wav")
    assert JobManager(place.path).complete_job(job_id, True).files_removed == []
    assert (job / "temp_a.wav").read_text() == "temp_a.wav"
    listed = tracker.get_manifest(job_id).get_all_files()
    assert listed == ([Path("temp_a.wav")] if isinstance(place, Mounted) else [])


def test_the_type_of_a_removed_name_stays_with_the_files_other_names(
    place: Place, job: Path, job_id: str, tracker: ManifestTracker
) -> None:
    """It is the file's: by the rules alone the other name would be temporary."""
    write(job, "a")
    os.link(job / "a", job / "temp_b.wav")
    tracker.add_file(job_id, "a", "final_video")
    tracker.add_file(job_id, "temp_b.wav", "final_video")
    (job / "a").unlink()
    tracker.remove_from_manifest(job_id, "a")
    assert tracker.get_manifest(job_id).files == {FileType.FINAL_VIDEO: [Path("temp_b.wav")]}


# -- the manifest ---------------------------------------------------------------------------------


def shared(exported: dict[str, Any]) -> dict[str, Any]:
    """Return of an export what interface.md names, lists in one order: that much the library knows."""
    known = {"type", "size", "created_at", "state", "kind"}
    keys = {"version", "job_id", "job_type", "status", "created_at", "updated_at"}
    result = {key: exported[key] for key in keys}
    result["entries"] = {
        path: {key: value for key, value in entry.items() if key in known}
        for path, entry in exported["entries"].items()
    }
    for group in ("files", "directories"):
        result[group] = {kind: sorted(paths) for kind, paths in exported[group].items()}
    policy = exported["cleanup_policy"]
    result["cleanup_policy"] = policy | {"file_types_to_clean": sorted(policy["file_types_to_clean"])}
    return result


def test_the_export_and_the_librarys_manifest_are_one(
    place: Place, job: Path, job_id: str, tracker: ManifestTracker
) -> None:
    """manifest.export writes it, library.records reads it: each has a form of its own to say the same."""
    write(job, "slides/a.png", "shorts/x.mkv", "caf\udce9.log", "temp_gone.wav")
    tracker.add_file(job_id, "slides/a.png", "final_slide")
    tracker.add_file(job_id, "shorts/x.mkv", "final_video")
    tracker.add_file(job_id, "caf\udce9.log", "log")
    tracker.add_file(job_id, "temp_gone.wav", "temp_audio")
    JobManager(place.path).complete_job(job_id, True)  # hidden: in entries alone
    (job / "new").mkdir()
    tracker.add_directory(job_id, "new", "subtitles")
    found = tracker.get_manifest(job_id)
    path = tracker.create_manifest(job_id)
    exported = json.loads(path.read_text())
    assert found == JobManifest.from_dict(exported) == JobManifest.load_from_file(path)
    assert shared(found.to_dict()) == shared(exported)
    assert found.entries[Path("temp_gone.wav")].state is EntryState.HIDDEN


def test_the_export_lies_where_the_interface_says(
    place: Place, job: Path, job_id: str, tracker: ManifestTracker
) -> None:
    write(job, "a")
    tracker.add_file(job_id, "a", "log")
    path = tracker.create_manifest(job_id)
    assert path == place.backing / ".lffs" / "manifests" / f"{job_id}.json"
    assert json.loads(path.read_text())["files"] == {"log": ["a"]}


def test_recording_touches_no_file(tmp_path: Path) -> None:
    with unmounted(tmp_path / "store") as place:
        job = JobManager(place.path).start_job("job", "short_form").output_dir
        write(job, "a", "d/b")
        before = (tree(place.path), (job / "a").stat(), (job / "d").stat())
        tracker = ManifestTracker(place.path)
        tracker.add_file("job", "a", "temp_video")
        tracker.add_directory("job", "d", "temp")
        tracker.remove_from_manifest("job", "a")
        assert (tree(place.path), (job / "a").stat(), (job / "d").stat()) == before


@pytest.mark.mounted
def test_what_the_mount_recorded_can_be_typed_and_read_by_the_library(
    make_mount: Callable[..., Mounted],
) -> None:
    mounted = make_mount()
    tracker = ManifestTracker(mounted.path)
    (mounted.path / "job").mkdir()
    write(mounted.path / "job", "temp_a.wav", "x")
    assert tracker.get_manifest("job").files == {
        FileType.TEMP_AUDIO: [Path("temp_a.wav")],
        FileType.OTHER: [Path("x")],
    }
    tracker.add_file("job", "x", "final_slide")
    assert os.getxattr(mounted.path / "job/x", "user.lffs.file_type") == b"final_slide"
    assert mounted.stop() == 0
    with open_store(mounted.backing) as session:
        found = ManifestTracker(session).get_manifest("job")
    assert found.files[FileType.FINAL_SLIDE] == [Path("x")]


def test_errors_say_which_path(job: Path, job_id: str, tracker: ManifestTracker) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        tracker.add_file(job_id, "absent", "log")
    assert "absent" in str(caught.value)
    assert caught.value.errno == errno.ENOENT
