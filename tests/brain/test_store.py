"""The store as a whole: reads, compaction, alarms and quota, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from brain.faulty import FaultyEngine, ask, fill, running, submit
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import Table
from wharf.brain.errors import BrainError, Compacted, CorruptStore, FutureRevision, NoSpace, Stopped
from wharf.brain.store.alarms import CORRUPT, NOSPACE, Alarm
from wharf.brain.store.keys import ALARM_PREFIX, encode_u64
from wharf.brain.store.shapes import (
    Committed,
    Compare,
    CompareResult,
    CompareTarget,
    DeleteOp,
    PutOp,
    RangeAnswer,
    RangeOp,
    TxnAnswer,
    TxnOp,
)
from wharf.brain.store.store import Store, StoreLimits
from wharf.common.pb.etcd import rpc_pb2 as rpc

Body = Callable[[Store], Awaitable[None]]


def run(body: Body, limits: StoreLimits | None = None) -> None:
    async def main() -> None:
        async with running(limits=limits) as store:
            await body(store)

    asyncio.run(main())


def at_once(store: Store, op: TxnOp) -> Committed | BrainError | None:
    """The answer if it is given before `submit` returns."""
    answers: list[Committed | BrainError] = []
    store.submit(op, answers.append)
    return answers[0] if answers else None


# reads


def test_a_fresh_store_is_at_revision_one_and_never_compacted() -> None:
    async def body(store: Store) -> None:
        assert (store.revision, store.compact_revision) == (1, -1)
        assert store.cluster_id
        assert store.member_id
        assert store.range(RangeOp(b"a")) == RangeAnswer(1, b"", 0, 0, False)

    run(body)


def test_a_read_only_transaction_is_answered_at_once_unless_it_meets_a_pending_write() -> None:
    async def body(store: Store) -> None:
        await submit(store, PutOp(b"a", b"1"))
        other = TxnOp((Compare(b"b", CompareTarget.VERSION, CompareResult.EQUAL, 0),), (RangeOp(b"b"),), ())
        mine = TxnOp((), (RangeOp(b"a"),), ())
        wide = TxnOp((), (RangeOp(b"x", b"z"),), ())
        assert at_once(store, mine) is not None
        store.submit(PutOp(b"a", b"2"), lambda _: None)
        assert at_once(store, other) == Committed(2, TxnAnswer(True, (RangeAnswer(2, b"", 0, 0, False),)))
        assert at_once(store, mine) is None
        assert at_once(store, wide) is None
        late = await submit(store, mine)
        assert late.revision == 3

    run(body)


@pytest.mark.parametrize("revision", [2, 3, 4, 5])
def test_a_transaction_reads_any_revision_pending_ones_too(revision: int) -> None:
    async def body() -> None:
        engine = FaultyEngine()
        async with running(engine) as store:
            await submit(store, PutOp(b"a", b"2"))
            engine.held = []
            tasks = [asyncio.create_task(submit(store, PutOp(b"a", b"3")))]
            await asyncio.sleep(0.01)
            tasks.append(asyncio.create_task(submit(store, PutOp(b"a", b"4"))))
            tasks.append(asyncio.create_task(submit(store, TxnOp((), (DeleteOp(b"a"), PutOp(b"b", b"5"))))))
            await asyncio.sleep(0)
            reading = asyncio.create_task(
                submit(store, TxnOp((), (PutOp(b"c", b""), RangeOp(b"a", revision=revision))))
            )
            await asyncio.sleep(0.01)
            engine.release()
            answer = (await reading).answer
            await asyncio.gather(*tasks)
            assert isinstance(answer, TxnAnswer)
            found = answer.answers[1]
            assert isinstance(found, RangeAnswer)
            values = [kv.value for kv in rpc.RangeResponse.FromString(found.framed).kvs]
            assert values == ([b"%d" % revision] if revision < 5 else [])

    asyncio.run(body())


FAST_RANGES = [
    rpc.RangeRequest(key=b"k3"),
    rpc.RangeRequest(key=b"k3", limit=1),
    rpc.RangeRequest(key=b"none"),
    rpc.RangeRequest(key=b"k", range_end=b"l"),
    rpc.RangeRequest(key=b"k", range_end=b"l", limit=3),
    rpc.RangeRequest(key=b"k2\0", range_end=b"l", limit=3, revision=5),
    rpc.RangeRequest(key=b"k", range_end=b"\0", count_only=True),
    rpc.RangeRequest(key=b"k", range_end=b"l", keys_only=True),
    rpc.RangeRequest(key=b"k3", revision=3),
]


@pytest.mark.parametrize("request_", FAST_RANGES, ids=str)
def test_the_fast_range_says_what_the_generic_one_says(request_: rpc.RangeRequest) -> None:
    async def body(store: Store) -> None:
        await fill(store, [PutOp(b"k%d" % n, b"v%d" % n) for n in range(7)])
        answer = store.range(
            RangeOp(
                request_.key,
                request_.range_end,
                request_.limit,
                request_.revision,
                keys_only=request_.keys_only,
                count_only=request_.count_only,
            )
        )
        fast = store.range_fast(request_.SerializeToString())
        assert isinstance(fast, bytes)
        message = rpc.RangeResponse.FromString(fast)
        assert message.SerializeToString(deterministic=True) == fast
        assert message.header.revision == answer.revision == 8
        assert (message.count, message.more) == (answer.count, answer.more)
        assert list(message.kvs) == list(rpc.RangeResponse.FromString(answer.framed).kvs)

    run(body)


def test_the_fast_range_refuses_what_cannot_be_read() -> None:
    async def body(store: Store) -> None:
        with pytest.raises(FutureRevision):
            store.range_fast(rpc.RangeRequest(key=b"k", revision=9).SerializeToString())

    run(body)


def test_a_large_list_comes_in_pieces_that_are_one_message() -> None:
    async def body(store: Store) -> None:
        await fill(store, [PutOp(b"k%02d" % n, b"v" * 400_000) for n in range(30)])
        answer = store.range_fast(rpc.RangeRequest(key=b"k", range_end=b"l").SerializeToString())
        assert isinstance(answer, tuple)
        length, pieces = answer
        data = b"".join(pieces)
        assert len(data) == length
        message = rpc.RangeResponse.FromString(data)
        assert (len(message.kvs), message.count, message.more) == (30, 30, False)

    run(body)


# compaction


def test_compaction_follows_etcds_rules() -> None:
    async def body(store: Store) -> None:
        await fill(store, [PutOp(b"a", b"%d" % n) for n in range(5)])
        with pytest.raises(FutureRevision):
            await ask(store.compact, 7, False)
        await ask(store.compact, 4, True)
        with pytest.raises(Compacted):
            await ask(store.compact, 4, False)
        assert store.range(RangeOp(b"a", revision=4)).count == 1
        with pytest.raises(Compacted):
            store.range(RangeOp(b"a", revision=3))
        await ask(store.compact, 6, False)
        assert (store.revision, store.compact_revision) == (6, 6)

    run(body)


def test_compaction_to_zero_succeeds_once() -> None:
    async def body(store: Store) -> None:
        await ask(store.compact, 0, True)
        with pytest.raises(Compacted):
            await ask(store.compact, 0, True)
        with pytest.raises(Compacted):
            await ask(store.compact, -1, False)

    run(body)


def test_a_physical_compaction_is_answered_when_the_past_is_gone() -> None:
    async def body(store: Store) -> None:
        await fill(store, [PutOp(b"a", b"%d" % n) for n in range(50)])
        await ask(store.compact, 51, True)
        snapshot = store.engine.snapshot()
        assert not list(snapshot.scan(Table.HISTORY, b"", None))
        assert len(list(snapshot.scan(Table.LOG, b"", None))) == 1
        snapshot.close()

    run(body)


# alarms and quota

QUOTA = StoreLimits(quota_bytes=4000)


async def fill_up(store: Store) -> None:
    """Put until there is no room."""
    for number in range(100):
        try:
            await submit(store, PutOp(b"k%d" % number, b"v" * 100))
        except NoSpace:
            return
    raise AssertionError("the quota was never reached")


def test_the_write_that_passes_the_quota_raises_the_alarm() -> None:
    async def body(store: Store) -> None:
        await fill_up(store)
        await ask(store.set_alarm, "unrelated", False)  # behind the alarm in the queue
        assert store.alarms() == (NOSPACE,)
        with pytest.raises(NoSpace):
            await submit(store, PutOp(b"a", b""))
        with pytest.raises(NoSpace):
            await ask(store.leases.grant, 0, 10)
        assert store.range(RangeOp(b"k", b"l")).count > 3

    run(body, QUOTA)


def test_space_is_made_by_deleting_and_compacting_and_used_after_disarming() -> None:
    async def body(store: Store) -> None:
        await fill_up(store)
        await submit(store, DeleteOp(b"k", b"l"))
        await ask(store.compact, store.revision, True)
        with pytest.raises(NoSpace):
            await submit(store, PutOp(b"a", b""))
        await ask(store.set_alarm, NOSPACE, False)
        await submit(store, PutOp(b"a", b""))

    run(body, QUOTA)


def test_a_transaction_counts_its_dearer_branch_even_if_it_is_not_taken() -> None:
    async def body(store: Store) -> None:
        never = (Compare(b"x", CompareTarget.VERSION, CompareResult.GREATER, 0),)
        with pytest.raises(NoSpace):
            await submit(store, TxnOp(never, (PutOp(b"x", b"v" * 5000),), ()))

    run(body, QUOTA)


def test_a_put_in_a_nested_transaction_counts() -> None:
    """As in etcd 3.7; releases before it look at the outer operations only."""

    async def body(store: Store) -> None:
        with pytest.raises(NoSpace):
            await submit(store, TxnOp((), (TxnOp((), (PutOp(b"x", b"v" * 5000),), ()),), ()))
        assert store.alarms() == (NOSPACE,)

    run(body, QUOTA)


def test_an_alarm_in_the_record_of_an_older_release_is_of_this_member() -> None:
    async def body(store: Store) -> None:
        record = (ALARM_PREFIX + NOSPACE.encode(), encode_u64(0))
        await ask(store.write_meta, [record])
        store.present.load()
        assert store.raised_alarms() == (Alarm(NOSPACE, store.member_id),)
        await ask(store.set_alarm, NOSPACE, False)
        assert store.present.meta(record[0]) is None
        store.present.load()
        assert store.raised_alarms() == ()

    run(body)


def test_a_corrupt_alarm_refuses_writes_until_it_is_disarmed() -> None:
    async def body(store: Store) -> None:
        lease = await ask(store.leases.grant, 0, 10)
        await submit(store, PutOp(b"a", b"1", lease.lease_id))
        await ask(store.set_alarm, CORRUPT, True)
        for write in (PutOp(b"a", b""), DeleteOp(b"a"), TxnOp((), (PutOp(b"b", b""),), ())):
            with pytest.raises(CorruptStore):
                await submit(store, write)
        with pytest.raises(CorruptStore):
            await ask(store.compact, 1, False)
        with pytest.raises(CorruptStore):
            await ask(store.leases.grant, 0, 10)
        with pytest.raises(CorruptStore):
            await ask(store.leases.revoke, lease.lease_id)
        await ask(store.set_alarm, CORRUPT, False)
        assert (await submit(store, PutOp(b"a", b""))).revision == 3

    run(body)


def test_a_corrupt_alarm_refuses_the_transactions_of_kube_apiserver() -> None:
    async def body(store: Store) -> None:
        create = rpc.TxnRequest(
            compare=[rpc.Compare(key=b"a", target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=0)],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"a", value=b"1"))],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=b"a"))],
        ).SerializeToString()
        refused: list[BrainError] = []
        await ask(store.set_alarm, CORRUPT, True)
        assert store.submit_fast(create, lambda _: None, refused.append)
        assert [type(error) for error in refused] == [CorruptStore]
        await ask(store.set_alarm, CORRUPT, False)
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        assert store.submit_fast(create, answered.set_result, refused.append)
        assert rpc.TxnResponse.FromString(await answered).succeeded

    run(body)


def test_reads_and_renewals_go_on_under_a_corrupt_alarm() -> None:
    async def body(store: Store) -> None:
        lease = await ask(store.leases.grant, 0, 10)
        await submit(store, PutOp(b"a", b"1", lease.lease_id))
        await ask(store.set_alarm, CORRUPT, True)
        assert store.range(RangeOp(b"a")).count == 1
        assert store.range_fast(rpc.RangeRequest(key=b"a").SerializeToString())
        assert (await submit(store, TxnOp((), (RangeOp(b"a"),), ()))).revision == 2
        assert await ask(store.leases.keep_alive, lease.lease_id) == 10
        leases = store.leases
        left = await ask(leases.tell, lambda: leases.time_to_live(lease.lease_id))
        assert left.keys == (b"a",)
        assert await ask(leases.tell, leases.list) == [lease.lease_id]

    run(body)


# life


def test_everything_outlives_a_restart(tmp_path: Path) -> None:
    async def body() -> None:
        engine = open_engine(f"lmdb://{tmp_path}")
        async with running(engine) as store:
            lease = await ask(store.leases.grant, 7, 50)
            await fill(store, [PutOp(b"a", b"1", lease.lease_id), PutOp(b"b", b"2"), PutOp(b"a", b"3", lease.lease_id)])
            await ask(store.compact, 3, False)
            await ask(store.set_alarm, NOSPACE, True)
            before = (store.cluster_id, store.member_id, store.revision, store.compact_revision, store.alarms())
            listed = store.range(RangeOp(b"a", b"\0"))
        engine.close()
        engine = open_engine(f"lmdb://{tmp_path}")
        async with running(engine) as store:
            after = (store.cluster_id, store.member_id, store.revision, store.compact_revision, store.alarms())
            assert after == before
            assert store.range(RangeOp(b"a", b"\0")) == listed
            left = store.leases.time_to_live(7)
            assert (left.granted_ttl, left.keys) == (50, (b"a",))
        engine.close()

    asyncio.run(body())


def test_stopping_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    async def body() -> None:
        async with running() as store:
            writing = asyncio.create_task(submit(store, PutOp(b"a", b"1")))
            await asyncio.sleep(0)
            await store.stop()
            assert (await writing).revision == 2
            with pytest.raises(Stopped):
                await submit(store, PutOp(b"a", b"1"))
            with pytest.raises(Stopped):
                store.range(RangeOp(b"a"))

    asyncio.run(body())
