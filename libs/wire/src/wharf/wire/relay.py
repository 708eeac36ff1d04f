"""One exchange answered by an upstream: head, body and end flow both ways, with back-pressure and no buffering.

An attempt that fails before a response head leaves the exchange as it was: it may be started again elsewhere, with the
request body as far as it was kept. After the head there is no second attempt: a truncated body never ends cleanly,
unless the exchange is one whose reader expects that (a watch).

Where both sides are HTTP/2 the wire forwards and couples by itself, without calls per chunk; else callbacks do it.

Invariant: `on_done` is called exactly once for each attempt, and nothing of an attempt happens after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from wharf.wire.web import Exchange, Failure, Fault, Header, Headers, Link, Request

if TYPE_CHECKING:
    from wharf.wire._http import HeaderFilter, HttpClientSession, HttpClientStream, HttpServerStream

_CONTINUE, _SWITCHING = 100, 101
_INFORMS_MAX = 32  # interim responses of one attempt; no window bounds them, and a slow client would let them pile up
_CANCEL = 8  # HTTP/2 error code: not wanted any more

# What a proxy's request filter names besides identity headers: `host` goes upstream as the authority, `expect` is
# answered here, when reading begins.
REQUEST_ONLY_HERE: tuple[bytes, ...] = (b"host", b"expect")

Done = Callable[["Relay", Failure | None], None]


class Relay:
    """One exchange on its way through.

    After `on_done`: `failure` None and not `cancelled`: a whole response went out. `cancelled`: the client went away.
    A failure and not `head_sent`: start again if `replayable`, or answer an error. Otherwise the exchange is over.
    """

    __slots__ = (
        "_body_ended",
        "_completed",
        "_held",
        "_informs",
        "_kept",
        "_kept_size",
        "_on_done",
        "_outer_cancel",
        "_replay_max",
        "_request",
        "_request_filter",
        "_response_filter",
        "_taken_over",
        "_trailers",
        "_untaken",
        "_upstream_ended",
        "attempts",
        "bytes_in",
        "bytes_out",
        "cancelled",
        "clean_end",
        "exchange",
        "owner",
        "response_headers",
        "status",
    )

    def __init__(
        self,
        exchange: Exchange,
        *,
        request_filter: HeaderFilter,
        response_filter: HeaderFilter,
        on_done: Done,
        clean_end: bool = False,
        replay_max: int = 64 * 1024,
        response_headers: Headers = (),
    ) -> None:
        """`replay_max`: bytes of a request body kept for another attempt; `response_headers`: added to the response."""
        self.exchange = exchange
        self.owner: Any = None  # whoever needs it in `on_done`
        self.clean_end = clean_end
        self.attempts = 0
        self.status = 0  # of the response; 0: none yet
        self.bytes_in = 0  # body bytes from the upstream, of the last attempt
        self.bytes_out = 0
        self.cancelled = False
        self.response_headers = response_headers  # of the next attempt
        self._request_filter = request_filter
        self._response_filter = response_filter
        self._on_done = on_done
        self._replay_max = replay_max
        self._request: Request | None = None
        self._taken_over = False
        self._kept: list[bytes] | None = []  # the request body so far; None: too long to be repeated
        self._kept_size = 0
        self._untaken = 0  # request body bytes the client may not yet replace
        self._held = 0  # response body bytes the upstream may not yet replace
        self._body_ended = not exchange.body_expected
        self._trailers: Headers = ()
        self._informs = 0
        self._upstream_ended = False
        self._completed = False
        self._outer_cancel: Callable[[], None] | None = None

    @property
    def head_sent(self) -> bool:
        """Whether the client has seen a response head."""
        return self.exchange.responded

    @property
    def replayable(self) -> bool:
        """Whether another attempt could send the same request."""
        return self._kept is not None and not self.exchange.responded and not self.exchange.done

    @property
    def active(self) -> bool:
        """Whether an attempt is under way."""
        return self._request is not None

    # --- commands
    def start(
        self,
        link: Link,
        authority: bytes,
        extra: Sequence[Header] = (),
        *,
        scheme: bytes = b"https",
        target: bytes | None = None,
    ) -> None:
        """Begin an attempt on this link, now: the filtered request, with `extra` headers. `target`: instead of the
        client's own. Not while another attempt is active; again only when `replayable`. ValueError when a header cannot
        be sent: then nothing was, and `on_done` is not called."""
        exchange = self.exchange
        self.attempts += 1
        self.status = self.bytes_in = self.bytes_out = 0
        both_http2 = link.version == 2 and exchange.connection.version == 2
        if both_http2 and target is None:
            session = cast("HttpClientSession", link)
            request: Request = session.forward(
                cast("HttpServerStream", exchange), self._request_filter, extra, authority
            )
        else:
            headers = [*self._request_filter.apply(exchange.headers), *extra]
            request = link.request(
                exchange.method,
                exchange.target if target is None else target,
                authority,
                headers,
                scheme=scheme,
                end=not exchange.body_expected,
            )
        self._attach(request)
        if both_http2:
            stream = cast("HttpClientStream", request)
            stream.couple(
                cast("HttpServerStream", exchange), self._response_filter, self.response_headers, self.clean_end
            )
        else:
            request.on_inform = self._inform
            request.on_head = self._head
            request.on_data = self._data
            exchange.on_drain = self._downstream_drained
        if exchange.body_expected:
            self._send_body(request)

    def adopt(self, request: Request, status: int, headers: list[Header]) -> None:
        """Answer with a response whose head came already: that of an upgrade which was not granted."""
        self.attempts += 1
        self._attach(request)
        request.on_data = self._data
        self.exchange.on_drain = self._downstream_drained
        self._head(status, headers)

    def cancel(self) -> None:
        """End the attempt: the gateway wants no more of it. `on_done` is called as if the client had gone."""
        self._cancelled()

    # --- the request on its way up
    def _attach(self, request: Request) -> None:
        exchange = self.exchange
        self._request = request
        self._upstream_ended = self._completed = False
        self._informs = 0
        request.on_end = self._end
        request.on_failure = self._fail
        self._outer_cancel = exchange.on_cancel
        exchange.on_cancel = self._cancelled
        exchange.on_complete = self._complete

    def _send_body(self, request: Request) -> None:
        request.on_drain = self._upstream_drained
        if not self._taken_over:
            self._taken_over = True
            self.exchange.on_end = self._body_end
            self.exchange.on_data = self._body_data
            if (self.exchange.header(b"expect") or b"").lower() == b"100-continue":
                self.exchange.inform(_CONTINUE, ())
            return
        for data in self._kept or ():
            self.bytes_out += len(data)
            request.send(data)
        self._forget_long_body()
        if self._body_ended:
            request.finish(self._trailers)
        if request.writable:
            self._upstream_drained()

    def _body_data(self, data: bytes) -> None:
        if self._kept is not None:
            self._kept.append(data)
            self._kept_size += len(data)
        self._untaken += len(data)
        request = self._request
        if request is None:
            return  # between two attempts: the window stays shut
        self._forget_long_body()
        self.bytes_out += len(data)
        request.send(data)
        if request.writable:
            self._upstream_drained()

    def _body_end(self, trailers: Headers) -> None:
        self._body_ended = True
        self._trailers = self._request_filter.apply(trailers)  # what may not come in a head may not come late either
        if self._request is not None:
            self._request.finish(self._trailers)

    def _forget_long_body(self) -> None:
        if self._kept_size > self._replay_max:
            self._kept = None

    def _upstream_drained(self) -> None:
        untaken, self._untaken = self._untaken, 0
        if untaken:
            self.exchange.take(untaken)

    # --- the response on its way down
    def _inform(self, status: int, headers: list[Header]) -> None:
        self._informs += 1
        if self._informs > _INFORMS_MAX:
            self._break(f"more than {_INFORMS_MAX} interim responses")
        elif status not in (_CONTINUE, _SWITCHING):
            self.exchange.inform(status, self._response_filter.apply(headers))

    def _head(self, status: int, headers: list[Header]) -> None:
        self.status = status
        try:
            self.exchange.respond(status, [*self._response_filter.apply(headers), *self.response_headers])
        except ValueError as error:  # nothing was sent: the exchange can still hear of it
            self._break(f"the response cannot be passed on: {error}")

    def _data(self, data: bytes) -> None:
        self.bytes_in += len(data)
        self._held += len(data)
        self.exchange.send(data)
        if self.exchange.writable:
            self._downstream_drained()
        elif self.exchange.done:
            self._break("the response is longer than it announced")

    def _downstream_drained(self) -> None:
        held, self._held = self._held, 0
        if held and self._request is not None:
            self._request.take(held)

    # --- ends
    def _end(self, trailers: Headers) -> None:
        request = self._request
        if request is None:
            return
        self._note(request)
        self._upstream_ended = True
        if not self._body_ended and not request.done:
            request.reset()  # it answered without reading the rest
        try:
            self.exchange.finish(self._response_filter.apply(trailers))
        except ValueError:
            self.exchange.abort()
        if self._completed:
            self._report(None)
        elif self.exchange.done:
            self._report(Failure(Fault.PROTOCOL, "the response did not end as it announced"))

    def _complete(self) -> None:
        self._completed = True
        if self._upstream_ended:
            self._report(None)

    def _fail(self, failure: Failure) -> None:
        request = self._request
        if request is None:
            return
        self._note(request)
        exchange = self.exchange
        self._request = None
        if exchange.responded and not exchange.done:
            if self.clean_end:
                exchange.finish()
            else:
                exchange.abort()
        self._report(failure)

    def _break(self, why: str) -> None:
        """The upstream's response cannot go on to the client."""
        if self._request is not None:
            self._request.reset()
        self._fail(Failure(Fault.PROTOCOL, why))

    def _cancelled(self) -> None:
        request = self._request
        if request is None:
            return
        self._note(request)
        self.cancelled = True
        if not request.done:
            request.reset(_CANCEL)
        self._report(None)

    def _note(self, request: Request) -> None:
        self.status = request.status or self.status
        self.bytes_in, self.bytes_out = request.bytes_in, request.bytes_out

    def _report(self, failure: Failure | None) -> None:
        self._request = None
        self._held = 0
        self.exchange.on_cancel, self._outer_cancel = self._outer_cancel, None
        self.exchange.on_complete = None
        self._on_done(self, failure)
