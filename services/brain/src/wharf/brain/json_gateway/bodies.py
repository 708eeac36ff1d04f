"""Bodies of JSON requests on their way to messages: how many values and bytes they may have, and where they are read.

A body comes before its sender is authenticated, so what it may cost is bounded first. The bound on values counts the
bytes that begin or separate them, those inside strings too: no method's strings have many. Objects alone are not
enough, because lists in lists take as much memory.

Large bodies are read on a worker thread, one at a time per connection. Invariant: those that are not read yet have at
most `_waiting_max` bytes together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from wharf.brain.api.service import fail
from wharf.brain.errors import BrainError, TooManyOps, TooManyRequests
from wharf.brain.json_gateway.call import THREAD_BYTES, JsonCall, Spawn
from wharf.brain.json_gateway.marshal import JsonError, parse_message, split_values
from wharf.brain.json_gateway.routes import Route
from wharf.wire.http import HttpRequest
from wharf.wire.rpc import Call, Code

_FACTOR: Final = 2  # base64 takes a third more than the bytes, names and quotes come on top
_VALUES: Final = 1024  # that every body may have
_VALUES_PER_OP: Final = 256  # a comparison and two operations have less than 50
_WAITING_MAX: Final = 64 * 1024 * 1024
_MARKS: Final = (b"{", b"[", b",")
_SLICE: Final = 64 * 1024
_TXN: Final = "/etcdserverpb.KV/Txn"

Begin = Callable[[list[bytes]], None]


class TooLarge(BrainError):
    code = Code.RESOURCE_EXHAUSTED

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.text = f"grpc: received message larger than max ({size} vs. {limit})"


class TooManyValues(BrainError):
    code = Code.INVALID_ARGUMENT

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.text = f"proto: the request body has more than {limit} values; send several requests"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a body may hold."""

    receive_max: int  # bytes of a message, as for gRPC
    max_txn_ops: int

    @property
    def body_max(self) -> int:
        """Bytes of a body."""
        return _FACTOR * self.receive_max

    @property
    def values_max(self) -> int:
        return _VALUES + _VALUES_PER_OP * self.max_txn_ops


@dataclass(frozen=True, slots=True)
class _Body:
    route: Route
    data: bytes
    call: JsonCall
    begin: Begin


class Bodies:
    """See the module. For the loop thread."""

    def __init__(self, limits: BodyLimits, spawn: Spawn) -> None:
        """`spawn` runs a coroutine to its end."""
        self._limits = limits
        self._spawn = spawn
        self._waiting: dict[int, deque[_Body]] = {}  # by connection; the first of each is being read
        self._waiting_bytes = 0
        self._waiting_max = max(_WAITING_MAX, limits.body_max)

    def read(self, route: Route, request: HttpRequest, call: JsonCall, begin: Begin) -> None:
        """Call `begin` with the messages of a request, now or later, or end `call` with what is wrong with them."""
        body = _Body(route, request.body, call, begin)
        size = len(body.data)
        if _exceeds(body.data, self._limits.values_max):
            _end(call, TooManyOps() if route.method == _TXN else TooManyValues(self._limits.values_max))
        elif size <= THREAD_BYTES:
            try:
                messages = self._messages(body)
            except (JsonError, BrainError) as error:
                _end(call, error)
                return
            begin(messages)
        elif self._waiting_bytes + size > self._waiting_max:
            _end(call, TooManyRequests())
        else:
            self._waiting_bytes += size
            connection = id(request.peer)  # an object of the connection's own, which `call` keeps
            waiting = self._waiting.setdefault(connection, deque())
            waiting.append(body)
            if len(waiting) == 1:
                self._spawn(self._read_waiting(connection, waiting))

    async def _read_waiting(self, connection: int, waiting: deque[_Body]) -> None:
        while waiting:
            body = waiting[0]
            try:
                messages = [] if body.call.done else await asyncio.to_thread(self._messages, body)
            except Exception as error:  # whatever it is, the client gets an answer
                _end(body.call, error)
            else:
                if not body.call.done:
                    body.begin(messages)
            finally:
                self._waiting_bytes -= len(body.data)
            if len(waiting) == 1:
                del self._waiting[connection]  # before the last call, which keeps the id, is let go
            waiting.popleft()

    def _messages(self, body: _Body) -> list[bytes]:
        """The request messages in a body: one, unless clients may stream. JsonError or TooLarge."""
        values, route = split_values(body.data), body.route
        if route.client_streams:
            found = [parse_message(route.request, value) for value in values]
        else:
            found = [parse_message(route.request, next(values, {}))]
        messages = [message.SerializeToString() for message in found]
        for message in messages:
            if len(message) > self._limits.receive_max:
                raise TooLarge(len(message), self._limits.receive_max)
        return messages


def _exceeds(data: bytes, most: int) -> bool:
    """Whether a body has more than `most` values. Bytes after those are not looked at."""
    found = 0
    for start in range(0, len(data), _SLICE):
        found += sum(data.count(mark, start, start + _SLICE) for mark in _MARKS)
        if found > most:
            return True
    return False


def _end(call: JsonCall, error: Exception) -> None:
    if isinstance(error, JsonError):
        call.finish(Code.INVALID_ARGUMENT, str(error))
    else:
        fail(cast(Call, call), error)
