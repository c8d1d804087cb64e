"""Rules give files their types: the first that matches, by gitignore's syntax, for names of any bytes."""

import functools
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lffs.classify import Classifier, pattern_regex
from lffs.config import Rule, Settings, find_profile, load_settings
from lffs.model import FileType, JobType

SHORT_FORM = JobType.SHORT_FORM


def matches(pattern: str, path: bytes) -> bool:
    """Whether a classifier with this rule alone takes the path for a log."""
    return Classifier([Rule(match=pattern, type=FileType.LOG)]).classify(path, SHORT_FORM) is FileType.LOG


@functools.cache
def alone(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern_regex(pattern), re.DOTALL)


def first_match(rules: list[Rule], path: bytes, job_type: JobType) -> FileType:
    """The oracle: rule by rule, each with an expression of its own."""
    text = "/" + os.fsdecode(path)
    for rule in rules:
        if rule.job_types is not None and job_type not in rule.job_types:
            continue
        if alone(rule.match).match(text):
            return rule.type
    return FileType.OTHER


def test_what_no_rule_names_is_other() -> None:
    assert Classifier([]).classify(b"a.mkv", SHORT_FORM) is FileType.OTHER
    assert Classifier([Rule(match="*.wav", type=FileType.LOG)]).classify(b"a", SHORT_FORM) is FileType.OTHER


def test_the_first_rule_that_matches_wins_even_if_a_later_one_matches_further_left() -> None:
    classifier = Classifier(
        [Rule(match="*.wav", type=FileType.TEMP_AUDIO), Rule(match="/a", type=FileType.FINAL_VIDEO)]
    )
    assert classifier.classify(b"a/b/c.wav", SHORT_FORM) is FileType.TEMP_AUDIO
    assert classifier.classify(b"a/b/c.mkv", SHORT_FORM) is FileType.FINAL_VIDEO


def test_an_earlier_rule_wins_on_a_directory_over_a_later_one_on_the_name() -> None:
    classifier = Classifier(
        [Rule(match="temp_*", type=FileType.TEMP_VIDEO), Rule(match="*.log", type=FileType.LOG)]
    )
    assert classifier.classify(b"temp_x/a.log", SHORT_FORM) is FileType.TEMP_VIDEO


def test_a_rule_holds_for_its_job_types_alone() -> None:
    rules = [
        Rule(match="*.mkv", type=FileType.FINAL_VIDEO, job_types=frozenset({JobType.EXPRESSION_ONLY})),
        Rule(match="*.mkv", type=FileType.TEMP_EXPRESSION),
    ]
    classifier = Classifier(rules)
    assert classifier.classify(b"a.mkv", JobType.EXPRESSION_ONLY) is FileType.FINAL_VIDEO
    for job_type in set(JobType) - {JobType.EXPRESSION_ONLY}:
        assert classifier.classify(b"a.mkv", job_type) is FileType.TEMP_EXPRESSION


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.mkv", b"a\nb.mkv"),
        ("*.mkv", b"dir\nwith\nlines/b.mkv"),
        ("**/slides/*", b"\n/slides/\n"),
        ("temp_*", b"x\n/temp_\n"),
        ("*.mkv", b"\xff\xfe.mkv"),
        ("a?b", b"a\xffb"),
        ("a?b", "a한b".encode()),
        ("한국어_*", "ko/한국어_x".encode()),
        ("x[[]1]*", b"x[1].mkv"),
        ("x\\[1\\]*", b"x[1].mkv"),
        ("*", b"\n"),
        ("**", b"\n"),
        ("*/", b"\n/\n"),
        ("temp/**", b"temp/a/b"),
        ("a$", b"a$"),
        ("a|b", b"a|b"),
    ],
)
def test_a_pattern_matches_whatever_the_bytes_around_it(pattern: str, path: bytes) -> None:
    assert matches(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.mkv", b"a.mkv\n"),  # re's $ would match before the newline
        ("*.mkv", b"a.mkvx"),
        ("*.mkv", b"\na.mk"),
        ("temp_*", b"short_form_01_temp_x.mkv"),
        ("a/*", b"b/a/c"),
        ("[!t]*.mkv", b"temp/temp.txt"),
        ("a[!x]b", b"a/b"),  # no bracket matches a slash
        ("a[+-9]b", b"a/b"),  # "/" lies between + and 9
        ("*/", b"a"),
        ("temp/**", b"temp"),
        ("temp/**", b"a/temp/b"),
        ("a|b", b"a"),
    ],
)
def test_a_pattern_does_not_match_more_than_it_says(pattern: str, path: bytes) -> None:
    assert not matches(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "matches nothing"),
        ("  ", "matches nothing"),
        ("/", "matches nothing"),
        ("!*.mkv", "leading !"),
        ("#x", "comment"),
        ("[a", "matches nothing"),
        ("[z-a]", "bad character range"),
        ("a\\", "no valid gitignore pattern"),
        ("[[:digit:]]", r"\[0-9\]"),
        ("a//b", "matches nothing"),
        ("./a", "matches nothing"),
        ("../a", "matches nothing"),
    ],
)
def test_a_pattern_that_could_not_do_what_it_says_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        pattern_regex(pattern)


def test_git_itself_agrees(tmp_path: Path) -> None:
    """A table of patterns and paths, asked of git check-ignore.

    ASCII alone: to git ? is one byte, here it is one character.
    """
    patterns = [
        "a", "/a", "a/", "a/b", "/a/b", "**/a", "a/**", "a/**/b", "**/a/*", "*", "*/b", "a*", "*a", "?",
        "a?b", "[ab]", "[!a]", "[^a]*", "a[!x]b", "a[+-9]b", "\\!a", "\\#a", "*.mkv", "temp_*", "x[[]1]",
        "a\\*", "**",
    ]  # fmt: skip
    paths = [
        "a", "b", "a/a", "a/b", "b/a", "a/b/c", "b/a/c", "a/x/b", "a/x/y/b", "x/a/b", "ab", "axb", "a.mkv",
        "b/a.mkv", "temp_x", "q/temp_/z", "!a", "#a", "x[1]", "a*", "b/ba/c", "a\nb", "c/a\nb", "c.mkv\n",
        "c\n/a",
    ]  # fmt: skip
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for pattern in patterns:
        (tmp_path / ".git" / "info" / "exclude").write_text(f"{pattern}\n")
        asked = subprocess.run(
            ["git", "-C", tmp_path, "check-ignore", "--no-index", "-z", "--stdin"],
            input="\0".join(paths).encode(),
            stdout=subprocess.PIPE,
            check=False,  # 1: nothing is ignored
        )
        ignored = {path.decode() for path in asked.stdout.split(b"\0") if path}
        # A directory pattern is asked of paths that do not exist, which git takes for files, as we do.
        assert {path for path in paths if matches(pattern, path.encode())} == ignored, pattern


# Few letters, so that patterns and paths meet; all that gitignore's syntax and re's have in common.
pattern_texts = st.text("ab/*?[]!^-\\$.|()\n_", min_size=1, max_size=8)
path_bytes = st.lists(
    st.sampled_from([b"a", b"b", b"/", b"_", b".", b"\n", b"$", b"|", b"\xff", "한".encode()]),
    min_size=1,
    max_size=8,
).map(b"".join)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    job_types = draw(st.none() | st.frozensets(st.sampled_from(JobType), min_size=1))
    file_type = draw(st.sampled_from(FileType))
    return Rule(match=draw(pattern_texts.filter(is_pattern)), type=file_type, job_types=job_types)


def is_pattern(text: str) -> bool:
    try:
        pattern_regex(text)
    except ValueError:
        return False
    return True


@given(st.lists(rules(), max_size=6), path_bytes, st.sampled_from(JobType))
@example([Rule(match="b", type=FileType.LOG), Rule(match="/a", type=FileType.OTHER)], b"a/b", SHORT_FORM)
def test_the_combined_expression_gives_what_asking_rule_by_rule_gives(
    some_rules: list[Rule], path: bytes, job_type: JobType
) -> None:
    classifier = Classifier(some_rules)
    expected = first_match(some_rules, path, job_type)
    assert classifier.classify(path, job_type) is expected
    assert classifier.explain(path, job_type).type is expected


@functools.cache
def shipped(profile: str) -> tuple[list[Rule], Classifier]:
    some_rules = list(load_settings(find_profile(profile)).settings.classify)
    return some_rules, Classifier(some_rules)


@pytest.mark.parametrize("profile", ["default", "langflix"])
@given(data=st.data())
def test_so_it_does_with_the_rules_that_come_with_lffs(profile: str, data: st.DataObject) -> None:
    some_rules, classifier = shipped(profile)
    words = sorted({word for rule in some_rules for word in re.split(r"[*/\[\]]+", rule.match) if word})
    parts = st.sampled_from([*words, "/", "/", "ko", "x", "\n", "01"])
    path = "".join(data.draw(st.lists(parts, min_size=1, max_size=8))).strip("/").encode()
    job_type = data.draw(st.sampled_from(JobType))
    assert classifier.classify(path, job_type) is first_match(some_rules, path, job_type)


@given(st.text(max_size=10))
def test_any_text_is_a_pattern_or_refused_with_a_value_error(text: str) -> None:
    if is_pattern(text):
        re.compile(pattern_regex(text))


def test_an_explanation_names_the_winner_and_why_the_others_lost() -> None:
    wav, only_long, temp, late = (
        Rule(match="*.wav", type=FileType.TEMP_AUDIO),
        Rule(match="*.mkv", type=FileType.FINAL_VIDEO, job_types=frozenset({JobType.LONG_FORM})),
        Rule(match="temp_*", type=FileType.TEMP_VIDEO),
        Rule(match="*", type=FileType.LOG),
    )
    explanation = Classifier([wav, only_long, temp, late]).explain(b"ko/temp_x.mkv", SHORT_FORM)
    assert explanation.type is FileType.TEMP_VIDEO
    assert explanation.winner is temp
    assert [(loser.rule, loser.why) for loser in explanation.losers] == [
        (wav, "does not match"),
        (only_long, "is not for jobs of type short_form"),
        (late, "matches, but an earlier rule won"),
    ]


def test_an_explanation_without_a_winner_says_other() -> None:
    explanation = Classifier(Settings().classify).explain(b"nothing.known", SHORT_FORM)
    assert (explanation.type, explanation.winner) == (FileType.OTHER, None)
    assert len(explanation.losers) == len(Settings().classify)
