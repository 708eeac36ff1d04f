"""Random programs: the store answers, keeps and announces what the naive model says."""

from __future__ import annotations

import asyncio
from typing import Any

from brain.faulty import ask
from brain.model import Kv, Model, Refused
from brain.watch.kit import Client, settle
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.brain.engine import open_engine
from wharf.brain.errors import BrainError
from wharf.brain.store.shapes import (
    Answer,
    Committed,
    Compare,
    CompareResult,
    CompareTarget,
    DeleteAnswer,
    DeleteOp,
    PutAnswer,
    PutOp,
    RangeAnswer,
    RangeOp,
    TxnAnswer,
    TxnOp,
)
from wharf.brain.store.store import Store
from wharf.brain.store.txn import is_read_only
from wharf.brain.watch.hub import Hub
from wharf.brain.watch.watcher import WatchSpec
from wharf.common.clock import FakeClock
from wharf.common.pb.etcd import kv_pb2 as mvcc
from wharf.common.pb.etcd import rpc_pb2 as rpc

LEASES = (11, 12)
KEYS = st.sampled_from([b"a", b"b", b"b\0", b"c", b"long" * 130, b"long" * 129 + b"lonf"])
ENDS = st.sampled_from([b"", b"", b"b", b"c", b"\0", b"long" * 130])
VALUES = st.sampled_from([b"", b"1", b"22"])
PUTS = st.builds(
    PutOp,
    KEYS,
    VALUES,
    lease=st.sampled_from([0, 0, *LEASES]),
    prev_kv=st.booleans(),
) | st.builds(lambda key: PutOp(key, b"", ignore_value=True, lease=LEASES[0]), KEYS)
DELETES = st.builds(DeleteOp, KEYS, ENDS, prev_kv=st.booleans())
RANGES = st.builds(RangeOp, KEYS, ENDS, limit=st.integers(0, 3), revision=st.one_of(st.just(0), st.integers(1, 30)))
COMPARES = st.builds(
    Compare,
    KEYS,
    st.sampled_from([CompareTarget.VERSION, CompareTarget.CREATE, CompareTarget.MOD, CompareTarget.LEASE]),
    st.sampled_from(list(CompareResult)),
    st.integers(0, 12),
    ENDS,
) | st.builds(Compare, KEYS, st.just(CompareTarget.VALUE), st.sampled_from(list(CompareResult)), VALUES, ENDS)


def txns(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[TxnOp]:
    ops = st.lists(inner, max_size=3).map(tuple)
    return st.builds(TxnOp, st.lists(COMPARES, max_size=2).map(tuple), ops, ops)


LEAVES = st.one_of(PUTS, DELETES, RANGES)
TXNS = txns(st.one_of(LEAVES, txns(LEAVES)))
STEPS = st.one_of(
    st.tuples(st.just("submit"), st.one_of(PUTS, DELETES, TXNS, TXNS)),
    st.tuples(st.just("submit"), st.one_of(PUTS, DELETES)),
    st.tuples(st.just("range"), RANGES),
    st.tuples(st.just("compact"), st.integers(0, 20)),
    st.tuples(st.just("grant"), st.sampled_from(LEASES)),
    st.tuples(st.just("revoke"), st.sampled_from(LEASES)),
    st.tuples(st.just("watch"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.just(0)),
    st.tuples(st.just("restart"), st.just(0)),
)


def plain(answer: Answer) -> object:
    """An answer in the model's words."""
    if isinstance(answer, TxnAnswer):
        return answer.succeeded, [plain(inner) for inner in answer.answers]
    if isinstance(answer, PutAnswer):
        return None if answer.prev is None else mvcc.KeyValue.FromString(answer.prev).value
    if isinstance(answer, DeleteAnswer):
        return answer.deleted, [mvcc.KeyValue.FromString(kv).value for kv in answer.prevs]
    return listed(answer)


def listed(answer: RangeAnswer) -> tuple[int, list[tuple[bytes, Kv]], bool]:
    kvs = rpc.RangeResponse.FromString(answer.framed).kvs
    found = [(kv.key, Kv(kv.create_revision, kv.mod_revision, kv.version, kv.value, kv.lease)) for kv in kvs]
    return answer.count, found, answer.more


class Pair:
    """The store and the model, side by side. Writes are sent without waiting, and compared when they are answered."""

    def __init__(self) -> None:
        self.engine = open_engine("memory:")
        self.model = Model()
        self.answered = 0
        self.asked = 0

    async def start(self) -> None:
        self.store = Store(self.engine, FakeClock())
        await self.store.start()
        self.hub = Hub(self.store)
        self.watches: list[tuple[Client, int, int]] = []

    async def stop(self) -> None:
        await self.wait()
        await settle(self.hub)
        for client, start, seen_from in self.watches:
            self.check_watch(client, start, seen_from)
        self.hub.close()
        await self.store.stop()

    async def wait(self) -> None:
        """Until everything asked is answered."""
        for _ in range(2000):
            if self.answered == self.asked:
                return
            await asyncio.sleep(0)
        raise AssertionError("something was never answered")

    def expect(self, expected: object, revision: int, earliest: int) -> Any:
        """`earliest`: a transaction that only reads may be answered from published state, below what is pending."""
        self.asked += 1

        def done(outcome: Any) -> None:
            self.answered += 1
            if isinstance(outcome, Committed):
                assert plain(outcome.answer) == expected
                assert earliest <= outcome.revision <= revision
            elif isinstance(outcome, BrainError):
                assert type(outcome).__name__ == expected
            else:
                assert not isinstance(expected, str)

        return done

    async def step(self, what: str, argument: Any) -> None:
        store, model = self.store, self.model
        if what == "restart":
            await self.stop()
            await self.start()
        elif what == "wait":
            await self.wait()
        elif what == "watch":
            await self.wait()
            client = Client(self.hub)
            client.watch(WatchSpec(b"\0", b"\0", start_revision=argument, prev_kv=True))
            self.watches.append((client, argument, argument or model.revision + 1))
            if argument < model.compacted and argument:
                await settle(self.hub)
        elif what == "range":
            await self.wait()
            try:
                expected: object = model.range(argument)
            except Refused as refused:
                expected = str(refused)
            try:
                got: object = listed(store.range(argument))
            except BrainError as error:
                got = type(error).__name__
            assert got == expected
        else:
            await self.write(what, argument)

    async def write(self, what: str, argument: Any) -> None:
        store, model = self.store, self.model
        try:
            expected: object = None
            if what == "submit":
                expected = model.submit(argument)
            elif what == "compact":
                model.compact(argument)
            elif what == "revoke":
                model.revoke(argument)
            elif argument in model.leases:
                raise Refused("LeaseExists")
            else:
                model.leases.add(argument)
        except Refused as refused:
            expected = str(refused)
        reads = what == "submit" and is_read_only(argument)
        done = self.expect(expected, model.revision, store.revision if reads else model.revision)
        if what == "submit":
            store.submit(argument, done)
        elif what == "compact":
            store.compact(argument, False, done)
        elif what == "revoke":
            store.leases.revoke(argument, done)
        else:
            store.leases.grant(argument, 60, done)

    def check_watch(self, client: Client, start: int, seen_from: int) -> None:
        last = client.responses[-1]
        if last.canceled:
            assert start < last.compact_revision
            return
        got = client.events()
        wanted = [event for event in self.model.events if event.revision >= seen_from]
        assert [(e.revision, e.kind, e.key) for e in got] == [(e.revision, e.kind, e.key) for e in wanted]
        for mine, theirs in zip(got, wanted, strict=True):
            if mine.prev is not None:  # history before the compact revision is gone, and its prev_kv with it
                assert mine.prev == theirs.prev
            assert theirs.revision <= self.model.compacted or mine.prev == theirs.prev


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_the_store_is_the_model(steps: list[tuple[str, Any]]) -> None:
    async def body() -> None:
        pair = Pair()
        await pair.start()
        try:
            for what, argument in steps:
                await pair.step(what, argument)
            await pair.wait()
            everything = RangeOp(b"\0", b"\0")
            assert listed(pair.store.range(everything)) == pair.model.range(everything)
            for revision in range(max(pair.model.compacted, 1), pair.model.revision + 1):
                op = RangeOp(b"\0", b"\0", revision=revision)
                assert listed(pair.store.range(op)) == pair.model.range(op)
            assert await ask(check_leases, pair)
        finally:
            await pair.stop()

    asyncio.run(body())


def check_leases(pair: Pair, done: Any) -> None:
    """Attachments are what the keys say."""
    assert set(pair.store.leases.list()) == pair.model.leases
    for lease in pair.model.leases:
        attached = tuple(sorted(key for key, kv in pair.model.now.items() if kv.lease == lease))
        assert pair.store.leases.time_to_live(lease).keys == attached
    done(True)
