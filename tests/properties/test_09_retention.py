"""Property 9: nothing is deleted for good before its retention period has passed (2.5)."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import Mounted
from tests.properties.pipelines import (
    IN_CORE_TOO_OFTEN,
    IN_MEMORY_OFTEN,
    MOUNTED,
    InMount,
    Site,
    core,
    library,
)


@dataclass(frozen=True)
class Step:
    """One thing that happens: write, complete, run, retain (so many hours from now on), pass (hours)."""

    what: str
    number: int


def steps(hours: st.SearchStrategy[int]) -> st.SearchStrategy[list[Step]]:
    return st.lists(
        st.one_of(
            st.builds(Step, st.just("write"), st.integers(0, 3)),
            st.builds(Step, st.sampled_from(["complete", "complete", "run"]), st.just(0)),
            st.builds(Step, st.just("retain"), st.sampled_from([1, 6, 12, 24, 30, 48])),
            st.builds(Step, st.just("pass"), hours),
        ),
        max_size=12,
    )


@dataclass
class Hidden:
    name: str
    since: int
    retention: int


def check(site: Site, todo: list[Step]) -> None:
    site.configure(retention_hours=24)
    site.start("short_form")
    now, retention = 0, 24
    view: set[str] = set()
    hidden: list[Hidden] = []
    running = True
    for step in [Step("write", 0), Step("complete", 0), *todo]:
        match step.what:
            case "write":
                name = f"temp_{step.number}.wav"
                site.write(name, name.encode(), "temp_audio")
                view.add(name)
            case "complete":
                site.set_status("completed")
                hidden += [Hidden(name, now, retention) for name in view]
                view, running = set(), False
            case "run":
                site.set_status("running")
                running = True
                for one in sorted(hidden, key=lambda one: -one.since):
                    if one.name not in view:
                        view.add(one.name)
                        hidden.remove(one)
            case "retain":
                site.configure(retention_hours=step.number)
                retention = step.number
            case _:
                now += step.number
                site.advance(step.number)
                if not running:
                    hidden = [one for one in hidden if now - one.since < max(one.retention, retention)]
        expected = {one.name for one in hidden}

        def there() -> set[str]:
            # Of several hidden files with one name all but one are called NAME.~N~.
            return {path.partition(".~")[0] for path in site.in_trash()}

        assert expected <= there(), "deleted too early"
        site.soon(lambda: there() == expected, "what is past retention goes")  # noqa: B023  called at once
        assert len(site.in_trash()) == len(hidden)
        assert set(site.view()) == view


forwards = st.sampled_from([1, 6, 11, 12, 23, 24, 25])
# A clock that is set back deletes nothing; the reaper of a mount minds a clock that is set ahead.
either_way = st.one_of(forwards, forwards, st.integers(-10, 30))


@IN_CORE_TOO_OFTEN
@given(todo=steps(either_way))
def test_nothing_is_deleted_before_its_retention_is_over(todo: list[Step]) -> None:
    with core() as site:
        check(site, todo)
        site.verify()


@IN_MEMORY_OFTEN
@given(todo=steps(either_way))
def test_the_library_deletes_nothing_before_its_retention_is_over(todo: list[Step]) -> None:
    with library() as site:
        check(site, todo)
        site.verify()


@pytest.mark.mounted
@MOUNTED
@given(todo=steps(forwards))
def test_through_a_mount_nothing_is_deleted_before_its_retention_is_over(
    library_mount: Mounted, todo: list[Step]
) -> None:
    check(InMount(library_mount), todo)
