"""A real gateway process in front of a server that lives in a thread of the test's own process.

with Upstream(folder) as upstream, Instance(folder, upstream, ["--workers=2"]) as gateway: gateway.get()...
"""

from __future__ import annotations

import asyncio
import http.client
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gateway.serve.kit import Pki, Server, answer
from harness.daemon import LOOPBACK
from harness.gateway import Gateway
from wharf.wire.web import Exchange

PATIENCE = 30.0  # seconds, of a busy machine
CLUSTER = "prod"
_POLL = 0.01


def eventually(what: Callable[[], object], why: str, patience: float = PATIENCE) -> None:
    """Wait for what another process does and no event tells of."""
    until = time.monotonic() + patience
    while not what():
        assert time.monotonic() < until, why
        time.sleep(_POLL)


def behave(exchange: Exchange) -> None:
    """A watch begins and says nothing; everything else is answered."""
    if b"watch=true" in exchange.target:
        exchange.respond(200, [])
    else:
        answer(exchange)


class Upstream:
    """Certificates for everybody, and a kube-apiserver's place, on a loop of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.pki = Pki(folder)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self.server: Server

    def call(self, work: Callable[[], Any]) -> Any:
        """Run `work` on the server's loop; its result, awaited when it can be."""

        async def main() -> Any:
            result = work()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(main(), self.loop).result(PATIENCE)

    def __enter__(self) -> Self:
        self._thread.start()
        self.server = self.call(lambda: Server(self.pki))
        self.server.behave = behave
        self.call(self.server.start)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.call(self.server.stop)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def document(self, **spec: Any) -> dict[str, Any]:
        """An UpstreamCluster of this server; `spec` replaces what it says."""
        pki = self.pki
        usual = {
            "hostnames": ["localhost"],
            "servers": [{"url": self.server.url}],
            "serving": {
                "certificate": {"file": pki.server.cert},
                "key": {"file": pki.server.key},
                "clientCA": {"file": pki.authority.ca_file},
            },
            "upstream": {
                "ca": {"file": pki.authority.ca_file},
                "certificate": {"file": pki.front_proxy.cert},
                "key": {"file": pki.front_proxy.key},
            },
            "logging": {"access": True},
            "health": {"interval": 0.5, "timeout": 2, "failures": 1, "successes": 1, "slowStart": 0},
        }
        return {
            "apiVersion": "proxy.wharf.dev/v1alpha1",
            "kind": "UpstreamCluster",
            "metadata": {"name": CLUSTER},
            "spec": usual | spec,
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP/1.1."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Instance(Gateway):
    """`python -m wharf.gateway` with one cluster, served at 127.0.0.1."""

    def __init__(
        self,
        folder: Path,
        upstream: Upstream,
        flags: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> None:
        super().__init__(folder, {CLUSTER: LOOPBACK}, flags)
        self.upstream, self.variables = upstream, dict(variables or {})
        self.put(upstream.document(**spec))

    def command(self) -> Sequence[str | Path]:
        return [sys.executable, "-m", "wharf.gateway", *super().command()[2:]]

    def environment(self) -> Mapping[str, str]:
        return self.variables

    def client(self, context: ssl.SSLContext | None = None) -> http.client.HTTPSConnection:
        """HTTP/1.1 with alice's certificate, or as `context` says; one connection, kept alive."""
        pki = self.upstream.pki
        if context is None:
            context = ssl.create_default_context(cafile=pki.authority.ca_file)
            context.load_cert_chain(pki.alice.cert, pki.alice.key)
        return http.client.HTTPSConnection("localhost", self.port, context=context, timeout=PATIENCE)

    def get(self, target: str = "/api/v1/pods", headers: Mapping[str, str] | None = None) -> Reply:
        """On a connection of its own."""
        with closing(self.client()) as client:
            return ask(client, target, headers)

    def rss(self) -> int:
        """Resident bytes of the process itself."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def said(self) -> str:
        """All it has logged."""
        return self.process.output()


def ask(
    client: http.client.HTTPSConnection, target: str = "/api/v1/pods", headers: Mapping[str, str] | None = None
) -> Reply:
    """One request on a connection that is kept."""
    client.request("GET", target, headers=headers or {})
    answer = client.getresponse()
    return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
