"""Passive health: how many failures eject a server, for how long, and that enough servers are kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.api import shapes
from wharf.gateway.upstreams.outliers import LOST_TOGETHER, Outcome, Record, may_eject, note

RULES = shapes.Outliers(consecutive_failures=3, eject=10.0, eject_max=60.0)


def after(marks: str, start: float = 0.0, step: float = 1.0, record: Record | None = None) -> Record:
    """+ good, - bad, l lost, . nothing; one each `step` seconds."""
    outcomes = {"+": Outcome.GOOD, "-": Outcome.BAD, "l": Outcome.LOST, ".": Outcome.NOTHING}
    record = record or Record()
    for index, mark in enumerate(marks):
        record = note(record, outcomes[mark], start + index * step, RULES, True)
    return record


@pytest.mark.parametrize(
    ("marks", "ejected"),
    [
        ("--", False),
        ("---", True),
        ("--+--", False),
        ("--.-", True),
        ("lll", True),
        ("-l-", True),
    ],
)
def test_edge_39_failures_in_a_row_leave_a_server_out(marks: str, ejected: bool) -> None:
    assert after(marks).ejected(len(marks)) is ejected


def test_streams_lost_with_one_connection_count_once() -> None:
    record = after("l" * 1000, step=LOST_TOGETHER / 2000)
    assert record.failures == 1
    assert after("l", 1.0, record=record).failures == 2


def test_what_was_under_way_when_it_was_ejected_does_not_prolong_it() -> None:
    record = after("---")
    assert record.until == 12.0
    assert after("-----", 3.0, record=record) == record


def test_each_time_is_twice_as_long_up_to_the_limit_and_good_time_forgives() -> None:
    record, now, lengths = Record(), 0.0, []
    for _ in range(5):
        record = after("---", now, 0.0, record)
        lengths.append(record.until - now)
        now = record.until
    assert lengths == [10.0, 20.0, 40.0, 60.0, 60.0]
    later = after("---", now + 35.0, 0.0, record)  # three times ten seconds
    assert later.until - (now + 35.0) == 40.0
    much_later = after("---", now + 3600.0, 0.0, record)
    assert much_later.until - (now + 3600.0) == 10.0


def test_where_too_few_would_be_left_the_next_failure_asks_again() -> None:
    record = Record()
    for second in range(10):
        record = note(record, Outcome.BAD, float(second), RULES, False)
    assert not record.ejected(10.0)
    assert note(record, Outcome.BAD, 11.0, RULES, True).ejected(11.0)


def test_it_can_be_switched_off() -> None:
    off = shapes.Outliers(consecutive_failures=0)
    assert note(Record(), Outcome.BAD, 0.0, off, True) == Record()


@pytest.mark.parametrize(
    ("out", "servers", "share", "allowed"),
    [
        (0, 1, 0.5, False),
        (0, 2, 0.5, True),
        (1, 2, 0.5, False),
        (0, 3, 0.5, True),
        (1, 3, 0.5, False),
        (0, 3, 0.0, False),
        (2, 3, 1.0, True),
        (0, 3, 1 / 3, True),
    ],
)
def test_how_many_may_be_left_out(out: int, servers: int, share: float, allowed: bool) -> None:
    assert may_eject(out, servers, share) is allowed


@given(st.lists(st.tuples(st.sampled_from("+-l."), st.floats(0, 100), st.booleans()), max_size=60))
def test_an_ejection_is_never_longer_than_the_limit(history: list[tuple[str, float, bool]]) -> None:
    outcomes = {"+": Outcome.GOOD, "-": Outcome.BAD, "l": Outcome.LOST, ".": Outcome.NOTHING}
    record, now = Record(), 0.0
    for mark, pause, may in history:
        now += pause
        record = note(record, outcomes[mark], now, RULES, may)
        assert record.until - now <= RULES.eject_max
        assert record.failures >= 0
