"""Property 11: the listed name of a job directory always shows its status (5.4)."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import Mounted
from tests.properties.pipelines import IN_MEMORY, MOUNTED, InCore, InMount, core, library, texts

SUFFIX = {
    "created": "", "running": "_processing", "completed": "_completed", "cleaned": "_completed",
    "failed": "_failed",
}  # fmt: skip
SHOWN = {"_processing": "running", "_completed": "completed", "_failed": "failed"}

# What happens to one of three jobs: a status, its first file ("write"), or a day ("pass", to all).
events = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(["running", "completed", "failed", "write", "write", "pass"])
    ),
    max_size=10,
)
names = st.lists(texts.map(lambda text: f"x{text}x"), min_size=3, max_size=3, unique=True)


def listed(site: InCore | InMount) -> list[str]:
    return site.client.list() if isinstance(site, InCore) else sorted(os.listdir(site.mounted.path))


def links(site: InCore | InMount, status: str) -> list[str]:
    path = f".lffs/by-status/{status}"
    return site.client.list(path) if isinstance(site, InCore) else os.listdir(site.mounted.path / path)


def check(sites: list[InCore] | list[InMount], todo: list[tuple[int, str]]) -> None:
    status = dict.fromkeys((site.job for site in sites), "created")
    temporary: dict[str, bool] = dict.fromkeys(status, False)
    for site in sites:
        site.start("short_form")
    for which, event in todo:
        site = sites[which]
        if event == "write":
            site.write("temp_a.wav", b"a", "temp_audio")
            temporary[site.job] = True
            if status[site.job] == "created":
                status[site.job] = "running"
        elif event == "pass":
            site.advance(25)
        else:
            site.set_status(event)
            status[site.job] = event
        for one in sites:
            shown = listed(one)
            suffix = SUFFIX[status[one.job]]
            every = [one.job + end for end in ("", *SHOWN)]
            assert [name for name in shown if name in every] == [one.job + suffix]
            for end, word in SHOWN.items():
                assert (one.job + end in links(one, word)) == (end == suffix)
            if suffix:
                assert SUFFIX[one.status()] == suffix


@IN_MEMORY
@given(jobs=names, todo=events)
def test_a_job_is_listed_with_its_status(jobs: list[str], todo: list[tuple[int, str]]) -> None:
    with core() as site:
        sites = [site]
        for _ in range(2):
            other = InCore(site.opened, site.clock)
            other.client = site.client
            sites.append(other)
        for one, job in zip(sites, jobs, strict=True):
            one.job = job
        check(sites, todo)
        site.verify()


@IN_MEMORY
@given(
    job=texts.map(lambda text: f"x{text}x"),
    course=st.lists(st.sampled_from(sorted(SHOWN.values())), max_size=3),
)
def test_the_library_finds_a_job_by_the_name_that_it_is_listed_under(job: str, course: list[str]) -> None:
    with library() as site:
        site.job = job
        site.start("short_form")
        for status in ["running", *course]:
            site.set_status(status)
            assert site.status() == status
            context = site.jobs.get_job_context(job + SUFFIX[status])
            assert context is not None
            assert (context.job_id, context.output_dir) == (job, site.directory)


@pytest.mark.mounted
@MOUNTED
@given(todo=events)
def test_through_a_mount_a_job_is_listed_with_its_status(
    library_mount: Mounted, todo: list[tuple[int, str]]
) -> None:
    check([InMount(library_mount) for _ in range(3)], todo)
