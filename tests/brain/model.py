"""A naive store: every state it was ever in, as a dict. Slow, obvious, and the judge of the real one."""

from __future__ import annotations

from typing import Any, NamedTuple

from wharf.brain.store.shapes import (
    Compare,
    CompareResult,
    CompareTarget,
    DeleteOp,
    PutOp,
    RangeOp,
    TxnOp,
)


class Kv(NamedTuple):
    create: int
    mod: int
    version: int
    value: bytes
    lease: int


class ModelEvent(NamedTuple):
    revision: int
    kind: str
    key: bytes
    value: bytes
    prev: bytes | None


ABSENT = Kv(0, 0, 0, b"", 0)
State = dict[bytes, Kv]


class Refused(Exception):
    """The model would answer with an error of this name."""


def matching(state: State, key: bytes, range_end: bytes) -> list[bytes]:
    if not range_end:
        return [key] if key in state else []
    return sorted(k for k in state if k >= key and (range_end == b"\0" or k < range_end))


class Model:
    def __init__(self) -> None:
        self.states: dict[int, State] = {1: {}}
        self.revision = 1
        self.compacted = -1
        self.events: list[ModelEvent] = []
        self.leases: set[int] = set()

    @property
    def now(self) -> State:
        return self.states[self.revision]

    def commit(self, state: State, events: list[tuple[str, bytes]]) -> None:
        before = self.now
        self.revision += 1
        self.states[self.revision] = state
        for kind, key in events:
            kv = state.get(key, ABSENT) if kind == "PUT" else ABSENT
            created = kind == "PUT" and kv.create == self.revision
            prev = before[key].value if key in before and not created else None
            self.events.append(ModelEvent(self.revision, kind, key, kv.value, prev))

    def submit(self, op: PutOp | DeleteOp | TxnOp) -> object:
        """What the answer must say, in plain values; Refused."""
        state, events = dict(self.now), list[tuple[str, bytes]]()
        path = self._choose(op)
        self._check(path)
        answer = self._run(path, state, events)
        if events:
            self.commit(state, events)
        return answer

    def range(self, op: RangeOp) -> tuple[int, list[tuple[bytes, Kv]], bool]:
        revision = op.revision or self.revision
        if revision > self.revision:
            raise Refused("FutureRevision")
        if revision < self.compacted:
            raise Refused("Compacted")
        return self._select(self.states[revision], op)

    def compact(self, revision: int) -> None:
        if revision <= self.compacted:
            raise Refused("Compacted")
        if revision > self.revision:
            raise Refused("FutureRevision")
        self.compacted = revision

    def revoke(self, lease: int) -> None:
        if lease not in self.leases:
            raise Refused("LeaseNotFound")
        self.leases.discard(lease)
        gone = [key for key in sorted(self.now) if self.now[key].lease == lease]
        if gone:
            self.commit({k: kv for k, kv in self.now.items() if k not in gone}, [("DELETE", key) for key in gone])

    def _select(self, state: State, op: RangeOp) -> tuple[int, list[tuple[bytes, Kv]], bool]:
        keys = matching(state, op.key, op.range_end)
        taken = keys[: op.limit] if op.limit else keys
        return len(keys), [(key, state[key]) for key in taken], len(taken) < len(keys)

    def _choose(self, op: object) -> object:
        if not isinstance(op, TxnOp):
            return op
        holds = all(self._holds(compare) for compare in op.compares)
        return holds, [self._choose(inner) for inner in (op.success if holds else op.failure)]

    def _holds(self, compare: Compare) -> bool:
        kvs = [self.now[key] for key in matching(self.now, compare.key, compare.range_end)]
        if not kvs and compare.target is CompareTarget.VALUE:
            return False
        return all(_compare(compare, kv) for kv in kvs or [ABSENT])

    def _check(self, op: object) -> None:
        if isinstance(op, tuple):
            for inner in op[1]:
                self._check(inner)
        elif isinstance(op, PutOp):
            if op.lease and op.lease not in self.leases:
                raise Refused("LeaseNotFound")
            if (op.ignore_value or op.ignore_lease) and op.key not in self.now:
                raise Refused("KeyNotFound")
        elif isinstance(op, RangeOp) and op.revision:
            self.range(op)

    def _run(self, op: object, state: State, events: list[tuple[str, bytes]]) -> object:
        if isinstance(op, tuple):
            return op[0], [self._run(inner, state, events) for inner in op[1]]
        if isinstance(op, RangeOp):
            return self.range(op) if op.revision else self._select(state, op)
        if isinstance(op, PutOp):
            old = state.get(op.key)
            revision = self.revision + 1
            base = old or ABSENT
            state[op.key] = Kv(
                base.create or revision,
                revision,
                base.version + 1,
                base.value if op.ignore_value else op.value,
                base.lease if op.ignore_lease else op.lease,
            )
            events.append(("PUT", op.key))
            return old.value if old and op.prev_kv else None
        assert isinstance(op, DeleteOp)
        gone = matching(state, op.key, op.range_end)
        values = [state.pop(key).value for key in gone]
        events.extend(("DELETE", key) for key in gone)
        return len(gone), values if op.prev_kv else []


def _compare(compare: Compare, kv: Kv) -> bool:
    left: Any = {
        CompareTarget.VERSION: kv.version,
        CompareTarget.CREATE: kv.create,
        CompareTarget.MOD: kv.mod,
        CompareTarget.VALUE: kv.value,
        CompareTarget.LEASE: kv.lease,
    }[compare.target]
    order = int(left > compare.value) - int(left < compare.value)
    if compare.result is CompareResult.EQUAL:
        return order == 0
    if compare.result is CompareResult.NOT_EQUAL:
        return order != 0
    return order > 0 if compare.result is CompareResult.GREATER else order < 0
