"""HTTP/1.1 as a proxy asks it of an upstream: one request at a time on a kept connection, or an Upgrade to a tunnel.

Requests are never pipelined. The connection is used again only when the response ended by its own framing, the request
was sent whole and not a byte came that belongs to neither: what a broken upstream sends too much must never be read as
the answer to the next client.

Pure. Invariant: `capacity` is 1 only then; a request ends by exactly one of `on_end`, `on_failure`, `on_upgrade` and
`reset`.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from wharf.wire.h1_body import BodyReader, open_body
from wharf.wire.h1_encode import Framing, Plan, encode_chunk, encode_last_chunk, plan_request
from wharf.wire.h1_head import Malformed, ResponseHead, find_head, parse_response_head
from wharf.wire.h1_session import Http1Session, RawTunnel
from wharf.wire.limits import Http1Limits
from wharf.wire.web import Failure, Fault, Header, Headers, Tunnel


class Http1Request:
    """`web.Request` on HTTP/1.1. Of an upgrade: `on_upgrade` instead of `on_head` when the answer is 101."""

    __slots__ = (
        "_framing",
        "_left",
        "_session",
        "asks_upgrade",
        "bytes_in",
        "bytes_out",
        "done",
        "informs",
        "method",
        "on_data",
        "on_drain",
        "on_end",
        "on_failure",
        "on_head",
        "on_inform",
        "on_upgrade",
        "sent",
        "status",
        "untaken",
    )

    def __init__(self, session: Http1ClientSession, method: bytes, plan: Plan, *, end: bool, upgrade: bool) -> None:
        self.method = method
        self.asks_upgrade = upgrade
        self.done = False
        self.status = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.untaken = 0
        self.informs = 0
        self.sent = end  # the whole request was queued
        self.on_inform: Callable[[int, list[Header]], None] | None = None
        self.on_head: Callable[[int, list[Header]], None] | None = None
        self.on_upgrade: Callable[[list[Header], Tunnel], None] | None = None
        self.on_data: Callable[[bytes], None] | None = None
        self.on_end: Callable[[Headers], None] | None = None
        self.on_failure: Callable[[Failure], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self._session = session
        self._framing = plan.framing
        self._left = plan.length

    @property
    def buffered(self) -> int:
        return 0 if self.done else self._session.queued

    @property
    def writable(self) -> bool:
        return not self.sent and not self.done and self._session.writable

    def take(self, length: int) -> None:
        before = self.untaken
        self.untaken = before - length
        if before >= self._session.limits.body_held_max > self.untaken:
            self._session.wake()

    def send(self, data: bytes) -> None:
        if self.done or self.sent or not data:
            return
        self.bytes_out += len(data)
        if self._framing is Framing.CHUNKED:
            self._session.queue(encode_chunk(data))
            return
        self._left -= len(data)
        if self._left < 0:
            self._session.fail(Fault.PROTOCOL, "the request body is longer than it announced")
            return
        self._session.queue(data)

    def finish(self, trailers: Headers = ()) -> None:
        if self.done or self.sent:
            return
        if self._framing is Framing.CHUNKED:
            self._session.queue(encode_last_chunk(trailers))
        elif self._left:
            self._session.fail(Fault.PROTOCOL, "the request body is shorter than it announced")
            return
        self.sent = True
        self._session.wake()

    def reset(self, code: int = 8) -> None:
        """As `web.Request.reset`; HTTP/1.1 has no codes. A request not yet written costs no connection."""
        if not self.done:
            self.close()
            self._session.drop()

    def close(self) -> None:
        """The end: nobody is called from now on."""
        self.done = True
        self.on_inform = self.on_head = self.on_upgrade = self.on_data = None
        self.on_end = self.on_failure = self.on_drain = None


class Http1ClientSession(Http1Session):
    """One connection to an upstream: `session.WebSession` and `web.Link`."""

    def __init__(self, limits: Http1Limits | None = None) -> None:
        super().__init__(limits or Http1Limits())
        self._request: Http1Request | None = None
        self._written = False  # bytes of the request went to the transport
        self._head: ResponseHead | None = None
        self._body: BodyReader | None = None

    # --- web.Link
    @property
    def open_requests(self) -> int:
        return int(self._request is not None or (self.tunnel is not None and not self._ended))

    @property
    def open_streams(self) -> int:
        return self.open_requests

    @property
    def capacity(self) -> int:
        taken = self._request is not None or self.tunnel is not None or self.held
        return 0 if taken or self._ended or self._closing or self._eof else 1

    def request(
        self,
        method: bytes,
        target: bytes,
        authority: bytes,
        headers: Headers,
        *,
        scheme: bytes = b"https",
        end: bool = True,
    ) -> Http1Request:
        """As `web.Link.request`: a body without content-length goes in chunks. ValueError when it cannot be said."""
        return self._open(method, target, authority, headers, end=end, upgrade=False)

    def upgrade_request(self, method: bytes, target: bytes, authority: bytes, headers: Headers) -> Http1Request:
        """A request whose `upgrade` headers ask for the connection: `on_upgrade`, or a response as to any request."""
        return self._open(method, target, authority, headers, end=True, upgrade=True)

    def _open(
        self, method: bytes, target: bytes, authority: bytes, headers: Headers, *, end: bool, upgrade: bool
    ) -> Http1Request:
        if not self.capacity:
            raise RuntimeError("the connection takes no request now")
        plan = plan_request(method, target, authority, headers, end=end, upgrade=upgrade)
        request = self._request = Http1Request(self, method, plan, end=end, upgrade=upgrade)
        self._written = False
        self.queue(plan.head)
        return request

    # --- session.WebSession
    def announce_shutdown(self) -> None:
        self._closing = True

    def refuse_streams(self) -> None:
        self._closing = True
        if not self.open_requests:
            self.end()

    def close(self, error: Exception | None = None) -> None:
        """The transport is gone, by this error if it was one."""
        tunnel, waits = self.tunnel, self.held > 0
        if tunnel is not None:
            self._detach(keep_data=waits)
            tunnel.lose(error)
        elif self._request is not None and self._eof and error is None and waits:
            self._detach(keep_data=True)  # the response may be whole: who takes it decides when it is read
        else:
            if self._request is not None:
                why = f"connection lost: {error}" if error is not None else "connection closed by the upstream"
                self.fail(Fault.LOST if self._written else Fault.REFUSED, why)
            self._detach(keep_data=False)

    # --- the request's side
    def fail(self, fault: Fault, text: str) -> None:
        """The request under way ends without a whole response, and the connection with it."""
        request, self._request = self._request, None
        self._body = None
        self.cut()
        if request is None or request.done:
            return
        callback = request.on_failure
        request.close()
        if callback is not None:
            callback(Failure(fault, text))

    def drop(self) -> None:
        """Nobody wants the answer to the request under way."""
        self._request = self._body = None
        if self._written:
            self.cut()
        else:
            self._out.clear()
            self.queued = 0
            self.wake()

    # --- reading
    def _advance(self) -> None:
        while not self._ended and self.tunnel is None:
            if self._request is None:
                if self.held:
                    raise Malformed(HTTPStatus.BAD_GATEWAY, "bytes that answer no request")
                if self._eof or self._closing:
                    self.end()
                return
            request = self._request
            more = self._read_head(request) if self._body is None else self._read_body(request, self._body)
            if not more:
                break

    def _read_head(self, request: Http1Request) -> bool:
        if self.held and not self._written:
            raise Malformed(HTTPStatus.BAD_GATEWAY, "an answer before the request")
        end = find_head(self._data, self._at, self.limits)
        if end < 0:
            if self._eof:
                self._lose("connection closed before the response")
            return False
        head = parse_response_head(self._data[self._at : end], request.method, self.limits)
        self._at = end
        if head.status == HTTPStatus.SWITCHING_PROTOCOLS:
            self._switch(request, head)
        elif head.status < HTTPStatus.OK:
            request.informs += 1
            if request.informs > self.limits.informs_max:
                raise Malformed(HTTPStatus.BAD_GATEWAY, f"more than {self.limits.informs_max} interim responses")
            if request.on_inform is not None:
                request.on_inform(head.status, head.headers)
        else:
            request.status = head.status
            self._head = head
            self._body = open_body(head.length, head.chunked, self.limits, until_close=True)
            if request.on_head is not None:
                request.on_head(head.status, head.headers)
        return True

    def _switch(self, request: Http1Request, head: ResponseHead) -> None:
        if not request.asks_upgrade:
            raise Malformed(HTTPStatus.BAD_GATEWAY, "101 to a request that asked for no upgrade")
        request.status = head.status
        callback = request.on_upgrade
        request.close()
        self._request = None
        tunnel = self.tunnel = RawTunnel(self)
        self.wake()
        if callback is None:
            tunnel.abort()
        else:
            callback(head.headers, tunnel)

    def _read_body(self, request: Http1Request, body: BodyReader) -> bool:
        if request.untaken >= self.limits.body_held_max:
            return False
        piece, self._at = body.read(self._data, self._at)
        if piece:
            request.bytes_in += len(piece)
            if request.on_data is not None:
                request.untaken += len(piece)
                request.on_data(piece)
            if request.done:
                return True
        elif not body.done:
            if not self._eof:
                return False
            if not body.read_eof():
                self._lose("connection closed in the middle of the response")
                return False
        if body.done:
            self._complete(request, body)
        return True

    def _complete(self, request: Http1Request, body: BodyReader) -> None:
        """The response is whole."""
        head = self._head
        self._request = self._body = self._head = None
        if not request.sent or self.queued:
            self.cut()  # answered before the whole request was sent: the rest is not wanted
        elif head is None or not head.keep_alive or self._eof or self._closing:
            self.end()
        callback = request.on_end
        request.close()
        if callback is not None:
            callback(body.trailers)

    def _lose(self, text: str) -> None:
        self.fail(Fault.LOST if self._written else Fault.REFUSED, text)

    def _refuse(self, error: Malformed) -> None:
        self.violation = str(error)
        self.fail(Fault.PROTOCOL, f"upstream broke HTTP/1.1: {error}")

    # --- writing
    def _on_written(self) -> bool:
        if self._request is not None:
            self._written = True
        return False

    def _tell_drained(self) -> None:
        request = self._request
        if request is not None and request.on_drain is not None and not request.sent:
            request.on_drain()
