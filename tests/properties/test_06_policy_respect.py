"""Property 6: enable switch, retention, file types and debug mode are each obeyed, in any combination."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import Mounted
from tests.properties.pipelines import (
    IN_CORE_TOO,
    IN_MEMORY,
    MOUNTED,
    TEMPORARY,
    InMount,
    Pipeline,
    Site,
    core,
    library,
    only_files,
    pipelines,
)


@dataclass(frozen=True)
class Policy:
    enabled: bool
    retention_hours: int
    types: frozenset[str]
    debug: bool
    debug_mode_disables: bool

    def cleans(self, type_: str) -> bool:
        return self.enabled and not (self.debug and self.debug_mode_disables) and type_ in self.types


# Mostly on, so that what is cleaned is often more than nothing.
mostly = st.sampled_from([True, True, True, False])
policies = st.builds(
    Policy,
    enabled=mostly,
    retention_hours=st.sampled_from([0, 1, 24, 1000]),
    types=st.frozensets(st.sampled_from(sorted(TEMPORARY)), min_size=1),
    debug=mostly.map(lambda yes: not yes),
    debug_mode_disables=mostly,
)


def check(site: Site, pipeline: Pipeline, policy: Policy) -> None:
    site.configure(
        debug=policy.debug,
        enabled=policy.enabled,
        retention_hours=policy.retention_hours,
        file_types_to_clean=sorted(policy.types),
        debug_mode_disables=policy.debug_mode_disables,
    )
    site.run(pipeline)
    site.set_status("completed")
    cleaned = {file.path: file.content for file in pipeline.files if policy.cleans(file.type)}
    kept = {file.path: file.content for file in pipeline.files if not policy.cleans(file.type)}
    assert only_files(site.view()) == only_files(site.on_disk()) == kept
    if policy.retention_hours:
        assert site.in_trash() == cleaned
        site.advance(policy.retention_hours - 0.25)
        assert site.in_trash() == cleaned
        site.advance(0.25)
    site.soon(lambda: site.in_trash() == {}, "what is past retention goes")
    site.advance(100_000)
    assert only_files(site.view()) == only_files(site.on_disk()) == kept


@IN_CORE_TOO
@given(pipeline=pipelines(), policy=policies)
def test_a_completed_job_is_cleaned_as_the_policy_says(pipeline: Pipeline, policy: Policy) -> None:
    with core() as site:
        check(site, pipeline, policy)
        site.verify()


@IN_MEMORY
@given(pipeline=pipelines(), policy=policies)
def test_the_library_cleans_as_the_policy_says(pipeline: Pipeline, policy: Policy) -> None:
    with library() as site:
        check(site, pipeline, policy)
        site.verify()


@pytest.mark.mounted
@MOUNTED
@given(pipeline=pipelines(), policy=policies)
def test_through_a_mount_the_policy_is_obeyed(
    library_mount: Mounted, pipeline: Pipeline, policy: Policy
) -> None:
    check(InMount(library_mount), pipeline, policy)
