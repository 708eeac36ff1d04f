"""Trace context as the W3C text has it, and spans that do not exist when nobody samples."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.clock import FakeClock
from wharf.common.trace import (
    MAX_ATTRIBUTES,
    OFF,
    Kind,
    Span,
    SpanContext,
    Tracer,
    format_traceparent,
    parse_traceparent,
    parse_tracestate,
)

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + b"0"


def tracer(ratio: float = 1.0) -> tuple[Tracer, list[Span]]:
    ended: list[Span] = []
    return Tracer(ratio, ended.append, FakeClock(wall_ns=1000), seed=1), ended


def test_a_traceparent() -> None:
    context = parse_traceparent(PARENT)
    assert context is not None
    assert context.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert context.span_id.hex() == "b7ad6b7169203331"
    assert context.sampled
    assert format_traceparent(context) == PARENT


@given(
    st.binary(min_size=16, max_size=16).filter(any), st.binary(min_size=8, max_size=8).filter(any), st.integers(0, 255)
)
def test_a_formatted_context_is_read_back(trace_id: bytes, span_id: bytes, flags: int) -> None:
    context = SpanContext(trace_id, span_id, flags)
    assert parse_traceparent(format_traceparent(context)) == context


@pytest.mark.parametrize(
    "value",
    [
        b"",
        PARENT.upper(),
        PARENT + b"0",
        PARENT + b"-00",  # version 00 has no fifth field
        b"ff" + PARENT[2:],
        b"0" + PARENT,
        PARENT.replace(b"-", b"_"),
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01",
        PARENT[:-1] + b"g",
        b"01" + PARENT[2:] + b"x",
        PARENT[:3] + "é".encode() + PARENT[5:],
    ],
)
def test_not_a_traceparent(value: bytes) -> None:
    assert parse_traceparent(value) is None


def test_a_later_version_is_read_by_its_first_fields() -> None:
    later = parse_traceparent(b"cc" + PARENT[2:] + b"-what-ever")
    assert later == parse_traceparent(PARENT)
    assert parse_traceparent(b"cc" + PARENT[2:]) == later


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes_are_a_context_or_none(value: bytes, state: bytes) -> None:
    parse_traceparent(value, state)
    parse_traceparent(PARENT, state)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"a=1,b@x=2", "a=1,b@x=2"),
        (b" a=1 ,\tb=2,, ", "a=1,b=2"),
        (b"a", ""),
        (b"a=1=2", ""),
        (b"=1", ""),
        (b"a=\xff", ""),
        (b"a=\x01", ""),
    ],
)
def test_tracestate(value: bytes, kept: str) -> None:
    assert parse_tracestate(value) == kept


def test_a_long_tracestate_is_cut_between_members() -> None:
    many = b",".join(b"k%d=v" % number for number in range(40))
    assert parse_tracestate(many).count("=") == 32
    large = b"a=" + b"x" * 300 + b",b=" + b"x" * 300
    assert parse_tracestate(large) == "a=" + "x" * 300


def test_the_parent_decides() -> None:
    always, ended = tracer(1.0)
    never, _ = tracer(0.0)
    assert always.start("Range", UNSAMPLED) is None
    span = never.start("Range", PARENT, b"vendor=1")
    assert span is not None
    span.end()
    assert span.context.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert span.parent_id.hex() == "b7ad6b7169203331"
    assert span.context.state == "vendor=1"
    assert span.traceparent().startswith(b"00-0af7651916cd43dd8448eb211c80319c-")
    assert ended == []


def test_without_a_valid_parent_the_ratio_decides() -> None:
    half, _ = tracer(0.5)
    sampled = [half.start("x", b"garbage") is not None for _ in range(2000)]
    assert 850 < sum(sampled) < 1150
    assert OFF.start("x") is None
    whole, _ = tracer(1.0)
    assert all(whole.start("x") is not None for _ in range(100))


def test_an_unsampled_start_allocates_nothing() -> None:
    never, _ = tracer(0.0)
    never.start("warm")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [never.start("Range") for _ in range(1000)]
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert set(kept) == {None}
    assert grown < 20_000  # the list itself


def test_a_span_s_life() -> None:
    always, ended = tracer()
    clock = always.clock
    assert isinstance(clock, FakeClock)
    span = always.start("Txn", kind=Kind.SERVER)
    assert span is not None
    child = span.child("commit")
    child.set("revision", 7)
    clock.advance(0.5)
    child.event("fsync")
    child.fail("disk full")
    child.end()
    span.end()
    assert ended == [child, span]
    assert child.parent_id == span.context.span_id
    assert child.context.trace_id == span.context.trace_id
    assert (child.end_ns - child.start_ns, child.error) == (500_000_000, "disk full")
    assert child.events == [(500_001_000, "fsync")]


def test_an_ended_span_never_changes_and_is_handed_over_once() -> None:
    always, ended = tracer()
    span = always.start("x")
    assert span is not None
    span.end()
    span.end()
    span.set("late", 1)
    span.event("late")
    span.fail("late")
    assert (len(ended), span.attributes, span.events, span.error) == (1, {}, [], None)


def test_a_span_is_bounded() -> None:
    always, _ = tracer()
    span = always.start("x")
    assert span is not None
    for number in range(1000):
        span.set(f"k{number}", number)
        span.event("e")
    span.set("k0", "changed")
    assert len(span.attributes) == MAX_ATTRIBUTES
    assert span.attributes["k0"] == "changed"
    assert len(span.events) == 64


def test_time_stepping_back_makes_no_negative_span() -> None:
    always, _ = tracer()
    assert isinstance(always.clock, FakeClock)
    span = always.start("x")
    assert span is not None
    always.clock.step_wall(-1e-6)
    span.end()
    assert span.end_ns == span.start_ns


def test_a_ratio_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Tracer(1.5, lambda span: None)
