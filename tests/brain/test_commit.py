"""Group commit over an engine that fails: nothing lost, doubled, reordered or answered too early."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from brain.faulty import Fault, FaultyEngine, fill, running, submit
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.brain.engine.base import Table
from wharf.brain.errors import BrainError, CorruptStore, LeaderFailed, NoLeader, NoSpace, TooManyRequests, Unhealthy
from wharf.brain.store.commit import CommitLimits
from wharf.brain.store.keys import parse_kv
from wharf.brain.store.shapes import (
    Committed,
    Compare,
    CompareResult,
    CompareTarget,
    DeleteOp,
    PutOp,
    RangeOp,
    TxnAnswer,
    TxnOp,
)
from wharf.brain.store.store import Store, StoreLimits
from wharf.common.pb.etcd import rpc_pb2 as rpc


def run(body: Any) -> None:
    asyncio.run(body)


def state(store: Store) -> dict[bytes, tuple[bytes, int]]:
    answer = store.range(RangeOp(b"\0", b"\0"))
    return {kv.key: (kv.value, kv.mod_revision) for kv in rpc.RangeResponse.FromString(answer.framed).kvs}


def cas(key: bytes, version: int, value: bytes) -> TxnOp:
    compare = Compare(key, CompareTarget.VERSION, CompareResult.EQUAL, version)
    return TxnOp((compare,), (PutOp(key, value),), (RangeOp(key),))


def test_what_arrives_together_is_one_batch() -> None:
    async def body() -> None:
        engine = FaultyEngine()
        async with running(engine) as store:
            outcomes = await fill(store, [PutOp(b"k%d" % i, b"v") for i in range(20)])
            assert [cast(Committed, outcome).revision for outcome in outcomes] == list(range(2, 22))
            assert len(engine.batches) == 1

    run(body())


def test_nothing_is_answered_or_read_before_it_is_durable() -> None:
    async def body() -> None:
        engine = FaultyEngine()
        async with running(engine) as store:
            engine.held = []
            writing = asyncio.create_task(submit(store, PutOp(b"k", b"v")))
            for _ in range(5):
                await asyncio.sleep(0)
            assert engine.held
            assert not writing.done()
            assert (store.revision, state(store)) == (1, {})
            engine.release()
            assert (await writing).revision == 2
            assert state(store) == {b"k": (b"v", 2)}

    run(body())


def test_a_batch_fills_while_one_flies_and_sees_it() -> None:
    async def body() -> None:
        engine = FaultyEngine()
        async with running(engine) as store:
            engine.held = []
            first = asyncio.create_task(submit(store, cas(b"k", 0, b"1")))
            await asyncio.sleep(0.01)
            second = [asyncio.create_task(submit(store, cas(b"k", n, b"2"))) for n in (1, 2)]
            await asyncio.sleep(0.01)
            assert len(engine.batches) == 1
            engine.release()
            answers = [cast(TxnAnswer, (await task).answer).succeeded for task in (first, *second)]
            assert answers == [True, True, True]
            assert [batch.revision for batch in engine.batches] == [2, 4]

    run(body())


def test_a_full_engine_refuses_its_batch_and_what_depended_on_it_is_decided_again() -> None:
    async def body() -> None:
        engine = FaultyEngine([Fault.FULL])
        async with running(engine) as store:
            engine.held = []
            first = asyncio.create_task(submit(store, cas(b"k", 0, b"lost")))
            await asyncio.sleep(0.01)
            second = asyncio.create_task(submit(store, cas(b"k", 1, b"depends")))
            third = asyncio.create_task(submit(store, cas(b"k", 0, b"does not")))
            await asyncio.sleep(0.01)
            engine.release()
            with pytest.raises(NoSpace):
                await first
            assert not cast(TxnAnswer, (await second).answer).succeeded
            assert cast(TxnAnswer, (await third).answer).succeeded
            assert state(store) == {b"k": (b"does not", 2)}

    run(body())


def test_the_kube_lane_is_decided_again_too() -> None:
    async def body() -> None:
        engine = FaultyEngine([Fault.FULL])
        async with running(engine) as store:
            engine.held = []
            lost = asyncio.create_task(submit(store, PutOp(b"k", b"lost")))
            await asyncio.sleep(0.01)
            request = rpc.TxnRequest()
            request.compare.add(key=b"k", target=2, mod_revision=0)
            request.success.add().request_put.MergeFrom(rpc.PutRequest(key=b"k", value=b"fast"))
            request.failure.add().request_range.key = b"k"
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            assert store.submit_fast(request.SerializeToString(), answer.set_result, answer.set_exception)
            engine.release()
            assert rpc.TxnResponse.FromString(await answer).succeeded
            assert isinstance((await asyncio.gather(lost, return_exceptions=True))[0], NoSpace)
            assert state(store) == {b"k": (b"fast", 2)}

    run(body())


@pytest.mark.parametrize(("fault", "batches"), [(Fault.LANDED, 1), (Fault.LOST, 2)])
def test_an_unknown_outcome_is_asked_for_before_anything_is_answered(fault: Fault, batches: int) -> None:
    async def body() -> None:
        engine = FaultyEngine([fault])
        async with running(engine) as store:
            assert (await submit(store, PutOp(b"k", b"v"))).revision == 2
            assert engine.dumb == 0, "the engine was asked until it answered"
            assert len(engine.batches) == batches
            assert state(store) == {b"k": (b"v", 2)}

    run(body())


def test_a_batch_thought_lost_that_landed_late_counts_once() -> None:
    """The engine says the batch did not land, takes it again, and only then finds that it had."""

    async def body() -> None:
        engine = FaultyEngine([Fault.LOST])
        async with running(engine) as store:
            flying = engine.submit

            def late(batch: Any, done: Any) -> None:
                if len(engine.batches) == 1:
                    engine.inner.commit(batch)
                flying(batch, done)

            engine.submit = late  # type: ignore[method-assign]
            assert (await submit(store, PutOp(b"k", b"v"))).revision == 2
            assert (await submit(store, PutOp(b"k", b"w"))).revision == 3

    run(body())


def test_a_fenced_store_refuses_everything_and_reads_nothing_stale() -> None:
    async def body() -> None:
        async with running(FaultyEngine([Fault.NONE, Fault.FENCED])) as store:
            told: list[BrainError] = []
            store.on_halt(told.append)
            await submit(store, PutOp(b"k", b"v"))
            with pytest.raises(NoLeader):
                await submit(store, PutOp(b"k", b"w"))
            with pytest.raises(NoLeader):
                await submit(store, PutOp(b"k", b"w"))
            with pytest.raises(NoLeader):
                store.range(RangeOp(b"k"))
            assert [type(reason) for reason in told] == [NoLeader], "whoever only listens must learn it too"

    run(body())


@pytest.mark.parametrize(("fault", "answer"), [(Fault.LANDED, LeaderFailed), (Fault.LOST, NoLeader)])
def test_a_replaced_writer_says_not_executed_only_of_what_did_not_land(fault: Fault, answer: type[BrainError]) -> None:
    """`NoLeader` has a request sent again elsewhere: a batch that may have landed is answered as unknown."""

    async def body() -> None:
        engine = FaultyEngine([fault])
        async with running(engine) as store:
            flying = asyncio.create_task(submit(store, PutOp(b"k", b"v")))
            await asyncio.sleep(0.01)
            waiting = asyncio.create_task(submit(store, PutOp(b"k", b"w")))
            await engine.inner.promote()
            outcomes = await asyncio.gather(flying, waiting, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [answer, NoLeader]
            assert len(engine.batches) == 1

    run(body())


@pytest.mark.parametrize(("fault", "answer"), [(Fault.UNSURE, LeaderFailed), (Fault.FAILED, Unhealthy)])
def test_failed_engine_answers_unknown_outcome_only_for_the_batch_under_way(
    fault: Fault, answer: type[BrainError]
) -> None:
    async def body() -> None:
        engine = FaultyEngine([fault])
        async with running(engine) as store:
            reasons: list[BrainError] = []
            store.on_halt(reasons.append)
            flying = asyncio.create_task(submit(store, PutOp(b"k", b"v")))
            await asyncio.sleep(0)
            waiting = asyncio.create_task(submit(store, PutOp(b"k", b"w")))
            outcomes = await asyncio.gather(flying, waiting, return_exceptions=True)
            assert type(outcomes[0]) is answer
            assert type(outcomes[1]) in (answer, Unhealthy)
            with pytest.raises(Unhealthy):
                store.range(RangeOp(b"k"))
            assert [type(reason) for reason in reasons] == [Unhealthy]

    run(body())


@pytest.mark.parametrize("broken", ["submit", "settle", "resolve"])
def test_outcome_that_cannot_be_processed_ends_the_service(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is no `EngineError` leaves no request unanswered, and later requests do not wait."""

    async def body() -> None:
        engine = FaultyEngine([Fault.LOST])
        async with running(engine) as store:
            if broken == "settle":
                engine.faults = []
                monkeypatch.setattr(store.leading, "settle", raises)
            else:
                monkeypatch.setattr(engine, broken, raises)
            with pytest.raises(Unhealthy if broken == "submit" else LeaderFailed):
                await submit(store, PutOp(b"k", b"v"))
            with pytest.raises(Unhealthy):
                await submit(store, PutOp(b"k", b"w"))

    run(body())


def test_an_engine_that_breaks_for_no_known_reason_ends_the_service() -> None:
    async def body() -> None:
        engine = FaultyEngine()
        async with running(engine) as store:
            engine.inner.close()
            with pytest.raises(CorruptStore):
                await submit(store, PutOp(b"k", b"v"))

    run(body())


@pytest.mark.parametrize("limits", [CommitLimits(max_entries=3), CommitLimits(max_bytes=600)])
def test_what_may_wait_is_bounded(limits: CommitLimits) -> None:
    async def body() -> None:
        async with running(limits=StoreLimits(commits=limits)) as store:
            outcomes = await fill(store, [PutOp(b"k", b"v" * 80) for _ in range(9)])
            kinds = [type(outcome) for outcome in outcomes]
            assert 0 < kinds.count(Committed) < 9
            assert kinds == sorted(kinds, key=lambda kind: kind is TooManyRequests)
            assert (await submit(store, PutOp(b"k", b"v"))).revision == 2 + kinds.count(Committed)

    run(body())


def test_side_batches_alternate_with_others() -> None:
    async def body() -> None:
        engine = FaultyEngine()
        async with running(engine) as store:
            landed: list[object] = []
            for number in range(3):
                store.leading._commits.submit_side([(Table.META, b"x", b"%d" % number)], landed.append)
                store.submit(PutOp(b"k%d" % number, b"v"), landed.append)
                await asyncio.sleep(0)
            await submit(store, PutOp(b"last", b"v"))
            sides = [batch.revision == batch.expected_revision for batch in engine.batches]
            assert sides.count(True) == 3
            assert any(sides[i] != sides[i + 1] for i in range(len(sides) - 1))
            assert landed.count(None) == 3

    run(body())


def raises(*_: object) -> None:
    raise RuntimeError("a handler's mistake")


def test_a_raising_callback_harms_nobody_else() -> None:
    async def body() -> None:
        async with running() as store:
            store.submit(PutOp(b"a", b"1"), raises)
            assert (await submit(store, PutOp(b"b", b"2"))).revision == 3

    run(body())


OPS = st.lists(
    st.one_of(
        st.builds(PutOp, st.sampled_from([b"a", b"b", b"c"]), st.binary(max_size=3)),
        st.builds(DeleteOp, st.sampled_from([b"a", b"b"]), st.sampled_from([b"", b"c"])),
        st.builds(cas, st.sampled_from([b"a", b"b"]), st.integers(0, 3), st.binary(max_size=3)),
    ),
    max_size=6,
)
FAULTS = st.lists(st.sampled_from([Fault.NONE, Fault.FULL, Fault.LOST, Fault.LANDED, Fault.NONE]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(OPS, max_size=6), FAULTS)
def test_whatever_fails_the_acknowledged_writes_in_order_are_the_state(
    waves: list[list[Any]], faults: list[Fault]
) -> None:
    """Replaying exactly what was acknowledged, in revision order, gives what is stored; revisions have no gap."""

    async def body() -> None:
        engine = FaultyEngine(faults)
        async with running(engine) as store:
            tasks = []
            for ops in waves:
                tasks.append(asyncio.create_task(fill(store, ops)))
                await asyncio.sleep(0)  # the next wave meets this one filling or flying
            outcomes = [outcome for task in tasks for outcome in await task]
            submitted = [op for ops in waves for op in ops]
            assert all(isinstance(outcome, Committed | NoSpace) for outcome in outcomes)
            check_history(store, engine, submitted, outcomes)

    run(body())


def check_history(
    store: Store, engine: FaultyEngine, submitted: list[Any], outcomes: list[Committed | BrainError]
) -> None:
    snapshot = engine.inner.snapshot()
    records = [int.from_bytes(key, "big") for key, _ in snapshot.scan(Table.LOG, b"", None)]
    assert records == list(range(2, store.revision + 1))
    stored = {parse_kv(kv).key: parse_kv(kv) for _, kv in snapshot.scan(Table.NOW, b"", None)}
    snapshot.close()
    model: dict[bytes, tuple[bytes, int, int]] = {}  # value, mod revision, version
    revision = 1
    for op, outcome in zip(submitted, outcomes, strict=True):
        if not isinstance(outcome, Committed):
            continue
        done = replay(model, op, outcome, revision + 1)
        revision += done
        assert outcome.revision == revision
    assert {key: (kv.value, kv.mod_revision, kv.version) for key, kv in stored.items()} == model
    assert revision == store.revision


def replay(model: dict[bytes, tuple[bytes, int, int]], op: Any, outcome: Committed, revision: int) -> int:
    """Do to the model what the outcome says was done; 1 when that made a revision."""
    if isinstance(op, TxnOp):
        compare = op.compares[0]
        assert cast(TxnAnswer, outcome.answer).succeeded == (model.get(compare.key, (b"", 0, 0))[2] == compare.value)
        if not cast(TxnAnswer, outcome.answer).succeeded:
            return 0
        op = op.success[0]
    if isinstance(op, PutOp):
        model[op.key] = (op.value, revision, model.get(op.key, (b"", 0, 0))[2] + 1)
        return 1
    gone = [key for key in model if key == op.key or op.key <= key < op.range_end]
    for key in gone:
        del model[key]
    return 1 if gone else 0
