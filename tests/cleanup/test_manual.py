"""Cleaning by hand: what a selection means, and that a plan is exactly what is carried out."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffs.backing import Backing
from lffs.cleanup.manual import Candidate, CleanPlan, NoView, Selection, carry_out, plan_clean
from lffs.errors import CleanRefusedError
from lffs.manifest.records import Job, Mark
from lffs.model import TEMPORARY_TYPES, EntryOrigin, FileType, JobStatus
from tests.stores import NOW_NS, Client, make_entry, make_identity, make_job, make_settings, opened, tree


def candidate(path: str = "a.tmp", **changes: Any) -> Candidate:
    """Return a temporary of a failed job, in view, unpinned."""
    entry_changes = {key: changes.pop(key) for key in ("origin", "identity") if key in changes}
    values: dict[str, Any] = {
        "job": make_job(status=JobStatus.FAILED),
        "entry": make_entry(os.fsencode(path), **entry_changes),
        "type": FileType.TEMP_VIDEO,
        "size": 10,
        "changed_ns": NOW_NS,
        "is_pinned": False,
    }
    return Candidate(**(values | changes))


def chosen(selection: Selection, *candidates: Candidate) -> list[str]:
    return [os.fsdecode(one.path) for one in plan_clean(candidates, selection).files]


@pytest.mark.parametrize("type_", list(FileType))
def test_without_a_type_only_temporaries_go(type_: FileType) -> None:
    expected = ["job/a.tmp"] if type_ in TEMPORARY_TYPES else []
    assert chosen(Selection(), candidate(type=type_)) == expected


@pytest.mark.parametrize("type_", list(FileType))
def test_a_pattern_means_temporaries_and_what_no_rule_names_but_never_finals(type_: FileType) -> None:
    expected = ["job/a.tmp"] if type_ in TEMPORARY_TYPES | {FileType.OTHER} else []
    assert chosen(Selection(pattern="*"), candidate(type=type_)) == expected


def test_finals_go_when_their_type_is_named() -> None:
    final = candidate("x.mkv", type=FileType.FINAL_VIDEO)
    assert chosen(Selection(types=frozenset({FileType.FINAL_VIDEO})), final, candidate()) == ["job/x.mkv"]


@given(
    pattern=st.sampled_from([None, "*", "a*"]),
    types=st.sampled_from([None, frozenset(FileType)]),
    age=st.sampled_from([None, NOW_NS]),
)
def test_a_pinned_file_never_goes(
    pattern: str | None, types: frozenset[FileType] | None, age: int | None
) -> None:
    selection = Selection(pattern=pattern, types=types, changed_before_ns=age)
    assert chosen(selection, candidate(is_pinned=True)) == []


@pytest.mark.parametrize("origin", [EntryOrigin.ADOPTED, EntryOrigin.REBUILT])
def test_what_lffs_did_not_see_being_made_goes_only_when_it_is_named(origin: EntryOrigin) -> None:
    found = candidate(origin=origin)
    assert chosen(Selection(), found) == []
    assert chosen(Selection(changed_before_ns=NOW_NS), found) == []
    assert chosen(Selection(pattern="a.*"), found) == ["job/a.tmp"]


def test_a_running_job_keeps_what_it_has_in_view_unless_it_is_named_or_old() -> None:
    running = candidate(job=make_job(status=JobStatus.RUNNING))
    assert chosen(Selection(), running) == []
    assert chosen(Selection(job=1), running) == ["job/a.tmp"]
    assert chosen(Selection(changed_before_ns=NOW_NS), running) == ["job/a.tmp"]


def test_a_file_that_is_exactly_that_old_goes_and_one_changed_later_stays() -> None:
    selection = Selection(changed_before_ns=NOW_NS)
    assert chosen(selection, candidate("old"), candidate("new", changed_ns=NOW_NS + 1)) == ["job/old"]


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.tmp", "deep/er/a.tmp", True),
        ("job/*.tmp", "a.tmp", True),
        ("deep/*", "deep/a.tmp", True),
        ("deep/*", "other/deep/a.tmp", False),
        ("a.tmp", "a.tmp.kept", False),
    ],
)
def test_a_pattern_is_of_the_path_below_the_mountpoint_or_the_job(
    pattern: str, path: str, matches: bool
) -> None:
    assert bool(chosen(Selection(pattern=pattern), candidate(path))) is matches


def test_bytes_of_hard_links_count_once() -> None:
    two_names = [candidate("a.tmp"), candidate("b.tmp"), candidate("c.tmp", identity=make_identity(8))]
    assert plan_clean(two_names, Selection()).bytes == 20


# -- carried out ------------------------------------------------------------------------------


def make_files(backing: Backing, *names: str) -> Job:
    """Make files in a job and record them as the filesystem would."""
    job = backing.jobs.at(b"job")
    if job is None:
        (backing.path / "job").mkdir(exist_ok=True)
        status = backing.status_of(b"job")
        assert status is not None
        job = backing.jobs.begin(b"job", NOW_NS, None)
    for name in names:
        path = backing.path / "job" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    backing.jobs.set_status(job, JobStatus.RUNNING, NOW_NS)
    backing.reconcile()
    return job


def clean(backing: Backing, plan: CleanPlan) -> tuple[list[str], list[tuple[str, str]]]:
    work = carry_out(plan, backing.cleanup, NoView(), NOW_NS, "by hand")
    done = work.finish(work.run())
    return (
        [os.fsdecode(path) for path in done.removed],
        [(os.fsdecode(path), why) for path, why in done.failed],
    )


def test_what_the_dry_run_names_is_what_the_real_run_removes(tmp_path: Path) -> None:
    with opened(tmp_path / "b") as backing:
        job = make_files(backing, "a.tmp", "sub/b.wav", "c.mkv", "d.txt")
        plan = plan_clean(backing.candidates(), Selection(job=job.number))
        removed, failed = clean(backing, plan)
        assert removed == [os.fsdecode(one.path) for one in plan.files] == ["job/a.tmp", "job/sub/b.wav"]
        assert failed == []
        assert set(tree(backing.path)) >= {"job/c.mkv", "job/d.txt"}
        assert not {"job/a.tmp", "job/sub/b.wav"} & set(tree(backing.path))
        assert list(backing.trash.files()) == []
        assert {removal.why for removal in backing.store.removals(job.number)} == {"by hand"}


def test_hidden_files_are_deleted_too_before_their_retention_is_over(tmp_path: Path) -> None:
    with opened(tmp_path / "b") as backing:
        job = make_files(backing, "a.tmp", "c.mkv")
        backing.set_status(job, JobStatus.COMPLETED, lambda identity: False)
        assert clean(backing, plan_clean(backing.candidates(), Selection())) == (["job/a.tmp"], [])
        assert job.status is JobStatus.CLEANED


def test_a_file_that_was_replaced_after_the_plan_stays_and_is_reported(tmp_path: Path) -> None:
    with opened(tmp_path / "b") as backing:
        job = make_files(backing, "a.tmp", "b.tmp")
        plan = plan_clean(backing.candidates(), Selection(job=job.number))
        precious = tmp_path / "precious"
        precious.write_text("precious")
        precious.replace(backing.path / "job" / "a.tmp")
        removed, failed = clean(backing, plan)
        assert removed == ["job/b.tmp"]
        assert [path for path, _ in failed] == ["job/a.tmp"]
        assert (backing.path / "job" / "a.tmp").read_text() == "precious"


def test_a_file_that_another_was_renamed_over_after_the_plan_stays_and_the_rest_goes(tmp_path: Path) -> None:
    """The record is of the new file by then: it is the plan that is old."""
    with opened(tmp_path / "b") as backing:
        client = Client(backing)
        client.mkdir("job")
        for name in ("a.tmp", "b.tmp"):
            client.write(f"job/{name}")
        plan = plan_clean(backing.candidates(), Selection(job=1))
        client.write("job/new.txt", b"precious")
        client.rename("job/new.txt", "job/a.tmp")
        removed, failed = clean(backing, plan)
        assert (removed, failed) == (["job/b.tmp"], [("job/a.tmp", "it changed since it was planned")])
        assert client.read("job/a.tmp") == b"precious"


def test_a_file_pinned_after_the_plan_stays_and_is_reported(tmp_path: Path) -> None:
    with opened(tmp_path / "b") as backing:
        job = make_files(backing, "a.tmp")
        plan = plan_clean(backing.candidates(), Selection(job=job.number))
        backing.store.set_mark(plan.files[0].entry.identity, Mark(keep=True))
        assert clean(backing, plan) == ([], [("job/a.tmp", "pinned by user.lffs.keep")])


def test_a_file_open_for_writing_elsewhere_is_back_in_its_place_and_reported(tmp_path: Path) -> None:
    with opened(tmp_path / "b") as backing:
        job = make_files(backing, "a.tmp")
        plan = plan_clean(backing.candidates(), Selection(job=job.number))
        with (backing.path / "job" / "a.tmp").open("a"):
            removed, failed = clean(backing, plan)
        assert removed == []
        assert [path for path, _ in failed] == ["job/a.tmp"]
        assert (backing.path / "job" / "a.tmp").read_text() == "a.tmp"
        assert list(backing.trash.files()) == []


def test_more_of_a_job_than_max_share_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    with opened(tmp_path / "b", make_settings(cleanup={"max_share": 0.5})) as backing:
        job = make_files(backing, "aaaaaaaaaa.tmp", "b.mkv")
        before = tree(backing.path)
        plan = plan_clean(backing.candidates(), Selection(job=job.number))
        with pytest.raises(CleanRefusedError, match=r"max_share"):
            clean(backing, plan)
        assert tree(backing.path) == before


def test_max_share_also_stops_what_completed_would_hide(tmp_path: Path) -> None:
    with opened(tmp_path / "b", make_settings(cleanup={"max_share": 0.5})) as backing:
        job = make_files(backing, "aaaaaaaaaa.tmp", "b.mkv")
        change = backing.set_status(job, JobStatus.COMPLETED, lambda identity: False)
        assert change.hidden.files == []
        assert (backing.path / "job" / "aaaaaaaaaa.tmp").exists()
