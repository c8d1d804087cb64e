"""CleanupService: by policy nothing that it does not say, by hand what was named, and what failed is told."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lffs import (
    CleanRefusedError,
    CleanupService,
    EntryState,
    FileType,
    InvalidJobIdError,
    JobManager,
    JobStatus,
    ManifestTracker,
    UnknownJobError,
)
from tests.harness import Mounted, eventually
from tests.places import Place, unmounted
from tests.stores import make_settings, without_rights

NAMES = {"temp_a.wav": "temp_audio", "slides/b.png": "temp_slide", "shorts/c.mkv": "final_video"}


def make_job(place: Place, job_id: str, names: dict[str, str] = NAMES) -> Path:
    """Start a job with these files, recorded, and return its directory."""
    job = JobManager(place.path).start_job(job_id, "short_form").output_dir
    for name, kind in names.items():
        (job / name).parent.mkdir(exist_ok=True)
        (job / name).write_text(name)
        ManifestTracker(place.path).add_file(job_id, name, kind)
    return job


def end_job(place: Place, job_id: str, *, success: bool = True) -> None:
    assert JobManager(place.path).complete_job(job_id, success).success


def states(place: Place, job_id: str) -> dict[str, EntryState]:
    manifest = ManifestTracker(place.path).get_manifest(job_id)
    return {str(path): entry.state for path, entry in manifest.entries.items()}


def status_of(place: Place, job_id: str) -> JobStatus:
    return ManifestTracker(place.path).get_manifest(job_id).status


# -- by policy ------------------------------------------------------------------------------------


def test_what_came_after_completion_is_hidden(place: Place, job_id: str) -> None:
    job = make_job(place, job_id)
    end_job(place, job_id)
    (job / "temp_late.wav").write_text("late")
    ManifestTracker(place.path).add_file(job_id, "temp_late.wav", "temp_audio")
    result = CleanupService(place.path).cleanup_job(job_id)
    assert (result.success, result.files_removed) == (True, [job / "temp_late.wav"])
    assert not (job / "temp_late.wav").exists()
    assert (job / "shorts/c.mkv").read_text() == "shorts/c.mkv"


def test_nothing_is_deleted_before_its_retention_and_all_after(tmp_path: Path) -> None:
    with unmounted(tmp_path / "store") as place:
        service = CleanupService(place.path)
        job = make_job(place, "job")
        end_job(place, "job")
        place.advance(23.99)
        assert service.cleanup_job("job").files_removed == []
        assert service.reap().files_removed == []
        assert states(place, "job")["temp_a.wav"] is EntryState.HIDDEN
        place.advance(0.01)
        result = service.cleanup_job("job")
        assert result.files_removed == [job / "slides/b.png", job / "temp_a.wav"]
        assert result.total_size_freed == len("slides/b.pngtemp_a.wav")
        assert states(place, "job") == {
            "temp_a.wav": "removed", "slides/b.png": "removed", "shorts/c.mkv": "present",
        }  # fmt: skip
        assert status_of(place, "job") is JobStatus.CLEANED
        assert service.cleanup_job("job").files_removed == []
        assert status_of(place, "job") is JobStatus.CLEANED


def test_cleaning_often_does_not_put_the_end_of_retention_off(tmp_path: Path) -> None:
    with unmounted(tmp_path / "store") as place:
        make_job(place, "job")
        end_job(place, "job")
        for _ in range(24):
            assert CleanupService(place.path).cleanup_job("job").files_removed == []
            place.advance(1)
        assert len(CleanupService(place.path).cleanup_job("job").files_removed) == 2


def test_reaping_takes_what_is_due_in_any_job(tmp_path: Path) -> None:
    with unmounted(tmp_path / "store", make_settings(cleanup={"failed_retention_hours": 1})) as place:
        first, second, failed = (make_job(place, name) for name in ("first", "second", "failed"))
        end_job(place, "first")
        end_job(place, "failed", success=False)
        place.advance(12)
        end_job(place, "second")
        place.advance(12)
        result = CleanupService(place.path).reap()
        of_first = [first / "slides/b.png", first / "temp_a.wav"]
        of_failed = [failed / "slides/b.png", failed / "temp_a.wav"]
        assert result.files_removed == of_failed + of_first
        assert states(place, "second")["temp_a.wav"] is EntryState.HIDDEN
        assert not (second / "temp_a.wav").exists()


@pytest.mark.mounted
def test_a_mount_reaps_by_itself(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    make_job(mounted, "job")
    end_job(mounted, "job")
    assert CleanupService(mounted.path).reap().files_removed == []
    mounted.advance(24)
    eventually(lambda: status_of(mounted, "job") is JobStatus.CLEANED, "the reaper came")
    assert CleanupService(mounted.path).cleanup_job("job").files_removed == []


def test_a_failed_job_keeps_everything_unless_asked(place: Place, job_id: str) -> None:
    service, jobs = CleanupService(place.path), JobManager(place.path)
    job = make_job(place, job_id)
    end_job(place, job_id, success=False)
    result = service.cleanup_job(job_id)
    assert (result.success, result.files_removed) == (True, [])
    assert (job / "temp_a.wav").read_text() == "temp_a.wav"
    result = service.cleanup_job(job_id, preserve_on_failure=False)
    assert result.files_removed == [job / "slides/b.png", job / "temp_a.wav"]
    assert result.total_size_freed == 0
    assert sorted(path.name for path in job.iterdir()) == ["shorts"]
    assert status_of(place, job_id) is JobStatus.FAILED
    jobs.start_job(job_id, "short_form")
    assert (job / "temp_a.wav").read_text() == "temp_a.wav"  # until its retention is over, it comes back


def test_what_a_failed_job_released_is_deleted_after_its_retention(tmp_path: Path) -> None:
    with unmounted(tmp_path / "store") as place:
        service = CleanupService(place.path)
        make_job(place, "job")
        end_job(place, "job", success=False)
        service.cleanup_job("job", preserve_on_failure=False)
        place.advance(23.9)
        assert service.reap().files_removed == []
        place.advance(0.1)
        assert len(service.cleanup_job("job").files_removed) == 2
        assert status_of(place, "job") is JobStatus.FAILED


@pytest.mark.mounted
def test_and_by_the_mounts_reaper(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    make_job(mounted, "job")
    end_job(mounted, "job", success=False)
    CleanupService(mounted.path).cleanup_job("job", preserve_on_failure=False)
    assert mounted.in_trash() == {"slides/b.png", "temp_a.wav"}
    assert "hidden until" in mounted.admin.show("job")["why"]
    mounted.advance(24)
    eventually(lambda: mounted.in_trash() == set(), "the reaper came")


def test_a_job_that_runs_is_not_cleaned(place: Place, job_id: str) -> None:
    job = make_job(place, job_id)
    result = CleanupService(place.path).cleanup_job(job_id)
    assert not result.success
    assert result.errors == [f"job {job_id} is running: its temporaries are released by completing it"]
    assert (job / "temp_a.wav").exists()


@pytest.mark.parametrize(
    ("settings", "removed"),
    [
        (make_settings(cleanup={"enabled": False}), set()),
        (make_settings(debug=True), set()),
        (make_settings(debug=True, cleanup={"debug_mode_disables": False}), {"temp_a.wav", "slides/b.png"}),
        (make_settings(cleanup={"file_types_to_clean": frozenset({FileType.TEMP_AUDIO})}), {"temp_a.wav"}),
    ],
    ids=["disabled", "debug", "debug disables nothing", "types"],
)
def test_the_policy_is_obeyed(tmp_path: Path, settings: object, removed: set[str]) -> None:
    with unmounted(tmp_path / "store", settings) as place:  # type: ignore[arg-type]
        service = CleanupService(place.path)
        assert service.is_cleanup_enabled() == bool(removed)
        job = make_job(place, "job")
        result = JobManager(place.path).complete_job("job", True)
        assert {str(path.relative_to(job)) for path in result.files_removed} == removed
        assert service.cleanup_job("job").files_removed == []
        place.advance(1000)
        assert len(service.cleanup_job("job").files_removed) == len(removed)
        # By hand it goes all the same (4.5).
        assert len(service.manual_cleanup("*").files_removed) == 2 - len(removed)


def test_bad_ids_are_refused(place: Place) -> None:
    service = CleanupService(place.path)
    with pytest.raises(UnknownJobError):
        service.cleanup_job("never")
    for wrong in ("", "/x", "../x"):
        with pytest.raises(InvalidJobIdError):
            service.cleanup_job(wrong)


def test_whether_it_is_cleaned_is_the_stores_answer(place: Place) -> None:
    assert CleanupService(place.path).is_cleanup_enabled()


@pytest.mark.mounted
def test_the_daemons_configuration_is_the_one_that_holds(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("debug: true\n")
    assert not CleanupService(mounted.path).is_cleanup_enabled()
    mounted.configure("debug: false\n")
    mounted.reload()
    assert CleanupService(mounted.path).is_cleanup_enabled()


# -- by hand --------------------------------------------------------------------------------------


def test_a_dry_run_names_exactly_what_the_real_run_removes(place: Place, job_id: str) -> None:
    service = CleanupService(place.path)
    job = make_job(place, job_id)
    (job / "x.bin").write_text("x")
    ManifestTracker(place.path).add_file(job_id, "x.bin", "other")
    plan = service.manual_cleanup(f"/{job_id}/**", dry_run=True)
    assert plan.files_removed == [job / "slides/b.png", job / "temp_a.wav", job / "x.bin"]
    assert sorted(os.listdir(job)) == ["shorts", "slides", "temp_a.wav", "x.bin"]
    done = service.manual_cleanup(f"/{job_id}/**")
    assert (done.files_removed, done.total_size_freed) == (plan.files_removed, plan.total_size_freed)
    assert states(place, job_id)["temp_a.wav"] is EntryState.REMOVED
    assert (job / "shorts/c.mkv").read_text() == "shorts/c.mkv"


def test_a_pattern_that_matches_nothing_removes_nothing(place: Place) -> None:
    result = CleanupService(place.path).manual_cleanup("*.nothing")
    assert (result.success, result.files_removed, result.has_failures) == (True, [], False)


@pytest.mark.parametrize("pattern", ["", "!*.wav", "a//b", "../x", "#a", "[[:digit:]]"])
def test_a_pattern_that_can_not_match_is_refused(place: Place, pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern: "):
        CleanupService(place.path).manual_cleanup(pattern)


def test_no_pattern_at_all_is_not_every_file(place: Place, job_id: str) -> None:
    job = make_job(place, job_id)
    with pytest.raises(TypeError):
        CleanupService(place.path).manual_cleanup(None)  # type: ignore[arg-type]
    assert (job / "temp_a.wav").exists()


def test_what_is_old_is_deleted_whatever_its_job(tmp_path: Path) -> None:
    with unmounted(tmp_path / "store", make_settings(cleanup={"enabled": False})) as place:
        service = CleanupService(place.path)
        old = make_job(place, "old")
        for name in NAMES:  # the clock of the store is no machine's
            os.utime(old / name, ns=(place.clock.now_wall_ns, place.clock.now_wall_ns))
        place.advance(48)
        young = make_job(place, "young")
        assert service.cleanup_by_age(49).files_removed == []
        result = service.cleanup_by_age(48)
        assert result.files_removed == [old / "slides/b.png", old / "temp_a.wav"]
        assert result.total_size_freed == len("slides/b.pngtemp_a.wav")
        assert (old / "shorts/c.mkv").exists()
        assert (young / "temp_a.wav").exists()


@pytest.mark.mounted
def test_what_is_old_is_deleted_through_a_mount(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("cleanup: {enabled: false}\n")
    job = make_job(mounted, "job")
    assert CleanupService(mounted.path).cleanup_by_age(1).files_removed == []
    mounted.advance(1.1)
    result = CleanupService(mounted.path).cleanup_by_age(1)
    assert result.files_removed == [job / "slides/b.png", job / "temp_a.wav"]
    assert not (job / "temp_a.wav").exists()


@pytest.mark.parametrize("age", [-1, -0.001, math.nan, math.inf])
def test_an_age_that_is_none_is_refused(place: Place, age: float) -> None:
    with pytest.raises(ValueError, match="max_age_hours must be 0 or more"):
        CleanupService(place.path).cleanup_by_age(age)


def test_what_can_not_be_removed_is_told_file_by_file_and_the_rest_goes(place: Place, job_id: str) -> None:
    job = make_job(place, job_id)
    (place.backing / job_id / "other").write_text("another file")
    os.rename(place.backing / job_id / "other", place.backing / job_id / "temp_a.wav")
    result = CleanupService(place.path).manual_cleanup(f"/{job_id}/**")
    assert result.files_removed == [job / "slides/b.png"]
    assert result.files_failed == [job / "temp_a.wav"]
    assert (result.success, len(result.errors)) == (False, 1)
    assert result.errors[0].startswith(f"{job}/temp_a.wav: ")
    assert (place.backing / job_id / "temp_a.wav").read_text() == "another file"
    ManifestTracker(place.path).remove_from_manifest(job_id, "temp_a.wav")
    (job / "temp_a.wav").unlink()


def test_a_directory_that_may_not_be_written_keeps_its_files_and_they_are_told(tmp_path: Path) -> None:
    """As in a container whose user is another than who made the files."""
    with unmounted(tmp_path / "store") as place:
        make_job(place, "job")
        before = set((tmp_path / "store/job").rglob("*"))
        with without_rights():
            result = CleanupService(place.session).manual_cleanup("*.wav")
        assert result.files_failed == [place.path / "job/temp_a.wav"]
        assert "Permission denied" in result.errors[0]
        assert set((tmp_path / "store/job").rglob("*")) == before


@pytest.mark.mounted
def test_a_pinned_file_stays(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    job = make_job(mounted, "job")
    os.setxattr(job / "temp_a.wav", "user.lffs.keep", b"1")
    assert CleanupService(mounted.path).manual_cleanup("*.wav").files_removed == []
    assert (job / "temp_a.wav").exists()


def test_a_cleanup_of_too_large_a_share_is_refused(tmp_path: Path) -> None:
    with unmounted(tmp_path / "store", make_settings(cleanup={"max_share": 0.1})) as place:
        job = make_job(place, "job")
        with pytest.raises(CleanRefusedError, match=r"cleanup\.max_share"):
            CleanupService(place.path).manual_cleanup("*")
        assert (job / "temp_a.wav").exists()
