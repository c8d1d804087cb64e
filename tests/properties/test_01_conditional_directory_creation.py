"""Property 1: for any job type and any writes, exactly the needed directories exist (1.1, 1.2)."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffs import DirectoryManager, DirectoryType, JobManager
from tests.harness import Mounted
from tests.properties.pipelines import (
    DIRECTORIES,
    IN_MEMORY,
    MOUNTED,
    File,
    InMount,
    Pipeline,
    Site,
    all_parents,
    core,
    files,
    job_types,
    library,
    only_directories,
    pipelines,
)

# What a job of each type needs; no other gets a long form's directory.
NEEDED = {
    "short_form": {"temp", "metadata", "slides", "expressions", "subtitles", "shorts"},
    "long_form": {"temp", "metadata", "slides", "expressions", "subtitles", "long_form"},
    "expression_only": {"temp", "metadata", "expressions", "subtitles"},
    "slides_only": {"temp", "metadata", "slides"},
}

# A pipeline makes directories and writes files in any order.
steps = st.lists(st.one_of(st.sampled_from(DIRECTORIES), files("short_form")), max_size=10)


def check_lazy(site: Site, job_type: str, todo: list[str | File]) -> None:
    site.start(job_type)
    made: set[str] = set()
    needed: set[str] = set()
    for step in todo:
        if isinstance(step, File):
            site.write(step.path, step.content, step.type)
            needed |= all_parents([step.path])
            made |= all_parents([step.path])
        else:
            site.mkdir(step)
            made |= {step} | all_parents([step])
        assert only_directories(site.on_disk()) == needed
        assert only_directories(site.view()) == made
    assert (site.backing / site.job).exists() == any(isinstance(step, File) for step in todo)


@IN_MEMORY
@given(job_type=job_types, todo=steps)
def test_a_directory_is_made_with_its_first_file(job_type: str, todo: list[str | File]) -> None:
    with core() as site:
        check_lazy(site, job_type, todo)
        site.verify()


@pytest.mark.mounted
@MOUNTED
@given(job_type=job_types, todo=steps)
def test_through_a_mount_a_directory_is_made_with_its_first_file(
    library_mount: Mounted, job_type: str, todo: list[str | File]
) -> None:
    check_lazy(InMount(library_mount), job_type, todo)


@IN_MEMORY
@given(pipeline=pipelines(max_files=3))
def test_the_library_makes_the_directories_that_a_job_of_its_type_needs(pipeline: Pipeline) -> None:
    with library() as site:
        context = site.jobs.start_job(site.job, pipeline.job_type)
        manager = DirectoryManager(site.store)
        structure = manager.create_job_directories(context)
        needed = NEEDED[pipeline.job_type]
        assert only_directories(site.on_disk()) == needed
        # Subtitles have no field.
        assert set(structure.get_all_directories()) == {
            site.directory, *(site.directory / name for name in needed - {"subtitles"}),
        }  # fmt: skip
        for dir_type in DirectoryType:
            wanted = dir_type == "base" or str(dir_type) in needed
            assert manager.should_create_directory(dir_type, pipeline.job_type) == wanted
        assert (structure.long_form_dir is not None) == (pipeline.job_type == "long_form")
        for file in pipeline.files:
            site.write(file.path, file.content, file.type)
        assert only_directories(site.on_disk()) == needed | all_parents(pipeline.contents)
        site.verify()


@pytest.mark.mounted
@MOUNTED
@given(pipeline=pipelines(max_files=3))
def test_what_the_library_makes_in_a_mount_waits_for_its_first_file(
    library_mount: Mounted, pipeline: Pipeline
) -> None:
    site = InMount(library_mount)
    context = JobManager(library_mount.path).start_job(site.job, pipeline.job_type)
    DirectoryManager(library_mount.path).create_job_directories(context)
    needed = NEEDED[pipeline.job_type]
    assert only_directories(site.view()) == needed
    assert site.on_disk() == {}
    for file in pipeline.files:
        site.write(file.path, file.content, file.type)
    assert only_directories(site.on_disk()) == all_parents(pipeline.contents)
    assert only_directories(site.view()) == needed | all_parents(pipeline.contents)
    assert context.output_dir == Path(library_mount.path, site.job)
