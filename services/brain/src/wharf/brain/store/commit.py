"""Group commit: one batch flies to the engine while the next fills.

Owns the order of batches and what an engine's answer means; what is in a batch, and what follows when it has landed,
is the `Owner`'s. Nothing here reads a clock or waits: scheduling is passed in.

Invariant: a batch is announced exactly when the engine has it, in order, and every entry of it is answered exactly
once:

    filling ──flush──▶ flying ──done(None)──▶ settle (state becomes visible) ▶ next flush ▶ announce (watchers, clients)
                         │ EngineFull: its entries are refused, entries that saw it are evaluated again on what is left
                         │ CommitUnknown: the engine is read until it says; nothing is answered before
                         └ Fenced, anything else: everything is refused and nothing is accepted any more

When the answer is EngineFailed, or the answer cannot be processed, everything is refused too; the batch gets an
unknown-outcome error (`LeaderFailed`) unless the engine says that it did not commit.

"Nothing was executed" (`NoLeader`) answers only what certainly did not land: the request is then sent again elsewhere.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wharf.brain.engine.base import (
    Batch,
    CommitUnknown,
    Engine,
    EngineError,
    EngineFailed,
    EngineFull,
    Fenced,
    OutcomeLost,
    Resolution,
    Write,
)
from wharf.brain.errors import BrainError, CorruptStore, LeaderFailed, NoLeader, NoSpace, TooManyRequests, Unhealthy
from wharf.brain.store._codec import Pending

if TYPE_CHECKING:
    from wharf.brain.store._codec import Entry

log = logging.getLogger(__name__)

RESOLVE_DELAYS = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between questions to an engine that does not answer
NOTHING: Mapping[bytes, bytes | None] = {}


@dataclass(frozen=True, slots=True)
class CommitLimits:
    """What may wait for one commit; beyond, requests are refused with TooManyRequests."""

    max_entries: int = 50_000  # two seconds' worth at the fastest measured rate
    max_bytes: int = 256 * 1024 * 1024  # of writes: a batch must fit memory twice


class Owner(Protocol):
    """Whose batches these are."""

    def stamp(self) -> Sequence[Write]:
        """Writes that go with every batch."""

    def settle(self, pending: Pending) -> None:
        """`pending` is durable: make it visible. No callbacks to clients yet."""

    def announce(self, pending: Pending) -> None:
        """Tell watchers of `pending`; entries are answered afterwards."""

    def retry(self, entry: Entry) -> None:
        """Evaluate an entry again: what it was evaluated on did not land."""

    def halt(self, error: BrainError) -> None:
        """No batch will ever land again."""


@dataclass(frozen=True, slots=True)
class _Flight:
    batch: Batch
    pending: Pending
    side: Callable[[EngineError | None], None] | None = None


class Commits:
    """The two batches and the engine under them."""

    def __init__(
        self,
        engine: Engine,
        epoch: int,
        revision: int,
        owner: Owner,
        call_soon: Callable[[Callable[[], None]], object],
        call_later: Callable[[float, Callable[[], None]], object],
        limits: CommitLimits | None = None,
    ) -> None:
        self.filling = Pending(revision)
        self.below: Mapping[bytes, bytes | None] = NOTHING  # changes of the flying batch
        self.batches = 0  # landed, for metrics
        self._engine, self._epoch, self._owner = engine, epoch, owner
        self._call_soon, self._call_later = call_soon, call_later
        self._limits = limits or CommitLimits()
        self._flight: _Flight | None = None
        self._side: deque[tuple[Sequence[Write], Callable[[EngineError | None], None]]] = deque()
        self._side_went_last = False
        self._awake = False
        self._unsure = False  # the engine has left us in doubt about the flying batch
        self._halted: BrainError | None = None
        self._idle_waiters: list[Callable[[], None]] = []

    @property
    def flying(self) -> Pending | None:
        return None if self._flight is None else self._flight.pending

    @property
    def idle(self) -> bool:
        return self._flight is None and not self.filling.writes and not self.filling.entries and not self._side

    def admit(self) -> None:
        """Whether one more request may join; raises what refuses it."""
        if self._halted is not None:
            raise self._halted
        if len(self.filling) >= self._limits.max_entries or self.filling.size >= self._limits.max_bytes:
            raise TooManyRequests

    def wake(self) -> None:
        """Something was added to `filling`: it flies with whatever else arrives in this turn of the loop."""
        if not self._awake and self._flight is None:
            self._awake = True
            self._call_soon(self._flush)

    def submit_side(self, writes: Sequence[Write], done: Callable[[EngineError | None], None]) -> None:
        """Writes that change no key (a compaction's step): a batch of their own, alternating with the others."""
        if self._halted is not None:
            self._call_soon(lambda: done(EngineError("the store has stopped")))
            return
        self._side.append((writes, done))
        self.wake()

    def when_idle(self, waiter: Callable[[], None]) -> None:
        """Call once nothing is left to commit."""
        if self.idle or self._halted is not None:
            waiter()
        else:
            self._idle_waiters.append(waiter)

    def halt(self, error: BrainError, flying: BrainError | None = None) -> None:
        """Refuse everything from now on; what waits is refused too, what the engine has been given with `flying`."""
        if self._halted is not None:
            return
        self._halted = error
        flight, filling = self._flight, self.filling
        self._flight, self.below, self.filling = None, NOTHING, Pending(filling.base)
        _undo(filling, *(() if flight is None else (flight.pending,)))  # what lands after all is learned from the log
        self._owner.halt(error)
        if flight is not None:
            _refuse(flight.pending, flying or error)
            if flight.side is not None:
                flight.side(EngineError(error.text))
        _refuse(filling, error)
        while self._side:
            self._side.popleft()[1](EngineError(error.text))
        self._tell_idle()

    def _flush(self) -> None:
        self._awake = False
        if self._flight is not None or self._halted is not None:
            return
        self._launch_next()
        if self._flight is not None:
            return
        if self.filling.entries:
            _answer(self._take_published())
            self._flush()
        else:
            self._tell_idle()

    def _take_published(self) -> Pending:
        """Requests that wrote nothing, and saw nothing that is not published."""
        published, self.filling = self.filling, Pending(self.filling.revision)
        return published

    def _launch_next(self) -> None:
        """Give the engine what there is to write."""
        if self._side and not (self._side_went_last and self.filling.writes):
            self._fly_side()
        elif self.filling.writes:
            self._fly()

    def _fly(self) -> None:
        pending = self.filling
        self.filling = Pending(pending.revision)
        self.below = pending.now
        self._side_went_last = False
        pending.writes.extend(self._owner.stamp())
        self._launch(_Flight(Batch(self._epoch, pending.base, pending.revision, pending.writes), pending))

    def _fly_side(self) -> None:
        writes, done = self._side.popleft()
        self._side_went_last = True
        base = self.filling.base
        self._launch(_Flight(Batch(self._epoch, base, base, writes), Pending(base), done))

    def _launch(self, flight: _Flight) -> None:
        self._flight = flight
        try:
            self._engine.submit(flight.batch, self._done)
        except Exception as error:
            log.exception("the engine accepts no batch")
            refusal = error if isinstance(error, EngineError) else EngineFailed(f"{type(error).__name__}: {error}")
            self._call_soon(lambda: self._done(refusal))

    def _done(self, error: EngineError | None) -> None:
        self._guarded(lambda: self._report(error))

    def _guarded(self, process: Callable[[], None]) -> None:
        """Refuse everything when an outcome cannot be processed: later batches would wait for it for ever."""
        try:
            process()
        except Exception:
            log.exception("the outcome of a batch cannot be processed, no more writes are taken")
            self.halt(Unhealthy(), LeaderFailed())

    def _report(self, error: EngineError | None) -> None:
        flight = self._flight
        if flight is None:
            return  # halted meanwhile
        if error is None:
            self._landed(flight)
        elif isinstance(error, CommitUnknown) or (isinstance(error, Fenced) and self._unsure):
            self._unsure = True
            self._resolve(flight, 0)
        elif isinstance(error, EngineFull):
            log.error("the engine is full, a batch of %d requests is refused: %s", len(flight.pending), error)
            self._full(flight, error)
        else:
            log.error("the engine refuses to commit, no more writes are taken: %s", error)
            self.halt(_refusal(error))

    def _landed(self, flight: _Flight) -> None:
        # The owner's snapshot parts what is published from what is not: it moves before the next batch can land.
        self._owner.settle(flight.pending)
        self._flight, self.below, self._unsure = None, NOTHING, False
        self.batches += 1
        self._launch_next()
        published = None if self._flight is not None else self._take_published()
        if flight.side is not None:
            flight.side(None)
        else:
            try:
                self._owner.announce(flight.pending)
            except Exception:
                log.exception("a batch could not be announced to everybody")
            _answer(flight.pending)
        if published is not None:
            _answer(published)  # after those that were accepted before
            self._flush()

    def _full(self, flight: _Flight, error: EngineError) -> None:
        lost, dependants = flight.pending, self.filling
        self._flight, self.below, self._unsure = None, NOTHING, False
        self.filling = Pending(lost.base)
        _undo(dependants, lost)
        _refuse(lost, NoSpace())
        for entry in dependants.entries:
            self._owner.retry(entry)
        if flight.side is not None:
            flight.side(error)
        self.wake()

    def _resolve(self, flight: _Flight, attempt: int) -> None:
        """Ask the engine what became of the batch until it says: it has landed, or flies again, or another node
        writes."""
        if self._flight is flight:
            self._engine.resolve(
                flight.batch, lambda outcome: self._guarded(lambda: self._resolved(flight, attempt, outcome))
            )

    def _resolved(self, flight: _Flight, attempt: int, outcome: Resolution) -> None:
        if self._flight is not flight:
            return  # halted meanwhile
        if outcome is True:
            self._landed(flight)
        elif outcome is False:
            self._launch(flight)
        elif isinstance(outcome, Fenced):
            log.error("another writer has taken over, no more writes are taken: %s", outcome)
            self.halt(NoLeader())
        elif isinstance(outcome, OutcomeLost):
            log.error(
                "another writer has taken over, %d requests may or may not be stored: %s", len(flight.pending), outcome
            )
            self.halt(NoLeader(), LeaderFailed())
        elif isinstance(outcome, EngineFailed):
            log.error(
                "the engine has failed, no more writes are taken, %d requests may or may not be stored: %s",
                len(flight.pending),
                outcome,
            )
            self.halt(Unhealthy(), LeaderFailed())
        else:
            log.warning("the engine does not say what became of a batch, asking again: %s", outcome)
            delay = RESOLVE_DELAYS[min(attempt, len(RESOLVE_DELAYS) - 1)]
            self._call_later(delay, lambda: self._resolve(flight, attempt + 1))

    def _tell_idle(self) -> None:
        waiters, self._idle_waiters = self._idle_waiters, []
        for waiter in waiters:
            waiter()


def _refusal(error: EngineError) -> BrainError:
    """What answers requests after an error that ends the writing."""
    if isinstance(error, Fenced):
        return NoLeader()
    return Unhealthy() if isinstance(error, EngineFailed) else CorruptStore()


def _undo(*newest_first: Pending) -> None:
    """Take back what batches did outside of themselves."""
    for pending in newest_first:
        for undo in reversed(pending.undo):
            undo()


def _answer(pending: Pending) -> None:
    for done, answer, _, _ in pending.entries:
        try:
            done(answer)
        except Exception:
            log.exception("an answer could not be given")


def _refuse(pending: Pending, error: BrainError) -> None:
    for done, _, _, fail in pending.entries:
        try:
            (fail or done)(error)
        except Exception:
            log.exception("a refusal could not be given")
