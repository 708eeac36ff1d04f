"""Which endpoints a policy may choose from, and the strategies that do. Pure.

In this order: the policy's subset; what is healthy, and of this what is not ejected unless nothing else is left; what
has weight, unless nothing else is left; what is in the preferred zone (the policy's, else the gateway's own), unless
there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from wharf.gateway.api.shapes import Policy
from wharf.gateway.balance.base import Candidate, Strategy
from wharf.gateway.upstreams.endpoint import Endpoint, Standing

ABLE = (Standing.READY, Standing.EJECTED)


@dataclass(slots=True, eq=False)
class Lane:
    """One kind of requests of one policy: the endpoints to choose from, in the strategy's terms beside them."""

    strategy: Strategy
    endpoints: tuple[Endpoint, ...] = ()
    candidates: tuple[Candidate, ...] = ()

    def fill(self, endpoints: tuple[Endpoint, ...], long_running: bool) -> None:
        self.endpoints = endpoints
        self.candidates = tuple(endpoint.load(long_running) for endpoint in endpoints)

    def pick(self, key: str) -> Endpoint:
        """The lane must not be empty."""
        if len(self.endpoints) == 1:
            return self.endpoints[0]
        return self.endpoints[self.strategy.pick(self.candidates, key)]


@dataclass(slots=True, eq=False)
class Choice:
    """A policy with its lanes."""

    policy: Policy
    short: Lane
    long: Lane
    members: tuple[Endpoint, ...] = field(default=())  # the subset, whatever its state

    def lane(self, long_running: bool) -> Lane:
        return self.long if long_running else self.short


def subset(policy: Policy, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    return tuple(endpoint for endpoint in endpoints if not policy.servers or endpoint.name in policy.servers)


def eligible(
    policy: Policy,
    members: Sequence[Endpoint],
    now: float,
    home: str = "",
    accept: Callable[[Endpoint], bool] | None = None,
) -> tuple[Endpoint, ...]:
    """Those of a subset the strategy chooses from, of which `accept` must be true. `home`: the gateway's own zone."""
    able = [endpoint for endpoint in members if endpoint.standing(now) in ABLE]
    if accept is not None:
        able = [endpoint for endpoint in able if accept(endpoint)]
    left = [endpoint for endpoint in able if endpoint.standing(now) is Standing.READY] or able
    left = [endpoint for endpoint in left if endpoint.server.weight] or left
    zone = policy.balance.prefer_zone or home
    near = [endpoint for endpoint in left if endpoint.server.zone == zone] if zone else []
    return tuple(near or left)
