"""HTTP/1.1 as a proxy serves it: one exchange after the other on a connection, streamed both ways, or a tunnel.

A pipelined request is not looked at before the response to the one before is complete, so what waits is bytes, bounded
by the pause of reading. A client that ends its side early still gets its answer, unless that is a stream without an
announced length which has begun: then, as servers of watches do, the end is taken for the client's going away.

Pure. Invariant: at most one exchange is open; after bytes that break HTTP nothing of the connection is read any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from wharf.wire.h1_body import BodyReader, open_body
from wharf.wire.h1_encode import (
    Framing,
    encode_chunk,
    encode_inform,
    encode_last_chunk,
    encode_switch,
    plan_response,
)
from wharf.wire.h1_head import Malformed, NotHttp, RequestHead, describe_noise, find_head, parse_request_head
from wharf.wire.h1_session import Http1Session, RawTunnel
from wharf.wire.limits import Http1Limits
from wharf.wire.web import Exchange, Header, Headers, Refusal, ServedConnection, Tunnel, plain_refusal

log = logging.getLogger("wharf.wire")


class Http1Exchange:
    """`web.Exchange` on HTTP/1.1. The body waits until `on_data` is set."""

    __slots__ = (
        "_finished",
        "_framing",
        "_head",
        "_informed",
        "_keep_alive",
        "_left",
        "_on_data",
        "_session",
        "authority",
        "body_expected",
        "bytes_in",
        "bytes_out",
        "connection",
        "content_length",
        "context",
        "done",
        "method",
        "on_cancel",
        "on_complete",
        "on_drain",
        "on_end",
        "responded",
        "target",
        "untaken",
        "wants_upgrade",
    )

    def __init__(self, session: Http1ServerSession, head: RequestHead) -> None:
        self.connection: ServedConnection = session.connection
        self.method = head.method
        self.target = head.target
        self.authority = head.authority
        self.content_length = head.length
        self.body_expected = head.chunked or bool(head.length)
        self.wants_upgrade = head.wants_upgrade
        self.done = False
        self.responded = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.untaken = 0
        self.context: Any = None
        self.on_end: Callable[[Headers], None] | None = None
        self.on_cancel: Callable[[], None] | None = None
        self.on_complete: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self._on_data: Callable[[bytes], None] | None = None
        self._session = session
        self._head = head
        self._framing = Framing.NONE
        self._left = 0  # of a response body by length
        self._keep_alive = head.keep_alive
        self._informed = False
        self._finished = False

    @property
    def headers(self) -> list[Header]:
        return self._head.headers

    def header(self, name: bytes) -> bytes | None:
        for header in self._head.headers:
            if header[0] == name:
                return header[1]
        return None

    def drop_head(self) -> None:
        self._head.headers.clear()

    def has_prefix(self, prefix: bytes) -> bool:
        return any(name.startswith(prefix) for name, _ in self._head.headers)

    @property
    def reader_timeout(self) -> float:
        return self._session.reader_timeout

    @reader_timeout.setter
    def reader_timeout(self, seconds: float) -> None:
        self._session.reader_timeout = seconds

    @property
    def on_data(self) -> Callable[[bytes], None] | None:
        return self._on_data

    @on_data.setter
    def on_data(self, callback: Callable[[bytes], None] | None) -> None:
        self._on_data = callback
        if callback is not None and self._session.held:
            self._session.wake()

    @property
    def buffered(self) -> int:
        return 0 if self.done else self._session.queued

    @property
    def writable(self) -> bool:
        return not self._finished and not self.done and self._session.writable

    def take(self, length: int) -> None:
        before = self.untaken
        self.untaken = before - length
        limit = self._session.limits.body_held_max
        if before >= limit > self.untaken:
            self._session.wake()

    def inform(self, status: int, headers: Headers) -> None:
        if self.done or self.responded or not self._head.minor:
            return
        self._informed = self._informed or status == HTTPStatus.CONTINUE
        self._session.queue(encode_inform(status, headers))

    def respond(self, status: int, headers: Headers, end: bool = False) -> None:
        """As `web.Exchange.respond`. ValueError when a header cannot be sent: nothing was, and another may be."""
        if self.done:
            return
        if self.responded:
            raise RuntimeError("a response has one head")
        keep_alive = self._keep_alive and self._session.keeps_open(self, self._informed)
        plan = plan_response(
            status, headers, method=self.method, minor=self._head.minor, end=end, keep_alive=keep_alive
        )
        self.responded = True
        self._keep_alive, self._framing, self._left = plan.keep_alive, plan.framing, plan.length
        self._session.queue(plan.head)
        if end:
            self.finish()

    def send(self, data: bytes) -> None:
        if self.done or self._finished or not data or self._framing is Framing.NONE:
            return
        self.bytes_out += len(data)
        if self._framing is Framing.CHUNKED:
            self._session.queue(encode_chunk(data))
            return
        if self._framing is Framing.LENGTH:
            self._left -= len(data)
            if self._left < 0:
                log.error("a response is longer than it announced: %s", self.connection.peer.address)
                self.abort()
                return
        self._session.queue(data)

    def finish(self, trailers: Headers = ()) -> None:
        if self.done or self._finished:
            return
        if not self.responded:
            raise RuntimeError("a response begins with its head")
        if self._framing is Framing.CHUNKED:
            self._session.queue(encode_last_chunk(trailers))
        elif self._left:
            log.error("a response is shorter than it announced: %s", self.connection.peer.address)
            self.abort()
            return
        self._finished = True
        self._session.wake()

    def abort(self, code: int = 2) -> None:
        """As `web.Exchange.abort`; HTTP/1.1 has no codes."""
        if not self.done:
            self.close()
            self._session.drop()

    def upgrade(self, headers: Headers) -> Tunnel:
        """As `web.Exchange.upgrade`; the tunnel takes over from the exchange, which is done and silent."""
        if self.done or self.responded or not self.wants_upgrade:
            raise RuntimeError("no upgrade was asked for")
        self._session.queue(encode_switch(headers))
        self.responded = True
        self.close()
        return self._session.switch()

    # --- the session's side
    @property
    def is_streaming(self) -> bool:
        """Whether a response without an announced length is under way."""
        return self.responded and not self._finished and self._framing in (Framing.CHUNKED, Framing.CLOSE)

    @property
    def is_over(self) -> bool:
        """The last byte of the response was queued."""
        return self._finished

    @property
    def keep_alive(self) -> bool:
        return self._keep_alive

    @property
    def expects_continue(self) -> bool:
        return self._head.expects_continue

    def close(self) -> None:
        """The end: nobody is called from now on."""
        self.done = True
        self._on_data = self.on_end = self.on_cancel = self.on_complete = self.on_drain = None


class Http1ServerSession(Http1Session):
    """One client connection: `session.WebSession`. `port` is to be set before the first `pump`."""

    def __init__(
        self,
        handler: Callable[[Exchange], None],
        connection: ServedConnection,
        limits: Http1Limits | None = None,
        refusal: Refusal = plain_refusal,
    ) -> None:
        super().__init__(limits or Http1Limits())
        self.connection = connection
        self.reader_timeout = 0.0  # of the last exchange
        self._handler = handler
        self._refusal = refusal
        self._exchange: Http1Exchange | None = None
        self._body: BodyReader | None = None  # being read: what follows it is not looked at
        self._discarded = 0
        self._refusing = False

    @property
    def open_streams(self) -> int:
        return int(self._exchange is not None or (self.tunnel is not None and not self._ended))

    @property
    def answering(self) -> bool:
        """Whether a whole request waits for the rest of its response."""
        return self._exchange is not None and self._body is None

    def announce_shutdown(self) -> None:
        self._closing = True

    def refuse_streams(self) -> None:
        self._closing = self._refusing = True
        if not self.open_streams:
            self.end()

    def receive_eof(self) -> None:
        exchange = self._exchange
        super().receive_eof()
        if exchange is not None and exchange.is_streaming:
            self._cancel(exchange)
            self.end()

    def close(self, error: Exception | None = None) -> None:
        """The transport is gone, by this error if it was one."""
        exchange, tunnel = self._exchange, self.tunnel
        self._detach(keep_data=tunnel is not None and self.held > 0)
        if exchange is not None:
            self._cancel(exchange)
        if tunnel is not None:
            tunnel.lose(error)

    # --- the exchange's side
    def keeps_open(self, exchange: Http1Exchange, informed: bool) -> bool:
        """Whether the connection can go on after a response that begins now."""
        if self._closing:
            return False
        if self._body is None:
            return True
        if exchange.expects_continue and not informed and not exchange.bytes_in and not self.held:
            return False  # whether the body still comes is the client's choice
        rest = (exchange.content_length or 0) - exchange.bytes_in
        return rest <= self.limits.discard_max

    def drop(self) -> None:
        """The exchange was given up."""
        self._exchange = None
        self.cut()

    def switch(self) -> Tunnel:
        """The exchange is over; the connection belongs to the tunnel."""
        self._exchange = None
        self.tunnel = RawTunnel(self)
        self.wake()
        return self.tunnel

    # --- reading
    def _advance(self) -> None:
        while not self._ended and self.tunnel is None:
            if self._body is not None:
                if not self._read_body(self._body):
                    return
            elif self._exchange is not None or not self._read_head():
                return

    def _read_head(self) -> bool:
        data = self._data
        if data.startswith(b"\r\n", self._at):
            self._at += 2  # some clients end a body with one more line
        if not self._turn_left:
            return False
        if self._at < len(data):
            noise = describe_noise(data[self._at : self._at + 1])
            if noise is not None:
                raise NotHttp(HTTPStatus.BAD_REQUEST, noise)
            end = find_head(data, self._at, self.limits)
            if end >= 0:
                self._open(parse_request_head(data[self._at : end], self.limits), end)
                return True
        if self._eof or self._refusing:
            self.end()
        return False

    def _open(self, head: RequestHead, end: int) -> None:
        self._at = end
        self._turn_left -= 1
        self._discarded = 0
        body = open_body(head.length, head.chunked, self.limits, until_close=False)
        self._body = None if body.done else body
        exchange = self._exchange = Http1Exchange(self, head)
        try:
            self._handler(exchange)
        except Exception:
            log.exception("handler of a request from %s failed", self.connection.peer.address)
            if exchange.responded or exchange.done:
                exchange.abort()
            else:
                exchange.respond(HTTPStatus.INTERNAL_SERVER_ERROR, [(b"connection", b"close")], end=True)

    def _read_body(self, body: BodyReader) -> bool:
        """One piece; False when there is none to be had now."""
        exchange = self._exchange
        if exchange is not None and exchange.is_over:
            exchange = None  # what still comes is read for the next request's sake
        if exchange is not None and (exchange.on_data is None or exchange.untaken >= self.limits.body_held_max):
            return False
        piece, self._at = body.read(self._data, self._at)
        if body.done:
            self._body = None
        if not piece and not body.done:
            if self._eof:
                self._give_up()
            return False
        if exchange is not None:
            self._hand_out(exchange, body, piece)
        else:
            self._discarded += len(piece)
            if self._discarded > self.limits.discard_max:
                self.linger()
        return True

    def _hand_out(self, exchange: Http1Exchange, body: BodyReader, piece: bytes) -> None:
        if piece:
            exchange.bytes_in += len(piece)
            exchange.untaken += len(piece)
            if exchange.on_data is not None:
                exchange.on_data(piece)
        if body.done and exchange.on_end is not None:
            exchange.on_end(body.trailers)

    def _give_up(self) -> None:
        """The client's end came in the middle of a body."""
        if self._exchange is not None and not self._exchange.is_over:
            self._cancel(self._exchange)
        self.end()

    def _refuse(self, error: Malformed) -> None:
        self.violation = str(error)
        exchange = self._exchange
        answerable = exchange is None or not exchange.responded
        if exchange is not None:
            self._cancel(exchange)
        if not answerable:
            self.cut()
            return
        if isinstance(error, NotHttp):
            self.end()
            return
        headers, body = self._refusal(error.status, str(error))
        plan = plan_response(error.status, headers, method=b"GET", minor=1, end=False, keep_alive=False)
        self.queue(plan.head + body)
        self.linger()

    # --- writing
    def _on_written(self) -> bool:
        exchange = self._exchange
        if exchange is None or not exchange.is_over:
            return False
        self._exchange = None
        callback = exchange.on_complete
        more_comes = self._body is not None or self.held > 0
        behind_upgrade = exchange.wants_upgrade and self.held > 0  # whoever sent that thought it had a tunnel
        if self._refusing or not exchange.keep_alive or behind_upgrade:
            if more_comes:
                self.linger()
            else:
                self.end()
        exchange.close()
        if callback is not None:
            callback()
        return True

    def _tell_drained(self) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.on_drain is not None and not exchange.is_over:
            exchange.on_drain()

    def _cancel(self, exchange: Http1Exchange) -> None:
        callback = exchange.on_cancel
        self._exchange = None
        if not exchange.done:
            exchange.close()
            if callback is not None:
                callback()
