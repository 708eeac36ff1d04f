"""What only the writer of a store does: requests become batches, batches are committed, leases run out, history goes.

Transactions are evaluated against what is shown and the batches above it (`txn`, `overlay`), gathered and committed
(`commit`), then shown: snapshot, index, watchers, clients, in this order. Made anew for every promotion and dropped
with it, so nothing believed under one epoch is carried into another.

Invariant: everything acknowledged is shown, and the fence of `epoch` held when it landed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from wharf.brain.engine.base import EngineError, Table, Write
from wharf.brain.errors import BrainError, Compacted, FutureRevision, LeaderFailed, NoLeader, NoSpace, Stopped
from wharf.brain.store._codec import KubeLane, Pending
from wharf.brain.store.alarms import Alarm
from wharf.brain.store.commit import CommitLimits, Commits
from wharf.brain.store.compact import Compactor
from wharf.brain.store.keys import (
    LEASE_PREFIX,
    META_CLOCK,
    META_COMPACT,
    encode_u64,
    parse_lease_key,
    parse_u64,
    prefix_end,
)
from wharf.brain.store.leases import Leases
from wharf.brain.store.overlay import Published, View, rewound, select, stacked
from wharf.brain.store.present import Present
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
from wharf.common.clock import Clock

if TYPE_CHECKING:
    from wharf.brain.store._codec import Entry

log = logging.getLogger(__name__)

STOP_SECONDS = 10.0  # for what was accepted to land
MetaChanges = Sequence[tuple[bytes, bytes | None]]


class Leading:
    """See the module. For the loop thread; callbacks may come before the method that takes them returns."""

    def __init__(
        self,
        present: Present,
        epoch: int,
        clock: Clock,
        limits: CommitLimits,
        halted: Callable[[BrainError], None],
        fresh_leases: bool,
    ) -> None:
        """Take over what `present` shows. `fresh_leases`: count every lease's time afresh, because nobody knows how
        long this store went without a leader.
        """
        loop = asyncio.get_running_loop()
        self.present = present
        self.epoch = epoch
        self._halted = halted
        self._over = False
        reader = present.reader
        self._next_compact = present.compact_revision  # once what is pending has landed
        self.leases = Leases(self, clock, loop.call_later)
        self._load_leases(fresh_leases)
        self._published = Published(reader.get, reader.scan_now)
        self._commits = Commits(present.engine, epoch, present.revision, self, loop.call_soon, loop.call_later, limits)
        self._lane = KubeLane(present.header, reader.get, reader.index, self.leases.table)
        self.apply_alarms()
        self._compactor = Compactor(present.engine, self._commits.submit_side, loop.time, loop.call_later)

    def start(self) -> None:
        self._compactor.start()
        self.leases.start()

    async def stop(self) -> None:
        """Finish what was accepted; nothing is accepted any more. Cancel-safe: then it is refused instead."""
        self.leases.stop()
        self._compactor.stop()
        idle = asyncio.Event()
        self._commits.when_idle(idle.set)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await idle.wait()
        except TimeoutError:
            log.error("the engine does not answer: writes it was given last may or may not be stored")

    def give_up(self, error: BrainError) -> None:
        """Refuse whatever is not answered yet with `error`, and everything from now on. What the engine has been given
        is nobody's any more: those who wait for it are told that it may or may not land.
        """
        self._commits.halt(error, LeaderFailed())

    @property
    def flying(self) -> Pending | None:
        """The batch that the engine has and has not answered."""
        return self._commits.flying

    @property
    def pending_requests(self) -> int:
        """Requests in the batch being filled and in the one the engine has."""
        flying = self.flying
        return len(self._commits.filling) + (0 if flying is None else len(flying))

    def _load_leases(self, fresh: bool) -> None:
        snapshot, table = self.present.reader.snapshot, self.leases.table
        self.leases.clock.resume(parse_u64(snapshot.get(Table.META, META_CLOCK)))
        found = [
            parse_lease(parse_lease_key(key), stored)
            for key, stored in snapshot.scan(Table.META, LEASE_PREFIX, prefix_end(LEASE_PREFIX))
        ]
        if fresh:
            now = self.leases.clock.now()
            for lease in found:
                lease.deadline = max(lease.deadline, now + lease.ttl * 1000)
        table.load(found)
        for key, lease_id in self.present.leased.items():
            table.attach_stored(key, lease_id)
        self.present.leased = {}

    # Requests

    def submit(self, op: TxnOp | PutOp | DeleteOp, done: Callable[[Committed | BrainError], None]) -> None:
        """One request, already validated; `done` gets its outcome once durable."""
        try:
            if self.present.refusal is not None:
                raise self.present.refusal
            if not is_read_only(op):
                self.check_writable()
            if self._is_settled(op):
                revision = self.present.revision
                world = self._world(revision, self.present.compact_revision)
                done(Committed(revision, _answer_of(plan(op, world).answer)))
                return
            self._commits.admit()
            self.charge(cost(op))
        except NoSpace as error:
            refusal = error
            self.present.alarms.once_raised(lambda: done(refusal))
            return
        except BrainError as error:
            done(error)
            return
        self._commits.filling.answer(done, self._evaluate(op), op, None)
        self._commits.wake()

    def submit_fast(self, message: bytes, reply: Callable[[bytes], None], fail: Callable[[BrainError], None]) -> bool:
        """A TxnRequest of one of kube-apiserver's shapes, from bytes to TxnResponse bytes; False: not one, nothing
        was done."""
        commits, present = self._commits, self.present
        try:
            self.check_writable()
            commits.admit()
        except BrainError as error:
            fail(error)
            return True
        outcome = self._lane.submit(message, commits.filling, commits.below, present.revision, reply, fail)
        if outcome is True:
            commits.wake()
        elif isinstance(outcome, bytes):
            reply(outcome)
        elif outcome is None:
            return False
        elif isinstance(outcome, BrainError):
            if isinstance(outcome, NoSpace):
                present.alarms.out_of_space(self.set_alarm)
                present.alarms.once_raised(lambda: fail(outcome))
            else:
                commits.filling.answer(fail, outcome, lambda: self.submit_fast(message, reply, fail), None)
                commits.wake()
        return True

    def compact(self, revision: int, physical: bool, done: Callable[[BrainError | None], None]) -> None:
        """Refuse reads below `revision` from now on; `physical`: answer only when what this frees is gone."""
        try:
            self.check_writable()
            pending = self.pending()
        except BrainError as error:
            done(error)
            return
        if revision <= self._next_compact or revision > pending.revision:
            refusal = Compacted() if revision <= self._next_compact else FutureRevision()
            pending.answer(done, refusal, lambda: self.compact(revision, physical, done), None)
            self._commits.wake()
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

    def set_alarm(self, alarm: Alarm, raised: bool, done: Callable[[BrainError | None], None]) -> None:
        """Raise or disarm an alarm."""

        def stored(error: BrainError | None) -> None:
            if error is None:
                self.present.alarms.settle(alarm, raised)
                self.apply_alarms()
            done(error)

        self._note(lambda pending: self.present.alarms.write(pending, alarm, raised), stored)

    def write_meta(self, changes: MetaChanges, done: Callable[[BrainError | None], None]) -> None:
        """META records of somebody else's: what is not about keys but lives and travels with them."""

        def write(pending: Pending) -> None:
            for key, value in changes:
                pending.write(Table.META, key, value)

        def stored(error: BrainError | None) -> None:
            if error is None:
                self.present.refresh_meta()
            done(error)

        self._note(write, stored)

    def touch(self, done: Callable[[EngineError | None], None]) -> None:
        """A batch of next to nothing: afterwards what is shown is read from the engine as it stands now."""
        self._commits.submit_side(self.stamp(), done)

    def _note(self, write: Callable[[Pending], None], done: Callable[[BrainError | None], None]) -> None:
        try:
            self._commits.admit()
        except BrainError as error:
            done(error)
            return
        pending = self._commits.filling
        write(pending)
        pending.answer(done, None, lambda: self._note(write, done), None)
        self._commits.wake()

    # What a transaction is evaluated on

    def pending(self) -> Pending:
        if self.present.refusal is not None:
            raise self.present.refusal
        self._commits.admit()
        return self._commits.filling

    def check_writable(self) -> None:
        """Raises what writes are refused with."""
        if self.present.write_refusal is not None:
            raise self.present.write_refusal

    def wake(self) -> None:
        self._commits.wake()

    def view(self) -> View:
        return stacked(self._published, (self._commits.below, self._commits.filling.now))

    def charge(self, cost: int) -> None:
        if cost and self._commits.filling.size + cost >= self._lane.room:
            self.present.alarms.out_of_space(self.set_alarm)
            raise NoSpace

    def _world(self, revision: int, compact_revision: int) -> World:
        return World(self.view(), revision, compact_revision, self.leases.table.holds, self._pinned)

    def _evaluate(self, op: Op) -> Committed | BrainError:
        """The answer to `op` after everything that is pending. A refusal depends on that, too: it is given when all
        of it is durable."""
        pending = self._commits.filling
        try:
            planned = plan(op, self._world(pending.revision, self._next_compact))
        except BrainError as error:
            return error
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
        present = self.present
        if op.revision <= present.revision:
            answer = present.reader.range(op, present.revision, present.compact_revision)
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
        present = self.present
        present.reader.advance(pending.births)
        present.revision = pending.revision
        present.confirmed = max(present.confirmed, pending.revision)
        present.compact_revision = max(present.compact_revision, pending.compacts)
        self._lane.room = present.alarms.room()
        present.settled()

    def announce(self, pending: Pending) -> None:
        if pending.compacts >= 0:
            self._compactor.compact(pending.compacts)
        self.present.publish(pending.events, pending.revision)

    def retry(self, entry: Entry) -> None:
        done, _, op, fail = entry
        if fail is not None and isinstance(op, bytes):
            self.submit_fast(op, done, fail)
        elif isinstance(op, TxnOp | PutOp | DeleteOp):
            self.submit(op, done)
        elif callable(op):
            op()

    def halt(self, error: BrainError) -> None:
        if self._over:
            return
        self._over = True
        self.leases.stop()
        self._compactor.stop()
        for lease in self.leases.table.all():
            for key in lease.keys:
                self.present.leased[key] = lease.lease_id
        if not isinstance(error, Stopped | NoLeader):
            log.error("no more writes are taken here: %s", error)
        self._halted(error)

    def apply_alarms(self) -> None:
        self.present.apply_alarms()
        self._lane.room = self.present.alarms.room()


def _pins(op: Op) -> bool:
    if isinstance(op, TxnOp):
        return any(map(_pins, op.success)) or any(map(_pins, op.failure))
    return isinstance(op, RangeOp) and op.revision > 0


def _answer_of(answer: object) -> TxnAnswer | PutAnswer | DeleteAnswer:
    if isinstance(answer, TxnAnswer | PutAnswer | DeleteAnswer):
        return answer
    raise TypeError(f"not the answer of a write: {answer!r}")
