"""Servers, and how clients and servers are met: the parts of a document that are neither policies nor limits."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from wharf.gateway.api.fields import (
    Choice,
    Constraint,
    Field,
    Listing,
    Number,
    Problem,
    Shape,
    Switch,
    Values,
    constraint,
)
from wharf.gateway.api.layout_names import (
    AUDIENCE,
    DNS_NAME,
    NAMESPACE,
    OBJECT,
    PATH,
    PORT,
    SERVER_NAME,
    SERVER_URL,
    WORD,
    ZONE,
    material,
)
from wharf.gateway.api.pem import check_pair
from wharf.gateway.api.shapes import (
    Authentication,
    Breaker,
    DnsDiscovery,
    Features,
    Health,
    IdentityMode,
    Logging,
    LongRunning,
    Outliers,
    Protocol,
    Retry,
    Server,
    ServiceDiscovery,
    Serving,
    Timeouts,
    TokenMode,
    Tracing,
    Upstream,
)

SECONDS: Final = Number(0, 86_400, above=True)
SECONDS_OR_OFF: Final = Number(0, 86_400)


def count(least: int, most: int) -> Number:
    return Number(least, most, whole=True)


def make_server(url: str, name: str = "", **others: Any) -> Server:
    """A server of its URL; the port is the scheme's own when none is named. ValueError for a bad port or address."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if tls else 80)
    return Server(name or server_name(url), url.rstrip("/"), host, port, tls, **others)


def server_name(url: str) -> str:
    """The default name of a server: its URL's authority, as written."""
    return url.partition("://")[2].rstrip("/")


def _url(url: str) -> str:
    parts = urlsplit(url)  # ValueError: brackets around something else than an IPv6 address
    if parts.port == 0:
        raise ValueError("a URL with a port")
    return url


def _pair(values: Values) -> list[Problem]:
    certificate, key = values.get("certificate"), values.get("key")
    if certificate is None or key is None or not certificate.pem or not key.pem:
        return []
    try:
        check_pair(certificate.pem, key.pem)
    except ValueError as error:
        return [Problem("key", f"this is not {error}")]
    return []


_TOGETHER: Final = constraint(
    "key",
    "certificate and key belong together",
    "has(self.certificate) == has(self.key)",
    lambda values: ("certificate" in values) == ("key" in values),
)
_MATCHING: Final = Constraint("", "the key must be the certificate's", _pair)

SERVER: Final = Shape(
    (
        Field(
            "url",
            type(SERVER_URL)(
                SERVER_URL.pattern, SERVER_URL.says, SERVER_URL.longest, SERVER_URL.shortest, _url, "isURL(self)"
            ),
            "Where the kube-apiserver listens. Plain http is for tests.",
            required=True,
        ),
        Field(
            "name", SERVER_NAME, "What policies, metrics and the status call it.", shown_default="host:port of the URL"
        ),
        Field("weight", count(0, 1000), "Share of the requests. 0: only when nothing else is left."),
        Field("zone", ZONE, "Where it stands; policies and gateways may prefer a zone."),
        Field("disabled", Switch(), "Takes it out: no requests, no probes. Streams under way go on."),
    ),
    make_server,
    of=Server,
)
DISCOVERY: Final = Shape(
    (
        Field(
            "dns",
            Shape(
                (
                    Field("name", DNS_NAME, "The name to resolve.", required=True),
                    Field("port", count(1, 65_535), "Port of each server."),
                    Field("tls", Switch(), "Whether they speak TLS."),
                    Field("refreshSeconds", Number(0.5, 3600), "How often the name is resolved again."),
                ),
                DnsDiscovery,
            ),
            "Every address of a DNS name is a server.",
        ),
        Field(
            "service",
            Shape(
                (
                    Field("namespace", NAMESPACE, "Namespace of the Service.", required=True),
                    Field("name", OBJECT, "Name of the Service.", required=True),
                    Field("port", PORT, "Name or number of the EndpointSlices' port."),
                    Field("tls", Switch(), "Whether the endpoints speak TLS."),
                ),
                ServiceDiscovery,
            ),
            "Every ready endpoint of a Service in the home cluster is a server.",
        ),
    )
)
SERVING: Final = Shape(
    (
        Field("certificate", material("certificate"), "The chain clients are shown; the listener's own when absent."),
        Field("key", material("key"), "The key of the certificate."),
        Field("clientCA", material("ca"), "Who signs client certificates. Absent: none are asked for."),
    ),
    Serving,
    (_TOGETHER, _MATCHING),
)
UPSTREAM: Final = Shape(
    (
        Field("ca", material("ca"), "Who signs the servers' certificates; the system's CAs when absent."),
        Field(
            "certificate",
            material("certificate"),
            "The gateway's client certificate: a front-proxy one, or its own user's.",
        ),
        Field("key", material("key"), "The key of the certificate."),
        Field("token", material("token"), "The gateway's own bearer token, instead of a certificate."),
        Field(
            "identity",
            Choice(IdentityMode),
            "How servers are told who asks: X-Remote-* headers, or Impersonate-* headers.",
        ),
        Field("protocol", Choice(Protocol), "Auto: HTTP/2 where the server offers it."),
        Field("serverName", DNS_NAME, "Name to ask for (SNI) and to verify.", shown_default="the server's host"),
        Field("insecureSkipVerify", Switch(), "Believes any server certificate. For tests."),
        Field(
            "connectionsMax",
            count(1, 65_535),
            "HTTP/2 connections for short requests, per server, process and kind of credential. They are opened on "
            "demand; a kube-apiserver takes 100 requests on each.",
        ),
        Field(
            "watchConnectionsMax",
            count(1, 65_535),
            "The same for watches and other long-running requests, which never use the connections of short ones.",
        ),
        Field("uidHeader", Switch(), "Sends the user's UID too; off for servers older than 1.22."),
    ),
    Upstream,
    (
        _TOGETHER,
        _MATCHING,
        constraint(
            "insecureSkipVerify",
            "insecureSkipVerify would make ca meaningless",
            "!(has(self.ca) && has(self.insecureSkipVerify) && self.insecureSkipVerify)",
            lambda values: not ("ca" in values and values.get("insecureSkipVerify")),
        ),
    ),
)
AUTHENTICATION: Final = Shape(
    (
        Field("tokens", Choice(TokenMode), "Bearer tokens go to the server untouched, or are reviewed by it first."),
        Field("anonymous", Switch(), "Requests without credentials go on as system:anonymous; otherwise 401."),
        Field(
            "impersonation",
            Switch(),
            "Clients may impersonate (kubectl --as), as far as the server allows; otherwise 403.",
        ),
        Field(
            "review",
            Shape(
                (
                    Field(
                        "successSeconds",
                        Number(0, 600),
                        "How long a good review is believed; never past the token's own expiry.",
                        attribute="review_success_seconds",
                    ),
                    Field(
                        "failureSeconds",
                        Number(0, 60),
                        "How long a bad review is believed.",
                        attribute="review_failure_seconds",
                    ),
                )
            ),
            "For tokens: Review.",
        ),
        Field(
            "audiences", Listing(AUDIENCE, 16), "Audiences that a reviewed token must be for; none: the server's own."
        ),
    ),
    Authentication,
)
TIMEOUTS: Final = Shape(
    (
        Field("connect", SECONDS, "Connecting to a server, TLS included."),
        Field("head", SECONDS, "Short requests: until the head of the response."),
        Field("total", SECONDS, "Short requests, whole. Watches and streams have no limit."),
        Field("stall", SECONDS, "A client that reads nothing for so long is cut off."),
        Field("pingInterval", SECONDS, "An HTTP/2 connection to a server that is silent for so long is pinged."),
        Field("pingTimeout", SECONDS, "Until the answer to a ping; then the connection is given up."),
        Field("halfClose", SECONDS, "Upgraded connections: what the other direction still gets after one has ended."),
    ),
    Timeouts,
)
HEALTH: Final = Shape(
    (
        Field("path", PATH, "What is asked of a server."),
        Field("interval", Number(0.1, 3600), "Between two probes."),
        Field("timeout", Number(0.1, 3600), "Until a probe counts as failed."),
        Field("failures", count(1, 100), "Failed probes in a row that take a server out."),
        Field("successes", count(1, 100), "Good probes in a row that take it back."),
        Field("slowStart", Number(0, 3600), "Until a server that came back has its whole share."),
    ),
    Health,
)
OUTLIERS: Final = Shape(
    (
        Field(
            "consecutiveFailures",
            count(0, 1000),
            "Requests in a row that failed by the server's fault (connect error, reset, 502, 503, 504). "
            "Failures that a client, an aggregated API or a pod can cause do not count. 0: off.",
        ),
        Field("eject", SECONDS, "How long the server stays out; doubled each time."),
        Field("ejectMax", SECONDS, "At most."),
        Field("ejectShare", Number(0, 1), "Share of the servers that may be out at once for this reason."),
    ),
    Outliers,
    (
        constraint(
            "ejectMax",
            "ejectMax must be at least eject",
            "!has(self.eject) || !has(self.ejectMax) || self.ejectMax >= self.eject",
            lambda values: values.get("ejectMax", Outliers().eject_max) >= values.get("eject", Outliers().eject),
        ),
    ),
)
BREAKER: Final = Shape(
    (
        Field("requestsMax", count(0, 1_000_000), "Requests under way per server and process. 0: unlimited."),
        Field("watchesMax", count(0, 1_000_000), "Watches and streams per server and process. 0: unlimited."),
        Field(
            "pendingMax",
            count(0, 1_000_000),
            "Requests that wait for a connection, per server and process. 0: unlimited.",
        ),
    ),
    Breaker,
)
LONG_RUNNING: Final = Shape(
    (
        Field(
            "perUserMax",
            count(0, 10_000_000),
            "Long-running requests of one user at the same time, per process. A token that passes through counts as "
            "a user. Beyond: 429. 0: unlimited.",
        ),
        Field(
            "perConnectionMax",
            count(0, 1_000_000),
            "Long-running requests on one client connection at the same time. Beyond: 429, and the client is asked to "
            "open another connection. 0: unlimited.",
        ),
    ),
    LongRunning,
)
RETRY: Final = Shape(
    (
        Field("attempts", count(0, 10), "Further servers tried, where a repetition is safe."),
        Field("budget", Number(0, 1), "Repetitions as a share of requests."),
        Field(
            "bodyMax",
            count(0, 16_777_216),
            "Bytes of a request body kept for a repetition; longer ones are not repeated.",
        ),
    ),
    Retry,
)
LOGGING: Final = Shape(
    (
        Field("access", Switch(), "Every request is logged. Policies may say otherwise."),
        Field("fields", Listing(WORD, 64), "Fields of the access log; none: all."),
        Field("slowSeconds", SECONDS_OR_OFF, "Short requests that take longer are logged in any case. 0: off."),
        Field("slowListSeconds", SECONDS_OR_OFF, "The same for lists."),
    ),
    Logging,
)
TRACING: Final = Shape(
    (Field("ratio", Number(0, 1), "Share of the requests traced that come without a traceparent of their own."),),
    Tracing,
)
FEATURES: Final = Shape(
    (
        Field("denyAll", Switch(), "Refuses every request with 429: the big switch."),
        Field("closeIdle", Switch(), "Asks clients to connect anew, to move them elsewhere."),
        Field("hideServer", Switch(), "Leaves out the header that tells which server answered."),
        Field(
            "requireHost", Switch(), "404 for a Host that is no cluster's; otherwise the connection's cluster answers."
        ),
    ),
    Features,
)
