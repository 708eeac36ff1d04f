"""Which servers belong, which are fit, which one takes a request; and what is said when none does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from gateway.upstreams.kit import DOWN, UP, all_up, cluster, members_of, names, server
from wharf.gateway.api import shapes
from wharf.gateway.api.shapes import Balance, Breaker, Policy, Server
from wharf.gateway.balance.strategies import RoundRobin
from wharf.gateway.upstreams.endpoint import Endpoint, Standing
from wharf.gateway.upstreams.health import ProbeResult
from wharf.gateway.upstreams.members import Members, Unavailable, Why
from wharf.gateway.upstreams.outliers import Outcome


def fleet(*servers: Server | str, **fields: Any) -> Members:
    """All of them probed and up."""
    return all_up(Members(cluster(*servers, **fields), 0.0))


def take(members: Members, now: float = 100.0, policy: str = "default", key: str = "", **options: Any) -> str:
    picked = members.pick(policy, key, now, **options)
    assert isinstance(picked, Endpoint)
    return picked.name


def refuse(members: Members, now: float = 100.0, policy: str = "default", **options: Any) -> Unavailable:
    picked = members.pick(policy, "", now, **options)
    assert isinstance(picked, Unavailable)
    return picked


def spread(members: Members, count: int = 12, **options: Any) -> Counter[str]:
    return Counter(take(members, **options) for _ in range(count))


def fail(members: Members, endpoint: Endpoint, now: float, times: int = 5) -> None:
    for _ in range(times):
        members.started(endpoint, False)
        members.finished(endpoint, Outcome.BAD, now, False)


def test_servers_take_turns() -> None:
    members = fleet("a", "b", "c")
    assert spread(members) == {"a": 4, "b": 4, "c": 4}


def test_short_and_long_running_requests_have_turns_of_their_own() -> None:
    members = fleet("a", "b")
    got = [(take(members), take(members, long_running=True)) for _ in range(4)]
    assert Counter(short for short, _ in got) == {"a": 2, "b": 2}
    assert Counter(long for _, long in got) == {"a": 2, "b": 2}


def test_load_is_counted_by_kind() -> None:
    members = fleet("a")
    endpoint = members.endpoints[0]
    members.started(endpoint, False)
    members.started(endpoint, True)
    members.started(endpoint, True)
    assert (endpoint.short.in_flight, endpoint.long.in_flight, endpoint.in_flight) == (1, 2, 3)
    members.finished(endpoint, Outcome.GOOD, 1.0, False)
    members.finished(endpoint, Outcome.BAD, 1.0, True)
    assert (endpoint.short.in_flight, endpoint.long.in_flight) == (0, 1)
    assert (endpoint.served, endpoint.failed) == (2, 1)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy("p"), {"a", "b", "c", "d"}),
        (Policy("p", servers=("a", "c")), {"a", "c"}),
        (Policy("p", balance=Balance(prefer_zone="north")), {"a", "b"}),
        (Policy("p", balance=Balance(prefer_zone="west")), {"a", "b", "c", "d"}),
        (Policy("p", servers=("c", "d"), balance=Balance(prefer_zone="north")), {"c", "d"}),
    ],
)
def test_subsets_and_zones(policy: Policy, expected: set[str]) -> None:
    servers = [server("a", zone="north"), server("b", zone="north"), server("c", zone="south"), server("d")]
    assert set(spread(fleet(*servers, policies=(policy,)), policy="p")) == expected


def test_another_zone_when_none_of_the_preferred_is_left() -> None:
    policy = Policy("default", balance=Balance(prefer_zone="north"))
    members = fleet(server("a", zone="north"), server("b", zone="south"), policies=(policy,))
    assert set(spread(members)) == {"a"}
    a = members_of(members)["a"]
    for _ in range(2):
        members.probed(a, DOWN, 50.0)
    assert set(spread(members)) == {"b"}


def test_the_gateways_own_zone_counts_where_a_policy_prefers_none() -> None:
    policies = (Policy("default"), Policy("p", balance=Balance(prefer_zone="south")))
    servers = (server("a", zone="north"), server("b", zone="south"))
    members = all_up(Members(cluster(*servers, policies=policies), 0.0, zone="north"))
    assert set(spread(members)) == {"a"}
    assert set(spread(members, policy="p")) == {"b"}
    for _ in range(2):
        members.probed(members_of(members)["a"], DOWN, 50.0)
    assert set(spread(members)) == {"b"}


def test_weights_share_requests() -> None:
    assert spread(fleet(server("a", 3), server("b", 1))) == {"a": 9, "b": 3}


def test_weight_nothing_is_taken_only_when_nothing_else_is_left() -> None:
    members = fleet(server("a", 0, zone="near"), server("b", 0), server("c", 1))
    assert set(spread(members)) == {"c"}
    for _ in range(2):
        members.probed(members_of(members)["c"], DOWN, 50.0)
    assert spread(members) == {"a": 6, "b": 6}


def test_disabled_servers_are_not_taken_and_begin_anew_when_they_are_enabled() -> None:
    members = fleet("a", "b")
    members.update(cluster("a", server("b", disabled=True)), (), 10.0)
    assert set(spread(members)) == {"a"}
    change = members.update(cluster("a", "b"), (), 20.0)
    assert names(change.changed) == ["b"]
    assert set(spread(members)) == {"a"}
    assert members_of(members)["b"].standing(20.0) is Standing.UNKNOWN
    members.probed(members_of(members)["b"], UP, 21.0)
    assert set(spread(members)) == {"a", "b"}


def test_the_same_url_keeps_state_and_connections_whatever_else_changes() -> None:
    members = fleet("a", "b")
    before = members_of(members)
    before["a"].pools = pools = object()
    members.started(before["a"], True)
    renamed = server("primary", 5, "north", host="a.example.org")
    change = members.update(cluster(renamed, "b"), (), 10.0)
    after = members_of(members)
    assert after["primary"] is before["a"]
    assert (after["primary"].pools, after["primary"].long.in_flight) == (pools, 1)
    assert (names(change.added), names(change.removed), names(change.changed)) == ([], [], ["primary"])
    assert after["primary"].long.name == "primary"


def test_edge_39_a_removed_server_takes_nothing_new_and_leaves_with_its_last_stream() -> None:
    members = fleet("a", "b")
    left: list[str] = []
    members.on_idle = lambda endpoint: left.append(endpoint.name)
    a = members_of(members)["a"]
    members.started(a, True)
    members.started(a, False)
    change = members.update(cluster("b"), (), 10.0)
    assert (names(change.removed), names(members.leaving), left) == (["a"], ["a"], [])
    assert set(spread(members)) == {"b"}
    members.finished(a, Outcome.GOOD, 11.0, False)
    assert left == []
    members.finished(a, Outcome.GOOD, 12.0, True)
    assert (left, members.leaving) == (["a"], ())


def test_a_removed_server_without_streams_leaves_at_once() -> None:
    members = fleet("a", "b")
    left: list[str] = []
    members.on_idle = lambda endpoint: left.append(endpoint.name)
    members.update(cluster("b"), (), 10.0)
    assert left == ["a"]


def test_a_server_that_comes_back_while_it_leaves_is_the_same_one() -> None:
    members = fleet("a", "b")
    a = members_of(members)["a"]
    members.started(a, True)
    members.update(cluster("b"), (), 10.0)
    change = members.update(cluster("a", "b"), (), 11.0)
    assert members_of(members)["a"] is a
    assert (change.added, members.leaving, a.leaving) == ((a,), (), False)
    assert a.standing(11.0) is Standing.UNKNOWN
    members.finished(a, Outcome.GOOD, 12.0, True)


def test_discovered_servers_join_the_listed_ones_which_win() -> None:
    members = fleet("a")
    found = (server("10.0.0.1:6443", host="10.0.0.1"), server("other", host="a.example.org"), server("a", host="x"))
    change = members.update(cluster("a"), found, 1.0)
    assert names(members.endpoints) == ["a", "10.0.0.1:6443"]
    assert names(change.added) == ["10.0.0.1:6443"]
    assert members.update(cluster("a"), found, 2.0) == members.update(cluster("a"), found, 3.0)
    assert names(members.update(cluster("a"), (), 4.0).removed) == ["10.0.0.1:6443"]


def test_edge_28_a_retry_goes_elsewhere_unless_there_is_nowhere_else() -> None:
    members = fleet("a", "b")
    a, b = members.endpoints
    assert {take(members, avoid=(a,)) for _ in range(6)} == {"b"}
    for _ in range(2):
        members.probed(b, DOWN, 50.0)
    assert take(members, avoid=(a,)) == "a"


def test_the_breaker_passes_full_servers_over() -> None:
    members = fleet("a", "b", breaker=Breaker(requests_max=2, watches_max=1))
    for expected in (1, 2):
        for _ in range(2):
            picked = members.pick("default", "", 100.0)
            assert isinstance(picked, Endpoint)
            members.started(picked, False)
        assert {endpoint.short.in_flight for endpoint in members.endpoints} == {expected}
    refused = refuse(members)
    assert refused.why is Why.FULL
    assert refused.retry_after == 1
    watched = members_of(members)[take(members, long_running=True)]
    members.started(watched, True)
    assert take(members, long_running=True) != watched.name
    members.finished(watched, Outcome.GOOD, 100.0, False)
    assert take(members) == watched.name


def test_before_the_first_probe_nobody_is_taken() -> None:
    refused = refuse(Members(cluster("a", "b"), 0.0), 0.0)
    assert refused.why is Why.STARTING
    assert refused.text == "no server was probed yet: a not probed yet; b not probed yet"


def test_edge_21_no_healthy_server_is_told_with_each_ones_reason_and_a_short_retry_after() -> None:
    members = Members(cluster("a", "b", server("c", disabled=True)), 0.0)
    for endpoint in members.endpoints[:2]:
        members.probed(endpoint, DOWN, 90.0)
    refused = refuse(members)
    assert refused.why is Why.DOWN
    assert 1 <= refused.retry_after <= 5
    down = "unhealthy for 10 s: 500 etcd failed"
    assert refused.servers == (("a", down), ("b", down), ("c", "disabled"))
    assert refused.text == f"no server is healthy: a {down}; b {down}; c disabled"


@pytest.mark.parametrize("servers", [(), (server("a", disabled=True),)])
def test_no_server_at_all(servers: tuple[Server, ...]) -> None:
    assert refuse(Members(cluster(*servers), 0.0)).why is Why.NONE


def test_a_policy_that_is_gone_by_now_has_no_server() -> None:
    assert refuse(fleet("a"), policy="removed").why is Why.NONE


def test_failures_in_a_row_eject_and_time_brings_back_slowly() -> None:
    members = fleet("a", "b")
    a = members_of(members)["a"]
    fail(members, a, 100.0)
    assert a.standing(100.0) is Standing.EJECTED
    assert set(spread(members, now=101.0)) == {"b"}
    assert a.why(101.0) == "left out after failed requests, for 9 s more"
    early = spread(members, 110, now=110.0)
    assert early == {"a": 10, "b": 100}  # a tenth of its weight
    assert spread(members, 110, now=121.0)["a"] == 55


def test_a_good_answer_between_failures_keeps_a_server_in() -> None:
    members = fleet("a", "b")
    a = members_of(members)["a"]
    for _ in range(5):
        fail(members, a, 100.0, 4)
        members.started(a, False)
        members.finished(a, Outcome.GOOD, 100.0, False)
    assert a.standing(100.0) is Standing.READY


def test_cancelled_requests_say_nothing() -> None:
    members = fleet("a", "b")
    a = members_of(members)["a"]
    for _ in range(50):
        members.started(a, False)
        members.finished(a, Outcome.NOTHING, 100.0, False)
    assert (a.standing(100.0), a.failed) == (Standing.READY, 0)


def test_no_more_than_the_share_is_ejected_counting_those_that_are_unhealthy() -> None:
    members = fleet("a", "b", "c", "d")
    a, b, c, d = members.endpoints
    for _ in range(2):
        members.probed(a, DOWN, 90.0)
    fail(members, b, 100.0)
    fail(members, c, 100.0)
    assert [endpoint.standing(100.0).name for endpoint in (a, b, c, d)] == ["UNHEALTHY", "EJECTED", "READY", "READY"]
    fail(members, c, 110.0, 1)  # b is back, and c still fails
    assert c.standing(110.0) is Standing.EJECTED


def test_a_single_server_is_never_ejected() -> None:
    members = fleet("a")
    fail(members, members.endpoints[0], 100.0, 50)
    assert take(members) == "a"


def test_an_ejected_server_is_taken_when_the_others_turn_out_unhealthy() -> None:
    members = fleet("a", "b")
    a, b = members.endpoints
    fail(members, a, 100.0)
    for _ in range(2):
        members.probed(b, DOWN, 100.5)
    assert set(spread(members, now=101.0)) == {"a"}


def test_every_failure_is_a_reason_to_look() -> None:
    members = fleet("a", "b")
    suspects: list[str] = []
    members.on_suspect = lambda endpoint: suspects.append(endpoint.name)
    a = members_of(members)["a"]
    fail(members, a, 1.0, 2)
    members.started(a, False)
    members.finished(a, Outcome.GOOD, 1.0, False)
    assert suspects == ["a", "a"]


def test_a_server_that_came_back_has_its_whole_share_after_the_slow_start() -> None:
    members = fleet("a", "b", health=shapes.Health(slow_start=20.0))
    a = members_of(members)["a"]
    for _ in range(2):
        members.probed(a, DOWN, 50.0)
    members.probed(a, UP, 60.0)
    assert members.probed(a, UP, 65.0)
    shares = [spread(members, 220, now=now)["a"] for now in (65.0, 75.0, 84.9, 85.0)]
    assert shares == [20, pytest.approx(82, abs=1), 110, 110]


def test_a_server_that_joins_later_starts_slowly_those_found_at_the_start_do_not() -> None:
    members = Members(cluster("a", "b"), 0.0)
    members.probed(members_of(members)["a"], UP, 0.1)
    members.probed(members_of(members)["b"], UP, 5.0)
    assert spread(members, now=5.0) == {"a": 6, "b": 6}
    members.update(cluster("a", "b", "c"), (), 50.0)
    members.probed(members_of(members)["c"], UP, 50.0)
    assert spread(members, 21, now=50.0)["c"] == 1


def test_strategies_are_kept_over_updates_and_changed_with_their_name() -> None:
    made: list[str] = []

    def strategies(name: str) -> RoundRobin:
        made.append(name)
        return RoundRobin()

    policies = (Policy("p"), Policy("q", balance=Balance("Random")))
    members = Members(cluster("a", policies=policies), 0.0, strategies)
    assert made == ["RoundRobin", "RoundRobin", "Random", "Random"]
    members.update(cluster("a", "b", policies=(policies[1], policies[0])), (), 1.0)
    assert len(made) == 4
    members.update(cluster("a", policies=(Policy("q", balance=Balance("LeastRequests")),)), (), 2.0)
    assert made[4:] == ["LeastRequests", "LeastRequests"]


def test_edge_40_a_client_keeps_its_server_while_it_is_fit_and_returns_to_it() -> None:
    policy = Policy("default", balance=Balance("ConsistentHash"))
    members = fleet("a", "b", "c", policies=(policy,))
    home = take(members, key="jane")
    assert {take(members, key="jane", long_running=long) for long in (True, False)} == {home}
    for _ in range(2):
        members.probed(members_of(members)[home], DOWN, 50.0)
    second = take(members, key="jane")
    assert second != home
    for _ in range(2):
        members.probed(members_of(members)[home], UP, 60.0)
    assert take(members, now=100.0, key="jane") == home


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (lambda members, a: None, "ready"),
        (lambda members, a: members.probed(a, ProbeResult(True, "busy"), 1.0), "ready; busy"),
        (lambda members, a: members.update(cluster("b"), (), 1.0), "removed"),
    ],
)
def test_what_an_endpoint_says_of_itself(state: Callable[[Members, Endpoint], object], line: str) -> None:
    members = fleet("a", "b")
    a = members_of(members)["a"]
    members.started(a, True)
    state(members, a)
    assert a.why(2.0) == line
