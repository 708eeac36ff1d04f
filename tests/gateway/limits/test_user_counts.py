"""Counters by user: whom they count, that they never exceed their bound, that nothing is kept."""

from __future__ import annotations

import pytest
from wharf.gateway.limits.outcome import user_key
from wharf.gateway.limits.user_counts import POD_UID, UserCounts, counting_key
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
    keys = [counting_key(user, user_key(user, token)) for user, token in (one, other)]
    assert (keys[0] == keys[1]) is same


def test_a_user_is_refused_at_the_bound_and_others_are_not() -> None:
    counts = UserCounts()
    open_ = [counts.take("a", 2), counts.take("a", 2)]
    assert counts.take("a", 2) is None
    other = counts.take("b", 2)
    assert other is not None
    assert (counts.users, counts.most) == (2, 2)
    for one in open_:
        assert one is not None
        counts.give(one)
    assert (counts.users, counts.most) == (1, 1)
    again = counts.take("a", 2)
    assert again is not None, "its places are free again"
    counts.give(again)
    counts.give(other)
    assert (counts.users, counts.most) == (0, 0)


def test_zero_is_unlimited() -> None:
    counts = UserCounts()
    assert None not in [counts.take("a", 0) for _ in range(1000)]
    assert counts.most == 1000
