"""Counts of the past from births and deaths, against counting; bounded whatever happens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.store.churn import TRACKERS, Change, Churn

KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])


def history(keys: list[bytes]) -> tuple[list[Change], list[set[bytes]]]:
    """Each step flips one key: the changes and the live keys of every revision, from revision 1."""
    live: set[bytes] = set()
    states: list[set[bytes]] = [set(), set()]
    changes = []
    for revision, key in enumerate(keys, 2):
        changes.append((revision, key, key not in live))
        live ^= {key}
        states.append(set(live))
    return changes, states


@given(st.lists(KEYS, max_size=40), st.integers(1, 6), st.lists(st.tuples(st.integers(1, 40), KEYS, KEYS), max_size=10))
def test_gained_is_the_difference_of_counts(
    keys: list[bytes], most: int, asked: list[tuple[int, bytes, bytes]]
) -> None:
    changes, states = history(keys)
    churn = Churn(1, most)
    for number, change in enumerate(changes):
        churn.record([change])
        now = number + 2
        for revision, start, end in asked:
            if revision > now:
                continue
            gained = churn.gained(revision, start, end)
            if gained is None:
                assert revision < churn.floor
                continue
            counts = [sum(start <= key < end for key in states[at]) for at in (now, revision)]
            assert gained == counts[0] - counts[1]


def test_a_pinned_revision_stays_known_while_it_is_asked_for() -> None:
    changes, _ = history([b"%d" % number for number in range(1000)])
    churn = Churn(1, most=10)
    churn.record(changes[:500])
    churn.pin(501)
    for number, change in enumerate(changes[500:]):
        churn.record([change])
        assert churn.gained(501, b"", None) == number + 1
    assert churn.gained(2, b"", None) is None


def test_memory_is_bounded() -> None:
    churn = Churn(1, most=10)
    for revision in range(2, 2000):
        churn.record([(revision, b"%d" % revision, True)])
        churn.pin(revision)
    assert len(churn._changes) <= 20
    assert len(churn._trackers) == TRACKERS
