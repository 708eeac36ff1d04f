"""HTTP/1.1 as strangers speak it to us: requests to a served connection, answers to an asked one. Nothing fails inside,
nothing is kept beyond its bounds, and what is read does not depend on where reads were cut.

The first byte chooses how the stream is cut; the rest is the stream.
"""

from __future__ import annotations

from collections.abc import Callable

from wharf.wire.limits import Http1Limits
from wharf.wire.web import Exchange, Headers
from wire.http1 import Asked, Got, Served, pieces

_LIMITS = Http1Limits(head_max=1024, line_max=512, fields_max=40, body_held_max=512, discard_max=512)
_METHODS = (b"GET", b"HEAD", b"POST")


def http1_requests(data: bytes) -> None:
    """Whatever a client sends, every exchange ends once, and the same bytes in one read say the same."""
    if data:
        assert _serve(data[1:], _cut(data)) == _serve(data[1:], [data[1:]])


def http1_responses(data: bytes) -> None:
    """Whatever an upstream sends, a request ends once, and the same bytes in one read say the same."""
    if data:
        method = _METHODS[data[0] % len(_METHODS)]
        assert _ask(method, _cut(data)) == _ask(method, [data[1:]])


def _cut(data: bytes) -> list[bytes]:
    step = data[0] % 64 + 1
    return pieces(data[1:], range(0, len(data), step))


def _serve(stream: bytes, reads: list[bytes]) -> tuple[object, ...]:
    """Serve the stream by echoing; what was seen."""
    served = Served(_echo, limits=_LIMITS, listen=False)
    for piece in reads:
        served.feed(piece)
        assert served.session.held <= max(_LIMITS.head_max, len(stream))
    served.eof()
    served.session.close()
    served.turn()
    assert served.session.failure is None
    assert served.session.open_streams == 0
    assert all(seen.exchange.done for seen in served.seen)
    exchanges = [(seen.exchange.method, seen.exchange.target, bytes(seen.exchange.context)) for seen in served.seen]
    return exchanges, served.session.violation is None


def _echo(exchange: Exchange) -> None:
    ended: list[Headers] = []
    body = exchange.context = bytearray()

    def on_data(data: bytes) -> None:
        body.extend(data)
        exchange.take(len(data))
        exchange.send(data)

    def on_end(trailers: Headers) -> None:
        ended.append(trailers)
        assert len(ended) == 1
        exchange.finish(trailers)

    if exchange.wants_upgrade:
        tunnel = exchange.upgrade([(b"upgrade", b"x")])
        tunnel.on_data = tunnel.write
        tunnel.on_eof = tunnel.write_eof
        return
    if exchange.header(b"expect"):
        # Without it a final answer ends the connection unless some of the body has come: that depends on the reads.
        exchange.inform(100, ())
    exchange.respond(200, [], end=not exchange.body_expected)
    exchange.on_data, exchange.on_end = on_data, on_end


def _ask(method: bytes, reads: list[bytes]) -> tuple[object, ...]:
    asked = Asked(limits=_LIMITS)
    got = Got(asked.session.upgrade_request(method, b"/", b"a", [(b"upgrade", b"x")]))
    got.listen()
    tunnelled = bytearray()
    asked.turn()
    for piece in reads:
        asked.feed(piece)
        if got.tunnel is not None and got.tunnel.on_data is None:
            got.tunnel.on_data = tunnelled.extend
            asked.turn()
    asked.eof()
    asked.session.close()
    asked.turn()
    assert asked.session.failure is None
    assert asked.session.open_requests == 0
    assert got.request.done
    assert (got.trailers is not None) + len(got.failures) + (got.tunnel is not None) == 1
    faults = [failure.fault for failure in got.failures]
    return got.status, bytes(got.body), got.trailers, faults, bytes(tunnelled), [status for status, _ in got.informs]


HTTP1_TARGETS: dict[str, Callable[[bytes], None]] = {
    "http1_requests": http1_requests,
    "http1_responses": http1_responses,
}
