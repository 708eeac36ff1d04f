"""UpstreamCluster, proxy.wharf.dev/v1alpha1, as shapes. Whoever holds one holds a valid one: parse.py refuses the rest.

Names in documents are the fields' names in lowerCamelCase; durations are seconds as numbers, fractions allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

GROUP: Final = "proxy.wharf.dev"
VERSION: Final = "v1alpha1"
KIND: Final = "UpstreamCluster"
PLURAL: Final = "upstreamclusters"

Address = IPv4Address | IPv6Address


class IdentityMode(Enum):
    """How the upstream is told who asks."""

    FRONT_PROXY = "FrontProxy"  # X-Remote-* over a connection with a front-proxy certificate
    IMPERSONATION = "Impersonation"  # Impersonate-* with the gateway's own credential


class TokenMode(Enum):
    PASS_THROUGH = "PassThrough"  # noqa: S105 — the token goes upstream untouched
    REVIEW = "Review"  # TokenReview, shortly cached; upstream identity as for certificates


class Protocol(Enum):
    AUTO = "Auto"  # what ALPN gives; HTTP/2 where both can
    HTTP2 = "HTTP2"
    HTTP1 = "HTTP1"


class Key(Enum):
    """What a limit is counted by; every key value has its own bucket."""

    NONE = "None"
    USER = "User"
    NAMESPACE = "Namespace"
    SERVICE_ACCOUNT = "ServiceAccount"


class Scope(Enum):
    LOCAL = "Local"  # each gateway process by itself
    GLOBAL = "Global"  # all workers and replicas together


class WatchClass(Enum):
    """How long-running requests count against a schema."""

    SEPARATE = "Separate"  # in a class of their own, `watches` at most (0: unlimited)
    START = "Start"  # at their start only
    SAME = "Same"  # like any request, for their whole life


@dataclass(frozen=True, slots=True)
class Material:
    """PEM text, given in the document or taken from a Secret (or file, with a directory source). One of them."""

    pem: bytes = field(default=b"", repr=False)
    secret: tuple[str, str] | None = None  # (namespace, name)
    secret_key: str = ""  # entry of the Secret; empty: the usual one (tls.crt, tls.key, ca.crt, token)
    file: str = ""  # path, relative to the document's folder; directory source only


@dataclass(frozen=True, slots=True)
class Server:
    """One kube-apiserver."""

    name: str  # defaults to the URL's host:port
    url: str  # "https://10.0.0.1:6443"
    host: str
    port: int
    tls: bool
    weight: int = 1  # share of requests, 0 to 1000; 0: only when nothing else is left
    zone: str = ""
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class DnsDiscovery:
    """Every address of a name is a server."""

    name: str
    port: int = 6443
    tls: bool = True
    refresh_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class ServiceDiscovery:
    """Every ready endpoint of a Service in the home cluster (EndpointSlices) is a server."""

    namespace: str
    name: str
    port: str = "https"  # name or number
    tls: bool = True


@dataclass(frozen=True, slots=True)
class Serving:
    """What clients meet."""

    certificate: Material | None = None  # chain; the listener's own when absent
    key: Material | None = None
    client_ca: Material | None = None  # none: client certificates are not asked for


@dataclass(frozen=True, slots=True)
class Upstream:
    """How the gateway meets the servers."""

    ca: Material | None = None  # none: the system's
    insecure_skip_verify: bool = False
    server_name: str = ""  # SNI and the name to verify; empty: the server's own host
    certificate: Material | None = None  # the gateway's client certificate (front-proxy, or its own user's)
    key: Material | None = None
    token: Material | None = None  # the gateway's own bearer token
    identity: IdentityMode = IdentityMode.FRONT_PROXY
    protocol: Protocol = Protocol.AUTO
    connections_max: int = 64  # HTTP/2 connections for short requests, per server, process and kind of credential
    watch_connections_max: int = 1024  # the same for long-running requests
    uid_header: bool = True  # X-Remote-Uid / Impersonate-Uid; off for servers older than 1.22


@dataclass(frozen=True, slots=True)
class Authentication:
    tokens: TokenMode = TokenMode.PASS_THROUGH
    anonymous: bool = True  # requests without credentials go upstream as system:anonymous; else 401
    impersonation: bool = True  # Impersonate-* from clients, authorised by SubjectAccessReview upstream; else 403
    review_success_seconds: float = 10.0  # cache of TokenReview, also bounded by the token's own exp
    review_failure_seconds: float = 1.0
    audiences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """All fields must match, any value of a field will do. `-x` excludes, `*` is everything, `x*` a prefix.

    An empty field matches everything; a field with exclusions only matches whatever none of them matches.
    """

    verbs: tuple[str, ...] = ()
    api_groups: tuple[str, ...] = ()  # "" is the core group
    resources: tuple[str, ...] = ()  # "pods", "pods/log", "*/status", "pods/*"
    resource_names: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()  # "namespace/name", "namespace/*"
    non_resource_urls: tuple[str, ...] = ()  # "/healthz", "/openapi/*"


@dataclass(frozen=True, slots=True)
class Balance:
    strategy: str = "RoundRobin"  # a plugin's name: RoundRobin Random LeastRequests ConsistentHash
    hash_key: Key = Key.USER  # ConsistentHash
    prefer_zone: str = ""  # servers of this zone first; empty: of the gateway's own; others when none is left


@dataclass(frozen=True, slots=True)
class Deny:
    """Refuses what the policy matches."""

    status: int = 429  # 403, 429 or 503
    retry_after_seconds: int = 0  # 0: none
    message: str = ""


@dataclass(frozen=True, slots=True)
class ListProtection:
    """For lists that the client does not page."""

    inject_limit: int = 0  # limit= added to an unpaged list that does not read from the watch cache; 0: off
    cost_per_bytes: int = 0  # one further token per so many bytes of the last answers to the same list; 0: off
    cost_max: int = 100  # tokens


@dataclass(frozen=True, slots=True)
class Policy:
    """First match wins."""

    name: str
    rules: tuple[Rule, ...] = ()  # any of them; none: everything
    servers: tuple[str, ...] = ()  # subset by name; none: all
    balance: Balance = field(default_factory=Balance)
    flow_control: tuple[str, ...] = ()  # schemas, all of which must admit the request
    deny: Deny | None = None
    lists: ListProtection | None = None
    access_log: bool | None = None  # None: the cluster's


@dataclass(frozen=True, slots=True)
class Schema:
    """One limit. Neither `max_in_flight` nor `qps`: exempt (it only counts)."""

    name: str
    max_in_flight: int | None = None
    qps: float | None = None
    burst: int = 0
    key: Key = Key.NONE
    scope: Scope = Scope.LOCAL
    watch_class: WatchClass = WatchClass.SEPARATE
    watches: int = 0  # long-running requests at once, of the SEPARATE class; 0: unlimited
    keys_max: int = 10_000  # buckets kept; the least recently used goes first
    wait_seconds: float = 0.0  # how long a request may wait for its turn instead of being refused


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds."""

    connect: float = 5.0
    head: float = 65.0  # short requests: until the response head; kube-apiserver's own limit is 60
    total: float = 120.0  # short requests, whole
    stall: float = 60.0  # a reader that takes nothing is cut
    ping_interval: float = 30.0  # HTTP/2 connections upstream that hear nothing
    ping_timeout: float = 15.0
    half_close: float = 60.0  # upgraded connections: the other direction after one has ended


@dataclass(frozen=True, slots=True)
class Health:
    path: str = "/readyz"
    interval: float = 5.0
    timeout: float = 5.0
    failures: int = 2  # in a row, to take a server out
    successes: int = 2  # in a row, to take it back
    slow_start: float = 10.0  # seconds until a server that came back has its whole share


@dataclass(frozen=True, slots=True)
class Outliers:
    """Passive: what requests tell about a server."""

    consecutive_failures: int = 5  # connect errors, resets, 5xx of the server's own (502, 503, 504); 0: off
    eject: float = 10.0  # seconds, doubled each time
    eject_max: float = 300.0
    eject_share: float = 0.5  # of the servers at most


@dataclass(frozen=True, slots=True)
class Breaker:
    """Per server; beyond, the server is passed over. 0: unlimited."""

    requests_max: int = 0
    watches_max: int = 0
    pending_max: int = 16_384  # requests waiting for a connection


@dataclass(frozen=True, slots=True)
class LongRunning:
    """Bounds of watches, exec and other long-running requests, per process. 0: unlimited."""

    per_user_max: int = 10_000
    per_connection_max: int = 500  # of one client connection


@dataclass(frozen=True, slots=True)
class Retry:
    attempts: int = 2  # further servers tried
    budget: float = 0.2  # retries as a share of requests
    body_max: int = 65536  # bytes of a request body kept for repeating


@dataclass(frozen=True, slots=True)
class Logging:
    access: bool = False
    fields: tuple[str, ...] = ()  # none: all
    slow_seconds: float = 5.0  # short requests that take longer are logged in any case; 0: off
    slow_list_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Tracing:
    ratio: float = 0.0  # of requests without a traceparent of their own


@dataclass(frozen=True, slots=True)
class Features:
    deny_all: bool = False  # every request is refused (429): the big switch
    close_idle: bool = False  # clients are asked to connect anew (GOAWAY, connection: close) with their next request
    hide_server: bool = False  # no header that tells which server answered
    require_host: bool = True  # 404 for a host that is no cluster's; else the connection's cluster answers


@dataclass(frozen=True, slots=True)
class UpstreamCluster:
    """One cluster behind the gateway."""

    name: str
    generation: int = 0
    uid: str = ""
    created: str = ""  # RFC 3339; the older of two objects keeps what both claim
    hostnames: tuple[str, ...] = ()  # further names, lower case; "*.x" one label; the object's name is always one
    addresses: tuple[Address, ...] = ()  # local addresses that mean this cluster
    servers: tuple[Server, ...] = ()
    dns: DnsDiscovery | None = None
    service: ServiceDiscovery | None = None
    serving: Serving = field(default_factory=Serving)
    upstream: Upstream = field(default_factory=Upstream)
    authentication: Authentication = field(default_factory=Authentication)
    policies: tuple[Policy, ...] = (Policy("default"),)
    schemas: tuple[Schema, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
    health: Health = field(default_factory=Health)
    outliers: Outliers = field(default_factory=Outliers)
    breaker: Breaker = field(default_factory=Breaker)
    long_running: LongRunning = field(default_factory=LongRunning)
    retry: Retry = field(default_factory=Retry)
    logging: Logging = field(default_factory=Logging)
    tracing: Tracing = field(default_factory=Tracing)
    features: Features = field(default_factory=Features)
