"""KV as clients of etcd know it."""

from __future__ import annotations

import asyncio

from brain.api.fakes import FakeCall
from brain.api.harness import KV, Server, run
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.api.pb import mvcc, rpc
from wharf.brain.api.range_stream import FIRST_CHUNK, last_key, next_chunk
from wharf.brain.errors import Compacted, DuplicateKey, FutureRevision, KeyNotProvided, RequestTooLarge
from wharf.wire.rpc import Code


def create(key: bytes, value: bytes = b"v") -> rpc.TxnRequest:
    """What kube-apiserver sends to create an object."""
    return rpc.TxnRequest(
        compare=[rpc.Compare(key=key, target=rpc.Compare.MOD, mod_revision=0)],
        success=[rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value))],
    )


def delete(key: bytes, mod_revision: int) -> rpc.TxnRequest:
    return rpc.TxnRequest(
        compare=[rpc.Compare(key=key, target=rpc.Compare.MOD, mod_revision=mod_revision)],
        success=[rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))],
        failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key))],
    )


def generic(request: rpc.TxnRequest) -> rpc.TxnRequest:
    """The same transaction in a shape the fast way does not know."""
    twin = rpc.TxnRequest()
    twin.CopyFrom(request)
    twin.compare.add(key=b"unrelated", target=rpc.Compare.MOD)
    return twin


def test_put_get_delete() -> None:
    async def scenario(server: Server) -> None:
        assert await server.put(b"k", b"v1") == 2
        request = rpc.PutRequest(key=b"k", value=b"v2", prev_kv=True)
        put = await server.client.ask(KV + "Put", request, rpc.PutResponse)
        assert (put.header.revision, put.prev_kv.value, put.prev_kv.version) == (3, b"v1", 1)
        got = await server.get(b"k")
        assert (got.count, got.kvs[0].value, got.kvs[0].version, got.kvs[0].create_revision) == (1, b"v2", 2, 2)
        assert got.header.member_id == server.node.store.member_id
        request_ = rpc.DeleteRangeRequest(key=b"k", prev_kv=True)
        deleted = await server.client.ask(KV + "DeleteRange", request_, rpc.DeleteRangeResponse)
        assert (deleted.header.revision, deleted.deleted, deleted.prev_kvs[0].value) == (4, 1, b"v2")
        assert (await server.get(b"k")).count == 0

    run(scenario)


def test_a_transaction_reads_the_same_the_fast_and_the_generic_way() -> None:
    async def scenario(server: Server) -> None:
        ask = server.client.ask
        for prefix, shape in ((b"fast/", lambda request: request), (b"slow/", generic)):
            key = prefix + b"k"
            base = server.node.store.revision
            created = await ask(KV + "Txn", shape(create(key)), rpc.TxnResponse)
            assert (created.succeeded, created.header.revision) == (True, base + 1)
            assert created.responses[0].response_put.header.revision == base + 1
            again = await ask(KV + "Txn", shape(create(key)), rpc.TxnResponse)
            assert (again.succeeded, len(again.responses), again.header.revision) == (False, 0, base + 1)
            stale = await ask(KV + "Txn", shape(delete(key, 1)), rpc.TxnResponse)
            assert (stale.succeeded, stale.responses[0].response_range.kvs[0].key) == (False, key)
            gone = await ask(KV + "Txn", shape(delete(key, base + 1)), rpc.TxnResponse)
            assert gone.succeeded
            assert gone.responses[0].WhichOneof("response") == "response_delete_range"
            assert gone.responses[0].response_delete_range.header.revision == base + 2

    run(scenario)


def test_refusals_have_etcds_codes_and_texts() -> None:
    async def scenario(server: Server) -> None:
        await server.put(b"k")
        refused = server.client.refused
        for request, error in (
            (rpc.RangeRequest(), KeyNotProvided),
            (rpc.RangeRequest(key=b"k", revision=9), FutureRevision),
        ):
            assert await refused(KV + "Range", request) == (error.code, error.text)
        put = rpc.RequestOp(request_put=rpc.PutRequest(key=b"k"))
        assert await refused(KV + "Txn", rpc.TxnRequest(success=[put, put])) == (DuplicateKey.code, DuplicateKey.text)
        code, text = await refused(KV + "Put", b"\x0a\xff")
        assert (code, text) == (Code.INTERNAL, "grpc: error unmarshalling request: unexpected EOF")

    run(scenario)


def test_writes_have_a_size_limit_and_reads_have_none() -> None:
    async def scenario(server: Server) -> None:
        big = bytes(2000)
        too_large = (RequestTooLarge.code, RequestTooLarge.text)
        assert await server.client.refused(KV + "Put", rpc.PutRequest(key=b"k", value=big)) == too_large
        assert await server.client.refused(KV + "Txn", create(b"k", big)) == too_large
        await server.get(big)

    run(scenario, max_request_bytes=1000)


def test_compaction() -> None:
    async def scenario(server: Server) -> None:
        for _ in range(5):
            await server.put(b"k")
        compacted = await server.client.ask(
            KV + "Compact", rpc.CompactionRequest(revision=4, physical=True), rpc.CompactionResponse
        )
        assert compacted.header.revision == 6
        refusal = (Compacted.code, Compacted.text)
        assert await server.client.refused(KV + "Range", rpc.RangeRequest(key=b"k", revision=3)) == refusal
        assert await server.client.refused(KV + "Compact", rpc.CompactionRequest(revision=4)) == refusal
        pinned = await server.client.ask(KV + "Range", rpc.RangeRequest(key=b"k", revision=4), rpc.RangeResponse)
        assert pinned.kvs[0].mod_revision == 4

    run(scenario)


async def fill(server: Server, count: int, value: bytes = b"v") -> None:
    for number in range(count):
        await server.put(b"k%04d" % number, value)


def merged(call: FakeCall) -> rpc.RangeResponse:
    whole = rpc.RangeResponse()
    for data in call.sent:
        whole.MergeFrom(rpc.RangeStreamResponse.FromString(data).range_response)
    return whole


async def streamed(server: Server, request: rpc.RangeRequest) -> FakeCall:
    call = server.client.start(KV + "RangeStream", request)
    await call.ended.wait()
    assert call.code == Code.OK, call.text
    return call


def test_a_stream_merges_into_the_range() -> None:
    async def scenario(server: Server) -> None:
        await fill(server, 120)
        for request in (
            rpc.RangeRequest(key=b"k", range_end=b"l"),
            rpc.RangeRequest(key=b"k", range_end=b"l", limit=50),
            rpc.RangeRequest(key=b"k", range_end=b"l", limit=3),
            rpc.RangeRequest(key=b"k", range_end=b"l", limit=120),
            rpc.RangeRequest(key=b"k", range_end=b"l", keys_only=True),
            rpc.RangeRequest(key=b"k", range_end=b"l", count_only=True),
        ):
            call = await streamed(server, request)
            whole = await server.client.ask(KV + "Range", request, rpc.RangeResponse)
            assert merged(call) == whole, request
        assert len(call.sent) == 1  # a count is one message
        call = await streamed(server, rpc.RangeRequest(key=b"k", range_end=b"l"))
        sizes = [len(rpc.RangeStreamResponse.FromString(data).range_response.kvs) for data in call.sent]
        assert sizes == [10, 20, 40, 50]

    run(scenario)


def test_a_stream_stays_at_its_first_revision_while_writes_go_on() -> None:
    async def scenario(server: Server) -> None:
        await fill(server, 40)
        call = server.client.open(KV + "RangeStream")
        call.writable = False
        call.say(rpc.RangeRequest(key=b"k", range_end=b"l"))
        assert call.sent == []  # nothing is read for a reader who takes nothing
        call.writable = True
        call.drain()
        await call.wait_sent(1)
        revision = await server.put(b"k9999")
        await call.ended.wait()
        whole = merged(call)
        assert whole.header.revision == revision - 1
        assert len(whole.kvs) == whole.count == 40

    run(scenario)


def test_a_stream_that_compaction_overtakes_is_told_so() -> None:
    async def scenario(server: Server) -> None:
        await fill(server, 40)
        call = server.client.open(KV + "RangeStream")
        call.say(rpc.RangeRequest(key=b"k", range_end=b"l"))
        call.writable = False
        await asyncio.sleep(0)
        revision = await server.put(b"k0000")
        await server.client.ask(KV + "Compact", rpc.CompactionRequest(revision=revision), rpc.CompactionResponse)
        call.drain()
        await call.ended.wait()
        assert (call.code, call.text) == (Compacted.code, Compacted.text)

    run(scenario)


def test_orders_and_filters_are_not_streamed() -> None:
    async def scenario(server: Server) -> None:
        for request in (
            rpc.RangeRequest(key=b"k", sort_order=rpc.RangeRequest.DESCEND),
            rpc.RangeRequest(key=b"k", sort_order=rpc.RangeRequest.ASCEND, sort_target=rpc.RangeRequest.VERSION),
            rpc.RangeRequest(key=b"k", min_mod_revision=1),
        ):
            call = server.client.start(KV + "RangeStream", request)
            assert call.code == Code.UNIMPLEMENTED

    run(scenario)


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5))
def test_the_last_key_of_a_chunk(keys: list[bytes]) -> None:
    response = rpc.RangeResponse(kvs=[mvcc.KeyValue(key=key, value=key, version=300) for key in keys])
    assert last_key(response.SerializeToString()) == keys[-1]


def test_chunks_move_towards_the_request_size() -> None:
    assert next_chunk(FIRST_CHUNK, 10, 1000) == 2 * FIRST_CHUNK
    assert next_chunk(FIRST_CHUNK, 1000, 1000) == FIRST_CHUNK
    assert next_chunk(FIRST_CHUNK, 2001, 1000) == FIRST_CHUNK // 2
    assert next_chunk(1, 10**6, 1000) == 1
