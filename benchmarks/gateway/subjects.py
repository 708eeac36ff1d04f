"""What is compared: a reverse proxy of each kind on one core, TLS on both sides, in front of the same upstream.

Owns their configuration. Invariants: all verify the upstream's certificate, keep their connections to it, pass bodies
on as they come and log nothing per request; all speak TLS 1.3 with the cipher that clients and upstream insist on, so
that a difference is the proxy's. nginx cannot speak HTTP/2 to an upstream; the others do.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from wharf.cli.kube.controlplane import free_port
from wharf.cli.kube.pki import Authority, KeyPair
from wharf.cli.kube.process import Process

from benchmarks.gateway import envoy
from benchmarks.servers import Server

LOOPBACK = "127.0.0.1"
HOST = "bench.test"  # what clients ask for
UPSTREAM_HOST = "upstream.test"  # what the upstream's certificate says
SUBJECT_CORE, LOAD_CORE = "0", "1"
PEERS = ("nginx", "haproxy", "envoy")
OURS = "wharf"
_READY_SECONDS = 60.0
_READY_LINE = "ready to serve client requests"


class Pki:
    """One authority that everybody trusts; pairs for clients' side, upstream and the gateway's own identity."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        self.ca: Path = authority.cert
        self.front: KeyPair = authority.server("front", (HOST,))
        self.upstream: KeyPair = authority.server("upstream", (UPSTREAM_HOST, HOST))
        self.proxy: KeyPair = authority.client("proxy", "front-proxy-client")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a configuration is made of."""

    pki: Pki
    folder: Path  # its own
    port: int
    upstream: int


def pinned(core: str, words: Sequence[str | Path]) -> list[str]:
    """A command that stays on one core, its children too."""
    return ["taskset", "--cpu-list", core, *map(str, words)]


def together(pair: KeyPair, path: Path) -> Path:
    """Certificate and key in one file, as haproxy wants them."""
    path.touch(0o600)
    path.write_bytes(pair.cert.read_bytes() + pair.key.read_bytes())
    return path


def nginx(one: Setting) -> list[str | Path]:
    config = one.folder / "nginx.conf"
    config.write_text(f"""
daemon off; worker_processes 1; pid {one.folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  client_body_temp_path {one.folder}/body; proxy_temp_path {one.folder}/proxy;
  fastcgi_temp_path {one.folder}/f; uwsgi_temp_path {one.folder}/u; scgi_temp_path {one.folder}/s;
  upstream servers {{ server {LOOPBACK}:{one.upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen {LOOPBACK}:{one.port} ssl http2 backlog=4096; server_name {HOST};
    ssl_certificate {one.pki.front.cert}; ssl_certificate_key {one.pki.front.key}; ssl_protocols TLSv1.3;
    keepalive_requests 1000000000; http2_max_concurrent_streams 1000;
    location / {{
      proxy_pass https://servers; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
      proxy_read_timeout 1h; proxy_ssl_protocols TLSv1.3; proxy_ssl_server_name on; proxy_ssl_name {UPSTREAM_HOST};
      proxy_ssl_verify on; proxy_ssl_trusted_certificate {one.pki.ca};
    }}
  }}
}}
""")
    return ["nginx", "-c", config]


def haproxy(one: Setting) -> list[str | Path]:
    config = one.folder / "haproxy.cfg"
    front = f"ssl crt {together(one.pki.front, one.folder / 'front.pem')} alpn h2,http/1.1 ssl-min-ver TLSv1.3"
    back = f"ssl verify required ca-file {one.pki.ca} verifyhost {UPSTREAM_HOST} sni str({UPSTREAM_HOST}) alpn h2"
    config.write_text(f"""
global
  maxconn 9000
  nbthread 1
  tune.h2.max-concurrent-streams 1000
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  http-reuse always
frontend in
  bind {LOOPBACK}:{one.port} backlog 4096 {front}
  default_backend servers
backend servers
  server one {LOOPBACK}:{one.upstream} {back}
""")
    return ["haproxy", "-db", "-f", config]


def envoy_words(one: Setting) -> list[str | Path]:
    config = one.folder / "envoy.json"
    config.write_text(json.dumps(envoy.configuration(one), indent=1))
    words = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
    return [envoy.program(), "-c", config, *words]


def wharf(one: Setting) -> list[str | Path]:
    """One process, as its operator would start it; the cluster says what a cluster must, and nothing to be faster."""
    cluster = {
        "apiVersion": "proxy.wharf.dev/v1alpha1",
        "kind": "UpstreamCluster",
        "metadata": {"name": HOST},
        "spec": {
            "servers": [{"url": f"https://{LOOPBACK}:{one.upstream}"}],
            "serving": {"certificate": {"file": str(one.pki.front.cert)}, "key": {"file": str(one.pki.front.key)}},
            "upstream": {
                "ca": {"file": str(one.pki.ca)},
                "serverName": UPSTREAM_HOST,
                "certificate": {"file": str(one.pki.proxy.cert)},
                "key": {"file": str(one.pki.proxy.key)},
                "connectionsMax": 128,
            },
        },
    }
    documents = one.folder / "clusters"
    documents.mkdir()
    (documents / "bench.json").write_text(json.dumps(cluster))
    program = Path(sys.prefix) / "bin" / "wharf"
    listen = [f"--listen=https://{LOOPBACK}:{one.port}", f"--health-listen=http://{LOOPBACK}:{free_port()}"]
    return [program, "gateway", f"--config-dir={documents}", *listen]


COMMANDS: dict[str, Callable[[Setting], list[str | Path]]] = {
    "nginx": nginx,
    "haproxy": haproxy,
    "envoy": envoy_words,
    OURS: wharf,
}


def accepts(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


@contextmanager
def launched(name: str, words: Sequence[str | Path], folder: Path, port: int, core: str) -> Iterator[Server]:
    """A server on a core of its own, from when it listens to the end of the block."""
    process = Process(name, pinned(core, words), folder / f"{name}.log").start()
    try:
        if name == OURS:  # it listens before it knows its servers
            process.wait_logged(_READY_LINE, _READY_SECONDS)
        process.wait_ready(lambda: accepts(port), _READY_SECONDS)
        yield Server(name, f"{LOOPBACK}:{port}", process, folder)
    finally:
        process.stop()


@contextmanager
def running(name: str, pki: Pki, upstream: int) -> Iterator[Server]:
    """A proxy in front of the upstream at a port; its files are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
    try:
        one = Setting(pki, folder, free_port(), upstream)
        with launched(name, COMMANDS[name](one), folder, one.port, SUBJECT_CORE) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)
