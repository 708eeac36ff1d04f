"""The store: etcd's key-value model over an engine, for the loop thread.

A store shows (`present`) and, while it leads, writes (`leading`). A store of one loads and leads at once (`start`); a
node of several loads, follows, and leads from one promotion to the next (`lead`, `follow`), while its readers and
watchers stay.

Invariant: `revision` is what is durable and visible, everything acknowledged is at or below it, and it only grows.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

from wharf.brain.engine.base import Batch, Engine, LocalEngine, Table, Write
from wharf.brain.errors import BrainError, NoLeader, Stopped
from wharf.brain.store._codec import Header
from wharf.brain.store.alarms import Alarm
from wharf.brain.store.commit import CommitLimits
from wharf.brain.store.filling import refuse_unfinished
from wharf.brain.store.keys import META_CLUSTER, META_MEMBER, encode_u64, parse_u64
from wharf.brain.store.leading import Leading, MetaChanges
from wharf.brain.store.leases import Leases
from wharf.brain.store.present import Listener, Present
from wharf.brain.store.shapes import Committed, DeleteOp, PutOp, RangeAnswer, RangeOp, TxnOp
from wharf.common.clock import BootClock, Clock

log = logging.getLogger(__name__)

RAFT_TERM = 2  # there is no raft; clients expect a term that is set and never falls. A fresh etcd's is 2.


@dataclass(frozen=True, slots=True)
class StoreLimits:
    quota_bytes: int = 0  # of data in the engine; 0: no quota
    commits: CommitLimits = field(default_factory=CommitLimits)


class Store:
    """See the module. Callbacks may come before the method that takes them returns."""

    def __init__(self, engine: Engine, clock: Clock | None = None, limits: StoreLimits | None = None) -> None:
        self.engine = engine
        self.cluster_id = self.member_id = 0
        self.term = RAFT_TERM
        self._limits = limits or StoreLimits()
        self.present = Present(engine, self._limits.quota_bytes)
        self._clock = clock or BootClock()
        self._leading: Leading | None = None
        self._halt_listeners: list[Callable[[BrainError], None]] = []
        self._stopped = False

    # Life

    async def start(self) -> None:
        """A store of one: take the engine over, load what lives in memory, lead; EngineError when it cannot be."""
        promotion = await self.engine.promote()
        self._make_ids(promotion.epoch)
        self.load()
        self.lead(promotion.epoch, fresh_leases=False)

    def load(self, member_id: int = 0) -> None:
        """Show what the engine has. `member_id`: who this node is, unless the engine is its own."""
        snapshot = self.engine.snapshot()
        try:
            refuse_unfinished(snapshot)
            self.cluster_id = parse_u64(snapshot.get(Table.META, META_CLUSTER))
            self.member_id = member_id or parse_u64(snapshot.get(Table.META, META_MEMBER))
        finally:
            snapshot.close()
        self.present.header = Header(self.cluster_id, self.member_id, self.term)
        self.present.alarms.member_id = self.member_id
        self.present.load()
        self.present.apply_alarms()

    def lead(self, epoch: int, fresh_leases: bool = True) -> None:
        """Write from now on, under the fence `epoch` that the engine was promoted to."""
        self.present.confirmed = max(self.present.confirmed, self.engine_revision())
        self.present.advance()
        self._leading = Leading(self.present, epoch, self._clock, self._limits.commits, self._halted, fresh_leases)
        self._leading.start()

    async def resign(self, error: BrainError) -> None:
        """Finish what was accepted, then follow; `error` answers what comes or does not finish."""
        if self._leading is not None:
            await self._leading.stop()
            self.follow(error)

    def follow(self, error: BrainError) -> None:
        """Write no more, at once: what is not answered yet is refused with `error`. Reads go on, of what is shown."""
        leading, self._leading = self._leading, None
        if leading is not None:
            leading.give_up(error)
        if not self._stopped:
            self.present.refuse(None)

    def set_term(self, term: int) -> None:
        """Of every header from now on."""
        self.term = term
        self.present.header.set_term(term)

    async def stop(self) -> None:
        """Finish what was accepted, then let go; nothing is accepted any more. The engine stays open."""
        if self._stopped:
            return
        self._stopped = True
        if self._leading is not None:
            await self._leading.stop()
            self._leading.give_up(Stopped())
        else:
            self._halted(Stopped())
        self.present.reader.close()

    def read_cluster_id(self) -> int:
        """Of the engine; before `load`, too."""
        snapshot = self.engine.snapshot()
        try:
            return parse_u64(snapshot.get(Table.META, META_CLUSTER))
        finally:
            snapshot.close()

    def engine_revision(self) -> int:
        snapshot = self.engine.snapshot()
        try:
            return snapshot.revision
        finally:
            snapshot.close()

    def _make_ids(self, epoch: int) -> None:
        """A store nobody has named yet gets its ids."""
        snapshot = self.engine.snapshot()
        try:
            revision = snapshot.revision
            missing: list[Write] = [
                (Table.META, name, encode_u64(secrets.randbits(63) | 1))
                for name in (META_CLUSTER, META_MEMBER)
                if snapshot.get(Table.META, name) is None
            ]
        finally:
            snapshot.close()
        if missing:
            cast(LocalEngine, self.engine).commit(Batch(epoch, revision, revision, missing))

    def _halted(self, error: BrainError) -> None:
        self.present.refuse(error)
        for listener in self._halt_listeners:
            listener(error)

    # What is shown

    @property
    def revision(self) -> int:
        return self.present.revision

    @property
    def compact_revision(self) -> int:
        """Reads below are refused; -1: nothing was ever compacted."""
        return self.present.compact_revision

    @property
    def header(self) -> Header:
        return self.present.header

    def range(self, op: RangeOp) -> RangeAnswer:
        """A range of published state: linearizable on a leader, because everything acknowledged is published. Raises
        BrainError."""
        return self.present.range(op)

    def range_fast(self, message: bytes) -> bytes | tuple[int, Iterator[bytes]] | None:
        """See `Present.range_fast`."""
        return self.present.range_fast(message)

    def alarms(self) -> tuple[str, ...]:
        """The kinds of alarms that are raised: "NOSPACE", "CORRUPT"."""
        return self.present.alarms.names()

    def raised_alarms(self) -> tuple[Alarm, ...]:
        """Every raised alarm with its member."""
        return self.present.alarms.raised()

    def on_events(self, listener: Listener) -> None:
        """See `Present.on_events`."""
        self.present.on_events(listener)

    def on_jumped(self, listener: Callable[[], None]) -> None:
        """See `Present.on_jumped`."""
        self.present.on_jumped(listener)

    def on_halt(self, listener: Callable[[BrainError], None]) -> None:
        """Call when this store writes no more, with the reason."""
        self._halt_listeners.append(listener)

    # What a leader does

    @property
    def leads(self) -> bool:
        return self._leading is not None

    @property
    def pending_requests(self) -> int:
        """Requests that wait for their batch; 0 unless this store leads."""
        return 0 if self._leading is None else self._leading.pending_requests

    @property
    def leading(self) -> Leading:
        """NoLeader unless this store leads."""
        if self._leading is None:
            raise self.present.refusal or NoLeader()
        return self._leading

    @property
    def leases(self) -> Leases:
        """NoLeader unless this store leads."""
        return self.leading.leases

    def submit(self, op: TxnOp | PutOp | DeleteOp, done: Callable[[Committed | BrainError], None]) -> None:
        """See `Leading.submit`."""
        try:
            self.leading.submit(op, done)
        except BrainError as error:
            done(error)

    def submit_fast(self, message: bytes, reply: Callable[[bytes], None], fail: Callable[[BrainError], None]) -> bool:
        """See `Leading.submit_fast`."""
        leading = self._leading
        if leading is None:
            fail(self.present.refusal or NoLeader())
            return True
        return leading.submit_fast(message, reply, fail)

    def compact(self, revision: int, physical: bool, done: Callable[[BrainError | None], None]) -> None:
        """See `Leading.compact`."""
        try:
            self.leading.compact(revision, physical, done)
        except BrainError as error:
            done(error)

    def set_alarm(
        self, name: str, raised: bool, done: Callable[[BrainError | None], None], member_id: int | None = None
    ) -> None:
        """Raise or disarm an alarm of a member; None: of this one."""
        alarm = Alarm(name, self.member_id if member_id is None else member_id)
        try:
            self.leading.set_alarm(alarm, raised, done)
        except BrainError as error:
            done(error)

    async def defragment(self) -> None:
        """Give free pages back to the file system, and let go of the file they were in. Raises what the engine does."""
        try:
            await asyncio.to_thread(self.engine.defragment)
        finally:  # an engine that has failed reports it to a batch
            if self._leading is not None:
                moved = asyncio.Event()
                self._leading.touch(lambda _: moved.set())
                await moved.wait()

    def write_meta(self, changes: MetaChanges, done: Callable[[BrainError | None], None]) -> None:
        """See `Leading.write_meta`."""
        try:
            self.leading.write_meta(changes, done)
        except BrainError as error:
            done(error)
