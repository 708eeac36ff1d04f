"""One serving process: listeners, clusters, the configuration's source, and its end in good order.

Start: the source is read and every server probed once before the process says that it is ready. It listens from the
beginning; until it has read the source it answers 503.
Stop: not ready, but serving (`--drain-delay`); connections are told to go elsewhere; watches end one after the other
(`--drain-watches`), so that their clients come back to others spread over that time; what is left has
`--drain-timeout`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

from wharf.common.clock import CLOCK
from wharf.common.log import get_log
from wharf.common.metrics import Family
from wharf.common.metrics import Registry as MetricsRegistry
from wharf.common.trace import Span, Tracer
from wharf.gateway import answers
from wharf.gateway.cluster.registry import Registry
from wharf.gateway.config import GatewayConfig
from wharf.gateway.life.certificate import ListenerCertificate
from wharf.gateway.life.families import process_families
from wharf.gateway.life.keep import keep
from wharf.gateway.life.sights import encode_sights
from wharf.gateway.limits.sharer import Sharer, keeper_of
from wharf.gateway.limits.shares import Shares
from wharf.gateway.seen.access_log import AccessLog
from wharf.gateway.seen.metrics import RequestMetrics
from wharf.gateway.seen.sight import see
from wharf.gateway.serve.handler import Handler
from wharf.gateway.sources.open import open_source
from wharf.wire.limits import ListenerLimits
from wharf.wire.server_tls import DynamicTls, TlsPolicy
from wharf.wire.web_server import WEB_LIMITS, WebListener, WebServer
from wharf.wire.web_shell import ROUND_TRIP

CERTIFICATE_LOOK: Final = 2.0  # seconds between looks at the listener's files

_log = get_log("gateway")


class Local:
    """`life.pages.Instance`, in this process."""

    def __init__(
        self,
        config: GatewayConfig,
        metrics: MetricsRegistry,
        access_log: AccessLog,
        *,
        sink: Callable[[Span], None] | None = None,
        shares_path: str = "",
        replicas: int = 1,
        reuse_port: bool = False,
        secret: bytes | None = None,
    ) -> None:
        """`shares_path`: the Unix socket where the parent shares limits; `replicas`: processes of this instance;
        `secret`: what they have in common for digests of tokens.
        """
        self._config = config
        self._down = AsyncExitStack()
        self._certificate = ListenerCertificate(config.tls_cert_file, config.tls_private_key_file, _hosts(config))
        policy = TlsPolicy(min_version=config.tls_min_version.removeprefix("TLS"))
        tls = DynamicTls(self._certificate.identity, policy)
        tracer = Tracer(config.trace_ratio, sink) if sink is not None else None
        self.access_log = access_log
        self.handler = Handler(RequestMetrics(metrics), access_log, tracer, config.proxies)
        self._shares = Shares(replicas)
        self._keeper = keeper_of(config.redis, shares_path)
        self.registry = Registry(
            tls,
            lambda: self._certificate.identity,
            self._changed,
            self._shares if self._keeper else None,
            sink,
            config.zone,
            f"no UpstreamCluster in {config.config_dir}" if config.config_dir is not None else "",
            secret,
        )
        self.registry.on_gone = self.handler.abort_all
        self.server = WebServer(
            self.handler,
            [_listener(url.scheme, url.host, url.port or 0, config, reuse_port) for url in config.listen],
            tls=tls,
            limits=replace(WEB_LIMITS, concurrent_streams=config.streams_max),
            refusal=answers.unread,
        )
        self._source = open_source(config, self.registry.apply, self._down)
        self._draining = False
        self._hurried = asyncio.Event()

    # --- life.pages.Instance
    @property
    def addresses(self) -> tuple[str, ...]:
        pairs = zip(self._config.listen, self.server.ports, strict=False)
        return tuple(f"{replace(url, port=port).authority}" for url, port in pairs)

    async def begin(self) -> None:
        """Serve. OSError when a port cannot be had."""
        self._down.push_async_callback(self.handler.close)
        self._down.push_async_callback(self.registry.close)
        await self.server.start()
        self._down.push_async_callback(self.server.close)
        if self._keeper is not None:
            sharer = Sharer(self._shares, self._keeper, self._config.instance)
            self._down.push_async_callback(sharer.close)
            keep(sharer.run(), self._down)
        keep(self._source.run(), self._down)
        keep(self._look_at_certificate(), self._down)

    def unready(self) -> str:
        return "stopping" if self._draining else self.registry.unready()

    def statuses(self) -> list[bytes]:
        return [encode_sights(see(self._config.instance, self.registry, self._now(), CLOCK.wall_ns() / 1e9))]

    def families(self) -> Iterable[Family]:
        return process_families(self.registry, self.server, self.access_log, len(self.handler.active))

    async def drain(self) -> None:
        self._draining = True
        config = self._config
        if self.handler.active or self.server.connections:
            await self._pause(config.drain_delay)
        self.server.start_drain()
        await self._pause(ROUND_TRIP)
        self.server.stop_accepting()
        self.server.finish_drain()
        await self._end_watches(config.drain_watches)
        if not await self._closed(config.drain_timeout):
            _log.warn("requests that do not end are cut", requests=len(self.handler.active))
            self.handler.abort_all()

    def hurry(self) -> None:
        self._hurried.set()

    async def close(self) -> None:
        await self._down.aclose()

    # --- inside
    def _changed(self, registry: Registry) -> None:
        self.handler.names = registry.names
        self.handler.by_identity = registry.runtimes
        self.handler.starting = False
        for connection in list(self.server.connections):
            if connection.identity in registry.certificates_changed and connection.peer.certificate is not None:
                # It was verified against a CA that may not count any more: its client is to come again.
                connection.send_away()

    async def _end_watches(self, seconds: float) -> None:
        """All watches, spread evenly; those of one moment in random order, so that no client is hit at once."""
        waiting = self.handler.watches()
        random.shuffle(waiting)
        if not waiting:
            return
        pause = seconds / len(waiting)
        _log.info("ending watches", watches=len(waiting), seconds=seconds)
        owed = 0.0
        for flight in waiting:
            self.handler.end_watch(flight)
            owed += pause
            if owed >= 0.01:
                await self._pause(owed)
                owed = 0.0
        for flight in self.handler.watches():  # began meanwhile
            self.handler.end_watch(flight)

    async def _pause(self, seconds: float) -> None:
        """Nothing, once somebody is in a hurry."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()

    async def _closed(self, seconds: float) -> bool:
        """Whether all connections have ended before the time, or the patience, is over."""
        closed, hurried = asyncio.create_task(self.server.closed(seconds)), asyncio.create_task(self._hurried.wait())
        await asyncio.wait((closed, hurried), return_when=asyncio.FIRST_COMPLETED)
        for task in (closed, hurried):
            task.cancel()
        await asyncio.gather(closed, hurried, return_exceptions=True)
        return not self.server.connections

    async def _look_at_certificate(self) -> None:
        while True:
            await asyncio.sleep(CERTIFICATE_LOOK)
            if self._certificate.look():
                self.registry.meet()

    @property
    def _now(self) -> Callable[[], float]:
        return self.handler.now


def _hosts(config: GatewayConfig) -> tuple[str, ...]:
    """Names for a certificate that is made at the start."""
    own = {config.instance, "localhost", "127.0.0.1", "::1"}
    named = {url.host for url in config.listen if url.host not in ("0.0.0.0", "::")}  # noqa: S104
    return tuple(sorted(own | named))


def _listener(scheme: str, host: str, port: int, config: GatewayConfig, reuse_port: bool) -> WebListener:
    limits = ListenerLimits(connections_max=config.connections_max)
    return WebListener(host, port, scheme == "https", reuse_port, limits)
