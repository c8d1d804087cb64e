"""Property 7: manual cleanup works whatever the settings; a dry run names just what the real run removes."""

from collections.abc import Callable

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
from tests.properties.test_06_policy_respect import Policy, policies

# A pattern below the job, and what it means, said in Python.
PATTERNS: dict[str, Callable[[str], bool]] = {
    "**": lambda path: True,
    "**/*.wav": lambda path: path.endswith(".wav"),
    "**/temp_*": lambda path: any(name.startswith("temp_") for name in path.split("/")),
    "**/slides/": lambda path: "slides" in path.split("/")[:-1],
    "*.mkv": lambda path: path.endswith(".mkv") and "/" not in path,
    "ko/**": lambda path: path.startswith("ko/"),
    "**/*.nothing": lambda path: False,
}


def check(site: Site, pipeline: Pipeline, policy: Policy, status: str, pattern: str) -> None:
    site.configure(
        debug=policy.debug,
        enabled=policy.enabled,
        retention_hours=policy.retention_hours or 1,
        file_types_to_clean=sorted(policy.types),
        debug_mode_disables=policy.debug_mode_disables,
    )
    site.run(pipeline)
    site.set_status(status)
    view, hidden = only_files(site.view()), site.in_trash()
    # Temporaries, and what nobody knows; finals, metadata and logs only when their type is named.
    meant = {
        file.path: file.content
        for file in pipeline.files
        if (file.is_temporary or file.type == "other") and PATTERNS[pattern](file.path)
    }
    planned = site.clean(pattern, dry_run=True)
    assert (sorted(planned.removed), planned.failed) == (sorted(meant), {})
    assert planned.bytes == sum(map(len, meant.values()))
    assert (only_files(site.view()), site.in_trash()) == (view, hidden)  # nothing happened
    done = site.clean(pattern)
    assert (done.removed, done.failed, done.bytes) == (planned.removed, planned.failed, planned.bytes)
    left = {path: content for path, content in view.items() if path not in meant}
    assert only_files(site.view()) == only_files(site.on_disk()) == left
    assert site.in_trash() == {path: content for path, content in hidden.items() if path not in meant}
    assert site.clean(pattern).removed == []


statuses = st.sampled_from(["running", "completed", "failed"])
patterns = st.sampled_from(sorted(PATTERNS))


@IN_CORE_TOO
@given(pipeline=pipelines(), policy=policies, status=statuses, pattern=patterns)
def test_a_dry_run_is_what_the_real_run_does(
    pipeline: Pipeline, policy: Policy, status: str, pattern: str
) -> None:
    with core() as site:
        check(site, pipeline, policy, status, pattern)
        site.verify()


@IN_MEMORY
@given(pipeline=pipelines(), policy=policies, status=statuses, pattern=patterns)
def test_the_librarys_dry_run_is_what_the_real_run_does(
    pipeline: Pipeline, policy: Policy, status: str, pattern: str
) -> None:
    with library() as site:
        check(site, pipeline, policy, status, pattern)
        site.verify()


@pytest.mark.mounted
@MOUNTED
@given(pipeline=pipelines(), policy=policies, status=statuses, pattern=patterns)
def test_through_a_mount_a_dry_run_is_what_the_real_run_does(
    library_mount: Mounted, pipeline: Pipeline, policy: Policy, status: str, pattern: str
) -> None:
    check(InMount(library_mount), pipeline, policy, status, pattern)
