"""DirectoryManager: properties 1 and 4 by example; each job type has its directories and no other."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lffs import DirectoryManager, DirectoryType, JobManager, JobType, ManifestTracker, UnknownJobError
from lffs.library.records import JobContext
from tests.harness import Mounted
from tests.places import Place, unmounted
from tests.stores import make_settings, tree

NEEDED = {
    "short_form": {"temp", "metadata", "slides", "expressions", "subtitles", "shorts"},
    "long_form": {"temp", "metadata", "slides", "expressions", "subtitles", "long_form"},
    "expression_only": {"temp", "metadata", "expressions", "subtitles"},
    "slides_only": {"temp", "metadata", "slides"},
}


@pytest.mark.parametrize("job_type", NEEDED)
def test_a_job_gets_the_directories_of_its_type_and_no_other(
    place: Place, job_id: str, job_type: str
) -> None:
    name = f"{job_id}.{job_type}"
    context = JobManager(place.path).start_job(name, job_type)
    made = DirectoryManager(place.path).create_job_directories(context)
    assert {path.name for path in context.output_dir.iterdir()} == NEEDED[job_type]
    assert made == context.directories
    assert made.base_dir == context.output_dir
    assert all(path.is_dir() for path in made.get_all_directories())
    recorded = ManifestTracker(place.path).get_manifest(name).directories
    assert recorded == {DirectoryType(word): [Path(word)] for word in NEEDED[job_type]}


@pytest.mark.parametrize("job_type", NEEDED)
def test_the_table_answers_for_every_type(place: Place, job_type: str) -> None:
    directories = DirectoryManager(place.path)
    needed = {word for word in DirectoryType if directories.should_create_directory(word, job_type)}
    assert needed == NEEDED[job_type] | {"base"}
    structure = directories.get_simplified_structure(JobType(job_type))
    structure.validate()
    assert structure.base_dir == Path()
    names = {path.name for path in structure.get_all_directories()} - {""}
    assert names == NEEDED[job_type] - {"subtitles"}  # these have no field


def test_unknown_types_are_refused(place: Place) -> None:
    with pytest.raises(ValueError, match="is not a valid JobType"):
        DirectoryManager(place.path).get_simplified_structure("shorts")
    with pytest.raises(ValueError, match="is not a valid DirectoryType"):
        DirectoryManager(place.path).should_create_directory("videos", "short_form")


def test_making_them_again_changes_nothing(place: Place, job_id: str) -> None:
    context = JobManager(place.path).start_job(job_id, "slides_only")
    directories = DirectoryManager(place.path)
    assert context.directories.slides_dir is not None
    context.directories.slides_dir.mkdir()
    os.chmod(context.directories.slides_dir, 0o700)
    (context.directories.slides_dir / "a.png").write_text("a")
    assert directories.create_job_directories(context) == directories.create_job_directories(context)
    assert context.directories.slides_dir.stat().st_mode & 0o777 == 0o700
    assert (context.directories.slides_dir / "a.png").read_text() == "a"
    ManifestTracker(place.path).add_file(job_id, "slides/a.png", "final_slide")


def test_a_job_that_was_never_started_gets_none(place: Place, tmp_path: Path) -> None:
    structure = DirectoryManager(place.path).get_simplified_structure("short_form")
    started = JobManager(place.path).start_job("some", "short_form").start_time
    context = JobContext(
        "never", JobType.SHORT_FORM, started, place.path / "never", tmp_path / "never.json", structure
    )
    with pytest.raises(UnknownJobError):
        DirectoryManager(place.path).create_job_directories(context)
    assert not (place.path / "never").exists()


def test_what_the_configuration_declares_for_a_type_goes_before_the_table(tmp_path: Path) -> None:
    declared = {JobType.SHORT_FORM: {DirectoryType.SHORTS: "out/shorts", DirectoryType.BASE: "x"}}
    with unmounted(tmp_path / "store", make_settings(directories={"types": declared})) as place:
        directories = DirectoryManager(place.path)
        assert directories.should_create_directory("shorts", "short_form")
        assert not directories.should_create_directory("slides", "short_form")
        assert directories.should_create_directory("slides", "long_form")
        context = JobManager(place.path).start_job("job", "short_form")
        made = directories.create_job_directories(context)
        assert made.shorts_dir == context.output_dir / "out/shorts"
        assert made.temp_dir is None
        assert tree(place.path).keys() == {"job", "job/out", "job/out/shorts"}


def test_the_programs_umask_holds(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with unmounted(tmp_path / "store") as place:
            context = JobManager(place.path).start_job("job", "slides_only")
            DirectoryManager(place.path).create_job_directories(context)
    finally:
        os.umask(before)
    assert (tmp_path / "store/job").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "store/job/slides").stat().st_mode & 0o777 == 0o750


@pytest.mark.mounted
def test_in_a_mount_they_are_lazy_and_unmounted_they_are_made(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    context = JobManager(mounted.path).start_job("job", "short_form")
    made = DirectoryManager(mounted.path).create_job_directories(context)
    assert mounted.in_backing() == set()
    assert made.slides_dir is not None
    os.chmod(made.slides_dir, 0o710)
    (made.base_dir / "shorts/x.mkv").write_text("x")
    assert mounted.in_backing() == {"job", "job/shorts", "job/shorts/x.mkv"}
    assert mounted.stop() == 0
    found = JobManager(mounted.backing).get_job_context("job")
    assert found is not None
    made = DirectoryManager(mounted.backing).create_job_directories(found)
    assert {path.name for path in (mounted.backing / "job").iterdir()} == NEEDED["short_form"]
    assert made.slides_dir is not None
    assert made.slides_dir.stat().st_mode & 0o777 == 0o710  # as it was in the mount
