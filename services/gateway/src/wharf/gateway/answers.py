"""What the gateway answers by itself: a reason for people and metrics, a metav1.Status for clients.

client-go repeats what carries Retry-After (up to ten times, sleeping as long as it says), so what may work in a moment
says one second, and what will not says nothing. Events are not repeated: their writers drop what is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from wharf.common.kube import status as kube
from wharf.common.kube.request_shape import RequestInfo
from wharf.common.kube.status import Status, encode
from wharf.wire.web import Exchange, Fault, Header

USER_BOUND_SECONDS: Final = 10  # Retry-After where a user has too many long-running requests: they last
HEADER: Final = b"x-wharf-gateway"  # tells an answer of the gateway from a server's; its value is the reason
_EVENTS: Final = frozenset(("", "events.k8s.io"))


class Reason(Enum):
    """Why the gateway answered instead of a server. The values are labels of a metric."""

    UNKNOWN_HOST = "unknown_host"
    MISDIRECTED = "misdirected"
    BAD_REQUEST = "bad_request"
    UNAUTHENTICATED = "unauthenticated"
    AUTHENTICATION_UNAVAILABLE = "authentication_unavailable"
    IMPERSONATION = "impersonation"
    NO_POLICY = "no_policy"
    DENIED = "denied"
    DENY_ALL = "deny_all"
    LIMITED = "limited"
    LONG_RUNNING = "long_running"
    SHORT_REQUESTS = "short_requests"
    UPGRADES = "upgrades"
    NO_SERVER = "no_server"
    UPSTREAM = "upstream"
    TIMEOUT = "timeout"
    STARTING = "starting"
    STOPPING = "stopping"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Answer:
    """A refusal."""

    reason: Reason
    status: Status


def unknown_host(host: str) -> Answer:
    return Answer(Reason.UNKNOWN_HOST, kube.not_found(f"no cluster of this gateway is called {host!r}"))


def misdirected(cluster: str) -> Answer:
    text = f"this connection's client certificate was not verified for cluster {cluster}: open another connection"
    return Answer(Reason.MISDIRECTED, kube.misdirected(text))


def credential_is_hop_by_hop(name: str) -> Answer:
    text = f"the Connection header names {name}, so this credential would not reach the server: remove it there"
    return Answer(Reason.BAD_REQUEST, kube.bad_request(text))


def no_policy(info: RequestInfo) -> Answer:
    return Answer(
        Reason.NO_POLICY,
        kube.forbidden(f"no dispatch policy matches {info.verb}", info.resource, info.group, info.name),
    )


def limited(cluster: str, schema: str, retry_after: int, info: RequestInfo) -> Answer:
    """429; no Retry-After for events."""
    seconds = 0 if is_event(info) else max(1, retry_after)
    text = f"too many requests: flow-control schema {schema} of cluster {cluster} admits no more now"
    return Answer(Reason.LIMITED, kube.too_many_requests(text, seconds))


def too_many_long_running(cluster: str, most: int, *, of_connection: bool) -> Answer:
    """429. A new connection helps at once where the bound is the connection's."""
    of, remedy = ("one connection", "open another connection") if of_connection else ("one user", "end some of them")
    text = (
        f"too many requests: cluster {cluster} admits {most} watches and other long-running requests of {of}: {remedy}"
    )
    return Answer(Reason.LONG_RUNNING, kube.too_many_requests(text, 1 if of_connection else USER_BOUND_SECONDS))


def too_many_short(cluster: str, most: int, info: RequestInfo) -> Answer:
    """429; no Retry-After for events."""
    text = (
        f"too many requests: cluster {cluster} admits {most} requests of one user at the same time: "
        "end some of them, or wait until they are answered"
    )
    return Answer(Reason.SHORT_REQUESTS, kube.too_many_requests(text, 0 if is_event(info) else 1))


def too_many_upgrades(cluster: str) -> Answer:
    text = f"too many upgrades to cluster {cluster} with credentials that no server has accepted yet: try again"
    return Answer(Reason.UPGRADES, kube.too_many_requests(text, 1))


def deny_all(cluster: str) -> Answer:
    return Answer(Reason.DENY_ALL, kube.too_many_requests(f"all requests to cluster {cluster} are refused for now", 0))


def denied(code: int, message: str, retry_after: int) -> Answer:
    return Answer(Reason.DENIED, kube.failure(code, message or "refused by a dispatch policy", retry_after))


def no_server(cluster: str, why: str, retry_after: int) -> Answer:
    """`why` names servers; empty for who may not know."""
    text = f"no server of cluster {cluster} can take this{': ' if why else ' now'}{why}"
    return Answer(Reason.NO_SERVER, kube.service_unavailable(text, retry_after))


def outdated(cluster: str) -> Answer:
    text = f"how servers of cluster {cluster} are told who asks has changed meanwhile: try again"
    return Answer(Reason.NO_SERVER, kube.service_unavailable(text))


def upstream_failed(cluster: str, server: str, fault: Fault) -> Answer:
    """503 that says what may have become of the request: whether a client may repeat it depends on that."""
    text = f"{_one(server)} of cluster {cluster} did not answer: {_FAULTS[fault]}"
    return Answer(Reason.UPSTREAM, kube.service_unavailable(text))


def timed_out(cluster: str, server: str, seconds: float) -> Answer:
    text = f"{_one(server)} of cluster {cluster} gave no answer within {seconds:g} seconds"
    return Answer(Reason.TIMEOUT, kube.timeout(text))


_NOT_PROCESSED: Final = "the request was not processed; try again"
_PERHAPS_PROCESSED: Final = "the request may have been processed; read the object before you repeat a write"
_FAULTS: Final[Mapping[Fault, str]] = {
    Fault.UNSENT: f"no connection to it could be made; {_NOT_PROCESSED}",
    Fault.FULL: f"every connection to it is in use; {_NOT_PROCESSED}",
    Fault.REFUSED: f"it refused the request; {_NOT_PROCESSED}",
    Fault.RESET: f"it reset the request; {_PERHAPS_PROCESSED}",
    Fault.LOST: f"the connection to it was lost; {_PERHAPS_PROCESSED}",
    Fault.PROTOCOL: f"what it sent is not valid HTTP; {_PERHAPS_PROCESSED}",
    Fault.TIMEOUT: f"it took too long; {_PERHAPS_PROCESSED}",
}


def _one(server: str) -> str:
    return f"server {server}" if server else "a server"


def starting() -> Answer:
    return Answer(Reason.STARTING, kube.service_unavailable("this gateway instance is starting: try again"))


def stopping() -> Answer:
    return Answer(Reason.STOPPING, kube.service_unavailable("this gateway instance is stopping: try again"))


def internal() -> Answer:
    return Answer(Reason.INTERNAL, kube.internal("the gateway failed to handle this request"))


def is_event(info: RequestInfo) -> bool:
    return info.resource == "events" and info.group in _EVENTS


def unread(code: int, why: str) -> tuple[list[Header], bytes]:
    """Headers and body of a Status for a request that broke HTTP or its bounds. JSON, for its headers are not read."""
    content_type, body = encode(kube.failure(code, why))
    return _headers(content_type, body, Reason.BAD_REQUEST), body


def send(exchange: Exchange, answer: Answer) -> int:
    """Answer with the Status in the media type the client asks for; bytes of the body."""
    status = answer.status
    content_type, body = encode(status, exchange.header(b"accept"))
    headers = _headers(content_type, body, answer.reason)
    if status.retry_after_seconds:
        headers.append((b"retry-after", b"%d" % status.retry_after_seconds))
    if status.code == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    exchange.respond(status.code, headers)
    if exchange.method != b"HEAD":
        exchange.send(body)
    exchange.finish()
    return len(body)


def _headers(content_type: str, body: bytes, reason: Reason) -> list[Header]:
    return [
        (b"content-type", content_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-cache, private"),
        (b"x-content-type-options", b"nosniff"),
        (HEADER, reason.value.encode()),
    ]
