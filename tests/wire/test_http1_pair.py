"""A client and a server session of HTTP/1.1 back to back: what one says the other understands, cut anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.wire.limits import Http1Limits
from wharf.wire.web import Exchange, Header

from .http1 import Asked, Got, Served, pieces

TOKENS = st.text("abcdefghijklmnopqrstuvwxyz-.!#$%&'*+^_`|~0123456789", min_size=1, max_size=12).map(str.encode)
VALUES = st.binary(max_size=20).map(lambda data: bytes(byte for byte in data if byte >= 32 and byte != 127).strip())
RESERVED = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"content-length", b"host", b"upgrade"),
    *(b"expect", b"content_length", b"transfer_encoding", b"te", b"trailer", b"authorization"),
    *(b"content-encoding", b"content-type"),
}
HEADERS = st.lists(st.tuples(TOKENS.filter(lambda name: name not in RESERVED), VALUES), max_size=6)
BODIES = st.lists(st.binary(max_size=300), max_size=6)


@dataclass(frozen=True)
class Message:
    """What is sent in one direction."""

    headers: list[Header]
    body: list[bytes]
    trailers: list[Header]
    by_length: bool

    @property
    def whole(self) -> bytes:
        return b"".join(self.body)

    def head(self) -> list[Header]:
        return [*self.headers, (b"content-length", b"%d" % len(self.whole))] if self.by_length else self.headers


MESSAGES = st.builds(Message, HEADERS, BODIES, HEADERS, st.booleans())


@dataclass
class Line:
    """Bytes between the two, cut as told."""

    asked: Asked
    served: Served
    cuts: list[int] = field(default_factory=list)

    def run(self) -> None:
        """Until both are silent."""
        while True:
            out, back = self.asked.turn(), self.served.turn()
            if not out and not back:
                return
            for piece in pieces(out, self.cuts):
                back += self.served.feed(piece)
            for piece in pieces(back, self.cuts):
                out = self.asked.feed(piece)
                if out:
                    self.served.feed(out)


def drop_added(headers: list[Header]) -> list[Header]:
    return [
        header
        for header in headers
        if header[0] not in (b"host", b"content-length", b"transfer-encoding", b"connection")
    ]


@given(st.lists(st.tuples(MESSAGES, MESSAGES, st.booleans()), min_size=1, max_size=3), st.lists(st.integers(0, 2000)))
@settings(max_examples=150)
def test_messages_pass_whole_both_ways(rounds: list[tuple[Message, Message, bool]], cuts: list[int]) -> None:
    served = Served()
    line = Line(Asked(), served, cuts)
    for number, (request, response, end) in enumerate(rounds):
        got = Got(line.asked.session.request(b"POST", b"/%d" % number, b"a", [] if end else request.head(), end=end))
        got.listen()
        if not end:
            for data in request.body:
                got.request.send(data)
            got.request.finish(request.trailers)
        line.run()
        seen = served.seen[number]
        if not end:
            assert bytes(seen.body) == request.whole
            assert drop_added(seen.exchange.headers) == request.headers
            if seen.exchange.body_expected:
                assert seen.trailers == ([] if request.by_length else request.trailers)
        answer(seen.exchange, response)
        line.run()
        assert (got.status, bytes(got.body)) == (201, response.whole)
        assert drop_added(got.headers) == response.headers
        assert got.trailers == ([] if response.by_length else response.trailers)
        assert seen.completed == 1
        assert line.asked.session.capacity == 1
    assert not served.closes


def answer(exchange: Exchange, response: Message) -> None:
    exchange.respond(201, response.head())
    for data in response.body:
        exchange.send(data)
    exchange.finish(response.trailers)


def test_edge_16_large_bodies_both_ways_stay_within_their_windows() -> None:
    """3 MiB up and down at once; whoever sends obeys `writable`, whoever reads takes late."""
    limits = Http1Limits(head_max=4096, body_held_max=32 * 1024, write_high=32 * 1024)
    served, asked = Served(limits=limits, take=False), Asked(limits=limits)
    line = Line(asked, served)
    data = bytes(range(256)) * 16
    total = 3 << 20
    got = Got(asked.session.request(b"PUT", b"/", b"a", [(b"content-length", b"%d" % total)], end=False))
    got.listen(take=False)
    line.run()
    exchange, seen = served.exchange, served.seen[0]
    exchange.respond(200, [])
    sent_up = sent_down = taken = 0
    while sent_up < total or sent_down < total:
        if sent_up < total and got.request.writable:
            got.request.send(data)
            sent_up += len(data)
        if sent_down < total and exchange.writable:
            exchange.send(data)
            sent_down += len(data)
        line.run()
        assert asked.session.held + served.session.held < 64 * 1024
        exchange.take(len(seen.body) - taken)
        taken = len(seen.body)
        got.request.take(got.request.untaken)
    got.request.finish()
    exchange.finish()
    line.run()
    assert len(seen.body) == len(got.body) == total
    assert got.trailers == seen.trailers == []


def test_edge_17_head_requests_share_a_connection_with_others() -> None:
    def respond(exchange: Exchange) -> None:
        exchange.respond(200, [(b"content-length", b"5")])
        exchange.send(b"hello")
        exchange.finish()

    line = Line(Asked(), Served(respond))
    for method, body in ((b"HEAD", b""), (b"GET", b"hello"), (b"HEAD", b""), (b"GET", b"hello")):
        got = line.asked.get(method=method)
        line.run()
        assert (got.status, bytes(got.body), got.trailers) == (200, body, [])
        assert (b"content-length", b"5") in got.headers


@given(st.binary(min_size=1, max_size=500), st.binary(min_size=1, max_size=500), st.lists(st.integers(0, 600)))
def test_edge_32_tunnels_pass_bytes_and_ends(up: bytes, down: bytes, cuts: list[int]) -> None:
    line = Line(Asked(), Served(), cuts)
    got = line.asked.upgrade()
    line.run()
    server = line.served.exchange.upgrade([(b"upgrade", b"SPDY/3.1")])
    server.write(down)
    received = bytearray()
    server.on_data = received.extend
    line.run()
    client = got.tunnel
    assert client is not None
    answered = bytearray()
    client.on_data = answered.extend
    client.write(up)
    line.run()
    assert (bytes(received), bytes(answered)) == (up, down)


@given(st.lists(st.binary(max_size=40), max_size=20))
@settings(max_examples=200)
def test_any_bytes_end_in_modelled_ways(parts: list[bytes]) -> None:
    """Neither role raises, fails inside or keeps more than its bounds, whatever comes."""
    limits = Http1Limits(head_max=300, line_max=200, body_held_max=100, discard_max=100)
    served = Served(limits=limits, take=False)
    asked = Asked(limits=limits)
    got = asked.get(take=False)
    asked.turn()
    for part in parts:
        for connection in (served, asked):
            connection.feed(part)
            assert connection.session.held <= limits.head_max + 40 * len(parts)
    got.request.take(len(got.body))
    for connection in (served, asked):
        connection.eof()
        connection.session.close()
        assert connection.session.failure is None
    assert len(got.failures) + (got.trailers is not None) == 1
