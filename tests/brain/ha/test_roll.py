"""The roll of members: one list, whoever joins or leaves while it is on its way into the store."""

from __future__ import annotations

from typing import Any

import pytest
from wharf.brain.api.members import Member, member_id_of, parse_members
from wharf.brain.ha.limits import MOST_MEMBERS
from wharf.brain.ha.roll import FORGET, Roll, refusal
from wharf.common.pb.control import control_pb2 as control

A, B, C = Member(1, "a"), Member(2, "b"), Member(3, "c")


class Book:
    def __init__(self) -> None:
        self.written: list[bytes | None] = []
        self.roll = Roll(A, lambda changes, _: self.written.append(changes[0][1]))

    def last(self) -> set[str]:
        return {member.name for member in parse_members(self.written[-1])}


def test_two_who_join_at_once_are_both_written_down() -> None:
    book = Book()
    book.roll.lead(0.0)
    book.roll.joined(B)
    book.roll.joined(C)
    assert book.last() == {"a", "b", "c"}
    assert book.roll.members() == (A,), "shown only once the store shows it"
    book.roll.read(book.written[-1])
    assert set(book.roll.members()) == {A, B, C}
    book.roll.joined(B)
    assert len(book.written) == 3, "who is listed already is not written again"


def test_who_stays_away_is_forgotten_and_who_comes_back_is_not() -> None:
    book = Book()
    book.roll.lead(0.0)
    book.roll.joined(B)
    book.roll.joined(C)
    book.roll.left(2, 10.0)
    book.roll.left(3, 10.0)
    book.roll.joined(C)
    book.roll.forget(10.0 + FORGET, lambda _: False)
    assert book.last() == {"a", "b", "c"}
    book.roll.forget(10.1 + FORGET, lambda _: False)
    assert book.last() == {"a", "c"}


def test_an_older_session_that_ends_late_strikes_nobody_off() -> None:
    book = Book()
    book.roll.lead(0.0)
    book.roll.joined(B)
    book.roll.left(2, 10.0)
    book.roll.forget(11.0 + FORGET, lambda member_id: member_id == 2)
    assert book.last() == {"a", "b"}


def test_a_new_leader_gives_everybody_time_to_come() -> None:
    book = Book()
    book.roll.lead(0.0)
    book.roll.joined(B)
    book.roll.read(book.written[-1])
    book.roll.lead(1000.0)
    book.roll.forget(1000.0 + FORGET, lambda _: False)
    assert book.last() == {"a", "b"}
    book.roll.forget(1001.0 + FORGET, lambda _: False)
    assert book.last() == {"a"}


def test_a_list_that_cannot_be_read_changes_nothing() -> None:
    book = Book()
    book.roll.read(b"{")
    assert book.roll.members() == (A,)


def test_the_list_has_an_end_and_who_left_first_makes_room() -> None:
    book = Book()
    book.roll.lead(0.0)
    for number in range(2, MOST_MEMBERS + 1):
        assert book.roll.joined(Member(number, f"m{number}"))
    assert not book.roll.joined(Member(1000, "one more"))
    assert len(book.last()) == MOST_MEMBERS
    book.roll.left(5, 1.0)
    book.roll.left(3, 2.0)
    book.roll.left(9999, 2.0)
    assert book.roll.joined(Member(1000, "one more"))
    assert "m5" not in book.last()
    assert {"m3", "one more"} < book.last()


def hello(name: str = "b", cluster_id: int = 7, **others: Any) -> control.Hello:
    member_id = others.pop("member_id", member_id_of(cluster_id, name))
    return control.Hello(cluster_id=cluster_id, member_id=member_id, name=name, **others)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (hello(), ""),
        (hello(cluster_id=8), "this is cluster 7, not 8"),
        (hello(member_id=3), "is not the member called 'b'"),
        (hello("me"), "another node is called 'me' already"),
        (hello("there", instance=b"2"), "another node is called 'there' already"),
        (hello("there", instance=b"1"), ""),
        (hello("n" * 257), "a name has at most"),
        (hello(client_urls=["u"] * 9, peer_urls=["u"] * 8), "a node 16 URLs"),
        (hello(client_urls=["u" * 1025]), "of 1024"),
    ],
)
def test_who_may_join(said: control.Hello, why: str) -> None:
    refused = refusal(said, 7, member_id_of(7, "me"), [hello("there", instance=b"1")])
    assert why in refused
    assert bool(refused) is bool(why)
