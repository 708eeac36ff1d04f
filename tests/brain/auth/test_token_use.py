"""A token ends after its time to live without a use, on whichever node it was used."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.auth import token_use
from wharf.brain.auth.token_use import PREFIX, RECORD_SHARE, TokenUses, UseRecords, parse_time

TTL = 100.0
SHARE = RECORD_SHARE * TTL
TOKEN, OTHER = b"t" * 16, b"o" * 16


class Cluster:
    """Nodes that share records."""

    def __init__(self, nodes: int = 2) -> None:
        self.records: dict[bytes, bytes] = {}
        self.written: list[float] = []
        self.fails = False
        self.nodes = [TokenUses(TTL, self.records.get, self._record) for _ in range(nodes)]
        self.leader = UseRecords(self.nodes[0], TTL, lambda: self.records)

    def _record(self, token_id: bytes, at: float) -> None:
        self.written.append(at)
        if self.fails:
            return
        for key, value in list(self.leader.changes(token_id, at)):
            if value is None:
                del self.records[key]
            else:
                self.records[key] = value

    def restart(self) -> None:
        self.nodes = [TokenUses(TTL, self.records.get, self._record) for _ in self.nodes]


def test_a_token_that_is_not_used_ends() -> None:
    assert Cluster().nodes[0].use(TOKEN, 0.0, TTL - 1)
    assert not Cluster().nodes[0].use(TOKEN, 0.0, TTL + SHARE)


def test_each_use_extends_a_token_on_every_node() -> None:
    cluster = Cluster()
    at = 0.0
    while at < 20 * TTL:
        at += TTL - 1
        assert cluster.nodes[0].use(TOKEN, 0.0, at)
    assert cluster.nodes[1].use(TOKEN, 0.0, at + TTL - 1), "the other node has never seen the token"
    cluster.restart()
    assert cluster.nodes[0].use(TOKEN, 0.0, at + 2 * TTL - 3)
    assert not cluster.nodes[0].use(TOKEN, 0.0, at + 4 * TTL)


@given(st.integers(0, 2**32), st.lists(st.floats(0.1, TTL - 0.1), min_size=1, max_size=60))
def test_no_token_ends_earlier_than_its_time_to_live_after_a_use(seed: int, gaps: list[float]) -> None:
    cluster, at, choice = Cluster(3), 0.0, random.Random(seed)
    for gap in gaps:
        at += gap
        assert choice.choice(cluster.nodes).use(TOKEN, 0.0, at)
    assert not choice.choice(cluster.nodes).use(TOKEN, 0.0, at + TTL + SHARE + 0.1)


def test_uses_are_recorded_a_few_times_in_a_time_to_live() -> None:
    cluster = Cluster()
    for step in range(1000):
        assert cluster.nodes[step % 2].use(TOKEN, 0.0, step / 10)
    assert len(cluster.written) <= 2 / RECORD_SHARE


def test_a_node_whose_uses_cannot_be_recorded_goes_on_by_its_own() -> None:
    cluster = Cluster()
    cluster.fails = True
    for step in range(1000):
        assert cluster.nodes[0].use(TOKEN, 0.0, float(step))
    assert len(cluster.written) <= 1000 / SHARE


def test_records_of_tokens_that_are_over_go() -> None:
    cluster = Cluster()
    assert cluster.nodes[0].use(OTHER, 0.0, SHARE)
    assert cluster.nodes[0].use(TOKEN, 500.0, 500.0 + SHARE)
    assert set(cluster.records) == {PREFIX + TOKEN}
    assert parse_time(cluster.records[PREFIX + TOKEN]) == 500.0 + SHARE


def test_a_node_remembers_a_bounded_number_of_tokens() -> None:
    cluster = Cluster()
    for number in range(token_use.MAX_REMEMBERED + 10):
        cluster.nodes[0].use(b"%016d" % number, 0.0, 1.0)
    assert len(cluster.nodes[0]._uses) == token_use.MAX_REMEMBERED
