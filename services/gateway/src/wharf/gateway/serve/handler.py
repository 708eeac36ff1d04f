"""The process's side of serving: finds clusters, knows everything under way, looks at the clock, ends streams in order.

Invariant: a request is in `active` from its beginning to its end; when the set is empty nothing is owed to anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from wharf.common.clock import boot_seconds
from wharf.common.log import get_log
from wharf.common.trace import Kind, Span, Tracer
from wharf.gateway import answers
from wharf.gateway.cluster.names import Names, is_address
from wharf.gateway.cluster.runtime import ClusterRuntime
from wharf.gateway.config import Network
from wharf.gateway.seen.access_log import AccessLog, Record
from wharf.gateway.seen.metrics import RequestMetrics
from wharf.gateway.serve.admit import begin, refuse_early
from wharf.gateway.serve.dispatch import end_stream, expire
from wharf.gateway.serve.flight import Flight
from wharf.gateway.serve.headers import TRACEPARENT
from wharf.wire.timers import Ticker, attempt
from wharf.wire.web import Exchange

TICK: Final = 0.5  # seconds between looks at deadlines

_log = get_log("gateway")


class Handler:
    """Called by the wire with each exchange; `host.Host` for what happens then."""

    def __init__(
        self,
        metrics: RequestMetrics,
        access_log: AccessLog,
        tracer: Tracer | None,
        proxies: tuple[Network, ...] = (),
    ) -> None:
        self.metrics = metrics
        self.active: set[Flight] = set()
        self.starting = True  # the configuration is not read yet
        self.proxies = proxies
        self.names: Names[ClusterRuntime] = Names(())
        self.by_identity: dict[str, ClusterRuntime] = {}
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self._loop.time
        self.clock: Callable[[], float] = boot_seconds
        self._access_log = access_log
        self._tracer = tracer
        self.traces = tracer is not None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker = Ticker("look at the deadlines of requests", lambda: TICK, self._tick)

    def __call__(self, exchange: Exchange) -> None:
        try:
            begin(self, exchange)
        except Exception as error:
            _log.error("a request cannot be handled", cause=error)
            self._fail(exchange)

    # --- host.Host
    def find(self, exchange: Exchange) -> ClusterRuntime | None:
        """By the Host header; where that says nothing, by the address connected to, then by the TLS name."""
        authority = exchange.authority
        found = self.names.by_authority(authority)
        if found is not None:
            return found
        connection = exchange.connection
        met = self.by_identity.get(connection.identity or "")
        if not authority or is_address(authority):
            return self.names.by_address(connection.local_address) or met
        return met if met is not None and not met.spec.features.require_host else None

    def spawn(self, flight: Flight, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        flight.delayed = True
        flight.exchange.on_cancel = flight.client_gone
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._landed(flight, done))
        return task

    def begin_span(self, exchange: Exchange, cluster: ClusterRuntime, name: str) -> Span | None:
        tracer = cluster.tracer or self._tracer
        if tracer is None:
            return None
        return tracer.start(name, exchange.header(TRACEPARENT), exchange.header(b"tracestate") or b"", Kind.SERVER)

    def log_access(self, record: Record, fields: tuple[str, ...]) -> None:
        self._access_log.add(record, fields)

    # --- its end
    def watches(self) -> list[Flight]:
        """Streams that can be ended at any moment without loss: their clients resume."""
        return [flight for flight in self.active if flight.info.verb == "watch" and flight.splice is None]

    def end_watch(self, flight: Flight) -> None:
        """End one cleanly; its client comes back, to another instance."""
        end_stream(flight)

    def abort_all(self, of: ClusterRuntime | None = None) -> None:
        """Cut whatever is left, or what is left of one cluster."""
        for flight in [flight for flight in self.active if of is None or flight.cluster is of]:
            if flight.task is not None:
                flight.task.cancel()
            if flight.splice is not None:
                flight.splice.abort()
            elif flight.relay is not None and flight.relay.active:
                flight.relay.cancel()
            if not flight.exchange.done:
                flight.exchange.abort()
            flight.end(flight.exchange_status())

    async def close(self) -> None:
        self._ticker.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- inside
    def _tick(self) -> None:
        now = self.now()
        for flight in [flight for flight in self.active if 0.0 < flight.deadline <= now]:
            if not attempt("end a request whose deadline has passed", expire, flight):
                flight.deadline = 0.0
                attempt("end a request that could not be ended in order", flight.fail_internally)

    def _landed(self, flight: Flight, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            flight.refuse(answers.stopping())  # unless it ended before: then nobody waits
        elif task.exception() is not None:
            _log.error("a request cannot be handled", cause=task.exception())
            flight.fail_internally()

    def _fail(self, exchange: Exchange) -> None:
        flight = exchange.context
        if isinstance(flight, Flight):
            flight.fail_internally()
        elif exchange.responded:
            exchange.abort()
        elif not exchange.done:
            refuse_early(self, exchange, "", answers.internal())
