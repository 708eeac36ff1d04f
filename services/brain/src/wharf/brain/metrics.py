"""brain's metrics under etcd's names, so that dashboards and alerts written for etcd read them.

Counters are kept where the counting happens and looked at on scrape; values that can be asked for are asked for. Labels are
bounded by the method table and the status codes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Final

from wharf.brain.api.node import CLUSTER_VERSION, SERVER_VERSION, Node
from wharf.common.metrics import Counter, Histogram, Registry, process_collector
from wharf.wire.rpc import Code, Kind, Method

COMMIT_BOUNDS: Final = tuple(0.001 * 2**power for power in range(14))  # etcd's: 1 ms to 8 s
HANDLING_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # Prometheus' default
_CODE_NAMES: Final = {code: "".join(word.capitalize() for word in code.name.split("_")) for code in Code} | {
    Code.OK: "OK",
    Code.CANCELLED: "Canceled",
}
_SERVER_STREAMS: Final = ("RangeStream", "Snapshot", "Observe")


class MethodMetrics:
    """Calls of one method, under the names every grpc-go server uses."""

    __slots__ = ("_handled", "_labels", "handling", "started")

    def __init__(self, metrics: RpcMetrics, method: Method) -> None:
        service, _, name = method.path[1:].partition("/")
        kind = "unary" if method.kind is Kind.UNARY else "server_stream" if name in _SERVER_STREAMS else "bidi_stream"
        self._labels = (kind, service, name)
        self._handled = metrics.handled
        self.started = metrics.started.child(*self._labels)
        self.handling: Histogram | None = None if metrics.handling is None else metrics.handling.child(*self._labels)

    def handled(self, code: int) -> Counter:
        return self._handled.child(*self._labels, _CODE_NAMES.get(Code(code), "Unknown"))


class RpcMetrics:
    """The families all methods share."""

    def __init__(self, registry: Registry, *, histograms: bool) -> None:
        labels = ("grpc_type", "grpc_service", "grpc_method")
        self.started = registry.counters(
            "grpc_server_started_total", "Total number of RPCs started on the server.", labels
        )
        self.handled = registry.counters(
            "grpc_server_handled_total",
            "Total number of RPCs completed on the server, regardless of success or failure.",
            (*labels, "grpc_code"),
            max_children=1024,
        )
        self.handling = (
            registry.histograms(
                "grpc_server_handling_seconds",
                "Response latency of calls that had been application-level handled by the server.",
                labels,
                HANDLING_BOUNDS,
                max_children=128,
            )
            if histograms
            else None
        )

    def methods(self, table: Iterable[Method]) -> Mapping[str, MethodMetrics]:
        return {method.path: MethodMetrics(self, method) for method in table}


class HealthMetrics:
    """Outcomes of health checks."""

    def __init__(self, registry: Registry) -> None:
        self._success = registry.counter("etcd_server_health_success", "The total number of successful health checks")
        self._failures = registry.counter("etcd_server_health_failures", "The total number of failed health checks")
        self._state = registry.gauges(
            "etcd_server_healthcheck", "The result of each kind of healthcheck.", ("type", "name")
        )
        self._total = registry.counters(
            "etcd_server_healthchecks_total",
            "The total number of each kind of healthcheck.",
            ("type", "name", "status"),
        )

    def count(self, kind: str, name: str, healthy: bool) -> None:
        if kind == "health":
            (self._success if healthy else self._failures).value += 1
            return
        self._state.child(kind, name).value = healthy
        self._total.child(kind, name, "success" if healthy else "error").value += 1
