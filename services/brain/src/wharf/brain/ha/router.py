"""The method table of a node among several: each call goes where it is to be answered, and waits while nobody leads.

A call waits only if nothing has been done about it; once it was sent to a leader that vanished, its outcome is unknown
and the client is told so in etcd's words. What waits is bounded in number, bytes and time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

from wharf.brain.api.answered import Caller, Reply
from wharf.brain.api.encode import as_member
from wharf.brain.api.service import fail
from wharf.brain.errors import BrainError, LeaderFailed, NoLeader, RequestTimeout, TooManyRequests
from wharf.brain.ha.link import AUTH_OLD
from wharf.brain.ha.routes import RANGE, Route, is_serializable, route_of
from wharf.brain.ha.watch_barrier import WatchBarrier
from wharf.wire import timers
from wharf.wire.rpc import Call, Code, Kind, Metadata, Method, StreamHandler, UnaryHandler

MOST_WAITING = 10_000  # calls: a second's worth of a busy apiserver many times over
MOST_BYTES = 64 << 20  # of their requests
LOOK_EVERY = 0.25  # seconds between looks for calls that have waited too long


class Leader(Protocol):
    """Whoever leads, as seen from this node."""

    def leads(self) -> bool:
        """Whether this node does, and takes requests."""

    def proven(self) -> bool:
        """Whether nobody else can have acknowledged anything up to now. Ask after reading, before answering: a process
        may have slept in between.
        """

    def certain(self) -> bool:
        """Whether a leader is known to have shown what this node shows; once True, it stays so."""

    def reachable(self) -> bool:
        """Whether another node does and can be asked."""

    def ask(
        self, path: str, request: bytes, call: Call, done: Callable[[Reply | None, bool], None], caller: Caller
    ) -> None:
        """Have the leader answer `request` of `caller`: done(reply, _); done(None, True) when nothing was done,
        done(None, False) when the outcome is unknown. done(AUTH_OLD, _): nothing was done, because the leader knows
        other users and roles than `caller` was authenticated with.
        """

    def read(self, done: Callable[[bool], None]) -> None:
        """`done(True)` once this node shows whatever was acknowledged before now; False: that cannot be had."""


@dataclass(slots=True)
class _Waiting:
    retry: Callable[[float], None]
    call: Call
    until: float
    size: int


class Router:
    """See the module. `changed` whenever `leads` or `reachable` may answer differently.

    `identify` authenticates the client of a call that goes to the leader, which decides what that user may do. What it
    refuses, and what the leader refuses because of other users and roles, is looked at again after a read index.
    """

    def __init__(
        self,
        leader: Leader,
        patience: float,
        time: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
        route: Callable[[str], Route] = route_of,
        member_id: int = 0,
    ) -> None:
        """`patience`: seconds a call waits for somebody to lead. `route`: where each method is answered. `member_id`:
        who answers, whoever has found the answer; 0: that one.
        """
        self.identify: Callable[[Call], Caller] = _unidentified
        self._member_id = member_id
        self._leader, self._patience, self._time, self._call_later = leader, patience, time, call_later
        self._route = route
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._looking = False
        self._attempts = timers.Attempts("look for a leader for the requests that wait")

    def __len__(self) -> int:
        """Calls that wait."""
        return len(self._waiting)

    def routed(self, method: Method) -> Method:
        route = self._route(method.path)
        if route is Route.HERE:
            return method
        if method.kind is Kind.STREAM:
            return Method(method.path, method.kind, self._held(cast(StreamHandler, method.handler), route))
        handler = cast(UnaryHandler, method.handler)
        if route is Route.LEADER:
            return Method(method.path, method.kind, self._forwarded(method.path, handler))
        return Method(method.path, method.kind, self._read(method.path, handler))

    def changed(self) -> None:
        """Try what waits again."""
        waiting, self._waiting = self._waiting, deque()
        self._bytes = 0
        for each in waiting:
            if each.call.done:
                continue
            if not timers.attempt("try a request again that waited for a leader", each.retry, each.until):
                each.call.finish(Code.INTERNAL, "internal error")

    def _forwarded(self, path: str, here: UnaryHandler) -> UnaryHandler:
        def attempt(data: bytes, call: Call, until: float) -> None:
            def again(until: float) -> None:
                attempt(data, call, until)

            def wait() -> None:
                self._wait(again, call, len(data), until)

            if self._leader.leads():
                proven = ProvenCall(call, self._leader.proven, lambda: fail(call, LeaderFailed()), wait)
                here(data, cast(Call, proven))
            elif self._leader.reachable():
                self._ask(path, data, call, again, until)
            else:
                wait()

        return lambda data, call: attempt(data, call, 0.0)

    def _ask(
        self, path: str, data: bytes, call: Call, again: Callable[[float], None], until: float, fresh: bool = False
    ) -> None:
        """`fresh`: this node has just shown everything acknowledged, so that a refusal of the caller is final."""

        def done(reply: Reply | None, undone: bool) -> None:
            if call.done:
                return
            if reply is AUTH_OLD:
                refresh()
            elif reply is not None:
                self._pass_on(call, reply)
            elif undone:
                self._wait(again, call, len(data), until)
            else:
                fail(call, LeaderFailed())

        def refresh() -> None:
            self._leader.read(refreshed)

        def refreshed(shown: bool) -> None:
            if call.done:
                return
            deadline = until or self._time() + self._patience
            if shown and self._leader.reachable() and self._time() < deadline:
                self._ask(path, data, call, again, deadline, fresh=True)
            else:
                self._wait(again, call, len(data), deadline)

        try:
            caller = self.identify(call)
        except BrainError as error:
            if fresh:
                fail(call, error)
            else:
                refresh()
            return
        self._leader.ask(path, data, call, done, caller)

    def _read(self, path: str, here: UnaryHandler) -> UnaryHandler:
        def handler(data: bytes, call: Call) -> None:
            if path == RANGE and self._leader.certain() and is_serializable(data):
                here(data, call)
            else:
                self._when_shown(lambda call: here(data, call), call, len(data), 0.0)

        return handler

    def _held(self, here: StreamHandler, route: Route) -> StreamHandler:
        """A stream that begins with a read: what it says before that is kept for it."""

        def begin(call: Call) -> None:
            here(call)
            if route is Route.SHOWN:
                WatchBarrier(call, lambda then: self._when_shown(lambda _: then(), call, 0, 0.0)).install()

        def handler(call: Call) -> None:
            if route is Route.SHOWN and self._leader.certain():
                begin(call)
                return
            said: list[bytes] = []
            ended: list[bool] = []

            def resume(_: Call) -> None:
                begin(call)
                for message in said:
                    if call.on_message is not None:
                        call.on_message(message)
                call.resume_reading()
                if ended and call.on_half_close is not None:
                    call.on_half_close()

            def hear(message: bytes) -> None:
                said.append(message)
                call.pause_reading()

            call.on_message = hear
            call.on_half_close = lambda: ended.append(True)
            self._when_shown(resume, call, 0, 0.0)

        return handler

    def _when_shown(self, answer: Callable[[Call], None], call: Call, size: int, until: float) -> None:
        """`answer` once this node shows everything acknowledged before now."""

        def again(until: float) -> None:
            self._when_shown(answer, call, size, until)

        def wait() -> None:
            self._wait(again, call, size, until)

        def read(shown: bool) -> None:
            if call.done:
                return
            if shown:
                answer(call)
            else:
                wait()

        if self._leader.leads():
            answer(cast(Call, ProvenCall(call, self._leader.proven, wait, wait)))
        elif self._leader.reachable():
            self._leader.read(read)
        else:
            wait()

    def _wait(self, retry: Callable[[float], None], call: Call, size: int, until: float) -> None:
        """`until` 0: the call begins to wait now."""
        now = self._time()
        if len(self._waiting) >= MOST_WAITING or self._bytes + size > MOST_BYTES:
            fail(call, TooManyRequests())
        elif until and until <= now:
            fail(call, RequestTimeout())
        else:
            self._waiting.append(_Waiting(retry, call, until or now + self._patience, size))
            self._bytes += size
            self._look_later()

    def _look_later(self) -> None:
        if not self._looking and self._waiting:
            self._looking = True
            self._call_later(LOOK_EVERY, self._look)

    def _look(self) -> None:
        """Refuse what has waited too long; try the rest if there is somebody to try."""
        self._looking = False
        try:
            self._attempts(self._try_waiting)
            self._refuse_late()
        finally:
            self._look_later()

    def _try_waiting(self) -> None:
        if self._leader.leads() or self._leader.reachable():
            self.changed()

    def _refuse_late(self) -> None:
        now = self._time()
        kept: deque[_Waiting] = deque()
        for each in self._waiting:
            if each.call.done:
                self._bytes -= each.size
            elif each.until <= now:
                self._bytes -= each.size
                timers.attempt("refuse a request that waited too long", fail, each.call, RequestTimeout())
            else:
                kept.append(each)
        self._waiting = kept

    def _pass_on(self, call: Call, reply: Reply) -> None:
        if reply.code:
            call.finish(reply.code, reply.text)
        else:
            call.reply(as_member(reply.response, self._member_id) if self._member_id else reply.response)

    def refuse(self, error: BrainError) -> None:
        """Nobody will lead here any more."""
        waiting, self._waiting = self._waiting, deque()
        self._bytes = 0
        for each in waiting:
            if not each.call.done:
                fail(each.call, error)


def _unidentified(_: Call) -> Caller:
    return Caller(None, 0)


class ProvenCall:
    """A call of a leader: its answer goes out only if the leader can prove, with the answer at hand, that it is one;
    else it is `otherwise`. `undone`: it has ceased to be one, and nothing was done.
    """

    __slots__ = ("_call", "_otherwise", "_proven", "_undone")

    def __init__(
        self, call: Call, proven: Callable[[], bool], otherwise: Callable[[], None], undone: Callable[[], None]
    ) -> None:
        object.__setattr__(self, "_call", call)
        object.__setattr__(self, "_proven", proven)
        object.__setattr__(self, "_otherwise", otherwise)
        object.__setattr__(self, "_undone", undone)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._call, name, value)

    def reply(self, message: bytes) -> None:
        if self._proven():
            self._call.reply(message)
        elif not self._call.done:
            self._otherwise()

    def reply_parts(self, length: int, parts: Iterator[bytes]) -> None:
        if self._proven():
            self._call.reply_parts(length, parts)
        elif not self._call.done:
            self._otherwise()

    def finish(self, code: int = 0, message: str = "", trailing: Metadata = ()) -> None:
        if (code, message) != (NoLeader.code, NoLeader.text):
            self._call.finish(code, message, trailing)
        elif not self._call.done:
            self._undone()
