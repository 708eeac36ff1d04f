"""What a follower shows: only what a leader has published, whole, and by its events where there are any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from brain.faulty import ask, submit
from wharf.brain.engine import open_engine
from wharf.brain.errors import Compacted, NoLeader
from wharf.brain.store.keys import parse_kv
from wharf.brain.store.shapes import DeleteOp, PutOp, RangeOp
from wharf.brain.store.store import Store
from wharf.common.clock import FakeClock

META = b"auth/enabled"


class Two:
    """A leader and a follower on one engine, and what the follower told its listeners."""

    def __init__(self) -> None:
        self.engine = open_engine("memory:")
        self.clock = FakeClock()
        self.leader, self.follower = Store(self.engine, self.clock), Store(self.engine, self.clock)
        self.events: list[tuple[int, int, bytes, bytes | None]] = []
        self.moved: list[int] = []

    def heard(self) -> list[tuple[int, int, bytes, bytes | None]]:
        events, self.events = self.events, []
        return events

    def show(self, confirmed: int) -> bool:
        self.follower.present.confirmed = confirmed
        return self.follower.present.advance()


@asynccontextmanager
async def two() -> AsyncIterator[Two]:
    made = Two()
    await made.leader.start()
    made.follower.load(member_id=5)

    def listen(events: object, revision: int) -> None:
        for number, kind, key, _, prev in events:  # type: ignore[attr-defined]
            made.events.append((number, kind, key, None if prev is None else parse_kv(prev).value))

    made.follower.on_events(listen)
    made.follower.present.on_moved(lambda: made.moved.append(made.follower.revision))
    try:
        yield made
    finally:
        await made.follower.stop()
        await made.leader.stop()


def play(story: Callable[[Two], Awaitable[None]]) -> None:
    async def run() -> None:
        async with two() as made:
            await story(made)

    asyncio.run(run())


def keys_of(store: Store) -> bytes:
    return store.range(RangeOp(b"\0", b"\0")).framed


def test_nothing_is_shown_before_a_leader_has_published_it() -> None:
    async def story(both: Two) -> None:
        await submit(both.leader, PutOp(b"a", b"1"))
        assert both.follower.revision == 1
        assert both.show(1)
        assert (both.follower.revision, both.heard()) == (1, [])
        assert both.show(2)
        assert (both.follower.revision, both.heard()) == (2, [(2, 0, b"a", None)])
        assert keys_of(both.follower) == keys_of(both.leader)

    play(story)


def test_a_state_newer_than_what_is_confirmed_waits_for_the_rest() -> None:
    async def story(both: Two) -> None:
        await submit(both.leader, PutOp(b"a", b"1"))
        await submit(both.leader, PutOp(b"a", b"2"))
        assert not both.show(2), "the engine has revision 3, and 3 is not confirmed"
        assert both.follower.revision == 1
        assert both.show(3)
        assert both.heard() == [(2, 0, b"a", None), (3, 0, b"a", b"1")]

    play(story)


def test_events_carry_what_was_there_before() -> None:
    async def story(both: Two) -> None:
        await submit(both.leader, PutOp(b"a", b"1"))
        both.show(2)
        both.heard()
        await submit(both.leader, PutOp(b"a", b"2"))
        await submit(both.leader, DeleteOp(b"a"))
        await submit(both.leader, PutOp(b"a", b"3"))
        both.show(5)
        assert both.heard() == [(3, 0, b"a", b"1"), (4, 1, b"a", b"2"), (5, 0, b"a", None)]
        assert both.follower.range(RangeOp(b"a", revision=3)).count == 1
        assert both.follower.range(RangeOp(b"a", revision=4)).count == 0

    play(story)


def test_who_missed_compacted_history_starts_over_from_the_present() -> None:
    async def story(both: Two) -> None:
        jumped: list[int] = []
        both.follower.on_jumped(lambda: jumped.append(both.follower.revision))
        for number in range(5):
            await submit(both.leader, PutOp(b"a", b"%d" % number))
        await ask(both.leader.compact, 5, True)
        assert both.show(6)
        assert (both.follower.revision, jumped, both.heard()) == (6, [6], [])
        assert keys_of(both.follower) == keys_of(both.leader)
        with pytest.raises(Compacted):
            both.follower.range(RangeOp(b"a", revision=4))

    play(story)


def test_compaction_reaches_a_follower_that_shows_the_same_revision() -> None:
    async def story(both: Two) -> None:
        for number in range(3):
            await submit(both.leader, PutOp(b"a", b"%d" % number))
        both.show(4)
        await ask(both.leader.compact, 3, False)
        both.show(4)
        with pytest.raises(Compacted):
            both.follower.range(RangeOp(b"a", revision=2))
        assert both.follower.range(RangeOp(b"a", revision=3)).count == 1

    play(story)


def test_meta_records_are_told_when_they_change() -> None:
    async def story(both: Two) -> None:
        told: list[bytes | None] = []
        both.follower.present.on_meta(META, told.append)
        await ask(both.leader.write_meta, [(META, b"on")])
        both.show(1)
        both.show(1)
        await ask(both.leader.write_meta, [(META, None)])
        both.show(1)
        assert told == [None, b"on", None]

    play(story)


def test_a_follower_takes_no_writes_and_can_lead_later() -> None:
    async def story(both: Two) -> None:
        with pytest.raises(NoLeader):
            await submit(both.follower, PutOp(b"a", b"1"))
        lease = await ask(both.leader.leases.grant, 9, 60)
        await submit(both.leader, PutOp(b"a", b"1", lease.lease_id))
        await submit(both.leader, PutOp(b"b", b"1", lease.lease_id))
        await submit(both.leader, DeleteOp(b"b"))
        both.show(4)
        both.clock.advance(50)
        promotion = await both.engine.promote()
        with pytest.raises(NoLeader):
            await submit(both.leader, PutOp(b"a", b"stale"))
        both.follower.lead(promotion.epoch)
        left = both.follower.leases.time_to_live(9)
        assert (left.ttl, left.keys) == (60, (b"a",)), "time is counted afresh, and who hangs on the lease is known"
        await ask(both.follower.leases.revoke, 9)
        assert both.follower.range(RangeOp(b"a")).count == 0
        both.follower.follow(NoLeader())
        assert not both.follower.leads
        assert both.follower.range(RangeOp(b"a")).count == 0

    play(story)


def test_who_leads_no_more_remembers_what_hangs_on_leases() -> None:
    async def story(both: Two) -> None:
        await ask(both.leader.leases.grant, 9, 60)
        await submit(both.leader, PutOp(b"a", b"1", 9))
        both.leader.follow(NoLeader())
        promotion = await both.engine.promote()
        both.leader.lead(promotion.epoch)
        assert both.leader.leases.time_to_live(9).keys == (b"a",)

    play(story)


def test_what_never_landed_changes_nothing_that_hangs_on_leases() -> None:
    """Else a lease of a later term would take keys with it that were never its own, or leave its own behind."""

    async def story(both: Two) -> None:
        for lease_id in (8, 9):
            await ask(both.leader.leases.grant, lease_id, 60)
        await submit(both.leader, PutOp(b"a", b"1"))
        await submit(both.leader, PutOp(b"b", b"1", 9))
        await submit(both.leader, PutOp(b"c", b"1", 8))
        promotion = await both.engine.promote()
        lost = [
            asyncio.create_task(submit(both.leader, PutOp(b"a", b"2", 9))),
            asyncio.create_task(submit(both.leader, PutOp(b"b", b"2"))),
            asyncio.create_task(ask(both.leader.leases.revoke, 8)),
        ]
        assert [type(each) for each in await asyncio.gather(*lost, return_exceptions=True)] == [NoLeader] * 3
        both.leader.follow(NoLeader())
        both.leader.lead(promotion.epoch)
        assert both.leader.leases.time_to_live(9).keys == (b"b",)
        assert both.leader.leases.time_to_live(8).keys == (b"c",)

    play(story)
