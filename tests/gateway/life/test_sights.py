"""What a process sees of its clusters: over the line to its parent and back, and several made one."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.api.status import ServerSight, Sight
from wharf.gateway.life.sights import BadSights, Sights, details, encode_sights, merge_sights, parse_sights

NAMES = st.text(max_size=8)
SERVERS = st.builds(
    ServerSight,
    name=st.sampled_from("abc"),
    url=NAMES,
    healthy=st.booleans(),
    zone=NAMES,
    reason=NAMES,
    since=st.floats(0, 2e9),
    active_requests=st.integers(0, 9),
    watches=st.integers(0, 9),
)
SIGHTS = st.builds(
    Sight,
    instance=NAMES,
    generation=st.integers(0, 3),
    servers=st.lists(SERVERS, max_size=3, unique_by=lambda server: server.name).map(tuple),
    accepted=st.booleans(),
    reason=NAMES,
    problems=st.lists(NAMES, max_size=2).map(tuple),
)
VIEWS = st.dictionaries(st.sampled_from("xyz"), SIGHTS, max_size=3)


def server(name: str = "a", healthy: bool = True, **more: Any) -> ServerSight:
    return replace(ServerSight(name, f"https://{name}", healthy), **more)


def view(*servers: ServerSight, generation: int = 1) -> Sights:
    return {"prod": Sight("gw", generation, servers)}


@given(VIEWS)
def test_over_the_line_and_back(sights: Sights) -> None:
    assert parse_sights(encode_sights(sights)) == sights


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused(body: bytes) -> None:
    with contextlib.suppress(BadSights):
        parse_sights(body)


@pytest.mark.parametrize(
    "body",
    [b"", b"7", b"[]", b'{"a":7}', b'{"a":{"servers":7}}', b'{"a":{"servers":[{"nme":1}],"problems":[]}}', b"[" * 5000],
)
def test_bytes_of_the_wrong_form(body: bytes) -> None:
    with pytest.raises(BadSights, match="not a view"):
        parse_sights(body)


def test_a_server_is_healthy_when_every_worker_finds_it_so_and_the_reason_is_the_worse_ones() -> None:
    merged = merge_sights(
        [
            view(server(reason="Probed", since=1.0, active_requests=2, watches=3)),
            view(server(healthy=False, reason="ProbeFailed", since=5.0, active_requests=1)),
            view(server(reason="Probed", since=9.0, watches=4)),
        ]
    )
    (found,) = merged["prod"].servers
    assert found == server(healthy=False, reason="ProbeFailed", since=5.0, active_requests=3, watches=7)


def test_the_newer_generation_says_which_servers_there_are() -> None:
    older, newer = view(server("a"), server("gone")), view(server("a"), server("new"), generation=2)
    for views in ([older, newer], [newer, older]):
        merged = merge_sights(views)["prod"]
        assert merged.generation == 2
        assert [one.name for one in merged.servers] == ["a", "new"]


def test_clusters_that_one_worker_alone_knows_are_kept() -> None:
    assert merge_sights([{}, view(server()), {}]) == view(server())


@given(st.lists(VIEWS, max_size=4))
def test_merging_adds_up_and_invents_nothing(views: list[Sights]) -> None:
    merged = merge_sights(views)
    assert merged.keys() == {name for one in views for name in one}
    for name, sight in merged.items():
        of_it = [one[name] for one in views if name in one]
        assert sight.generation == max(one.generation for one in of_it)
        for found in sight.servers:
            said = [other for one in of_it for other in one.servers if other.name == found.name]
            assert found.watches <= sum(other.watches for other in said)
            assert found.healthy or not all(other.healthy for other in said)


def test_the_heartbeats_part_is_in_order_of_names() -> None:
    told = details({"b": Sight("gw", 1), "a": Sight("gw", 2, (server(),))})
    assert [cluster["name"] for cluster in told["clusters"]] == ["a", "b"]
    assert told["clusters"][0]["servers"][0]["healthy"] is True
