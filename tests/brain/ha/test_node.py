"""One node of several, put together of its own parts on an engine in memory: what it may say, and what must not kill it
in silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from brain.faulty import ask, submit
from brain.ha.test_election import TTL_MS, FakeLease
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.brain.api.members import Member
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import EngineError, Promotion, SharedEngine
from wharf.brain.engine.delta import Delta, Position
from wharf.brain.errors import NotLeader
from wharf.brain.ha.election import Election
from wharf.brain.ha.link import Link
from wharf.brain.ha.node import HaNode
from wharf.brain.ha.publish import Publisher
from wharf.brain.ha.readgate import Point
from wharf.brain.ha.role import Role
from wharf.brain.ha.tail import Tail
from wharf.brain.store.shapes import PutOp
from wharf.brain.store.store import Store
from wharf.brain.watch.hub import Hub
from wharf.common.clock import FakeClock
from wharf.common.lease_redis import RedisLease

TTL = TTL_MS / 1000


class Shared:
    """A memory engine as if it were one of several nodes': all of them see what one commits."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.breaks: BaseException | None = None  # what is raised by whoever asks the authority
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    def position(self) -> Position:
        snapshot = self.inner.snapshot()
        try:
            return Position(1, snapshot.revision, snapshot.revision)
        finally:
            snapshot.close()

    def apply(self, delta: Delta, done: Callable[[EngineError | None], None]) -> bool:
        return False

    async def catch_up(self) -> Position:
        self.asked.set()
        if self.breaks is not None:
            raise self.breaks
        return self.position()

    async def promote(self, lease_ms: int = 0) -> Promotion:
        self.asked.set()
        await self.go_on.wait()
        if self.breaks is not None:
            raise self.breaks
        return cast(Promotion, await self.inner.promote())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class FakeLink:
    """A session that is open when it is said to be, and what was asked by it."""

    def __init__(self) -> None:
        self.leader_id = self.epoch = 0
        self.tokens: list[int] = []
        self.address = ""
        self.on_open: Callable[[], None]
        self.on_closed: Callable[[], None]
        self.on_index: Callable[[int, Point | None], None]

    @property
    def open(self) -> bool:
        return self.leader_id != 0

    def target(self, address: str) -> None:
        self.address = address

    def restart(self) -> None: ...

    def ask_index(self, token: int) -> None:
        self.tokens.append(token)

    async def run(self) -> None:
        await asyncio.Event().wait()

    def opens(self, leader_id: int, epoch: int) -> None:
        self.leader_id, self.epoch = leader_id, epoch
        self.on_open()

    def says(self, point: Point | None) -> None:
        """Whoever is asked answers the newest question."""
        self.on_index(self.tokens[-1], point)


class Place:
    """A node, and another store on the same engine that leads."""

    def __init__(self) -> None:
        self.ttl_ms = TTL_MS
        self.clock = FakeClock(1000.0)
        self.lease = FakeLease(self.clock)
        self.engine = Shared(open_engine("memory:"))
        self.leader = Store(self.engine.inner, self.clock)
        self.link = FakeLink()
        self.leaderless: list[bool] = []
        self.node: HaNode
        self.store: Store

    def make(self) -> None:
        """The node loads what the engine has now."""
        store = self.store = Store(cast(SharedEngine, self.engine), self.clock)
        store.load(member_id=5)
        election = Election(cast(RedisLease, self.lease), 5, "here:1", self.ttl_ms, self.clock)
        engine = cast(SharedEngine, self.engine)

        def tail_of(confirm: Callable[[], None], failed: Callable[[str], None]) -> Tail:
            return Tail(engine, store.present, None, confirm, failed)

        publisher = Publisher(None, "s", lambda: store.revision)
        link, member = cast(Link, self.link), Member(5, "n5")
        self.node = HaNode(store, engine, election, link, tail_of, publisher, member, self.clock)
        self.node.on_leaderless = self.leaderless.append

    def reads(self) -> asyncio.Future[bool]:
        outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.node.read(outcome.set_result)
        return outcome

    async def until(self, reached: Callable[[], bool], pace: float = 0.0) -> None:
        """However the parts take turns; `pace`: seconds that go by meanwhile, at each of them."""
        async with asyncio.timeout(20):
            while not reached():
                self.node.election.look_soon()
                self.clock.advance(pace)
                await asyncio.sleep(0.001)


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    made = Place()
    await made.leader.start()
    try:
        yield made
        await made.node.stop()
        await made.store.stop()
    finally:
        await made.leader.stop()


def play(story: Callable[[Place], Awaitable[None]]) -> None:
    async def run() -> None:
        async with place() as made:
            await story(made)

    asyncio.run(run())


async def leads(at: Place) -> None:
    """The node takes part and has come to lead."""
    at.make()
    at.node.start(Hub(at.store))
    await at.until(at.node.leads)


def test_what_was_loaded_at_the_start_is_not_read_before_a_leader_has_shown_it() -> None:
    """A batch may have landed long ago while its leader waits for the engine's answer and goes on serving reads."""

    async def story(at: Place) -> None:
        await submit(at.leader, PutOp(b"a", b"1"))
        at.make()
        at.lease.holder = "other/1"
        at.node.start(Hub(at.store))
        at.link.opens(9, 1)
        assert not at.node.certain()
        read = at.reads()
        at.link.says(Point(1))
        at.link.says(Point(1))
        assert not read.done(), "the leader does not show revision 2 yet, whoever asks it next would see less"
        await at.until(lambda: len(at.link.tokens) > 2)
        at.link.says(Point(2))
        assert await read
        assert at.node.certain()

    play(story)


def test_who_has_led_may_show_what_it_has_shown() -> None:
    async def story(at: Place) -> None:
        await leads(at)
        await submit(at.store, PutOp(b"a", b"1"))
        at.lease.holder = "other/1"
        await at.until(lambda: at.node.role is Role.FOLLOWING)
        assert at.node.certain()

    play(story)


@pytest.mark.parametrize("error", [EngineError("down"), RuntimeError("nobody has thought of this")])
def test_a_promotion_that_fails_leaves_the_lease_to_others(error: Exception) -> None:
    async def story(at: Place) -> None:
        at.make()
        at.engine.breaks = error
        at.node.start(Hub(at.store))
        if isinstance(error, EngineError):
            await at.until(lambda: at.lease.calls.count("release") > 0)
            assert not at.node.fatal.done()
        else:
            assert "nobody has thought of this" in await asyncio.wait_for(at.node.fatal, 20)

    play(story)


def test_a_log_that_cannot_be_read_for_a_reason_nobody_thought_of_ends_the_node() -> None:
    async def story(at: Place) -> None:
        at.make()
        at.lease.holder = "other/1"
        at.engine.breaks = RuntimeError("nobody has thought of this")
        at.node.start(Hub(at.store))
        assert "nobody has thought of this" in await asyncio.wait_for(at.node.fatal, 20)

    play(story)


def test_a_session_with_somebody_who_cannot_prove_to_lead_is_no_leader() -> None:
    async def story(at: Place) -> None:
        at.make()
        at.lease.holder = "other/1"
        at.node.start(Hub(at.store))
        at.link.opens(9, 1)
        at.link.says(Point(1))
        at.clock.advance(2 * TTL)
        at.link.on_index(at.link.tokens[-1], None)
        at.clock.advance(1.1 * TTL)
        await at.until(lambda: at.leaderless == [True])

    play(story)


def test_who_stops_while_it_is_promoted_gives_the_lease_back() -> None:
    async def story(at: Place) -> None:
        at.make()
        at.engine.go_on.clear()
        at.node.start(Hub(at.store))
        await at.until(lambda: at.node.role is Role.PROMOTING)
        await at.node.hand_over()
        assert at.lease.holder is None
        assert at.node.role is Role.FOLLOWING
        at.engine.go_on.set()

    play(story)


def test_leadership_that_was_lost_meanwhile_is_not_moved() -> None:
    async def story(at: Place) -> None:
        await leads(at)

        class Service:
            sessions = ()

            async def wait_for(self, member_id: int, seconds: float) -> bool:
                at.lease.holder = "other/1"
                await at.until(lambda: at.node.role is Role.FOLLOWING)
                return True

            def has(self, member_id: int) -> bool:
                return True

        at.node.service = cast(Any, Service())
        with pytest.raises(NotLeader):
            await at.node.move_leader(9)

    play(story)


def test_leases_end_when_they_should_after_a_fence_in_the_middle_of_a_batch() -> None:
    """What a deposed leader had evaluated and never landed is forgotten, here by way of the node's own roles."""

    async def story(at: Place) -> None:
        await leads(at)
        await ask(at.store.leases.grant, 9, 60)
        await submit(at.store, PutOp(b"a", b"1"))
        await at.engine.inner.promote()
        lost = asyncio.create_task(submit(at.store, PutOp(b"a", b"2", 9)))
        await asyncio.gather(lost, return_exceptions=True)
        await at.until(lambda: at.lease.holder is None)
        at.clock.advance(3 * TTL)
        await at.until(at.node.leads, pace=0.005)
        assert at.store.leases.time_to_live(9).keys == ()

    play(story)


def test_a_node_that_must_start_over_ends_though_its_lease_cannot_be_given_back() -> None:
    async def story(at: Place) -> None:
        await leads(at)

        async def release(record: object) -> bool:
            raise RuntimeError("nobody has thought of this")

        at.lease.release = release  # type: ignore[method-assign]  # the fake's own
        await asyncio.wait_for(at.node.hand_over(), 20)
        assert "nobody has thought of this" in await asyncio.wait_for(at.node.fatal, 20)

    play(story)


class Storm:
    """What may happen to a node, in any order."""

    def __init__(self, at: Place) -> None:
        self.at = at
        self.started: list[asyncio.Task[Any]] = []

    async def happen(self, what: str) -> None:
        at = self.at
        match what:
            case "stolen":
                at.lease.holder = "other/1"
            case "free":
                at.lease.holder = None
            case "fenced":
                await at.engine.inner.promote()
            case "write":
                self.started.append(asyncio.create_task(submit(at.store, PutOp(b"a", b"1"))))
            case "asked to go":
                self.started.append(asyncio.create_task(at.node.step_down(0)))
            case "silent" | "heard":
                at.lease.down = what == "silent"
            case "slow" | "quick":
                (at.engine.go_on.clear if what == "slow" else at.engine.go_on.set)()
            case "broken" | "mended":
                at.engine.breaks = EngineError("down") if what == "broken" else None
            case "told" | "asked":
                at.link.opens(9, at.node.epoch)
                at.link.says(Point(at.store.revision) if what == "told" else None)
            case "lost sight":
                at.link.leader_id = 0
                at.link.on_closed()
        at.node.election.look_soon()
        await asyncio.sleep(0.002)
        at.clock.advance(at.ttl_ms / 3000)

    async def pass_over(self) -> None:
        for what in ("quick", "mended", "heard", "lost sight", "free"):
            await self.happen(what)
        await self.at.until(self.at.node.leads, pace=0.001)
        await asyncio.wait_for(asyncio.gather(*self.started, return_exceptions=True), 20)


HAPPENINGS = (
    *("stolen", "free", "fenced", "write", "asked to go", "silent", "heard", "slow", "quick", "broken", "mended"),
    *("told", "asked", "lost sight", "time passes"),
)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(HAPPENINGS), max_size=25))
def test_whatever_happens_and_in_whatever_order_a_node_gets_over_it(story: list[str]) -> None:
    """No pair of a role and an event is missing, every call is answered, and in the end somebody leads."""

    async def weather(at: Place) -> None:
        at.ttl_ms = 60
        at.make()
        at.node.start(Hub(at.store))
        storm = Storm(at)
        for what in story:
            await storm.happen(what)
        await storm.pass_over()
        assert not at.node.fatal.done()
        await submit(at.store, PutOp(b"b", b"1"))

    play(weather)


def test_a_follower_whose_leader_does_not_prove_itself_knows_no_leader_and_lags() -> None:
    async def story(at: Place) -> None:
        at.make()
        at.lease.holder = "other/1"
        at.node.start(Hub(at.store))
        at.link.opens(9, 1)
        at.link.says(Point(1))
        await at.until(lambda: at.node.lag() == 0.0)
        assert at.node.leader_id == 9
        for _ in range(40):
            at.clock.advance(TTL / 10)
            at.node._confirm()
            at.link.says(None)
            at.node._tail.confirmed(1)  # as the replica does now and then, though nothing is new
        assert at.node.leader_id == 0
        assert at.node.lag() >= 3.9 * TTL
        at.link.says(Point(1))
        assert at.node.leader_id == 9
        assert at.node.lag() < TTL

    play(story)


def test_a_follower_lags_until_it_shows_the_users_of_the_leader() -> None:
    async def story(at: Place) -> None:
        at.make()
        at.lease.holder = "other/1"
        at.node.start(Hub(at.store))
        at.link.opens(9, 1)
        version = 4
        at.node.auth_version = lambda: version
        at.link.says(Point(1, -1, 5))
        read = at.reads()
        for _ in range(3):
            at.clock.advance(1.0)
            at.link.says(Point(1, -1, 5))
        assert at.node.lag() >= 3.0
        assert not read.done()
        version = 5
        at.node._tail.confirmed(1)
        assert await read

    play(story)
