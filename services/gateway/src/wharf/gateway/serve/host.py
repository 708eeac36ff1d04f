"""What a request needs of the process that serves it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from wharf.gateway.config import Network
from wharf.gateway.seen.metrics import RequestMetrics

if TYPE_CHECKING:
    import asyncio

    from wharf.common.trace import Span
    from wharf.gateway.cluster.runtime import ClusterRuntime
    from wharf.gateway.seen.access_log import Record
    from wharf.gateway.serve.flight import Flight
    from wharf.wire.web import Exchange


class Host(Protocol):
    """See the module; handler.py is it."""

    metrics: RequestMetrics
    active: set[Flight]  # everything under way
    traces: bool  # spans may be begun for any cluster
    starting: bool  # which clusters there are is not known yet
    now: Callable[[], float]  # loop time, in its own steps (of a millisecond)
    clock: Callable[[], float]  # finer, to measure with
    proxies: tuple[Network, ...]  # whose X-Forwarded-For is believed

    def find(self, exchange: Exchange) -> ClusterRuntime | None:
        """The cluster a request means."""

    def spawn(self, flight: Flight, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it; a failure is logged and ends the flight. Cancelled when the process ends."""

    def begin_span(self, exchange: Exchange, cluster: ClusterRuntime, name: str) -> Span | None:
        """None when the request is not sampled."""

    def log_access(self, record: Record, fields: tuple[str, ...]) -> None: ...
