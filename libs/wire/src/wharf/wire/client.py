"""Requests upstream: a pool of connections to one target, and whole small requests over it.

`ready` is the hot path and synchronous; `connect` waits for what `ready` does not have. Decisions are made in pool.py.

Invariant: a connection is in `_connections` from the moment it takes requests until it is lost; a waiter is in
`waiting` until it is woken, and a woken one looks again for itself. No more waiters are woken than there is room for:
the last of those that were woken wakes the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from dataclasses import dataclass

from wharf.wire.client_shell import ClientConnection, RequestFailed, Target, open_connection
from wharf.wire.pool import HTTP1, Demand, PoolLimits, dials_wanted, idle_to_close, ranked
from wharf.wire.timers import Ticker, attempt
from wharf.wire.web import Failure, Fault, Header, Headers, Link, Request

log = logging.getLogger("wharf.wire")
_ATTEMPTS = 3  # of a whole small request
_TICK = 1.0  # seconds between looks at all connections; shorter when a limit asks for it


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment; `dials` and what follows count since the beginning."""

    connections: int
    draining: int
    open_requests: int
    waiting: int
    dialing: int
    dials: int
    dial_failures: int
    lost: int  # connections that ended while they carried requests


class HttpPool:
    """Connections to one target, at most as many as the limits say and as few as will do."""

    def __init__(self, target: Target, limits: PoolLimits | None = None) -> None:
        self.target = target
        self.limits = limits or PoolLimits()  # others may be set: the next connection has them
        self.last_failure: Failure | None = None  # of the last dial that failed
        self._loop = asyncio.get_running_loop()
        self._connections: set[ClientConnection] = set()
        self._draining: set[ClientConnection] = set()
        self._current: ClientConnection | None = None
        self._candidates: list[ClientConnection] = []  # had room when they were ranked; the next one is last
        self.full = False  # no connection had room at the last look, and none has told of room since
        self._version = 0
        self._streams = 1  # requests that the newest connection takes
        self._dials: set[asyncio.Task[None]] = set()
        self.waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._woken = 0  # waiters that have not looked yet
        self._dial_count = self._dial_failures = self._lost = 0
        self._closed = False
        self._emptied = asyncio.Event()
        self._ticker = Ticker("look at the timeouts of a pool", lambda: self._interval, self._tick)

    # --- taking a connection
    def ready(self) -> Link | None:
        """A connection that takes a request now, or None: then `connect`. Use it before control returns to the loop."""
        current = self._current
        if current is not None and (link := current.link) is not None and link.capacity > 0:
            return link  # while it is the current one it is not draining
        if self.full:
            return None
        self._current = current = self._next()
        return current.link if current is not None else None

    async def connect(self, deadline: float | None = None) -> Link:
        """A connection that takes a request, dialled if need be. `deadline`: loop time.

        RequestFailed: FULL when all are taken for too long, too many wait already or the pool is closed, else UNSENT.
        """
        first = True
        while True:
            link = self.ready()
            if link is not None:
                return link
            if self._closed:
                raise RequestFailed(Failure(Fault.FULL, "the pool is closed"))
            if first and len(self.waiting) >= self.limits.pending_max:
                raise RequestFailed(Failure(Fault.FULL, "too many requests wait for a connection"))
            await self._wait(deadline, first)
            first = False

    async def _wait(self, deadline: float | None, first: bool) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self.waiting[waiter] = None
        if not first:
            self.waiting.move_to_end(waiter, last=False)  # another request was quicker: its turn is not lost
        self._dial()
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except TimeoutError:
            fault = Fault.FULL if self._connections else Fault.UNSENT
            raise RequestFailed(Failure(fault, "no connection in time")) from None
        finally:
            self.waiting.pop(waiter, None)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._woken -= 1
                if not self._woken and self.waiting:
                    self._loop.call_soon(self._wake_next)  # once this one has made its request, or has left

    # --- commands
    async def close(self, grace: float = 0.0) -> None:
        """Take no more requests, wait up to `grace` seconds for those under way, then cut them."""
        self._closed = True
        self._ticker.close()
        self._fail_waiting(Failure(Fault.FULL, "the pool is closed"))
        for task in self._dials:
            task.cancel()
        self._drain_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._empty()
        for connection in list(self._draining):
            connection.abort()
        await self._empty()
        if self._dials:
            await asyncio.wait(self._dials)

    @property
    def stats(self) -> PoolStats:
        """Counts up to now; walks the open connections."""
        return PoolStats(
            connections=len(self._connections),
            draining=len(self._draining),
            open_requests=sum(item.open_requests for item in (*self._connections, *self._draining)),
            waiting=len(self.waiting),
            dialing=len(self._dials),
            dials=self._dial_count,
            dial_failures=self._dial_failures,
            lost=self._lost,
        )

    # --- for connections (client_shell.Owner)
    def moved(self, connection: ClientConnection) -> None:
        """A connection pumped: somebody who waits may find room on it."""
        if connection.going_away and connection in self._connections:
            self._retire(connection)
        if connection.capacity > 0:
            self.full = False
            self._wake(connection.capacity)

    def lost(self, connection: ClientConnection) -> None:
        """A connection is gone."""
        if connection is self._current:
            self._current = None
        self._lost += connection.ended_busy
        self._connections.discard(connection)
        self._draining.discard(connection)
        if not self._connections and not self._draining:
            self._emptied.set()
        self._dial()

    # --- inside
    def _next(self) -> ClientConnection | None:
        """The connection for the next request. All are ranked anew only when the last ranking is used up."""
        for _ in range(2):
            while self._candidates:
                if (candidate := self._candidates.pop()).capacity > 0:
                    return candidate
            self._candidates = ranked(self._connections)
        self.full = not self._candidates
        return None

    @property
    def _interval(self) -> float:
        limits = self.limits
        return min(_TICK, min(limits.ping_interval, limits.ping_timeout, limits.stall_timeout) / 2)

    def _dial(self) -> None:
        if self._closed:
            return
        dialing, found = len(self._dials), len(self._connections)
        demand = Demand(len(self.waiting), dialing, found, self._version, self._streams)
        for _ in range(dials_wanted(demand, self.limits)):
            self._dial_count += 1
            task = self._loop.create_task(self._open())
            self._dials.add(task)
            task.add_done_callback(self._dialled)

    async def _open(self) -> None:
        try:
            connection = await open_connection(self.target, self.limits)
        except RequestFailed as error:
            self._note_failure(error.failure)
            return
        connection.owner = self
        if self._closed:
            self._draining.add(connection)
            connection.drain()
            return
        self._connections.add(connection)
        self.full = False
        self._version, self._streams = connection.version, max(1, connection.capacity)
        self.last_failure = None

    def _note_failure(self, failure: Failure) -> None:
        log.info("dial failed: %s", failure.text)
        self._dial_failures += 1
        self.last_failure = failure
        if self._version == HTTP1 and self.waiting:
            self._fail(self.waiting.popitem(last=False)[0], failure)  # the one this dial was for

    def _dialled(self, task: asyncio.Task[None]) -> None:
        self._dials.discard(task)
        if task.cancelled():
            return
        if task.exception() is not None:
            self._fail_waiting(Failure(Fault.UNSENT, f"dial failed: {task.exception()!r}"))
            return
        if self.last_failure is not None and not self._connections and not self._dials:
            self._fail_waiting(self.last_failure)  # nobody else will serve them: let them go elsewhere
            return
        self._wake_next()
        if self.last_failure is None:
            self._dial()

    def _wake(self, room: int) -> None:
        room -= self._woken
        while room > 0 and self.waiting:
            waiter, _ = self.waiting.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
                self._woken += 1
                room -= 1

    def _wake_next(self) -> None:
        if self.waiting and self.ready() is not None:
            self._wake(sum(item.capacity for item in self._connections))

    def _fail_waiting(self, failure: Failure) -> None:
        while self.waiting:
            self._fail(self.waiting.popitem(last=False)[0], failure)

    def _fail(self, waiter: asyncio.Future[None], failure: Failure) -> None:
        if not waiter.done():
            waiter.set_exception(RequestFailed(failure))

    def _drain_all(self) -> None:
        for connection in list(self._connections):
            self._retire(connection)

    def _retire(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        self._draining.add(connection)
        if connection is self._current:
            self._current = None
        connection.drain()

    async def _empty(self) -> None:
        while self._connections or self._draining:
            self._emptied.clear()
            await self._emptied.wait()

    def _tick(self) -> None:
        now = self._loop.time()
        for connection in (*self._connections, *self._draining):
            if not attempt("look at the timeouts of an upstream connection", connection.tick, now):
                connection.abort()  # without timeouts it would be held for ever
        for connection in idle_to_close(self._connections, now, self.limits):
            self._retire(connection)
        self._candidates, self.full = ranked(self._connections), False
        self._current = self._next()
        self._dial()


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response."""

    status: int
    headers: list[Header]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header by its lower-case name."""
        return next((value for key, value in self.headers if key == name), None)


async def fetch(
    pool: HttpPool,
    method: bytes,
    target: bytes,
    headers: Headers = (),
    body: bytes = b"",
    *,
    authority: bytes | None = None,
    timeout: float = 10.0,  # noqa: ASYNC109 - its exception says what failed
    body_max: int = 16 * 1024 * 1024,
) -> Response:
    """One request and its whole response, within `timeout` seconds and `body_max` bytes. RequestFailed otherwise.

    It is made again where nothing of it can have been processed, and where a lost connection does no harm to repeat it.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    if body:
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    attempts = 0
    try:
        async with asyncio.timeout_at(deadline):
            while True:
                link = pool.ready() or await pool.connect(deadline)
                host, scheme = authority or pool.target.authority, pool.target.scheme
                request = link.request(method, target, host, headers, scheme=scheme, end=not body)
                try:
                    return await _Collected(request, body, body_max).whole
                except RequestFailed as error:
                    attempts += 1
                    if attempts == _ATTEMPTS or not _repeatable(method, error.failure):
                        raise
                finally:
                    if not request.done:
                        request.reset()
    except TimeoutError:
        raise RequestFailed(Failure(Fault.TIMEOUT, f"no whole response within {timeout:g} s")) from None


def _repeatable(method: bytes, failure: Failure) -> bool:
    if failure.fault is Fault.LOST:  # most likely a kept connection that was closed as it was used
        return method in (b"GET", b"HEAD")
    return failure.fault is Fault.REFUSED


class _Collected:
    """Sends one request's body and gathers its response."""

    def __init__(self, request: Request, body: bytes, body_max: int) -> None:
        self.whole: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._request = request
        self._body_max = body_max
        self._headers: list[Header] = []
        self._parts: list[bytes] = []
        self._size = 0
        request.on_head = self._head
        request.on_data = self._data
        request.on_end = self._end
        request.on_failure = self._fail
        if body:
            request.send(body)
            request.finish()

    def _head(self, _: int, headers: list[Header]) -> None:
        self._headers = headers

    def _data(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._body_max:
            self._request.reset()
            self._fail(Failure(Fault.PROTOCOL, f"the response is longer than {self._body_max} bytes"))
            return
        self._parts.append(data)
        self._request.take(len(data))

    def _end(self, _: Headers) -> None:
        if not self.whole.done():
            self.whole.set_result(Response(self._request.status, self._headers, b"".join(self._parts)))

    def _fail(self, failure: Failure) -> None:
        if not self.whole.done():
            self.whole.set_exception(RequestFailed(failure))
