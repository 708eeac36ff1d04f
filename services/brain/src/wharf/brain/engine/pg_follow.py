"""Moving a replica to where the authority is: by deltas as they come, or by reading what is missing.

What was read and what deltas have brought meanwhile never collide: both are queued in one turn of the loop, each only
if it follows on what is queued. After a change of the writer nothing is taken on trust: the log's record of the
replica's own revision is compared, and META is read whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from wharf.brain.engine.base import (
    META_EPOCH,
    META_FORMAT,
    META_REVISION,
    Batch,
    CommitUnknown,
    Diverged,
    EngineCorrupt,
    EngineError,
    EngineFull,
    Table,
    Write,
)
from wharf.brain.engine.delta import Delta, Position, follows
from wharf.brain.engine.derive import derive
from wharf.brain.engine.pg_link import Connection, Link, Rows, one_state
from wharf.brain.engine.pg_read import EVERYTHING, READ_SECONDS, Fence, load, pieces, read_fence
from wharf.brain.engine.replica import Replica
from wharf.brain.engine.sql import READ_LOG, READ_META, Plan
from wharf.brain.store.keys import META_CLUSTER, META_COMPACTED, log_key, parse_u64

log = logging.getLogger(__name__)

OWN_META = (META_FORMAT, META_REVISION, META_EPOCH)  # of the replica, not of what it replicates
Done = Callable[[EngineError | None], None]
MetaChanges = Sequence[tuple[bytes, bytes | None]]


class Following:
    """A replica and how far it is; for the loop thread. `link`: what the authority is read by."""

    def __init__(self, replica: Replica, link: Link) -> None:
        self.replica = replica
        self.position = Position(0, 0, 0)  # what the replica has accepted
        self.log_epoch: int | None = None  # of the writer of the newest log record
        self.turn = 0  # as last read of the fence
        self.meta_gone = 0  # deletions in META that the authority still tells, when all of it was last read
        self.moving = asyncio.Lock()  # held by whoever moves the replica by reading
        self._link = link
        self._holding = False  # deltas are refused for a while
        self._broken = False  # the replica lacks something it had accepted
        self._catching: asyncio.Task[Position] | None = None
        self._next: asyncio.Task[Position] | None = None  # starts when `_catching` is over

    @property
    def broken(self) -> bool:
        """Whether the replica must be loaded anew before it can show anything more."""
        return self._broken

    def tasks(self) -> list[asyncio.Task[Position]]:
        """What runs."""
        return [task for task in (self._catching, self._next) if task is not None and not task.done()]

    def apply(self, delta: Delta, done: Done) -> bool:
        """`SharedEngine.apply`; False also for another epoch's first delta: the authority may have lost something
        before it.
        """
        position = self.position
        if self._holding or self._broken or delta.epoch != position.epoch:
            return False
        if not (delta.whole and follows(position, delta)):
            return False
        reached = Position(delta.epoch, delta.seq, delta.revision)
        try:
            self._take(delta.records, delta.meta, reached, delta.epoch, done)
        except ValueError as error:
            log.warning("a delta is malformed, the log is read instead: %s", error)
            return False
        return True

    async def catch_up(self) -> Position:
        """`SharedEngine.catch_up`. Whoever asks while the authority is being read waits for the next reading."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._catch_up(self._catching))
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._next)

    async def reload(self) -> None:
        """`SharedEngine.reload`."""
        async with self.moving:
            await self._load(self._link, Position(0, 0, 0))

    async def show(self, batch: Batch, planned: Plan) -> None:
        """A batch of ours that the authority has; CommitUnknown, and nothing moves, when the replica cannot take it.

        Afterwards a full replica may be asked again; one that has failed in another way is `broken`.
        """
        shown: asyncio.Future[EngineError | None] = asyncio.get_running_loop().create_future()
        self.replica.queue(batch.writes, planned.now, batch.revision, shown.set_result)
        error = await shown
        if error is not None:
            self._broken = self._broken or not isinstance(error, EngineFull)
            raise CommitUnknown(f"the batch is stored, but the replica cannot show it: {error}")
        self.position = Position(batch.epoch, self.position.seq + 1, batch.revision)
        if planned.log:
            self.log_epoch = batch.epoch
        if planned.compacted:
            self.replica.is_trimmed(planned.compacted)

    async def follow(self, link: Link) -> None:
        """Move the replica to the authority's state as `link` shows it; `moving` is held."""
        if self._broken or not await self._read(link):
            await self._load(link, self.position)
            return
        await self.replica.drained()
        if self._broken:
            raise EngineError("the replica could not take what was read; it is loaded anew the next time")

    async def _read(self, link: Link) -> bool:
        """`_follow` by whichever host knows what the replica knows: one that was replaced, and lives, does not."""
        for hosts_left in reversed(range(link.hosts)):
            start, log_epoch = self.position, self.log_epoch
            await self.replica.drained()
            try:
                return await link.call(partial(self._follow, link, start, log_epoch), READ_SECONDS)
            except Diverged:
                if not hosts_left:
                    raise
                link.drop()
            except ValueError as error:
                raise EngineCorrupt(f"{link.shown}: the log cannot be read: {error}") from error
            finally:
                self._holding = False
        raise EngineError("the URL names no host")

    async def _catch_up(self, earlier: asyncio.Task[Position] | None) -> Position:
        if earlier is not None:
            await asyncio.wait([earlier])
        self._catching, self._next = self._next, None
        async with self.moving:
            await self.follow(self._link)
        return self.position

    async def _follow(self, link: Link, start: Position, log_epoch: int | None, connection: Connection) -> bool:
        """False when the log does not reach back to `start`."""
        async with one_state(connection):
            fence = await read_fence(connection)
            if fence.is_behind(start):
                raise _lost(start, fence)
            self.turn = fence.turn
            if fence.position == start:
                return True
            whole = fence.epoch != start.epoch or start.seq < fence.meta_floor
            self._holding = whole
            meta = await connection.fetch(READ_META, EVERYTHING if whole else start.seq)
            reached = start.revision
            async for rows in pieces(link, connection, READ_SECONDS, READ_LOG, start.revision, fence.revision):
                ours = rows[0]["revision"] == start.revision
                if ours:
                    self._compare(rows[0], log_epoch)
                missing = rows[1:] if ours else rows
                if any(row["revision"] != reached + 1 + number for number, row in enumerate(missing)):
                    return False
                reached += len(missing)
                self._take_rows(missing)
            if reached != fence.revision:
                return False
        if whole:
            await self.replica.drained()
        self._finish(fence, meta, whole)
        return True

    def _compare(self, row: Rows, log_epoch: int | None) -> None:
        """Diverged unless the authority's record of a revision is the replica's."""
        held = self.replica.read(Table.LOG, log_key(row["revision"]))
        if held is not None and (held != row["events"] or log_epoch not in (None, row["epoch"])):
            raise Diverged(
                f"the authority holds another revision {row['revision']} than was seen: it has lost something"
            )

    def _take_rows(self, rows: Sequence[Rows]) -> None:
        """Show log records, but for what deltas have brought meanwhile."""
        position = self.position
        rows = [row for row in rows if row["revision"] > position.revision]
        if rows:
            reached = position._replace(revision=rows[-1]["revision"])
            self._take([row["events"] for row in rows], (), reached, rows[-1]["epoch"], None)

    def _finish(self, fence: Fence, rows: Sequence[Rows], whole: bool) -> None:
        """The last step of catching up: META as of `fence`."""
        position = self.position
        if fence.epoch != position.epoch and position.seq > fence.seq:
            raise _lost(position, fence)
        if fence.seq < position.seq:
            return  # deltas were faster
        meta = {row["key"]: row["value"] for row in rows if whole or row["seq"] > position.seq}
        if whole:
            self.meta_gone = sum(value is None for value in meta.values())
            meta = self._meta_changes({key: value for key, value in meta.items() if value is not None})
        if meta:
            self._take((), list(meta.items()), fence.position, None, None)
        self.position = fence.position

    def _meta_changes(self, wanted: dict[bytes, bytes | None]) -> dict[bytes, bytes | None]:
        """What makes the replica's META equal to `wanted`."""
        snapshot = self.replica.snapshot()
        try:
            held = {key: value for key, value in snapshot.scan(Table.META, b"", None) if key not in OWN_META}
        finally:
            snapshot.close()
        if held.get(META_CLUSTER) != wanted.get(META_CLUSTER):
            raise Diverged("the authority is another cluster's")
        changed = {key: value for key, value in wanted.items() if held.get(key) != value}
        return changed | {key: None for key in held if key not in wanted}

    def _take(
        self, records: Sequence[bytes], meta: MetaChanges, reached: Position, log_epoch: int | None, done: Done | None
    ) -> None:
        """Queue the revisions after the position's and changes of META, and be at `reached`. ValueError."""
        with self.replica.lookups() as before:
            derived = derive(self.position.revision, records, before)
        writes: list[Write] = [*derived.writes, *((Table.META, key, value) for key, value in meta)]
        compacted = max((parse_u64(value) for key, value in meta if key == META_COMPACTED), default=0)

        def shown(error: EngineError | None) -> None:
            if error is not None:
                self._broken = True
                log.error("the replica cannot be written: %s", error)
            elif compacted:
                self.replica.trim(compacted)
            if done is not None:
                done(error)

        self.replica.queue(writes, derived.now, reached.revision, shown)
        self.position = reached
        if records:
            self.log_epoch = log_epoch

    async def _load(self, link: Link, least: Position) -> None:
        """The whole replica anew; Diverged when the authority is behind `least`."""
        self._holding = True
        try:
            await self.replica.drained()
            loading = self.replica.next_generation()
            try:
                loaded = await link.call(lambda connection: load(link, connection, loading), READ_SECONDS)
                if loaded.fence.is_behind(least):
                    raise _lost(least, loaded.fence)
            except BaseException:
                loading.discard()
                raise
            loading.end()
            self._broken = True  # until it is known that the exchange is over
            await self.replica.exchange(loading, loaded.fence.revision, loaded.compacted)
            self.position, self.turn = loaded.fence.position, loaded.fence.turn
            self.log_epoch, self.meta_gone, self._broken = loaded.log_epoch, loaded.meta_gone, False
        finally:
            self._holding = False


def _lost(position: Position, fence: Fence) -> Diverged:
    return Diverged(f"the replica is at {position}, the authority at {fence.position}: it has lost something")
