"""What is written by concatenation is what protobuf would have written."""

from __future__ import annotations

from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.api.encode import Encoder, frame_values, number, varint
from wharf.brain.api.pb import mvcc, rpc
from wharf.brain.store.shapes import Answer, Committed, DeleteAnswer, PutAnswer, RangeAnswer, TxnAnswer

ENCODER = Encoder(cluster_id=2**63 + 5, member_id=7, raft_term=2)
REVISION = 40


def kv(key: bytes = b"k") -> bytes:
    return mvcc.KeyValue(key=key, create_revision=2, mod_revision=3, version=4, value=b"v").SerializeToString()


def ranged(keys: list[bytes], more: bool = False, revision: int = REVISION) -> RangeAnswer:
    return RangeAnswer(revision, frame_values(0x12, map(kv, keys)), len(keys), len(keys) + more, more)


keys = st.lists(st.binary(min_size=1, max_size=4), max_size=3)
puts = st.builds(PutAnswer, st.none() | keys.map(lambda _: kv()))
deletes = keys.map(lambda found: DeleteAnswer(len(found), tuple(map(kv, found))))
ranges = st.builds(ranged, keys, st.booleans())
answers: st.SearchStrategy[Answer] = st.recursive(
    puts | deletes | ranges,
    lambda inner: st.builds(TxnAnswer, st.booleans(), st.lists(inner, max_size=3).map(tuple)),
    max_leaves=8,
)


def same_bytes(kind: type[Message], data: bytes) -> None:
    assert kind.FromString(data).SerializeToString(deterministic=True) == data


@given(st.integers(min_value=-(2**63), max_value=2**64 - 1))
def test_varints_read_back(value: int) -> None:
    data = number(0x08, value)
    assert rpc.ResponseHeader.FromString(data).cluster_id == value % 2**64
    assert varint(value) == (data[1:] or b"\0")


@given(ranges)
def test_range(answer: RangeAnswer) -> None:
    data = ENCODER.range(answer)
    same_bytes(rpc.RangeResponse, data)
    response = rpc.RangeResponse.FromString(data)
    assert (response.header.cluster_id, response.header.member_id) == (2**63 + 5, 7)
    assert (response.header.revision, response.header.raft_term) == (REVISION, 2)
    assert (response.more, response.count, len(response.kvs)) == (answer.more, answer.count, answer.returned)


def test_a_large_range_in_parts_is_the_same_response() -> None:
    whole = ranged([b"a", b"b", b"c"], more=True)
    parted = RangeAnswer(REVISION, b"", 3, 4, True, len(whole.framed), iter((whole.framed[:5], b"", whole.framed[5:])))
    assert parted.parts is not None
    length, parts = ENCODER.range_parts(parted, parted.parts)
    data = b"".join(parts)
    assert data == ENCODER.range(whole)
    assert length == len(data)


def test_put_and_delete() -> None:
    put = PutAnswer(kv())
    data = ENCODER.put(Committed(9, put), put)
    same_bytes(rpc.PutResponse, data)
    assert rpc.PutResponse.FromString(data).prev_kv.key == b"k"
    delete = DeleteAnswer(2, (kv(b"a"), kv(b"b")))
    data = ENCODER.delete(Committed(9, delete), delete)
    same_bytes(rpc.DeleteRangeResponse, data)
    response = rpc.DeleteRangeResponse.FromString(data)
    assert (response.deleted, response.header.revision, [one.key for one in response.prev_kvs]) == (2, 9, [b"a", b"b"])


@given(st.booleans(), st.lists(answers, max_size=4).map(tuple))
def test_txn(succeeded: bool, inner: tuple[Answer, ...]) -> None:
    data = ENCODER.txn(REVISION, TxnAnswer(succeeded, inner))
    same_bytes(rpc.TxnResponse, data)
    response = rpc.TxnResponse.FromString(data)
    assert (response.succeeded, response.header.revision, len(response.responses)) == (succeeded, REVISION, len(inner))


def test_a_delete_that_found_nothing_stands_at_the_revision_before_until_something_changed() -> None:
    nothing = DeleteAnswer(0, ())
    answer = TxnAnswer(True, (nothing, TxnAnswer(True, (PutAnswer(None),)), nothing))
    response = rpc.TxnResponse.FromString(ENCODER.txn(10, answer))
    first, inner, last = response.responses
    assert first.response_delete_range.header.revision == 9
    assert inner.response_txn.HasField("header")
    assert inner.response_txn.header.revision == 0
    assert inner.response_txn.responses[0].response_put.header.revision == 10
    assert last.response_delete_range.header.revision == 10
    assert last.response_delete_range.header.cluster_id == 0


def test_a_delete_in_a_transaction_always_has_its_answer() -> None:
    response = rpc.TxnResponse.FromString(ENCODER.txn(10, TxnAnswer(True, (DeleteAnswer(1, ()),))))
    assert response.responses[0].WhichOneof("response") == "response_delete_range"
    assert response.responses[0].response_delete_range.HasField("header")


def test_chunks_of_a_stream_merge_into_the_range() -> None:
    first, last = ranged([b"a", b"b"]), ranged([b"c"], more=True)
    chunks = [
        rpc.RangeStreamResponse.FromString(ENCODER.stream_chunk(first.framed, None, 0)),
        rpc.RangeStreamResponse.FromString(ENCODER.stream_chunk(last.framed, last, 7)),
    ]
    merged = rpc.RangeResponse()
    for chunk in chunks:
        merged.MergeFrom(chunk.range_response)
    assert not chunks[0].range_response.HasField("header")
    assert [one.key for one in merged.kvs] == [b"a", b"b", b"c"]
    assert (merged.more, merged.count, merged.header.revision) == (True, 7, REVISION)
