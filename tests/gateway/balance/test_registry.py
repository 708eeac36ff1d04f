"""Strategies are plugins: found by name, and a wrong name says which there are."""

from __future__ import annotations

import pytest
from wharf.gateway.balance.base import Candidate
from wharf.gateway.balance.registry import UnknownStrategy, load_strategies, make_strategy
from wharf.gateway.balance.strategies import RoundRobin

OWN = ("ConsistentHash", "LeastRequests", "Random", "RoundRobin")


def test_the_gateway_brings_four() -> None:
    assert set(OWN) <= set(load_strategies())


@pytest.mark.parametrize("name", OWN)
def test_each_picks_from_one_server(name: str) -> None:
    assert make_strategy(name).pick((Candidate("a"),), "key") == 0


def test_every_policy_has_an_instance_of_its_own() -> None:
    first, second = make_strategy("RoundRobin"), make_strategy("RoundRobin")
    assert isinstance(first, RoundRobin)
    assert first is not second


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownStrategy, match=r"'Roundrobin'; there are ConsistentHash, LeastRequests") as raised:
        make_strategy("Roundrobin")
    assert raised.value.name == "Roundrobin"
    assert set(OWN) <= set(raised.value.known)
