"""etcd's rule against writing a key twice in one transaction.

A put must not meet another put of the same key, nor a delete whose range holds the key, among operations that may
both run. The two branches of a nested transaction exclude each other, so the same key may be put in both. Deletes may
overlap deletes. Pure; works on the request as parsed, before any key is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from wharf.brain.errors import DuplicateKey
from wharf.brain.store.shapes import DeleteOp, Op, PutOp, TxnOp


class _Deletes:
    """Key ranges deleted by some operations. An end of "\\0" is taken as it stands, as etcd does: it holds nothing."""

    __slots__ = ("_points", "_ranges")

    def __init__(self) -> None:
        self._points: set[bytes] = set()
        self._ranges: list[tuple[bytes, bytes]] = []

    def add(self, op: DeleteOp) -> None:
        if op.range_end:
            self._ranges.append((op.key, op.range_end))
        else:
            self._points.add(op.key)

    def update(self, other: _Deletes) -> None:
        self._points |= other._points
        self._ranges += other._ranges

    def __contains__(self, key: bytes) -> bool:
        return key in self._points or any(start <= key < end for start, end in self._ranges)


def check_overlaps(ops: Sequence[Op]) -> None:
    """DuplicateKey when `ops` could write one key twice."""
    _written(ops)


def _written(ops: Sequence[Op]) -> tuple[set[bytes], _Deletes]:
    """Keys put and ranges deleted by `ops`, nested transactions included."""
    deletes = _Deletes()
    for op in ops:
        if isinstance(op, DeleteOp):
            deletes.add(op)
    puts: set[bytes] = set()
    for op in ops:
        if isinstance(op, TxnOp):
            _add_branches(op, puts, deletes)
    for op in ops:
        if isinstance(op, PutOp):
            _add_put(op.key, puts, deletes)
    return puts, deletes


def _add_branches(op: TxnOp, puts: set[bytes], deletes: _Deletes) -> None:
    success_puts, success_deletes = _written(op.success)
    failure_puts, failure_deletes = _written(op.failure)
    for key in success_puts:
        _add_put(key, puts, deletes)
    for key in failure_puts:
        if key in success_puts:  # either branch may put it, never both
            if key in deletes:
                raise DuplicateKey
        else:
            _add_put(key, puts, deletes)
    deletes.update(success_deletes)
    deletes.update(failure_deletes)


def _add_put(key: bytes, puts: set[bytes], deletes: _Deletes) -> None:
    if key in puts or key in deletes:
        raise DuplicateKey
    puts.add(key)
