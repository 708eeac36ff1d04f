"""Tells NATS how this instance is: every few seconds, at each change of readiness, and when it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wharf.common.clock import CLOCK
from wharf.common.events_nats import EventBus
from wharf.common.heartbeat import INTERVAL, Heartbeat, encode_heartbeat, subject_of
from wharf.gateway.config import GatewayConfig
from wharf.gateway.life.sights import Sights, details

LOOK: float = 0.5  # seconds between looks at readiness


class Beats:
    """`run` until cancelled, then `close`. The bus is its own."""

    def __init__(
        self,
        config: GatewayConfig,
        addresses: Callable[[], tuple[str, ...]],
        unready: Callable[[], str],
        sights: Callable[[], Sights],
    ) -> None:
        self._bus = EventBus(
            config.nats,
            ca_file=config.nats_ca_file,
            cert_file=config.nats_cert_file,
            key_file=config.nats_key_file,
            credentials_file=config.nats_credentials_file,
            name=f"wharf gateway {config.instance}",
        )
        self._instance = config.instance
        self._subject = subject_of("gateway", config.instance)
        self._addresses, self._unready, self._sights = addresses, unready, sights
        self._started_at = CLOCK.wall_ns() / 1e9

    async def run(self) -> None:
        await self._bus.connect()
        told, due = None, 0.0
        while True:
            reason, now = self._unready(), asyncio.get_running_loop().time()
            if reason != told or now >= due:
                told, due = reason, now + INTERVAL
                self._publish(reason, stopping=False)
            await asyncio.sleep(LOOK)

    async def close(self) -> None:
        """The last word, if somebody hears it."""
        self._publish("stopped", stopping=True)
        await self._bus.close()

    def _publish(self, reason: str, stopping: bool) -> None:
        beat = Heartbeat(
            service="gateway",
            instance=self._instance,
            ready=not reason,
            started_at=self._started_at,
            sent_at=CLOCK.wall_ns() / 1e9,
            stopping=stopping,
            reason=reason,
            addresses=self._addresses(),
            details=details(self._sights()),
        )
        self._bus.publish(self._subject, encode_heartbeat(beat))
