"""The process that keeps `--workers N` running: it serves no client itself, it counts, tells and replaces.

Workers share the listening ports (SO_REUSEPORT); this process holds the ports bound, without listening, so that they
stay this instance's while a worker is replaced. It shares limits between the workers where there is no Redis.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Iterable
from dataclasses import replace

from wharf.common.backoff import Backoff
from wharf.common.clock import CLOCK, Clock
from wharf.common.log import get_log
from wharf.common.metrics import Family, Sample
from wharf.common.parsers import Url
from wharf.common.report import labelled
from wharf.gateway.cluster.tokens import SECRET_BYTES
from wharf.gateway.config import GatewayConfig
from wharf.gateway.life.child import Child, start
from wharf.gateway.life.stops import HURRY
from wharf.wire.server import ListenerConfig, bind

_log = get_log("gateway.workers")


class Supervisor:
    """Keeps the workers of one instance; `life.instance.Instance`."""

    def __init__(self, config: GatewayConfig, shares: str, clock: Clock = CLOCK) -> None:
        """OSError when a port cannot be had. `shares`: the Unix socket where limits are shared; "" for none."""
        self._sockets = [_reserve(url) for url in config.listen]
        urls = tuple(
            _with_port(url, sock.getsockname()[1]) for url, sock in zip(config.listen, self._sockets, strict=True)
        )
        self._config = replace(config, listen=urls)
        self._shares, self._clock = shares, clock
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._children: dict[int, Child] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False
        self.deaths = 0  # of workers, unasked

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(f"{url.host}:{url.port}" for url in self._config.listen)

    async def begin(self) -> None:
        """Start all workers; they become ready by themselves. OSError when one ends before it serves."""
        loop = asyncio.get_running_loop()
        began: list[asyncio.Future[None]] = [loop.create_future() for _ in range(self._config.workers)]
        self._tasks = [asyncio.create_task(self._keep(worker, first)) for worker, first in enumerate(began)]
        await asyncio.gather(*began)

    def unready(self) -> str:
        """Why clients should ask another instance; empty: they need not."""
        if self._over:
            return "stopping"
        waiting = [child for child in self._children.values() if not child.ready.is_set()]
        if waiting:
            return f"worker {waiting[0].worker}: {waiting[0].unready_reason}"
        missing = self._config.workers - len(self._children)
        return f"{missing} workers do not run" if missing else ""

    def statuses(self) -> list[bytes]:
        return [child.status for child in self._children.values() if child.status]

    def families(self) -> Iterable[Family]:
        """Of the workers, each with its number as a label."""
        serving = sum(child.ready.is_set() for child in self._children.values())
        yield Family("wharf_gateway_workers", "Worker processes that serve.", "gauge", (Sample((), serving),))
        yield Family(
            "wharf_gateway_worker_deaths_total", "Workers that ended unasked.", "counter", (Sample((), self.deaths),)
        )
        for worker, child in sorted(self._children.items()):
            yield from labelled(child.families, "worker", str(worker))

    async def drain(self) -> None:
        """Every worker drains; those that do not end in time are killed."""
        self._over = True
        children = tuple(self._children.values())
        for child in children:
            child.signal(signal.SIGTERM)
        config = self._config
        patience = config.drain_delay + config.drain_watches + config.drain_timeout + 5.0
        ends = [asyncio.create_task(child.ended.wait()) for child in children]
        if ends:
            _, late = await asyncio.wait(ends, timeout=patience)
            for end in late:
                end.cancel()
            if late:
                _log.warn("workers that do not end are killed", workers=len(late))

    def hurry(self) -> None:
        for child in tuple(self._children.values()):
            child.signal(HURRY)

    async def close(self) -> None:
        self._over = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sock in self._sockets:
            sock.close()

    async def _keep(self, worker: int, first: asyncio.Future[None]) -> None:
        """A worker in this place, again and again; not again when the `first` could not begin."""
        backoff = Backoff()
        while not self._over:
            began = self._clock.now()
            try:
                child = start(self._config, worker, self._shares, self._secret, os.environ)
            except OSError as error:
                _log.error("a worker cannot be started", worker=worker, reason=str(error))
            else:
                self._children[worker] = child
                try:
                    if not await child.began and not first.done():
                        first.set_exception(OSError(f"worker {worker} ended at its start with code {child.code}"))
                        return
                    if not first.done():
                        first.set_result(None)
                    await child.ended.wait()
                finally:
                    await child.close()
                    del self._children[worker]
                if not self._over:
                    _log.error("a worker has died", worker=worker, process=child.pid, code=child.code)
            delay = backoff.died(self._clock.now() - began)
            if not self._over:
                self.deaths += 1
                await asyncio.sleep(delay)


def _reserve(url: Url) -> socket.socket:
    """The port, bound and not listened on. OSError when somebody else has it."""
    config = ListenerConfig(url.host, url.port or 0)
    bind(config).close()  # shared ports would let two instances answer by turns
    return bind(replace(config, reuse_port=True))


def _with_port(url: Url, port: int) -> Url:
    return replace(url, port=port)
