"""The PostgreSQL engine: one authority for any number of nodes, and on each node a replica that all reads go to.

A batch is one statement, one round trip, one transaction: it moves the fence's row from the epoch, revision and
sequence number the writer believes in, and writes only if that row was moved. So a writer that was replaced cannot
commit, whatever it believes. The leader shows a batch in its replica once the authority has it; other nodes derive the
same from the batch's log records (`pg_follow`).

Invariant: the replica shows a prefix of what the authority has committed, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from wharf.brain.engine.base import (
    Batch,
    CommitUnknown,
    EngineError,
    EngineFailed,
    Fenced,
    OutcomeLost,
    Promotion,
    Resolution,
    Table,
    epoch_number,
    next_epoch,
)
from wharf.brain.engine.delta import Delta, Position
from wharf.brain.engine.derive import deleted_keys
from wharf.brain.engine.lmdb import LmdbSnapshot
from wharf.brain.engine.pg_follow import Done, Following
from wharf.brain.engine.pg_link import InDoubt, Link, RolledBack, Rows
from wharf.brain.engine.pg_read import Fence, parse_fence
from wharf.brain.engine.pg_schema import migrate
from wharf.brain.engine.replica import Replica, scratch
from wharf.brain.engine.sql import (
    OTHER_CLIENTS,
    OWN_PID,
    PURGE_META,
    RAISE_EPOCH,
    READ_FENCE,
    READ_LOG_EPOCH,
    TAKE_TURN,
    Plan,
    plan,
    statement,
)
from wharf.brain.store.keys import META_COMPACTED, log_key, parse_u64

log = logging.getLogger(__name__)

T = TypeVar("T")

COMMIT_SECONDS = 5.0  # for an answer; then the connection is dropped and the outcome asked for
ATTEMPTS = 5  # at what another transaction was in the way of
RETRY_DELAY = 0.02  # seconds, times the attempt
PURGE_AT = 1000  # deletions in META that are kept to be told to others


class PostgresEngine:
    """The contract of `base.SharedEngine`. `parent`: where the replica's directory is made."""

    def __init__(self, url: str, parent: str | Path | None = None) -> None:
        self.on_landed: Callable[[Delta], None] | None = None
        self._parent = Path(parent or tempfile.gettempdir())
        self._writes, self._reads = Link(url), Link(url)
        self._following: Following | None = None
        self._meta_gone = 0  # deletions in META since they were last cleared away
        self._jobs: deque[Callable[[], Awaitable[None]]] = deque()  # the writer's, in order
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        try:
            await migrate(self._writes)
            self._following = Following(Replica(scratch(self._parent)), self._reads)
            await self._following.reload()
        except BaseException:
            await self.aclose()
            raise

    async def other_clients(self) -> int:
        """Connections of other brains to the database, as far as this role may see them. EngineError."""
        own = [await link.fetchrow(COMMIT_SECONDS, OWN_PID) for link in (self._writes, self._reads)]
        found = await self._reads.fetchrow(COMMIT_SECONDS, OTHER_CLIENTS, [row["pid"] for row in own if row])
        return 0 if found is None else int(found["found"])

    def position(self) -> Position:
        return Position(0, 0, 0) if self._following is None else self._following.position

    def apply(self, delta: Delta, done: Done) -> bool:
        return not self._closed and self._current.apply(delta, done)

    async def catch_up(self) -> Position:
        return await self._current.catch_up()

    async def reload(self) -> None:
        await self._current.reload()

    def snapshot(self) -> LmdbSnapshot:
        return self._current.replica.snapshot()

    def size(self) -> int:
        return self._current.replica.size()

    def size_in_use(self) -> int:
        return self._current.replica.size_in_use()

    def relax(self) -> None:
        self._current.replica.relax()

    def defragment(self) -> None:
        self._current.replica.defragment()

    def backup(self, path: str) -> None:
        self._current.replica.backup(path)

    async def aclose(self) -> None:
        """What is under way ends with an unknown outcome."""
        self._closed = True
        running: list[asyncio.Task[None] | asyncio.Task[Position]] = [] if self._worker is None else [self._worker]
        running += [] if self._following is None else self._following.tasks()
        if running or (self._following is not None and self._following.moving.locked()):
            self._writes.shut()
            self._reads.shut()
        if running:
            await asyncio.wait(running)
        if self._following is not None:
            async with self._following.moving:
                pass  # whoever reads the authority has noticed
        await self._writes.close()
        await self._reads.close()
        self.close()

    def close(self) -> None:
        self._closed = True
        self._writes.shut()
        self._reads.shut()
        if self._following is not None:
            self._following.replica.close()

    # Writing

    def submit(self, batch: Batch, done: Done) -> None:
        planned = plan(batch)
        self._in_turn(lambda: self._submitted(batch, planned, done))

    def resolve(self, batch: Batch, done: Callable[[Resolution], None]) -> None:
        self._in_turn(lambda: self._resolved(batch, done))

    async def promote(self, lease_ms: int = 0) -> Promotion:
        outcome: asyncio.Future[Promotion] = asyncio.get_running_loop().create_future()

        async def run() -> None:
            if outcome.done():
                return  # nobody wants it any more, and whoever leads now would be fenced by it
            try:
                promotion = await self._promoted(lease_ms, outcome.cancelled)
            except Exception as error:
                if not outcome.done():
                    outcome.set_exception(error)
            else:
                if not outcome.done():
                    outcome.set_result(promotion)

        self._in_turn(run)
        return await outcome

    def _in_turn(self, job: Callable[[], Awaitable[None]]) -> None:
        self._jobs.append(job)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._jobs:
                await self._jobs.popleft()()
        finally:
            self._worker = None

    async def _submitted(self, batch: Batch, planned: Plan, done: Done) -> None:
        outcome: EngineError | None = None
        try:
            async with self._current.moving:
                await self._commit(batch, planned)
                await self._landed(batch, planned)
        except (InDoubt, RolledBack) as error:
            outcome = CommitUnknown(str(error))
        except EngineError as error:
            outcome = CommitUnknown(str(error)) if self._closed else error
        except Exception as error:
            log.exception("a batch could not be committed")
            outcome = CommitUnknown(f"{type(error).__name__}: {error}")
        _tell(done, outcome)

    async def _commit(self, batch: Batch, planned: Plan) -> None:
        """Returns once the authority has it; what is raised says what is known."""
        following = self._current
        seq = following.position.seq
        gone = self._forgotten(planned.compacted) if planned.compacted else ()
        for attempt in range(1, ATTEMPTS + 1):
            text, arguments = statement(batch, planned, seq, following.turn, gone)
            try:
                if await self._answered(text, *arguments) is not None:
                    return
                fence = parse_fence(await self._answered(READ_FENCE))
            except RolledBack:
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(RETRY_DELAY * attempt)
                continue
            expected = Position(batch.epoch, seq, batch.expected_revision)
            if fence.position != expected:
                raise Fenced(f"the batch expects {expected}; the authority holds {fence.position}")
            following.turn = fence.turn  # moved by a question of ours that was itself never answered
        raise InDoubt("the fence moves whenever it is looked at")

    async def _answered(self, text: str, *arguments: object) -> Rows | None:
        """The first row; InDoubt also when the server committed and warned: then it may not be replicated."""
        self._writes.warned = False
        row = await self._writes.fetchrow(COMMIT_SECONDS, text, *arguments)
        if self._writes.warned:
            raise InDoubt("the server warned while it committed")
        return row

    async def _landed(self, batch: Batch, planned: Plan) -> None:
        """The authority has the batch: tell, and show it. CommitUnknown when the replica cannot take it now."""
        following = self._current
        if self.on_landed is not None:
            try:
                self.on_landed(_delta(batch, planned, following.position.seq + 1))
            except Exception:
                log.exception("a batch could not be passed on")
        await following.show(batch, planned)
        self._meta_gone += sum(value is None for value in planned.meta.values())
        if self._meta_gone >= PURGE_AT:
            self._meta_gone = 0
            self._in_turn(self._purge)

    async def _resolved(self, batch: Batch, done: Callable[[Resolution], None]) -> None:
        outcome: Resolution
        try:
            async with self._current.moving:
                outcome = await self._fate(batch)
        except EngineError as error:
            outcome = error
        except Exception as error:
            log.exception("the fate of a batch could not be found out")
            outcome = EngineError(f"{type(error).__name__}: {error}")
        _tell(done, outcome)

    async def _fate(self, batch: Batch) -> bool:
        """Whether the batch has landed; then it is shown, else it may be submitted again.

        Fenced: it has not, and never will. OutcomeLost: the authority no longer tells. EngineFailed: the replica must
        be loaded anew, which only a follower does. Other EngineError: ask again.
        """
        following = self._current
        if following.broken:
            raise EngineFailed(
                "the replica failed while a batch was under way; this node follows until it is loaded anew"
            )
        before = following.position
        fence = parse_fence(await self._answered(TAKE_TURN))
        following.turn = fence.turn
        if fence.position == Position(batch.epoch, before.seq, batch.expected_revision):
            return False
        if fence.position != Position(batch.epoch, before.seq + 1, batch.revision):
            await self._look_behind(fence, batch, before.seq)
        await self._landed(batch, plan(batch))
        return True

    async def _look_behind(self, fence: Fence, batch: Batch, seq: int) -> None:
        """Returns if a batch that followed on `seq` landed before another writer was promoted; else raises Fenced or
        OutcomeLost. No batch of an earlier epoch can land any more, so what is read here is final.
        """
        not_landed = Fenced(f"the batch did not land, and the authority is at {fence.position} now")
        replaced = fence.epoch != batch.epoch
        if (fence.promoted_seq if replaced else fence.seq) <= seq:
            raise not_landed
        if replaced and batch.revision > batch.expected_revision:
            row = await self._answered(READ_LOG_EPOCH, batch.revision)
            if row is not None and row["epoch"] == batch.epoch:
                return
            if row is not None or fence.revision < batch.revision:
                raise not_landed
        if (epoch_number(fence.epoch), fence.promoted_seq) != (epoch_number(batch.epoch) + 1, seq + 1):
            raise OutcomeLost(f"the authority is at {fence.position} and no longer tells whether the batch landed")

    async def _promoted(self, lease_ms: int, unwanted: Callable[[], bool]) -> Promotion:
        following = self._current
        self._reads.drop()  # whoever reads by it gives way, for its server may be silent
        self._writes.drop()  # and this one may have been cut since it was used last
        async with following.moving:
            for _ in range(ATTEMPTS):
                fence = parse_fence(await self._answered(READ_FENCE))
                if unwanted():
                    raise EngineError("the promotion was given up")
                row = await self._answered(RAISE_EPOCH, fence.epoch, lease_ms, next_epoch(fence.epoch))
                if row is not None:
                    break
            else:
                raise EngineError("others are promoted at the same time, again and again")
            await following.follow(self._writes)
        promotion = Promotion(row["epoch"], row["earlier_ms"])
        if following.position.epoch != promotion.epoch:
            raise Fenced("another writer has taken over already")
        self._meta_gone = following.meta_gone
        return promotion

    async def _purge(self) -> None:
        """Forget deletions in META; whoever was not told yet reads all of it."""
        try:
            await self._writes.fetchrow(COMMIT_SECONDS, PURGE_META, *self._current.position[:2])
        except EngineError as error:
            log.warning("deleted records could not be cleared away: %s", error)

    def _forgotten(self, compacted: int) -> list[bytes]:
        """Keys of NOW that were deleted in the revisions a compaction step is about to forget."""
        snapshot = self._current.replica.snapshot()
        try:
            since = parse_u64(snapshot.get(Table.META, META_COMPACTED))
            records = snapshot.scan(Table.LOG, log_key(since + 1), log_key(compacted + 1))
            return [key for _, record in records for key in deleted_keys(record)]
        finally:
            snapshot.close()

    @property
    def _current(self) -> Following:
        if self._closed:
            raise EngineError("engine is closed")
        if self._following is None:
            raise EngineError("engine is not open yet")
        return self._following


def _delta(batch: Batch, planned: Plan, seq: int) -> Delta:
    """What followers are told; without content when it is not all in the log's records."""
    whole = list(planned.log) == list(range(batch.expected_revision + 1, batch.revision + 1))
    records, meta = (list(planned.log.values()), list(planned.meta.items())) if whole else ([], [])
    return Delta(batch.epoch, seq, batch.expected_revision, batch.revision, records, meta, whole)


def _tell(done: Callable[[T], None], outcome: T) -> None:
    try:
        done(outcome)
    except Exception:
        log.exception("the outcome of a batch could not be dealt with")
