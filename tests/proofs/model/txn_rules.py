"""Rules of requests and transactions: what is refused before anything is looked at, which branch is taken, what it
answers.

Invariant: checks come in the protocol's order, so the first thing wrong with a request decides the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proofs.model.ranges import in_range
from proofs.model.refusals import (
    COMPACTED,
    DUPLICATE_KEY,
    FUTURE,
    INVALID_SORT,
    KEY_NOT_FOUND,
    LEASE_GIVEN,
    LEASE_NOT_FOUND,
    NO_KEY,
    TOO_MANY_OPS,
    VALUE_GIVEN,
    Refused,
)
from wharf.common.pb.etcd import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from proofs.model.reference import Draft, Keys, Model

MAX_OPS = 128
_SORTS = range(3)
_SORT_TARGETS = range(5)


def check_range(request: rpc_pb2.RangeRequest) -> None:
    if not request.key:
        raise Refused(*NO_KEY)
    if request.sort_order not in _SORTS or request.sort_target not in _SORT_TARGETS:
        raise Refused(*INVALID_SORT)


def check_put(request: rpc_pb2.PutRequest) -> None:
    if not request.key:
        raise Refused(*NO_KEY)
    if request.ignore_value and request.value:
        raise Refused(*VALUE_GIVEN)
    if request.ignore_lease and request.lease:
        raise Refused(*LEASE_GIVEN)


def check_delete(request: rpc_pb2.DeleteRangeRequest) -> None:
    if not request.key:
        raise Refused(*NO_KEY)


def check_txn(request: rpc_pb2.TxnRequest, max_ops: int = MAX_OPS) -> None:
    operations = max(len(request.compare), len(request.success), len(request.failure))
    if operations > max_ops:
        raise Refused(*TOO_MANY_OPS)
    if any(not compare.key for compare in request.compare):
        raise Refused(*NO_KEY)
    for op in (*request.success, *request.failure):
        _check_op(op, max_ops - operations)


def _check_op(op: rpc_pb2.RequestOp, max_ops: int) -> None:
    match op.WhichOneof("request"):
        case "request_range":
            check_range(op.request_range)
        case "request_put":
            check_put(op.request_put)
        case "request_delete_range":
            check_delete(op.request_delete_range)
        case "request_txn":
            check_txn(op.request_txn, max_ops)
        case _:
            raise Refused(*KEY_NOT_FOUND)


@dataclass(slots=True)
class Touched:
    """Keys put and ranges deleted by a list of operations and everything nested in them."""

    puts: set[bytes] = field(default_factory=set)
    deletes: list[tuple[bytes, bytes]] = field(default_factory=list)

    def add_put(self, key: bytes, known: Iterable[bytes] = ()) -> None:
        """`known`: keys that may be put again, by the branch that excludes this one."""
        if (key in self.puts and key not in known) or any(_overlaps(key, *deleted) for deleted in self.deletes):
            raise Refused(*DUPLICATE_KEY)
        self.puts.add(key)


def _overlaps(key: bytes, start: bytes, end: bytes) -> bool:
    """As the server's own check has it: the end is taken literally, so a delete up to the end of all keys overlaps
    nothing.
    """
    return key == start if end == b"" else start <= key < end


def check_overlaps(operations: Iterable[rpc_pb2.RequestOp]) -> Touched:
    """A key may not be put twice, nor put and deleted, in one transaction.

    Order matters and is the server's: own deletes, nested transactions one after the other, own puts. So a put nested
    earlier than a delete that is nested later goes unnoticed.
    """
    operations = list(operations)
    touched = Touched()
    for op in operations:
        if op.WhichOneof("request") == "request_delete_range":
            touched.deletes.append((op.request_delete_range.key, op.request_delete_range.range_end))
    for op in operations:
        if op.WhichOneof("request") == "request_txn":
            then = check_overlaps(op.request_txn.success)
            otherwise = check_overlaps(op.request_txn.failure)
            for key in then.puts:
                touched.add_put(key)
            for key in otherwise.puts:
                touched.add_put(key, then.puts)
            touched.deletes += then.deletes + otherwise.deletes
    for op in operations:
        if op.WhichOneof("request") == "request_put":
            touched.add_put(op.request_put.key)
    return touched


@dataclass(frozen=True, slots=True)
class Branch:
    """What a transaction will do: every compare, nested ones too, is decided before anything changes."""

    succeeded: bool
    operations: tuple[rpc_pb2.RequestOp | Branch, ...]


def branches(request: rpc_pb2.TxnRequest, keys: Keys) -> Branch:
    succeeded = all(holds(compare, keys) for compare in request.compare)
    taken = request.success if succeeded else request.failure
    nested = (branches(op.request_txn, keys) if op.WhichOneof("request") == "request_txn" else op for op in taken)
    return Branch(succeeded, tuple(nested))


def holds(compare: rpc_pb2.Compare, keys: Keys) -> bool:
    found = [keys[key] for key in keys if in_range(key, compare.key, compare.range_end)]
    if not found:
        if compare.target == rpc_pb2.Compare.VALUE:
            return False  # no value is no value, not an empty one
        found = [kv_pb2.KeyValue()]
    return all(_compare_one(compare, kv) for kv in found)


def _compare_one(compare: rpc_pb2.Compare, kv: kv_pb2.KeyValue) -> bool:
    pairs: Mapping[int, tuple[int | bytes, int | bytes]] = {
        rpc_pb2.Compare.VERSION: (kv.version, compare.version),
        rpc_pb2.Compare.CREATE: (kv.create_revision, compare.create_revision),
        rpc_pb2.Compare.MOD: (kv.mod_revision, compare.mod_revision),
        rpc_pb2.Compare.VALUE: (kv.value, compare.value),
        rpc_pb2.Compare.LEASE: (kv.lease, compare.lease),
    }
    have, want = pairs.get(compare.target, (0, 0))
    match compare.result:
        case rpc_pb2.Compare.EQUAL:
            return have == want
        case rpc_pb2.Compare.NOT_EQUAL:
            return have != want
        case rpc_pb2.Compare.GREATER:
            return have > want  # type: ignore[operator]  # both are ints or both bytes
        case rpc_pb2.Compare.LESS:
            return have < want  # type: ignore[operator]
        case _:
            return True


def check_put_here(request: rpc_pb2.PutRequest, keys: Keys, leases: Mapping[int, int]) -> None:
    if (request.ignore_value or request.ignore_lease) and request.key not in keys:
        raise Refused(*KEY_NOT_FOUND)
    if request.lease and request.lease not in leases:
        raise Refused(*LEASE_NOT_FOUND)


def check_txn_here(branch: Branch, model: Model) -> None:
    """What can only be refused knowing the store; the whole taken path is checked before anything changes."""
    for op in branch.operations:
        if isinstance(op, Branch):
            check_txn_here(op, model)
        elif op.WhichOneof("request") == "request_put":
            check_put_here(op.request_put, model.states[model.revision], model.leases)
        elif op.WhichOneof("request") == "request_range" and op.request_range.revision != 0:
            if op.request_range.revision > model.revision:
                raise Refused(*FUTURE)
            if op.request_range.revision < model.compacted:
                raise Refused(*COMPACTED)


def execute(branch: Branch, draft: Draft) -> rpc_pb2.TxnResponse:
    """Answers in order. A nested transaction's own header stays empty."""
    answer = rpc_pb2.TxnResponse(succeeded=branch.succeeded, header=rpc_pb2.ResponseHeader())
    for op in branch.operations:
        if isinstance(op, Branch):
            answer.responses.add().response_txn.CopyFrom(execute(op, draft))
        elif op.WhichOneof("request") == "request_range":
            answer.responses.add().response_range.CopyFrom(draft.range(op.request_range))
        elif op.WhichOneof("request") == "request_put":
            answer.responses.add().response_put.CopyFrom(draft.put(op.request_put))
        else:
            answer.responses.add().response_delete_range.CopyFrom(draft.delete_range(op.request_delete_range))
    return answer
