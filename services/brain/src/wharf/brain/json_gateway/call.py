"""A `Call` whose answers go out as JSON over HTTP.

Unary answers are one object; streams are one `{"result": …}` object a line, a failure after the first line is an
`{"error": …}` line. Large messages are turned into JSON on a worker thread, one after the other, so that the loop and
the order are kept.

Invariant: at most one unsent message is turned into JSON at a time; while any waits, `writable` is False.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, cast

from wharf.brain.json_gateway.counts import CallCounts, CallObserver
from wharf.brain.json_gateway.marshal import render
from wharf.brain.json_gateway.routes import Route
from wharf.brain.json_gateway.status import JSON_HEADERS, refusal, stream_error
from wharf.common.log import get_log
from wharf.wire.http import HttpExchange, HttpResponse
from wharf.wire.rpc import Call, Code, Metadata

_log = get_log("brain.json")
THREAD_BYTES: Final = 32 * 1024  # messages above are turned into JSON on a thread
_TOO_LATE: Final = "context deadline exceeded"

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class JsonCall:
    """See `wharf.wire.rpc.Call`."""

    def __init__(
        self,
        route: Route,
        exchange: HttpExchange,
        metadata: Metadata,
        timeout: float | None,
        counts: CallCounts,
        spawn: Spawn,
        observer: CallObserver | None = None,
    ) -> None:
        """`timeout`: seconds the client waits; `counts`: of the method; `spawn` runs a coroutine to its end."""
        self.path = route.method
        self.peer = exchange.request.peer
        self.metadata = metadata
        self.done = False
        self.deadline: float | None = None
        self.on_message: Callable[[bytes], None] | None = None
        self.on_half_close: Callable[[], None] | None = None
        self.on_cancel: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self._response = route.response
        self._streams = route.server_streams
        self._exchange = exchange
        self._counts = counts
        self._spawn = spawn
        self._opened = False
        self._unsent: deque[bytes] = deque()
        self._rendering = False
        self._end: tuple[int, str] | None = None  # what `finish` said while messages waited
        self._arrived: deque[bytes] = deque()
        self._half_closed = self._reading_paused = False
        self._observer = observer
        counts.started += 1
        if observer is not None:
            observer.on_start(cast(Call, self))
        self._timer: asyncio.TimerHandle | None = None
        exchange.on_cancel = self.cancel
        exchange.on_drain = self._drained
        if timeout is not None:
            loop = asyncio.get_running_loop()
            self.deadline = loop.time() + timeout
            self._timer = loop.call_at(self.deadline, self._expire)

    # What a handler reads

    @property
    def buffered(self) -> int:
        return sum(map(len, self._unsent))

    @property
    def writable(self) -> bool:
        return not self._unsent and self._exchange.writable

    # What a handler says

    def reply(self, message: bytes) -> None:
        self.send(message)
        self.finish()

    def reply_parts(self, length: int, parts: Iterator[bytes]) -> None:
        self.reply(b"".join(parts))

    def send(self, message: bytes) -> None:
        if self.done or self._end is not None:
            return
        if self._rendering or len(message) > THREAD_BYTES:
            self._unsent.append(message)
            if not self._rendering:
                self._rendering = True
                self._spawn(self._render_waiting())
        else:
            self._write(self._text(message))

    def finish(self, code: int = 0, message: str = "", trailing: Metadata = ()) -> None:
        if self.done or self._end is not None:
            return
        if self._unsent:
            self._end = (int(code), message)
            return
        self._finish(int(code), message)

    def send_initial_metadata(self, metadata: Metadata) -> None:
        """JSON clients do not ask for it."""

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """As above."""

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._hand_over()

    # What the gateway and the wire say

    def receive(self, messages: list[bytes]) -> None:
        """All request messages of a stream; the client sends no more."""
        self._arrived.extend(messages)
        self._half_closed = True
        self._hand_over()

    def cancel(self) -> None:
        """The client is gone, or waits no longer."""
        if not self.done:
            canceled = self.on_cancel
            self._close(Code.CANCELLED)
            if canceled is not None:
                canceled()

    # Inside

    def _hand_over(self) -> None:
        while self._arrived and not self._reading_paused and not self.done:
            message = self._arrived.popleft()
            if self.on_message is not None:
                self.on_message(message)
        if self._half_closed and not self._arrived and not self._reading_paused and not self.done:
            self._half_closed = False
            if self.on_half_close is not None:
                self.on_half_close()

    async def _render_waiting(self) -> None:
        try:
            while self._unsent and not self.done:
                text = await asyncio.to_thread(self._text, self._unsent[0])
                if self.done:
                    return
                self._unsent.popleft()
                self._write(text)
        except Exception as error:  # whatever it is, the client gets an end
            _log.error("an answer could not be turned into JSON", cause=error, method=self.path)
            self._unsent.clear()
            self._abandon(Code.INTERNAL, "etcdserver: internal error, see the server's log")
            return
        finally:
            self._rendering = False
        if self._end is not None:
            self._finish(*self._end)
        else:
            self._drained()

    def _text(self, message: bytes) -> str:
        return render(self._response.FromString(message))

    def _write(self, text: str) -> None:
        self._counts.sent += 1
        if not self._streams:
            self._answer(Code.OK, HttpResponse(200, text.encode("utf-8", "replace"), JSON_HEADERS))
            return
        self._open()
        self._exchange.send(b'{"result":%b}\n' % text.encode("utf-8", "replace"))

    def _finish(self, code: int, text: str) -> None:
        if self.done:
            return
        if self._opened:
            if code:
                self._exchange.send(stream_error(code, text))
            self._exchange.finish()
            self._close(code)
        elif code:
            self._answer(code, refusal(code, text))
        elif self._streams:
            self._exchange.open(200, ())  # nothing, and so of no type
            self._exchange.finish()
            self._close(code)
        else:
            self._answer(Code.INTERNAL, refusal(Code.INTERNAL, "no answer"))

    def _abandon(self, code: int, text: str) -> None:
        """End a call that its handler thinks is open."""
        canceled = self.on_cancel
        self._finish(code, text)
        if canceled is not None:
            canceled()

    def _open(self) -> None:
        if not self._opened:
            self._opened = True
            self._exchange.open(200, JSON_HEADERS)

    def _answer(self, code: int, response: HttpResponse) -> None:
        self._exchange.respond(response)
        self._close(code)

    def _close(self, code: int) -> None:
        self.done = True
        self._counts.handled[code if 0 <= code < len(self._counts.handled) else Code.UNKNOWN] += 1
        if self._observer is not None:
            self._observer.on_end(cast(Call, self), code)
        self._unsent.clear()
        self._arrived.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.on_message = self.on_half_close = self.on_cancel = self.on_drain = None

    def _expire(self) -> None:
        self._timer = None
        self._unsent.clear()
        self._abandon(Code.DEADLINE_EXCEEDED, _TOO_LATE)

    def _drained(self) -> None:
        if self.on_drain is not None and self.writable:
            self.on_drain()
