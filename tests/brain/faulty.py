"""An engine that fails on cue, and a running store to ask things of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, TypeVar

from wharf.brain.engine import open_engine
from wharf.brain.engine.base import (
    Batch,
    CommitUnknown,
    Engine,
    EngineError,
    EngineFailed,
    EngineFull,
    Fenced,
    Resolution,
    Snapshot,
    resolved,
)
from wharf.brain.errors import BrainError
from wharf.brain.store.shapes import Committed, DeleteOp, PutOp, TxnOp
from wharf.brain.store.store import Store, StoreLimits
from wharf.common.clock import Clock, FakeClock

T = TypeVar("T")


class Fault(Enum):
    NONE = "lands"
    FULL = "no room, nothing written"
    LOST = "unknown outcome, nothing written"
    LANDED = "unknown outcome, written"
    FENCED = "another writer has taken over"
    FAILED = "an I/O error, nothing written"
    UNSURE = "an I/O error, perhaps written"


class FaultyEngine:
    """A memory engine whose batches meet `faults` one after the other; afterwards everything lands."""

    def __init__(self, faults: Iterable[Fault] = (), inner: Engine | None = None) -> None:
        self.inner: Any = inner or open_engine("memory:")
        self.faults = list(faults)
        self.batches: list[Batch] = []
        self.failed = False  # what became of the last batch can only be seen after a restart
        self.dumb = 0  # snapshots to refuse, once a batch has failed
        self.held: list[Callable[[], None]] | None = None  # answers kept back while not None

    def submit(self, batch: Batch, done: Callable[[EngineError | None], None]) -> None:
        self.batches.append(batch)
        fault = self.faults.pop(0) if self.faults else Fault.NONE
        error: EngineError | None = None
        if fault is Fault.FULL:
            error = EngineFull("no space left")
        elif fault is Fault.LOST:
            error = CommitUnknown("connection lost")
        elif fault is Fault.FENCED:
            error = Fenced("epoch 9")
        elif fault is Fault.FAILED:
            error = EngineFailed("the disk is broken")
        elif fault is Fault.UNSURE:
            error, self.failed = CommitUnknown("the disk is broken"), True
        else:
            try:
                self.inner.commit(batch)
            except EngineError as refused:
                error = refused
            if fault is Fault.LANDED and error is None:
                error = CommitUnknown("connection lost")
        if isinstance(error, CommitUnknown):
            self.dumb = 2

        def tell() -> None:
            done(error)

        if self.held is not None:
            self.held.append(tell)
        else:
            asyncio.get_running_loop().call_soon(tell)

    def release(self) -> None:
        """Give the answers that were kept back; later ones are given at once."""
        held, self.held = self.held or [], None
        for tell in held:
            tell()

    def snapshot(self) -> Snapshot:
        if self.dumb:
            self.dumb -= 1
            raise EngineError("not reachable")
        snapshot: Snapshot = self.inner.snapshot()
        return snapshot

    def resolve(self, batch: Batch, done: Callable[[Resolution], None]) -> None:
        done(EngineFailed("the disk is broken") if self.failed else resolved(self, batch))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@asynccontextmanager
async def running(
    engine: Engine | None = None, clock: Clock | None = None, limits: StoreLimits | None = None
) -> AsyncIterator[Store]:
    store = Store(engine or open_engine("memory:"), clock or FakeClock(), limits)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


async def ask(method: Callable[..., object], *args: object) -> Any:
    """What `method` gives its last argument, a callback; BrainError raised."""
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    method(*args, outcome.set_result)
    answer = await asyncio.wait_for(outcome, 10)
    if isinstance(answer, BrainError):
        raise answer
    return answer


async def submit(store: Store, op: TxnOp | PutOp | DeleteOp) -> Committed:
    committed = await ask(store.submit, op)
    assert isinstance(committed, Committed)
    return committed


async def fill(store: Store, ops: Sequence[TxnOp | PutOp | DeleteOp]) -> list[Committed | BrainError]:
    """Submit all at once; the outcomes in the order of the requests."""
    answers: dict[int, Committed | BrainError] = {}
    order: list[int] = []
    everything = asyncio.Event()

    def take(number: int) -> Callable[[Committed | BrainError], None]:
        def done(answer: Committed | BrainError) -> None:
            assert number not in answers, "answered twice"
            answers[number] = answer
            order.append(number)
            if len(answers) == len(ops):
                everything.set()

        return done

    for number, op in enumerate(ops):
        store.submit(op, take(number))
    if ops:
        await asyncio.wait_for(everything.wait(), 10)
    return [answers[number] for number in range(len(ops))]
