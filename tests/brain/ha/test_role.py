"""The table of roles: what may follow what, and what must be done on the way."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.ha.role import NEXT, Do, Happened, Role, step

ACKNOWLEDGES = {Role.LEADING, Role.RESIGNING}


def test_leading_comes_only_from_a_promotion() -> None:
    ways = {role for (role, _), (to, _) in NEXT.items() if to is Role.LEADING}
    assert ways == {Role.PROMOTING}


def test_who_leads_no_more_drops_what_it_was_doing_and_follows() -> None:
    for (role, happened), (to, todo) in NEXT.items():
        if role in ACKNOWLEDGES and to is Role.FOLLOWING:
            assert todo[0] is Do.DROP, (role, happened)
            assert todo[-1] is Do.FOLLOW, (role, happened)


def test_a_lease_is_marked_handed_over_only_after_everything_was_dropped() -> None:
    for (role, happened), (_, todo) in NEXT.items():
        if Do.RELEASE in todo:
            assert todo.index(Do.DROP) < todo.index(Do.RELEASE), (role, happened)


@pytest.mark.parametrize(
    ("role", "happened"),
    sorted(set(itertools.product(Role, Happened)) - set(NEXT), key=str),
    ids=lambda value: value.name,
)
def test_what_cannot_happen_is_a_defect(role: Role, happened: Happened) -> None:
    with pytest.raises(KeyError):
        step(role, happened)


@given(st.lists(st.sampled_from(Happened), max_size=30))
def test_a_promotion_stands_before_every_lead_and_a_drop_after_it(story: list[Happened]) -> None:
    role, promoted, leading = Role.FOLLOWING, False, False
    for happened in story:
        if (role, happened) not in NEXT:
            continue
        role, todo = step(role, happened)
        for each in todo:
            if each is Do.PROMOTE:
                promoted = True
            elif each is Do.LEAD:
                assert promoted
                assert not leading
                promoted, leading = False, True
            elif each is Do.DROP:
                assert leading
                leading = False
        assert leading == (role in ACKNOWLEDGES)
