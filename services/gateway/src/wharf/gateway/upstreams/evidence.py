"""What one finished attempt says about the server that got it. Pure.

An attempt counts against a server only if the server itself produced what went wrong and the client cannot have
provoked it. Otherwise a broken metrics-server, a pod behind `pods/proxy` or a client with `?timeout=1ns` could eject
healthy kube-apiservers one after the other. Probes and all other requests still find a server that fails.
A success counts for a server under the same conditions, or anyone's cheap requests would hide that it fails the others.

| what happened                                 | counts                                                            |
|-----------------------------------------------|-------------------------------------------------------------------|
| no connection                                 | always                                                            |
| refused unprocessed, no connection free       | never: the server is leaving, or a bound of the gateway           |
| the client is not authenticated               | never, once there is a connection                                 |
| a connection with other requests is lost      | always: a client can only end its own stream                      |
| aggregated API, discovery of one, OpenAPI     | never: the answer of another server                               |
| pod, node or service proxy, stream, log       | never: the answer of a kubelet, pod or service                    |
| 502, 503, 504 to a write                      | never: an admission webhook may choose the status                 |
| whatever `PROVOKED` lists                     | never                                                             |
| other 502, 503, 504; reset, lost, broken HTTP | yes                                                               |
| any other status                              | for the server, if kube-apiserver itself gave it to a client that |
|                                               | is authenticated                                                  |

Sources: k8s.io/apiserver 1.36, pkg/endpoints/filters/request_deadline.go and pkg/server/filters/timeout.go (504 or an
aborted response at the deadline that `timeout` chose), pkg/storage/errors.go (504 for a version that does not exist
yet, in resourceVersion or in a continue token), pkg/admission/plugin/webhook/errors; k8s.io/kube-aggregator,
pkg/apiserver/handler_proxy.go (503 while an APIService is not available).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wharf.common.kube.request_info import query_parameters
from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.route.kinds import relayed
from wharf.gateway.upstreams.outliers import Outcome
from wharf.gateway.upstreams.retry import READS
from wharf.wire.web import Fault

FAILURES: Final = frozenset((502, 503, 504))
READING: Final = READS | {"options"}  # admission sees none of these
_VERSIONS: Final = frozenset((b"resourceVersion", b"continue"))  # parameters by which a client chooses a version
# Served by kube-apiserver itself. Other groups are aggregated, or custom resources with a conversion webhook.
BUILT_IN_GROUPS: Final = frozenset(
    (
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "apiregistration.k8s.io",
        "apps",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
        "certificates.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "flowcontrol.apiserver.k8s.io",
        "internal.apiserver.k8s.io",
        "networking.k8s.io",
        "node.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "resource.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
        "storagemigration.k8s.io",
    )
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One attempt at one server, and what is known of its request."""

    info: RequestInfo
    target: bytes = b"/"  # path and query as the server got them
    status: int = 0  # 0: no head came
    fault: Fault | None = None  # None: the response is whole, or the client went away
    authenticated: bool = True  # the client: by a certificate, a review, or a token that a server has accepted
    has_body: bool = False  # the request
    shares_connection: bool = True  # HTTP/2: other requests are on the same connection


def outcome_of(evidence: Evidence) -> Outcome:
    """How the attempt counts."""
    status, fault = evidence.status, evidence.fault
    if fault is Fault.UNSENT:
        return Outcome.BAD
    if fault is Fault.REFUSED or fault is Fault.FULL or (fault is None and not status):
        return Outcome.NOTHING
    if fault is None and status not in FAILURES:
        return outcome_of_success(evidence.info, evidence.authenticated)
    if not evidence.authenticated or not (_is_fault_of_connection(evidence) or _is_fault_of_server(evidence)):
        return Outcome.NOTHING
    return Outcome.LOST if fault is Fault.LOST else Outcome.BAD


def outcome_of_success(info: RequestInfo, authenticated: bool) -> Outcome:
    """How a whole response with a status that is none of FAILURES counts; needs no further evidence."""
    return Outcome.GOOD if authenticated and _is_own_answer(info) else Outcome.NOTHING


def _is_fault_of_connection(evidence: Evidence) -> bool:
    return evidence.fault is Fault.LOST and evidence.shares_connection


def _is_fault_of_server(evidence: Evidence) -> bool:
    info, fault = evidence.info, evidence.fault
    if not _is_own_answer(info) or (fault is None and info.verb not in READING):
        return False
    sign = evidence.status if fault is None else fault
    return not any(sign in signs and applies(evidence) for applies, signs in PROVOKED)


def _is_own_answer(info: RequestInfo) -> bool:
    return not relayed(info) and is_built_in(info)


def is_built_in(info: RequestInfo) -> bool:
    """Whether kube-apiserver itself answers this path: no aggregated server, and no webhook of a custom resource."""
    if info.is_resource:
        return info.group in BUILT_IN_GROUPS if info.group else info.prefix == "api"
    first, *more = info.path.strip("/").split("/")
    if first == "openapi":
        return False  # put together from the documents of all API servers
    return first != "apis" or not more or more[0] in BUILT_IN_GROUPS


def _chose_deadline(evidence: Evidence) -> bool:
    return b"timeout" in query_parameters(evidence.target.partition(b"?")[2])


def _chose_version(evidence: Evidence) -> bool:
    """A continue token names a version too."""
    return not _VERSIONS.isdisjoint(query_parameters(evidence.target.partition(b"?")[2]))


def _sent_body(evidence: Evidence) -> bool:
    return evidence.has_body


def _may_read_slowly(evidence: Evidence) -> bool:
    return evidence.status != 0


def _is_stream(evidence: Evidence) -> bool:
    return evidence.status != 0 and evidence.info.long_running


# What a client can do, and what the server or the gateway then does to the request, however healthy the server is.
# LOST is here a connection that carried this request alone: HTTP/1.1 has no other way to abort a response.
PROVOKED: Final[tuple[tuple[Callable[[Evidence], bool], frozenset[int | Fault]], ...]] = (
    (_chose_deadline, frozenset((504, Fault.TIMEOUT, Fault.RESET, Fault.LOST))),
    (_chose_version, frozenset((504,))),
    (_sent_body, frozenset((504, Fault.TIMEOUT))),
    (_may_read_slowly, frozenset((Fault.TIMEOUT, Fault.RESET, Fault.LOST))),
    (_is_stream, frozenset((Fault.PROTOCOL,))),
)
