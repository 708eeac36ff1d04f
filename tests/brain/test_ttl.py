"""Leases on the clock of served seconds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.errors import LeaseExists, LeaseNotFound, LeaseTtlTooLarge
from wharf.brain.store.ttl import MAX_TTL, Lease, LeaseTable, encode_lease, parse_lease

Undo = list[Callable[[], None]]


def granted(ttl: int = 10, lease_id: int = 1, now: int = 0) -> LeaseTable:
    table = LeaseTable()
    table.grant(lease_id, ttl, now, [])
    return table


def test_a_lease_lives_its_ttl() -> None:
    table = granted(ttl=10, now=500)
    assert table.next_deadline() == 10_500
    assert table.expired(10_499, 9) == []
    assert table.expired(10_500, 9) == [1]


@pytest.mark.parametrize("ttl", [-5, 0, 1])
def test_a_short_ttl_is_raised_to_etcds_minimum(ttl: int) -> None:
    assert granted(ttl).get(1).ttl == 2


def test_the_longest_ttl_is_granted_and_no_longer_one() -> None:
    assert granted(MAX_TTL).get(1).ttl == 9_000_000_000
    with pytest.raises(LeaseTtlTooLarge):
        granted(MAX_TTL + 1)


def test_an_id_is_granted_once() -> None:
    table = granted()
    with pytest.raises(LeaseExists):
        table.grant(1, 5, 0, [])


def test_too_large_a_ttl_is_told_before_the_id_is_looked_up() -> None:
    with pytest.raises(LeaseTtlTooLarge):
        granted().grant(1, MAX_TTL + 1, 0, [])


def test_renewing_gives_the_whole_ttl_again() -> None:
    table = granted(ttl=10)
    assert table.renew(1, 7_000).deadline == 17_000
    assert table.expired(16_999, 9) == []
    assert table.next_deadline() == 17_000


def test_a_lease_that_is_over_cannot_be_renewed() -> None:
    with pytest.raises(LeaseNotFound):
        granted(ttl=10).renew(1, 10_000)


def test_remaining_time_is_told_in_whole_seconds_and_never_below_zero() -> None:
    table = granted(ttl=10)
    table.move(b"b", 0, 1, [])
    table.move(b"a", 0, 1, [])
    left = table.time_to_live(1, 100)
    assert (left.ttl, left.granted_ttl, left.keys) == (9, 10, (b"a", b"b"))
    assert table.time_to_live(1, 99_000).ttl == 0
    gone = table.time_to_live(2, 0)
    assert (gone.ttl, gone.granted_ttl, gone.keys) == (-1, 0, ())


def test_a_key_belongs_to_one_lease() -> None:
    table = granted(lease_id=1)
    table.grant(2, 10, 0, [])
    table.move(b"k", 0, 1, [])
    table.move(b"k", 1, 2, [])
    assert (table.get(1).keys, table.get(2).keys) == (set(), {b"k"})


def test_leases_are_listed_by_deadline() -> None:
    table = granted(ttl=30, lease_id=1)
    table.grant(2, 10, 0, [])
    table.grant(3, 20, 0, [])
    assert table.by_deadline() == [2, 3, 1]


def test_a_lease_taken_back_is_no_lease() -> None:
    table, undo = LeaseTable(), Undo()
    table.grant(1, 10, 0, undo)
    undo.pop()()
    assert not table.holds(1)
    assert table.next_deadline() is None


def test_a_removal_taken_back_restores_lease_keys_and_deadline() -> None:
    table, undo = granted(), Undo()
    table.move(b"k", 0, 1, [])
    table.remove(1, undo)
    table.move(b"k", 1, 0, undo)
    for step in reversed(undo):
        step()
    assert table.get(1).keys == {b"k"}
    assert table.expired(10_000, 9) == [1]


def test_expired_leases_stay_until_they_are_removed() -> None:
    table = granted()
    assert table.expired(20_000, 9) == [1]
    assert table.expired(20_000, 9) == [1]
    table.remove(1, [])
    assert table.expired(20_000, 9) == []


def test_expiry_is_taken_in_bounded_portions() -> None:
    table = LeaseTable()
    for lease_id in range(1, 6):
        table.grant(lease_id, 10 - lease_id, 0, [])
    assert table.expired(20_000, 2) == [5, 4]


def test_the_stored_record_is_the_lease_without_its_keys() -> None:
    lease = Lease(-7, 30, 123_456, {b"k"})
    assert parse_lease(-7, encode_lease(lease)) == Lease(-7, 30, 123_456)


STEPS = st.lists(
    st.tuples(st.sampled_from(["grant", "renew", "remove", "undo"]), st.integers(1, 4), st.integers(2, 20)), max_size=30
)


@given(STEPS)
def test_the_next_deadline_is_the_smallest_whatever_happened(steps: list[tuple[str, int, int]]) -> None:
    table, undo, now = LeaseTable(), Undo(), 0
    for what, lease_id, number in steps:
        now += 500
        try:
            if what == "grant":
                table.grant(lease_id, number, now, undo)
            elif what == "renew":
                table.renew(lease_id, now)
            elif what == "remove":
                table.remove(lease_id, undo)
            elif undo:
                undo.pop()()
        except (LeaseExists, LeaseNotFound):
            continue
        deadlines = [table.get(other).deadline for other in range(1, 5) if table.holds(other)]
        assert table.next_deadline() == (min(deadlines) if deadlines else None)
        due = {other for other in range(1, 5) if table.holds(other) and table.get(other).deadline <= now}
        assert set(table.expired(now, 9)) == due
