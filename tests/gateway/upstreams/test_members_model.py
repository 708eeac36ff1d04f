"""Whatever happens in whatever order: only fit servers are taken, counts come out even, enough servers are kept."""

from __future__ import annotations

from gateway.upstreams.kit import DOWN, UP, cluster, server
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from wharf.gateway.api import shapes
from wharf.gateway.api.shapes import Balance, Policy
from wharf.gateway.upstreams.endpoint import Endpoint, Standing
from wharf.gateway.upstreams.members import Members, Unavailable, Why
from wharf.gateway.upstreams.outliers import Outcome

POLICIES = (
    Policy("all"),
    Policy("some", servers=("a", "b"), balance=Balance("LeastRequests", prefer_zone="z")),
    Policy("keyed", balance=Balance("ConsistentHash")),
)
SERVERS = st.lists(
    st.builds(server, st.sampled_from("abcde"), st.integers(0, 3), st.sampled_from(["", "z"]), st.booleans()),
    max_size=5,
    unique_by=lambda one: one.name,
)


class Fleet(RuleBasedStateMachine):
    @initialize(servers=SERVERS)
    def begin(self, servers: list[shapes.Server]) -> None:
        self.now = 0.0
        self.open: list[tuple[Endpoint, bool]] = []
        self.left: list[Endpoint] = []
        self.members = Members(self.made(servers), self.now)
        self.members.on_idle = self.left.append

    def made(self, servers: list[shapes.Server]) -> shapes.UpstreamCluster:
        outliers = shapes.Outliers(consecutive_failures=2)
        return cluster(*servers, policies=POLICIES, outliers=outliers, breaker=shapes.Breaker(3, 3))

    @rule(servers=SERVERS)
    def update(self, servers: list[shapes.Server]) -> None:
        before = set(self.members.endpoints)
        self.left.clear()
        change = self.members.update(self.made(servers), (), self.now)
        now = set(self.members.endpoints)
        assert set(change.added) == now - before
        assert set(change.removed) == before - now
        assert set(self.left) == {endpoint for endpoint in change.removed if not endpoint.in_flight}

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(which=st.integers(0, 9), up=st.booleans(), times=st.integers(1, 3))
    def probe(self, which: int, up: bool, times: int) -> None:
        endpoints = self.members.endpoints
        for _ in range(times if endpoints else 0):
            self.members.probed(endpoints[which % len(endpoints)], UP if up else DOWN, self.now)

    @rule(policy=st.sampled_from(POLICIES), key=st.sampled_from(["", "jane", "root"]), long=st.booleans())
    def request(self, policy: Policy, key: str, long: bool) -> None:
        avoid = {endpoint for endpoint, _ in self.open[-2:]}
        picked = self.members.pick(policy.name, key, self.now, long_running=long, avoid=avoid)
        members = [
            endpoint for endpoint in self.members.endpoints if endpoint.name in policy.servers or not policy.servers
        ]
        fit = [one for one in members if one.standing(self.now) in (Standing.READY, Standing.EJECTED)]
        free = [one for one in fit if one.load(long).in_flight < 3]
        if isinstance(picked, Unavailable):
            assert not free
            assert (picked.why is Why.FULL) == bool(fit)
            return
        assert picked in free
        if picked in avoid:
            assert avoid.issuperset(free)
        elif picked.standing(self.now) is Standing.EJECTED:
            assert all(one.standing(self.now) is Standing.EJECTED or one in avoid for one in free)
        self.members.started(picked, long)
        self.open.append((picked, long))

    @rule(which=st.integers(0, 9), outcome=st.sampled_from(Outcome))
    def end(self, which: int, outcome: Outcome) -> None:
        if not self.open:
            return
        endpoint, long = self.open.pop(which % len(self.open))
        before = sum(one.standing(self.now) is Standing.EJECTED for one in self.members.endpoints)
        self.left.clear()
        self.members.finished(endpoint, outcome, self.now, long)
        assert self.left == ([endpoint] if endpoint.leaving and not endpoint.in_flight else [])
        able = [one for one in self.members.endpoints if not one.server.disabled]
        ejected = sum(one.standing(self.now) is Standing.EJECTED for one in able)
        assert ejected <= before or ejected <= len(able) / 2

    @invariant()
    def counts_are_even(self) -> None:
        endpoints = {*self.members.endpoints, *self.members.leaving}
        assert sum(endpoint.in_flight for endpoint in endpoints) == len(self.open)
        assert all(endpoint.in_flight and endpoint.leaving for endpoint in self.members.leaving)


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=60, stateful_step_count=40)
