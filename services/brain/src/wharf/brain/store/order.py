"""What etcd's Range does to rows besides taking them in key order: revision filters, sort targets, sort orders.
Pure.
"""

from __future__ import annotations

from wharf.brain.store.keys import KeyValue
from wharf.brain.store.shapes import RangeOp, SortOrder, SortTarget

SORT_KEYS = {
    SortTarget.KEY: lambda kv: kv.key,
    SortTarget.VERSION: lambda kv: kv.version,
    SortTarget.CREATE: lambda kv: kv.create_revision,
    SortTarget.MOD: lambda kv: kv.mod_revision,
    SortTarget.VALUE: lambda kv: kv.value,
}


def has_filters(op: RangeOp) -> bool:
    return bool(op.min_mod_revision or op.max_mod_revision or op.min_create_revision or op.max_create_revision)


def is_custom(op: RangeOp) -> bool:
    """Whether the answer is more than the range's first keys in key order."""
    return has_filters(op) or op.sort_target != SortTarget.KEY or op.sort_order == SortOrder.DESCEND


def reads_all(op: RangeOp) -> bool:
    """Whether the limit applies after filtering and sorting.

    As in etcd a sort target without an order does not count: the first keys up to the limit are taken, then sorted
    ascending.
    """
    return has_filters(op) or op.sort_order != SortOrder.NONE


def passes(op: RangeOp, kv: KeyValue) -> bool:
    return (
        (not op.max_mod_revision or kv.mod_revision <= op.max_mod_revision)
        and (not op.min_mod_revision or kv.mod_revision >= op.min_mod_revision)
        and (not op.max_create_revision or kv.create_revision <= op.max_create_revision)
        and (not op.min_create_revision or kv.create_revision >= op.min_create_revision)
    )
