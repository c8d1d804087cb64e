"""Property 10: final outputs are flat, predictable, and apart from temporaries (5.1-5.3)."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import Mounted
from tests.properties.pipelines import (
    FINAL,
    IN_MEMORY,
    MOUNTED,
    InCore,
    InMount,
    Pipeline,
    core,
    library,
    pipelines,
)

statuses = st.sampled_from(["running", "completed", "failed"])


def flat(pipeline: Pipeline) -> dict[str, bytes]:
    """A final by its own name; where two share one, by its whole path with ``_`` for each ``/``."""
    finals = {file.path: file.content for file in pipeline.files if file.type in FINAL}
    names = [path.rpartition("/")[2] for path in finals]
    return {
        name if names.count(name) == 1 else path.replace("/", "_"): finals[path]
        for path, name in zip(finals, names, strict=True)
    }


def outputs(site: InCore | InMount) -> dict[str, bytes]:
    """What the flat view shows, by following its links."""
    found = {}
    directory = f".lffs/outputs/{site.job}"
    if isinstance(site, InMount):
        for link in (site.mounted.path / directory).iterdir():
            assert not os.path.isabs(os.readlink(link))
            found[link.name] = link.read_bytes()
        return found
    for name in site.client.list(directory):
        target = os.fsdecode(site.client.fs.readlink(site.client.number(f"{directory}/{name}")))
        found[name] = site.client.read(os.path.normpath(f"{directory}/{target}"))
    return found


def check(site: InCore | InMount, pipeline: Pipeline, status: str) -> None:
    site.run(pipeline)
    assert outputs(site) == flat(pipeline)
    site.set_status(status)
    assert outputs(site) == flat(pipeline)
    site.advance(1000)
    assert outputs(site) == flat(pipeline)
    if status == "completed":
        assert not set(pipeline.temporary) & set(site.view())


@IN_MEMORY
@given(pipeline=pipelines(), status=statuses)
def test_finals_lie_flat_beside_each_other(pipeline: Pipeline, status: str) -> None:
    with core() as site:
        check(site, pipeline, status)
        site.verify()


@IN_MEMORY
@given(pipeline=pipelines(), status=statuses)
def test_the_library_tells_finals_and_temporaries_apart(pipeline: Pipeline, status: str) -> None:
    with library() as site:
        site.run(pipeline)
        context = site.jobs.get_job_context(site.job)
        assert context is not None
        finals = {file.path for file in pipeline.files if file.type in FINAL}
        assert {str(path.relative_to(site.directory)) for path in context.final_outputs} == finals
        assert {str(path.relative_to(site.directory)) for path in context.temp_files} == set(
            pipeline.temporary
        )
        site.set_status(status)
        context = site.jobs.get_job_context(site.job)
        assert context is not None
        assert {str(path.relative_to(site.directory)) for path in context.final_outputs} == finals
        assert len(context.temp_files) == (0 if status == "completed" else len(pipeline.temporary))


@pytest.mark.mounted
@MOUNTED
@given(pipeline=pipelines(), status=statuses)
def test_through_a_mount_finals_lie_flat_beside_each_other(
    library_mount: Mounted, pipeline: Pipeline, status: str
) -> None:
    check(InMount(library_mount), pipeline, status)
