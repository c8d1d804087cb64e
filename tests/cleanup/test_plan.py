"""What is hidden and from when on it may be deleted: interface.md's rules, each in turn."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffs.cleanup.plan import FailedPolicy, due_ns, effective_type, plan_hide
from lffs.manifest.records import NO_MARK, Entry, HideReason, Job, Mark, TrashEntry
from lffs.model import TEMPORARY_TYPES, EntryOrigin, FileIdentity, FileType, JobStatus
from tests.stores import HOUR_NS, NOW_NS, make_entry, make_identity, make_job

# -- what is hidden ---------------------------------------------------------------------------------

entries = st.lists(
    st.builds(
        make_entry,
        path=st.sampled_from([b"a", b"d/a", b"d/e/a", b"f"]),
        type=st.sampled_from(FileType),
        origin=st.sampled_from(EntryOrigin),
        identity=st.integers(1, 5).map(make_identity),
    ),
    unique_by=lambda entry: entry.path,
)
marks = st.dictionaries(
    st.integers(1, 5).map(make_identity),
    st.builds(Mark, st.booleans(), st.none() | st.sampled_from(FileType)),
)
type_sets = st.frozensets(st.sampled_from(sorted(TEMPORARY_TYPES)))


@given(entries=entries, marks=marks, types=type_sets, pinned=st.frozensets(st.sampled_from([b"a", b"d/a"])))
def test_exactly_what_every_rule_allows_is_hidden(
    entries: list[Entry],
    marks: dict[FileIdentity, Mark],
    types: frozenset[FileType],
    pinned: frozenset[bytes],
) -> None:
    plan = plan_hide(entries, types, lambda identity: marks.get(identity, NO_MARK), pinned.__contains__)
    for entry in entries:
        mark = marks.get(entry.identity, NO_MARK)
        is_named = (mark.type or entry.type) in types
        was_seen_made = entry.origin is EntryOrigin.RECORDED
        is_kept = mark.keep or entry.path in pinned
        assert (entry in plan.hide) == (is_named and was_seen_made and not is_kept)


@given(entries=entries, marks=marks, types=type_sets)
def test_every_temporary_is_hidden_or_kept_for_a_reason(
    entries: list[Entry], marks: dict[FileIdentity, Mark], types: frozenset[FileType]
) -> None:
    plan = plan_hide(entries, types, lambda identity: marks.get(identity, NO_MARK), lambda path: False)
    kept = {one.entry.path: one.why for one in plan.kept}
    for entry in entries:
        if effective_type(entry, marks.get(entry.identity, NO_MARK)).is_temporary:
            assert (entry in plan.hide) != (entry.path in kept)
        else:
            assert entry not in plan.hide
            assert entry.path not in kept
    assert all(kept.values())


@pytest.mark.parametrize(
    ("entry", "mark", "is_pinned", "why"),
    [
        (make_entry(origin=EntryOrigin.ADOPTED), NO_MARK, False, "adopted: not seen being made"),
        (make_entry(origin=EntryOrigin.REBUILT), NO_MARK, False, "rebuilt: not seen being made"),
        (make_entry(), Mark(keep=True), False, "pinned by user.lffs.keep"),
        (make_entry(), NO_MARK, True, "pinned by user.lffs.keep"),
        (
            make_entry(type=FileType.TEMP_AUDIO),
            NO_MARK,
            False,
            "cleanup.file_types_to_clean does not name temp_audio",
        ),
    ],
)
def test_what_stays_says_why(entry: Entry, mark: Mark, is_pinned: bool, why: str) -> None:
    plan = plan_hide([entry], {FileType.TEMP_VIDEO}, lambda identity: mark, lambda path: is_pinned)
    assert plan.hide == ()
    assert [one.why for one in plan.kept] == [why]


def test_an_xattr_makes_a_temporary_final_and_a_final_temporary() -> None:
    final, temporary = Mark(type=FileType.FINAL_VIDEO), Mark(type=FileType.TEMP_VIDEO)
    types = {FileType.TEMP_VIDEO}
    assert plan_hide([make_entry()], types, lambda identity: final, lambda path: False).hide == ()
    entry = make_entry(type=FileType.FINAL_VIDEO)
    assert plan_hide([entry], types, lambda identity: temporary, lambda path: False).hide == (entry,)


# -- when it may be deleted -------------------------------------------------------------------------


def hidden(**changes: object) -> TrashEntry:
    one = TrashEntry(1, make_entry(), b"a.tmp", HideReason.STATUS, NOW_NS, 24.0)
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


PRESERVE = FailedPolicy()
RELEASED = [JobStatus.COMPLETED, JobStatus.CLEANING_UP, JobStatus.CLEANED]
hours = st.floats(0, 1000)
moments = st.integers(NOW_NS, NOW_NS + 1000 * HOUR_NS)
jobs = st.builds(
    make_job,
    status=st.sampled_from(JobStatus),
    status_since_ns=moments,
    ended_ns=st.none() | moments,
)
trash = st.builds(
    hidden,
    reason=st.sampled_from(HideReason),
    hidden_ns=moments,
    retention_hours=hours,
    held=st.booleans(),
)
policies = st.builds(FailedPolicy, st.booleans(), st.none() | hours)


@given(one=trash, job=jobs, now_hours=hours, policy=policies)
def test_nothing_is_due_before_its_retention(
    one: TrashEntry, job: Job, now_hours: float, policy: FailedPolicy
) -> None:
    """Property 9.  A failed job with a retention of its own is the one that goes by another number."""
    due = due_ns(one, job, now_hours, policy)
    if due is None:
        return
    if job.ended_ns is None and job.status is JobStatus.FAILED and policy.retention_hours is not None:
        assert due >= job.status_since_ns + round(policy.retention_hours * HOUR_NS)
        assert due >= one.hidden_ns
    else:
        assert due >= one.hidden_ns + round(one.retention_hours * HOUR_NS)
        assert due >= one.hidden_ns + round(now_hours * HOUR_NS)


@given(one=trash, job=jobs, now_hours=hours, policy=policies)
def test_what_is_never_due_is_said_by_a_rule(
    one: TrashEntry, job: Job, now_hours: float, policy: FailedPolicy
) -> None:
    may_go = not one.held and (
        job.ended_ns is not None
        or job.status in RELEASED
        or (job.status is JobStatus.FAILED and (policy.retention_hours is not None or not policy.preserve))
        or (job.status is JobStatus.FAILED and one.reason is HideReason.RELEASED)
    )
    assert (due_ns(one, job, now_hours, policy) is not None) == may_go


@pytest.mark.parametrize("status", RELEASED)
def test_retention_is_the_longer_of_then_and_now_from_hiding_on(status: JobStatus) -> None:
    job = make_job(status=status, status_since_ns=NOW_NS + 5 * HOUR_NS)
    assert due_ns(hidden(retention_hours=24), job, 1, PRESERVE) == NOW_NS + 24 * HOUR_NS
    assert due_ns(hidden(retention_hours=1), job, 24, PRESERVE) == NOW_NS + 24 * HOUR_NS
    assert due_ns(hidden(retention_hours=0), job, 0, PRESERVE) == NOW_NS


@pytest.mark.parametrize("status", RELEASED)
def test_for_what_the_pipeline_unlinked_it_counts_from_completed(status: JobStatus) -> None:
    job = make_job(status=status, status_since_ns=NOW_NS + 5 * HOUR_NS)
    one = hidden(reason=HideReason.UNLINKED, retention_hours=2)
    assert due_ns(one, job, 0, PRESERVE) == NOW_NS + 7 * HOUR_NS


def test_a_removed_jobs_trash_goes_after_its_retention_whatever_its_status() -> None:
    for status in JobStatus:
        job = make_job(status=status, ended_ns=NOW_NS + 5 * HOUR_NS)
        assert due_ns(hidden(retention_hours=2), job, 0, PRESERVE) == NOW_NS + 2 * HOUR_NS
        unlinked = hidden(reason=HideReason.UNLINKED, retention_hours=2)
        assert due_ns(unlinked, job, 0, PRESERVE) == NOW_NS + 7 * HOUR_NS


@pytest.mark.parametrize("status", [JobStatus.CREATED, JobStatus.RUNNING, JobStatus.FAILED])
def test_a_job_that_is_not_done_keeps_everything(status: JobStatus) -> None:
    for reason in (HideReason.STATUS, HideReason.UNLINKED):
        assert due_ns(hidden(reason=reason, retention_hours=0), make_job(status=status), 0, PRESERVE) is None


def test_what_a_failed_jobs_maker_released_is_due_after_its_retention() -> None:
    one = hidden(reason=HideReason.RELEASED, retention_hours=3)
    assert due_ns(one, make_job(status=JobStatus.FAILED), 1, PRESERVE) == NOW_NS + 3 * HOUR_NS
    assert due_ns(one, make_job(status=JobStatus.RUNNING), 1, PRESERVE) is None


def test_a_failed_job_goes_by_its_own_retention_where_that_is_set() -> None:
    job = make_job(status=JobStatus.FAILED, status_since_ns=NOW_NS)
    assert (
        due_ns(hidden(retention_hours=1), job, 1, FailedPolicy(retention_hours=48)) == NOW_NS + 48 * HOUR_NS
    )


def test_a_failed_job_is_treated_as_completed_where_failures_are_not_preserved() -> None:
    job = make_job(status=JobStatus.FAILED, status_since_ns=NOW_NS)
    assert due_ns(hidden(retention_hours=3), job, 1, FailedPolicy(preserve=False)) == NOW_NS + 3 * HOUR_NS


def test_what_is_open_for_writing_is_not_due() -> None:
    assert due_ns(hidden(held=True), make_job(status=JobStatus.COMPLETED), 0, PRESERVE) is None


def test_what_was_not_seen_being_made_is_not_due_unless_the_pipeline_unlinked_it() -> None:
    job = make_job(status=JobStatus.COMPLETED)
    for origin in (EntryOrigin.ADOPTED, EntryOrigin.REBUILT):
        entry = make_entry(origin=origin)
        assert due_ns(hidden(entry=entry), job, 0, PRESERVE) is None
        assert due_ns(hidden(entry=entry, reason=HideReason.UNLINKED), job, 0, PRESERVE) is not None
