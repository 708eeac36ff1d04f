"""The store's vocabulary: what it is asked and what it answers.

Requests are etcd's, already validated and with bytes decoded; answers carry `mvccpb.KeyValue` messages as the bytes
they are stored as, so that a response is framing around stored bytes. Nothing here reads a clock or does I/O.

Key ranges follow etcd everywhere: `range_end` b"" means the one key, b"\\0" means every key >= `key`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum


class SortOrder(IntEnum):
    NONE = 0
    ASCEND = 1
    DESCEND = 2


class SortTarget(IntEnum):
    KEY = 0
    VERSION = 1
    CREATE = 2
    MOD = 3
    VALUE = 4


@dataclass(frozen=True, slots=True)
class RangeOp:
    key: bytes
    range_end: bytes = b""
    limit: int = 0
    revision: int = 0  # 0 or less: now
    sort_order: SortOrder = SortOrder.NONE
    sort_target: SortTarget = SortTarget.KEY
    keys_only: bool = False
    count_only: bool = False
    min_mod_revision: int = 0
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0


@dataclass(frozen=True, slots=True)
class PutOp:
    key: bytes
    value: bytes
    lease: int = 0
    prev_kv: bool = False
    ignore_value: bool = False
    ignore_lease: bool = False


@dataclass(frozen=True, slots=True)
class DeleteOp:
    key: bytes
    range_end: bytes = b""
    prev_kv: bool = False


class CompareTarget(IntEnum):
    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4


class CompareResult(IntEnum):
    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


@dataclass(frozen=True, slots=True)
class Compare:
    key: bytes
    target: CompareTarget
    result: CompareResult
    value: int | bytes
    range_end: bytes = b""


@dataclass(frozen=True, slots=True)
class TxnOp:
    compares: tuple[Compare, ...] = ()
    success: tuple[Op, ...] = ()
    failure: tuple[Op, ...] = ()


Op = RangeOp | PutOp | DeleteOp | TxnOp


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """`framed`: the matching KeyValues as RangeResponse.kvs fields (tag 0x12, length, bytes), concatenated.

    When a list is larger than the store's streaming threshold `framed` is empty and `parts` yields it in pieces that
    add up to `framed_length`, read at a fixed revision; `parts` raises `Compacted` when compaction passes it.
    """

    revision: int  # the store's revision when read: goes into the header
    framed: bytes
    returned: int  # KeyValues in `framed` or `parts`
    count: int  # keys in the range at that revision, limit ignored
    more: bool
    framed_length: int = 0
    parts: Iterator[bytes] | None = None


@dataclass(frozen=True, slots=True)
class PutAnswer:
    prev: bytes | None  # serialized KeyValue, when asked for and present


@dataclass(frozen=True, slots=True)
class DeleteAnswer:
    deleted: int
    prevs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class TxnAnswer:
    succeeded: bool
    answers: tuple[Answer, ...]


Answer = RangeAnswer | PutAnswer | DeleteAnswer | TxnAnswer


@dataclass(frozen=True, slots=True)
class Committed:
    """The outcome of a write once durable. `revision`: after it (unchanged when nothing changed)."""

    revision: int
    answer: TxnAnswer | PutAnswer | DeleteAnswer


class EventKind(IntEnum):
    PUT = 0
    DELETE = 1


@dataclass(frozen=True, slots=True)
class Event:
    """One change. `kv`: serialized KeyValue after a PUT; for a DELETE only key and mod_revision. `prev`: the one it
    replaced."""

    kind: EventKind
    key: bytes
    kv: bytes
    prev: bytes | None


@dataclass(frozen=True, slots=True)
class Revision:
    """All events of one revision, in the order of the transaction's operations."""

    revision: int
    events: tuple[Event, ...] = field(default=())
