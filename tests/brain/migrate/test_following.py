"""Following a source that behaves as told: where it ends, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import cast

import pytest
from wharf.brain.migrate import following
from wharf.brain.migrate.following import Follower, Stop
from wharf.brain.migrate.shapes import Change, CutOver, Ending, MigrationFailed, Transaction
from wharf.brain.migrate.source import Source, Told


def transaction(revision: int) -> Transaction:
    return Transaction(revision, [Change(0, b"k", b"")])


class Silent:
    """A view for nobody."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def copied(self, what: str, keys: int, total: int, size: int) -> None: ...

    def following(self, revision: int, source: int) -> None: ...

    def close(self) -> None: ...


class Scripted:
    """A source at `revision` that tells what it is given, then is silent."""

    def __init__(self, told: Iterable[list[int] | MigrationFailed], revision: int) -> None:
        self.revision = revision
        self.failure: MigrationFailed | None = None
        self.asked = asyncio.Event()  # somebody follows
        self._told = list(told)

    async def stand(self, patience: float | None = None) -> tuple[int, int]:
        self.asked.set()
        if self.failure is not None:
            raise self.failure
        return self.revision, 1

    async def transactions(self, after: int, trouble: Callable[[str], None]) -> AsyncGenerator[Told, None]:
        for one in self._told:
            if isinstance(one, MigrationFailed):
                raise one
            yield [transaction(revision) for revision in one], self.revision
        await asyncio.Event().wait()


class Sunk:
    """What a follower has given to its sink."""

    def __init__(self) -> None:
        self.revisions: list[int] = []
        self.most = 0

    async def __call__(self, transactions: list[Transaction]) -> None:
        self.most = max(self.most, len(transactions))
        self.revisions += [one.revision for one in transactions]
        await asyncio.sleep(0)


async def follow(source: Scripted, ending: Ending, stop: Stop | None = None) -> tuple[int, Sunk, Silent]:
    view, sunk = Silent(), Sunk()
    follower = Follower(cast(Source, source), CutOver(ending), stop or Stop(), view)
    return await asyncio.wait_for(follower.run(5, sunk), 20), sunk, view


def test_it_stops_in_the_middle_of_what_has_come() -> None:
    source = Scripted([[6, 7], [8], [9, 10, 11]], 11)
    revision, sunk, _ = asyncio.run(follow(source, Ending(until=9)))
    assert (revision, sunk.revisions) == (9, [6, 7, 8, 9])


def test_what_has_come_meanwhile_goes_together() -> None:
    source = Scripted([[revision] for revision in range(6, 206)], 205)
    revision, sunk, view = asyncio.run(follow(source, Ending(until=205)))
    assert (revision, sunk.revisions) == (205, list(range(6, 206)))
    assert sunk.most > 1
    assert not any("Ctrl-C" in line for line in view.lines)


def test_asked_to_stop_it_takes_what_the_source_has_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "ASK_EVERY", 0.01)

    async def main() -> None:
        stop = Stop()
        assert not stop.ask(), "nothing is followed yet: it would end at once"
        source = Scripted([[6], [7, 8]], 8)
        running = asyncio.create_task(follow(source, Ending(), stop))
        await source.asked.wait()
        assert stop.ask()
        assert not stop.ask(), "once"
        revision, sunk, _ = await running
        assert (revision, sunk.revisions) == (8, [6, 7, 8])

    asyncio.run(main())


def test_it_says_once_that_it_has_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "ASK_EVERY", 0.01)
    _, _, view = asyncio.run(follow(Scripted([[6]], 6), Ending(quiet=0.05)))
    assert [line for line in view.lines if "caught up" in line] == [
        "caught up at revision 6; stop the source's writers: it ends by itself once the source stands still"
    ]


def test_what_came_before_a_failure_is_kept() -> None:
    source = Scripted([[6], MigrationFailed("compacted")], 9)
    sunk = Sunk()

    async def main() -> None:
        await Follower(cast(Source, source), CutOver(Ending()), Stop(), Silent()).run(5, sunk)

    with pytest.raises(MigrationFailed, match="compacted"):
        asyncio.run(main())
    assert sunk.revisions == [6]


def test_a_failure_behind_the_end_does_not_matter() -> None:
    revision, _, _ = asyncio.run(follow(Scripted([[6, 7], MigrationFailed("gone")], 9), Ending(until=7)))
    assert revision == 7


@pytest.mark.parametrize("lost", [True, False])
def test_asked_to_stop_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    monkeypatch.setattr(following, "ASK_EVERY", 0.01)
    monkeypatch.setattr(following, "STALL", 0.05)

    async def main() -> None:
        stop = Stop()
        source = Scripted([[6]], 8)  # and nothing of 7 and 8
        source.failure = MigrationFailed("nobody answers") if lost else None
        running = asyncio.create_task(follow(source, Ending(), stop))
        await source.asked.wait()
        assert stop.ask()
        await running

    with pytest.raises(MigrationFailed, match="cannot be completed" if lost else "does not deliver"):
        asyncio.run(main())


def test_a_source_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "ASK_EVERY", 0.01)

    async def main() -> None:
        source = Scripted([[6]], 6)
        source.failure = MigrationFailed("nobody answers")
        running = asyncio.create_task(follow(source, Ending(quiet=0.02)))
        for _ in range(3):
            await source.asked.wait()
            source.asked.clear()
        source.failure = None
        assert (await running)[0] == 6

    asyncio.run(main())
