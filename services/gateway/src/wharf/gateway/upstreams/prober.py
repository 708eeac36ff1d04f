"""Active health checks: one loop per server that belongs and is not disabled.

The first probe is sent at once, so that the gateway is ready after one round trip (`first_round_done`); the second
comes at a moment of chance within the interval, so that the probes of many gateways spread. A request that failed by
the server's fault brings the next probe forward, HURRY_MIN seconds after the last at the earliest.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from wharf.gateway.api import shapes
from wharf.gateway.upstreams.endpoint import Endpoint
from wharf.gateway.upstreams.health import REASON_MAX, ProbeResult, Verdict
from wharf.gateway.upstreams.members import Members

HURRY_MIN: Final = 0.5  # seconds between probes of a server, however much fails there

Probe = Callable[[Endpoint], Awaitable[ProbeResult]]

log = logging.getLogger(__name__)


class Prober:
    """Keeps the verdicts of one cluster's members. Made, told and closed on the loop thread."""

    def __init__(self, members: Members, probe: Probe, rng: random.Random | None = None) -> None:
        self.first_round_done = asyncio.Event()  # the servers there were at first have verdicts, or have gone
        self.on_verdict: Callable[[Endpoint], None] | None = None  # changed
        self._members = members
        self._rules = shapes.Health()
        self._probe = probe
        self._random = (rng or random.Random()).random  # noqa: S311
        self._loops: dict[Endpoint, asyncio.Task[None]] = {}
        self._hurry: dict[Endpoint, asyncio.Event] = {}
        self._met_any = False  # there was a round with servers in it
        self._ending: set[asyncio.Task[None]] = set()
        members.on_suspect = self.hurry

    def sync(self, rules: shapes.Health) -> None:
        """At first, and after each `members.update`: probe those that came, leave those that went or were disabled."""
        self._rules = rules
        wanted = [endpoint for endpoint in self._members.endpoints if not endpoint.server.disabled]
        for endpoint in [endpoint for endpoint in self._loops if endpoint not in wanted]:
            del self._hurry[endpoint]
            self._end(self._loops.pop(endpoint))
        for endpoint in wanted:
            if endpoint not in self._loops:
                self._hurry[endpoint] = asyncio.Event()
                self._loops[endpoint] = asyncio.create_task(self._run(endpoint, self._hurry[endpoint]))
        self._look_round()

    def hurry(self, endpoint: Endpoint) -> None:
        """Something speaks against this server: look soon."""
        if (event := self._hurry.get(endpoint)) is not None:
            event.set()

    async def close(self) -> None:
        """End all probing."""
        self._members.on_suspect = None
        for task in self._loops.values():
            self._end(task)
        self._loops.clear()
        self._hurry.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()

    async def _run(self, endpoint: Endpoint, hurry: asyncio.Event) -> None:
        wait = self._rules.interval * self._random()
        while True:
            hurry.clear()
            result = await self._ask(endpoint)
            if self._members.probed(endpoint, result, asyncio.get_running_loop().time()):
                self._tell(endpoint)
            await _either(hurry, wait)
            wait = self._rules.interval

    async def _ask(self, endpoint: Endpoint) -> ProbeResult:
        try:
            async with asyncio.timeout(self._rules.timeout):
                result = await self._probe(endpoint)
        except TimeoutError:
            return ProbeResult(False, f"no answer within {self._rules.timeout:g} s")
        except Exception as error:
            # Whatever it is, this server was not seen alive; the loop goes on and the reason is shown.
            result = ProbeResult(False, str(error) or type(error).__name__)
        return replace(result, reason=result.reason[:REASON_MAX])  # servers may say anything, at any length

    def _tell(self, endpoint: Endpoint) -> None:
        health = endpoint.health
        log.info(
            "server %s is %s%s", endpoint.name, health.verdict.value, f": {health.reason}" if health.reason else ""
        )
        self._look_round()
        if self.on_verdict is not None:
            self.on_verdict(endpoint)

    def _look_round(self) -> None:
        verdicts = [endpoint.health.verdict for endpoint in self._loops]
        if Verdict.UNKNOWN not in verdicts:
            self.first_round_done.set()
            self._met_any = self._met_any or bool(verdicts)
        elif not self._met_any:
            self.first_round_done.clear()  # it was done only because discovery had found nothing yet


async def _either(hurry: asyncio.Event, seconds: float) -> None:
    """Wait so long, or less when hurried."""
    least = min(HURRY_MIN, seconds)
    await asyncio.sleep(least)
    try:
        async with asyncio.timeout(seconds - least):
            await hurry.wait()
    except TimeoutError:
        return
