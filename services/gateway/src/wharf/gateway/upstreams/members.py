"""The servers of one cluster over time: who belongs, who is fit, who takes the next request. Pure; `now` is passed in.

Endpoints are told apart by URL. One that stays in the configuration keeps its state and its connections, whatever else
changed; one that goes is chosen no more, and has left when its last stream has ended (`on_idle` tells).

    update ──▶ endpoint unknown ──probed──▶ ready ◀──probed── unhealthy
                                              │ ▲
                          failures in a row   ▼ │  time, then slow start
                                            ejected

Invariant: every `started` is followed by one `finished`, and between the two the endpoint exists.

What to choose from is worked out when something changed or at a time known in advance (an ejection ends, a weight
rises); a request in between pays for the strategy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import inf

from wharf.gateway.api.shapes import Server, UpstreamCluster
from wharf.gateway.balance.base import Strategy
from wharf.gateway.balance.registry import make_strategy
from wharf.gateway.upstreams import health, outliers
from wharf.gateway.upstreams.choice import Choice, Lane, eligible, subset
from wharf.gateway.upstreams.endpoint import SLOW_START_STEPS, Endpoint, Standing, make_endpoint, weigh
from wharf.gateway.upstreams.health import Health, ProbeResult, Verdict
from wharf.gateway.upstreams.outliers import Outcome

Strategies = Mapping[str, tuple[Lane, Lane]]  # by the policy's name: for short and for long-running requests
OUT = (Standing.EJECTED, Standing.UNHEALTHY, Standing.UNKNOWN)


class Why(Enum):
    """Why no server takes a request."""

    NONE = "no server is configured or discovered"
    STARTING = "no server was probed yet"
    DOWN = "no server is healthy"
    FULL = "every healthy server has as many requests as it may have"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No server, and what each of those that would do says."""

    why: Why
    servers: tuple[tuple[str, str], ...]  # name, reason
    retry_after: int  # seconds

    @property
    def text(self) -> str:
        reasons = "; ".join(f"{name} {reason}" for name, reason in self.servers)
        return f"{self.why.value}: {reasons}" if reasons else self.why.value


@dataclass(frozen=True, slots=True)
class Change:
    """What an update did. Removed endpoints may still carry streams."""

    added: tuple[Endpoint, ...] = ()
    removed: tuple[Endpoint, ...] = ()
    changed: tuple[Endpoint, ...] = ()  # same URL, other name, weight, zone or switch


class Members:
    """Bookkeeping of one cluster in one process, on the loop thread."""

    def __init__(
        self,
        cluster: UpstreamCluster,
        now: float,
        strategies: Callable[[str], Strategy] = make_strategy,
        zone: str = "",
    ) -> None:
        """`zone`: the gateway's own, preferred where a policy prefers none."""
        self.on_idle: Callable[[Endpoint], None] | None = None  # a removed endpoint has no streams (left)
        self.on_suspect: Callable[[Endpoint], None] | None = None  # a request failed by the server's fault
        self._cluster = cluster
        self._make_strategy = strategies
        self._zone = zone
        self._born = now
        self._endpoints: dict[str, Endpoint] = {}  # by URL, in the order of the configuration
        self._leaving: dict[str, Endpoint] = {}
        self._choices: dict[str, Choice] = {}  # by the policy's name
        self._fresh_until = -inf
        self.update(cluster, (), now)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Those that belong, whatever their state."""
        return tuple(self._endpoints.values())

    @property
    def leaving(self) -> tuple[Endpoint, ...]:
        """Removed ones with streams left."""
        return tuple(self._leaving.values())

    def prepare(self, cluster: UpstreamCluster) -> Strategies:
        """The strategies of a configuration: those in use, new ones where another is named. Changes nothing.

        What the constructor of a strategy raises is raised here.
        """
        found = {}
        for policy in cluster.policies:
            name, old = policy.balance.strategy, self._choices.get(policy.name)
            if old is not None and old.policy.balance.strategy == name:
                found[policy.name] = old.short, old.long
            else:
                found[policy.name] = Lane(self._make_strategy(name)), Lane(self._make_strategy(name))
        return found

    def update(
        self, cluster: UpstreamCluster, discovered: Iterable[Server], now: float, strategies: Strategies | None = None
    ) -> Change:
        """Take over a configuration and what discovery found beside its servers.

        `strategies`: as `prepare` returned them for this configuration; without, as `prepare`, and nothing has changed
        when that raises.
        """
        lanes = self.prepare(cluster) if strategies is None else strategies
        wanted = _distinct((*cluster.servers, *discovered))
        removed = [endpoint for url, endpoint in self._endpoints.items() if url not in wanted]
        before, self._endpoints = self._endpoints, {}
        added, changed = [], []
        for url, server in wanted.items():
            endpoint = before.get(url) or self._come(server)
            self._endpoints[url] = endpoint
            if url not in before:
                added.append(endpoint)
            elif endpoint.server != server:
                changed.append(endpoint)
            _assign(endpoint, server)
        self._cluster = cluster
        self._bounded = bool(cluster.breaker.requests_max or cluster.breaker.watches_max)
        endpoints = self._endpoints.values()
        self._choices = {
            policy.name: Choice(policy, *lanes[policy.name], subset(policy, endpoints)) for policy in cluster.policies
        }
        self._fresh_until = -inf
        for endpoint in removed:
            self._go(endpoint)
        return Change(tuple(added), tuple(removed), tuple(changed))

    def pick(
        self,
        policy: str,
        key: str,
        now: float,
        *,
        long_running: bool = False,
        avoid: Collection[Endpoint] = (),
    ) -> Endpoint | Unavailable:
        """The endpoint that takes a request of the policy of this name.

        Servers to `avoid` (that failed it already) are taken only when no other will do.
        """
        if now >= self._fresh_until:
            self._refresh(now)
        choice = self._choices.get(policy)
        if choice is None:  # removed since the request was matched
            return Unavailable(Why.NONE, (), 1)
        lane = choice.long if long_running else choice.short
        endpoints = lane.endpoints
        if not endpoints:
            return self._unavailable(choice, now)
        endpoint = endpoints[0] if len(endpoints) == 1 else endpoints[lane.strategy.pick(lane.candidates, key)]
        if not self._bounded and not avoid:
            return endpoint
        if endpoint not in avoid and self._has_room(endpoint, long_running):
            return endpoint
        return self._pick_among(choice, key, now, long_running, avoid)

    def started(self, endpoint: Endpoint, long_running: bool) -> None:
        """A request is sent there."""
        (endpoint.long if long_running else endpoint.short).in_flight += 1

    def finished(self, endpoint: Endpoint, outcome: Outcome, now: float, long_running: bool) -> None:
        """It ended, however."""
        (endpoint.long if long_running else endpoint.short).in_flight -= 1
        endpoint.served += 1
        if outcome is Outcome.BAD or outcome is Outcome.LOST or endpoint.record.failures:
            self._note(endpoint, outcome, now)
        if endpoint.leaving and not endpoint.in_flight:
            self._leaving.pop(endpoint.server.url, None)
            if self.on_idle is not None:
                self.on_idle(endpoint)

    def probed(self, endpoint: Endpoint, result: ProbeResult, now: float) -> bool:
        """A probe ended; whether it changed the verdict."""
        before = endpoint.health
        endpoint.health = health.judge(before, result, now, self._cluster.health)
        if endpoint.health.verdict is before.verdict:
            return False
        first = before.verdict is Verdict.UNKNOWN
        # Those a gateway finds when it starts did not come back: it is the gateway that is new.
        if not (first and now < self._born + self._cluster.health.slow_start):
            endpoint.rising_since = now
        self._fresh_until = -inf
        return True

    def _note(self, endpoint: Endpoint, outcome: Outcome, now: float) -> None:
        rules = self._cluster.outliers
        servers = [other for other in self._endpoints.values() if not other.server.disabled]
        out = sum(other is not endpoint and other.standing(now) in OUT for other in servers)
        may = not endpoint.leaving and outliers.may_eject(out, len(servers), rules.eject_share)
        before = endpoint.record
        endpoint.record = outliers.note(before, outcome, now, rules, may)
        if endpoint.record.until != before.until:
            endpoint.rising_since = endpoint.record.until
            self._fresh_until = -inf
        if outcome in (Outcome.BAD, Outcome.LOST):
            endpoint.failed += 1
            if self.on_suspect is not None and not endpoint.leaving:
                self.on_suspect(endpoint)

    def _come(self, server: Server) -> Endpoint:
        endpoint = self._leaving.pop(server.url, None)
        if endpoint is None:
            return make_endpoint(server)
        endpoint.leaving = False
        endpoint.health = Health()
        return endpoint

    def _go(self, endpoint: Endpoint) -> None:
        endpoint.leaving = True
        if endpoint.in_flight:
            self._leaving[endpoint.server.url] = endpoint
        elif self.on_idle is not None:
            self.on_idle(endpoint)

    def _refresh(self, now: float) -> None:
        slow_start = self._cluster.health.slow_start
        self._fresh_until = inf
        for endpoint in self._endpoints.values():
            if weigh(endpoint, now, slow_start):
                self._fresh_until = min(self._fresh_until, now + slow_start / SLOW_START_STEPS)
            if endpoint.record.ejected(now):
                self._fresh_until = min(self._fresh_until, endpoint.record.until)
        for choice in self._choices.values():
            endpoints = eligible(choice.policy, choice.members, now, self._zone)
            choice.short.fill(endpoints, False)
            choice.long.fill(endpoints, True)

    def _has_room(self, endpoint: Endpoint, long_running: bool) -> bool:
        breaker = self._cluster.breaker
        most = breaker.watches_max if long_running else breaker.requests_max
        return not most or endpoint.load(long_running).in_flight < most

    def _pick_among(
        self, choice: Choice, key: str, now: float, long_running: bool, avoid: Collection[Endpoint]
    ) -> Endpoint | Unavailable:
        def has_room(endpoint: Endpoint) -> bool:
            return self._has_room(endpoint, long_running)

        def other(endpoint: Endpoint) -> bool:
            return endpoint not in avoid and has_room(endpoint)

        endpoints = eligible(choice.policy, choice.members, now, self._zone, other)
        if not endpoints and avoid:
            endpoints = eligible(choice.policy, choice.members, now, self._zone, has_room)
        if not endpoints:
            return self._unavailable(choice, now, full=True)
        lane = Lane(choice.lane(long_running).strategy)
        lane.fill(endpoints, long_running)
        return lane.pick(key)

    def _unavailable(self, choice: Choice, now: float, full: bool = False) -> Unavailable:
        standings = {endpoint.standing(now) for endpoint in choice.members}
        if full:
            why = Why.FULL
        elif standings <= {Standing.DISABLED}:
            why = Why.NONE
        else:
            why = Why.DOWN if Standing.UNHEALTHY in standings else Why.STARTING
        reasons = tuple((endpoint.name, endpoint.why(now)) for endpoint in choice.members)
        seconds = 1 if why is not Why.DOWN else max(1, min(5, round(self._cluster.health.interval)))
        return Unavailable(why, reasons, seconds)


def _distinct(servers: Iterable[Server]) -> dict[str, Server]:
    """By URL; of several with one URL or one name the first."""
    names: set[str] = set()
    found: dict[str, Server] = {}
    for server in servers:
        if server.url not in found and server.name not in names:
            found[server.url] = server
            names.add(server.name)
    return found


def _assign(endpoint: Endpoint, server: Server) -> None:
    if endpoint.server.disabled and not server.disabled:
        endpoint.health = Health()  # nobody looked after it meanwhile
    endpoint.server = server
    endpoint.short.name = endpoint.long.name = server.name
