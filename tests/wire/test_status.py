"""Status codes of upstream responses: both versions of HTTP read the same ones, and refuse what is none."""

from __future__ import annotations

import pytest
from wharf.wire._nghttp2 import EventSession
from wharf.wire.limits import ClientLimits
from wharf.wire.web import Failure, Fault
from wharf.wire.web_h1_client import Http1ClientSession
from wharf.wire.web_h2 import HeaderFilter, HttpServerStream, open_client_session
from wire.web_pair import Held, Link, Seen, Wire

IMPOSSIBLE = [b"000", b"001", b"042", b"099", b"1x0", b"20", b"2000", b"-10", b" 99", b"101"]
INTERIM = [b"100", b"102", b"103", b"199"]
FINAL = [b"200", b"299", b"404", b"503", b"599", b"600", b"999"]


class Http2:
    """A request over HTTP/2 whose server sends any status."""

    def __init__(self, exchange: HttpServerStream | None = None) -> None:
        self.client = open_client_session(ClientLimits(), lambda: 0.0)
        self.server = EventSession(True)
        self.wire = Wire(self.client, self.server)
        self.carry()
        self.request = self.client.request(b"GET", b"/", b"host.test", ())
        self.seen = Seen(self.request)
        if exchange is not None:
            self.request.couple(exchange, HeaderFilter())
        self.carry()

    def carry(self) -> None:
        while self.wire.carry():
            pass

    def answer(self, status: bytes) -> None:
        self.server.respond(1, [(b":status", status)], end=False)
        self.carry()

    @property
    def outcome(self) -> str:
        return outcome(self.seen.failure, self.seen.status, len(self.seen.informs))


def http1_outcome(status: bytes) -> str:
    session = Http1ClientSession()
    session.write, session.paused = lambda _: None, False
    failures: list[Failure] = []
    heads: list[int] = []
    informs: list[int] = []
    request = session.request(b"GET", b"/", b"host.test", ())
    request.on_failure = failures.append
    request.on_head = lambda status, _: heads.append(status)
    request.on_inform = lambda status, _: informs.append(status)
    session.pump()
    session.receive(b"HTTP/1.1 " + status + b" Reason\r\n\r\n")
    session.pump()
    return outcome(failures[0] if failures else None, heads[0] if heads else 0, len(informs))


def outcome(failure: Failure | None, status: int, informs: int) -> str:
    if failure is not None:
        return failure.fault.name
    return f"final {status}" if status else f"{informs} interim"


@pytest.mark.parametrize("status", IMPOSSIBLE)
def test_an_impossible_status_fails_the_request(status: bytes) -> None:
    http2 = Http2()
    http2.answer(status)
    assert http2.outcome == http1_outcome(status) == Fault.PROTOCOL.name
    assert http2.client.capacity > 0, "the connection goes on"


@pytest.mark.parametrize("status", INTERIM)
def test_an_interim_response_keeps_the_request_open(status: bytes) -> None:
    http2 = Http2()
    http2.answer(status)
    assert http2.outcome == http1_outcome(status) == "1 interim"


@pytest.mark.parametrize("status", FINAL)
def test_every_three_digits_from_200_are_a_final_response(status: bytes) -> None:
    http2 = Http2()
    http2.answer(status)
    assert http2.outcome == http1_outcome(status) == f"final {int(status)}"


@pytest.mark.parametrize(("status", "fault"), [(b"099", Fault.PROTOCOL), (b"200", None)])
def test_a_coupled_request_with_an_impossible_status_leaves_its_exchange_to_be_answered(
    status: bytes, fault: Fault | None
) -> None:
    held = Held()
    front = Link(held)
    client = front.ask()
    http2 = Http2(held.exchanges[0])
    http2.answer(status)
    if fault is not None:
        assert http2.seen.failure is not None
        assert http2.seen.failure.fault is fault
        assert not held.exchanges[0].responded
        held.exchanges[0].respond(502, (), end=True)
    front.run()
    assert client.status == (502 if fault else 200)
