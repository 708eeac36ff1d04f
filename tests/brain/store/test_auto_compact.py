"""etcd's rules for automatic compaction, by the minute."""

from __future__ import annotations

import pytest
from wharf.brain.store.auto_compact import AutoCompaction, ByRevision, Periodic

MINUTE = 60.0


def run(plan: AutoCompaction, looks: int, speed: int) -> list[tuple[float, int]]:
    """(time, revision) of the compactions when `speed` revisions pass between looks and every compaction succeeds."""
    done = []
    for number in range(1, looks + 1):
        now = number * plan.interval
        target = plan.look(now, 1 + number * speed)
        if target is not None:
            plan.succeeded(now, target)
            done.append((now, target))
    return done


def test_ten_minutes_are_kept_and_compacted_every_ten_minutes() -> None:
    plan = Periodic(10 * MINUTE, 0.0, 1)
    assert plan.interval == MINUTE
    assert run(plan, 40, 100) == [(10 * MINUTE, 1), (20 * MINUTE, 901), (30 * MINUTE, 1901), (40 * MINUTE, 2901)]


def test_five_hours_are_kept_and_compacted_hourly_after_the_first_five() -> None:
    plan = Periodic(300 * MINUTE, 0.0, 1)
    assert plan.interval == 6 * MINUTE
    done = run(plan, 70, 1)
    assert [now / MINUTE for now, _ in done] == [300, 360, 420]
    assert [target for _, target in done] == [1, 10, 20]


def test_nothing_new_is_nothing_to_compact() -> None:
    plan = Periodic(10 * MINUTE, 0.0, 1)
    assert run(plan, 40, 0) == [(10 * MINUTE, 1)]


def test_a_failed_compaction_is_tried_again_at_the_next_look() -> None:
    plan = Periodic(10 * MINUTE, 0.0, 1)
    for number in range(1, 10):
        assert plan.look(number * MINUTE, 1 + number) is None
    assert plan.look(10 * MINUTE, 11) == 1
    assert plan.look(11 * MINUTE, 12) == 1
    assert plan.look(12 * MINUTE, 13) == 2
    plan.succeeded(12 * MINUTE, 2)
    assert plan.look(13 * MINUTE, 14) is None


def test_by_revision_keeps_so_many() -> None:
    plan = ByRevision(100)
    assert plan.interval == 5 * MINUTE
    assert plan.look(0, 100) is None
    assert plan.look(0, 150) == 50
    assert plan.look(0, 150) == 50
    plan.succeeded(0, 50)
    assert plan.look(0, 150) is None
    assert plan.look(0, 151) == 51


@pytest.mark.parametrize("period", [5.0, 59 * MINUTE, 24 * 60 * MINUTE])
def test_history_kept_is_never_shorter_than_asked(period: float) -> None:
    plan = Periodic(period, 0.0, 1)
    for now, target in run(plan, 400, 1):
        assert now - (target - 1) * plan.interval >= period * 0.999
