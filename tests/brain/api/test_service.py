"""Whatever a handler raises, its client gets an answer and the others never notice."""

from __future__ import annotations

import logging

import pytest
from brain.api.fakes import FakeCall
from wharf.brain.api.service import listen, server_stream, stream, unary
from wharf.brain.errors import Compacted
from wharf.wire.rpc import Call, Code


def refuse(data: bytes, call: Call) -> None:
    raise Compacted


def break_down(data: bytes, call: Call) -> None:
    raise ZeroDivisionError("secret detail")


def test_a_store_error_is_the_calls_status() -> None:
    call = FakeCall()
    unary("/a/B", refuse).handler(b"", call)  # type: ignore[call-arg, arg-type]
    assert (call.code, call.text) == (Code.OUT_OF_RANGE, Compacted.text)


def test_a_defect_is_internal_and_tells_the_client_nothing(caplog: pytest.LogCaptureFixture) -> None:
    call = FakeCall()
    with caplog.at_level(logging.ERROR):
        unary("/a/B", break_down).handler(b"", call)  # type: ignore[call-arg, arg-type]
    assert call.code == Code.INTERNAL
    assert "secret" not in call.text


def test_a_stream_that_breaks_when_opened_ends_with_its_error() -> None:
    def opened(call: Call) -> None:
        raise Compacted

    call = FakeCall()
    stream("/a/B", opened).handler(call)  # type: ignore[call-arg, arg-type]
    assert call.code == Code.OUT_OF_RANGE


def test_a_server_stream_is_handed_its_one_request() -> None:
    seen: list[bytes] = []
    call = FakeCall()
    server_stream("/a/B", lambda data, _: seen.append(data)).handler(call)  # type: ignore[call-arg, arg-type]
    assert call.on_message is not None
    call.on_message(b"one")
    assert seen == [b"one"]
    call.on_message(b"two")
    assert seen == [b"one"]
    assert call.code == Code.INTERNAL


def test_a_server_stream_without_a_request_is_an_error() -> None:
    call = FakeCall()
    server_stream("/a/B", refuse).handler(call)  # type: ignore[call-arg, arg-type]
    assert call.on_half_close is not None
    call.on_half_close()
    assert call.code == Code.INTERNAL


def test_who_does_not_read_is_not_listened_to() -> None:
    told: list[str] = []
    call = FakeCall()
    listen(call, call.send, lambda: told.append("drained"))
    assert call.on_message is not None
    call.on_message(b"one")
    assert call.reading
    call.writable = False
    call.on_message(b"two")
    assert not call.reading
    call.drain()
    assert call.reading
    assert told == ["drained"]
