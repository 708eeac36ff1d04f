"""Keeping up with a leader: batches lost, doubled and out of order, and an engine that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.brain.engine.base import Diverged, EngineError, SharedEngine
from wharf.brain.engine.delta import Delta, Position, encode_delta, follows
from wharf.brain.ha.tail import Tail
from wharf.brain.store.keys import META_UNFINISHED
from wharf.brain.store.present import Present

LIMIT = 1 << 20


def batch(seq: int) -> Delta:
    """The seq-th batch of a leader that writes one revision at a time."""
    return Delta(1, seq, seq, seq + 1, [b"record"], [])


class FakeSnapshot:
    def __init__(self, meta: dict[bytes, bytes]) -> None:
        self._meta = meta

    def get(self, _: int, key: bytes) -> bytes | None:
        return self._meta.get(key)

    def close(self) -> None: ...


class FakeEngine:
    """A replica that is only a number, and an authority that is another."""

    def __init__(self) -> None:
        self.mine = self.authority = Position(1, 0, 1)
        self.down = False
        self.looks = 0
        self.looked = asyncio.Event()
        self.meta: dict[bytes, bytes] = {}

    def snapshot(self) -> FakeSnapshot:
        return FakeSnapshot(self.meta)

    def position(self) -> Position:
        return self.mine

    def apply(self, delta: Delta, done: Callable[[EngineError | None], None]) -> bool:
        if not follows(self.mine, delta):
            return False
        self.mine = Position(delta.epoch, delta.seq, delta.revision)
        self.authority = max(self.authority, self.mine)
        asyncio.get_running_loop().call_soon(done, None)
        return True

    async def catch_up(self) -> Position:
        self.looks += 1
        self.looked.set()
        if self.down:
            raise EngineError("down")
        self.mine = self.authority
        return self.mine


class FakePresent:
    """Shows what the engine has, as far as it is confirmed."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self.revision, self.confirmed = 1, 0
        self.shown = asyncio.Event()

    def advance(self) -> bool:
        if self._engine.mine.revision <= self.confirmed:
            self.revision = self._engine.mine.revision
            self.shown.set()
        return self.revision >= self.confirmed


class Events:
    def __init__(self, connected: bool) -> None:
        self.connected = connected


class Follower:
    def __init__(self, connected: bool) -> None:
        self.engine = FakeEngine()
        self.present = FakePresent(self.engine)
        self.asked = 0
        self.failed: list[str] = []
        self.events = Events(connected)
        self.tail = Tail(
            cast(SharedEngine, self.engine),
            cast(Present, self.present),
            self.events,
            self._confirm,
            self.failed.append,
        )

    def _confirm(self) -> None:
        self.asked += 1

    def hear(self, delta: Delta) -> None:
        self.tail.event(encode_delta(delta, LIMIT))

    async def settle(self) -> None:
        """Until the log has been read once more."""
        self.engine.looked.clear()
        self.tail.changed()
        await asyncio.wait_for(self.engine.looked.wait(), 10)
        await asyncio.sleep(0)

    async def until(self, revision: int) -> None:
        while self.present.revision < revision:
            self.present.shown.clear()
            await asyncio.wait_for(self.present.shown.wait(), 10)


def play(story: Callable[[Follower], Awaitable[Any]], connected: bool = True) -> None:
    async def run() -> None:
        follower = Follower(connected)
        follower.tail.start()
        try:
            await story(follower)
        finally:
            await follower.tail.stop()

    asyncio.run(run())


def test_batches_in_order_need_no_look_into_the_log() -> None:
    async def story(follower: Follower) -> None:
        await follower.settle()
        looks = follower.engine.looks
        for seq in (1, 2, 3):
            follower.hear(batch(seq))
        await follower.until(4)
        assert (follower.engine.looks, follower.tail.gaps) == (looks, 0)

    play(story)


def test_a_lost_batch_is_read_from_the_log() -> None:
    async def story(follower: Follower) -> None:
        await follower.settle()
        follower.engine.authority = Position(1, 3, 4)
        follower.hear(batch(3))
        await follower.until(4)
        assert follower.tail.gaps == 1

    play(story)


def test_what_the_log_had_is_shown_only_when_a_leader_confirms_it() -> None:
    async def story(follower: Follower) -> None:
        follower.engine.authority = Position(1, 5, 6)
        await follower.settle()
        assert follower.engine.mine.revision == 6
        assert follower.present.revision == 1
        assert follower.asked
        follower.tail.confirmed(6)
        assert follower.present.revision == 6

    play(story)


def test_a_batch_without_its_content_sends_to_the_log() -> None:
    async def story(follower: Follower) -> None:
        await follower.settle()
        follower.engine.authority = Position(1, 1, 2)
        follower.tail.event(encode_delta(batch(1)._replace(records=[b"x" * 4096]), 256))
        await follower.until(2)
        assert follower.tail.gaps == 1

    play(story)


def test_what_is_no_batch_is_passed_over() -> None:
    async def story(follower: Follower) -> None:
        follower.tail.event(b"")
        follower.tail.event(b"wd1 but not more")
        follower.hear(batch(1))
        await follower.until(2)

    play(story)


def test_an_engine_that_is_down_is_asked_again() -> None:
    async def story(follower: Follower) -> None:
        follower.engine.down = True
        await follower.settle()
        await follower.settle()
        assert not follower.tail.engine_answers
        follower.engine.down = False
        await follower.settle()
        assert follower.tail.engine_answers

    play(story)


def test_a_wanted_revision_is_fetched_at_once_without_events_and_soon_with_them() -> None:
    async def story(follower: Follower) -> None:
        await follower.settle()
        follower.engine.authority = Position(1, 1, 2)
        follower.present.confirmed = 2
        follower.tail.want(lambda: follower.present.revision >= 2)
        await follower.until(2)

    play(story, connected=True)
    play(story, connected=False)


def test_a_replica_that_cannot_be_trusted_is_reported() -> None:
    async def story(follower: Follower) -> None:
        async def diverged() -> Position:
            follower.engine.looked.set()
            raise Diverged("the authority has lost revision 7")

        follower.engine.catch_up = diverged  # type: ignore[method-assign]  # the fake's own
        await follower.settle()
        assert len(follower.failed) == 1

    play(story)


def test_an_engine_that_an_import_has_taken_over_ends_the_node() -> None:
    async def story(follower: Follower) -> None:
        await follower.settle()
        assert follower.failed == []
        follower.engine.meta[META_UNFINISHED] = b"source"
        await follower.settle()
        (reason,) = follower.failed
        assert "an unfinished import or restore" in reason

    play(story)


def test_a_stopped_tail_moves_nothing() -> None:
    async def story(follower: Follower) -> None:
        await follower.tail.stop()
        follower.hear(batch(1))
        assert follower.engine.mine == Position(1, 0, 1)

    play(story)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 12), max_size=40))
def test_any_order_of_lost_and_doubled_batches_ends_where_the_leader_is(heard: list[int]) -> None:
    async def story(follower: Follower) -> None:
        for seq in heard:
            follower.engine.authority = max(follower.engine.authority, Position(1, seq, seq + 1))
            follower.hear(batch(seq))
        last = max(heard, default=0)
        follower.tail.confirmed(last + 1)
        await follower.settle()
        await follower.until(last + 1)
        assert follower.engine.mine == Position(1, last, last + 1)

    play(story)
