"""Property 8: exactly the files that could not go are logged, with the reason; the rest goes (3.5)."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import Mounted
from tests.properties.pipelines import (
    IN_CORE_TOO,
    IN_MEMORY,
    MOUNTED,
    InMount,
    Pipeline,
    Site,
    core,
    library,
    only_files,
    pipelines,
)

INTRUDER = b"not the file that the job wrote"
choices = st.sets(st.integers(0, 5))


def check(site: Site, pipeline: Pipeline, chosen: set[int], *, by_hand: bool) -> None:
    site.run(pipeline)
    temporary = sorted(pipeline.temporary)
    stuck = {path for number, path in enumerate(temporary) if number in chosen}
    for path in stuck:
        # Somebody puts another file in its place beside lffs: that one is nobody's to delete.
        place = site.backing / site.job / path
        other = place.with_name("other")
        other.write_bytes(INTRUDER)
        os.rename(other, place)
    with site.logged() as lines:
        if by_hand:
            done = site.clean("**/*")
            assert set(done.failed) == stuck
            assert all(done.failed.values())
            known = {file.path for file in pipeline.files if file.type == "other"}
            assert set(done.removed) == set(temporary) - stuck | known
        else:
            site.set_status("completed")
    if not by_hand:
        told = [line for line in lines if "cannot hide" in line]
        assert len(told) == len(stuck)
        text = "\n".join(lines)
        # What is left of the line after the file is the reason.
        assert all(f"cannot hide {path}: " in text for path in stuck)
    found = only_files(site.on_disk())
    gone = set(temporary) - stuck
    assert {path: content for path, content in found.items() if path in temporary} == dict.fromkeys(
        stuck, INTRUDER
    )
    assert not gone & set(found)
    for path, content in pipeline.lasting.items():
        assert found.get(path, content) == content
    site.admin.verify(True)


@IN_CORE_TOO
@given(pipeline=pipelines(min_files=1), chosen=choices, by_hand=st.booleans())
def test_what_can_not_go_is_told_and_the_rest_goes(
    pipeline: Pipeline, chosen: set[int], by_hand: bool
) -> None:
    with core() as site:
        check(site, pipeline, chosen, by_hand=by_hand)


@IN_MEMORY
@given(pipeline=pipelines(min_files=1), chosen=choices, by_hand=st.booleans())
def test_the_library_tells_what_can_not_go_and_the_rest_goes(
    pipeline: Pipeline, chosen: set[int], by_hand: bool
) -> None:
    with library() as site:
        check(site, pipeline, chosen, by_hand=by_hand)


@pytest.mark.mounted
@MOUNTED
@given(pipeline=pipelines(min_files=1), chosen=choices, by_hand=st.booleans())
def test_through_a_mount_what_can_not_go_is_told_and_the_rest_goes(
    library_mount: Mounted, pipeline: Pipeline, chosen: set[int], by_hand: bool
) -> None:
    check(InMount(library_mount), pipeline, chosen, by_hand=by_hand)
