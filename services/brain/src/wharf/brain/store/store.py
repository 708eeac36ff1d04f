"""The store: etcd's key-value model over an engine, for the loop thread.

Puts the parts together: transactions are evaluated against published state and the batches above it (`txn`,
`overlay`), gathered and committed (`commit`), then published: snapshot, index, watchers, clients, in this order.
Reads never see more than is durable.

Invariant: `revision` is what is durable and visible, everything acknowledged is at or below it, and it only grows.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from wharf.brain.engine.base import Batch, Engine, Snapshot, Table, Write
from wharf.brain.errors import BrainError, Compacted, CorruptStore, FutureRevision, NoSpace, Stopped
from wharf.brain.store._codec import Header, KubeLane, Pending, frame, parse_kube_range
from wharf.brain.store.alarms import Alarms
from wharf.brain.store.commit import CommitLimits, Commits
from wharf.brain.store.compact import Compactor
from wharf.brain.store.keys import (
    LEASE_PREFIX,
    META_CLOCK,
    META_CLUSTER,
    META_COMPACT,
    META_MEMBER,
    encode_u64,
    encode_varint,
    parse_lease_key,
    parse_u64,
    prefix_end,
)
from wharf.brain.store.leases import Leases
from wharf.brain.store.overlay import Published, View, rewound, select, stacked
from wharf.brain.store.read import Reader
from wharf.brain.store.shapes import (
    Committed,
    DeleteAnswer,
    DeleteOp,
    Op,
    PutAnswer,
    PutOp,
    RangeAnswer,
    RangeOp,
    TxnAnswer,
    TxnOp,
)
from wharf.brain.store.ttl import parse_lease
from wharf.brain.store.txn import World, answer_range, cost, is_read_only, keys_of, plan
from wharf.common.clock import BootClock, Clock

if TYPE_CHECKING:
    from wharf.brain.store._codec import Entry, EventTuple

log = logging.getLogger(__name__)

STOP_SECONDS = 10.0  # for what was accepted to land
RAFT_TERM = 2  # there is no raft; clients expect a term that is set and never falls. A fresh etcd's is 2.


@dataclass(frozen=True, slots=True)
class StoreLimits:
    quota_bytes: int = 0  # of data in the engine; 0: no quota
    commits: CommitLimits = field(default_factory=CommitLimits)


class Store:
    """See the module. Callbacks may come before the method that takes them returns."""

    def __init__(self, engine: Engine, clock: Clock | None = None, limits: StoreLimits | None = None) -> None:
        self.engine = engine
        self.revision = 0
        self.compact_revision = -1  # -1: nothing was ever compacted
        self.cluster_id = self.member_id = 0
        self.header = Header(0, 0, RAFT_TERM)
        self._limits = limits or StoreLimits()
        self._next_compact = -1  # once what is pending has landed
        self._alarms = Alarms(engine, self._limits.quota_bytes)
        self._listeners: list[Callable[[Sequence[EventTuple], int], None]] = []
        self._halt_listeners: list[Callable[[BrainError], None]] = []
        self._clock = clock or BootClock()
        self._stopped = False
        self._refusal: BrainError | None = None  # what every request is answered with
        self._reader: Reader
        self._compactor: Compactor
        self._published: View
        self._commits: Commits
        self._lane: KubeLane
        self.leases: Leases

    # Life

    async def start(self) -> None:
        """Take the engine over and load what lives in memory; EngineError when it cannot be."""
        loop = asyncio.get_running_loop()
        epoch = self.engine.promote()
        self.leases = Leases(self, self._clock, loop.call_later)
        snapshot = self.engine.snapshot()
        try:
            self._load_meta(snapshot, epoch)
        finally:
            snapshot.close()
        self.header = Header(self.cluster_id, self.member_id, RAFT_TERM)
        self._reader = Reader(self.engine, self.leases.table.attach_stored)
        self._published = Published(self._reader.get, self._reader.scan_now)
        self._commits = Commits(
            self.engine, epoch, self.revision, self, loop.call_soon, loop.call_later, self._limits.commits
        )
        self._lane = KubeLane(self.header, self._reader.get, self._reader.index, self.leases.table)
        self._apply_alarms()
        self._compactor = Compactor(self.engine, self._commits.submit_side, loop.time, loop.call_later)
        self._compactor.start()
        self.leases.start()

    async def stop(self) -> None:
        """Finish what was accepted, then let go; nothing is accepted any more. The engine stays open."""
        if self._stopped:
            return
        self._stopped = True
        self.leases.stop()
        self._compactor.stop()
        idle = asyncio.Event()
        self._commits.when_idle(idle.set)
        try:
            await asyncio.wait_for(idle.wait(), STOP_SECONDS)
        except TimeoutError:
            log.error("the engine does not answer: writes it was given last may or may not be stored")
        self._commits.halt(Stopped())
        self._reader.close()

    def _load_meta(self, snapshot: Snapshot, epoch: int) -> None:
        meta = dict(snapshot.scan(Table.META, b"", None))
        self.revision = snapshot.revision
        missing: list[Write] = []
        for name in (META_CLUSTER, META_MEMBER):
            if name not in meta:
                meta[name] = encode_u64(secrets.randbits(63) | 1)
                missing.append((Table.META, name, meta[name]))
        if missing:
            self.engine.commit(Batch(epoch, self.revision, self.revision, missing))
        self.cluster_id, self.member_id = parse_u64(meta[META_CLUSTER]), parse_u64(meta[META_MEMBER])
        self.compact_revision = self._next_compact = parse_u64(meta.get(META_COMPACT), -1)
        self.leases.clock.resume(parse_u64(meta.get(META_CLOCK)))
        self.leases.table.load(
            [
                parse_lease(parse_lease_key(key), stored)
                for key, stored in snapshot.scan(Table.META, LEASE_PREFIX, prefix_end(LEASE_PREFIX))
            ]
        )
        self._alarms.load(snapshot)

    # Reads

    def range(self, op: RangeOp) -> RangeAnswer:
        """A range of published state: linearizable, because everything acknowledged is published. Raises BrainError."""
        if self._refusal is not None:
            raise self._refusal
        return self._reader.range(op, self.revision, self.compact_revision)

    def range_fast(self, message: bytes) -> bytes | tuple[int, Iterator[bytes]] | None:
        """RangeResponse for RangeRequest bytes of kube-apiserver's shapes, (length, pieces) of a large one; None: not
        one.

        Raises BrainError.
        """
        shape = parse_kube_range(message)
        if shape is None or self._refusal is not None:
            return None
        key, range_end, limit, revision, keys_only, count_only = shape
        if not (range_end or revision or keys_only or count_only):
            kv = self._reader.get(key)
            head = self.header.encode(self.revision)
            return head if kv is None else b"%b%b\x20\x01" % (head, frame(0x12, kv))
        answer = self._reader.range(
            RangeOp(key, range_end, limit, revision, keys_only=keys_only, count_only=count_only),
            self.revision,
            self.compact_revision,
        )
        head = self.header.encode(answer.revision)
        tail = _range_tail(answer)
        if answer.parts is None:
            return b"%b%b%b" % (head, answer.framed, tail)
        return len(head) + answer.framed_length + len(tail), _pieces(head, answer.parts, tail)

    # Writes

    def submit(self, op: TxnOp | PutOp | DeleteOp, done: Callable[[Committed | BrainError], None]) -> None:
        """One request, already validated; `done` gets its outcome once durable."""
        try:
            if self._refusal is not None:
                raise self._refusal
            if self._is_settled(op):
                done(Committed(self.revision, _answer_of(plan(op, self._world(self.revision)).answer)))
                return
            self._commits.admit()
            self.charge(cost(op))
            committed = self._apply(op)
        except NoSpace as error:
            refusal = error
            self._alarms.once_raised(lambda: done(refusal))
            return
        except BrainError as error:
            done(error)
            return
        self._commits.filling.answer(done, committed, op, None)
        self._commits.wake()

    def submit_fast(self, message: bytes, reply: Callable[[bytes], None], fail: Callable[[BrainError], None]) -> bool:
        """A TxnRequest of one of kube-apiserver's shapes, from bytes to TxnResponse bytes; False: not one, nothing
        was done."""
        commits = self._commits
        try:
            if self._refusal is not None:
                raise self._refusal
            commits.admit()
        except BrainError as error:
            fail(error)
            return True
        outcome = self._lane.submit(message, commits.filling, commits.below, self.revision, reply, fail)
        if outcome is True:
            commits.wake()
        elif isinstance(outcome, bytes):
            reply(outcome)
        elif outcome is None:
            return False
        elif isinstance(outcome, BrainError):
            if isinstance(outcome, NoSpace):
                self._alarms.out_of_space(self.set_alarm)
                self._alarms.once_raised(lambda: fail(outcome))
            else:
                fail(outcome)
        return True

    def compact(self, revision: int, physical: bool, done: Callable[[BrainError | None], None]) -> None:
        """Refuse reads below `revision` from now on; `physical`: answer only when what this frees is gone."""
        try:
            pending = self.pending()
            if revision <= self._next_compact:
                raise Compacted
            if revision > pending.revision:
                raise FutureRevision
        except BrainError as error:
            done(error)
            return

        def recorded(error: BrainError | None) -> None:
            if error is None and physical:
                self._compactor.when_compacted(revision, done)
            else:
                done(error)

        before = self._next_compact
        pending.undo.append(lambda: self._set_next_compact(before))
        pending.write(Table.META, META_COMPACT, encode_u64(revision))
        pending.compacts = self._next_compact = revision
        pending.answer(recorded, None, lambda: self.compact(revision, physical, done), None)
        self._commits.wake()

    def alarms(self) -> tuple[str, ...]:
        """Names of raised alarms: "NOSPACE", "CORRUPT"."""
        return self._alarms.names()

    def set_alarm(self, name: str, raised: bool, done: Callable[[BrainError | None], None]) -> None:
        """Raise or disarm an alarm."""
        try:
            self._commits.admit()
        except BrainError as error:
            done(error)
            return

        def stored(error: BrainError | None) -> None:
            if error is None:
                self._alarms.settle(name, raised)
                self._apply_alarms()
            done(error)

        pending = self._commits.filling
        self._alarms.write(pending, name, raised, self.member_id)
        pending.answer(stored, None, lambda: self.set_alarm(name, raised, done), None)
        self._commits.wake()

    def on_events(self, listener: Callable[[Sequence[EventTuple], int], None]) -> None:
        """Call after every publish with (revision, kind, key, framed event, prev KeyValue) tuples and the new
        revision."""
        self._listeners.append(listener)

    def on_halt(self, listener: Callable[[BrainError], None]) -> None:
        """Call when the store serves no more, with the reason: nothing will be published again."""
        self._halt_listeners.append(listener)

    # What a transaction is evaluated on

    def pending(self) -> Pending:
        if self._refusal is not None:
            raise self._refusal
        self._commits.admit()
        return self._commits.filling

    def wake(self) -> None:
        self._commits.wake()

    def view(self) -> View:
        return stacked(self._published, (self._commits.below, self._commits.filling.now))

    def charge(self, cost: int) -> None:
        if cost and self._commits.filling.size + cost >= self._lane.room:
            self._alarms.out_of_space(self.set_alarm)
            raise NoSpace

    def _world(self, revision: int) -> World:
        return World(self.view(), revision, self._next_compact, self.leases.table.holds, self._pinned)

    def _apply(self, op: Op) -> Committed:
        pending = self._commits.filling
        planned = plan(op, self._world(pending.revision))
        if planned.changes:
            pending.record(planned.changes)
            for key, old, new in planned.moves:
                self.leases.table.move(key, old, new, pending.undo)
        return Committed(pending.revision, _answer_of(planned.answer))

    def _is_settled(self, op: Op) -> bool:
        """Whether published state answers the request as well as the state after all that is pending."""
        if not is_read_only(op):
            return False
        below, now = self._commits.below, self._commits.filling.now
        if not below and not now:
            return True
        return all(not end and key not in below and key not in now for key, end in keys_of(op)) and not _pins(op)

    def _pinned(self, op: RangeOp) -> RangeAnswer:
        """A range at a revision that a transaction names: published, or still pending."""
        if op.revision <= self.revision:
            answer = self._reader.range(op, self.revision, self.compact_revision)
            if answer.parts is None:
                return answer
            return replace(answer, framed=b"".join(answer.parts), parts=None)
        undo = [
            (revision, key, prev)
            for pending in (self._commits.flying, self._commits.filling)
            if pending is not None
            for revision, _, key, _, prev in pending.events
        ]
        view = rewound(self.view(), undo, op.revision)
        return answer_range(select(view, op.key, op.range_end), op, self._commits.filling.revision)

    def _set_next_compact(self, revision: int) -> None:
        self._next_compact = revision

    # Commits: see commit.Owner

    def stamp(self) -> Sequence[Write]:
        return ((Table.META, META_CLOCK, encode_u64(self.leases.clock.now())),)

    def settle(self, pending: Pending) -> None:
        self._reader.advance(pending.births)
        self.revision = pending.revision
        self.compact_revision = max(self.compact_revision, pending.compacts)
        self._lane.room = self._alarms.room()

    def announce(self, pending: Pending) -> None:
        if pending.compacts >= 0:
            self._compactor.compact(pending.compacts)
        if pending.events:
            for listener in self._listeners:
                listener(pending.events, pending.revision)

    def retry(self, entry: Entry) -> None:
        done, _, op, fail = entry
        if fail is not None and isinstance(op, bytes):
            self.submit_fast(op, done, fail)
        elif isinstance(op, TxnOp | PutOp | DeleteOp):
            self.submit(op, done)
        elif callable(op):
            op()

    def halt(self, error: BrainError) -> None:
        self._refusal = error
        self.leases.stop()
        if not isinstance(error, Stopped):
            log.error("the store takes no more requests: %s", error)
        for listener in self._halt_listeners:
            listener(error)

    def _apply_alarms(self) -> None:
        if self._refusal is None or isinstance(self._refusal, CorruptStore):
            self._refusal = self._alarms.refusal()
        self._lane.room = self._alarms.room()


def _range_tail(answer: RangeAnswer) -> bytes:
    """The fields of RangeResponse after its KeyValues: more, count."""
    more = b"\x18\x01" if answer.more else b""
    return more + b"\x20" + encode_varint(answer.count) if answer.count else more


def _pieces(head: bytes, parts: Iterator[bytes], tail: bytes) -> Iterator[bytes]:
    yield head
    yield from parts
    yield tail


def _pins(op: Op) -> bool:
    if isinstance(op, TxnOp):
        return any(map(_pins, op.success)) or any(map(_pins, op.failure))
    return isinstance(op, RangeOp) and op.revision > 0


def _answer_of(answer: object) -> TxnAnswer | PutAnswer | DeleteAnswer:
    if isinstance(answer, TxnAnswer | PutAnswer | DeleteAnswer):
        return answer
    raise TypeError(f"not the answer of a write: {answer!r}")
