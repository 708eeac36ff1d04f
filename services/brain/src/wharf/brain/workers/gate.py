"""In front of everything a worker serves: a call is let in once this process shows what was published when it came.

So whatever a worker answers from its own pages is linearizable, and users and roles are asked as they stand. As a rule
that costs a look at one word; a call waits only while the writer has not yet published what is already in the file.
What waits is bounded in number and time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from wharf.brain.api.service import fail
from wharf.brain.errors import RequestTimeout, TooManyRequests
from wharf.wire.rpc import Call, Kind, Method, StreamHandler, UnaryHandler
from wharf.wire.timers import Attempts, attempt

MOST_WAITING = 10_000  # calls
MOST_HELD = 100  # messages of a stream
PATIENCE = 5.0  # seconds
LOOK_EVERY = 0.25  # seconds between looks for calls that have waited too long


@dataclass(slots=True)
class _Waiting:
    wanted: int
    go: Callable[[], None]
    call: Call
    until: float


class Gate:
    """See the module. `moved` whenever this process shows something newer."""

    def __init__(
        self,
        published: Callable[[], int],
        look: Callable[[], None],
        time: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        """`look`: show what may be shown; it calls `moved`."""
        self.shown = 0
        self._published, self._look, self._time, self._call_later = published, look, time, call_later
        self._waiting: deque[_Waiting] = deque()  # what they want never falls
        self._looking = False
        self._attempts = Attempts("read what the worker shows")

    def __len__(self) -> int:
        """Calls that wait."""
        return len(self._waiting)

    def methods(self, table: Sequence[Method]) -> list[Method]:
        return [self.gated(method) for method in table]

    def gated(self, method: Method) -> Method:
        if method.kind is Kind.UNARY:
            return Method(method.path, method.kind, self._unary(cast(UnaryHandler, method.handler)))
        return Method(method.path, method.kind, self._stream(cast(StreamHandler, method.handler)))

    def moved(self, shown: int) -> None:
        self.shown = shown
        while self._waiting and self._waiting[0].wanted <= shown:
            waiting = self._waiting.popleft()
            if not waiting.call.done:
                waiting.go()

    def _unary(self, handler: UnaryHandler) -> UnaryHandler:
        published = self._published

        def gated(data: bytes, call: Call) -> None:
            if published() == self.shown:
                handler(data, call)
            else:
                self.enter(lambda: handler(data, call), call)

        return gated

    def _stream(self, handler: StreamHandler) -> StreamHandler:
        """Each message is let in by itself, in order; a stream that says nothing is told nothing."""

        def gated(call: Call) -> None:
            handler(call)
            if call.on_message is not None:
                _Messages(self, call).listen()

        return gated

    def is_open(self) -> bool:
        """Whether whoever comes now is let in at once."""
        return self._published() == self.shown

    def enter(self, go: Callable[[], None], call: Call) -> None:
        """`go` once this process shows what is published now."""
        wanted = self._published()
        self._look()
        if wanted <= self.shown:
            go()
        elif len(self._waiting) >= MOST_WAITING:
            fail(call, TooManyRequests())
        else:
            self._waiting.append(_Waiting(wanted, go, call, self._time() + PATIENCE))
            self._look_later()

    def _look_later(self) -> None:
        if not self._looking and self._waiting:
            self._looking = True
            self._call_later(LOOK_EVERY, self._tick)

    def _tick(self) -> None:
        self._looking = False
        try:
            self._attempts(self._look)
            self._refuse_late()
        finally:
            self._look_later()

    def _refuse_late(self) -> None:
        now = self._time()
        while self._waiting and (self._waiting[0].until <= now or self._waiting[0].call.done):
            waiting = self._waiting.popleft()
            if not waiting.call.done:
                attempt("refuse a request that waited too long", fail, waiting.call, RequestTimeout())


class _Messages:
    """The messages of one stream, held back while the gate is shut."""

    def __init__(self, gate: Gate, call: Call) -> None:
        self._gate, self._call = gate, call
        self._take, self._half_close = call.on_message, call.on_half_close
        self._held: deque[bytes | None] = deque()  # None: the client has said its last
        self._paused = False

    def listen(self) -> None:
        self._call.on_message = self._on_message
        self._call.on_half_close = self._on_half_close

    def _on_message(self, data: bytes) -> None:
        if not self._held and self._gate.is_open():
            self._give(data)
            return
        self._held.append(data)
        if len(self._held) == 1:
            self._gate.enter(self._let_in, self._call)
        elif len(self._held) >= MOST_HELD and not self._paused:
            self._paused = True
            self._call.pause_reading()

    def _on_half_close(self) -> None:
        if self._held:
            self._held.append(None)
        elif self._half_close is not None:
            self._half_close()

    def _let_in(self) -> None:
        while self._held and not self._call.done:
            self._give(self._held.popleft())
        if self._paused and not self._call.done:
            self._paused = False
            self._call.resume_reading()

    def _give(self, data: bytes | None) -> None:
        if data is not None and self._take is not None:
            self._take(data)
        elif data is None and self._half_close is not None:
            self._half_close()
