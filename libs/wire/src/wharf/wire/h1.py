"""HTTP/1.1 beside gRPC: whole requests in, responses out at once or in pieces, over the session that proxies use.

Pure. Invariant: nothing of a request is kept beyond `http1_head_max` and `plain_body_max`, or its mount's `body_max`.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from wharf.wire import http
from wharf.wire.http import HttpHandler, HttpRequest, HttpResponse, Mount, MountedExchange, plain_error
from wharf.wire.limits import ConnectionLimits, Http1Limits
from wharf.wire.rpc import Peer
from wharf.wire.web import Exchange, Header, Headers
from wharf.wire.web_h1 import Http1ServerSession

log = logging.getLogger("wharf.wire")


class _Client:
    """`web.ServedConnection`, as far as plain endpoints care."""

    version = 1
    local_address = ""
    identity: str | None = None

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.context: Any = None


class _Endpoint:
    """Collects each request, asks the handler, answers."""

    def __init__(self, handler: HttpHandler, body_max: int, mount: Mount | None) -> None:
        self._handler = handler
        self._body_max = body_max
        self._mount = mount

    def serve(self, exchange: Exchange) -> None:
        mount = self._mount
        if mount is not None and not exchange.target.startswith(mount.prefix.encode()):
            mount = None
        body_max = self._body_max if mount is None else mount.body_max
        if (exchange.content_length or 0) > body_max:
            self._refuse(exchange)
        elif exchange.body_expected:
            self._collect(exchange, mount, body_max)
        else:
            self._answer(exchange, b"", mount)

    def _collect(self, exchange: Exchange, mount: Mount | None, body_max: int) -> None:
        body = bytearray()

        def on_data(data: bytes) -> None:
            body.extend(data)
            exchange.take(len(data))
            if len(body) > body_max and not exchange.responded:
                body.clear()
                self._refuse(exchange)

        def on_end(trailers: Headers) -> None:
            if not exchange.responded:
                self._answer(exchange, bytes(body), mount)

        exchange.on_end = on_end
        exchange.on_data = on_data
        if exchange.header(b"expect"):
            exchange.inform(HTTPStatus.CONTINUE, ())

    def _answer(self, exchange: Exchange, body: bytes, mount: Mount | None) -> None:
        request = HttpRequest(
            exchange.method.decode("ascii"),
            exchange.target.decode("latin-1"),
            tuple(exchange.headers),
            body,
            exchange.connection.peer,
        )
        try:
            if mount is not None:
                mount.handler(_Mounted(request, exchange))
                return
            response = self._handler(request)
        except Exception:
            log.exception("handler of %s failed", request.path)
            response = plain_error(HTTPStatus.INTERNAL_SERVER_ERROR)
        _respond(exchange, response)

    def _refuse(self, exchange: Exchange) -> None:
        response = plain_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "request body too large")
        _respond(exchange, response, (b"connection", b"close"))


class _Mounted(MountedExchange):
    """`http.HttpExchange` on HTTP/1.1."""

    def __init__(self, request: HttpRequest, exchange: Exchange) -> None:
        super().__init__(request, exchange)
        self._exchange = exchange

    def _write_response(self, response: HttpResponse) -> None:
        _respond(self._exchange, response)

    def _write_head(self, status: int, headers: http.Headers) -> None:
        self._exchange.respond(status, headers)

    def _write(self, data: bytes) -> None:
        self._exchange.send(data)

    def _write_end(self) -> None:
        self._exchange.finish()


def _respond(exchange: Exchange, response: HttpResponse, *more: Header) -> None:
    if not response.body:
        exchange.respond(response.status, [*response.headers, *more], end=True)
        return
    length = (b"content-length", b"%d" % len(response.body))
    exchange.respond(response.status, [*response.headers, length, *more])
    exchange.send(response.body)
    exchange.finish()


def open_plain_session(
    handler: HttpHandler, limits: ConnectionLimits, peer: Peer, mount: Mount | None = None
) -> Http1ServerSession:
    """A connection on which `handler` answers; a request it fails on, or that is too large, is answered for it."""
    bounds = Http1Limits(
        head_max=limits.http1_head_max,
        line_max=limits.http1_head_max,
        body_held_max=limits.plain_body_max,
        discard_max=limits.plain_body_max,
        write_high=limits.write_high,
        write_low=limits.write_low,
    )
    return Http1ServerSession(_Endpoint(handler, limits.plain_body_max, mount).serve, _Client(peer), bounds)
