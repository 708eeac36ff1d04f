"""History is compacted by itself as the flags say. The schedules have their own tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from wharf.brain.autocompact import plan_autocompact, run_autocompact
from wharf.brain.config_rules import Retention
from wharf.brain.errors import BrainError, TooManyRequests
from wharf.brain.store.auto_compact import ByRevision, Periodic


class FakeStore:
    """Refuses the first compaction, takes the others."""

    revision = 10
    leads = True

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.compacted = asyncio.Event()

    def compact(self, revision: int, physical: bool, done: Callable[[BrainError | None], None]) -> None:
        self.asked.append(revision)
        if len(self.asked) == 1:
            done(TooManyRequests())
        else:
            done(None)
            self.compacted.set()


def test_retention_chooses_the_schedule() -> None:
    assert plan_autocompact(Retention(), 0, 1) is None
    assert isinstance(plan_autocompact(Retention(seconds=60), 0, 1), Periodic)
    assert isinstance(plan_autocompact(Retention(revisions=9), 0, 1), ByRevision)


def test_without_retention_there_is_nothing_to_run() -> None:
    asyncio.run(run_autocompact(FakeStore(), Retention()))  # type: ignore[arg-type]


def test_a_refused_compaction_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ByRevision, "interval", 0.001)

    async def run() -> list[int]:
        store = FakeStore()
        task = asyncio.create_task(run_autocompact(store, Retention(revisions=4)))  # type: ignore[arg-type]
        await store.compacted.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return store.asked

    assert asyncio.run(run()) == [6, 6]
