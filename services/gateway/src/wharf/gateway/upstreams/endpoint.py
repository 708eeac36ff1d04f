"""One server of a cluster, as this process knows it: its state, its load, what was counted. No I/O.

Whoever holds connections to it keeps them in `pools`: an endpoint outlives changes of configuration as long as its URL
stays, and one that is removed lives on until its last stream has ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from wharf.gateway.api.shapes import Server
from wharf.gateway.balance.base import Candidate
from wharf.gateway.upstreams.health import Health, Verdict
from wharf.gateway.upstreams.outliers import Record

SLOW_START_STEPS: Final = 10  # the weight rises in so many, the first at once
ALWAYS: Final = float("-inf")


class Standing(Enum):
    """Whether a server takes requests, and what keeps it."""

    READY = "ready"
    EJECTED = "left out after failed requests"  # taken only when nothing else is left
    UNHEALTHY = "unhealthy"
    UNKNOWN = "not probed yet"
    DISABLED = "disabled"
    LEAVING = "removed"


@dataclass(slots=True, eq=False)
class Endpoint:
    """Mutable, one per URL; equal only to itself. Times are seconds of the loop's clock."""

    server: Server
    short: Candidate  # requests that end by themselves
    long: Candidate  # watches and streams
    health: Health = field(default_factory=Health)
    record: Record = field(default_factory=Record)
    rising_since: float = ALWAYS  # slow start
    leaving: bool = False
    served: int = 0  # requests ended, of either kind
    failed: int = 0  # of these by the server's fault
    pools: Any = None  # its holder's own

    @property
    def name(self) -> str:
        return self.server.name

    @property
    def in_flight(self) -> int:
        """Open requests of either kind."""
        return self.short.in_flight + self.long.in_flight

    def load(self, long_running: bool) -> Candidate:
        return self.long if long_running else self.short

    def standing(self, now: float) -> Standing:
        if self.leaving:
            return Standing.LEAVING
        if self.server.disabled:
            return Standing.DISABLED
        if self.health.verdict is Verdict.UNKNOWN:
            return Standing.UNKNOWN
        if self.health.verdict is Verdict.UNHEALTHY:
            return Standing.UNHEALTHY
        return Standing.EJECTED if self.record.ejected(now) else Standing.READY

    def why(self, now: float) -> str:
        """One line for people: "unhealthy for 12 s: 500 etcd failed"."""
        standing = self.standing(now)
        match standing:
            case Standing.UNHEALTHY:
                return f"unhealthy for {now - self.health.since:.0f} s: {self.health.reason or 'no answer'}"
            case Standing.EJECTED:
                return f"{standing.value}, for {self.record.until - now:.0f} s more"
            case Standing.READY if self.health.reason:
                return f"ready; {self.health.reason}"
        return str(standing.value)


def make_endpoint(server: Server) -> Endpoint:
    return Endpoint(server, Candidate(server.name), Candidate(server.name))


def weigh(endpoint: Endpoint, now: float, slow_start: float) -> bool:
    """Give the endpoint the weight that counts now; whether it is still rising.

    Weight 0 counts as 1: such a server is asked only when all that are left have none.
    """
    age = max(0.0, now - endpoint.rising_since)
    rising = age < slow_start
    part = (1 + int(age / slow_start * SLOW_START_STEPS)) / SLOW_START_STEPS if rising else 1.0
    weight = min(1.0, part) * (endpoint.server.weight or 1)
    endpoint.short.weight = endpoint.long.weight = weight
    return rising
