"""The compiled write path against protobuf and against the generic path."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from brain.test_overlay import Dict
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.brain.api import decode
from wharf.brain.api.encode import Encoder
from wharf.brain.errors import BrainError, LeaseNotFound, NoSpace
from wharf.brain.store import keys
from wharf.brain.store._codec import (
    Header,
    KubeLane,
    Pending,
    encode_kv,
    event_frame,
    kv_numbers,
    parse_kube_range,
    parse_kube_txn,
    parse_kv,
    split_log,
    with_prev,
    without_value,
)
from wharf.brain.store.shapes import TxnAnswer
from wharf.brain.store.txn import World, plan
from wharf.common.pb.etcd import kv_pb2 as mvcc
from wharf.common.pb.etcd import rpc_pb2 as rpc

INT64 = st.integers(-(2**63), 2**63 - 1)
NUMBER = st.one_of(st.integers(0, 300), INT64)
KV = st.tuples(st.binary(max_size=200), NUMBER, NUMBER, NUMBER, st.binary(max_size=200), NUMBER)


@given(KV)
def test_keyvalues_are_protobufs(kv: tuple[bytes, int, int, int, bytes, int]) -> None:
    data = encode_kv(*kv)
    assert data == keys.encode_kv(keys.KeyValue(*kv))
    message = mvcc.KeyValue.FromString(data)
    assert message.SerializeToString(deterministic=True) == data
    assert parse_kv(data) == kv
    assert kv_numbers(data) == (kv[1], kv[2], kv[3], kv[5])
    assert without_value(data) == encode_kv(*kv[:4], b"", kv[5])


@given(st.binary(max_size=40))
def test_bytes_that_are_no_keyvalue_raise_and_never_read_beyond(data: bytes) -> None:
    try:
        parse_kv(data)
    except ValueError:
        return
    keys.parse_kv(data)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_log_record_raise(data: bytes) -> None:
    try:
        split_log(data)
    except ValueError:
        return
    assert sum(len(framed) for _, _, framed, _ in split_log(data)) == len(data)


@given(st.lists(st.tuples(st.sampled_from([0, 1]), KV, st.one_of(st.none(), KV)), max_size=4))
def test_log_records_are_events_of_a_watch_response(
    events: list[tuple[int, tuple[bytes, int, int, int, bytes, int], tuple[bytes, int, int, int, bytes, int] | None]],
) -> None:
    framed = [event_frame(kind, encode_kv(*kv)) for kind, kv, _ in events]
    split = split_log(b"".join(framed))
    assert [(kind, key, event) for kind, key, event, _ in split] == [
        (kind, kv[0], event) for (kind, kv, _), event in zip(events, framed, strict=True)
    ]
    assert b"".join(framed) == b"".join(keys.encode_event(kind, encode_kv(*kv)) for kind, kv, _ in events)
    for (kind, kv, _), (_, _, _, created) in zip(events, split, strict=True):
        assert created == (kind == 0 and kv[1] != 0 and kv[1] == kv[2])
    full = [
        event if prev is None else with_prev(event, encode_kv(*prev))
        for event, (_, _, prev) in zip(framed, events, strict=True)
    ]
    message = rpc.WatchResponse.FromString(b"".join(full))
    assert message.SerializeToString(deterministic=True) == b"".join(full)
    assert [event.HasField("prev_kv") for event in message.events] == [prev is not None for _, _, prev in events]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 1))
def test_headers_are_the_generic_ones(cluster: int, member: int, revision: int) -> None:
    assert Header(cluster, member, 2).encode(revision) == Encoder(cluster, member, 2).header(revision)


# kube-apiserver's shapes


TARGETS = {"version": rpc.Compare.VERSION, "create_revision": rpc.Compare.CREATE, "mod_revision": rpc.Compare.MOD}


def kube_txn(
    key: bytes = b"k",
    field: str = "mod_revision",
    expected: int = 0,
    put: bytes | None = b"v",
    lease: int = 0,
    delete: bool = False,
    read: bool = True,
) -> rpc.TxnRequest:
    request = rpc.TxnRequest()
    compare = request.compare.add(key=key)
    compare.target = TARGETS[field]
    setattr(compare, field, expected)
    if delete:
        request.success.add().request_delete_range.key = key
    elif put is not None:
        request.success.add().request_put.MergeFrom(rpc.PutRequest(key=key, value=put, lease=lease))
    if read:
        request.failure.add().request_range.key = key
    return request


KUBE_TXNS = st.builds(
    kube_txn,
    key=st.sampled_from([b"a", b"b", b"\0", b"long" * 120]),
    field=st.sampled_from(["version", "create_revision", "mod_revision"]),
    expected=st.integers(-1, 9),
    put=st.one_of(st.none(), st.binary(max_size=6)),
    lease=st.sampled_from([0, 0, 42, 99]),
    delete=st.booleans(),
    read=st.booleans(),
)


@given(KUBE_TXNS)
def test_kube_shapes_are_recognised(request: rpc.TxnRequest) -> None:
    found = parse_kube_txn(request.SerializeToString())
    assert found is not None
    assert found[0] == request.compare[0].key


def altered(change: Callable[[rpc.TxnRequest], object], **shape: object) -> rpc.TxnRequest:
    request = kube_txn(**shape)  # type: ignore[arg-type]
    change(request)
    return request


OTHERS = {
    "no compare": lambda t: t.ClearField("compare"),
    "two compares": lambda t: t.compare.add(key=b"k", target=2, mod_revision=0),
    "another key put": lambda t: setattr(t.success[0].request_put, "key", b"x"),
    "another key read": lambda t: setattr(t.failure[0].request_range, "key", b"x"),
    "no key": lambda t: setattr(t.compare[0], "key", b""),
    "not equal": lambda t: setattr(t.compare[0], "result", 3),
    "compares a value": lambda t: t.compare[0].MergeFrom(rpc.Compare(target=rpc.Compare.VALUE, value=b"v")),
    "value of another target": lambda t: setattr(t.compare[0], "version", 1),
    "no value to compare with": lambda t: t.compare[0].ClearField("target_union"),
    "compares a range": lambda t: setattr(t.compare[0], "range_end", b"z"),
    "two puts": lambda t: t.success.add().request_put.MergeFrom(rpc.PutRequest(key=b"y")),
    "prev_kv": lambda t: setattr(t.success[0].request_put, "prev_kv", True),
    "ignore_value": lambda t: setattr(t.success[0].request_put, "ignore_value", True),
    "range of a prefix": lambda t: setattr(t.failure[0].request_range, "range_end", b"z"),
    "limited read": lambda t: setattr(t.failure[0].request_range, "limit", 1),
    "put on failure": lambda t: t.failure[0].request_put.MergeFrom(rpc.PutRequest(key=b"k")),
    "nested": lambda t: t.success[0].request_txn.SetInParent(),
    "empty operation": lambda t: t.success.add(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_shapes_are_left_to_the_generic_path(name: str) -> None:
    assert parse_kube_txn(altered(OTHERS[name]).SerializeToString()) is None


def test_a_range_on_success_is_left_to_the_generic_path() -> None:
    request = kube_txn(put=None)
    request.success.add().request_range.key = b"k"
    assert parse_kube_txn(request.SerializeToString()) is None


def test_unknown_fields_are_left_to_the_generic_path() -> None:
    assert parse_kube_txn(kube_txn().SerializeToString() + b"\x28\x01") is None


@given(st.binary(max_size=60), KUBE_TXNS, st.integers(0, 60))
def test_no_bytes_confuse_the_parser(noise: bytes, request: rpc.TxnRequest, at: int) -> None:
    """Whatever is recognised, protobuf reads the same way."""
    data = request.SerializeToString()
    for message in (noise, data[:at], data[:at] + noise, data[:at] + noise + data[at + len(noise) :]):
        found = parse_kube_txn(message)
        if found is not None:
            parsed = rpc.TxnRequest.FromString(message)
            put = parsed.success[0].request_put if parsed.success else rpc.PutRequest()
            assert (found[0], found[4], found[5]) == (parsed.compare[0].key, put.value, put.lease)


class Lease42:
    def __init__(self) -> None:
        self.moves: list[tuple[bytes, int, int]] = []

    def holds(self, lease_id: int) -> bool:
        return lease_id == 42

    def move(self, key: bytes, old: int, new: int, undo: list[Callable[[], None]]) -> None:
        self.moves.append((key, old, new))
        undo.append(self.moves.clear)


STORED = {
    b"a": encode_kv(b"a", 2, 5, 3, b"one", 0),
    b"\0": encode_kv(b"\0", 4, 4, 1, b"", 42),
    b"long" * 120: encode_kv(b"long" * 120, 3, 3, 1, b"x", 0),
}
ENCODER = Encoder(7, 8, 2)


def generic(
    request: rpc.TxnRequest, pending: Pending, leases: Lease42, flying: dict[bytes, bytes | None]
) -> bytes | BrainError:
    state: dict[bytes, bytes | None] = {**STORED, **flying, **pending.now}
    view = Dict({key: kv for key, kv in state.items() if kv is not None})
    try:
        planned = plan(
            decode.txn_op(request, 128),
            World(view, pending.revision, -1, leases.holds, lambda _: pytest.fail("pinned")),
        )
    except BrainError as error:
        return error
    if planned.changes:
        pending.record(planned.changes)
        for move in planned.moves:
            leases.move(*move, pending.undo)
    assert isinstance(planned.answer, TxnAnswer)
    return ENCODER.txn(pending.revision, planned.answer)


@settings(max_examples=300)
@given(st.lists(KUBE_TXNS, min_size=1, max_size=8))
def test_the_kube_lane_does_what_the_generic_path_does(requests: list[rpc.TxnRequest]) -> None:
    fast, slow = Pending(5), Pending(5)
    leases, slow_leases = Lease42(), Lease42()
    lane = KubeLane(Header(7, 8, 2), STORED.get, STORED, leases)
    lane.room = 1 << 40
    flying: dict[bytes, bytes | None] = {b"b": encode_kv(b"b", 5, 5, 1, b"flying", 0), b"a": None}
    for request in requests:
        got: list[object] = []
        outcome = lane.submit(request.SerializeToString(), fast, flying, 5, got.append, got.append)
        expected = generic(request, slow, slow_leases, flying)
        answer = fast.entries[-1][1] if outcome is True else outcome
        if isinstance(expected, BrainError):
            assert type(answer) is type(expected)
        elif outcome is True or slow.revision == 5:
            assert answer == expected
        else:  # answered at once, from published state: only the revision may be the older one
            assert isinstance(answer, bytes)
            early, late = rpc.TxnResponse.FromString(answer), rpc.TxnResponse.FromString(expected)
            assert early.header.revision == 5
            assert (early.succeeded, [r.response_range.kvs for r in early.responses]) == (
                late.succeeded,
                [r.response_range.kvs for r in late.responses],
            )
    assert sorted(fast.writes, key=repr) == sorted(slow.writes, key=repr)
    assert (fast.revision, fast.now, fast.events, fast.births) == (slow.revision, slow.now, slow.events, slow.births)
    assert leases.moves == slow_leases.moves


def test_a_put_without_room_is_refused_whatever_its_compare_says() -> None:
    lane = KubeLane(Header(7, 8, 2), STORED.get, STORED, Lease42())
    outcome = lane.submit(kube_txn(expected=77).SerializeToString(), Pending(5), {}, 5, print, print)
    assert isinstance(outcome, NoSpace)
    delete = kube_txn(key=b"a", expected=5, delete=True)
    assert lane.submit(delete.SerializeToString(), Pending(5), {}, 5, print, print) is True


def test_an_unknown_lease_is_refused_only_where_it_would_be_used() -> None:
    lane = KubeLane(Header(7, 8, 2), STORED.get, STORED, Lease42())
    lane.room = 1 << 40
    assert isinstance(
        lane.submit(kube_txn(lease=99).SerializeToString(), Pending(5), {}, 5, print, print), LeaseNotFound
    )
    failing = kube_txn(lease=99, expected=3)
    assert isinstance(lane.submit(failing.SerializeToString(), Pending(5), {}, 5, print, print), bytes)


RANGES = st.builds(
    rpc.RangeRequest,
    key=st.binary(max_size=4),
    range_end=st.binary(max_size=4),
    limit=st.integers(-2, 500),
    revision=st.integers(-2, 500),
    serializable=st.booleans(),
    keys_only=st.booleans(),
    count_only=st.booleans(),
)


@given(RANGES)
def test_plain_ranges_are_recognised(request: rpc.RangeRequest) -> None:
    found = parse_kube_range(request.SerializeToString())
    if not request.key or request.limit < 0 or request.revision < 0:
        assert found is None
    else:
        assert found == (
            request.key,
            request.range_end,
            request.limit,
            request.revision,
            request.keys_only,
            request.count_only,
        )


@pytest.mark.parametrize(
    "more",
    [
        {"sort_order": 1},
        {"sort_target": 2},
        {"min_mod_revision": 1},
        {"max_create_revision": 1},
    ],
)
def test_ranges_that_ask_for_more_are_left_to_the_generic_path(more: dict[str, int]) -> None:
    assert parse_kube_range(rpc.RangeRequest(key=b"k", **more).SerializeToString()) is None  # type: ignore[arg-type]
