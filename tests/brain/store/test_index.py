"""The ordered set of keys against a plain sorted list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.store._index import Index

KEYS = st.binary(max_size=3)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "discard"]), KEYS), max_size=60)


@given(st.lists(KEYS, unique=True).map(sorted), STEPS, KEYS, st.one_of(st.none(), KEYS), st.integers(0, 5))
def test_it_is_a_sorted_set(
    bulk: list[bytes], steps: list[tuple[str, bytes]], start: bytes, end: bytes | None, limit: int
) -> None:
    index, model = Index(), set(bulk)
    index.extend(bulk)
    for step, key in steps:
        changed = (key in model) != (step == "add")
        assert getattr(index, step)(key) is changed
        model.add(key) if step == "add" else model.discard(key)
    held = [key for key in sorted(model) if key >= start and (end is None or key < end)]
    assert len(index) == len(model)
    assert (start in index) == (start in model)
    assert index.rank(start) == sum(key < start for key in model)
    assert index.count(start, end) == len(held)
    assert index.slice(start, end, limit) == held[:limit]
    assert index.slice(start, end, limit, True) == held[::-1][:limit]
    assert list(index.keys(start, end)) == held
    assert list(index.keys(start, end, True)) == held[::-1]


def test_many_keys_in_every_order_of_arrival() -> None:
    names = [b"%05d" % (number * 7919 % 20_000) for number in range(20_000)]
    for order in (names, sorted(names), sorted(names, reverse=True)):
        index = Index()
        assert all(index.add(name) for name in order)
        assert not index.add(order[7])
        assert list(index.keys()) == sorted(names)
        assert [index.rank(name) for name in names[:100]] == [int(name) for name in names[:100]]


def test_removal_through_merges_keeps_ranks() -> None:
    names = [b"%05d" % (number * 7919 % 4000) for number in range(4000)]
    index = Index()
    index.extend(sorted(names))
    for removed, name in enumerate(names, 1):
        assert index.discard(name)
        if removed % 250 == 0:
            left = sorted(names[removed:])
            assert list(index.keys()) == left
            assert list(index.keys(reverse=True)) == left[::-1]
            assert index.count(b"01000", b"03000") == sum(b"01000" <= each < b"03000" for each in left)
    assert not index.discard(names[0])


def test_iteration_goes_on_while_keys_come_and_go_behind_it() -> None:
    index = Index()
    index.extend(b"%05d" % number for number in range(3000))
    seen = []
    for key in index.keys(b""):
        seen.append(key)
        index.discard(key)
    assert len(seen) == 3000
    assert len(index) == 0


def test_bulk_keys_must_ascend() -> None:
    index = Index()
    with pytest.raises(ValueError, match="ascend"):
        index.extend([b"b", b"a"])
    assert list(index.keys()) == [b"b"]
