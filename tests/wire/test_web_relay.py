"""A relay between stand-ins: attempts, what is kept of a body, credit both ways, every way to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.wire.relay import Relay
from wharf.wire.rpc import Peer
from wharf.wire.web import Failure, Fault, Header, Headers
from wire.web_net import REQUEST_FILTER, RESPONSE_FILTER

LOST = Failure(Fault.LOST, "gone")


class Connection:
    peer = Peer("127.0.0.1:1")
    local_address = "127.0.0.1:2"
    version = 1
    context: Any = None


class Exchange:
    """A served request that notes what it is told."""

    def __init__(self, *headers: Header, body: bool = False, method: bytes = b"POST") -> None:
        self.connection = Connection()
        self.method, self.target, self.authority = method, b"/x?y", b"front"
        self.content_length = None
        self.body_expected = body
        self.wants_upgrade = self.done = self.responded = False
        self.bytes_in = self.bytes_out = 0
        self.context: Any = None
        self.headers = list(headers)
        self.on_data: Callable[[bytes], None] | None = None
        self.on_end: Callable[[Headers], None] | None = None
        self.on_cancel: Callable[[], None] | None = None
        self.on_complete: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self.writable = True
        self.buffered = 0
        self.taken = 0
        self.told: list[tuple[Any, ...]] = []

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    def take(self, length: int) -> None:
        self.taken += length

    def inform(self, status: int, headers: Headers) -> None:
        self.told.append(("inform", status))

    def respond(self, status: int, headers: Headers, end: bool = False) -> None:
        self.responded = True
        self.told.append(("head", status, list(headers)))

    def send(self, data: bytes) -> None:
        self.told.append(("data", data))

    def finish(self, trailers: Headers = ()) -> None:
        self.told.append(("end", list(trailers)))

    def abort(self, code: int = 2) -> None:
        self.done = True
        self.told.append(("abort",))

    def upgrade(self, headers: Headers) -> Any:
        pytest.fail("no upgrade was asked for")

    def complete(self) -> None:
        self.done = True
        if self.on_complete is not None:
            self.on_complete()

    def cancel(self) -> None:
        self.done = True
        if self.on_cancel is not None:
            self.on_cancel()


class Request:
    """A request upstream that notes what it is told."""

    def __init__(self, head: tuple[Any, ...], end: bool) -> None:
        self.head, self.ended = head, end
        self.done = False
        self.status = self.bytes_in = self.bytes_out = 0
        self.on_inform: Callable[[int, list[Header]], None] | None = None
        self.on_head: Callable[[int, list[Header]], None] | None = None
        self.on_data: Callable[[bytes], None] | None = None
        self.on_end: Callable[[Headers], None] | None = None
        self.on_failure: Callable[[Failure], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self.buffered = 0
        self.writable = True
        self.body = b""
        self.trailers: list[Header] | None = None
        self.taken = 0
        self.was_reset = False

    def take(self, length: int) -> None:
        self.taken += length

    def send(self, data: bytes) -> None:
        self.body += data
        self.bytes_out += len(data)

    def finish(self, trailers: Headers = ()) -> None:
        self.ended, self.trailers = True, list(trailers)

    def reset(self, code: int = 8) -> None:
        self.done = self.was_reset = True

    def answer(self, status: int = 200, *, data: Sequence[bytes] = (), trailers: Headers | None = ()) -> None:
        assert self.on_head
        assert self.on_data
        self.status = status
        self.on_head(status, [(b"x-up", b"1"), (b"connection", b"x-hop"), (b"x-hop", b"1")])
        for piece in data:
            self.bytes_in += len(piece)
            self.on_data(piece)
        if trailers is not None:
            assert self.on_end
            self.done = True
            self.on_end(trailers)

    def fail(self, failure: Failure = LOST) -> None:
        assert self.on_failure
        self.done = True
        self.on_failure(failure)


class Link:
    version = 1
    open_requests = 0
    capacity = 1

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def request(self, *head: Any, scheme: bytes = b"https", end: bool = True) -> Request:
        self.requests.append(Request((*head, scheme), end))
        return self.requests[-1]


class Stand:
    """A relay, its exchange and its upstream."""

    def __init__(self, *headers: Header, body: bool = False, **options: Any) -> None:
        self.exchange = Exchange(*headers, body=body)
        self.link = Link()
        self.done: list[tuple[Failure | None, bool]] = []
        self.relay = Relay(
            cast(Any, self.exchange),
            request_filter=REQUEST_FILTER,
            response_filter=RESPONSE_FILTER,
            on_done=lambda relay, failure: self.done.append((failure, relay.cancelled)),
            **options,
        )

    def start(self, **options: Any) -> Request:
        self.relay.start(self.link, b"up", ((b"x-user", b"me"),), **options)
        return self.link.requests[-1]

    def body(self, *pieces: bytes, end: bool = False, trailers: Headers = ()) -> None:
        assert self.exchange.on_data
        assert self.exchange.on_end
        for piece in pieces:
            self.exchange.on_data(piece)
        if end:
            self.exchange.on_end(trailers)


def test_head_body_and_end_go_through() -> None:
    at = Stand((b"host", b"front"), (b"connection", b"x-hop"), (b"x-hop", b"1"), (b"x-a", b"1"))
    request = at.start()
    assert request.head == (b"POST", b"/x?y", b"up", [(b"x-a", b"1"), (b"x-user", b"me")], b"https")
    assert request.ended
    request.answer(data=(b"one", b"two"), trailers=[(b"x-sum", b"1")])
    assert at.exchange.told == [
        ("head", 200, [(b"x-up", b"1")]),
        ("data", b"one"),
        ("data", b"two"),
        ("end", [(b"x-sum", b"1")]),
    ]
    assert request.taken == 6
    assert at.done == [], "the client has not got all of it"
    at.exchange.complete()
    assert at.done == [(None, False)]
    relay = at.relay
    assert (relay.status, relay.head_sent, relay.bytes_in, relay.active) == (200, True, 6, False)


def test_another_target_and_more_headers() -> None:
    at = Stand(response_headers=((b"x-gateway", b"1"),))
    request = at.start(target=b"/x?y&limit=500", scheme=b"http")
    assert request.head == (b"POST", b"/x?y&limit=500", b"up", [(b"x-user", b"me")], b"http")
    request.answer()
    assert at.exchange.told[0] == ("head", 200, [(b"x-up", b"1"), (b"x-gateway", b"1")])


def test_edge_26_credit_is_given_back_as_the_other_side_takes() -> None:
    at = Stand(body=True)
    request = at.start()
    request.writable = False
    at.body(b"abc", b"de")
    assert (request.body, at.exchange.taken) == (b"abcde", 0)
    request.writable = True
    assert request.on_drain
    request.on_drain()
    assert at.exchange.taken == 5
    at.exchange.writable = False
    request.answer(data=(b"1234",), trailers=None)
    assert request.taken == 0
    at.exchange.writable = True
    assert at.exchange.on_drain
    at.exchange.on_drain()
    assert request.taken == 4


def test_edge_16_expect_is_answered_once_when_reading_begins() -> None:
    at = Stand((b"expect", b"100-Continue"), body=True)
    first = at.start()
    assert at.exchange.told == [("inform", 100)]
    assert all(name != b"expect" for name, _ in first.head[3])
    at.body(b"x", end=True)
    first.fail()
    at.start()
    assert at.exchange.told == [("inform", 100)]
    without = Stand((b"expect", b"100-continue"))
    without.start()
    assert without.exchange.told == []


def test_interim_responses_go_through_but_for_those_answered_here() -> None:
    at = Stand()
    request = at.start()
    assert request.on_inform
    for status in (100, 102, 103):
        request.on_inform(status, [])
    assert at.exchange.told == [("inform", 102), ("inform", 103)]


def test_edge_29_a_failure_before_the_head_leaves_the_exchange_and_the_body_is_sent_again() -> None:
    at = Stand(body=True)
    first = at.start()
    at.body(b"abc")
    first.fail()
    assert at.done == [(LOST, False)]
    assert at.relay.replayable
    assert (at.exchange.told, at.exchange.taken) == ([], 3)
    at.body(b"de")
    assert at.exchange.taken == 3, "between two attempts the client waits"
    second = at.start()
    assert (second.body, second.ended, at.exchange.taken) == (b"abcde", False, 5)
    at.body(b"f", end=True, trailers=[(b"t", b"1")])
    assert (second.body, second.ended, second.trailers) == (b"abcdef", True, [(b"t", b"1")])
    second.fail()
    third = at.start()
    assert (third.body, third.trailers) == (b"abcdef", [(b"t", b"1")])
    third.answer()
    at.exchange.complete()
    assert at.done == [(LOST, False), (LOST, False), (None, False)]
    assert at.relay.attempts == 3


def test_a_body_that_is_too_long_is_not_sent_again() -> None:
    at = Stand(body=True, replay_max=4)
    first = at.start()
    at.body(b"abcd")
    assert at.relay.replayable
    at.body(b"e")
    assert not at.relay.replayable
    first.fail()
    assert first.body == b"abcde"
    between = Stand(body=True, replay_max=4)
    between.start().fail()
    between.body(b"abcdef")
    second = between.start()
    assert second.body == b"abcdef"
    assert not between.relay.replayable


@pytest.mark.parametrize("clean_end", [True, False])
def test_edge_24_a_failure_after_the_head(clean_end: bool) -> None:
    at = Stand(clean_end=clean_end)
    request = at.start()
    request.answer(data=(b"event",), trailers=None)
    request.fail()
    assert at.exchange.told[-1] == (("end", []) if clean_end else ("abort",))
    assert at.done == [(LOST, False)]
    assert not at.relay.replayable
    at.exchange.complete()
    assert at.done == [(LOST, False)]


def test_edge_25_a_client_that_goes_away_resets_the_request() -> None:
    at = Stand()
    request = at.start()
    request.answer(data=(b"event",), trailers=None)
    at.exchange.cancel()
    assert request.was_reset
    assert at.done == [(None, True)]


def test_a_client_that_goes_away_between_two_attempts_is_its_owners_matter() -> None:
    told: list[str] = []
    at = Stand()
    at.exchange.on_cancel = lambda: told.append("gone")
    at.start().fail()
    at.exchange.cancel()
    assert told == ["gone"]
    assert at.done == [(LOST, False)]
    assert not at.relay.replayable


def test_a_client_that_goes_away_with_its_answer_half_read() -> None:
    at = Stand()
    request = at.start()
    request.answer(data=(b"all",))
    at.exchange.cancel()
    assert not request.was_reset
    assert at.done == [(None, True)]


def test_the_owner_may_end_an_attempt_and_answer_itself() -> None:
    at = Stand()
    request = at.start()
    at.relay.cancel()
    assert request.was_reset
    assert at.done == [(None, True)]
    at.relay.cancel()
    assert at.done == [(None, True)]
    assert at.exchange.told == []
    assert not at.exchange.done


def test_an_answer_before_the_whole_request() -> None:
    at = Stand(body=True)
    request = at.start()
    at.body(b"part")
    request.answer(413, data=(b"large",), trailers=None)
    assert request.on_end
    request.on_end(())
    assert request.was_reset, "nobody reads the rest"
    at.exchange.complete()
    assert at.done == [(None, False)]


def test_edge_33_an_answer_that_came_already() -> None:
    at = Stand()
    request = Request((), True)
    request.status = 403
    at.relay.adopt(request, 403, [(b"x-a", b"1")])
    assert request.on_data
    assert request.on_end
    request.on_data(b"no")
    request.on_end(())
    at.exchange.complete()
    assert at.exchange.told == [("head", 403, [(b"x-a", b"1")]), ("data", b"no"), ("end", [])]
    assert at.done == [(None, False)]
    assert at.relay.status == 403


@pytest.mark.parametrize("step", ["head", "data", "end", "trailers"])
def test_a_response_that_the_client_side_refuses(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP/1.1 checks what it sends: the owner hears of it, before a head in time to answer something else."""
    at = Stand()
    request = at.start()

    def refuse(*_: Any) -> None:
        raise ValueError("no such header")

    def give_up(*_: Any) -> None:
        at.exchange.done, at.exchange.writable = True, False

    name = {"head": "respond", "data": "send"}.get(step, "finish")
    monkeypatch.setattr(at.exchange, name, refuse if step in ("head", "trailers") else give_up)
    if step == "head":
        request.answer(trailers=None)
    else:
        request.answer(data=(b"abc",), trailers=None if step == "data" else ())
    ((failure, cancelled),) = at.done
    assert (failure is not None and failure.fault, cancelled) == (Fault.PROTOCOL, False)
    assert at.relay.replayable is (step == "head")
    assert request.was_reset is (step in ("head", "data"))
    assert ("abort",) in at.exchange.told if step == "trailers" else ("abort",) not in at.exchange.told


EVENTS = st.lists(
    st.sampled_from(["data", "end", "drain", "block", "head", "piece", "over", "fail", "cancel", "complete", "again"]),
    max_size=30,
)


@given(EVENTS)
def test_whatever_happens_each_attempt_is_told_once_and_a_body_is_whole_or_cut(events: list[str]) -> None:
    at = Stand(body=True, replay_max=6)
    request = at.start()
    sent, ended, count = b"", False, 0
    for event in events:
        if at.exchange.done:
            break
        if event == "data" and not ended:
            count += 1
            sent += b"%d" % (count % 10)
            at.body(sent[-1:])
        elif event == "end" and not ended:
            ended = True
            at.body(end=True)
        elif event == "drain" and request.on_drain and not request.done:
            request.writable = True
            request.on_drain()
        elif event == "block":
            request.writable = False
        elif event == "cancel":
            at.exchange.cancel()
        elif event == "complete" and at.exchange.told[-1:] == [("end", [])]:
            at.exchange.complete()
        elif event == "again" and not at.relay.active and at.relay.replayable:
            request = at.start()
        elif not request.done:
            act(event, request)
        if at.relay.active:
            assert request.body == sent or at.exchange.responded
    assert len(at.done) == at.relay.attempts - at.relay.active
    if at.relay.active and request.writable and not at.exchange.responded:
        assert at.exchange.taken == len(sent)


def act(event: str, request: Request) -> None:
    """Something the upstream does."""
    if event == "head" and not request.status:
        request.answer(trailers=None)
    elif event == "piece" and request.status and request.on_data:
        request.on_data(b"x")
    elif event == "over" and request.status and request.on_end:
        request.done = True
        request.on_end(())
    elif event == "fail":
        request.fail()
