"""Property 4: every created name follows the convention, for every job type (1.4)."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffs import DirectoryManager, JobManager
from tests.harness import Mounted
from tests.properties.pipelines import (
    IN_MEMORY,
    MOUNTED,
    InMount,
    core,
    job_types,
    library,
    only_directories,
    texts,
)

# One lower-case word a directory, without dates, numbers or the names of tools.
CONVENTION = re.compile(r"[a-z]+(_[a-z]+)?")
SUFFIX = {"running": "_processing", "completed": "_completed", "failed": "_failed"}
job_names = texts.map(lambda text: f"x{text}x")
statuses = st.sampled_from(sorted(SUFFIX))


@IN_MEMORY
@given(job_type=job_types, job=job_names)
def test_the_librarys_directories_are_called_what_they_are_for(job_type: str, job: str) -> None:
    with library() as site:
        site.job = job
        context = site.jobs.start_job(job, job_type)
        manager = DirectoryManager(site.store)
        check_names(manager.get_simplified_structure(job_type).get_all_directories()[1:])
        manager.create_job_directories(context)
        made = only_directories(site.on_disk())
        assert all(CONVENTION.fullmatch(name) for name in made)
        # The same for every job of the type, and the job's own directory bears its id alone.
        again = site.jobs.start_job("another", job_type)
        manager.create_job_directories(again)
        assert {path.name for path in again.output_dir.iterdir()} == made
        assert {path.name for path in site.backing.iterdir()} == {".lffs", job, "another"}
        assert site.tracker.create_manifest(job) == site.backing / ".lffs" / "manifests" / f"{job}.json"


def check_names(paths: Iterable[Path]) -> None:
    names = [str(path) for path in paths]
    assert all(CONVENTION.fullmatch(name) for name in names)
    assert len(set(names)) == len(names)


@IN_MEMORY
@given(job=job_names, job_type=job_types, status=statuses)
def test_a_job_is_listed_by_its_id_and_status_and_lies_on_disk_by_its_id(
    job: str, job_type: str, status: str
) -> None:
    with core() as site:
        site.job = job
        site.start(job_type)
        site.write("shorts/a.mkv", b"", "final_video")
        site.set_status(status)
        assert site.client.list() == [job + SUFFIX[status]]
        assert {path.name for path in site.backing.iterdir()} == {".lffs", job}
        assert site.client.list(".lffs/manifests") == [f"{job}.json"]
        site.verify()


@pytest.mark.mounted
@MOUNTED
@given(job_type=job_types, status=statuses)
def test_through_a_mount_names_follow_the_convention(
    library_mount: Mounted, job_type: str, status: str
) -> None:
    site = InMount(library_mount)
    store = library_mount.path
    context = JobManager(store).start_job(site.job, job_type)
    DirectoryManager(store).create_job_directories(context)
    assert all(CONVENTION.fullmatch(name) for name in only_directories(site.view()))
    site.write("shorts/a.mkv", b"", "final_video")
    site.set_status(status)
    listed = [path.name for path in store.iterdir()]
    assert listed.count(site.job + SUFFIX[status]) == 1
    assert (store / ".lffs" / "manifests" / f"{site.job}.json").exists()
