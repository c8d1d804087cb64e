"""config/langflix.yaml: every name that LangFlix gives or gave to a file has its right type.

Paths are relative to the job's directory (SERIES/EPISODE); X stands for the text of an expression, and
is replaced by texts that try to be taken for something else.
"""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lffs.classify import Classifier
from lffs.config import find_profile, load_settings
from lffs.model import TEMPORARY_TYPES, FileType, JobType, StatusNames

SETTINGS = load_settings(find_profile("langflix")).settings
CLASSIFIER = Classifier(SETTINGS.classify)

TEMPORARY = [
    # 2. Temporary files, in expressions/ unless another directory is given
    ("ko/expressions/temp_context_clip_X.mkv", FileType.TEMP_EXPRESSION),
    ("ko/expressions/temp_context_clip_reset_X.mkv", FileType.TEMP_EXPRESSION),
    ("ko/expressions/temp_expr_clip_long_form_X.mkv", FileType.TEMP_EXPRESSION),
    ("ko/expressions/temp_expr_clip_long_form_reset_X.mkv", FileType.TEMP_EXPRESSION),
    ("ko/expressions/temp_expr_repeated_long_form_X.mkv", FileType.TEMP_EXPRESSION),
    ("ko/expressions/temp_context_expr_long_form_X.mkv", FileType.TEMP_EXPRESSION),
    ("ko/expressions/temp_context_transition_X.mkv", FileType.TEMP_EXPRESSION),
    ("ko/expressions/temp_long_form_X.mkv", FileType.TEMP_VIDEO),
    ("ko/expressions/temp_long_form_with_logo_X.mkv", FileType.TEMP_VIDEO),
    ("ko/expressions/temp_transition_1.2s_16x9.mkv", FileType.TEMP_VIDEO),
    ("ko/expressions/temp_adjusted_subtitle_X.srt", FileType.TEMP_SUBTITLE),
    ("ko/expressions/wrapped_temp_adjusted_subtitle_X.srt", FileType.TEMP_SUBTITLE),
    ("ko/expressions/temp_slide_X.mkv", FileType.TEMP_SLIDE),
    ("ko/expressions/temp_expression_audio_X.wav", FileType.TEMP_AUDIO),
    ("ko/expressions/temp_expression_audio_final_X.wav", FileType.TEMP_AUDIO),
    ("ko/expressions/temp_scaled_X.mkv", FileType.TEMP_VIDEO),
    ("ko/expressions/temp_overlayed_X.mkv", FileType.TEMP_VIDEO),
    ("ko/shorts/temp_scaled_X.mkv", FileType.TEMP_VIDEO),
    ("ko/shorts/temp_with_credit_short_form_01_X.mkv", FileType.TEMP_VIDEO),
    ("ko/videos/temp_master_clip_burned_01_X.mkv", FileType.TEMP_VIDEO),
    ("ko/subtitles/wrapped_expression_01_X.srt", FileType.TEMP_SUBTITLE),
    ("ko/subtitles/expression_01_X.srt", FileType.TEMP_SUBTITLE),
    ("ko/long/temp_concat_list_combined.txt", FileType.TEMP_VIDEO),
    # dead code
    ("ko/shorts/temp_concat_batch_1.txt", FileType.TEMP_VIDEO),
    ("ko/shorts/silence_fallback_1.wav", FileType.TEMP_AUDIO),
    ("ko/shorts/short_silence_fallback_1.wav", FileType.TEMP_AUDIO),
    ("ko/expressions/context_audio_timeline_X_1.wav", FileType.TEMP_AUDIO),
    ("ko/expressions/expression_1_timeline.wav", FileType.TEMP_AUDIO),
    ("ko/expressions/expression_1_timeline.mp3", FileType.TEMP_AUDIO),
    # older versions
    ("ko/expressions/temp_vstack_short_X.mkv", FileType.TEMP_VIDEO),
    ("ko/expressions/temp_expr_clip_long_X.mkv", FileType.TEMP_EXPRESSION),
    ("ko/expressions/temp_expr_repeated_X.mkv", FileType.TEMP_EXPRESSION),
    ("ko/expressions/temp_timeline_X.wav", FileType.TEMP_AUDIO),
    ("ko/expressions/temp_timeline_X.mp3", FileType.TEMP_AUDIO),
    ("ko/expressions/temp_tts_X.mp3", FileType.TEMP_AUDIO),
    ("ko/expressions/temp_tts_X.wav", FileType.TEMP_AUDIO),
    ("ko/expressions/temp_concat_timeline_X.txt", FileType.TEMP_VIDEO),
    ("ko/expressions/temp_structured_X.mkv", FileType.TEMP_VIDEO),
    ("ko/expressions/temp_structured_video_X.mkv", FileType.TEMP_VIDEO),
    ("ko/expressions/temp_dual_lang_X.srt", FileType.TEMP_SUBTITLE),
    ("ko/expressions/temp_dual_lang_X.mkv", FileType.TEMP_VIDEO),
    ("ko/expressions/temp_short_with_expression_X.mkv", FileType.TEMP_VIDEO),
    ("ko/expressions/temp_slide_silent_X.mkv", FileType.TEMP_SLIDE),
    ("ko/expressions/temp_audio_silence_X.wav", FileType.TEMP_AUDIO),
    # the older layouts of section 1
    ("shared/video_clips/clip_X.mkv", FileType.TEMP_VIDEO),
    ("shared/audio_clips/clip_X.wav", FileType.TEMP_AUDIO),
    ("translations/ko/subtitles/X.srt", FileType.TEMP_SUBTITLE),
    ("translations/ko/context_videos/context_X.mkv", FileType.TEMP_EXPRESSION),
    ("translations/ko/context_slide_combined/temp_combined_X.mkv", FileType.TEMP_VIDEO),
    ("translations/ko/videos/temp_vstack_short_X.mkv", FileType.TEMP_VIDEO),
    ("translations/ko/structured_videos/temp_structured_X.mkv", FileType.TEMP_VIDEO),
    ("ko/context_videos/context_X.mkv", FileType.TEMP_EXPRESSION),
    ("ko/videos/temp_structured_X.mkv", FileType.TEMP_VIDEO),
    ("ko/temp_expr_clip_long_form_X.mkv", FileType.TEMP_EXPRESSION),
    ("ko/temp_slide_X.mkv", FileType.TEMP_SLIDE),
    ("ko/temp_expression_audio_X.wav", FileType.TEMP_AUDIO),
    ("ko/temp_adjusted_subtitle_X.srt", FileType.TEMP_SUBTITLE),
    ("ko/temp_long_form_X.mkv", FileType.TEMP_VIDEO),
    ("ko/wrapped_expression_01_X.srt", FileType.TEMP_SUBTITLE),
    ("ko/expression_01_X.srt", FileType.TEMP_SUBTITLE),
    # what would lie outside of OUT, when `lffs run` sets TMPDIR
    ("temp/context_clip_01_X_abcd1234.mkv", FileType.TEMP_VIDEO),
    ("temp/0f8fad5b-d9cb-469f-a165-70867728950e_video_Suits.S01E01.mkv", FileType.TEMP_VIDEO),
    ("temp/0f8fad5b-d9cb-469f-a165-70867728950e_subtitle_Suits.S01E01.srt", FileType.TEMP_VIDEO),
    ("temp/langflix_abcd1234/x", FileType.TEMP_VIDEO),
    ("temp/tmpabcd1234.txt", FileType.TEMP_VIDEO),
    ("temp/tmpabcd1234.jpg", FileType.TEMP_VIDEO),
]

# Intermediate for most jobs, what the job is there to make for one: (path, type, that job, type there).
RESULTS_OF_ONE_JOB_TYPE = [
    (path, intermediate, job_type, result)
    for paths, intermediate, job_type, result in (
        (
            [
                "ko/expressions/expression_01_X.mkv",
                "ko/videos/expressions/expression_X.mkv",
                "ko/expression_01_X.mkv",
            ],
            FileType.TEMP_EXPRESSION,
            JobType.EXPRESSION_ONLY,
            FileType.FINAL_VIDEO,
        ),
        (
            [
                "ko/slides/slide_X.mkv",
                "ko/slides/X.png",
                "ko/slide_X.mkv",
                "translations/ko/slides/slide_X.mkv",
            ],
            FileType.TEMP_SLIDE,
            JobType.SLIDES_ONLY,
            FileType.FINAL_SLIDE,
        ),
    )
    for path in paths
]

FINAL = [
    # 3. Final outputs and sidecars
    ("ko/shorts/short_form_01_X.mkv", FileType.FINAL_VIDEO),
    ("ko/shorts/short_form_01_X_1767182400.mkv", FileType.FINAL_VIDEO),
    ("ko/shorts/short_form_01_X.meta.json", FileType.METADATA),
    ("ko/shorts/short_form_01_X.meta.txt", FileType.METADATA),
    ("ko/long/combined.mkv", FileType.FINAL_VIDEO),
    ("llm_responses/expression_analyst_prompt.txt", FileType.METADATA),
    ("llm_responses/expression_analyst_response.txt", FileType.METADATA),
    ("ko/llm_responses/translator_response.txt", FileType.METADATA),
    ("expressions.json", FileType.METADATA),
    ("processing_log_20260131_120000.txt", FileType.LOG),
    # dead or old
    ("ko/long/long-form_Suits.S01E01_X.mkv", FileType.FINAL_VIDEO),
    ("ko/shorts/short-form_Suits.S01E01_001.mkv", FileType.FINAL_VIDEO),
    ("ko/shorts/short-form_Suits.S01E01_001.meta.json", FileType.METADATA),
    ("ko/expressions/educational_X.mkv", FileType.FINAL_VIDEO),
    ("ko/expressions/short_X.mkv", FileType.FINAL_VIDEO),
    ("llm_response_1760000000.json", FileType.METADATA),
    ("llm_response_1760000000_chunk_1.json", FileType.METADATA),
    ("metadata/llm_outputs/llm_output_1.txt", FileType.METADATA),
    ("metadata/llm_outputs/anything.json", FileType.METADATA),
    ("full_prompt_debug_1.txt", FileType.METADATA),
    ("ko/shorts/short_form_01_X_thumb.jpg", FileType.METADATA),
    # the older layouts of section 1
    ("translations/ko/final_videos/X.mkv", FileType.FINAL_VIDEO),
    ("translations/ko/final_videos/educational_X.mkv", FileType.FINAL_VIDEO),
    ("translations/ko/short_videos/X.mkv", FileType.FINAL_VIDEO),
    ("translations/ko/short_form_videos/short-form_Suits.S01E01_001.mkv", FileType.FINAL_VIDEO),
    ("translations/ko/long_form_videos/X.mkv", FileType.FINAL_VIDEO),
    ("translations/ko/videos/long-form_Suits.S01E01_X.mkv", FileType.FINAL_VIDEO),
    ("translations/ko/videos/short-form_Suits.S01E01_001.mkv", FileType.FINAL_VIDEO),
    ("ko/videos/short_X.mkv", FileType.FINAL_VIDEO),
    # results and intermediates alike lay there, under names that say nothing: kept
    ("shared/templates/X.png", FileType.OTHER),
    ("translations/ko/context_slide_combined/X.mkv", FileType.OTHER),
    ("translations/ko/structured_videos/X.mkv", FileType.OTHER),
    ("ko/videos/X.mkv", FileType.OTHER),
]

TEXTS = [
    "get_the_ball_rolling",
    "temp_x",
    "slide",
    "한국어_표현",
    "[what]_a_day!",
    "it's,_ok",
    "🙂",
    "expression_1_timeline",
]


def typed(path: str, job_type: JobType) -> FileType:
    return CLASSIFIER.classify(path.encode(), job_type)


def every_text(path: str) -> set[str]:
    """The path with every text for X, where X does not begin the name: LangFlix writes none that does."""
    if path.rpartition("/")[2].startswith("X"):
        return {path.replace("X", "get_the_ball_rolling")}
    return {path.replace("X", text) for text in TEXTS}


@pytest.mark.parametrize("job_type", JobType)
@pytest.mark.parametrize(("path", "file_type"), TEMPORARY)
def test_every_temporary_name_has_its_type(path: str, file_type: FileType, job_type: JobType) -> None:
    assert file_type in TEMPORARY_TYPES
    for name in every_text(path):
        assert typed(name, job_type) is file_type, name


@pytest.mark.parametrize("job_type", JobType)
@pytest.mark.parametrize(("path", "file_type"), FINAL)
def test_every_final_name_and_sidecar_has_its_type(path: str, file_type: FileType, job_type: JobType) -> None:
    assert file_type not in TEMPORARY_TYPES
    for name in every_text(path):
        assert typed(name, job_type) is file_type, name


@pytest.mark.parametrize("job_type", JobType)
@pytest.mark.parametrize(("path", "intermediate", "maker", "result"), RESULTS_OF_ONE_JOB_TYPE)
def test_what_a_job_is_there_to_make_is_final_for_it_and_temporary_for_others(
    path: str, intermediate: FileType, maker: JobType, result: FileType, job_type: JobType
) -> None:
    for name in every_text(path):
        assert typed(name, job_type) is (result if job_type is maker else intermediate), name


def test_any_other_video_in_expressions_is_temporary_for_shorts_alone() -> None:
    """LangFlix removes the whole directory after a good run; other jobs may have made it for its own sake."""
    path = "ko/expressions/clip.mkv"
    assert typed(path, JobType.SHORT_FORM) is FileType.TEMP_EXPRESSION
    assert {typed(path, job_type) for job_type in set(JobType) - {JobType.SHORT_FORM}} == {FileType.OTHER}


# What LangFlix's sanitizer lets through, and more; a name has one component.
expression_texts = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=50
)


@given(expression_texts, st.integers(1, 99), st.sampled_from(JobType))
@example("temp_x", 1, JobType.SHORT_FORM)
@example("x.wav", 1, JobType.SLIDES_ONLY)
@example("x\n", 1, JobType.EXPRESSION_ONLY)
def test_no_expression_can_make_a_final_output_temporary(text: str, number: int, job_type: JobType) -> None:
    for path in (
        f"ko/shorts/short_form_{number:02}_{text}.mkv",
        f"ko/shorts/short_form_{number:02}_{text}_1767182400.mkv",
        f"translations/ko/final_videos/educational_{text}.mkv",
    ):
        assert typed(path, job_type) is FileType.FINAL_VIDEO
    assert typed(f"ko/shorts/short_form_{number:02}_{text}.meta.json", job_type) is FileType.METADATA


@given(expression_texts, st.sampled_from(JobType))
def test_no_expression_can_make_a_temporary_file_final(text: str, job_type: JobType) -> None:
    for path in (
        f"ko/expressions/temp_long_form_{text}.mkv",
        f"ko/shorts/temp_with_credit_short_form_01_{text}.mkv",
        f"ko/expressions/temp_expression_audio_{text}.wav",
        f"ko/subtitles/wrapped_expression_01_{text}.srt",
    ):
        assert typed(path, job_type) in TEMPORARY_TYPES


def test_a_credit_temporary_becomes_a_final_by_its_rename() -> None:
    """LangFlix renames the one onto the other in the same directory."""
    assert typed("ko/shorts/temp_with_credit_short_form_01_a.mkv", JobType.SHORT_FORM) in TEMPORARY_TYPES
    assert typed("ko/shorts/short_form_01_a.mkv", JobType.SHORT_FORM) is FileType.FINAL_VIDEO


def test_jobs_are_episodes_listed_by_their_plain_names_and_keep_what_langflix_unlinks() -> None:
    assert SETTINGS.jobs.roots == ("*/*",)
    assert SETTINGS.jobs.status_names is StatusNames.PLAIN
    assert SETTINGS.cleanup.keep_unlinked == TEMPORARY_TYPES


def test_every_rule_decides_something() -> None:
    """A rule that no name of the tables needs is one that nobody tests."""
    paths = [path for path, *_ in [*TEMPORARY, *FINAL, *RESULTS_OF_ONE_JOB_TYPE]] + [
        "ko/expressions/clip.mkv"
    ]
    winners = {
        CLASSIFIER.explain(name.encode(), job_type).winner
        for path in paths
        for name in every_text(path)
        for job_type in JobType
    }
    assert [rule for rule in SETTINGS.classify if rule not in winners] == []
