"""What a transaction does: compares and operations against a view → a plan. Pure.

Invariants, all etcd's:
* every compare, nested ones included, and every check (leases, ignored values, pinned revisions) looks at the state
  before the transaction; only when all of them pass does the first operation run, so a plan is whole or an error;
* operations see what earlier operations of the same transaction did; all of it happens in one revision;
* prev_kv in an answer is the state the operation met; prev_kv of an event is the state before the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wharf.brain.errors import Compacted, FutureRevision, KeyNotFound, LeaseNotFound
from wharf.brain.store._codec import encode_kv, frame, kv_numbers, parse_kv, without_value
from wharf.brain.store.overlay import Layer, View, select
from wharf.brain.store.shapes import (
    Answer,
    Compare,
    CompareResult,
    CompareTarget,
    DeleteAnswer,
    DeleteOp,
    EventKind,
    Op,
    PutAnswer,
    PutOp,
    RangeAnswer,
    RangeOp,
    SortOrder,
    SortTarget,
    TxnAnswer,
    TxnOp,
)

if TYPE_CHECKING:
    from wharf.brain.store._codec import Change

KVS_TAG = 0x12  # RangeResponse.kvs


@dataclass(frozen=True, slots=True)
class World:
    """What a transaction is evaluated against."""

    view: View
    revision: int
    compact_revision: int  # -1: nothing was ever compacted
    lease_exists: Callable[[int], bool]
    at_revision: Callable[[RangeOp], RangeAnswer]  # a range pinned at a revision between the two


@dataclass(frozen=True, slots=True)
class Plan:
    """The effect of a transaction, nothing of it done yet."""

    answer: Answer
    changes: list[Change]  # (kind, key, KeyValue, KeyValue before the transaction, is a create), in order
    moves: list[tuple[bytes, int, int]]  # (key, lease before, lease after), in order


def plan(op: Op, world: World) -> Plan:
    """The plan of one request; raises the BrainError it must be answered with."""
    if isinstance(op, TxnOp):
        path = choose(op, world.view)
        check(path, world)
        run = _Run(world)
        return Plan(run.txn(path), run.changes, run.moves)
    check_op(op, world)
    run = _Run(world)
    return Plan(run.op(op), run.changes, run.moves)


@dataclass(frozen=True, slots=True)
class Path:
    """A transaction with its branches chosen."""

    succeeded: bool
    ops: tuple[RangeOp | PutOp | DeleteOp | Path, ...]


def choose(op: TxnOp, view: View) -> Path:
    """Which way the compares lead, nested ones included, on the state before the transaction."""
    succeeded = all(holds(compare, view) for compare in op.compares)
    taken = op.success if succeeded else op.failure
    return Path(succeeded, tuple(choose(inner, view) if isinstance(inner, TxnOp) else inner for inner in taken))


def holds(compare: Compare, view: View) -> bool:
    """A compare over a range holds when it holds for every key; without any key it sees zeros, and no value at all."""
    empty = True
    for _, kv in select(view, compare.key, compare.range_end):
        empty = False
        if not _compare(compare, kv):
            return False
    if not empty:
        return True
    return compare.target is not CompareTarget.VALUE and _compare(compare, b"")


def _compare(compare: Compare, kv: bytes) -> bool:
    _, create_revision, mod_revision, version, value, lease = parse_kv(kv)
    left: int | bytes = (version, create_revision, mod_revision, value, lease)[compare.target]
    right = compare.value
    if compare.result is CompareResult.EQUAL:
        return left == right
    if compare.result is CompareResult.NOT_EQUAL:
        return left != right
    if isinstance(left, bytes) and isinstance(right, bytes):
        return left > right if compare.result is CompareResult.GREATER else left < right
    if isinstance(left, int) and isinstance(right, int):
        return left > right if compare.result is CompareResult.GREATER else left < right
    return False


def check(path: Path, world: World) -> None:
    for op in path.ops:
        if isinstance(op, Path):
            check(op, world)
        else:
            check_op(op, world)


def check_op(op: RangeOp | PutOp | DeleteOp, world: World) -> None:
    if isinstance(op, PutOp):
        if op.lease and not world.lease_exists(op.lease):
            raise LeaseNotFound
        if (op.ignore_value or op.ignore_lease) and world.view.get(op.key) is None:
            raise KeyNotFound
    elif isinstance(op, RangeOp) and op.revision != 0:  # below zero is as good as compacted
        if op.revision > world.revision:
            raise FutureRevision
        if op.revision < world.compact_revision:
            raise Compacted


class _Run:
    """One transaction being carried out."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._now: dict[bytes, bytes | None] = {}
        self._view = Layer(world.view, self._now)
        self.changes: list[Change] = []
        self.moves: list[tuple[bytes, int, int]] = []

    def txn(self, path: Path) -> TxnAnswer:
        return TxnAnswer(
            path.succeeded, tuple(self.txn(op) if isinstance(op, Path) else self.op(op) for op in path.ops)
        )

    def op(self, op: RangeOp | PutOp | DeleteOp) -> RangeAnswer | PutAnswer | DeleteAnswer:
        if isinstance(op, PutOp):
            return self._put(op)
        if isinstance(op, DeleteOp):
            return self._delete(op)
        if op.revision > 0:
            return replace(self._world.at_revision(op), revision=self._revision())
        return answer_range(select(self._view, op.key, op.range_end), op, self._revision())

    def _revision(self) -> int:
        return self._world.revision + (1 if self.changes else 0)

    def _put(self, op: PutOp) -> PutAnswer:
        revision = self._world.revision + 1
        met = self._view.get(op.key)
        _, create_revision, _, version, value, old_lease = parse_kv(met or b"")
        lease = old_lease if op.ignore_lease else op.lease
        create_revision = revision if met is None else create_revision
        kv = encode_kv(op.key, create_revision, revision, version + 1, value if op.ignore_value else op.value, lease)
        self._change(EventKind.PUT, op.key, kv, create_revision == revision)
        self._move(op.key, old_lease, lease)
        return PutAnswer(met if op.prev_kv else None)

    def _delete(self, op: DeleteOp) -> DeleteAnswer:
        met = list(select(self._view, op.key, op.range_end))
        for key, kv in met:
            self._change(EventKind.DELETE, key, encode_kv(key, 0, self._world.revision + 1, 0, b"", 0), False)
            self._move(key, kv_numbers(kv)[3], 0)
        return DeleteAnswer(len(met), tuple(kv for _, kv in met) if op.prev_kv else ())

    def _change(self, kind: EventKind, key: bytes, kv: bytes, created: bool) -> None:
        self._now[key] = kv if kind is EventKind.PUT else None
        self.changes.append((int(kind), key, kv, self._world.view.get(key), created))

    def _move(self, key: bytes, old: int, new: int) -> None:
        if old != new:
            self.moves.append((key, old, new))


_SORT_FIELD = {
    SortTarget.KEY: 0,
    SortTarget.CREATE: 1,
    SortTarget.MOD: 2,
    SortTarget.VERSION: 3,
    SortTarget.VALUE: 4,
}


def answer_range(found: Iterator[tuple[bytes, bytes]], op: RangeOp, revision: int) -> RangeAnswer:
    """RangeAnswer from (key, KeyValue) pairs in key order: filters, then order, then limit; the count knows none of
    them."""
    if op.count_only:
        return RangeAnswer(revision, b"", 0, sum(1 for _ in found), False)
    kvs = [kv for _, kv in found]
    count = len(kvs)
    filtered = _filter(kvs, op)
    if op.limit > 0 and op.sort_order is SortOrder.NONE and filtered is kvs:
        # As in etcd: without an order only the first keys are sorted, and one more to tell whether there are any.
        filtered = kvs[: op.limit + 1]
    kvs, order = filtered, op.sort_order
    if order is SortOrder.DESCEND or op.sort_target is not SortTarget.KEY:
        field = _SORT_FIELD[op.sort_target]
        kvs.sort(key=lambda kv: parse_kv(kv)[field], reverse=order is SortOrder.DESCEND)
    more = 0 < op.limit < len(kvs)
    kvs = kvs[: op.limit] if more else kvs
    if op.keys_only:
        kvs = [without_value(kv) for kv in kvs]
    framed = b"".join([frame(KVS_TAG, kv) for kv in kvs])
    return RangeAnswer(revision, framed, len(kvs), count, more, len(framed))


def _filter(kvs: list[bytes], op: RangeOp) -> list[bytes]:
    """The same list when the range has no filters."""
    bounds = (op.min_create_revision, op.max_create_revision, op.min_mod_revision, op.max_mod_revision)
    if not any(bounds):
        return kvs
    kept = []
    for kv in kvs:
        create_revision, mod_revision, _, _ = kv_numbers(kv)
        if (
            (not bounds[0] or create_revision >= bounds[0])
            and (not bounds[1] or create_revision <= bounds[1])
            and (not bounds[2] or mod_revision >= bounds[2])
            and (not bounds[3] or mod_revision <= bounds[3])
        ):
            kept.append(kv)
    return kept


def is_read_only(op: Op) -> bool:
    """Whether no branch of the request writes: it then needs no place in a batch."""
    if isinstance(op, TxnOp):
        return all(map(is_read_only, op.success)) and all(map(is_read_only, op.failure))
    return isinstance(op, RangeOp)


def keys_of(op: Op) -> Iterator[tuple[bytes, bytes]]:
    """(key, range_end) of everything a request compares or reads."""
    if isinstance(op, TxnOp):
        for compare in op.compares:
            yield compare.key, compare.range_end
        for inner in (*op.success, *op.failure):
            yield from keys_of(inner)
    elif isinstance(op, RangeOp | DeleteOp):
        yield op.key, op.range_end
    else:
        yield op.key, b""


def cost(op: Op) -> int:
    """Bytes of quota a request may take, as etcd estimates them: the dearer branch of a transaction."""
    if isinstance(op, PutOp):
        return 256 + len(op.key) + len(op.value)
    if isinstance(op, TxnOp):
        return max(sum(map(cost, op.success)), sum(map(cost, op.failure)))
    return 0
