"""The short way of a relay: a request without a body, HTTP/2 on both sides. The wire does everything but tell the end.

It promises what `relay.Relay` promises, with less to set up: most requests through a proxy are of this kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wharf.wire.web import Failure, Headers

if TYPE_CHECKING:
    from wharf.wire._http import HeaderFilter, HttpClientSession, HttpClientStream, HttpServerStream

Done = Callable[["Coupled", Failure | None], None]


class Coupled:
    """One exchange on its way through; see relay.Relay for what `on_done` means."""

    __slots__ = ("_on_done", "_request", "active", "cancelled", "exchange", "owner")

    def __init__(self, exchange: HttpServerStream, on_done: Done, owner: Any = None) -> None:
        """`owner`: whoever needs it in `on_done`."""
        self.exchange = exchange
        self.owner = owner
        self.cancelled = False
        self.active = False  # an attempt is under way
        self._on_done = on_done
        self._request: HttpClientStream | None = None

    @property
    def status(self) -> int:
        """Of the response; 0: none yet."""
        return self._request.status if self._request is not None else 0

    @property
    def bytes_in(self) -> int:
        """Of the response body."""
        return self._request.bytes_in if self._request is not None else 0

    @property
    def head_sent(self) -> bool:
        return self.exchange.responded

    @property
    def replayable(self) -> bool:
        return not self.exchange.responded and not self.exchange.done

    def start(
        self,
        link: HttpClientSession,
        authority: bytes,
        request_filter: HeaderFilter,
        extra: Headers,
        response_filter: HeaderFilter,
        response_headers: Headers,
        clean_end: bool,
    ) -> None:
        """Begin an attempt on this link, now."""
        exchange = self.exchange
        request = self._request = link.forward(exchange, request_filter, extra, authority)
        self.active = True
        request.couple(exchange, response_filter, response_headers, clean_end)
        request.on_failure = self._end
        exchange.on_complete = self._end
        exchange.on_cancel = self._gone

    def cancel(self) -> None:
        """Nobody here wants the answer any more; `on_done` is called as if the client had gone."""
        if self.active:
            if self._request is not None:
                self._request.reset()
            self._gone()

    def _gone(self) -> None:
        if self.active:
            self.cancelled = True
            self._end()

    def _end(self, failure: Failure | None = None) -> None:
        if not self.active:
            return
        self.active = False
        exchange = self.exchange
        exchange.on_complete = exchange.on_cancel = None
        self._on_done(self, failure)
