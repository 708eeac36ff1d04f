"""Standing for election on a lease that is a plain object here, on a clock that is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from wharf.brain.ha.election import AFTER_FAILURE, Election
from wharf.common.clock import FakeClock
from wharf.common.lease import Record, Won
from wharf.common.lease_redis import Granted, Held, LeaseUnavailable, Look, RedisLease

TTL_MS = 1000


class FakeLease:
    """What Redis would hold. `down`: it does not answer."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.holder: str | None = None
        self.record: Record | None = None
        self.contact = 1
        self.down = False
        self.calls: list[str] = []

    def _called(self, name: str) -> float:
        self.calls.append(name)
        if self.down:
            raise LeaseUnavailable("down")
        return self.clock.now()

    async def look(self) -> Look:
        now = self._called("look")
        return Look(self.holder, self.record, 0, now)

    async def acquire(self, record: Record) -> Won | Held:
        now = self._called("acquire")
        if self.holder is not None:
            return Held(self.record, 0, now)
        found, self.holder, self.record = self.record, record.holder, record
        return Won(found, now, now)

    async def renew(self, record: Record) -> Granted:
        now = self._called("renew")
        if self.holder != record.holder:
            return Granted(False, now, now)
        self.record = record
        return Granted(True, now, now)

    async def release(self, record: Record) -> bool:
        self._called("release")
        if self.holder != record.holder:
            return False
        self.holder, self.record = None, record
        return True


class Booth:
    def __init__(self) -> None:
        self.clock = FakeClock(1000.0)
        self.lease = FakeLease(self.clock)
        self.events: list[str] = []
        self.election = self.candidate("a")

    def candidate(self, address: str) -> Election:
        election = Election(cast(RedisLease, self.lease), 7, address, TTL_MS, self.clock)
        election.on_won = lambda: self.events.append("won")
        election.on_lost = lambda: self.events.append("lost")
        election.on_leader = self.events.append
        return election

    async def turn(self) -> None:
        """One look, or one renewal."""
        election = self.election
        await (election._look() if election._tenure is None else election._renew())


def play(story: Callable[[Booth], Awaitable[None]]) -> None:
    async def run() -> None:
        await story(Booth())

    asyncio.run(run())


def test_the_first_leader_of_all_waits_for_nobody() -> None:
    async def story(booth: Booth) -> None:
        await booth.turn()
        assert booth.events == ["won"]
        assert not booth.election.may_lead()
        succeeding = asyncio.create_task(booth.election.succeed(1, 0))
        await asyncio.sleep(0)
        await booth.turn()  # a renewal proves that nobody has won since the fence was raised
        await succeeding
        assert booth.election.may_lead()

    play(story)


def test_a_lease_that_runs_out_is_over_for_good() -> None:
    async def story(booth: Booth) -> None:
        await booth.turn()
        succeeding = asyncio.create_task(booth.election.succeed(1, 0))
        await asyncio.sleep(0)
        await booth.turn()
        await succeeding
        booth.lease.down = True
        booth.clock.advance(0.98)
        assert booth.election.may_lead()
        booth.clock.advance(0.02)
        assert not booth.election.may_lead()
        booth.election._lose_if_over()
        assert booth.events == ["won", "lost"]

    play(story)


def test_another_holder_is_told_of_and_not_pushed_aside() -> None:
    async def story(booth: Booth) -> None:
        booth.lease.holder = "b/1"
        booth.lease.record = Record("b/1", "10.0.0.2:2380", 3, TTL_MS)
        await booth.turn()
        assert booth.events == ["10.0.0.2:2380"]
        assert booth.lease.calls == ["look"]

    play(story)


def test_a_candidate_leaves_the_lease_to_the_successor_that_the_record_names_for_a_while() -> None:
    async def story(booth: Booth) -> None:
        booth.lease.record = Record("b/1", "b:1", 3, TTL_MS, released=True, epoch=1, successor="8")
        booth.clock.advance(10.0)
        for _ in range(10):
            await booth.turn()
            booth.clock.advance(TTL_MS / 1000 / 10 - 0.001)
        assert booth.events == [], "it has seen the record less than a lifetime ago"
        booth.clock.advance(0.02)
        await booth.turn()
        assert booth.events == ["won"]

    play(story)


def test_the_successor_that_the_record_names_stands_at_once_though_it_has_led_a_moment_ago() -> None:
    async def story(booth: Booth) -> None:
        await booth.turn()
        await booth.election.release(successor=8)
        assert booth.lease.record is not None
        assert booth.lease.record.successor == "8"
        await booth.turn()
        assert booth.events == ["won"], "whoever has handed over stands again at once"
        booth.lease.record = Record("8/1", "b:1", 3, TTL_MS, released=True, epoch=1, successor="7")
        await booth.turn()
        assert booth.events == ["won", "won"]

    play(story)


def test_the_successor_that_the_record_names_does_not_stand_soon_after_its_engine_failed() -> None:
    async def story(booth: Booth) -> None:
        booth.lease.record = Record("8/1", "b:1", 3, TTL_MS, released=True, epoch=1, successor="7")
        booth.election.back_off()
        await booth.turn()
        booth.clock.advance(AFTER_FAILURE * TTL_MS / 1000 - 0.001)
        await booth.turn()
        assert booth.events == []
        booth.clock.advance(0.002)
        await booth.turn()
        assert booth.events == ["won"]

    play(story)


def test_who_has_withdrawn_does_not_stand() -> None:
    async def story(booth: Booth) -> None:
        booth.election.withdraw()
        await booth.turn()
        assert booth.events == []

    play(story)


def test_a_lease_given_back_is_free_at_once_and_marked() -> None:
    async def story(booth: Booth) -> None:
        await booth.turn()
        succeeding = asyncio.create_task(booth.election.succeed(1, 0))
        await asyncio.sleep(0)
        await booth.turn()
        await succeeding
        await booth.election.release()
        assert booth.lease.holder is None
        assert booth.lease.record is not None
        assert booth.lease.record.released
        assert not booth.election.may_lead()
        await booth.turn()
        assert booth.events == ["won"], "who has just handed over stands again at once"

    play(story)


def test_a_lease_taken_by_another_is_lost_at_the_next_renewal() -> None:
    async def story(booth: Booth) -> None:
        await booth.turn()
        booth.lease.holder = "b/1"
        await booth.turn()
        assert booth.events == ["won", "lost"]

    play(story)


def test_the_wait_for_a_predecessor_ends_when_the_lease_is_lost_meanwhile() -> None:
    async def story(booth: Booth) -> None:
        await booth.turn()
        booth.lease.holder = "b/1"
        succeeding = asyncio.create_task(booth.election.succeed(2, 0))
        await asyncio.sleep(0)
        await booth.turn()
        await asyncio.wait_for(succeeding, 5)
        assert not booth.election.may_lead()

    play(story)


def test_the_loop_goes_on_when_nobody_answers() -> None:
    async def story(booth: Booth) -> None:
        booth.lease.down = True
        running = asyncio.create_task(booth.election.run())
        while booth.lease.calls.count("look") < 2:
            booth.election.look_soon()
            await asyncio.sleep(0)
        booth.lease.down = False
        while "won" not in booth.events:
            booth.election.look_soon()
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    play(story)
