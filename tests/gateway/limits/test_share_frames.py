"""Asks and answers between a worker and its parent: what goes in comes out, and nothing else is taken for either."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.gateway.limits.exchange import ASKS_MAX, Answers, Ask, Kind
from wharf.gateway.limits.share_frames import (
    HEAD,
    MOST,
    BadFrame,
    encode_answers,
    encode_asks,
    parse_answers,
    parse_asks,
    parse_length,
)

NUMBER = st.floats(-1e9, 1e9)
ASK = st.builds(Ask, st.text(), st.sampled_from(Kind), NUMBER, NUMBER, NUMBER, NUMBER)


@given(st.text(), st.lists(ASK, max_size=20).map(tuple))
def test_asks_come_out_as_they_went_in(holder: str, asks: tuple[Ask, ...]) -> None:
    frame = encode_asks(holder, asks)
    assert parse_length(frame[:HEAD]) == len(frame) - HEAD
    assert parse_asks(frame[HEAD:]) == (holder, asks)


@given(st.lists(NUMBER, max_size=20).map(tuple), st.integers(1, 999))
def test_answers_come_out_as_they_went_in(grants: tuple[float, ...], replicas: int) -> None:
    frame = encode_answers(Answers(grants, replicas))
    assert parse_answers(frame[HEAD:]) == Answers(grants, replicas)


@settings(max_examples=50)
@given(st.binary(max_size=60) | st.recursive(st.none() | st.text() | NUMBER, st.lists).map(json.dumps).map(str.encode))
def test_anything_else_is_refused(body: bytes) -> None:
    for parse in (parse_asks, parse_answers):
        try:
            parse(body)
        except BadFrame:
            continue


@pytest.mark.parametrize(
    "body",
    [
        b"[1,[]]",
        b'["a",[["k","x",1,1,1,1]]]',
        b'["a",[["k","t",1,1,1]]]',
        b'["a",[["k","t",1,1,1,true]]]',
        b'["a",[["k","t",1,1,1,NaN]]]',
        b'["a",[["k","t",1,1,1,1e999]]]',
        b'["a",[["k","t",1,1,1,1' + b"0" * 400 + b"]]]",
        b'["a",[[7,"t",1,1,1,1]]]',
        b'["a"]',
        b"[" * 5000,
        json.dumps(["a", [["k", "t", 1, 1, 1, 1]] * (ASKS_MAX + 1)]).encode(),
    ],
)
def test_wrong_asks_are_refused(body: bytes) -> None:
    with pytest.raises(BadFrame):
        parse_asks(body)


@pytest.mark.parametrize("body", [b"[]", b'[1,["1"]]', b"[1,[Infinity]]", b'["1",[]]', b"7", b"\xff"])
def test_wrong_answers_are_refused(body: bytes) -> None:
    with pytest.raises(BadFrame):
        parse_answers(body)


def test_a_frame_is_bounded() -> None:
    with pytest.raises(BadFrame):
        parse_length((MOST + 1).to_bytes(HEAD, "big"))
