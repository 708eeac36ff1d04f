"""brain's configuration: one frozen object out of flags, environment and a file.

Names are etcd's wherever the meaning is etcd's, so that a manifest written for etcd (kubeadm's static pod, a systemd
unit) works as it stands. etcd's flags fall into three classes: those that mean something here are fields; those about
raft, peers and discovery are accepted and named in one warning; those that promise a protection this server does not
give are refused, because a start without the protection is worse than none.

Invariant: a `BrainConfig` is consistent; whoever holds one need not check it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from wharf.brain.config_rules import Retention, check_rules, parse_retention
from wharf.brain.engine.url import ENGINE_URL
from wharf.brain.etcd_flags import IGNORED_SWITCHES, IGNORED_VALUES, WITHOUT_MEANING
from wharf.common.config import Ignored, Loaded, Schema, load, option
from wharf.common.parsers import (
    BOOLEAN,
    DURATION,
    FILE,
    PATH,
    STRING,
    STRINGS,
    BadValue,
    Parser,
    Url,
    choice,
    integer,
    urls,
)
from wharf.common.service_urls import NATS_URL, OTLP_ENDPOINT, REDIS_URL

DEFAULT_QUOTA: Final = 2 * 1024**3  # etcd's
MIN_PROGRESS_INTERVAL: Final = 0.1  # seconds; etcd's floor
REQUEST_OVERHEAD: Final = 512 * 1024  # what gRPC may receive beyond --max-request-bytes, as etcd has it


def _parse_quota(text: str) -> int:
    value = integer().parse(text)
    return value if value else DEFAULT_QUOTA


def _refused(remedy: str) -> Parser[str]:
    """A flag of etcd's that may only be given in its harmless form."""

    def parse(text: str) -> str:
        if not text:
            return ""
        raise BadValue(remedy)

    return Parser("", "nothing", parse)


def _parse_hosts(text: str) -> tuple[str, ...]:
    """Names as they are compared with a Host header; an empty list allows every host, as in etcd."""
    names = tuple(name.removeprefix("[").removesuffix("]").lower() for name in STRINGS.parse(text))
    return names or ("*",)


_HOSTS = replace(STRINGS, parse=_parse_hosts)
_NO_CRL = _refused("is not supported: revocation lists are not checked; issue short-lived certificates")
_NO_CORS = _refused(
    "is not supported: requests of web pages (with an Origin header) are refused and no CORS header is sent; serve web "
    "pages through a proxy of their own origin that removes the Origin header"
)
_NO_PEER_NAMES = _refused("is not supported: give the nodes a CA of their own as --peer-trusted-ca-file")
_PEER_NAMES_HELP = "Refused: names in nodes' certificates are not checked, only their CA."
_LISTEN = urls("http", "https")
_LISTEN_CLIENTS = urls("http", "https", "unix")
_QUOTA = Parser("BYTES", "a number of bytes; 0: 2 GiB, negative: no quota", _parse_quota)
_RETENTION = Parser("TEXT", 'a duration ("1h", "30m"; a bare number means hours) or a number of revisions', str)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrainConfig:
    """Everything `wharf brain` can be told."""

    name: str = option(STRING, "default", help="Name of this node.", group="Node")
    data_dir: Path | None = option(PATH, None, help="Directory of the store; <name>.wharf if not given.", group="Node")
    engine: str = option(
        ENGINE_URL,
        "",
        help="Where the store keeps its bytes: lmdb:///DIR, postgresql://USER:PASSWORD@HOST,HOST/DATABASE?sslmode=… "
        "(shared by several nodes, needs --redis) or memory: (tests). LMDB in --data-dir if not given.",
        group="Node",
    )
    workers: int = option(
        integer(0, 256),
        0,
        help="More processes on this machine that serve reads and watches from the same LMDB store, on the same port.",
        group="Node",
    )
    unsafe_no_fsync: bool = option(
        BOOLEAN, False, help="Do not sync the disk. A crash of the machine loses acknowledged writes.", group="Node"
    )

    listen_client_urls: tuple[Url, ...] = option(
        _LISTEN_CLIENTS,
        _LISTEN_CLIENTS.parse("http://localhost:2379"),
        help="Where clients are served; unix://PATH is a socket file that only this user may connect to.",
        group="Clients",
    )
    advertise_client_urls: tuple[Url, ...] = option(
        _LISTEN_CLIENTS,
        (),
        help="What clients are told as this node's address; the listen URLs if not given.",
        group="Clients",
    )
    redis: str = option(
        REDIS_URL,
        "",
        help="Where the leader's lease is: redis[s]://USER:PASSWORD@HOST:PORT/DB?ssl_ca_certs=FILE.",
        group="Nodes",
    )
    nats: str = option(
        NATS_URL,
        "",
        help="Where batches go from the leader to the others: nats://, tls://HOST:PORT,HOST:PORT. Without it they read "
        "the engine's log: correct, and slower.",
        group="Nodes",
    )
    nats_ca_file: Path | None = option(FILE, None, help="CA of the NATS servers' certificates, PEM.", group="Nodes")
    nats_cert_file: Path | None = option(FILE, None, help="Client certificate for NATS, PEM.", group="Nodes")
    nats_key_file: Path | None = option(FILE, None, help="Its key, PEM.", group="Nodes")
    nats_credentials_file: Path | None = option(FILE, None, help="NATS credentials (.creds).", group="Nodes")
    listen_peer_urls: tuple[Url, ...] = option(
        _LISTEN,
        _LISTEN.parse("http://localhost:2380"),
        help="Where other nodes and operators are served.",
        group="Nodes",
    )
    initial_advertise_peer_urls: tuple[Url, ...] = option(
        _LISTEN,
        (),
        help="Where other nodes find this one, and what clients that list members are told; the listen URLs if not "
        "given.",
        group="Nodes",
    )
    election_timeout: int = option(
        integer(500, 60_000),
        3000,
        help="Milliseconds without a word after which a leader is replaced: the life of its lease.",
        group="Nodes",
    )
    peer_cert_file: Path | None = option(
        FILE, None, help="This node's certificate for other nodes, PEM.", group="Nodes"
    )
    peer_key_file: Path | None = option(FILE, None, help="Its key, PEM.", group="Nodes")
    peer_trusted_ca_file: Path | None = option(
        FILE, None, help="CA of the other nodes' certificates, PEM.", group="Nodes"
    )
    peer_auto_tls: bool = option(
        BOOLEAN,
        False,
        help="Accepted for a node by itself, which has no peers; refused with --engine postgresql://.",
        group="Nodes",
    )
    peer_server_name: str = option(STRING, "", help="Name in nodes' certificates, if not the URL's.", group="Nodes")
    peer_client_cert_auth: bool = option(
        BOOLEAN, False, help="Require certificates of other nodes (needs --peer-trusted-ca-file).", group="Nodes"
    )
    unsafe_no_peer_tls: bool = option(
        BOOLEAN,
        False,
        help="Take plain http on --listen-peer-urls beyond loopback: whoever reaches that port can write everything.",
        group="Nodes",
    )
    listen_metrics_urls: tuple[Url, ...] = option(
        _LISTEN, (), help="More places for /metrics and the health endpoints, without the API.", group="Clients"
    )
    front_end: str = option(
        choice("wire", "grpcio"),
        "wire",
        help="What speaks HTTP/2: wharf's own server, or grpcio as its reference.",
        group="Clients",
    )
    max_request_bytes: int = option(integer(1, 2**31 - 1), 1536 * 1024, help="Largest request.", group="Clients")
    max_txn_ops: int = option(integer(1), 128, help="Most operations in one transaction.", group="Clients")
    enable_grpc_gateway: bool = option(
        BOOLEAN, True, help="Serve etcd's JSON mapping of the API, POST /v3/…, on the client URLs.", group="Clients"
    )
    max_concurrent_streams: int = option(
        integer(1, 2**32 - 1), 2**32 - 1, help="Most calls open at a time on one connection.", group="Clients"
    )
    grpc_keepalive_min_time: float = option(
        DURATION, 5.0, help="Shortest interval at which clients may ping.", group="Clients"
    )
    grpc_keepalive_interval: float = option(
        DURATION, 7200.0, help="Interval of pings to a silent client; 0: none.", group="Clients"
    )
    grpc_keepalive_timeout: float = option(DURATION, 20.0, help="How long a ping may stay unanswered.", group="Clients")
    watch_progress_notify_interval: float = option(
        DURATION, 600.0, help="Interval of progress notifications to quiet watches that want them.", group="Clients"
    )
    auth_token_ttl: int = option(
        integer(1),
        300,
        help="Seconds without use after which a token ends that a client got for a password, when users are enabled.",
        group="Clients",
    )

    cert_file: Path | None = option(FILE, None, help="Server certificate, PEM; reloaded when it changes.", group="TLS")
    key_file: Path | None = option(FILE, None, help="Its key, PEM.", group="TLS")
    trusted_ca_file: Path | None = option(
        FILE, None, help="CA of client certificates, PEM. With it every client must show a certificate.", group="TLS"
    )
    client_cert_auth: bool = option(
        BOOLEAN, False, help="Require client certificates (needs --trusted-ca-file).", group="TLS"
    )
    client_cert_allowed_hostname: tuple[str, ...] = option(
        STRINGS, (), help="DNS names, one of which a client certificate must carry.", group="TLS"
    )
    cipher_suites: tuple[str, ...] = option(STRINGS, (), help="TLS 1.2 cipher suites by IANA name.", group="TLS")
    tls_min_version: str = option(choice("TLS1.2", "TLS1.3"), "TLS1.2", help="Oldest TLS version.", group="TLS")
    tls_max_version: str = option(
        choice("", "TLS1.2", "TLS1.3"), "", help="Newest TLS version, if not the newest there is.", group="TLS"
    )
    auto_tls: bool = option(
        BOOLEAN,
        False,
        help="Serve https with a self-signed certificate, kept in the data directory, where --cert-file is not given.",
        group="TLS",
    )
    self_signed_cert_validity: int = option(
        integer(1, 100), 1, help="Years that the certificate of --auto-tls is valid; renewed before.", group="TLS"
    )
    client_crl_file: str = option(_NO_CRL, "", help="Refused: revocation lists are not checked.", group="TLS")
    peer_crl_file: str = option(_NO_CRL, "", help="Refused: revocation lists are not checked.", group="TLS")
    peer_cert_allowed_cn: str = option(_NO_PEER_NAMES, "", help=_PEER_NAMES_HELP, group="TLS")
    peer_cert_allowed_hostname: str = option(_NO_PEER_NAMES, "", help=_PEER_NAMES_HELP, group="TLS")
    host_whitelist: tuple[str, ...] = option(
        _HOSTS,
        ("*",),
        help="Host names that an HTTP request (health, metrics, JSON) may name in its Host header; * or nothing: any.",
        group="Clients",
    )
    cors: str = option(
        _NO_CORS, "", help="Refused: web pages of other origins are never allowed to send requests.", group="Clients"
    )
    auth_token: str = option(
        choice("simple"), "simple", help="Kind of the tokens that clients get for a password.", group="Clients"
    )

    quota_backend_bytes: int = option(
        _QUOTA,
        DEFAULT_QUOTA,
        help="Size of the store past which writes are refused. LMDB takes 2 to 5 times the space of etcd's bbolt for "
        "the same data, so give 4 times etcd's quota when you come from etcd.",
        group="History",
    )
    auto_compaction_mode: str = option(
        choice("periodic", "revision"), "periodic", help="What --auto-compaction-retention counts.", group="History"
    )
    auto_compaction_retention: str = option(
        _RETENTION, "0", help="History to keep; 0: compact only when a client asks.", group="History"
    )

    log_level: str = option(
        choice("debug", "info", "warn", "error", "panic", "fatal"),
        "info",
        help="Least severe message to write.",
        group="Telemetry",
    )
    log_format: str = option(choice("json", "console"), "json", help="Form of log lines.", group="Telemetry")
    log_outputs: tuple[str, ...] = option(
        STRINGS, ("default",), help="stderr, stdout or file names.", group="Telemetry"
    )
    metrics: str = option(
        choice("basic", "extensive"), "basic", help="extensive: latency histograms per method too.", group="Telemetry"
    )
    otlp_endpoint: str = option(
        OTLP_ENDPOINT,
        "",
        help="OpenTelemetry collector, host:port (OTLP over gRPC).",
        group="Telemetry",
        env="OTEL_EXPORTER_OTLP_ENDPOINT",
    )
    enable_distributed_tracing: bool = option(
        BOOLEAN, False, help="Export traces to --distributed-tracing-address.", group="Telemetry"
    )
    distributed_tracing_address: str = option(
        OTLP_ENDPOINT, "localhost:4317", help="As --otlp-endpoint.", group="Telemetry"
    )
    distributed_tracing_service_name: str = option(
        STRING, "wharf-brain", help="Service name in traces.", group="Telemetry"
    )
    distributed_tracing_instance_id: str = option(
        STRING, "", help="Service instance in traces; the node's name if not given.", group="Telemetry"
    )
    distributed_tracing_sampling_rate: int = option(
        integer(0, 1_000_000),
        0,
        help="Traces begun here per million requests; sampled callers are always followed.",
        group="Telemetry",
    )

    def __post_init__(self) -> None:
        check_rules(self)

    @property
    def replicated(self) -> bool:
        """Whether this node is one of several over one engine."""
        return self.engine.startswith(("postgresql:", "postgres:"))

    @property
    def listeners(self) -> tuple[Url, ...]:
        return (*self.listen_client_urls, *self.listen_metrics_urls)

    @property
    def client_urls(self) -> tuple[str, ...]:
        """What clients are told."""
        return tuple(url.text for url in self.advertise_client_urls or self.listen_client_urls)

    @property
    def peer_urls(self) -> tuple[str, ...]:
        """What other nodes are told."""
        return tuple(url.text for url in self.advertised_peer_urls)

    @property
    def advertised_peer_urls(self) -> tuple[Url, ...]:
        return self.initial_advertise_peer_urls or self.listen_peer_urls

    @property
    def directory(self) -> Path:
        return self.data_dir if self.data_dir is not None else Path(f"{self.name}.wharf")

    @property
    def engine_url(self) -> str:
        return self.engine or f"lmdb://{self.directory.absolute()}"

    @property
    def progress_interval(self) -> float:
        """Seconds between progress notifications."""
        return max(self.watch_progress_notify_interval, MIN_PROGRESS_INTERVAL)

    @property
    def receive_max(self) -> int:
        """Largest gRPC message taken from a client."""
        return self.max_request_bytes + REQUEST_OVERHEAD

    @property
    def retention(self) -> Retention:
        return parse_retention(self.auto_compaction_mode, self.auto_compaction_retention)

    @property
    def trace_endpoint(self) -> str:
        """Where traces go; empty: nowhere."""
        return self.otlp_endpoint or (self.distributed_tracing_address if self.enable_distributed_tracing else "")


SCHEMA: Final = Schema(
    shape=BrainConfig,
    program="wharf brain",
    service="brain",
    summary="brain serves etcd's v3 API from one embedded store. Flags are etcd's where the meaning is.",
    ignored=[
        *(Ignored(name, WITHOUT_MEANING) for name in IGNORED_VALUES),
        *(Ignored(name, WITHOUT_MEANING, switch=True) for name in IGNORED_SWITCHES),
    ],
    epilog="Besides the server: `wharf brain snapshot save FILE`, `restore FILE`, `check PATH`, `import`, `export` and "
    "`step-down`, each with --help; `wharf brain help` says what they do.",
    sections={"client-transport-security": "", "peer-transport-security": "peer-"},
)

_EXPERIMENTAL: Final = "experimental-"


def load_config(argv: Sequence[str], environment: Mapping[str, str]) -> Loaded[BrainConfig]:
    """The configuration; ConfigError or HelpRequested. etcd's older `--experimental-x` means `--x`."""
    known = {*SCHEMA.options(), *(item.flag for item in SCHEMA.ignored)}
    return load(SCHEMA, [_modern(word, known) for word in argv], environment)


def _modern(word: str, known: set[str]) -> str:
    name, equals, value = word.lstrip("-").partition("=")
    stable = name.removeprefix(_EXPERIMENTAL)
    if word.startswith("-") and stable != name and stable in known:
        return f"--{stable}{equals}{value}"
    return word


def join_warnings(warnings: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(flags accepted without a meaning, other warnings), so that the first make one line in the log."""
    ignored = tuple(line.split(" ", 1)[0] for line in warnings if line.endswith(WITHOUT_MEANING))
    return ignored, tuple(line for line in warnings if not line.endswith(WITHOUT_MEANING))
