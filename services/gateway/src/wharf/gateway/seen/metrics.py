"""What the gateway counts, per request and on every scrape.

Labels are bounded twice: values a client invents (a resource, a verb) count as "other" unless Kubernetes has them or a
server of the cluster has answered for them, and a family holds so many combinations and no more. Else anybody without
a credential could fill the family with names, and blind it for the rest. User names are never labels.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Final

from wharf.common.kube.request_shape import RequestInfo
from wharf.common.metrics import OTHER, Counter, Histogram, Registry

SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
ROWS_MAX: Final = 16_384  # combinations whose metrics are found by one look-up
_VERBS: Final = frozenset(
    (
        "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy", "post", "put",
        "head", "options",
    )
)  # fmt: skip
RESOURCES_MAX: Final = 256  # of a cluster, beside Kubernetes' own
_OWN: Final = frozenset(
    (
        "apiservices", "bindings", "certificatesigningrequests", "clusterrolebindings", "clusterroles",
        "componentstatuses", "configmaps", "controllerrevisions", "cronjobs", "csidrivers", "csinodes",
        "customresourcedefinitions", "daemonsets", "deployments", "endpoints", "endpointslices", "events",
        "flowschemas", "horizontalpodautoscalers", "ingressclasses", "ingresses", "jobs", "leases", "limitranges",
        "localsubjectaccessreviews", "mutatingwebhookconfigurations", "namespaces", "networkpolicies", "nodes",
        "persistentvolumeclaims", "persistentvolumes", "poddisruptionbudgets", "pods", "podtemplates",
        "priorityclasses", "prioritylevelconfigurations", "replicasets", "replicationcontrollers", "resourcequotas",
        "rolebindings", "roles", "runtimeclasses", "secrets", "selfsubjectaccessreviews", "selfsubjectreviews",
        "selfsubjectrulesreviews", "serviceaccounts", "services", "statefulsets", "storageclasses",
        "subjectaccessreviews", "tokenreviews", "validatingadmissionpolicies", "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations", "volumeattachments",
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
        self._met: dict[str, set[str]] = {}  # further resources of each cluster
        self._rows: dict[tuple[str, str, str, str, int], tuple[Counter, Histogram, Histogram]] = {}

    def answered(self, cluster: str, server: str, info: RequestInfo | None, code: int) -> None:
        """A request has its answer: a long-running one, or one of the gateway's own."""
        verb, resource = (info.verb, info.resource) if info is not None else ("", "")
        self._row((cluster, server, verb, resource, code))[0].value += 1

    def lasted(self, cluster: str, server: str, info: RequestInfo, code: int, seconds: float, served: float) -> None:
        """A short request has its answer after so many seconds, `served` of which were a server's (0: nobody's)."""
        count, whole, part = self._row((cluster, server, info.verb, info.resource, code))
        count.value += 1
        bucket = bisect_left(SECONDS, seconds)
        whole.counts[bucket] += 1
        whole.sum += seconds
        if served:  # mostly all of the time: then the bucket is known
            part.counts[bucket if served == seconds else bisect_left(SECONDS, served)] += 1
            part.sum += served

    def _row(self, key: tuple[str, str, str, str, int]) -> tuple[Counter, Histogram, Histogram]:
        row = self._rows.get(key)
        if row is None:
            cluster, server, verb, resource, code = key
            known = bounded_verb(verb), self._bounded_resource(cluster, resource, code)
            row = (
                self.requests.child(cluster, server, *known, str(code)),
                self.durations.child(cluster, known[0]),
                self.servers.child(cluster, server),
            )
            if known == (verb, resource) and len(self._rows) < ROWS_MAX:
                self._rows[key] = row
        return row

    def _bounded_resource(self, cluster: str, resource: str, code: int) -> str:
        if not resource or resource in _OWN:
            return resource
        met = self._met.setdefault(cluster, set())
        if resource not in met:
            if not 0 < code < 400 or len(met) >= RESOURCES_MAX or not _RESOURCE.fullmatch(resource):
                return OTHER
            met.add(resource)
        return resource


def bounded_verb(verb: str) -> str:
    return verb if verb in _VERBS or not verb else OTHER
