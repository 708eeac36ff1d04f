"""Upstreams that cost next to nothing: nginx with two static answers, for requests; the Go stub, for watches.

Both listen with TLS 1.3 and the one cipher everybody uses here, and take a hundred streams on a connection, as
kube-apiserver does. They share the load generator's core, never the subject's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wharf.cli.kube.build import cache_root
from wharf.cli.kube.controlplane import free_port
from wharf.cli.kube.toolchain import environment, find_go

from benchmarks.gateway.subjects import HOST, LOAD_CORE, LOOPBACK, Pki, launched, pinned

COLLECTION = "/api/v1/namespaces/default/configmaps"
SMALL, LARGE = f"{COLLECTION}/small", f"{COLLECTION}/large"  # 1 kB and 1 MB
SIZES = {SMALL: 1024, LARGE: 1024 * 1024}
# What the gateway asks a server before it trusts it to believe its headers: whom it takes the gateway for.
REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEW = {
    "apiVersion": "authentication.k8s.io/v1",
    "kind": "SelfSubjectReview",
    "status": {"userInfo": {"username": "wharf-gateway"}},
}
CIPHER = "TLS_AES_128_GCM_SHA256"
_SOURCE = Path(__file__).parent / "stub"


class StubError(RuntimeError):
    """The stub refused a command, or a watch broke."""


@contextmanager
def static(pki: Pki) -> Iterator[int]:
    """The port of nginx with the two answers (and a health check's)."""
    folder = Path(tempfile.mkdtemp(prefix="bench-upstream-"))
    folder.chmod(0o755)  # nginx' worker is not root
    try:
        for path, size in {**SIZES, "/readyz": 2}.items():
            file = folder / "www" / path.removeprefix("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_body(size))
        port = free_port()
        config = folder / "nginx.conf"
        config.write_text(f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off; default_type application/json; keepalive_requests 1000000000; keepalive_timeout 1h;
  open_file_cache max=16 inactive=1h; open_file_cache_valid 1h;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen {LOOPBACK}:{port} ssl http2 backlog=4096; http2_max_concurrent_streams 100; root {folder}/www;
    ssl_certificate {pki.upstream.cert}; ssl_certificate_key {pki.upstream.key}; ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites {CIPHER};
    location = {REVIEWS} {{ return 201 '{json.dumps(REVIEW)}'; }}
  }}
}}
""")
        with launched("upstream", ["nginx", "-c", config], folder, port, LOAD_CORE):
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _body(size: int) -> str:
    """A ConfigMap of exactly so many bytes, where it fits."""
    empty = '{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"one","namespace":"default"},"data":{"x":""}}'
    if size < len(empty):
        return "ok"
    return empty.replace('""}', f'"{"x" * (size - len(empty))}"}}')


class Stub:
    """The running Go program: upstream of watches and their clients."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.port = int(self._answer()["address"].rpartition(":")[2])

    def open(self, endpoint: str, connections: int, streams: int) -> float:
        """Open watches there; seconds until all had their head."""
        return float(self._ask(f"open {endpoint} {connections} {streams}")["seconds"])

    def emit(self, per_second: float, seconds: float) -> dict[str, float]:
        """Events to all watches at a steady rate; how many, how late, how many never came."""
        return self._ask(f"emit {per_second:g} {seconds:g}")

    def close(self) -> int:
        """End all watches; how many the upstream still has after a minute."""
        return int(self._ask("close")["left"])

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._child.stdin is not None
        print(line, file=self._child.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise StubError(f"the stub ended with {self._child.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise StubError(str(answer["error"]))
        return answer


@contextmanager
def stub(pki: Pki) -> Iterator[Stub]:
    """The stub, built if need be; ended at the end of the block."""
    program = cache_root() / "bin" / "watch-stub"
    program.parent.mkdir(parents=True, exist_ok=True)
    words = [str(find_go(print)), "build", "-trimpath", "-o", str(program), "."]
    subprocess.run(words, cwd=_SOURCE, env=environment(os.environ), check=True)
    flags = [
        f"-cert={pki.upstream.cert}",
        f"-key={pki.upstream.key}",
        f"-ca={pki.ca}",
        f"-server-name={HOST}",
        f"-review={json.dumps(REVIEW)}",
    ]
    command = pinned(LOAD_CORE, [program, *flags])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield Stub(child)
        finally:
            child.kill()
