"""Writing one key twice in a transaction is refused exactly where etcd refuses it."""

from __future__ import annotations

import pytest
from wharf.brain.api.intervals import check_overlaps
from wharf.brain.errors import DuplicateKey
from wharf.brain.store.shapes import DeleteOp, Op, PutOp, RangeOp, TxnOp


def put(key: bytes) -> PutOp:
    return PutOp(key, b"")


def txn(success: tuple[Op, ...] = (), failure: tuple[Op, ...] = ()) -> TxnOp:
    return TxnOp((), success, failure)


ALLOWED: list[tuple[Op, ...]] = [
    (),
    (put(b"a"), put(b"b")),
    (put(b"a"), DeleteOp(b"b")),
    (put(b"b"), DeleteOp(b"a", b"b")),
    (DeleteOp(b"a", b"c"), DeleteOp(b"b")),
    (put(b"a"), RangeOp(b"a"), RangeOp(b"a", b"\0")),
    (txn((put(b"a"),), (put(b"a"),)),),
    (txn((DeleteOp(b"a"),), (put(b"a"),)),),
    (put(b"b"), DeleteOp(b"a", b"\0")),
    (put(b"b"), DeleteOp(b"c", b"a")),
    (txn((put(b"a"),)), txn((DeleteOp(b"a"),))),
]

REFUSED: list[tuple[Op, ...]] = [
    (put(b"a"), put(b"a")),
    (put(b"a"), DeleteOp(b"a")),
    (DeleteOp(b"a"), put(b"a")),
    (DeleteOp(b"a", b"c"), put(b"b")),
    (DeleteOp(b"a", b"c"), put(b"a")),
    (txn((put(b"a"),)), put(b"a")),
    (put(b"a"), txn((), (put(b"a"),))),
    (txn((put(b"a"),)), txn((put(b"a"),))),
    (txn((put(b"a"),), (put(b"a"),)), DeleteOp(b"a")),
    (txn((), (put(b"a"),)), DeleteOp(b"a", b"b")),
    (txn((DeleteOp(b"a"),)), put(b"a")),
    (txn((DeleteOp(b"a"),)), txn((put(b"a"),))),
    (txn((txn((put(b"a"),)),)), put(b"a")),
]


@pytest.mark.parametrize("ops", ALLOWED)
def test_operations_that_cannot_meet_are_allowed(ops: tuple[Op, ...]) -> None:
    check_overlaps(ops)


@pytest.mark.parametrize("ops", REFUSED)
def test_a_key_written_twice_is_refused(ops: tuple[Op, ...]) -> None:
    with pytest.raises(DuplicateKey):
        check_overlaps(ops)
