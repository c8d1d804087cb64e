"""YAML as plain values with their lines; nothing in a text can run anything or go on for ever."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffs.located_yaml import dotted, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("yes", True),
        ("OFF", False),
        ("'yes'", "yes"),
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        ("!!str 5", "5"),
        ("010", "010"),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("1_000", "1_000"),
        ("5%", "5%"),
        ("10GiB", "10GiB"),
        ("[a, 1]", ["a", 1]),
        ("{a: {b: }}", {"a": {"b": None}}),
        ("1: x", {"1": "x"}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
    ],
)
def test_scalars_are_typed_as_people_read_them(text: str, value: object) -> None:
    document = read_yaml(text)
    assert document.problems == []
    assert document.value == value
    assert type(document.value) is type(value)


def test_no_number_is_one_too() -> None:
    value = read_yaml(".nan").value
    assert isinstance(value, float)
    assert math.isnan(value)


def test_the_line_of_a_part_is_that_of_its_key_or_of_the_item() -> None:
    document = read_yaml("# x\na:\n  b:\n    - 1\n    -\n      c: 2\n")
    assert document.lines == {
        (): 2,
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "b", 0): 4,
        ("a", "b", 1): 6,
        ("a", "b", 1, "c"): 6,
    }


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: 2\na: 3", 3, "a: given twice, first in line 1"),
        ("\na: [", 2, "not valid YAML"),
        ("a: !!python/object:x.Y {}", 1, "tag"),
        ("a: !!binary aGk=", 1, "tag"),
        ("a: !!set {b}", 1, "tag"),
        ("a: !!int x", 1, "no number"),
        ("a: " + "9" * 5000, 1, "no number"),
        ('a: "\\ud83d"', 1, "surrogate"),
        ("a: *nobody", 1, "alias"),
        ("a: &a\n  b: *a", 1, "contains itself"),
    ],
)
def test_a_problem_is_told_with_its_line(text: str, line: int, says: str) -> None:
    ((found_line, problem),) = read_yaml(text).problems
    assert found_line == line
    assert says in problem


@given(st.text("ab:-[]{}&*!|>'\"\n #%@,?\t\\u0", max_size=40) | st.text(max_size=20))
def test_any_text_is_a_value_or_has_a_problem(text: str) -> None:
    document = read_yaml(text)
    assert document.problems == [] or all(line >= 1 and problem for line, problem in document.problems)


def test_a_path_is_written_as_people_write_it() -> None:
    assert dotted(("classify", 2, "type")) == "classify[2].type"
    assert dotted(()) == "the document"
