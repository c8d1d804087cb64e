"""Property 2: after success every temporary is gone, past retention from disk too; finals are all there."""

import pytest
from hypothesis import given

from tests.harness import Mounted
from tests.properties.pipelines import (
    IN_CORE_TOO_OFTEN,
    IN_MEMORY_OFTEN,
    MOUNTED,
    InMount,
    Pipeline,
    Site,
    all_parents,
    core,
    library,
    only_directories,
    only_files,
    pipelines,
)


def check(site: Site, pipeline: Pipeline) -> None:
    site.run(pipeline)
    assert only_files(site.view()) == pipeline.contents
    site.set_status("completed")
    lasting = pipeline.lasting
    assert only_files(site.view()) == lasting
    # No directory remains that the temporaries' going has left empty (1.3).
    assert only_directories(site.view()) == all_parents(lasting)
    assert only_files(site.on_disk()) == lasting
    assert site.in_trash() == pipeline.temporary
    site.advance(25)
    site.soon(lambda: site.in_trash() == {}, "what is past retention goes")
    assert only_files(site.view()) == only_files(site.on_disk()) == lasting
    assert only_directories(site.on_disk()) == all_parents(lasting)
    assert site.status() == ("cleaned" if pipeline.temporary else "completed")


@IN_CORE_TOO_OFTEN
@given(pipeline=pipelines())
def test_after_success_only_what_people_want_is_there(pipeline: Pipeline) -> None:
    with core() as site:
        check(site, pipeline)
        site.verify()


@IN_MEMORY_OFTEN
@given(pipeline=pipelines())
def test_the_library_cleans_a_successful_job(pipeline: Pipeline) -> None:
    with library() as site:
        check(site, pipeline)
        site.verify()


@pytest.mark.mounted
@MOUNTED
@given(pipeline=pipelines())
def test_through_a_mount_only_what_people_want_is_there(library_mount: Mounted, pipeline: Pipeline) -> None:
    check(InMount(library_mount), pipeline)
