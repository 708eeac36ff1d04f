"""The gateway's configuration: one frozen object out of flags, environment and a file.

What is about one cluster is in its UpstreamCluster; here is only what a process needs to know before it can read those.

Invariant: a `GatewayConfig` is consistent; whoever holds one need not check it again.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final

from wharf.common.config import Loaded, Schema, load, option
from wharf.common.parsers import (
    DURATION,
    FILE,
    PATH,
    STRING,
    STRINGS,
    Url,
    check_listen_url,
    choice,
    integer,
    is_loopback,
    number,
    urls,
)
from wharf.common.service_urls import NATS_URL, OTLP_ENDPOINT, REDIS_URL

_LISTEN = urls("http", "https")
_NETWORKS = "trusted-proxies"

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Everything `wharf gateway` can be told."""

    name: str = option(STRING, "", help="Name of this instance; the host's name if not given.", group="Gateway")
    listen: tuple[Url, ...] = option(
        _LISTEN,
        _LISTEN.parse("https://0.0.0.0:6443"),
        help="Where clients are served. Plain http is for loopback only.",
        group="Gateway",
    )
    health_listen: tuple[Url, ...] = option(
        _LISTEN,
        _LISTEN.parse("http://127.0.0.1:6442"),
        help="Where /healthz, /livez, /readyz and /metrics are.",
        group="Gateway",
    )
    config_dir: Path | None = option(
        PATH, None, help="Directory of UpstreamCluster documents, watched for changes.", group="Gateway"
    )
    home_kubeconfig: Path | None = option(
        PATH,
        None,
        help="Kubeconfig of the cluster that holds the UpstreamClusters; `in-cluster` inside a pod.",
        group="Gateway",
    )
    workers: int = option(
        integer(1, 256), 1, help="Processes that share the listening ports; one per core is enough.", group="Gateway"
    )
    zone: str = option(
        STRING,
        "",
        help="Zone of this instance: its servers come first, unless a policy prefers another.",
        group="Gateway",
    )

    redis: str = option(
        REDIS_URL,
        "",
        help="Where instances share limits of scope Global: redis[s]://USER:PASSWORD@HOST:PORT/DB?ssl_ca_certs=FILE. "
        "Without it they are shared by the workers of this instance only.",
        group="Together",
    )
    nats: str = option(
        NATS_URL, "", help="Where this instance tells how it is: nats://, tls://HOST:PORT,HOST:PORT.", group="Together"
    )
    nats_ca_file: Path | None = option(FILE, None, help="CA of the NATS servers' certificates, PEM.", group="Together")
    nats_cert_file: Path | None = option(FILE, None, help="Client certificate for NATS, PEM.", group="Together")
    nats_key_file: Path | None = option(FILE, None, help="Its key, PEM.", group="Together")
    nats_credentials_file: Path | None = option(FILE, None, help="NATS credentials (.creds).", group="Together")

    tls_cert_file: Path | None = option(
        FILE,
        None,
        help="Certificate for clusters that bring none, PEM. Without it one is made at each start.",
        group="TLS",
    )
    tls_private_key_file: Path | None = option(FILE, None, help="Its key, PEM.", group="TLS")
    tls_min_version: str = option(choice("TLS1.2", "TLS1.3"), "TLS1.2", help="Oldest TLS version.", group="TLS")
    trusted_proxies: tuple[str, ...] = option(
        STRINGS, (), help="Networks whose X-Forwarded-For is believed (CIDR).", group="TLS", flag=_NETWORKS
    )

    connections_max: int = option(integer(1), 50_000, help="Client connections per process.", group="Limits")
    streams_max: int = option(
        integer(1, 2**31 - 1),
        1000,
        help="Concurrent requests, watches among them, on one HTTP/2 connection.",
        group="Limits",
    )

    drain_delay: float = option(
        DURATION, 5.0, help="After SIGTERM: not ready, but still serving, so that balancers notice.", group="Stopping"
    )
    drain_watches: float = option(
        DURATION, 30.0, help="Watches are ended one after the other over this time.", group="Stopping"
    )
    drain_timeout: float = option(
        DURATION, 60.0, help="Then the rest, exec sessions too, has this long.", group="Stopping"
    )

    log_level: str = option(
        choice("debug", "info", "warn", "error"), "info", help="Least severe message to write.", group="Telemetry"
    )
    log_format: str = option(choice("json", "console"), "json", help="Form of log lines.", group="Telemetry")
    access_log: Path | None = option(
        PATH, None, help="File for the access log (one JSON line per request); stdout if not given.", group="Telemetry"
    )
    otlp_endpoint: str = option(
        OTLP_ENDPOINT,
        "",
        help="OpenTelemetry collector, host:port (OTLP over gRPC).",
        group="Telemetry",
        env="OTEL_EXPORTER_OTLP_ENDPOINT",
    )
    trace_ratio: float = option(
        number(0.0, 1.0), 0.0, help="Share of traces begun here, where a cluster says nothing.", group="Telemetry"
    )

    def __post_init__(self) -> None:
        if (self.config_dir is None) == (self.home_kubeconfig is None):
            raise ValueError("give one of --config-dir and --home-kubeconfig: where the UpstreamClusters are")
        if (self.tls_cert_file is None) != (self.tls_private_key_file is None):
            raise ValueError("--tls-cert-file and --tls-private-key-file must be given together")
        if (self.nats_cert_file is None) != (self.nats_key_file is None):
            raise ValueError("--nats-cert-file and --nats-key-file must be given together")
        for flag, found in (("listen", self.listen), ("health-listen", self.health_listen)):
            for url in found:
                check_listen_url(flag, url)
        for url in self.listen:
            if url.scheme == "http" and not is_loopback(url):
                raise ValueError(f"--listen: {url} would take credentials in the clear from other machines: use https")
        if any(url.scheme != "http" for url in self.health_listen):
            raise ValueError("--health-listen takes http only: it tells nothing secret")
        for text in self.trusted_proxies:
            try:
                ip_network(text)
            except ValueError as wrong:
                raise ValueError(f"--{_NETWORKS}: {wrong}") from None

    @property
    def instance(self) -> str:
        """What others call this instance."""
        return self.name or socket.gethostname()

    @property
    def proxies(self) -> tuple[Network, ...]:
        return tuple(ip_network(text) for text in self.trusted_proxies)


SCHEMA: Final = Schema(
    shape=GatewayConfig,
    program="wharf gateway",
    service="gateway",
    summary="The layer-7 gateway in front of many kube-apiservers. What is behind it is told by UpstreamClusters, one "
    "per cluster, from --config-dir or --home-kubeconfig; their changes count at once. To begin: write one document "
    "(docs/gateway.md has one to copy), `wharf gateway check FILE`, then `wharf gateway --config-dir DIR`; `curl "
    "127.0.0.1:6442/readyz` says whether it serves.",
    epilog="Besides the server: `wharf gateway convert FILE…` turns KubeGateway's documents into UpstreamClusters, "
    "`wharf gateway check FILE…` says what is wrong with a document, `wharf gateway crd` prints the CRD.",
)


def load_config(argv: Sequence[str], environment: Mapping[str, str]) -> Loaded[GatewayConfig]:
    """The configuration; ConfigError or HelpRequested."""
    return load(SCHEMA, argv, environment)
