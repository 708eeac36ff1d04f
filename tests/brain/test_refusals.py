"""Refusals that depend on a batch: they are answered with it, and decided again when it does not land."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from brain.faulty import Fault, FaultyEngine, ask, running, submit
from wharf.brain.errors import BrainError, Compacted, KeyNotFound, LeaseExists, LeaseNotFound, NoSpace
from wharf.brain.store.shapes import DeleteOp, Op, PutOp, RangeOp, TxnOp
from wharf.brain.store.store import Store
from wharf.common.pb.etcd import rpc_pb2 as rpc

Request = Callable[[Store], Any]


@dataclass(frozen=True)
class Case:
    """The second request is refused because of the first."""

    name: str
    first: Request
    second: Request
    refusal: type[BrainError]


def write(op: PutOp | DeleteOp | TxnOp) -> Request:
    return lambda store: submit(store, op)


def txn(*ops: Op) -> Request:
    return write(TxnOp((), ops, ()))


def kube_update(lease: int) -> Request:
    """A transaction of kube-apiserver's shape on a key that is there."""

    async def send(store: Store) -> object:
        request = rpc.TxnRequest()
        request.compare.add(key=b"k", target=2, mod_revision=2)
        request.success.add().request_put.MergeFrom(rpc.PutRequest(key=b"k", value=b"w", lease=lease))
        request.failure.add().request_range.key = b"k"
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        assert store.submit_fast(request.SerializeToString(), answer.set_result, answer.set_exception)
        return rpc.TxnResponse.FromString(await answer)

    return send


def grant(lease_id: int) -> Request:
    return lambda store: ask(store.leases.grant, lease_id, 60)


def revoke(lease_id: int) -> Request:
    return lambda store: ask(store.leases.revoke, lease_id)


def compact(revision: int) -> Request:
    return lambda store: ask(store.compact, revision, False)


CASES = [
    Case("put that keeps a value", write(DeleteOp(b"k")), write(PutOp(b"k", b"", ignore_value=True)), KeyNotFound),
    Case("put that keeps a lease", write(DeleteOp(b"k")), write(PutOp(b"k", b"", ignore_lease=True)), KeyNotFound),
    Case("the same in a transaction", txn(DeleteOp(b"k")), txn(PutOp(b"k", b"", ignore_value=True)), KeyNotFound),
    Case("put with a lease", revoke(1), write(PutOp(b"l", b"v", lease=1)), LeaseNotFound),
    Case("kube-apiserver's put with a lease", revoke(1), kube_update(1), LeaseNotFound),
    Case("revocation", revoke(1), revoke(1), LeaseNotFound),
    Case("grant", grant(2), grant(2), LeaseExists),
    Case("compaction", compact(2), compact(2), Compacted),
    Case("pinned read in a transaction", compact(3), txn(PutOp(b"l", b"v"), RangeOp(b"k", revision=2)), Compacted),
]


async def prepared(store: Store, engine: FaultyEngine, case: Case) -> tuple[asyncio.Task[Any], asyncio.Task[Any]]:
    """Both requests are sent; the engine has the first one's batch and has not answered."""
    await submit(store, PutOp(b"k", b"v"))
    await submit(store, PutOp(b"x", b"v"))
    await ask(store.leases.grant, 1, 60)
    engine.held = []
    first = asyncio.create_task(case.first(store))
    await asyncio.sleep(0.01)
    assert engine.held
    second = asyncio.create_task(case.second(store))
    await asyncio.sleep(0.01)
    return first, second


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refusal_waits_for_the_batch_it_depends_on(case: Case) -> None:
    async def body() -> None:
        engine = FaultyEngine()
        async with running(engine) as store:
            first, second = await prepared(store, engine, case)
            assert not second.done(), "answered from state that is not durable"
            engine.release()
            await first
            with pytest.raises(case.refusal):
                await second

    asyncio.run(body())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refusal_is_decided_again_when_its_batch_does_not_land(case: Case) -> None:
    async def body() -> None:
        engine = FaultyEngine()
        async with running(engine) as store:
            engine.faults = [Fault.NONE, Fault.NONE, Fault.NONE, Fault.FULL]
            first, second = await prepared(store, engine, case)
            engine.release()
            with pytest.raises(NoSpace):
                await first
            await second

    asyncio.run(body())


def test_pinned_read_beside_a_compaction_shows_what_is_durable() -> None:
    """The compaction has not happened yet, so the read comes before it and is not refused."""

    async def body() -> None:
        engine = FaultyEngine()
        async with running(engine) as store:
            reading = Case("", compact(3), txn(RangeOp(b"k", revision=2)), Compacted)
            first, second = await prepared(store, engine, reading)
            assert second.done()
            await second
            engine.release()
            await first
            with pytest.raises(Compacted):
                await reading.second(store)

    asyncio.run(body())


def test_answers_come_in_the_order_of_the_requests() -> None:
    """A request that writes nothing does not overtake the batch before it."""

    async def body() -> None:
        engine = FaultyEngine()
        async with running(engine) as store:
            await ask(store.leases.grant, 1, 60)
            engine.held = []
            answered: list[object] = []
            store.leases.keep_alive(1, answered.append)
            await asyncio.sleep(0.01)
            store.leases.keep_alive(9, answered.append)
            await asyncio.sleep(0.01)
            engine.release()
            await ask(store.leases.keep_alive, 9)
            assert answered == [60, 0]

    asyncio.run(body())
