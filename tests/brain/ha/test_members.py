"""Members as they are written down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.api.members import Alone, Member, encode_members, member_id_of, parse_members

URLS = st.lists(st.text(min_size=1, max_size=8), max_size=2).map(tuple)
MEMBERS = st.lists(
    st.builds(Member, st.integers(1, 2**63), st.text(max_size=8), URLS, URLS), unique_by=lambda member: member.member_id
)


@given(MEMBERS)
def test_what_is_written_is_read_in_order_of_ids(members: list[Member]) -> None:
    stored = encode_members(members)
    assert parse_members(stored) == tuple(sorted(members, key=lambda member: member.member_id))
    assert encode_members(reversed(members)) == stored


def test_nothing_written_is_nobody() -> None:
    assert parse_members(None) == ()


@pytest.mark.parametrize("stored", [b"", b"{}x", b'[{"member_id": 1}]', b"[1]", b"5"])
def test_what_is_no_list_of_members_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_members(stored)


def test_a_node_is_the_same_member_after_a_restart_and_another_one_elsewhere() -> None:
    assert member_id_of(7, "n1") == member_id_of(7, "n1")
    assert len({member_id_of(7, "n1"), member_id_of(7, "n2"), member_id_of(8, "n1"), 0}) == 4


def test_a_cluster_of_one_leads_itself() -> None:
    alone = Alone(Member(5, "n"), 2)
    assert (alone.leader_id, alone.term, alone.members()) == (5, 2, (Member(5, "n"),))
    assert alone.is_connected(5)
    assert not alone.is_connected(6)
    assert alone.remove(5) == alone.members()
