"""Forward and couple: a request and its response through a proxy, from HTTP/2 to HTTP/2, without Python on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from wharf.wire.h2 import PREFACE
from wharf.wire.limits import ConnectionLimits
from wharf.wire.web import Fault, Headers
from wharf.wire.web_h2 import HeaderFilter, HttpServerStream, open_server_session
from wire.pair import raw_frame
from wire.web_pair import Chain, Connection, Held, Seen, answer, is_clean, pass_on

WINDOW = 256 * 1024
MIB = 1 << 20


def test_edge_15_edge_18_a_request_and_its_response_pass_unchanged() -> None:
    origin: list[HttpServerStream] = []

    def handler(exchange: HttpServerStream) -> None:
        origin.append(exchange)
        answer(exchange)

    chain = Chain(handler)
    target = b"/api/v1/namespaces/a%2Fb/pods/x//y/;v=1/?a=+%20&a=&&b=%zz&=#"[:-1]
    end_to_end = [
        (b"user-agent", b"kubectl"),
        (b"accept", b"a"),
        (b"accept", b"b"),
        (b"empty", b""),
        (b"te", b"trailers"),
    ]
    forged = [(b"x-remote-user", b"root"), (b"x_remote_group", b"root"), (b"x-secret", b"1"), (b"host", b"host.test")]
    seen = chain.ask(method=b"DELETE", target=target, headers=[*end_to_end[:3], *forged, *end_to_end[3:]])
    assert (origin[0].method, origin[0].target, origin[0].authority) == (b"DELETE", target, b"up.test")
    assert origin[0].headers[:2] == end_to_end[:2]
    assert (b"x-remote-user", b"root") not in origin[0].headers
    assert [pair for pair in origin[0].headers if pair[0].startswith(b"x-")] == [(b"x-remote-user", b"ann")]
    assert origin[0].header(b"host") is None
    assert not origin[0].body_expected
    assert (seen.status, seen.body, seen.trailers) == (200, b"hello world", [])
    assert seen.headers == [(b"audit-id", b"7"), (b"warning", b"a"), (b"warning", b"b"), (b"x-via", b"wharf")]
    assert chain.told == [("end", []), ("complete", None)]
    request, exchange = chain.upstreams[0], chain.exchanges[0]
    assert (request.status, request.bytes_in, exchange.status, exchange.bytes_out) == (200, 11, 200, 11)
    is_clean(chain)


def test_headers_of_the_order_given_are_all_there() -> None:
    chain = Chain(lambda exchange: exchange.respond(200, exchange.headers, end=True))
    headers = [(b"h%d" % at, b"v" * at) for at in range(300)]
    seen = chain.ask(headers=headers)
    assert seen.headers == [*headers, (b"x-remote-user", b"ann"), (b"x-via", b"wharf")]


@pytest.mark.parametrize("representation", [b"\x10", b"\x40"], ids=["never indexed", "indexed"])
def test_fields_that_must_not_be_indexed_stay_so(representation: bytes) -> None:
    chain = Chain(lambda exchange: None)
    server = chain.front.server = open_server_session(chain.serve, Connection(), ConnectionLimits(), lambda: 0.0)
    server.receive(PREFACE + raw_frame(4, 0, 0))
    sizes = []
    for stream_id in (1, 3):
        field = representation + b"\x08x-custom\x7f\xe9\x06" + bytes([120]) * 1000
        server.receive(raw_frame(1, 5, stream_id, b"\x82\x87\x84\x41\x01h" + field))
        server.pump()
        chain.back.client.pump()
        sizes.append(len(b"".join(chain.back.wire.to_server)))
        chain.back.wire.to_server.clear()
    assert sizes[0] > 500
    assert (sizes[1] > 500) == (representation == b"\x10"), "an intermediary keeps the representation"


def test_nothing_python_runs_between_the_handler_and_the_end() -> None:
    """After the handler, the end that was asked for: nothing for heads, data and windows."""
    calls: list[str] = []

    def handler(exchange: HttpServerStream) -> None:
        exchange.respond(200, [])
        for _ in range(100):
            exchange.send(bytes(10_000))
        exchange.finish()

    def proxy(chain: Chain, exchange: HttpServerStream) -> None:
        request = chain.back.client.forward(exchange, chain.request_filter)
        request.couple(exchange, chain.response_filter)
        request.on_end = lambda trailers: calls.append("end")
        request.on_head = lambda status, headers: calls.append("head")
        request.on_data = lambda data: calls.append("data")
        exchange.on_drain = lambda: calls.append("drain")

    chain = Chain(handler, proxy=proxy)
    assert len(chain.ask().body) == MIB - 48_576
    assert calls == ["end"]


def test_the_authority_is_the_clients_unless_told() -> None:
    origin = Held()
    chain = Chain(
        origin,
        proxy=lambda chain, exchange: chain.back.client.forward(exchange, HeaderFilter()).couple(
            exchange, HeaderFilter()
        ),
    )
    chain.ask()
    assert origin.exchanges[0].authority == b"host.test"


@pytest.mark.parametrize("extra", [[(b"x-remote-user", b"a\nb")], [(b"Impersonate-User", b"a")], [(b":path", b"/")]])
def test_edge_03_a_header_that_cannot_be_sent_sends_nothing(extra: Headers) -> None:
    chain = Chain(answer, proxy=lambda chain, exchange: None)
    chain.ask()
    with pytest.raises(ValueError, match="HTTP/2 does not allow"):
        chain.back.client.forward(chain.exchanges[0], chain.request_filter, extra)
    assert chain.back.client.open_requests == 0


def test_a_request_body_is_streamed_both_windows_coupled() -> None:
    origin = Held()
    chain = Chain(origin)
    request = chain.front.client.request(b"PUT", b"/", b"h", [(b"content-length", b"3000000")], end=False)
    seen = Seen(request)
    request.send(bytes(3_000_000))
    request.finish()
    chain.run()
    assert chain.upstreams[0].buffered <= 3_000_000 - WINDOW
    taken: list[bytes] = []
    upstream = origin.exchanges[0]
    assert upstream.header(b"content-length") == b"3000000"
    upstream.on_end = lambda trailers: upstream.respond(200, [(b"n", b"%d" % sum(map(len, taken)))], end=True)

    def take(data: bytes) -> None:
        taken.append(data)
        upstream.take(len(data))

    upstream.on_data = take
    chain.run()
    assert seen.header(b"n") == b"3000000"
    assert chain.upstreams[0].bytes_out == chain.exchanges[0].bytes_in == 3_000_000
    is_clean(chain)


def test_edge_17_trailers_pass_the_filter() -> None:
    def handler(exchange: HttpServerStream) -> None:
        exchange.respond(200, [])
        exchange.send(b"x")
        exchange.finish([(b"grpc-status", b"0"), (b"x-internal", b"1")])

    chain = Chain(handler)
    seen = chain.ask()
    assert seen.trailers == [(b"grpc-status", b"0")]
    assert chain.told[0] == ("end", [(b"grpc-status", b"0"), (b"x-internal", b"1")])


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 304), (b"GET", 204)])
def test_edge_17_heads_without_bodies_end_the_stream(method: bytes, status: int) -> None:
    length = [] if status == 204 else [(b"content-length", b"5")]
    chain = Chain(lambda exchange: exchange.respond(status, length, end=True))
    seen = chain.ask(method=method)
    assert (seen.status, seen.body, seen.ended) == (status, b"", True)
    assert seen.headers == [*length, (b"x-via", b"wharf")]
    is_clean(chain)


def test_edge_17_interim_responses_are_told_not_passed() -> None:
    informs: list[int] = []

    def handler(exchange: HttpServerStream) -> None:
        exchange.inform(103, [(b"link", b"x")])
        answer(exchange)

    def proxy(chain: Chain, exchange: HttpServerStream) -> None:
        pass_on(chain, exchange)
        chain.upstreams[0].on_inform = lambda status, headers: informs.append(status)

    seen = Chain(handler, proxy=proxy).ask()
    assert (seen.informs, seen.body, informs) == ([], b"hello world", [103])


def test_edge_22_the_head_and_each_chunk_of_a_watch_are_out_at_once() -> None:
    origin = Held(respond=True)
    chain = Chain(origin)
    woken: list[Callable[[], object]] = []
    seen = chain.ask(target=b"/api/v1/pods?watch=1")
    assert (seen.status, seen.ended) == (200, False), "the head, before any event"
    chain.front.server.call_soon = woken.append
    for count in range(3):
        origin.exchanges[0].send(b'{"type":"ADDED"}\n')
        chain.back.server.pump()
        data = b"".join(chain.back.wire.to_client)
        chain.back.wire.to_client.clear()
        chain.back.client.receive(data)
        assert len(woken) == 1, "the front is woken by the bytes themselves, once"
        woken.pop()()
        assert len(chain.front.wire.to_client) == 1
        chain.run()
        assert seen.body == b'{"type":"ADDED"}\n' * (count + 1)


def test_edge_26_a_slow_reader_shuts_its_own_window_only() -> None:
    def handler(exchange: HttpServerStream) -> None:
        exchange.respond(200, [])
        exchange.send(bytes(20 * MIB))
        exchange.finish()

    chain = Chain(handler)
    slow = chain.ask(take=False)
    assert len(slow.body) == WINDOW
    assert chain.exchanges[0].buffered == chain.back.client.held_bytes == WINDOW
    assert len(chain.ask().body) == 20 * MIB, "a neighbour on the same two connections"
    slow.taking = True
    slow.request.take(WINDOW)
    chain.run()
    assert (len(slow.body), slow.ended) == (20 * MIB, True)
    is_clean(chain)


def test_edge_26_a_paused_transport_stops_the_upstream() -> None:
    def handler(exchange: HttpServerStream) -> None:
        exchange.respond(200, [])
        exchange.send(bytes(20 * MIB))
        exchange.finish()

    chain = Chain(handler)
    chain.front.server.paused = True
    chain.ask()
    assert chain.exchanges[0].buffered == WINDOW
    chain.front.server.paused = False
    chain.run()
    is_clean(chain)


def test_coupling_as_late_as_in_on_head() -> None:
    def proxy(chain: Chain, exchange: HttpServerStream) -> None:
        request = chain.back.client.forward(exchange, chain.request_filter)
        request.on_head = lambda status, headers: request.couple(exchange, chain.response_filter)

    chain = Chain(answer, proxy=proxy)
    seen = chain.ask()
    assert (seen.status, seen.body, seen.ended) == (200, b"hello world", True)
    assert seen.header(b"x-internal") is None
    is_clean(chain)


def test_coupling_to_an_exchange_that_is_over_gives_the_request_up() -> None:
    origin = Held()

    def proxy(chain: Chain, exchange: HttpServerStream) -> None:
        request = chain.back.client.forward(exchange, chain.request_filter)
        exchange.respond(503, [], end=True)
        request.couple(exchange, chain.response_filter)
        with pytest.raises(RuntimeError):
            request.couple(exchange, chain.response_filter)

    chain = Chain(origin, proxy=proxy)
    assert chain.ask().status == 503
    assert origin.exchanges == []
    is_clean(chain)


def test_an_upstream_that_lies_about_its_length_aborts_the_exchange() -> None:
    def handler(exchange: HttpServerStream) -> None:
        exchange.respond(200, [(b"content-length", b"100")])
        exchange.send(b"short")
        exchange.finish()

    chain = Chain(handler)
    seen = chain.ask()
    assert seen.failure is not None
    assert not seen.ended
    assert chain.told[0][1].fault is Fault.PROTOCOL
    is_clean(chain)


def test_an_idle_coupled_pair_is_small() -> None:
    """What Python and nghttp2's rcbufs hold besides; nghttp2's own stream structure is some 300 bytes each."""
    origin = Held(respond=True)
    chain = Chain(origin)
    chain.ask(target=b"/api/v1/pods?watch=1", headers=[(b"user-agent", b"x" * 100)])
    exchange, request = chain.exchanges[0], chain.upstreams[0]
    exchange.drop_head()
    assert exchange.headers == []
    with pytest.raises(RuntimeError):
        chain.back.client.forward(exchange, chain.request_filter)
    parts = (exchange, request, exchange.target, exchange.authority)
    assert sum(map(sys.getsizeof, parts)) < 1500


def test_many_at_once_over_one_connection_each_way() -> None:
    chain = Chain(answer, front_limits=ConnectionLimits())
    seen = [Seen(chain.front.client.request(b"GET", b"/%d" % at, b"h", [])) for at in range(2000)]
    chain.run()
    assert all((one.status, one.body, one.ended) == (200, b"hello world", True) for one in seen)
    is_clean(chain)
