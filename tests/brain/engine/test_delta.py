"""Deltas: the message followers get."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.engine.delta import BadDelta, Delta, Position, announcement, encode_delta, follows, parse_delta

NUMBERS = st.integers(0, (1 << 63) - 1)
RECORDS = st.lists(st.binary(max_size=50), max_size=5)
META = st.lists(st.tuples(st.binary(max_size=9), st.one_of(st.none(), st.binary(max_size=9))), max_size=5)


def made(epoch: int, seq: int, base: int, records: list[bytes], meta: list[tuple[bytes, bytes | None]]) -> Delta:
    return Delta(epoch, seq, base, base + len(records), records, meta)


DELTAS = st.builds(made, NUMBERS, NUMBERS, NUMBERS, RECORDS, META)


@given(DELTAS)
def test_a_delta_comes_back_as_it_was(delta: Delta) -> None:
    assert parse_delta(encode_delta(delta, 1 << 20)) == delta


@given(DELTAS)
def test_what_is_too_large_is_announced(delta: Delta) -> None:
    size = len(encode_delta(delta, 1 << 20))
    assert parse_delta(encode_delta(delta, size)) == delta
    if delta.records or delta.meta:
        assert parse_delta(encode_delta(delta, size - 1)) == announcement(delta)._replace(records=[], meta=[])


@given(DELTAS, st.data())
def test_a_delta_that_is_cut_or_continued_is_refused(delta: Delta, data: st.DataObject) -> None:
    message = encode_delta(delta, 1 << 20)
    at = data.draw(st.integers(0, len(message) - 1))
    for broken in (message[:at], message + b"x", b"wd9" + message[3:]):
        with pytest.raises(BadDelta):
            parse_delta(broken)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_delta_or_refused(data: bytes) -> None:
    try:
        delta = parse_delta(data)
    except BadDelta:
        return
    assert encode_delta(delta, 1 << 20) == data


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ((3, 8, 5), True),
        ((4, 8, 5), True),
        ((2, 8, 5), False),
        ((3, 7, 5), False),
        ((3, 9, 5), False),
        ((3, 8, 4), False),
        ((3, 8, 6), False),
    ],
)
def test_what_follows(delta: tuple[int, int, int], expected: bool) -> None:
    epoch, seq, base = delta
    assert follows(Position(3, 7, 5), Delta(epoch, seq, base, base, (), ())) is expected
