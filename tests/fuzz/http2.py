"""HTTP/2 of strangers through a proxy: a client's bytes at the front, an upstream's at the back.

Whatever comes: nothing stays held or open once the connections are closed, no session fails by itself, and an exchange
whose head went out is over.
"""

from __future__ import annotations

from collections.abc import Callable

from wharf.wire._nghttp2 import SessionError
from wharf.wire.h2 import PREFACE
from wharf.wire.limits import ClientLimits, ConnectionLimits
from wharf.wire.web_h2 import (
    HeaderFilter,
    HttpClientSession,
    HttpServerSession,
    HttpServerStream,
    open_client_session,
    open_server_session,
)
from wire.pair import raw_frame
from wire.web_pair import Chain, Connection, Link, Seen, answer, pass_on

_PIECE = 37  # an odd size of reads, so that frames are cut anywhere
_SETTINGS = raw_frame(4, 0, 0)
_REQUESTS = 4  # open when the upstream begins to speak


def requests(data: bytes) -> None:
    """A client of the proxy, after its preface; the first byte says which window it has."""
    limits = ConnectionLimits(stream_window=1024 if data[:1] > b"\x7f" else 65536)
    chain = Chain(answer)
    server = chain.front.server = open_server_session(
        lambda exchange: pass_on(chain, exchange), Connection(), limits, lambda: 0.0
    )
    _feed(server, PREFACE + _SETTINGS + data[1:], chain.back)
    server.close()
    chain.back.run()
    assert server.held_bytes == 0
    assert server.failure is None
    assert chain.back.client.streams == {}
    assert chain.back.client.held_bytes == 0


def responses(data: bytes) -> None:
    """An upstream, after its SETTINGS: half the requests are coupled to exchanges, half told to callbacks."""
    front = Link(lambda exchange: None)
    client = open_client_session(ClientLimits(header_list_max=4096), lambda: 0.0)
    client.receive(_SETTINGS)
    told = [Seen(client.request(b"GET", b"/", b"h", [])) for _ in range(_REQUESTS)]
    for _ in range(_REQUESTS):
        front.client.request(b"GET", b"/", b"h", [])
    front.run()
    exchanges = [stream for stream in front.server.streams.values() if isinstance(stream, HttpServerStream)]
    coupled = [client.forward(exchange, HeaderFilter()) for exchange in exchanges]
    for exchange, request in zip(exchanges, coupled, strict=True):
        request.couple(exchange, HeaderFilter(), clean_end=bool(exchange.id & 2))
    _feed(client, data, front)
    client.close()
    front.run()
    assert client.held_bytes == 0
    assert client.failure is None
    assert client.streams == {}
    assert all(one.ended or one.failure is not None for one in told)
    assert all(request.done for request in coupled)
    assert all(exchange.done or not exchange.responded for exchange in exchanges)


def _feed(session: HttpServerSession | HttpClientSession, data: bytes, other: Link) -> None:
    session.write, session.paused = _ignore, False
    session.pump()
    for at in range(0, len(data), _PIECE):
        try:
            session.receive(data[at : at + _PIECE])
        except SessionError:
            break
        session.pump()
        other.run()
        if session.finished:
            break


def _ignore(data: bytes) -> None:
    """Nobody listens to what the fuzzed side says."""


HTTP2_TARGETS: dict[str, Callable[[bytes], None]] = {"http2_requests": requests, "http2_responses": responses}
