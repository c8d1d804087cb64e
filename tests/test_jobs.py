"""Which directories are jobs, by which names they are found, and every move of their status."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffs.errors import InvalidJobIdError, InvalidStatusError, JobBusyError, UnknownJobError
from lffs.jobs import NAME_MAX, JobRoots, Jobs, parse_status, suffixed
from lffs.manifest.store import Store
from lffs.model import JobStatus, JobType, StatusNames
from tests.stores import NOW_NS, make_identity, make_settings

# -- roots ------------------------------------------------------------------------------------------


def glob_matches(pattern: str, name: str) -> bool:
    """The oracle: ``*``, ``?`` and literal letters, by trying everything."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return glob_matches(pattern[1:], name) or (bool(name) and glob_matches(pattern, name[1:]))
    return bool(name) and pattern[0] in ("?", name[0]) and glob_matches(pattern[1:], name[1:])


def is_root(pattern: str, path: str) -> bool:
    patterns, names = pattern.split("/"), path.split("/")
    return len(patterns) == len(names) and all(
        glob_matches(one, name) and name != "lost+found" and (not name.startswith(".") or one.startswith("."))
        for one, name in zip(patterns, names, strict=True)
    )


def outermost_job(patterns: list[str], path: str) -> str | None:
    names = path.split("/")
    if names[0] == ".lffs":
        return None
    for depth in range(1, len(names) + 1):
        above = "/".join(names[:depth])
        if any(is_root(pattern, above) for pattern in patterns):
            return above
    return None


components = st.text("ab.*?", min_size=1, max_size=4).filter(
    lambda part: "**" not in part and part.strip(".")
)
patterns = st.lists(components, min_size=1, max_size=3).map("/".join)
file_names = st.sampled_from(["lost+found", ".lffs", ".a", "a"]) | st.text(
    "ab.é\n", min_size=1, max_size=4
).filter(lambda name: name not in (".", ".."))
file_paths = st.lists(file_names, min_size=1, max_size=4).map("/".join)


@given(roots=st.lists(patterns, min_size=1, max_size=3), path=file_paths)
def test_the_outermost_match_is_the_job(roots: list[str], path: str) -> None:
    expected = outermost_job(roots, path)
    found = JobRoots(roots).job_path(path.encode())
    assert found == (None if expected is None else expected.encode())
    assert JobRoots(roots).is_job(path.encode()) == (expected == path)


@given(root=patterns, path=file_paths)
def test_jobs_lie_below_what_may_hold_jobs(root: str, path: str) -> None:
    roots = JobRoots([root])
    if (job := roots.job_path(path.encode())) is not None:
        above = job
        while above:
            above = above.rpartition(b"/")[0]
            assert roots.may_hold_jobs(above)


def test_brackets_match_one_of_their_letters_and_no_leading_dot() -> None:
    assert JobRoots(["S0[1-3]"]).is_job(b"S02")
    assert not JobRoots(["S0[1-3]"]).is_job(b"S04")
    assert not JobRoots(["[.]a"]).is_job(b".a")
    assert JobRoots([".a*"]).is_job(b".abc")


def test_names_of_any_bytes_can_be_jobs() -> None:
    assert JobRoots(["*"]).is_job(b"\xff\xfe")
    assert JobRoots(["*"]).is_job("수트".encode())
    assert JobRoots(["??"]).is_job("수트".encode())


def test_the_mountpoint_itself_is_no_job() -> None:
    assert JobRoots(["*"]).job_path(b"") is None
    assert not JobRoots(["*/*"]).is_job(b"Suits")
    assert JobRoots(["*/*"]).may_hold_jobs(b"Suits")
    assert not JobRoots(["*/*"]).may_hold_jobs(b"Suits/S01E01")


# -- status -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b"running", JobStatus.RUNNING),
        (b"processing", JobStatus.RUNNING),
        (b"completed", JobStatus.COMPLETED),
        (b"failed", JobStatus.FAILED),
    ],
)
def test_people_set_these_words(value: bytes, status: JobStatus) -> None:
    assert parse_status(value) is status


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"created",
        b"cleaning_up",
        b"cleaned",
        b"Completed",
        b" completed",
        b"complet",
        b"\xff",
        b"a" * 1000,
    ],
)
def test_any_other_word_is_refused_with_what_is_allowed(value: bytes) -> None:
    with pytest.raises(InvalidStatusError, match="allowed are running, processing, completed, failed"):
        parse_status(value)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "manifest.db")


@pytest.fixture
def jobs(store: Store) -> Jobs:
    return Jobs(store, make_settings())


MOVES = {
    "created": {"running", "failed", "cleaning_up"},
    "running": {"running", "failed", "cleaning_up"},
    "failed": {"running", "failed", "cleaning_up"},
    "completed": {"running", "failed", "cleaning_up", "cleaned"},
    "cleaned": {"running", "failed", "cleaning_up"},
    "cleaning_up": {"completed", "failed", "cleaned"},
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(JobStatus, JobStatus)))
def test_every_move_of_the_status_is_in_the_table(jobs: Jobs, before: JobStatus, after: JobStatus) -> None:
    job = jobs.begin(b"job", NOW_NS, None)
    job.status = before
    if after in MOVES[before]:
        jobs.set_status(job, after, NOW_NS + 1)
        assert job.status is after
    else:
        with pytest.raises(InvalidStatusError, match=f"from {before} to {after}"):
            jobs.set_status(job, after, NOW_NS + 1)
        assert job.status is before


def test_people_may_not_set_what_is_cleaning_up(jobs: Jobs) -> None:
    job = jobs.begin(b"job", NOW_NS, None)
    for status in JobStatus:
        job.status = status
        if status is JobStatus.CLEANING_UP:
            with pytest.raises(JobBusyError, match="job job is cleaning_up"):
                jobs.check_settable(job)
        else:
            jobs.check_settable(job)


def test_the_moment_of_a_status_is_when_it_began(jobs: Jobs) -> None:
    """A failed job's retention counts from its failing, not from its being said again."""
    job = jobs.begin(b"job", NOW_NS, None)
    jobs.set_status(job, JobStatus.FAILED, NOW_NS + 1)
    jobs.set_status(job, JobStatus.FAILED, NOW_NS + 2)
    assert (job.status_since_ns, job.updated_ns) == (NOW_NS + 1, NOW_NS + 2)


def test_changed_jobs_are_taken_once(jobs: Jobs) -> None:
    job = jobs.begin(b"job", NOW_NS, None)
    assert jobs.take_changed() == []
    jobs.set_status(job, JobStatus.RUNNING, NOW_NS)
    jobs.set_status(job, JobStatus.FAILED, NOW_NS)
    assert jobs.take_changed() == [job]
    assert jobs.take_changed() == []


# -- names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "listed"),
    [
        (JobStatus.CREATED, b"job"),
        (JobStatus.RUNNING, b"job_processing"),
        (JobStatus.COMPLETED, b"job_completed"),
        (JobStatus.CLEANING_UP, b"job_completed"),
        (JobStatus.CLEANED, b"job_completed"),
        (JobStatus.FAILED, b"job_failed"),
    ],
)
def test_the_listed_name_shows_the_status(jobs: Jobs, status: JobStatus, listed: bytes) -> None:
    job = jobs.begin(b"Suits/job", NOW_NS, None)
    job.status = status
    assert jobs.listed_name(job) == listed
    jobs.configure(make_settings(jobs={"status_names": StatusNames.PLAIN}))
    assert jobs.listed_name(job) == b"job"


@given(length=st.integers(1, NAME_MAX), status=st.sampled_from(JobStatus))
def test_a_suffix_never_makes_a_name_too_long(length: int, status: JobStatus) -> None:
    listed = suffixed(b"x" * length, status)
    assert len(listed) <= NAME_MAX
    assert listed.startswith(b"x" * length)


def test_every_suffix_of_a_job_resolves_whatever_its_status(jobs: Jobs) -> None:
    job = jobs.begin(b"Suits/job", NOW_NS, None)
    for status in JobStatus:
        job.status = status
        for suffix in (b"_processing", b"_completed", b"_failed"):
            assert jobs.behind_alias(b"Suits", b"job" + suffix) is job
    for name in (b"job", b"job_done", b"job_failed_failed", b"_failed", b"job_Failed"):
        assert jobs.behind_alias(b"Suits", name) is None
    assert jobs.behind_alias(b"", b"job_failed") is None


def test_a_job_whose_own_name_has_a_suffix_has_aliases_of_that(jobs: Jobs) -> None:
    job = jobs.begin(b"night_failed", NOW_NS, None)
    assert jobs.behind_alias(b"", b"night_failed_completed") is job
    assert jobs.behind_alias(b"", b"night_failed") is None


@pytest.mark.parametrize("text", ["Suits/job", "Suits/job_failed", "/Suits/job/", "Suits/job_completed/"])
def test_people_name_a_job_in_these_ways(jobs: Jobs, text: str) -> None:
    job = jobs.begin(b"Suits/job", NOW_NS, None)
    assert jobs.find(text) is job


@pytest.mark.parametrize("text", ["", "/", ".", "..", "a/../b", "a//b", "./a"])
def test_what_can_be_no_job_id_is_refused(jobs: Jobs, text: str) -> None:
    with pytest.raises(InvalidJobIdError):
        jobs.find(text)


def test_a_job_that_is_not_recorded_is_unknown(jobs: Jobs) -> None:
    with pytest.raises(UnknownJobError, match="no job 'Suits/job' is recorded"):
        jobs.find("Suits/job")


def test_a_job_id_of_any_bytes_goes_to_text_and_back(jobs: Jobs) -> None:
    job = jobs.begin(b"\xff\xfe", NOW_NS, None)
    assert jobs.find(job.id) is job


# -- lives ------------------------------------------------------------------------------------------


def test_jobs_are_found_again_after_a_restart(store: Store, jobs: Jobs) -> None:
    job = jobs.begin(b"a", NOW_NS, make_identity())
    jobs.set_status(job, JobStatus.FAILED, NOW_NS)
    jobs.set_type(job, JobType.LONG_FORM, NOW_NS)
    gone = jobs.begin(b"b", NOW_NS, None)
    jobs.end(gone, NOW_NS + 1)
    again = Jobs(store, make_settings())
    assert again.live() == [job]
    assert again.at(b"a") == job
    assert again.at(b"b") is None
    assert store.jobs(ended=True) == [job, gone]


def test_a_directory_made_anew_is_a_new_job(jobs: Jobs) -> None:
    first = jobs.begin(b"a", NOW_NS, None)
    jobs.end(first, NOW_NS)
    second = jobs.begin(b"a", NOW_NS, None)
    assert second.number != first.number
    assert jobs.at(b"a") is second


def test_a_renamed_job_keeps_its_number_and_status(store: Store, jobs: Jobs) -> None:
    job = jobs.begin(b"a", NOW_NS, None)
    jobs.set_status(job, JobStatus.RUNNING, NOW_NS)
    jobs.move(job, b"b", NOW_NS)
    assert (jobs.at(b"a"), jobs.at(b"b")) == (None, job)
    assert [(found.path, found.number, found.status) for found in store.jobs()] == [
        (b"b", job.number, JobStatus.RUNNING)
    ]


def test_a_path_lies_in_the_job_that_its_directory_is(jobs: Jobs) -> None:
    job = jobs.begin(b"a", NOW_NS, None)
    assert jobs.of(b"a") is job
    assert jobs.of(b"a/b/c") is job
    assert jobs.of(b"ab") is None
    assert jobs.of(b"") is None


def test_the_type_goes_back_to_the_default(jobs: Jobs) -> None:
    job = jobs.begin(b"a", NOW_NS, None)
    jobs.set_type(job, JobType.SLIDES_ONLY, NOW_NS)
    assert (job.type, job.type_set) == (JobType.SLIDES_ONLY, True)
    jobs.set_type(job, None, NOW_NS)
    assert (job.type, job.type_set) == (JobType.SHORT_FORM, False)


# -- policy -----------------------------------------------------------------------------------------


@given(
    enabled=st.booleans(),
    debug=st.booleans(),
    disables=st.booleans(),
    own=st.none() | st.booleans(),
)
def test_a_job_is_cleaned_by_itself_unless_disabled_or_debugged(
    tmp_path_factory: pytest.TempPathFactory, enabled: bool, debug: bool, disables: bool, own: bool | None
) -> None:
    """Requirements 4.1 and 4.4; what a job says of itself counts before the configuration."""
    store = Store(tmp_path_factory.mktemp("policy") / "manifest.db")
    jobs = Jobs(
        store,
        make_settings(debug=debug, cleanup={"enabled": enabled, "debug_mode_disables": disables}),
    )
    job = jobs.begin(b"a", NOW_NS, None)
    job.debug = own
    is_debugged = debug if own is None else own
    assert jobs.cleans_automatically(job) == (enabled and not (is_debugged and disables))
    store.close(clean=True)


def test_a_jobs_own_retention_counts_before_the_configurations(jobs: Jobs) -> None:
    job = jobs.begin(b"a", NOW_NS, None)
    assert jobs.retention_hours(job) == 24
    job.retention_hours = 0
    assert jobs.retention_hours(job) == 0
