"""Balancing: strict turns, shares by weight, the less busy of two, keys that stay where they are."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.balance.base import Candidate, Strategy
from wharf.gateway.balance.hashing import FLOOR, LOAD_MAX, REMEMBERED_MAX, digest
from wharf.gateway.balance.strategies import MEMORY_SPARE, ConsistentHash, LeastRequests, Random, RoundRobin

Candidates = tuple[Candidate, ...]


def servers(*weights: float) -> Candidates:
    return tuple(Candidate(f"10.0.0.{index}:6443", weight) for index, weight in enumerate(weights))


def picks(strategy: Strategy, candidates: Candidates, count: int, key: str = "") -> list[str]:
    return [candidates[strategy.pick(candidates, key)].name for _ in range(count)]


WEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=6)
POOL = servers(*[1.0] * 6)
SETS = st.lists(
    st.tuples(st.sets(st.sampled_from(POOL), min_size=1).map(tuple), st.integers(0, 8)), min_size=1, max_size=6
)


@given(SETS, st.integers())
def test_equal_servers_take_strict_turns_whoever_comes_and_goes(
    history: list[tuple[Candidates, int]], seed: int
) -> None:
    strategy = RoundRobin(random.Random(seed))
    for candidates, count in history:
        got = picks(strategy, candidates, count + len(candidates))
        for start in range(count + 1):
            assert len(set(got[start : start + len(candidates)])) == len(candidates)


@given(WEIGHTS)
def test_over_the_sum_of_weights_each_has_exactly_its_share(weights: list[int]) -> None:
    candidates = servers(*weights)
    strategy = RoundRobin()
    for _ in range(3):
        got = Counter(picks(strategy, candidates, sum(weights) * 2))
        assert got == {candidate.name: 2 * candidate.weight for candidate in candidates}


def test_a_heavy_server_is_not_picked_in_one_run() -> None:
    candidates = servers(5, 1, 1)
    got = "".join(name[7] for name in picks(RoundRobin(), candidates, 14))
    assert got == "0010200" * 2


def test_weights_that_rise_shift_the_share_at_once() -> None:
    strategy = RoundRobin()
    new, old = Candidate("new", 0.1), Candidate("old", 1.0)
    assert Counter(picks(strategy, (new, old), 110))["new"] == 10
    new.weight = 1.0
    assert Counter(picks(strategy, (old, new), 10)) == {"new": 5, "old": 5}


def test_gateways_that_start_together_do_not_all_begin_with_one_server() -> None:
    candidates = servers(1, 1, 1)
    first = Counter(picks(RoundRobin(random.Random(seed)), candidates, 1)[0] for seed in range(300))
    assert min(first.values()) > 60


def test_servers_that_went_are_forgotten() -> None:
    strategy = RoundRobin()
    for number in range(1000):
        strategy.pick((Candidate(f"a{number}"), Candidate(f"b{number}")), "")
    assert len(strategy._memory) <= 2 * 2 + MEMORY_SPARE + 2


@pytest.mark.parametrize("strategy", [Random(random.Random(1)), LeastRequests(random.Random(1))])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (3.0, 1.0), (0.1, 1.0, 10.0), (2.0,)])
def test_by_chance_in_proportion_to_weight(strategy: Strategy, weights: tuple[float, ...]) -> None:
    candidates = servers(*weights)
    got = Counter(picks(strategy, candidates, 20_000))
    for candidate in candidates:
        assert got[candidate.name] / 20_000 == pytest.approx(candidate.weight / sum(weights), abs=0.02)


def test_of_two_the_less_busy_for_its_weight() -> None:
    strategy = LeastRequests(random.Random(1))
    a, b = Candidate("a", 1.0, 5), Candidate("b", 1.0, 4)
    assert set(picks(strategy, (a, b), 50)) == {"b"}
    a.weight, a.in_flight = 2.0, 7
    assert set(picks(strategy, (a, b), 50)) == {"a"}


def test_the_busiest_of_many_is_never_picked_and_the_idle_one_not_always() -> None:
    candidates = servers(1, 1, 1, 1)
    for index, candidate in enumerate(candidates):
        candidate.in_flight = index
    got = Counter(picks(LeastRequests(random.Random(1)), candidates, 4000))
    assert got[candidates[3].name] == 0
    assert got[candidates[0].name] == pytest.approx(2000, abs=150)


@given(st.lists(st.integers(1, 4), min_size=2, max_size=6), st.integers(0, 5), st.text(max_size=8))
def test_a_key_moves_only_when_its_server_goes(weights: list[int], gone: int, key: str) -> None:
    candidates = servers(*weights)
    gone %= len(candidates)
    strategy = ConsistentHash()
    key = key or "jane"
    before = picks(strategy, candidates, 1, key)[0]
    rest = candidates[:gone] + candidates[gone + 1 :]
    after = picks(strategy, tuple(reversed(rest)), 1, key)[0]
    assert after == before or before == candidates[gone].name


def test_one_more_server_takes_its_share_of_keys_and_moves_no_other() -> None:
    few, many = servers(1, 1, 1), servers(1, 1, 1, 1)
    strategy = ConsistentHash()
    keys = [f"user-{number}" for number in range(4000)]
    moved = 0
    for key in keys:
        before, after = picks(strategy, few, 1, key), picks(strategy, many, 1, key)
        if before != after:
            moved += 1
            assert after == [many[3].name]
    assert moved / len(keys) == pytest.approx(1 / 4, abs=0.03)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (3.0, 1.0), (0.5, 2.0, 1.0)])
def test_keys_spread_in_proportion_to_weight(weights: tuple[float, ...]) -> None:
    candidates = servers(*weights)
    strategy = ConsistentHash()
    got = Counter(picks(strategy, candidates, 1, f"user-{number}")[0] for number in range(6000))
    for candidate in candidates:
        assert got[candidate.name] / 6000 == pytest.approx(candidate.weight / sum(weights), abs=0.03)


def test_edge_40_one_client_keeps_to_one_server_on_every_gateway() -> None:
    here, there = servers(1, 1, 1), tuple(reversed(servers(1, 1, 1)))
    for number in range(50):
        key = f"system:node:n{number}"
        assert len({*picks(ConsistentHash(), here, 5, key), *picks(ConsistentHash(), there, 5, key)}) == 1


def test_where_keys_are_hashed_to_never_changes() -> None:
    """Gateways of two versions run side by side during an upgrade, and must agree."""
    candidates = servers(1, 1, 1)
    names = ["jane", "root", "system:node:a", "system:serviceaccount:ci:builder", "ü"]
    assert [ConsistentHash().pick(candidates, name) for name in names] == [2, 1, 2, 1, 0]


def test_an_overrun_server_is_passed_over_for_the_next_in_order() -> None:
    candidates = servers(1, 1, 1)
    strategy = ConsistentHash()
    home = strategy.pick(candidates, "jane")
    candidates[home].in_flight = FLOOR - 1
    assert strategy.pick(candidates, "jane") == home  # a single busy key is not spread
    candidates[home].in_flight = FLOOR
    second = strategy.pick(candidates, "jane")
    assert second != home
    rest = candidates[:home] + candidates[home + 1 :]
    assert rest[strategy.pick(rest, "jane")].name == candidates[second].name
    for candidate in candidates:
        candidate.in_flight = 1000
    assert strategy.pick(candidates, "jane") == home  # nobody has more than the others


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 500)), min_size=2, max_size=5), st.text(min_size=1))
def test_load_stays_bounded_whatever_the_keys(load: list[tuple[int, int]], key: str) -> None:
    candidates = servers(*[weight for weight, _ in load])
    for candidate, (_, in_flight) in zip(candidates, load, strict=True):
        candidate.in_flight = in_flight
    picked = candidates[ConsistentHash().pick(candidates, key)]
    total, weights = sum(in_flight for _, in_flight in load), sum(weight for weight, _ in load)
    assert picked.in_flight < max(FLOOR, LOAD_MAX * (total + 1) * picked.weight / weights)


def test_requests_without_a_key_are_spread() -> None:
    got = Counter(picks(ConsistentHash(random.Random(1)), servers(1, 1), 1000))
    assert min(got.values()) > 400


def test_long_keys_hash_alike_and_are_not_remembered() -> None:
    long = "x" * (REMEMBERED_MAX + 1)
    assert digest(long) == digest(long)
    assert digest(long) != digest(long + "x")
    assert digest("\udc80") != digest("")  # a byte that was no UTF-8
