"""Writes what this instance sees into the objects' status, where there is a home cluster to write it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from wharf.common.clock import CLOCK
from wharf.common.kube.client import KubeClient, KubeError, StatusError
from wharf.common.log import get_log
from wharf.gateway.api.shapes import GROUP, PLURAL, VERSION
from wharf.gateway.api.status import Sight, plan_status
from wharf.gateway.life.sights import Sights

EVERY: Final = 3.0  # seconds between looks: changes show within it, counters wait for the heartbeat
_PATH: Final = f"/apis/{GROUP}/{VERSION}/{PLURAL}"

_log = get_log("gateway.status")


class StatusWriter:
    """`run` until cancelled."""

    def __init__(self, client: KubeClient, sights: Callable[[], Sights]) -> None:
        self._client, self._sights = client, sights
        self._failing: dict[str, str] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            for name, sight in self._sights().items():
                await self._write(name, sight)

    async def _write(self, name: str, sight: Sight) -> None:
        path = f"{_PATH}/{name}"
        try:
            stored = await self._client.get(path)
            for patch in plan_status(stored.get("status") or {}, name, sight, CLOCK.wall_ns() / 1e9):
                await self._client.patch_status(path, patch.document, apply_as=patch.manager)
        except KubeError as error:
            if isinstance(error, StatusError) and error.status.code == 404:
                return  # deleted meanwhile
            if self._failing.get(name) != str(error):
                self._failing[name] = str(error)
                _log.warn("status cannot be written", cluster=name, reason=str(error))
        else:
            self._failing.pop(name, None)
