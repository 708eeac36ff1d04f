"""Counters of long-running requests: that they never exceed a bound, that nothing is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.api.shapes import LongRunning
from wharf.gateway.limits.long_running import Bound, LongRunningCounts
from wharf.gateway.limits.user_counts import OpenCount


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.booleans()), max_size=60))
def test_a_request_is_refused_exactly_at_a_bound_and_nothing_stays_behind(steps: list[tuple[str, int, bool]]) -> None:
    limits = LongRunning(per_user_max=4, per_connection_max=3)
    counts, connections = LongRunningCounts(), [OpenCount() for _ in range(3)]
    open_: list[tuple[str, int, OpenCount]] = []
    for user, number, begins in steps:
        mine = [one for one in open_ if one[0] == user]
        here = [one for one in open_ if one[1] == number]
        if begins:
            found = counts.take(user, connections[number], limits)
            if len(here) == 3:
                assert found is Bound.CONNECTION
            elif len(mine) == 4:
                assert found is Bound.USER
            else:
                assert isinstance(found, OpenCount)
                open_.append((user, number, found))
        elif here:
            open_.remove(here[0])
            counts.give(here[0][2], connections[number])
        assert counts.by_user.users == len({one[0] for one in open_})
        assert counts.by_user.most == max((sum(one[0] == user for one in open_) for user in "abc"), default=0)
    for _, number, found in open_:
        counts.give(found, connections[number])
    assert counts.by_user.users == 0
    assert [one.open for one in connections] == [0, 0, 0]


def test_zero_is_unlimited_and_refusals_are_counted_by_bound() -> None:
    counts, connection = LongRunningCounts(), OpenCount()
    for _ in range(1000):
        assert isinstance(counts.take("a", connection, LongRunning(0, 0)), OpenCount)
    assert counts.take("a", connection, LongRunning(1000, 0)) is Bound.USER
    assert counts.take("b", connection, LongRunning(0, 1000)) is Bound.CONNECTION
    assert counts.refused == {Bound.USER: 1, Bound.CONNECTION: 1}
    assert counts.by_user.users == 1, "a refused user has no counter"
