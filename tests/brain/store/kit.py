"""A writer of the stored layout and a naive model of etcd's key-value history, for tests of the read side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from wharf.brain.engine.base import META_EPOCH, Batch, Engine, LocalEngine, Table, Write
from wharf.brain.errors import Compacted, FutureRevision
from wharf.brain.store import keys
from wharf.brain.store.churn import Change
from wharf.brain.store.keys import KeyValue, encode_kv
from wharf.brain.store.read import Reader
from wharf.brain.store.shapes import RangeOp, SortOrder, SortTarget

Step = tuple[bytes, bytes | None]
"""(key, value to put, None to delete)."""


def kv(key: bytes, value: bytes = b"", lease: int = 0) -> KeyValue:
    return KeyValue(key, 0, 0, 0, value, lease)


@dataclass
class Model:
    """Every state there ever was, whole."""

    states: dict[int, dict[bytes, KeyValue]] = field(default_factory=lambda: {1: {}})
    events: dict[int, list[tuple[int, KeyValue, KeyValue | None]]] = field(default_factory=dict)
    revision: int = 1
    compacted: int = 0

    def apply(self, steps: Sequence[Step], lease: int = 0) -> bool:
        """One transaction; False when it changes nothing."""
        state, events = dict(self.states[self.revision]), []
        revision = self.revision + 1
        for key, value in steps:
            old = state.get(key)
            if value is not None:
                created, version = (old.create_revision, old.version + 1) if old else (revision, 1)
                state[key] = KeyValue(key, created, revision, version, value, lease)
                events.append((0, state[key], old))
            elif old is not None:
                del state[key]
                events.append((1, KeyValue(key, 0, revision, 0, b"", 0), old))
        if events:
            self.revision = revision
            self.states[revision], self.events[revision] = state, events
        return bool(events)

    def rows(self, op: RangeOp) -> list[KeyValue]:
        """Everything in the range at the revision asked for."""
        revision = op.revision if op.revision > 0 else self.revision
        if revision > self.revision:
            raise FutureRevision
        if revision < self.compacted:
            raise Compacted
        state = self.states[revision]
        if not op.range_end:
            return [state[op.key]] if op.key in state else []
        held = sorted(key for key in state if key >= op.key)
        return [state[key] for key in held if op.range_end == b"\0" or key < op.range_end]

    def range(self, op: RangeOp) -> tuple[list[KeyValue], int, bool]:
        """(KeyValues, count, more) as etcd gives them."""
        found = self.rows(op)
        count = len(found)
        if op.count_only:
            return [], count, False
        filtered = any((op.min_mod_revision, op.max_mod_revision, op.min_create_revision, op.max_create_revision))
        if op.limit > 0 and op.sort_order == SortOrder.NONE and not filtered:
            found = found[: op.limit + 1]
        found = [
            each
            for each in found
            if op.min_mod_revision <= each.mod_revision <= (op.max_mod_revision or each.mod_revision)
            and op.min_create_revision <= each.create_revision <= (op.max_create_revision or each.create_revision)
        ]
        names = {
            SortTarget.KEY: "key",
            SortTarget.VERSION: "version",
            SortTarget.CREATE: "create_revision",
            SortTarget.MOD: "mod_revision",
            SortTarget.VALUE: "value",
        }
        found.sort(key=lambda each: getattr(each, names[op.sort_target]), reverse=op.sort_order == SortOrder.DESCEND)
        more = 0 < op.limit < len(found)
        found = found[: op.limit] if more else found
        return [each._replace(value=b"") if op.keys_only else each for each in found], count, more


class Bench:
    """An engine, a reader upon it and the model, moved together."""

    def __init__(self, engine: Engine, reader: Reader | None = None) -> None:
        self.engine = engine
        self.model = Model()
        self.reader = reader or Reader(engine)

    def apply(self, *steps: Step, lease: int = 0) -> None:
        if not self.model.apply(steps, lease):
            return
        revision = self.model.revision
        writes: list[Write] = []
        record = b""
        changes: list[Change] = []
        for kind, each, old in self.model.events[revision]:
            data = encode_kv(each)
            record += keys.encode_event(kind, data)
            writes.append((Table.NOW, keys.skey(each.key), None if kind else data))
            if old is not None:
                writes.append((Table.HISTORY, keys.hkey(each.key, revision), encode_kv(old)))
            if kind or old is None:
                changes.append((revision, each.key, not kind))
        writes.append((Table.LOG, keys.log_key(revision), record))
        self.commit(writes, revision)
        self.reader.advance(changes)

    def commit(self, writes: Sequence[Write], revision: int) -> None:
        epoch = keys.parse_u64(self.meta(META_EPOCH))
        local = cast(LocalEngine, self.engine)
        local.commit(Batch(epoch, self.reader.revision, revision, writes))

    def meta(self, key: bytes) -> bytes | None:
        snapshot = self.engine.snapshot()
        try:
            return snapshot.get(Table.META, key)
        finally:
            snapshot.close()

    def mark_compacted(self, revision: int) -> None:
        self.model.compacted = revision
        self.commit([(Table.META, keys.META_COMPACT, keys.encode_u64(revision))], self.model.revision)
        self.reader.advance([])

    def range(self, op: RangeOp) -> tuple[list[KeyValue], int, bool]:
        """The reader's answer in the model's form; checks that the parts add up."""
        answer = self.reader.range(op, self.model.revision, self.model.compacted)
        framed = answer.framed if answer.parts is None else b"".join(answer.parts)
        assert len(framed) == answer.framed_length
        found = unframe(framed)
        assert len(found) == answer.returned
        assert answer.revision == self.model.revision
        return found, answer.count, answer.more


def unframe(framed: bytes) -> list[KeyValue]:
    """KeyValues of concatenated RangeResponse.kvs fields."""
    found = []
    at = 0
    while at < len(framed):
        assert framed[at] == 0x12
        length, at = keys.parse_varint(framed, at + 1)
        found.append(keys.parse_kv(framed[at : at + length]))
        at += length
    return found
