"""Durations, sizes, URLs, booleans and lists: what is read, what is refused, and that showing a value can be undone."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.parsers import (
    BOOLEAN,
    DURATION,
    INTEGER,
    NUMBER,
    SIZE,
    STRINGS,
    BadValue,
    choice,
    format_duration,
    format_size,
    integer,
    number,
    parse_bool,
    parse_duration,
    parse_size,
    parse_url,
    url,
    urls,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("100ms", 0.1),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("-2s", -2.0),
        ("+2s", 2.0),
        ("1h1m1s1ms1us1ns", 3661.001001001),
        ("3µs", 3e-6),
        ("3\u03bcs", 3e-6),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "-", "+", ".", ".s", "1h 30m", "5 s", "1d", "5sec", "٣s", "1e3s", "s5"])
def test_not_durations(text: str) -> None:
    with pytest.raises(BadValue, match="is not a duration"):
        parse_duration(text)


def test_a_duration_past_go_s_range_is_refused() -> None:
    with pytest.raises(BadValue, match="292 years"):
        parse_duration("9999999h")


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_a_shown_duration_is_read_back(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds / 1e9)) == nanoseconds / 1e9


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (5400, "1h30m"), (0.1, "100ms"), (1.5, "1.5s"), (-3, "-3s"), (61.25, "1m1.25s")]
)
def test_durations_are_shown_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("64KiB", 65536),
        ("64Ki", 65536),
        ("64kib", 65536),
        ("8GB", 8 * 10**9),
        ("8 GiB", 8 * 2**30),
        ("1.5GiB", 3 * 2**29),
        ("2M", 2_000_000),
        ("7B", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "GiB", "8 parsecs", "1e3", "1.", "0x10", "٣", "1 2"])
def test_not_sizes(text: str) -> None:
    with pytest.raises(BadValue, match="is not a byte size"):
        parse_size(text)


def test_sizes_are_whole_bytes_within_reach() -> None:
    with pytest.raises(BadValue, match="whole number of bytes"):
        parse_size("0.5")
    with pytest.raises(BadValue, match="8 EiB"):
        parse_size("9999PiB")


@given(st.integers(min_value=0, max_value=2**62))
def test_a_shown_size_is_read_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_a_url_in_parts() -> None:
    found = parse_url("redis://me:p%40ss@[::1]:6379/0?x=1", ("redis",))
    assert (found.scheme, found.host, found.port, found.path, found.query) == ("redis", "::1", 6379, "/0", "x=1")
    assert (found.user, found.password, found.authority) == ("me", "p@ss", "[::1]:6379")


def test_a_url_never_shows_its_password() -> None:
    found = parse_url("redis://me:hunter2@host:6379")
    assert "hunter2" not in f"{found} {found!r}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no scheme"),
        ("host:2379", "no scheme"),
        ("http://", "no host"),
        ("http://host:", "empty port"),
        ("http://host:99999", "no number from 0 to 65535"),
        ("http://host:abc", "no number from 0 to 65535"),
        ("http://ho st", "not a URL"),
        ("http://[::1", "not a URL"),
        ("ftp://host", "scheme 'ftp'"),
    ],
)
def test_not_urls(text: str, why: str) -> None:
    with pytest.raises(BadValue, match=why):
        parse_url(text, ("http", "https"))


def test_an_engine_address_needs_no_host() -> None:
    assert parse_url("lmdb:///var/lib/wharf").path == "/var/lib/wharf"


@given(st.text())
def test_any_text_is_a_url_or_refused(text: str) -> None:
    with suppress(BadValue):
        assert parse_url(text).text == text


def test_lists_of_urls() -> None:
    parser = urls("http", "https")
    assert [u.port for u in parser.parse("http://a:1, https://b:2")] == [1, 2]
    assert parser.show(parser.parse("http://a:1,https://b:2")) == "http://a:1,https://b:2"
    with pytest.raises(BadValue, match="is empty"):
        parser.parse(" , ")
    with pytest.raises(BadValue, match="scheme 'unix'"):
        url("http").parse("unix:///a")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("T", True), ("1", True), ("false", False), ("0", False)])
def test_booleans_as_go_reads_them(text: str, value: bool) -> None:
    assert parse_bool(text) is value
    assert parse_bool(BOOLEAN.show(value)) is value


@pytest.mark.parametrize("text", ["", "yes", "on", "tRUE", "2"])
def test_not_booleans(text: str) -> None:
    with pytest.raises(BadValue, match="is not a boolean"):
        parse_bool(text)


def test_numbers_and_choices_have_bounds() -> None:
    assert integer(1, 9).parse("9") == 9
    assert number(0, 1).parse("0.25") == 0.25
    assert choice("a", "b").parse("b") == "b"
    assert STRINGS.parse("a, b,,c") == ("a", "b", "c")
    for parser, text, why in (
        (integer(1, 9), "0", "out of range"),
        (integer(1, 9), "ten", "not a whole number"),
        (INTEGER, "1_000", "not a whole number"),
        (NUMBER, "nan", "not a number"),
    ):
        with pytest.raises(BadValue, match=why):
            parser.parse(text)
    with pytest.raises(BadValue, match="not one of them"):
        choice("a", "b").parse("c")


def test_what_is_allowed_is_said() -> None:
    assert integer(1, 9).allowed == "a whole number from 1 up to 9"
    assert url("http", "https").allowed == "http://… or https://…"
    assert SIZE.parse(SIZE.show(65536)) == 65536
    assert DURATION.parse(DURATION.show(0.25)) == 0.25
