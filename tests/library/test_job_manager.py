"""JobManager: a job starts, ends, and is found again after a crash; on a store and through a mount."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lffs import (
    FileType,
    InvalidJobIdError,
    JobManager,
    JobStatus,
    JobType,
    ManifestTracker,
    UnknownJobError,
    open_store,
)
from lffs.errors import JobBusyError, StoreError
from tests.harness import ROOT, Mounted
from tests.places import Place, unmounted
from tests.stores import make_settings


def write(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)


def status_of(place: Place, job_id: str) -> JobStatus:
    return ManifestTracker(place.path).get_manifest(job_id).status


# -- starting -------------------------------------------------------------------------------------


def test_a_started_job_has_a_directory_a_type_and_a_manifest(place: Place, job_id: str) -> None:
    context = JobManager(place.path).start_job(job_id, JobType.LONG_FORM)
    assert (context.job_id, context.job_type) == (job_id, JobType.LONG_FORM)
    assert context.output_dir == place.path / job_id
    assert context.output_dir.is_dir()
    assert status_of(place, job_id) is JobStatus.RUNNING
    assert context.manifest_path == place.backing / ".lffs" / "manifests" / f"{job_id}.json"
    assert '"running"' in context.manifest_path.read_text()
    assert context.directories.long_form_dir == context.output_dir / "long_form"
    assert context.directories.shorts_dir is None
    context.validate()


def test_starting_again_goes_on_with_the_same_job(place: Place, job_id: str) -> None:
    jobs = JobManager(place.path)
    first = jobs.start_job(job_id, "short_form")
    write(first.output_dir, "temp_a.wav")
    ManifestTracker(place.path).add_file(job_id, "temp_a.wav", "temp_audio")
    again = jobs.start_job(job_id, "short_form")
    assert again.start_time == first.start_time
    assert again.temp_files == [first.output_dir / "temp_a.wav"]


def test_starting_again_with_another_type_is_a_job_of_that_type(place: Place, job_id: str) -> None:
    jobs, tracker = JobManager(place.path), ManifestTracker(place.path)
    context = jobs.start_job(job_id, "short_form")
    write(context.output_dir, "slides/a.png")
    tracker.add_file(job_id, "slides/a.png", "temp_slide")
    assert jobs.start_job(job_id, "slides_only").job_type is JobType.SLIDES_ONLY
    # Said by its maker: a rule of the new type does not overrule that.
    assert tracker.get_manifest(job_id).get_files_by_type(FileType.TEMP_SLIDE) == [Path("slides/a.png")]


def test_a_completed_job_that_is_started_again_has_its_temporaries_back(place: Place, job_id: str) -> None:
    jobs = JobManager(place.path)
    context = jobs.start_job(job_id, "short_form")
    write(context.output_dir, "temp_a.wav")
    ManifestTracker(place.path).add_file(job_id, "temp_a.wav", "temp_audio")
    assert jobs.complete_job(job_id, True).files_removed == [context.output_dir / "temp_a.wav"]
    assert not (context.output_dir / "temp_a.wav").exists()
    assert jobs.start_job(job_id, "short_form").temp_files == [context.output_dir / "temp_a.wav"]
    assert (context.output_dir / "temp_a.wav").read_text() == "temp_a.wav"


def test_a_job_goes_by_its_listed_name_too(place: Place, job_id: str) -> None:
    jobs = JobManager(place.path)
    jobs.start_job(job_id, "short_form")
    assert jobs.start_job(f"{job_id}_processing", "short_form").job_id == job_id
    found = jobs.get_job_context(f"{job_id}_failed")
    assert found is not None
    assert found.job_id == job_id


@pytest.mark.parametrize(
    "wrong", ["", "/", "/abs", "..", "../x", "a/../b", ".", "a//b", "a/", "a\0b", ".lffs"]
)
def test_an_id_that_can_be_none_is_refused(place: Place, wrong: str) -> None:
    jobs = JobManager(place.path)
    with pytest.raises(InvalidJobIdError):
        jobs.start_job(wrong, "short_form")
    if wrong != ".lffs":  # a name, though no job's
        with pytest.raises(InvalidJobIdError):
            jobs.complete_job(wrong, True)
        with pytest.raises(InvalidJobIdError):
            jobs.get_job_context(wrong)


def test_an_id_that_no_root_matches_is_refused_and_nothing_is_made(place: Place) -> None:
    with pytest.raises(InvalidJobIdError, match=r"'Suits/S01E01' matches none of jobs.roots: \*"):
        JobManager(place.path).start_job("Suits/S01E01", "short_form")
    assert not (place.path / "Suits").exists()


def test_an_unknown_type_is_refused_and_nothing_is_made(place: Place, job_id: str) -> None:
    with pytest.raises(ValueError, match="is not a valid JobType"):
        JobManager(place.path).start_job(job_id, "shorts")
    assert not (place.path / job_id).exists()


def test_a_file_in_the_way_of_the_directory_is_an_error(place: Place, job_id: str) -> None:
    (place.path / job_id).write_text("in the way")
    with pytest.raises(FileExistsError):
        JobManager(place.path).start_job(job_id, "short_form")
    assert (place.path / job_id).read_text() == "in the way"


def test_what_lay_there_before_is_adopted_and_stays(place: Place, job_id: str) -> None:
    """The program made its directory, and files in it, before it asked anybody."""
    write(place.backing / job_id, "temp_old.wav")
    jobs = JobManager(place.path)
    context = jobs.start_job(job_id, "short_form")
    assert context.temp_files == [context.output_dir / "temp_old.wav"]
    assert jobs.complete_job(job_id, True).files_removed == []
    assert (context.output_dir / "temp_old.wav").exists()


def test_jobs_may_lie_deeper(tmp_path: Path) -> None:
    with unmounted(tmp_path / "store", make_settings(jobs={"roots": ("*/*",)})) as place:
        context = JobManager(place.path).start_job("Suits/S01E01", "short_form")
        assert context.output_dir.is_dir()
        assert context.manifest_path.name == "S01E01.json"
        with pytest.raises(InvalidJobIdError):
            JobManager(place.path).start_job("Suits", "short_form")


def test_a_directory_that_was_made_anew_is_a_new_job(tmp_path: Path) -> None:
    """Nobody told lffs that it was removed; what is recorded of it must not count for the new one."""
    with unmounted(tmp_path / "store") as place:
        jobs = JobManager(place.path)
        context = jobs.start_job("job", "short_form")
        write(context.output_dir, "temp_a.wav")
        ManifestTracker(place.path).add_file("job", "temp_a.wav", "temp_audio")
        shutil.rmtree(context.output_dir)
        assert jobs.start_job("job", "long_form").temp_files == []
        shutil.rmtree(context.output_dir)
        write(context.output_dir, "temp_a.wav")
        jobs.start_job("job", "short_form")
        assert jobs.complete_job("job", True).files_removed == []  # adopted


# -- completing -----------------------------------------------------------------------------------


def test_completing_hides_temporaries_and_keeps_the_rest(place: Place, job_id: str) -> None:
    jobs, tracker = JobManager(place.path), ManifestTracker(place.path)
    context = jobs.start_job(job_id, "short_form")
    write(context.output_dir, "slides/a.png", "shorts/a.mkv", "notes.txt")
    tracker.add_file(job_id, "slides/a.png", "temp_slide")
    tracker.add_file(job_id, "shorts/a.mkv", "final_video")
    found = jobs.get_job_context(job_id)
    assert found is not None
    assert found.temp_files == [context.output_dir / "slides/a.png"]
    assert found.final_outputs == [context.output_dir / "shorts/a.mkv"]
    result = jobs.complete_job(job_id, success=True)
    assert result.success
    assert result.files_removed == [context.output_dir / "slides/a.png"]
    assert result.directories_removed == [context.output_dir / "slides"]
    assert result.total_size_freed == 0  # hidden, for its retention
    assert sorted(path.name for path in context.output_dir.iterdir()) == ["notes.txt", "shorts"]
    assert (context.output_dir / "shorts/a.mkv").read_text() == "shorts/a.mkv"
    assert status_of(place, job_id) is JobStatus.COMPLETED


def test_a_failed_job_keeps_everything(place: Place, job_id: str) -> None:
    jobs = JobManager(place.path)
    context = jobs.start_job(job_id, "short_form")
    write(context.output_dir, "temp_a.wav")
    ManifestTracker(place.path).add_file(job_id, "temp_a.wav", "temp_audio")
    result = jobs.complete_job(job_id, success=False)
    assert (result.success, result.files_removed) == (True, [])
    assert (context.output_dir / "temp_a.wav").read_text() == "temp_a.wav"
    assert status_of(place, job_id) is JobStatus.FAILED


def test_with_a_retention_of_zero_temporaries_are_deleted_at_once(tmp_path: Path) -> None:
    with unmounted(tmp_path / "store", make_settings(cleanup={"retention_hours": 0})) as place:
        jobs = JobManager(place.path)
        context = jobs.start_job("job", "short_form")
        write(context.output_dir, "a.wav")
        ManifestTracker(place.path).add_file("job", "a.wav", "temp_audio")
        result = jobs.complete_job("job", True)
        assert (result.files_removed, result.total_size_freed) == ([context.output_dir / "a.wav"], 5)
        assert status_of(place, "job") is JobStatus.CLEANED


@pytest.mark.mounted
def test_through_a_mount_too(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("cleanup: {retention_hours: 0}\n")
    jobs = JobManager(mounted.path)
    context = jobs.start_job("job", "short_form")
    write(context.output_dir, "temp_a.wav")  # nobody adds it: the mount has seen it
    result = jobs.complete_job("job", True)
    assert (result.files_removed, result.total_size_freed) == ([context.output_dir / "temp_a.wav"], 10)
    assert mounted.in_trash() == set()


def test_what_can_not_be_hidden_is_in_the_result_and_the_rest_goes(place: Place, job_id: str) -> None:
    jobs, tracker = JobManager(place.path), ManifestTracker(place.path)
    context = jobs.start_job(job_id, "short_form")
    write(place.backing / job_id, "temp_a.wav", "temp_b.wav")
    for name in ("temp_a.wav", "temp_b.wav"):
        tracker.add_file(job_id, name, "temp_audio")
    write(place.backing / job_id, "temp_other.wav")
    os.rename(place.backing / job_id / "temp_other.wav", place.backing / job_id / "temp_a.wav")
    result = jobs.complete_job(job_id, True)
    assert result.files_removed == [context.output_dir / "temp_b.wav"]
    assert result.files_failed == [context.output_dir / "temp_a.wav"]
    assert not result.success
    assert result.errors == [f"{context.output_dir}/temp_a.wav: temp_a.wav: another file has this name now"]
    assert status_of(place, job_id) is JobStatus.COMPLETED
    assert (place.backing / job_id / "temp_a.wav").read_text() == "temp_other.wav"
    tracker.remove_from_manifest(job_id, "temp_a.wav")
    (place.path / job_id / "temp_a.wav").unlink()


def test_a_cleanup_that_would_take_too_much_is_said(tmp_path: Path) -> None:
    with unmounted(tmp_path / "store", make_settings(cleanup={"max_share": 0.5})) as place:
        jobs = JobManager(place.path)
        context = jobs.start_job("job", "short_form")
        write(context.output_dir, "a.wav")
        ManifestTracker(place.path).add_file("job", "a.wav", "temp_audio")
        result = jobs.complete_job("job", True)
        assert not result.success
        assert "more than the 50% that cleanup.max_share allows" in result.errors[0]
        assert (context.output_dir / "a.wav").exists()


@pytest.mark.parametrize("failure", [StoreError("no space left"), JobBusyError("cleaning up")])
def test_completing_never_raises_because_cleanup_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    with unmounted(tmp_path / "store") as place:
        jobs = JobManager(place.path)
        jobs.start_job("job", "short_form")

        def fail(*arguments: object) -> None:
            raise failure

        with monkeypatch.context() as patched:
            patched.setattr("lffs.cleanup.service.Cleanup.complete", fail)
            result = jobs.complete_job("job", True)
        assert not result.success
        assert result.errors == [f"job job stays running: {failure}"]
        assert jobs.complete_job("job", True).success


def test_a_job_that_was_never_started_can_not_be_completed(place: Place) -> None:
    with pytest.raises(UnknownJobError):
        JobManager(place.path).complete_job("never", True)


# -- finding again --------------------------------------------------------------------------------


def test_a_job_that_there_is_not_is_none(place: Place) -> None:
    assert JobManager(place.path).get_job_context("never") is None


def test_a_job_is_what_it_was_after_a_crash(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    code = (
        "import os, sys, pathlib\n"
        "from lffs import JobManager, ManifestTracker, open_store\n"
        "with open_store(sys.argv[1]) as store:\n"
        "    context = JobManager(store).start_job('job', 'long_form')\n"
        "    (context.output_dir / 'x.bin').write_text('x')\n"
        "    ManifestTracker(store).add_file('job', 'x.bin', 'temp_video')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, store], check=False, cwd=ROOT)
    assert done.returncode == -9
    context = JobManager(store).get_job_context("job")
    assert context is not None
    assert context.job_type is JobType.LONG_FORM
    assert context.temp_files == [store / "job" / "x.bin"]
    assert ManifestTracker(store).get_manifest("job").status is JobStatus.RUNNING


@pytest.mark.mounted
def test_a_job_is_what_it_was_after_the_daemons_crash(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    jobs = JobManager(mounted.path)
    started = jobs.start_job("job", "long_form")
    write(started.output_dir, "x.bin")
    ManifestTracker(mounted.path).add_file("job", "x.bin", "temp_video")
    before = jobs.get_job_context("job")
    mounted.kill_and_remount()
    assert jobs.get_job_context("job") == before
    assert mounted.stop() == 0
    with open_store(mounted.backing):  # and unmounted, by the same calls
        found = JobManager(mounted.backing).get_job_context("job")
    assert found is not None
    assert found.temp_files == [mounted.backing / "job" / "x.bin"]
