"""Limits that processes share: enough for who needs them, never much more than the limit, and something while alone."""

from __future__ import annotations

import pytest
from gateway.limits.share_world import STEP, World
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.gateway.api.shapes import Key, Schema, Scope
from wharf.gateway.limits.exchange import TTL, Ask, Kind
from wharf.gateway.limits.ledger import Ledger, fair_part
from wharf.gateway.limits.outcome import Cause, Refused, Ticket, Who
from wharf.gateway.limits.share import IDLE, batch_tokens, first_slots, first_tokens, local_part
from wharf.gateway.limits.waiting import Waiting

RATE = Schema("a", qps=100.0, burst=100, scope=Scope.GLOBAL)
SLOTS = Schema("a", max_in_flight=40, scope=Scope.GLOBAL)


def second(seconds: float = 1.0) -> int:
    """Steps."""
    return round(seconds / STEP)


def test_one_process_may_have_the_whole_rate() -> None:
    world = World(3, RATE)
    world.flood(0, second(5), 5)
    assert world.flood(0, second(10), 5) == pytest.approx(1000, abs=25)


def test_processes_share_one_rate() -> None:
    world = World(3, RATE)
    for _ in range(second(10)):
        for process in range(3):
            for _ in range(3):
                world.ask(process)
        world.step()
    assert len(world.admitted_at) <= 100 + 10 * 100 + 3 * batch_tokens(RATE, 3)
    assert len(world.admitted_at) >= 1000
    assert world.most_in(1.0) <= 100 + 100 + 3 * batch_tokens(RATE, 3)


@pytest.mark.parametrize("load", [1, 20])
def test_a_hot_bucket_asks_at_most_ten_times_a_second(load: int) -> None:
    world = World(1, Schema("a", qps=1000.0, burst=1000, scope=Scope.GLOBAL))
    world.flood(0, second(5), load)
    assert world.processes[0].asks <= 5 * 10 + 2


def test_an_idle_process_says_only_that_it_lives() -> None:
    world = World(1, RATE)
    before = world.processes[0].exchanges
    world.step(second(10))
    assert 9 <= world.processes[0].exchanges - before <= 11
    assert world.processes[0].asks == 0


def test_the_first_requests_are_admitted_before_anybody_answers() -> None:
    world = World(3, RATE)
    world.step(second(2))  # heard of all three
    admitted = sum(isinstance(world.ask(), Ticket) for _ in range(100))
    assert admitted == int(first_tokens(RATE, 3))
    world.step()
    assert isinstance(world.ask(), Ticket)


def test_an_idle_bucket_gives_back_what_it_has() -> None:
    world = World(2, RATE)
    world.flood(0, second(2), 1)
    world.step(second(IDLE + 1.5))
    asked = world.processes[0].asks
    world.step(second(2))
    assert world.processes[0].asks == asked
    whole = world.ledger.answer("other", [Ask("c/a/t/", Kind.TOKENS, 100.0, 100.0, 0.0, 100.0)], world.now)
    assert whole.grants == (100.0,)


def test_credit_is_paid_back_before_there_is_more() -> None:
    """One process after the other comes with a burst, waits until it is idle, and comes again."""
    slow = Schema("a", qps=1.0, burst=60, scope=Scope.GLOBAL)
    world, began = World(2, slow), 1000.0
    for _ in range(20):
        for process in range(2):
            for _ in range(60):
                world.ask(process)
        world.step(second(IDLE + 1))
    assert len(world.admitted_at) <= 60 + (world.now - began) + 2 * first_tokens(slow, 2)


def test_a_dear_request_gets_its_tokens() -> None:
    world = World(2, RATE)
    assert isinstance(world.ask(cost=80.0), Refused)
    world.step()
    world.step(second(0.1))
    assert isinstance(world.ask(cost=80.0), Ticket)


def test_a_request_that_waits_goes_when_tokens_are_granted() -> None:
    world = World(1, Schema("a", qps=10.0, burst=10, scope=Scope.GLOBAL, wait_seconds=3.0))
    told: list[object] = []
    for _ in range(20):
        outcome = world.ask()
        if isinstance(outcome, Waiting):
            outcome.on_done = told.append
    assert told == []
    world.step(second(2.5))
    assert all(isinstance(outcome, Ticket) for outcome in told)
    assert len(told) == 15


def test_slots_follow_need() -> None:
    world = World(2, SLOTS)
    world.step(second(2))
    held = []
    for _ in range(second(3)):
        outcome = world.ask(0)
        if isinstance(outcome, Ticket):
            held.append(outcome)
        world.step()
    assert len(held) == 40
    outcome = world.ask(0)
    assert isinstance(outcome, Refused)
    assert outcome.cause is Cause.IN_FLIGHT
    for ticket in held:
        ticket.release(world.now)
    world.step(second(IDLE + 1))
    assert isinstance(world.ask(1), Ticket)
    world.step(second(1))
    assert 1 + sum(isinstance(world.ask(1), Ticket) for _ in range(40)) >= first_slots(40, 2)


def test_who_holds_all_slots_passes_them_on_as_requests_end() -> None:
    world = World(2, SLOTS)
    running: list[list[Ticket]] = [[], []]
    world.step(second(2))
    for turn in range(second(20)):
        for process in range(2 if turn > second(3) else 1):
            for _ in range(3):
                outcome = world.ask(process)
                if isinstance(outcome, Ticket):
                    running[process].append(outcome)
            if len(running[process]) > 1 and turn % 5 == 0:
                running[process].pop(0).release(world.now)
        assert sum(map(len, running)) <= 40 + 2 * first_slots(40, 2)
        world.step()
    assert min(map(len, running)) >= 15


def test_a_process_that_died_leaves_its_slots() -> None:
    world = World(2, SLOTS)
    world.step(second(2))
    for _ in range(second(3)):
        world.ask(0)
        world.step()
    world.processes = world.processes[1:]
    world.step(second(TTL + 0.1))
    admitted = 0
    for _ in range(second(3)):
        admitted += isinstance(world.ask(0), Ticket)
        world.step()
    assert admitted == 40


def test_watches_are_shared_too() -> None:
    world = World(2, Schema("a", qps=1000.0, watches=10, scope=Scope.GLOBAL))
    admitted = 0
    for _ in range(second(5)):
        admitted += sum(isinstance(world.ask(process, long_running=True), Ticket) for process in range(2))
        world.step()
    assert 10 <= admitted <= 10 + 2 * first_slots(10, 2)


def test_every_key_is_shared_by_itself() -> None:
    world = World(2, Schema("a", max_in_flight=8, key=Key.USER, scope=Scope.GLOBAL, keys_max=1))
    admitted = {"alice": 0, "bob": 0}
    for _ in range(second(4)):
        for name in admitted:
            for process in range(2):
                admitted[name] += isinstance(world.ask(process, who=Who(name)), Ticket)
        world.step()
    assert all(8 <= count <= 8 + 2 * first_slots(8, 2) for count in admitted.values())


def test_a_bucket_is_forgotten_once_it_is_idle() -> None:
    world = World(1, Schema("a", qps=10.0, key=Key.USER, scope=Scope.GLOBAL, keys_max=1))
    for name in "abcdef":
        world.ask(who=Who(name))
    assert world.processes[0].limiter.counts()[0].keys == 6
    world.step(second(IDLE + 2))
    assert world.processes[0].limiter.counts()[0].keys == 1
    world.step(second(TTL * 2))
    world.ledger.answer("x", [], world.now)
    assert world.ledger.size == 0


def test_alone_a_process_grants_its_part() -> None:
    world = World(4, RATE)
    world.step(second(2))
    world.reachable = False
    for process in range(4):
        world.flood(process, second(2), 2)
    world.admitted_at.clear()
    for _ in range(second(10)):
        for process in range(4):
            world.ask(process)
            world.ask(process)
        world.step()
    assert len(world.admitted_at) == pytest.approx(1000, abs=110)
    assert world.most_in(1.0) <= 205


def test_who_never_heard_of_others_reckons_with_those_it_was_told_of() -> None:
    world = World(1, SLOTS, replicas=4)
    alone = World(1, SLOTS, replicas=4)
    alone.reachable = False
    for one in (world, alone):
        one.processes[0].shares.fail(one.now)
        one.processes[0].shares.replicas = 4
        one.processes[0].limiter.update([SLOTS], one.now)
    assert sum(isinstance(alone.ask(), Ticket) for _ in range(50)) == 10


def test_back_together_the_limit_holds_at_once() -> None:
    world = World(3, SLOTS)
    world.step(second(2))
    world.reachable = False
    world.step(second(1))
    held = [outcome for process in range(3) for _ in range(40) if isinstance(outcome := world.ask(process), Ticket)]
    assert len(held) == 3 * local_part(40, 3)
    world.reachable = True
    world.step(second(1))
    assert not any(process.shares.away for process in world.processes)
    more = 0
    for _ in range(second(1)):
        more += sum(isinstance(world.ask(process), Ticket) for process in range(3))
        world.step()
    assert more + len(held) <= 40 + 3
    for ticket in held:
        ticket.release(world.now)
    world.step(second(1))
    assert isinstance(world.ask(0), Ticket)


def test_numbers_may_change_meanwhile() -> None:
    world = World(2, RATE)
    world.flood(0, second(2), 5)
    for process in world.processes:
        process.limiter.update([Schema("a", qps=10.0, burst=10, scope=Scope.GLOBAL)], world.now)
    world.step(second(2))
    world.admitted_at.clear()
    world.flood(0, second(10), 5)
    assert len(world.admitted_at) == pytest.approx(100, abs=20)
    for process in world.processes:
        process.limiter.update([], world.now)
    world.step(second(5))
    assert not any(process.shares.gates for process in world.processes)


def test_the_end_gives_everything_back() -> None:
    world = World(2, SLOTS)
    world.step(second(2))
    for _ in range(second(3)):
        world.ask(0)
        world.step()
    for asks in world.processes[0].shares.farewell():
        world.ledger.answer("p0", asks, world.now)
    assert world.ledger.answer("x", [Ask("c/a/f/", Kind.SLOTS, 40.0, 0.0, 0.0, 40.0)], world.now).grants == (40.0,)


@settings(max_examples=60)
@given(
    processes=st.integers(1, 4),
    qps=st.sampled_from((1.0, 5.0, 40.0, 300.0)),
    burst=st.integers(1, 60),
    loads=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), st.integers(1, 60)), min_size=1, max_size=12),
)
def test_in_any_time_no_more_than_the_limit_and_a_batch_for_each(
    processes: int, qps: float, burst: int, loads: list[tuple[int, int, int]]
) -> None:
    schema = Schema("a", qps=qps, burst=burst, scope=Scope.GLOBAL)
    world = World(processes, schema, replicas=processes)
    world.step(second(1.5))
    for process, requests, steps in loads:
        world.flood(process % processes, steps, requests)
    margin = processes * batch_tokens(schema, processes) + 1e-3
    for seconds in (0.0, 0.2, 1.0, 3.0):
        assert world.most_in(seconds) <= burst + qps * (seconds + STEP) + margin


@settings(max_examples=60)
@given(
    processes=st.integers(1, 3),
    limit=st.integers(0, 30),
    turns=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 8), st.integers(0, 8), st.integers(1, 90), st.booleans())
    ),
)
def test_slots_are_never_many_more_than_the_limit_nor_lost(
    processes: int, limit: int, turns: list[tuple[int, int, int, int, bool]]
) -> None:
    """The keeper comes and goes: at worst what was admitted together and what each admits alone is there at once."""
    world = World(processes, Schema("a", max_in_flight=limit, scope=Scope.GLOBAL), replicas=processes)
    world.step(second(1.5))
    running: list[Ticket] = []
    for process, asked, ended, steps, reachable in turns:
        world.reachable = reachable
        outcomes = [world.ask(process % processes) for _ in range(asked)]
        running += [outcome for outcome in outcomes if isinstance(outcome, Ticket)]
        for ticket in running[:ended]:
            ticket.release(world.now)
        del running[:ended]
        world.step(steps)
        credit = processes * first_slots(limit, processes)
        assert len(running) <= limit + processes * local_part(limit, processes) + credit
    assert sum(process.limiter.counts()[0].in_flight for process in world.processes) == len(running)
    for ticket in running:
        ticket.release(world.now)
    world.reachable = True
    world.step(second(IDLE + TTL + 1))
    whole = Ask("c/a/f/", Kind.SLOTS, limit, 0.0, 0.0, limit)
    assert world.ledger.answer("x", [whole], world.now).grants == (limit,)


@given(st.lists(st.floats(0.0, 50.0), min_size=1, max_size=6), st.integers(0, 40))
def test_fair_parts_use_all_there_is_and_no_small_wish_is_cut(wants: list[float], limit: int) -> None:
    parts = [fair_part(list(wants), want, limit) for want in wants]
    assert all(part <= want for part, want in zip(parts, wants, strict=True))
    assert sum(parts) <= limit + len(wants)  # rounded up
    assert sum(parts) >= min(sum(wants), limit) - 1e-6
    cut = [part for part, want in zip(parts, wants, strict=True) if part < want]
    assert not cut or max(parts) <= min(cut) + 1


def test_the_ledger_forgets_who_is_gone() -> None:
    ledger = Ledger()
    ask = Ask("k", Kind.SLOTS, 4.0, 0.0, 2.0, 4.0)
    assert ledger.answer("one", [ask], 0.0).grants == (4.0,)
    assert ledger.answer("two", [ask], 0.0).grants == (0.0,)
    ledger.forget("one")
    answers = ledger.answer("two", [ask], 0.0)
    assert (answers.grants, answers.replicas) == ((4.0,), 1)
