"""A heartbeat arrives as it was sent, and nothing else is taken for one."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.heartbeat import BODY_MAX, BadHeartbeat, Heartbeat, encode_heartbeat, parse_heartbeat, subject_of

BEAT = Heartbeat("gateway", "a", True, 1.5, 2.5, False, "", ("10.0.0.1:6443",), {"clusters": [{"name": "x"}]})
texts = st.text(max_size=30)
times = st.floats(0, 1e12)
beats = st.builds(
    Heartbeat, texts, texts, st.booleans(), times, times, st.booleans(), texts, st.lists(texts, max_size=3).map(tuple)
)


@given(beats)
def test_it_arrives_as_it_was(beat: Heartbeat) -> None:
    assert parse_heartbeat(encode_heartbeat(beat)) == beat


@given(st.binary(max_size=200))
def test_anything_else_is_refused(body: bytes) -> None:
    with contextlib.suppress(BadHeartbeat):
        parse_heartbeat(body)


@pytest.mark.parametrize("name", json.loads(encode_heartbeat(BEAT)))
@pytest.mark.parametrize("value", [None, {}, [{}]])
def test_a_field_of_a_wrong_kind_is_refused(name: str, value: object) -> None:
    known = json.loads(encode_heartbeat(BEAT)) | {name: value}
    if (name in ("ready", "stopping")) or (name == "details" and value == {}):
        assert parse_heartbeat(json.dumps(known).encode()).ready in (True, False)
    else:
        with pytest.raises(BadHeartbeat):
            parse_heartbeat(json.dumps(known).encode())


def test_details_that_are_too_long_are_left_out() -> None:
    beat = replace(BEAT, details={"long": "x" * BODY_MAX})
    body = encode_heartbeat(beat)
    assert len(body) < 1000
    assert parse_heartbeat(body).details == {"omitted": "too long"}


def test_a_name_cannot_become_another_subject() -> None:
    assert subject_of("gateway", "host.example.>*") == "wharf.status.gateway.host_example___"
