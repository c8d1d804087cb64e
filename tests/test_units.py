"""Durations and sizes: what people write is read, what lffs prints can be read back."""

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffs.units import (
    MAX_RETENTION_HOURS,
    MinFree,
    format_duration,
    format_size,
    parse_duration,
    parse_min_free,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90m", timedelta(minutes=90)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("45s", timedelta(seconds=45)),
        ("1h30m", timedelta(minutes=90)),
        ("1h 30m", timedelta(minutes=90)),
        (" 1d12h ", timedelta(hours=36)),
        ("1.5h", timedelta(minutes=90)),
        ("7D", timedelta(days=7)),
        ("0", timedelta(0)),
        ("0s", timedelta(0)),
    ],
)
def test_durations_read_as_people_write_them(text: str, meant: timedelta) -> None:
    assert parse_duration(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "h",
        "-1h",
        "1x",
        "30m1h",
        "1h1h",
        "1h30",
        "1,5h",
        "nan",
        "inf",
        "1e3h",
        "٣h",
        "1h\n2",
        "9" * 40,
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="90m, 24h, 7d or 1h30m"):
        parse_duration(text)


def test_a_plain_number_counts_in_the_unit_that_the_caller_gives() -> None:
    assert parse_duration("36", plain_unit="h") == timedelta(hours=36)
    assert parse_duration("1.5", plain_unit="d") == timedelta(hours=36)


def test_more_than_a_hundred_years_is_refused() -> None:
    assert parse_duration(f"{MAX_RETENTION_HOURS}h") == timedelta(hours=MAX_RETENTION_HOURS)
    with pytest.raises(ValueError, match="100 years"):
        parse_duration(f"{MAX_RETENTION_HOURS + 1}h")


@pytest.mark.parametrize(
    ("duration", "printed"),
    [
        (timedelta(0), "0s"),
        (timedelta(milliseconds=900), "0s"),
        (timedelta(seconds=59), "59s"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(hours=24), "1d"),
        (timedelta(days=6, hours=23, minutes=59), "6d23h"),
        (timedelta(days=1, seconds=5), "1d"),
        (timedelta(days=400), "400d"),
        (timedelta(minutes=-90), "-1h30m"),
    ],
)
def test_durations_are_printed_in_their_two_greatest_units(duration: timedelta, printed: str) -> None:
    assert format_duration(duration) == printed


@given(st.timedeltas(timedelta(0), timedelta(hours=MAX_RETENTION_HOURS)))
def test_a_printed_duration_is_read_back_and_never_longer(duration: timedelta) -> None:
    read = parse_duration(format_duration(duration))
    assert read <= duration
    # Less than one of the second unit is lost, which is at most a 24th of the first.
    assert duration - read < max(timedelta(seconds=1), duration / 24)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("10GiB", 10 * 1024**3),
        ("500MB", 500 * 1000**2),
        ("10G", 10 * 1024**3),
        ("1.5 kib", 1536),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_sizes_read_as_coreutils_reads_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "5%", "1ib", "10 gigs", "1e3", "nan", "1_000"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="10GiB, 500MB"):
        parse_size(text)


def test_a_size_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        parse_size("9EiB")


@pytest.mark.parametrize(
    ("size", "printed"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (10 * 1024**3, "10.0 GiB"),
        (2**63 - 1, "8.0 EiB"),
        (-1536, "-1.5 KiB"),
    ],
)
def test_sizes_are_printed_in_the_unit_that_leaves_few_digits(size: int, printed: str) -> None:
    assert format_size(size) == printed


@given(st.integers(0, 2**62))
def test_a_printed_size_is_read_back_to_within_its_last_digit(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= size / 19


def test_free_space_is_bytes_or_a_share_of_the_filesystem() -> None:
    assert parse_min_free("10GiB").needed_bytes(10**15) == 10 * 1024**3
    assert parse_min_free("5%").needed_bytes(1001) == 51
    assert parse_min_free("0%").needed_bytes(1001) == 0


@pytest.mark.parametrize("text", ["101%", "-1%", "%", "5 percent", "nan%", ""])
def test_a_share_that_can_not_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="%"):
        parse_min_free(text)


@given(
    st.one_of(
        st.builds(MinFree, st.integers(0, 10**14).map(float), is_percent=st.just(False)),
        st.builds(MinFree, st.integers(0, 100).map(float), is_percent=st.just(True)),
    )
)
def test_printed_free_space_is_read_back(min_free: MinFree) -> None:
    assert parse_min_free(str(min_free)) == min_free


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_with_a_value_error(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_min_free):
        with contextlib.suppress(ValueError):
            parse(text)
