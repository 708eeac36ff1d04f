"""What a transaction does, rule by rule, over a view that is a dict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
from wharf.brain.errors import BrainError, Compacted, FutureRevision, KeyNotFound, LeaseNotFound
from wharf.brain.store.keys import KeyValue, encode_kv, parse_kv
from wharf.brain.store.shapes import (
    Compare,
    CompareResult,
    CompareTarget,
    DeleteAnswer,
    DeleteOp,
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
from wharf.brain.store.txn import Plan, World, cost, is_read_only, plan
from wharf.common.pb.etcd import rpc_pb2 as rpc

EQUAL, GREATER, LESS, NOT_EQUAL = CompareResult
VERSION, CREATE, MOD, VALUE, LEASE = CompareTarget
REVISION = 10
A = KeyValue(b"a", 3, 7, 4, b"va", 0)
B = KeyValue(b"b", 5, 5, 1, b"vb", 42)


class Kvs:
    """A view over KeyValues."""

    def __init__(self, *kvs: KeyValue) -> None:
        self._kvs = {kv.key: encode_kv(kv) for kv in kvs}

    def get(self, key: bytes) -> bytes | None:
        return self._kvs.get(key)

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(self._kvs):
            if start <= key and (end is None or key < end):
                yield key, self._kvs[key]


def no_history(op: RangeOp) -> RangeAnswer:
    return RangeAnswer(REVISION, b"", 0, op.revision, False)


def run(op: Op, *kvs: KeyValue) -> Plan:
    return plan(op, World(Kvs(*(kvs or (A, B))), REVISION, 4, {42, 43}.__contains__, no_history))


def txn(*ops: Op, compares: tuple[Compare, ...] = ()) -> TxnOp:
    return TxnOp(compares, ops, (RangeOp(b"else"),))


def answers(planned: Plan) -> tuple[object, ...]:
    return cast(TxnAnswer, planned.answer).answers


def changed(planned: Plan) -> list[tuple[str, KeyValue, KeyValue | None, bool]]:
    return [
        ("DELETE" if kind else "PUT", parse_kv(kv), None if before is None else parse_kv(before), created)
        for kind, _, kv, before, created in cast(list[tuple[int, bytes, bytes, bytes, bool]], planned.changes)
    ]


def keys(answer: object) -> list[bytes]:
    return [kv.key for kv in rpc.RangeResponse.FromString(cast(RangeAnswer, answer).framed).kvs]


# puts


def test_a_new_key_is_created_at_the_next_revision() -> None:
    assert changed(run(PutOp(b"c", b"1", lease=42))) == [("PUT", KeyValue(b"c", 11, 11, 1, b"1", 42), None, True)]


def test_a_put_over_a_key_counts_its_version_and_keeps_its_creation() -> None:
    assert changed(run(PutOp(b"a", b"2"))) == [("PUT", KeyValue(b"a", 3, 11, 5, b"2", 0), A, False)]


def test_prev_kv_is_answered_only_when_asked_for() -> None:
    assert run(PutOp(b"a", b"2", prev_kv=True)).answer == PutAnswer(encode_kv(A))
    assert run(PutOp(b"a", b"2")).answer == PutAnswer(None)
    assert run(PutOp(b"x", b"2", prev_kv=True)).answer == PutAnswer(None)


def test_ignored_fields_keep_what_is_there() -> None:
    assert changed(run(PutOp(b"b", b"", lease=43, ignore_value=True)))[0][1] == KeyValue(b"b", 5, 11, 2, b"vb", 43)
    assert changed(run(PutOp(b"b", b"new", ignore_lease=True)))[0][1] == KeyValue(b"b", 5, 11, 2, b"new", 42)


@pytest.mark.parametrize("op", [PutOp(b"x", b"", ignore_value=True), PutOp(b"x", b"", ignore_lease=True)])
def test_nothing_can_be_kept_of_a_key_that_is_absent(op: PutOp) -> None:
    with pytest.raises(KeyNotFound):
        run(op)


def test_an_unknown_lease_is_refused_before_a_missing_key_is_noticed() -> None:
    with pytest.raises(LeaseNotFound):
        run(PutOp(b"x", b"1", lease=99, ignore_value=True))


def test_a_key_moves_from_lease_to_lease() -> None:
    assert run(PutOp(b"b", b"1", lease=43)).moves == [(b"b", 42, 43)]
    assert run(PutOp(b"b", b"1")).moves == [(b"b", 42, 0)]
    assert run(PutOp(b"b", b"1", lease=42)).moves == []
    assert run(DeleteOp(b"b")).moves == [(b"b", 42, 0)]


# deletes


def test_a_delete_takes_a_range_in_key_order() -> None:
    planned = run(DeleteOp(b"a", b"\0", prev_kv=True))
    assert planned.answer == DeleteAnswer(2, (encode_kv(A), encode_kv(B)))
    tombstones = [KeyValue(key, 0, 11, 0, b"", 0) for key in (b"a", b"b")]
    assert changed(planned) == [("DELETE", tombstones[0], A, False), ("DELETE", tombstones[1], B, False)]


def test_deleting_nothing_changes_nothing() -> None:
    planned = run(DeleteOp(b"x"))
    assert (planned.answer, planned.changes) == (DeleteAnswer(0, ()), [])


# compares

COMPARES = [
    (Compare(b"a", VERSION, EQUAL, 4), True),
    (Compare(b"a", VERSION, NOT_EQUAL, 4), False),
    (Compare(b"a", CREATE, LESS, 4), True),
    (Compare(b"a", CREATE, LESS, 3), False),
    (Compare(b"a", MOD, GREATER, 6), True),
    (Compare(b"a", MOD, GREATER, 7), False),
    (Compare(b"b", LEASE, EQUAL, 42), True),
    (Compare(b"a", LEASE, EQUAL, 0), True),
    (Compare(b"a", VALUE, EQUAL, b"va"), True),
    (Compare(b"a", VALUE, GREATER, b"v"), True),
    (Compare(b"a", VALUE, LESS, b"vb"), True),
    (Compare(b"a", VALUE, LESS, b"va"), False),
    # an absent key has zeros, and no value to compare
    (Compare(b"x", MOD, EQUAL, 0), True),
    (Compare(b"x", VERSION, GREATER, -1), True),
    (Compare(b"x", VALUE, EQUAL, b""), False),
    (Compare(b"x", VALUE, NOT_EQUAL, b"y"), False),
    # ranges: every key must hold; an empty range is like an absent key
    (Compare(b"a", CREATE, GREATER, 2, b"c"), True),
    (Compare(b"a", CREATE, GREATER, 3, b"c"), False),
    (Compare(b"a", CREATE, GREATER, 2, b"\0"), True),
    (Compare(b"c", MOD, EQUAL, 0, b"z"), True),
    (Compare(b"c", VALUE, EQUAL, b"", b"z"), False),
]


@pytest.mark.parametrize(("compare", "holds"), COMPARES)
def test_compares(compare: Compare, holds: bool) -> None:
    assert cast(TxnAnswer, run(txn(compares=(compare,))).answer).succeeded is holds


def test_all_compares_must_hold() -> None:
    both = (Compare(b"a", VERSION, EQUAL, 4), Compare(b"b", VERSION, EQUAL, 2))
    assert not cast(TxnAnswer, run(txn(compares=both)).answer).succeeded
    assert cast(TxnAnswer, run(txn()).answer).succeeded


# transactions


def test_the_branch_not_taken_is_neither_run_nor_checked() -> None:
    planned = run(TxnOp((Compare(b"a", VERSION, EQUAL, 9),), (PutOp(b"c", b"1", lease=99),), (PutOp(b"d", b"2"),)))
    assert [kv.key for _, kv, _, _ in changed(planned)] == [b"d"]


def test_operations_see_earlier_ones_and_share_one_revision() -> None:
    planned = run(txn(PutOp(b"c", b"1"), RangeOp(b"a", b"\0"), DeleteOp(b"a"), RangeOp(b"a", b"\0")))
    _, first, _, second = answers(planned)
    assert keys(first) == [b"a", b"b", b"c"]
    assert keys(second) == [b"b", b"c"]
    assert {kv.mod_revision for _, kv, _, _ in changed(planned)} == {11}


def test_a_range_tells_the_revision_it_saw() -> None:
    before, _, after = answers(run(txn(RangeOp(b"a"), PutOp(b"a", b"1"), RangeOp(b"a"))))
    assert (cast(RangeAnswer, before).revision, cast(RangeAnswer, after).revision) == (10, 11)


def test_nested_compares_look_at_the_state_before_the_whole_transaction() -> None:
    inner = TxnOp((Compare(b"c", VERSION, EQUAL, 0),), (PutOp(b"d", b"created"),), ())
    planned = run(txn(PutOp(b"c", b"1"), inner))
    assert [kv.key for _, kv, _, _ in changed(planned)] == [b"c", b"d"]


def test_one_failing_check_anywhere_refuses_everything() -> None:
    with pytest.raises(LeaseNotFound):
        run(txn(PutOp(b"c", b"1"), TxnOp((), (PutOp(b"d", b"1", lease=99),), ())))


def test_checks_do_not_see_what_the_transaction_does() -> None:
    with pytest.raises(KeyNotFound):
        run(txn(PutOp(b"c", b"1"), TxnOp((), (PutOp(b"c", b"", ignore_value=True),), ())))


def test_put_then_delete_of_a_key_are_two_events_whose_past_is_the_one_before_the_transaction() -> None:
    planned = run(txn(TxnOp((), (PutOp(b"a", b"1"),), ()), TxnOp((), (DeleteOp(b"a", prev_kv=True),), ())))
    assert [(kind, before) for kind, _, before, _ in changed(planned)] == [("PUT", A), ("DELETE", A)]
    deleted = cast(DeleteAnswer, cast(TxnAnswer, answers(planned)[1]).answers[0])
    assert parse_kv(deleted.prevs[0]) == KeyValue(b"a", 3, 11, 5, b"1", 0)


def test_a_put_after_a_delete_of_everything_creates_the_key_anew() -> None:
    planned = run(txn(DeleteOp(b"a", b"\0"), PutOp(b"a", b"1")))
    assert changed(planned)[-1] == ("PUT", KeyValue(b"a", 11, 11, 1, b"1", 0), A, True)


@pytest.mark.parametrize(("revision", "error"), [(11, FutureRevision), (3, Compacted)])
def test_a_pinned_range_must_be_readable(revision: int, error: type[BrainError]) -> None:
    with pytest.raises(error):
        run(txn(PutOp(b"c", b"1"), RangeOp(b"a", revision=revision)))


@pytest.mark.parametrize("revision", [4, 10])
def test_a_pinned_range_reads_history(revision: int) -> None:
    assert cast(RangeAnswer, answers(run(txn(RangeOp(b"a", revision=revision))))[0]).count == revision


def test_the_header_of_a_pinned_range_says_where_the_transaction_stands() -> None:
    before, _, after = answers(run(txn(RangeOp(b"a", revision=5), PutOp(b"c", b"1"), RangeOp(b"a", revision=5))))
    assert cast(RangeAnswer, before).revision == REVISION
    assert cast(RangeAnswer, after).revision == REVISION + 1


# ranges over pending state

C = KeyValue(b"c", 2, 9, 2, b"a", 0)
RANGES = [
    (RangeOp(b"a", b"\0"), [b"a", b"b", b"c"], 3, False),
    (RangeOp(b"a", b"\0", limit=2), [b"a", b"b"], 3, True),
    (RangeOp(b"a", b"\0", limit=3), [b"a", b"b", b"c"], 3, False),
    (RangeOp(b"a", b"\0", count_only=True), [], 3, False),
    (RangeOp(b"a", b"\0", sort_order=SortOrder.DESCEND), [b"c", b"b", b"a"], 3, False),
    (RangeOp(b"a", b"\0", sort_target=SortTarget.CREATE), [b"c", b"a", b"b"], 3, False),
    (
        RangeOp(b"a", b"\0", sort_target=SortTarget.MOD, sort_order=SortOrder.DESCEND, limit=1),
        [b"c"],
        3,
        True,
    ),
    (RangeOp(b"a", b"\0", sort_target=SortTarget.VERSION), [b"b", b"c", b"a"], 3, False),
    (RangeOp(b"a", b"\0", sort_target=SortTarget.VALUE), [b"c", b"a", b"b"], 3, False),
    # without an order only the first keys, and one more, are sorted
    (RangeOp(b"a", b"\0", limit=1, sort_target=SortTarget.CREATE), [b"a"], 3, True),
    (RangeOp(b"a", b"\0", min_mod_revision=6), [b"a", b"c"], 3, False),
    (RangeOp(b"a", b"\0", max_mod_revision=7), [b"a", b"b"], 3, False),
    (RangeOp(b"a", b"\0", min_create_revision=3, limit=1), [b"a"], 3, True),
    (RangeOp(b"a", b"\0", max_create_revision=2), [b"c"], 3, False),
]


@pytest.mark.parametrize(("op", "found", "count", "more"), RANGES)
def test_ranges_inside_a_transaction(op: RangeOp, found: list[bytes], count: int, more: bool) -> None:
    answer = cast(RangeAnswer, answers(run(txn(op), A, B, C))[0])
    assert (keys(answer), answer.count, answer.more, answer.returned) == (found, count, more, len(found))


def test_keys_only_leaves_the_rest() -> None:
    answer = cast(RangeAnswer, answers(run(txn(RangeOp(b"b", keys_only=True))))[0])
    assert rpc.RangeResponse.FromString(answer.framed).kvs[0].SerializeToString() == encode_kv(B._replace(value=b""))


# what the store asks about requests


def test_a_transaction_writes_if_any_branch_does() -> None:
    assert is_read_only(TxnOp((), (RangeOp(b"a"),), (TxnOp((), (RangeOp(b"b"),), ()),)))
    assert not is_read_only(TxnOp((), (RangeOp(b"a"),), (TxnOp((), (), (DeleteOp(b"b"),)),)))


def test_a_transaction_costs_its_dearer_branch() -> None:
    assert cost(TxnOp((), (PutOp(b"k", b"12"),), (RangeOp(b"k"),))) == 259
    assert cost(TxnOp((), (DeleteOp(b"k"),), (RangeOp(b"k"),))) == 0
