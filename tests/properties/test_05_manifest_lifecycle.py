"""Property 5: a manifest is made at the start, is right at every step, and stays until all is cleaned."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import Mounted
from tests.properties.pipelines import (
    IN_CORE_TOO_OFTEN,
    IN_MEMORY_OFTEN,
    MOUNTED,
    File,
    InCore,
    InMount,
    Site,
    core,
    files,
    job_types,
    library,
)


@dataclass(frozen=True)
class Step:
    what: str  # write, rename, unlink
    file: File  # what is written, or the new name
    which: int  # of the files that are there


@st.composite
def courses(draw: st.DrawFn) -> tuple[str, list[Step]]:
    job_type = draw(job_types)
    whats = st.sampled_from(["write", "write", "write", "rename", "unlink"])
    steps = st.builds(Step, whats, files(job_type), st.integers(0, 100))
    return job_type, draw(st.lists(steps, min_size=1, max_size=8))


def check(site: Site, job_type: str, steps: list[Step]) -> None:
    site.start(job_type)
    manifest = site.manifest()
    assert (manifest["job_id"], manifest["job_type"], manifest["files"]) == (site.job, job_type, {})
    assert manifest["status"] in ("created", "running")
    there: dict[str, str] = {}  # path → type: the oracle
    for step in steps:
        some = sorted(there)[step.which % len(there)] if there else None
        if step.what == "write":
            site.write(step.file.path, step.file.content, step.file.type)
            there[step.file.path] = step.file.type
        elif some is not None and step.what == "unlink":
            site.unlink(some)
            del there[some]
        elif some is not None and some != step.file.path:
            site.rename(some, step.file.path, step.file.type)
            del there[some]
            there[step.file.path] = step.file.type
        assert {path: type_ for type_, paths in site.recorded().items() for path in paths} == there
        assert {path for path, state in site.states().items() if state == "present"} == set(there)
    temporary = {path for path, type_ in there.items() if type_.startswith("temp_")}
    site.set_status("completed")
    assert {path: site.states()[path] for path in there} == {
        path: "hidden" if path in temporary else "present" for path in there
    }
    assert site.manifest()["status"] == "completed"
    site.advance(24)
    site.soon(lambda: site.in_trash() == {}, "what is past retention goes")
    assert {path: site.states()[path] for path in there} == {
        path: "removed" if path in temporary else "present" for path in there
    }
    assert site.manifest()["status"] == ("cleaned" if temporary else "completed")
    if isinstance(site, InCore):
        site.opened.export_changed()  # as the daemon does between requests
    exported = site.backing / ".lffs" / "manifests" / f"{site.job}.json"
    site.soon(lambda: json.loads(exported.read_text())["status"] == site.status(), "the export follows")


@IN_CORE_TOO_OFTEN
@given(course=courses())
def test_the_manifest_is_what_the_pipeline_made(course: tuple[str, list[Step]]) -> None:
    with core() as site:
        check(site, *course)
        site.verify()


@IN_MEMORY_OFTEN
@given(course=courses())
def test_the_librarys_manifest_is_what_the_program_said(course: tuple[str, list[Step]]) -> None:
    with library() as site:
        check(site, *course)
        site.verify()


@pytest.mark.mounted
@MOUNTED
@given(course=courses())
def test_through_a_mount_the_manifest_is_what_the_pipeline_made(
    library_mount: Mounted, course: tuple[str, list[Step]]
) -> None:
    check(InMount(library_mount), *course)
