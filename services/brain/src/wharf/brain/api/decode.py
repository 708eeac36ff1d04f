"""Request bytes → the store's operations: parsing, and etcd's checks in etcd's order.

Which of several faults is reported is part of the API, so the order here is etcd's: option enums after the key, the
number of operations before the operations, overlaps last. Pure apart from the protobuf library.

Invariant: whatever comes out satisfies every rule the store takes for granted (keys present, enums known, limits not
negative).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from wharf.brain.api.intervals import check_overlaps
from wharf.brain.api.malformed import why_malformed
from wharf.brain.api.pb import rpc
from wharf.brain.errors import (
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
    Op,
    PutOp,
    RangeOp,
    SortOrder,
    SortTarget,
    TxnOp,
)

M = TypeVar("M", bound=Message)

ENVELOPE = 18
"""Bytes etcd's log entry adds to a write before its size is checked: request id, header and field tags."""

_SORT_ORDERS = {int(order): order for order in SortOrder}
_SORT_TARGETS = {int(target): target for target in SortTarget}
_COMPARE_FIELD = {
    int(CompareTarget.VERSION): "version",
    int(CompareTarget.CREATE): "create_revision",
    int(CompareTarget.MOD): "mod_revision",
    int(CompareTarget.VALUE): "value",
    int(CompareTarget.LEASE): "lease",
}
_VALUES: dict[CompareTarget, Callable[[rpc.Compare], int | bytes]] = {
    CompareTarget.VERSION: lambda request: request.version,
    CompareTarget.CREATE: lambda request: request.create_revision,
    CompareTarget.MOD: lambda request: request.mod_revision,
    CompareTarget.VALUE: lambda request: request.value,
    CompareTarget.LEASE: lambda request: request.lease,
}
_RESULTS = {int(result): result for result in CompareResult}


def parse(kind: type[M], data: bytes) -> M:
    """The message in a unary request; MalformedRequest."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise MalformedRequest(why_malformed(kind, data)) from error


def parse_message(kind: type[M], data: bytes) -> M:
    """A message that came on a stream; MalformedMessage."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise MalformedMessage(why_malformed(kind, data)) from error


def check_size(data: bytes, max_request_bytes: int) -> None:
    """Writes are bounded by what etcd would have to log; RequestTooLarge."""
    if len(data) + ENVELOPE > max_request_bytes:
        raise RequestTooLarge


def range_op(request: rpc.RangeRequest) -> RangeOp:
    if not request.key:
        raise KeyNotProvided
    order, target = _SORT_ORDERS.get(request.sort_order), _SORT_TARGETS.get(request.sort_target)
    if order is None or target is None:
        raise InvalidSortOption
    return RangeOp(
        key=request.key,
        range_end=request.range_end,
        limit=max(request.limit, 0),
        revision=request.revision,
        sort_order=order,
        sort_target=target,
        keys_only=request.keys_only,
        count_only=request.count_only,
        min_mod_revision=request.min_mod_revision,
        max_mod_revision=request.max_mod_revision,
        min_create_revision=request.min_create_revision,
        max_create_revision=request.max_create_revision,
    )


def put_op(request: rpc.PutRequest) -> PutOp:
    if not request.key:
        raise KeyNotProvided
    if request.ignore_value and request.value:
        raise ValueProvided
    if request.ignore_lease and request.lease:
        raise LeaseProvided
    return PutOp(
        key=request.key,
        value=request.value,
        lease=request.lease,
        prev_kv=request.prev_kv,
        ignore_value=request.ignore_value,
        ignore_lease=request.ignore_lease,
    )


def delete_op(request: rpc.DeleteRangeRequest) -> DeleteOp:
    if not request.key:
        raise KeyNotProvided
    return DeleteOp(key=request.key, range_end=request.range_end, prev_kv=request.prev_kv)


def txn_op(request: rpc.TxnRequest, max_ops: int) -> TxnOp:
    """A transaction of at most `max_ops` operations per list; nested ones share what the outer ones leave."""
    op = _txn(request, max_ops)
    check_overlaps(op.success)
    check_overlaps(op.failure)
    return op


def _txn(request: rpc.TxnRequest, max_ops: int) -> TxnOp:
    used = max(len(request.compare), len(request.success), len(request.failure))
    if used > max_ops:
        raise TooManyOps
    for compare in request.compare:
        if not compare.key:
            raise KeyNotProvided
    success = _ops(request.success, max_ops - used)
    failure = _ops(request.failure, max_ops - used)
    return TxnOp(tuple(map(_compare, request.compare)), success, failure)


def _ops(requests: Sequence[rpc.RequestOp], max_ops: int) -> tuple[Op, ...]:
    return tuple(_op(request, max_ops) for request in requests)


def _op(request: rpc.RequestOp, max_ops: int) -> Op:
    which = request.WhichOneof("request")
    if which == "request_range":
        return range_op(request.request_range)
    if which == "request_put":
        return put_op(request.request_put)
    if which == "request_delete_range":
        return delete_op(request.request_delete_range)
    if which == "request_txn":
        return _txn(request.request_txn, max_ops)
    raise KeyNotFound  # etcd's answer to an operation that is none


def _compare(request: rpc.Compare) -> Compare:
    """A condition. What etcd tolerates is turned into a condition with the same outcome.

    A value of another kind than the target counts as zero; an unknown target is equal; an unknown result holds.
    """
    result = _RESULTS.get(request.result)
    field = _COMPARE_FIELD.get(request.target)
    if result is None or field is None:
        holds = result is None or result is CompareResult.EQUAL
        impossible = -1 if holds else 2**63 - 1  # every version is greater than the first, none than the second
        return Compare(request.key, CompareTarget.VERSION, CompareResult.GREATER, impossible, request.range_end)
    target = CompareTarget(request.target)
    value: int | bytes = b"" if target is CompareTarget.VALUE else 0
    if request.WhichOneof("target_union") == field:
        value = _VALUES[target](request)
    return Compare(request.key, target, result, value, request.range_end)


def is_read_only(op: TxnOp) -> bool:
    """Only reads in either branch. A nested transaction counts as a write, as it does in etcd."""
    return all(isinstance(inner, RangeOp) for inner in (*op.success, *op.failure))
