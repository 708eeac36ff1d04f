"""Counters of long-running requests: whom they count, that they never exceed a bound, that nothing is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.api.shapes import LongRunning
from wharf.gateway.limits.long_running import POD_UID, Bound, LongRunningCounts, OpenCount, long_running_key
from wharf.gateway.limits.outcome import user_key
from wharf.gateway.user import UNKNOWN, User

ACCOUNT = "system:serviceaccount:kube-system:proxy"


def pod(uid: str) -> User:
    return User(ACCOUNT, extra={POD_UID: (uid,)})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((User("alice"), ""), (User("alice", ("dev",)), ""), True),
        ((User("alice"), ""), (User("bob"), ""), False),
        ((UNKNOWN, "1"), (UNKNOWN, "1"), True),
        ((UNKNOWN, "1"), (UNKNOWN, "2"), False),
        ((UNKNOWN, "1"), (User("1"), ""), False),
        ((pod("a"), ""), (pod("a"), ""), True),
        ((pod("a"), ""), (pod("b"), ""), False),
        ((pod("a"), ""), (User(ACCOUNT), ""), False),
    ],
)
def test_what_counts_as_one_client(one: tuple[User, str], other: tuple[User, str], same: bool) -> None:
    keys = [long_running_key(user, user_key(user, token)) for user, token in (one, other)]
    assert (keys[0] == keys[1]) is same


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
        assert counts.users == len({one[0] for one in open_})
        assert counts.most == max((sum(one[0] == user for one in open_) for user in "abc"), default=0)
    for _, number, found in open_:
        counts.give(found, connections[number])
    assert counts.users == 0
    assert [one.open for one in connections] == [0, 0, 0]


def test_zero_is_unlimited_and_refusals_are_counted_by_bound() -> None:
    counts, connection = LongRunningCounts(), OpenCount()
    for _ in range(1000):
        assert isinstance(counts.take("a", connection, LongRunning(0, 0)), OpenCount)
    assert counts.take("a", connection, LongRunning(1000, 0)) is Bound.USER
    assert counts.take("b", connection, LongRunning(0, 1000)) is Bound.CONNECTION
    assert counts.refused == {Bound.USER: 1, Bound.CONNECTION: 1}
    assert counts.users == 1, "a refused user has no counter"
