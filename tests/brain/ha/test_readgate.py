"""Reads on a follower: one question for many, and never an answer from before the read began."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.ha.readgate import Point, ReadGate


class Gate:
    """A gate and what it has said."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.wanted: list[Point] = []
        self.told: dict[str, bool] = {}
        self.gate = ReadGate(self.asked.append, self.wanted.append)

    def read(self, name: str) -> None:
        def done(shown: bool) -> None:
            assert name not in self.told, "told twice"
            self.told[name] = shown

        self.gate.read(done)


def test_a_read_that_comes_while_a_question_is_under_way_joins_the_next_one() -> None:
    gate = Gate()
    gate.read("a")
    gate.read("b")
    gate.read("c")
    assert gate.asked == [1]
    gate.gate.shown(Point(9))
    gate.gate.answered(1, Point(5))
    assert gate.told == {"a": True}
    assert gate.asked == [1, 2]
    gate.gate.answered(2, Point(6))
    assert gate.told == {"a": True, "b": True, "c": True}


def test_a_read_waits_until_the_node_shows_what_the_leader_said() -> None:
    gate = Gate()
    gate.gate.shown(Point(4))
    gate.read("a")
    gate.gate.answered(1, Point(7))
    assert (gate.told, gate.wanted, gate.gate.due) == ({}, [Point(7)], Point(7))
    gate.gate.shown(Point(6))
    assert not gate.told
    gate.gate.shown(Point(7))
    assert gate.told == {"a": True}
    assert gate.gate.due is None


def test_a_read_waits_for_changes_of_users_that_were_acknowledged_before_it() -> None:
    gate = Gate()
    gate.gate.shown(Point(9, 3, 4))
    gate.read("a")
    gate.gate.answered(1, Point(9, 3, 5))
    gate.gate.shown(Point(10, 3, 4))
    assert not gate.told
    gate.gate.shown(Point(10, 3, 5))
    assert gate.told == {"a": True}


def test_a_read_waits_for_a_compaction_that_was_acknowledged_before_it() -> None:
    gate = Gate()
    gate.gate.shown(Point(9, 3))
    gate.read("a")
    gate.gate.answered(1, Point(9, 5))
    gate.gate.shown(Point(10, 3))
    assert not gate.told
    gate.gate.shown(Point(10, 5))
    assert gate.told == {"a": True}


def test_a_leader_that_cannot_prove_itself_answers_nobody() -> None:
    gate = Gate()
    gate.read("a")
    gate.read("b")
    gate.gate.answered(1, None)
    assert gate.told == {"a": False}
    gate.gate.lost()
    assert gate.told == {"a": False, "b": False}
    assert len(gate.gate) == 0


def test_an_answer_to_a_question_of_a_broken_session_is_passed_over() -> None:
    gate = Gate()
    gate.read("a")
    gate.gate.lost()
    gate.read("b")
    gate.gate.answered(1, Point(100))
    assert gate.told == {"a": False}
    gate.gate.answered(2, Point(0))
    assert gate.told == {"a": False, "b": True}


def test_giving_up_tells_everybody() -> None:
    gate = Gate()
    gate.read("a")
    gate.gate.answered(1, Point(50))
    gate.read("b")
    gate.gate.give_up()
    assert gate.told == {"a": False, "b": False}


Step = st.one_of(
    st.just(("read",)), st.just(("answer",)), st.just(("refuse",)), st.just(("lost",)), st.just(("show",)),
    st.just(("write",)),
)  # fmt: skip


@given(st.lists(Step, max_size=60))
def test_whoever_may_read_is_shown_everything_acknowledged_before_it_came(story: list[tuple[str]]) -> None:
    published = shown = 0
    needs: dict[str, int] = {}
    at_ask: dict[int, int] = {}
    gate = Gate()
    gate.gate = ReadGate(lambda token: at_ask.update({token: published}), lambda _: None)
    for (what,) in story:
        if what == "read":
            name = f"r{len(needs)}"
            needs[name] = published
            gate.read(name)
        elif what == "write":
            published += 1
        elif what == "answer" and gate.gate.token:
            gate.gate.answered(gate.gate.token, Point(max(at_ask[gate.gate.token], published)))
        elif what == "refuse" and gate.gate.token:
            gate.gate.answered(gate.gate.token, None)
        elif what == "lost":
            gate.gate.lost()
        elif what == "show" and shown < published:
            before = {name for name, told in gate.told.items() if told}
            shown += 1
            gate.gate.shown(Point(shown))
            for name, told in gate.told.items():
                if told and name not in before:
                    assert needs[name] <= shown
    gate.gate.give_up()
    assert set(gate.told) == set(needs)
