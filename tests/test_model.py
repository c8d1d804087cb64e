"""The words of the domain are a contract: xattrs, JSON and configuration read and write them."""

import pytest

from lffs.model import (
    FINAL_TYPES,
    SETTABLE_STATUS,
    STATUS_SUFFIX,
    SUFFIXES,
    TEMPORARY_TYPES,
    DirectoryType,
    FileType,
    JobStatus,
    JobType,
)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (JobType, "short_form long_form expression_only slides_only"),
        (
            FileType,
            """temp_video temp_slide temp_expression temp_audio temp_subtitle final_video final_slide
            metadata manifest log other""",
        ),
        (DirectoryType, "base temp slides expressions shorts long_form metadata subtitles"),
        (JobStatus, "created running completed failed cleaning_up cleaned"),
    ],
)
def test_the_words_are_those_of_the_interface(
    words: type[JobType | FileType | DirectoryType | JobStatus], values: str
) -> None:
    assert [str(word) for word in words] == values.split()
    assert [word.name for word in words] == values.upper().split()  # as in LangFlix's own enums


def test_temporary_types_are_those_named_so() -> None:
    assert {word for word in FileType if word.startswith("temp_")} == TEMPORARY_TYPES
    assert {word for word in FileType if word.is_temporary} == TEMPORARY_TYPES
    assert not TEMPORARY_TYPES & FINAL_TYPES


def test_every_status_has_a_suffix_and_no_other_suffix_exists() -> None:
    assert set(STATUS_SUFFIX) == set(JobStatus)
    assert set(STATUS_SUFFIX.values()) == {"", *SUFFIXES}


def test_people_set_three_statuses_by_four_words() -> None:
    assert SETTABLE_STATUS == {
        "running": JobStatus.RUNNING,
        "processing": JobStatus.RUNNING,
        "completed": JobStatus.COMPLETED,
        "failed": JobStatus.FAILED,
    }
