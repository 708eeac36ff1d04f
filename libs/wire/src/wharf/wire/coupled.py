"""The short way of a relay: a request without a body, HTTP/2 on both sides. The wire does everything but tell the end.

It promises what `relay.Relay` promises, with less to set up: most requests through a proxy are of this kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wharf.wire.web import Failure, Headers

if TYPE_CHECKING:
    from wharf.wire._http import HeaderFilter, HttpClientSession, HttpClientStream, HttpServerStream

Done = Callable[["Coupled", Failure | None], None]


class Coupled:
    """One exchange on its way through; see relay.Relay for what `on_done` means."""

    __slots__ = ("_on_done", "_request", "_told", "cancelled", "exchange")

    def __init__(self, exchange: HttpServerStream, on_done: Done) -> None:
        self.exchange = exchange
        self.cancelled = False
        self._on_done = on_done
        self._request: HttpClientStream | None = None
        self._told = True

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

    @property
    def active(self) -> bool:
        return not self._told

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
        self._told = False
        request = self._request = link.forward(exchange, request_filter, extra, authority)
        request.couple(exchange, response_filter, response_headers, clean_end)
        request.on_failure = self._fail
        exchange.on_complete = self._complete
        exchange.on_cancel = self._gone

    def cancel(self) -> None:
        """Nobody here wants the answer any more; `on_done` is called as if the client had gone."""
        if not self._told:
            if self._request is not None:
                self._request.reset()
            self._gone()

    def _complete(self) -> None:
        self._tell(None)

    def _fail(self, failure: Failure) -> None:
        self._tell(failure)

    def _gone(self) -> None:
        if not self._told:
            self.cancelled = True
            self._tell(None)

    def _tell(self, failure: Failure | None) -> None:
        if self._told:
            return
        self._told = True
        self.exchange.on_complete = self.exchange.on_cancel = None
        self._on_done(self, failure)
