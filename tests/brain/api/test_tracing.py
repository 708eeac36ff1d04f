"""Sampled calls leave a span; others are not touched."""

from __future__ import annotations

from typing import Any

from brain.api.fakes import FakeCall
from wharf.brain.api.service import unary
from wharf.brain.api.tracing import traced
from wharf.brain.errors import Compacted, Stopped
from wharf.common.trace import Span, Tracer
from wharf.wire.rpc import Call, Code, Kind, Method

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + b"0"


def run(method: Method, metadata: tuple[tuple[bytes, bytes], ...], ratio: float = 0.0) -> tuple[FakeCall, list[Span]]:
    spans: list[Span] = []
    call = FakeCall(method.path)
    call.metadata = metadata
    handler: Any = traced(method, Tracer(ratio, spans.append)).handler
    if method.kind is Kind.UNARY:
        handler(b"", call)
    else:
        handler(call)
    return call, spans


def answer(data: bytes, call: Call) -> None:
    call.reply(b"answer")


def refuse(data: bytes, call: Call) -> None:
    raise Compacted


def fall_over(data: bytes, call: Call) -> None:
    raise Stopped


def test_a_sampled_parent_is_followed() -> None:
    call, spans = run(unary("/etcdserverpb.KV/Range", answer), ((b"traceparent", PARENT),))
    (span,) = spans
    assert call.sent == [b"answer"]
    assert span.name == "etcdserverpb.KV/Range"
    assert span.parent_id.hex() == "b7ad6b7169203331"
    assert (span.attributes["rpc.method"], span.attributes["rpc.grpc.status_code"]) == ("Range", 0)
    assert span.error is None


def test_an_unsampled_call_is_handed_on_as_it_came() -> None:
    seen: list[Call] = []
    call, spans = run(unary("/a/B", lambda _, call: seen.append(call)), ((b"traceparent", UNSAMPLED),), 1.0)
    assert seen == [call]
    assert spans == []


def test_a_call_without_context_is_sampled_by_chance() -> None:
    assert len(run(unary("/a/B", answer), (), 1.0)[1]) == 1
    assert run(unary("/a/B", answer), (), 0.0)[1] == []


def test_a_clients_fault_is_no_error_of_the_server() -> None:
    (span,) = run(unary("/a/B", refuse), ((b"traceparent", PARENT),))[1]
    assert span.attributes["rpc.grpc.status_code"] == Code.OUT_OF_RANGE
    assert span.error is None
    (span,) = run(unary("/a/B", fall_over), ((b"traceparent", PARENT),))[1]
    assert span.error == Stopped.text


def test_a_cancelled_stream_ends_its_span_and_tells_the_handler() -> None:
    told: list[str] = []

    def opened(call: Call) -> None:
        call.on_cancel = lambda: told.append("cancelled")
        call.on_message = call.send

    call, spans = run(Method("/a/B", Kind.STREAM, opened), ((b"traceparent", PARENT),))
    assert call.on_message is not None
    call.on_message(b"echo")
    assert call.sent == [b"echo"]
    assert spans == []
    call.cancel()
    assert told == ["cancelled"]
    assert spans[0].attributes["rpc.grpc.status_code"] == Code.CANCELLED
