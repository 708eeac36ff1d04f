"""Requests become operations, and the fault that is reported is the one etcd reports."""

from __future__ import annotations

from contextlib import suppress

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.api import decode
from wharf.brain.api.pb import rpc
from wharf.brain.errors import (
    BrainError,
    DuplicateKey,
    InvalidSortOption,
    KeyNotFound,
    KeyNotProvided,
    LeaseProvided,
    MalformedMessage,
    MalformedRequest,
    RequestTooLarge,
    TooManyOps,
    ValueProvided,
)
from wharf.brain.store.shapes import (
    Compare,
    CompareResult,
    CompareTarget,
    DeleteOp,
    PutOp,
    RangeOp,
    SortOrder,
    SortTarget,
    TxnOp,
)

PUT = rpc.RequestOp(request_put=rpc.PutRequest(key=b"k"))
KEYLESS = rpc.RequestOp(request_put=rpc.PutRequest())


def test_every_option_of_a_range_is_carried() -> None:
    request = rpc.RangeRequest(
        key=b"k",
        range_end=b"l",
        limit=3,
        revision=7,
        sort_order=rpc.RangeRequest.DESCEND,
        sort_target=rpc.RangeRequest.MOD,
        serializable=True,
        keys_only=True,
        count_only=True,
        min_mod_revision=1,
        max_mod_revision=2,
        min_create_revision=3,
        max_create_revision=4,
    )
    assert decode.range_op(request) == RangeOp(
        b"k", b"l", 3, 7, SortOrder.DESCEND, SortTarget.MOD, True, True, 1, 2, 3, 4
    )


def test_a_negative_limit_means_none() -> None:
    assert decode.range_op(rpc.RangeRequest(key=b"k", limit=-1)) == RangeOp(b"k")


def test_a_negative_revision_is_the_store_s_to_judge() -> None:
    """Now for a Range, refused as compacted in a Txn."""
    assert decode.range_op(rpc.RangeRequest(key=b"k", revision=-5)) == RangeOp(b"k", revision=-5)


def test_a_missing_key_is_told_before_a_bad_sort() -> None:
    with pytest.raises(KeyNotProvided):
        decode.range_op(rpc.RangeRequest(sort_order=9))  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["sort_order", "sort_target"])
def test_unknown_sort_options_are_refused(field: str) -> None:
    request = rpc.RangeRequest(key=b"k")
    setattr(request, field, 9)
    with pytest.raises(InvalidSortOption):
        decode.range_op(request)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (rpc.PutRequest(value=b"v", ignore_value=True), KeyNotProvided),
        (rpc.PutRequest(key=b"k", value=b"v", ignore_value=True), ValueProvided),
        (rpc.PutRequest(key=b"k", lease=1, ignore_lease=True), LeaseProvided),
    ],
)
def test_puts_that_contradict_themselves(request_: rpc.PutRequest, error: type[BrainError]) -> None:
    with pytest.raises(error):
        decode.put_op(request_)


def test_put_and_delete_are_carried_whole() -> None:
    put = rpc.PutRequest(key=b"k", lease=5, prev_kv=True, ignore_value=True)
    assert decode.put_op(put) == PutOp(b"k", b"", 5, True, True, False)
    delete = rpc.DeleteRangeRequest(key=b"k", range_end=b"\0", prev_kv=True)
    assert decode.delete_op(delete) == DeleteOp(b"k", b"\0", True)


def nested(depth: int, leaf: rpc.RequestOp) -> rpc.TxnRequest:
    request = rpc.TxnRequest(success=[leaf])
    for _ in range(depth):
        request = rpc.TxnRequest(success=[rpc.RequestOp(request_txn=request)])
    return request


def test_nested_transactions_share_the_allowance() -> None:
    decode.txn_op(nested(2, PUT), 3)
    with pytest.raises(TooManyOps):
        decode.txn_op(nested(3, PUT), 3)


def test_too_many_is_told_before_a_missing_key() -> None:
    with pytest.raises(TooManyOps):
        decode.txn_op(rpc.TxnRequest(success=[KEYLESS] * 3), 2)


def test_a_keyless_comparison_is_told_before_a_bad_operation() -> None:
    with pytest.raises(KeyNotProvided):
        decode.txn_op(rpc.TxnRequest(compare=[rpc.Compare()], success=[rpc.RequestOp()]), 128)


def test_an_empty_operation_is_key_not_found() -> None:
    with pytest.raises(KeyNotFound):
        decode.txn_op(rpc.TxnRequest(success=[rpc.RequestOp()]), 128)


def test_overlaps_are_told_last() -> None:
    with pytest.raises(KeyNotFound):
        decode.txn_op(rpc.TxnRequest(success=[PUT, PUT], failure=[rpc.RequestOp()]), 128)
    with pytest.raises(DuplicateKey):
        decode.txn_op(rpc.TxnRequest(success=[PUT, PUT]), 128)
    with pytest.raises(DuplicateKey):
        decode.txn_op(rpc.TxnRequest(failure=[PUT, PUT]), 128)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            rpc.Compare(key=b"k", target=rpc.Compare.MOD, result=rpc.Compare.LESS, mod_revision=4, range_end=b"l"),
            Compare(b"k", CompareTarget.MOD, CompareResult.LESS, 4, b"l"),
        ),
        (
            rpc.Compare(key=b"k", target=rpc.Compare.VALUE, value=b"v"),
            Compare(b"k", CompareTarget.VALUE, CompareResult.EQUAL, b"v"),
        ),
        (
            rpc.Compare(key=b"k", target=rpc.Compare.VALUE, version=3),
            Compare(b"k", CompareTarget.VALUE, CompareResult.EQUAL, b""),
        ),
        (
            rpc.Compare(key=b"k", target=rpc.Compare.LEASE, value=b"v"),
            Compare(b"k", CompareTarget.LEASE, CompareResult.EQUAL, 0),
        ),
    ],
)
def test_comparisons(request_: rpc.Compare, expected: Compare) -> None:
    assert decode.txn_op(rpc.TxnRequest(compare=[request_]), 128) == TxnOp((expected,))


@pytest.mark.parametrize(("target", "result", "holds"), [(9, 0, True), (9, 1, False), (9, 3, False), (0, 9, True)])
def test_unknown_comparisons_have_etcds_outcome(target: int, result: int, holds: bool) -> None:
    request = rpc.Compare(key=b"k", target=target, result=result)  # type: ignore[arg-type]
    (compare,) = decode.txn_op(rpc.TxnRequest(compare=[request]), 128).compares
    assert (compare.target, compare.result) == (CompareTarget.VERSION, CompareResult.GREATER)
    assert isinstance(compare.value, int)
    for version in (0, 1, 2**62):
        assert (version > compare.value) is holds


def test_size_counts_what_etcd_would_log() -> None:
    decode.check_size(bytes(100 - decode.ENVELOPE), 100)
    with pytest.raises(RequestTooLarge):
        decode.check_size(bytes(100 - decode.ENVELOPE + 1), 100)


@pytest.mark.parametrize("kind", [rpc.RangeRequest, rpc.TxnRequest, rpc.WatchRequest])
def test_what_is_no_message_is_said_so(kind: type[Message]) -> None:
    with pytest.raises(MalformedRequest):
        decode.parse(kind, b"\x0a\xff")
    with pytest.raises(MalformedMessage):
        decode.parse_message(kind, b"\x0a\xff")


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_parse_or_be_refused(data: bytes) -> None:
    with suppress(BrainError):
        decode.txn_op(decode.parse(rpc.TxnRequest, data), 128)
