"""Property 3: after failure every temporary file is there, unchanged (2.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import Mounted
from tests.properties.pipelines import (
    IN_CORE_TOO_OFTEN,
    IN_MEMORY_OFTEN,
    MOUNTED,
    InMount,
    Pipeline,
    Site,
    core,
    library,
    only_directories,
    only_files,
    pipelines,
)

# What a job went through before it failed: a status, then so many hours; retention is never over.
courses = st.lists(
    st.tuples(st.sampled_from(["running", "completed", "failed"]), st.integers(0, 4)), max_size=4
)


def check(site: Site, pipeline: Pipeline, course: list[tuple[str, int]]) -> None:
    site.run(pipeline)
    before = site.view()
    for status, hours in course:
        site.set_status(status)
        site.advance(hours)
    site.set_status("failed")
    assert only_files(site.view()) == only_files(site.on_disk()) == pipeline.contents
    if not course:
        assert site.view() == before
    assert only_directories(site.view()) <= only_directories(before)
    assert site.in_trash() == {}
    site.advance(100_000)
    assert only_files(site.view()) == only_files(site.on_disk()) == pipeline.contents
    assert site.status() == "failed"
    assert site.recorded() == pipeline.by_type()


@IN_CORE_TOO_OFTEN
@given(pipeline=pipelines(max_files=5), course=courses)
def test_a_failed_job_has_all_that_it_wrote(pipeline: Pipeline, course: list[tuple[str, int]]) -> None:
    with core() as site:
        check(site, pipeline, course)
        site.verify()


@IN_MEMORY_OFTEN
@given(pipeline=pipelines(max_files=5), course=courses)
def test_the_library_leaves_a_failed_job_alone(pipeline: Pipeline, course: list[tuple[str, int]]) -> None:
    with library() as site:
        check(site, pipeline, course)
        site.verify()


@pytest.mark.mounted
@MOUNTED
@given(pipeline=pipelines(max_files=5), course=courses)
def test_through_a_mount_a_failed_job_has_all_that_it_wrote(
    library_mount: Mounted, pipeline: Pipeline, course: list[tuple[str, int]]
) -> None:
    check(InMount(library_mount), pipeline, course)
