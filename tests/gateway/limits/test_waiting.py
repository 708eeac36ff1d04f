"""Requests that wait for their turn: first come first served, bounded, and cancelled without a trace."""

from __future__ import annotations

import asyncio

import pytest
from wharf.gateway.api.shapes import Key, Schema
from wharf.gateway.limits.limiter import Limiter
from wharf.gateway.limits.outcome import FREE, NOBODY, Cause, Refused, Ticket, Who
from wharf.gateway.limits.pacer import Pacer
from wharf.gateway.limits.waiting import Outcome, Waiting

SLOT = Schema("slot", max_in_flight=1, wait_seconds=10.0)
RATE = Schema("rate", qps=1.0, burst=1, wait_seconds=3.0)


def take(limiter: Limiter, *names: str, now: float = 0.0, who: Who = NOBODY) -> Ticket:
    outcome = limiter.admit(names, who, False, 1.0, now)
    assert isinstance(outcome, Ticket)
    return outcome


def queue(limiter: Limiter, *names: str, now: float = 0.0, cost: float = 1.0) -> tuple[Waiting, list[Outcome]]:
    outcome = limiter.admit(names, NOBODY, False, cost, now)
    assert isinstance(outcome, Waiting)
    told: list[Outcome] = []
    outcome.on_done = told.append
    return outcome, told


def queued(limiter: Limiter) -> list[int]:
    return [found.queued for found in limiter.counts()]


def test_a_release_lets_the_first_one_in() -> None:
    limiter = Limiter([SLOT], 0.0)
    held = take(limiter, "slot")
    (_, first), (_, second) = queue(limiter, "slot"), queue(limiter, "slot")
    held.release(1.0)
    assert isinstance(first[0], Ticket)
    assert second == []
    first[0].release(1.0)
    assert isinstance(second[0], Ticket)
    assert queued(limiter) == [0]


def test_tokens_let_them_in_when_due() -> None:
    limiter = Limiter([RATE], 0.0)
    dues: list[float] = []
    limiter.on_due = dues.append
    take(limiter, "rate")
    (_, first), (_, second) = queue(limiter, "rate", now=0.5), queue(limiter, "rate", now=0.5)
    assert dues == [1.0]
    limiter.tick(0.99)
    assert first == []
    limiter.tick(1.0)
    assert (first, second) == ([FREE], [])
    assert limiter.next_due == 2.0
    limiter.tick(2.0)
    assert second == [FREE]
    assert limiter.next_due is None


def test_newcomers_do_not_overtake() -> None:
    limiter = Limiter([RATE], 0.0)
    take(limiter, "rate")
    _, first = queue(limiter, "rate", now=0.5)
    _, second = queue(limiter, "rate", now=1.5)  # a token is there, and belongs to the first
    limiter.tick(1.5)
    assert (len(first), second) == (1, [])


def test_whose_time_is_over_is_refused() -> None:
    limiter = Limiter([SLOT], 0.0)
    take(limiter, "slot")
    _, told = queue(limiter, "slot")
    limiter.tick(9.99)
    assert told == []
    limiter.tick(10.0)
    assert told == [Refused("slot", 1, Cause.WAITED)]
    assert limiter.counts()[0].refused == ((Cause.WAITED, 1),)


@pytest.mark.parametrize(("schema", "room"), [(SLOT, 4), (RATE, 3)])
def test_the_queue_is_bounded_by_what_can_come_in_time(schema: Schema, room: int) -> None:
    limiter = Limiter([schema], 0.0)
    take(limiter, schema.name)
    for _ in range(room):
        queue(limiter, schema.name)
    outcome = limiter.admit((schema.name,), NOBODY, False, 1.0, 0.0)
    assert isinstance(outcome, Refused)
    assert outcome.cause is Cause.QUEUE
    assert queued(limiter) == [room]


def test_edge_35_cancelled_while_queued_leaks_nothing() -> None:
    limiter = Limiter([SLOT], 0.0)
    held = take(limiter, "slot")
    (first, told), (_, second) = queue(limiter, "slot"), queue(limiter, "slot")
    first.cancel(0.0)
    first.cancel(0.0)
    held.release(0.0)
    assert told == []
    assert isinstance(second[0], Ticket)
    second[0].release(0.0)
    assert limiter.counts()[0].in_flight == 0


def test_edge_35_cancelled_after_its_turn_gives_it_back() -> None:
    limiter = Limiter([SLOT], 0.0)
    held = take(limiter, "slot")
    first, told = queue(limiter, "slot")
    held.release(0.0)
    assert isinstance(told[0], Ticket)
    first.cancel(0.0)
    told[0].release(0.0)
    assert limiter.counts()[0].in_flight == 0


def test_a_cheaper_one_goes_when_the_dear_one_before_it_gives_up() -> None:
    limiter = Limiter([Schema("rate", qps=1.0, burst=10, wait_seconds=20.0)], 0.0)
    assert limiter.admit(("rate",), NOBODY, False, 8.0, 0.0) is FREE
    dear, _ = queue(limiter, "rate", cost=10.0)
    _, cheap = queue(limiter, "rate", cost=1.0)
    dear.cancel(0.0)
    assert cheap == [FREE]


def test_a_request_that_needs_two_moves_on_to_the_other_queue() -> None:
    limiter = Limiter([SLOT, RATE], 0.0)
    held = take(limiter, "slot", "rate")
    _, both = queue(limiter, "slot", "rate", now=0.0)
    assert queued(limiter) == [1, 0]
    held.release(0.5)
    assert queued(limiter) == [0, 1]
    assert limiter.counts()[0].in_flight == 0
    limiter.tick(1.0)
    assert isinstance(both[0], Ticket)
    assert limiter.counts()[0].in_flight == 1


def test_two_queues_do_not_send_a_request_to_and_fro() -> None:
    limiter = Limiter([SLOT, RATE], 0.0)
    held = take(limiter, "slot", "rate")
    _, both = queue(limiter, "slot", "rate", now=0.0)
    _, slot = queue(limiter, "slot", now=0.1)
    _, rate = queue(limiter, "rate", now=0.1)
    held.release(0.2)
    assert [len(told) for told in (both, slot, rate)] == [0, 1, 0]
    limiter.tick(1.0)
    for told in (slot, both):
        for outcome in told:
            assert isinstance(outcome, Ticket)
            outcome.release(1.0)
    limiter.tick(2.0)
    assert [len(told) for told in (both, slot, rate)] == [1, 1, 1]
    assert queued(limiter) == [0, 0]


def test_who_waits_in_what_is_gone_tries_again() -> None:
    limiter = Limiter([SLOT], 0.0)
    take(limiter, "slot")
    _, told = queue(limiter, "slot")
    limiter.update([Schema("slot", max_in_flight=1, key=Key.USER, wait_seconds=10.0)], 1.0)
    assert isinstance(told[0], Ticket)
    _, again = queue(limiter, "slot", now=1.0)
    limiter.update([], 1.0)
    assert again == [FREE]


def test_more_room_lets_them_in_at_once() -> None:
    limiter = Limiter([SLOT], 0.0)
    take(limiter, "slot")
    _, told = queue(limiter, "slot")
    limiter.update([Schema("slot", max_in_flight=2, wait_seconds=10.0)], 0.0)
    assert isinstance(told[0], Ticket)


def test_a_queue_of_those_who_leave_at_once_is_no_recursion() -> None:
    limiter = Limiter([Schema("slot", max_in_flight=300, wait_seconds=10.0)], 0.0)
    held = [take(limiter, "slot") for _ in range(300)]
    waiting = [queue(limiter, "slot")[0] for _ in range(1024)]
    left = []

    def leave(outcome: Outcome) -> None:
        assert isinstance(outcome, Ticket)
        outcome.release(0.0)
        left.append(outcome)

    for one in waiting:
        one.on_done = leave
    held[0].release(0.0)
    assert len(left) == 1024
    assert limiter.counts()[0].in_flight == 299


def test_the_pacer_brings_the_turn() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        limiter = Limiter([Schema("rate", qps=50.0, burst=1, wait_seconds=5.0)], loop.time())
        pacer = Pacer(limiter)
        take(limiter, "rate", now=loop.time())
        turns = []
        for _ in range(3):
            outcome = limiter.admit(("rate",), NOBODY, False, 1.0, loop.time())
            assert isinstance(outcome, Waiting)
            turns.append(pacer.wait(outcome))
        assert await asyncio.gather(*turns) == [FREE] * 3
        assert limiter.next_due is None
        pacer.close()

    asyncio.run(main())


def test_edge_35_a_task_cancelled_while_queued_leaks_nothing() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        limiter = Limiter([SLOT], loop.time())
        pacer = Pacer(limiter)
        held = take(limiter, "slot", now=loop.time())
        tasks = []
        for _ in range(2):
            outcome = limiter.admit(("slot",), NOBODY, False, 1.0, loop.time())
            assert isinstance(outcome, Waiting)
            tasks.append(asyncio.create_task(pacer.wait(outcome)))
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        assert queued(limiter) == [1]
        held.release(loop.time())  # the turn of the second has come …
        tasks[1].cancel()  # … and in the same moment it is cancelled
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        assert (queued(limiter), limiter.counts()[0].in_flight) == ([0], 0)
        pacer.close()

    asyncio.run(main())


def test_edge_35_a_task_cancelled_before_it_began_to_wait_leaks_nothing() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        limiter = Limiter([SLOT], loop.time())
        pacer = Pacer(limiter)
        held = take(limiter, "slot", now=loop.time())
        outcome = limiter.admit(("slot",), NOBODY, False, 1.0, loop.time())
        assert isinstance(outcome, Waiting)
        task = asyncio.create_task(pacer.wait(outcome))
        pacer.bind(outcome, task)
        task.cancel()
        held.release(loop.time())
        await asyncio.wait([task])
        await asyncio.sleep(0)
        assert (queued(limiter), limiter.counts()[0].in_flight) == ([0], 0)
        pacer.close()

    asyncio.run(main())


def test_a_turn_that_came_before_anybody_waited_is_not_lost() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        limiter = Limiter([SLOT], loop.time())
        pacer = Pacer(limiter)
        held = take(limiter, "slot", now=loop.time())
        outcome = limiter.admit(("slot",), NOBODY, False, 1.0, loop.time())
        assert isinstance(outcome, Waiting)
        held.release(loop.time())
        assert isinstance(await pacer.wait(outcome), Ticket)
        pacer.close()

    asyncio.run(main())


def test_the_end_of_a_cluster_lets_go_of_who_waits() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        limiter = Limiter([SLOT, RATE], loop.time())
        pacer = Pacer(limiter)
        take(limiter, "slot", "rate", now=loop.time())
        outcomes = [limiter.admit((name,), NOBODY, False, 1.0, loop.time()) for name in ("slot", "rate")]
        turns = [asyncio.create_task(pacer.wait(one)) for one in outcomes if isinstance(one, Waiting)]
        await asyncio.sleep(0)
        pacer.close()
        assert await asyncio.gather(*turns) == [FREE, FREE]

    asyncio.run(main())


def test_queued_requests_go_on_after_a_turn_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wharf.gateway.limits.pacer.RETRY", 0.05)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        limiter = Limiter([Schema("rate", qps=50.0, burst=1, wait_seconds=5.0)], loop.time())
        pacer = Pacer(limiter)
        take(limiter, "rate", now=loop.time())
        outcome = limiter.admit(("rate",), NOBODY, False, 1.0, loop.time())
        assert isinstance(outcome, Waiting)
        tick, failures = limiter.tick, 1

        def broken(now: float) -> None:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise ValueError("broken")
            tick(now)

        monkeypatch.setattr(limiter, "tick", broken)
        assert await asyncio.wait_for(pacer.wait(outcome), 10) is FREE
        assert failures == -1, "no turn in between"
        pacer.close()

    asyncio.run(main())
