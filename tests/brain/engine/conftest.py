"""Helpers for tests of the engines of one machine."""

from __future__ import annotations

import asyncio

from wharf.brain.engine.base import Batch, Engine, EngineError, LocalEngine, Write


def submit_all(engine: Engine, batches: list[Batch]) -> list[EngineError | None]:
    """Submit every batch before the first is done; the outcomes in the order they were reported."""

    async def run() -> list[EngineError | None]:
        loop = asyncio.get_running_loop()
        outcomes: list[EngineError | None] = []
        everything = loop.create_future()

        def done(error: EngineError | None) -> None:
            outcomes.append(error)
            if len(outcomes) == len(batches):
                everything.set_result(None)

        for batch in batches:
            engine.submit(batch, done)
        await asyncio.wait_for(everything, 30)
        engine.close()
        return outcomes

    return asyncio.run(run())


def write(engine: LocalEngine, *writes: Write, revisions: int = 1) -> None:
    """Land writes at once, under whatever epoch and revision the engine holds."""
    snapshot = engine.snapshot()
    epoch = int.from_bytes(snapshot.get(0, b"epoch") or b"", "big")
    revision = snapshot.revision
    snapshot.close()
    engine.commit(Batch(epoch, revision, revision + revisions, writes))
