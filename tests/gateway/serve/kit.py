"""A whole gateway in this process, with servers that do as a test says, all over real sockets and TLS."""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvloop
import yaml
from wharf.common.metrics import Registry as MetricsRegistry
from wharf.common.parsers import urls
from wharf.common.trace import Span
from wharf.gateway.config import GatewayConfig
from wharf.gateway.life.local import Local
from wharf.gateway.seen.access_log import AccessLog
from wharf.wire.client import HttpPool, Response, fetch
from wharf.wire.client_shell import Target, client_context
from wharf.wire.server_tls import DynamicTls, Identity
from wharf.wire.tls import ClientAuth
from wharf.wire.web import Exchange, Header, Headers, Request
from wharf.wire.web_server import WEB_LIMITS, WebListener, WebServer
from wire.pki import Authority

Behaviour = Callable[[Exchange], None]
PATIENCE = 10.0
STREAMS_MAX = 100  # on one connection to a server; kube-apiserver's default


def run(main: Coroutine[Any, Any, None]) -> None:
    """One test on the loop that the gateway runs on."""
    uvloop.run(_patiently(main))


async def _patiently(main: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(60):
        await main


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for something that no event tells of."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, what or "it does not happen"
        await asyncio.sleep(0.005)


def answer(exchange: Exchange, body: bytes = b"{}", status: int = 200, headers: Headers = ()) -> None:
    """A whole response."""
    exchange.respond(status, [(b"content-length", b"%d" % len(body)), *headers])
    exchange.send(body)
    exchange.finish()


class Pki:
    """An authority for everybody: servers, the gateway towards them, and clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.other = Authority(folder, "other-ca")
        self.server = self.authority.issue("server", "localhost", "prod", "other")
        self.front_proxy = self.authority.issue("front-proxy-client")
        self.alice = self.authority.issue("alice", organizations=("dev", "ops"))
        self.bob = self.authority.issue("bob")
        self.mallory = self.other.issue("mallory", organizations=("system:masters",))

    @property
    def ca(self) -> bytes:
        return Path(self.authority.ca_file).read_bytes()


@dataclass
class Seen:
    """A request as a server got it."""

    exchange: Exchange
    method: bytes
    target: bytes
    headers: list[Header]
    body: bytearray = field(default_factory=bytearray)

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


class Server:
    """A kube-apiserver's place: it answers /readyz, and everything else as `behave` says."""

    def __init__(self, pki: Pki) -> None:
        self.requests: list[Seen] = []
        self.behave: Behaviour = answer
        self.ready = True
        self.trusts = True  # the gateway as a front proxy
        self.eager = False  # behaves at the head, before the body is here
        self.probes = 0
        identity = Identity(
            "server",
            Path(pki.server.cert).read_bytes(),
            Path(pki.server.key).read_bytes(),
            client_ca_pem=pki.ca,
            client_auth=ClientAuth.OPTIONAL,
        )
        self._tls = DynamicTls(identity)
        self._port = 0
        self.web = self._make()

    def _make(self) -> WebServer:
        # kube-apiserver does not count resets; the gateway passes on those of all its clients
        limits = replace(WEB_LIMITS, resets_burst=1_000_000, concurrent_streams=STREAMS_MAX)
        return WebServer(self._handle, [WebListener(port=self._port)], tls=self._tls, limits=limits)

    async def start(self) -> None:
        self.web = self._make()
        await self.web.start()
        self._port = self.web.ports[0]

    async def stop(self) -> None:
        await self.web.close()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"https://localhost:{self._port}"

    @property
    def name(self) -> str:
        return f"localhost:{self._port}"

    def _handle(self, exchange: Exchange) -> None:
        if exchange.target == b"/readyz":
            self.probes += 1
            answer(exchange, b"ok", 200 if self.ready else 500)
            return
        if exchange.target.endswith(b"/selfsubjectreviews"):
            name = (exchange.header(b"x-remote-user") or b"").decode() if self.trusts else "front-proxy-client"
            answer(exchange, json.dumps({"status": {"userInfo": {"username": name}}}).encode(), 201)
            return
        seen = Seen(exchange, exchange.method, exchange.target, list(exchange.headers))
        self.requests.append(seen)
        if exchange.body_expected:

            def more(data: bytes) -> None:
                seen.body += data
                exchange.take(len(data))

            exchange.on_end = lambda _: None if self.eager else self.behave(exchange)
            exchange.on_data = more
        if self.eager or not exchange.body_expected:
            self.behave(exchange)


class Stack:
    """Servers, the gateway before them, and ways to talk to it."""

    def __init__(self, folder: Path, servers: int) -> None:
        self.pki = Pki(folder)
        self.clusters = folder / "clusters"
        self.clusters.mkdir()
        self.servers = [Server(self.pki) for _ in range(servers)]
        self.log = io.StringIO()
        self.spans: list[Span] = []
        self.metrics = MetricsRegistry()
        self.down = AsyncExitStack()
        self.gateway: Local

    def document(self, name: str = "prod", **spec: Any) -> dict[str, Any]:
        """An UpstreamCluster of these servers; `spec` replaces what it says."""
        pki = self.pki
        return {
            "apiVersion": "proxy.wharf.dev/v1alpha1",
            "kind": "UpstreamCluster",
            "metadata": {"name": name},
            "spec": {
                "hostnames": ["localhost"],
                "servers": [{"url": server.url} for server in self.servers],
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
            }
            | spec,
        }

    def write(self, document: dict[str, Any]) -> None:
        name = document["metadata"]["name"]
        path = self.clusters / f"{name}.yaml"
        fresh = path.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(document))
        fresh.rename(path)

    async def apply(self, document: dict[str, Any]) -> None:
        """Write a version and wait until it is in force."""
        self.write(document)
        name = document["metadata"]["name"]
        before = self.gateway.registry.objects
        await until(lambda: self.gateway.registry.objects is not before, f"{name} is read")
        assert not self.gateway.registry.objects.refused, self.gateway.registry.objects.refused
        await until(lambda: not self.gateway.unready(), "servers are probed")

    async def begin(self, **flags: Any) -> None:
        config = GatewayConfig(
            listen=urls("https").parse("https://127.0.0.1:0"),
            config_dir=self.clusters,
            **{"drain_delay": 0.0, "drain_watches": 0.2, "drain_timeout": 2.0} | flags,
        )
        self.gateway = Local(config, self.metrics, AccessLog(self.log.write, lambda: 0.0), sink=self.spans.append)
        self.down.push_async_callback(self.gateway.close)
        await self.gateway.begin()
        await until(lambda: not self.gateway.unready(), "the gateway is ready")

    @property
    def port(self) -> int:
        return self.gateway.server.ports[0]

    def client(self, who: Any = None, protocol: str = "h2", server_name: str = "localhost") -> HttpPool:
        """A client's connections; `who`: Files of its certificate."""
        cert, key = (Path(who.cert).read_bytes(), Path(who.key).read_bytes()) if who is not None else (b"", b"")
        context = client_context(self.pki.ca, cert, key, protocol=protocol)  # type: ignore[arg-type]
        pool = HttpPool(Target("127.0.0.1", self.port, context, server_name, protocol))  # type: ignore[arg-type]
        self.down.push_async_callback(pool.close)
        return pool

    async def ask(
        self,
        pool: HttpPool,
        target: bytes = b"/api/v1/namespaces/a/pods/b",
        method: bytes = b"GET",
        headers: Headers = (),
        body: bytes = b"",
        host: bytes = b"localhost",
    ) -> Response:
        return await fetch(pool, method, target, headers, body, authority=host, timeout=PATIENCE)

    async def open(
        self, pool: HttpPool, target: bytes, headers: Headers = (), method: bytes = b"GET", end: bool = True
    ) -> Opened:
        """A request whose answer is looked at piece by piece."""
        link = pool.ready() or await pool.connect(asyncio.get_running_loop().time() + PATIENCE)
        return Opened(link.request(method, target, b"localhost", headers, end=end))


class Opened:
    """A request under way."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.status = 0
        self.headers: list[Header] = []
        self.body = bytearray()
        self.ended = False
        self.failure: Any = None
        self.taking = True
        request.on_head = self._head
        request.on_data = self._data
        request.on_end = self._end
        request.on_failure = self._fail

    def _head(self, status: int, headers: list[Header]) -> None:
        self.status, self.headers = status, headers

    def _data(self, data: bytes) -> None:
        self.body += data
        if self.taking:
            self.request.take(len(data))

    def _end(self, trailers: Headers) -> None:
        self.ended = True

    def _fail(self, failure: Any) -> None:
        self.failure = failure

    @property
    def over(self) -> bool:
        return self.ended or self.failure is not None


@asynccontextmanager
async def stack(servers: int = 1, flags: dict[str, Any] | None = None, **spec: Any) -> AsyncIterator[Stack]:
    """A stack with one cluster, `prod`."""
    with tempfile.TemporaryDirectory() as folder:
        made = Stack(Path(folder), servers)
        try:
            for server in made.servers:
                await server.start()
                made.down.push_async_callback(server.stop)
            made.write(made.document(**spec))
            await made.begin(**(flags or {}))
            yield made
        finally:
            await made.down.aclose()
