"""History is kept for as long as was asked for, and not much longer."""

from __future__ import annotations

from wharf.brain.autocompact import PeriodicSchedule, RevisionSchedule, Schedule, plan_schedule
from wharf.brain.config import Retention


def compactions(schedule: Schedule, until: float) -> list[tuple[float, int]]:
    """(time, revision) of every compaction, when the revision equals the time in seconds."""
    found = []
    turns = 1
    while (now := turns * schedule.interval) <= until:
        target = schedule.turn(now, int(now))
        if target is not None:
            schedule.succeeded(now, target)
            found.append((now, target))
        turns += 1
    return found


def test_a_short_period_is_kept_and_compacted_every_period() -> None:
    assert compactions(PeriodicSchedule(600, 0, 1), 1800) == [(600, 1), (1200, 540), (1800, 1140)]


def test_nothing_is_compacted_in_the_first_period() -> None:
    assert compactions(PeriodicSchedule(600, 0, 1), 540) == []


def test_a_long_period_is_compacted_every_hour() -> None:
    found = compactions(PeriodicSchedule(7200, 0, 1), 14400)
    assert [now for now, _ in found] == [7200, 10800, 14400]
    assert all(7200 <= now - revision <= 7200 + 360 for now, revision in found[1:])


def test_the_same_revision_is_not_compacted_twice() -> None:
    schedule = PeriodicSchedule(10, 0, 5)
    assert schedule.turn(10, 5) == 5
    schedule.succeeded(10, 5)
    assert schedule.turn(20, 5) is None


def test_a_failed_compaction_is_tried_at_the_next_turn() -> None:
    schedule = PeriodicSchedule(10, 0, 5)
    assert schedule.turn(10, 5) == 5
    assert schedule.turn(11, 5) == 5


def test_revisions_are_counted_from_the_newest() -> None:
    schedule = RevisionSchedule(100)
    assert schedule.interval == 300
    assert schedule.turn(300, 100) is None
    assert schedule.turn(600, 150) == 50
    schedule.succeeded(600, 50)
    assert schedule.turn(900, 150) is None


def test_retention_chooses_the_schedule() -> None:
    assert plan_schedule(Retention(), 0, 1) is None
    assert isinstance(plan_schedule(Retention(seconds=60), 0, 1), PeriodicSchedule)
    assert isinstance(plan_schedule(Retention(revisions=9), 0, 1), RevisionSchedule)
