"""Leases in the running store, on a clock the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from brain.faulty import Fault, FaultyEngine, ask, fill, submit
from wharf.brain.engine import open_engine
from wharf.brain.errors import LeaseExists, LeaseNotFound, LeaseTtlTooLarge, NoLeader
from wharf.brain.store.shapes import DeleteOp, PutOp, RangeOp, TxnOp
from wharf.brain.store.store import Store
from wharf.common.clock import FakeClock


class Timers:
    """`call_later` on a FakeClock."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.due: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        item = (self.clock.now() + delay, callback)
        self.due.append(item)
        timers = self

        class Timer:
            def cancel(self) -> None:
                if item in timers.due:
                    timers.due.remove(item)

        return Timer()

    async def pass_time(self, seconds: float) -> None:
        """Turn the clock, calling what comes due on the way, and let its batches land."""
        end = self.clock.now() + seconds
        while True:
            item = min(self.due, key=lambda item: item[0], default=None)
            if item is None or item[0] > end:
                break
            self.due.remove(item)
            self.clock.advance(max(0.0, item[0] - self.clock.now()))
            item[1]()
            for _ in range(5):
                await asyncio.sleep(0)
        self.clock.advance(max(0.0, end - self.clock.now()))


async def start(engine: Any) -> tuple[Store, Timers]:
    clock = FakeClock()
    timers = Timers(clock)
    store = Store(engine, clock)
    await store.start()
    store.leases.stop()
    store.leases._call_later = timers.call_later
    store.leases.start()
    return store, timers


def run(body: Callable[[Store, Timers], Awaitable[None]], engine: Any = None) -> None:
    async def main() -> None:
        store, timers = await start(engine or open_engine("memory:"))
        await body(store, timers)
        await store.stop()

    asyncio.run(main())


def live(store: Store, key: bytes) -> bool:
    return store.range(RangeOp(key)).count == 1


def test_ids_are_given_when_none_is_asked_for() -> None:
    async def body(store: Store, timers: Timers) -> None:
        ids = {(await ask(store.leases.grant, 0, 10)).lease_id for _ in range(20)}
        assert len(ids) == 20
        assert all(0 < lease_id < 2**63 for lease_id in ids)
        assert (await ask(store.leases.grant, -5, 10)).lease_id == -5
        assert store.revision == 1, "a lease is no change of keys"

    run(body)


def test_grants_are_refused_as_etcd_refuses_them() -> None:
    async def body(store: Store, timers: Timers) -> None:
        await ask(store.leases.grant, 1, 10)
        with pytest.raises(LeaseExists):
            await ask(store.leases.grant, 1, 10)
        with pytest.raises(LeaseTtlTooLarge):
            await ask(store.leases.grant, 2, 9_000_000_001)

    run(body)


def test_revoking_deletes_the_keys_in_one_revision() -> None:
    async def body(store: Store, timers: Timers) -> None:
        await ask(store.leases.grant, 1, 10)
        await fill(store, [PutOp(b"b", b"", 1), PutOp(b"a", b"", 1), PutOp(b"c", b"")])
        await ask(store.leases.revoke, 1)
        assert store.revision == 5
        assert [live(store, key) for key in (b"a", b"b", b"c")] == [False, False, True]
        with pytest.raises(LeaseNotFound):
            await ask(store.leases.revoke, 1)
        with pytest.raises(LeaseNotFound):
            await submit(store, PutOp(b"a", b"", 1))

    run(body)


def test_revoking_a_lease_without_keys_makes_no_revision() -> None:
    async def body(store: Store, timers: Timers) -> None:
        await ask(store.leases.grant, 1, 10)
        await ask(store.leases.revoke, 1)
        assert store.revision == 1

    run(body)


def test_a_lease_expires_at_its_deadline_with_its_keys() -> None:
    async def body(store: Store, timers: Timers) -> None:
        await ask(store.leases.grant, 1, 10)
        await submit(store, PutOp(b"a", b"", 1))
        await timers.pass_time(9.9)
        assert live(store, b"a")
        assert store.leases.time_to_live(1).ttl == 0
        await timers.pass_time(0.2)
        assert not live(store, b"a")
        assert store.leases.list() == []

    run(body)


def test_keeping_alive_puts_the_deadline_off() -> None:
    async def body(store: Store, timers: Timers) -> None:
        await ask(store.leases.grant, 1, 10)
        await submit(store, PutOp(b"a", b"", 1))
        for _ in range(5):
            await timers.pass_time(8)
            assert await ask(store.leases.keep_alive, 1) == 10
        assert live(store, b"a")
        await timers.pass_time(10.1)
        assert not live(store, b"a")
        assert await ask(store.leases.keep_alive, 1) == 0

    run(body)


def test_a_shorter_lease_granted_later_expires_first() -> None:
    async def body(store: Store, timers: Timers) -> None:
        await ask(store.leases.grant, 1, 60)
        await ask(store.leases.grant, 2, 5)
        assert store.leases.list() == [2, 1]
        await timers.pass_time(5.1)
        assert store.leases.list() == [1]

    run(body)


def test_many_leases_expire_together_in_turns() -> None:
    async def body(store: Store, timers: Timers) -> None:
        for lease_id in range(1, 1201):
            store.leases.grant(lease_id, 5, lambda _: None)
        await submit(store, PutOp(b"a", b"", 7))
        await timers.pass_time(5.1)
        assert store.leases.list() == []
        assert not live(store, b"a")

    run(body)


MOVES = [
    (PutOp(b"a", b"", 2), (set(), {b"a"})),
    (PutOp(b"a", b""), (set(), set())),
    (PutOp(b"a", b"x", ignore_lease=True), ({b"a"}, set())),
    (DeleteOp(b"a"), (set(), set())),
    (TxnOp((), (DeleteOp(b"a", b"\0"), PutOp(b"a", b"", 2))), (set(), {b"a"})),
]


@pytest.mark.parametrize(("op", "attached"), MOVES)
def test_a_key_belongs_to_the_lease_of_its_last_put(op: Any, attached: tuple[set[bytes], set[bytes]]) -> None:
    async def body(store: Store, timers: Timers) -> None:
        await ask(store.leases.grant, 1, 10)
        await ask(store.leases.grant, 2, 10)
        await submit(store, PutOp(b"a", b"", 1))
        await submit(store, op)
        assert tuple(set(store.leases.time_to_live(lease_id).keys) for lease_id in (1, 2)) == attached

    run(body)


def test_downtime_neither_kills_nor_counts() -> None:
    async def body() -> None:
        engine = open_engine("memory:")
        store, timers = await start(engine)
        await ask(store.leases.grant, 1, 10)
        await submit(store, PutOp(b"a", b"", 1))
        await timers.pass_time(6)
        await store.stop()
        store, timers = await start(engine)
        assert 4 <= store.leases.time_to_live(1).ttl <= 5
        await timers.pass_time(5.1)
        assert not live(store, b"a")
        await store.stop()

    asyncio.run(body())


def test_a_renewal_that_was_acknowledged_survives_a_crash() -> None:
    async def body() -> None:
        engine = open_engine("memory:")
        crashed, timers = await start(engine)
        await ask(crashed.leases.grant, 1, 10)
        await timers.pass_time(9.5)
        assert await ask(crashed.leases.keep_alive, 1) == 10
        store, _ = await start(engine)
        assert store.leases.time_to_live(1).ttl >= 9
        await store.stop()
        await crashed.stop()

    asyncio.run(body())


def test_what_a_full_engine_refused_did_not_happen() -> None:
    """Grant, attachment and removal are taken back with their batch."""

    async def body(store: Store, timers: Timers) -> None:
        await ask(store.leases.grant, 1, 10)
        await submit(store, PutOp(b"a", b"", 1))
        engine = store.engine
        assert isinstance(engine, FaultyEngine)
        engine.faults = [Fault.FULL]
        refused: list[object] = []
        store.leases.grant(2, 10, refused.append)
        store.submit(PutOp(b"b", b"", 1), refused.append)
        store.leases.revoke(1, refused.append)
        await timers.pass_time(0.5)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(refused) == 3
        assert store.leases.list() == [1]
        assert store.leases.time_to_live(1).keys == (b"a",)

    run(body, FaultyEngine())


def test_an_expiry_that_found_no_room_is_tried_again() -> None:
    async def body(store: Store, timers: Timers) -> None:
        await ask(store.leases.grant, 1, 5)
        await submit(store, PutOp(b"a", b"", 1))
        engine = store.engine
        assert isinstance(engine, FaultyEngine)
        await timers.pass_time(4.5)
        engine.faults = [Fault.FULL]
        await timers.pass_time(0.6)
        assert live(store, b"a")
        await timers.pass_time(1.5)
        assert not live(store, b"a")

    run(body, FaultyEngine())


def test_the_clock_is_stored_only_while_leases_exist() -> None:
    async def body(store: Store, timers: Timers) -> None:
        engine = store.engine
        assert isinstance(engine, FaultyEngine)
        await timers.pass_time(30)
        assert engine.batches == []
        await ask(store.leases.grant, 1, 5)
        await timers.pass_time(30)
        assert 5 <= len(engine.batches) <= 8

    run(body, FaultyEngine())


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.FENCED])
def test_nobody_is_told_that_a_lease_is_gone_before_that_is_durable(fault: Fault) -> None:
    """A leader that is replaced in between has told of an end that never came."""
    engine = FaultyEngine()

    async def body(store: Store, timers: Timers) -> None:
        leases = store.leases
        await ask(leases.grant, 1, 10)
        engine.held, engine.faults = [], [fault]
        asked = [
            asyncio.create_task(ask(leases.revoke, 1)),
            asyncio.create_task(ask(leases.tell, lambda: leases.time_to_live(1).ttl)),
            asyncio.create_task(ask(leases.tell, leases.list)),
            asyncio.create_task(ask(leases.keep_alive, 1)),
        ]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not any(task.done() for task in asked)
        engine.release()
        told = await asyncio.gather(*asked, return_exceptions=True)
        if fault is Fault.NONE:
            assert told == [store.revision, -1, [], 0]
        else:
            assert [type(each) for each in told] == [NoLeader] * 4

    run(body, engine)


def test_leases_expire_and_the_clock_is_stored_after_a_turn_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(store: Store, timers: Timers) -> None:
        await ask(store.leases.grant, 1, 5)
        await submit(store, PutOp(b"a", b"", 1))
        pending, writer, failures = store.leases._writer.pending, store.leases._writer, 2

        def broken() -> Any:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise ValueError("broken")
            return pending()

        monkeypatch.setattr(writer, "pending", broken)
        await timers.pass_time(4.5)
        assert failures < 0, "the clock is stored again"
        failures = 1
        await timers.pass_time(3)
        assert not live(store, b"a")

    run(body)


def test_answers_name_the_revision_that_they_belong_to() -> None:
    """Not the one that is shown when the batch has landed: later requests of the batch may have raised that."""

    async def body(store: Store, timers: Timers) -> None:
        leases = store.leases
        await ask(leases.grant, 1, 10)
        await submit(store, PutOp(b"k", b"v", lease=1))
        granted, revoked, look, _ = await asyncio.gather(
            ask(leases.grant, 2, 10),
            ask(leases.revoke, 1),
            ask(leases.tell, lambda: (leases.revision(), leases.list())),
            submit(store, PutOp(b"k", b"w")),
        )
        assert (granted.revision, revoked, look) == (2, 3, (3, [2]))
        assert store.revision == 4

    run(body)
