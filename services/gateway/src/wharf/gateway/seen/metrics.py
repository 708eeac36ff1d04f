"""What the gateway counts, per request and on every scrape.

Labels are bounded twice: values a client invents (a resource, a verb) count as "other" unless they look like what
Kubernetes has, and a family holds so many combinations and no more. User names are never labels.
"""

from __future__ import annotations

import re
from typing import Final

from wharf.common.kube.request_shape import RequestInfo
from wharf.common.metrics import OTHER, Counter, Histogram, Registry

SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_VERBS: Final = frozenset(
    (
        "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy", "post", "put",
        "head", "options",
    )
)  # fmt: skip
_RESOURCE: Final = re.compile(r"[a-z0-9]{1,63}(\.[a-z0-9.-]{1,63})?", re.ASCII)


class RequestMetrics:
    """Counters of requests; children are looked up once per combination and kept."""

    def __init__(self, registry: Registry) -> None:
        self.requests = registry.counters(
            "wharf_gateway_requests_total",
            "Requests that were answered, by whoever answered: a server, or the gateway itself (server empty).",
            ("cluster", "server", "verb", "resource", "code"),
            8192,
        )
        self.durations = registry.histograms(
            "wharf_gateway_request_duration_seconds",
            "From the request's head to the end of the answer; long-running requests are not in it.",
            ("cluster", "verb"),
            SECONDS,
            512,
        )
        self.servers = registry.histograms(
            "wharf_gateway_upstream_duration_seconds",
            "From sending a request to a server to the end of its answer; long-running requests are not in it.",
            ("cluster", "server"),
            SECONDS,
            512,
        )
        self.refused = registry.counters(
            "wharf_gateway_refused_total",
            "Requests the gateway itself refused, by reason.",
            ("cluster", "reason"),
            1024,
        )
        self.retries = registry.counters(
            "wharf_gateway_retries_total", "Attempts repeated on another server.", ("cluster", "fault"), 1024
        )
        self.failures = registry.counters(
            "wharf_gateway_upstream_failures_total",
            "Attempts that ended without a whole answer.",
            ("cluster", "server", "fault"),
            2048,
        )
        self.cancelled = registry.counters(
            "wharf_gateway_cancelled_total", "Requests whose client went away first.", ("cluster",), 512
        )
        self.slow = registry.counters("wharf_gateway_slow_requests_total", "Slow short requests.", ("cluster",), 512)
        self._requests: dict[tuple[str, str, str, str, int], Counter] = {}
        self._durations: dict[tuple[str, str], Histogram] = {}
        self._servers: dict[tuple[str, str], Histogram] = {}

    def answered(self, cluster: str, server: str, info: RequestInfo | None, code: int) -> None:
        """One request has its answer."""
        verb, resource = (info.verb, info.resource) if info is not None else ("", "")
        key = (cluster, server, verb, resource, code)
        counter = self._requests.get(key)
        if counter is None:
            counter = self.requests.child(cluster, server, bounded_verb(verb), bounded_resource(resource), str(code))
            if len(self._requests) < 16384:
                self._requests[key] = counter
        counter.value += 1

    def lasted(self, cluster: str, info: RequestInfo, seconds: float) -> None:
        """A short request took so long."""
        key = (cluster, info.verb)
        histogram = self._durations.get(key)
        if histogram is None:
            histogram = self.durations.child(cluster, bounded_verb(info.verb))
            if len(self._durations) < 1024:
                self._durations[key] = histogram
        histogram.observe(seconds)

    def served(self, cluster: str, server: str, seconds: float) -> None:
        """A server took so long for a short request."""
        key = (cluster, server)
        histogram = self._servers.get(key)
        if histogram is None:
            histogram = self._servers[key] = self.servers.child(cluster, server)
        histogram.observe(seconds)

    def forget_server(self, cluster: str, server: str) -> None:
        """A server is gone for good."""
        self.servers.forget(cluster, server)
        self._servers.pop((cluster, server), None)


def bounded_verb(verb: str) -> str:
    return verb if verb in _VERBS or not verb else OTHER


def bounded_resource(resource: str) -> str:
    return resource if not resource or _RESOURCE.fullmatch(resource) else OTHER
