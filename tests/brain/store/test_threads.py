"""Long jobs in worker threads, each on its own snapshot, while the loop writes, reads, compacts and defragments."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from brain.store.kit import Bench
from brain.store.test_compact import Driver
from wharf.brain.engine.lmdb import LmdbEngine
from wharf.brain.store.hashing import hash_all, hash_kv, verify
from wharf.brain.store.shapes import RangeOp


def test_every_snapshot_is_one_consistent_state_whatever_goes_on(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path / "store", unsafe_no_fsync=True)
    bench = Bench(engine)
    driver = Driver(bench)
    chance = random.Random(5)
    verified = 0

    def look() -> list[str]:
        snapshot = engine.snapshot()
        try:
            assert hash_kv(snapshot) == hash_kv(snapshot)
            assert hash_all(snapshot) == hash_all(snapshot)
            return verify(snapshot)
        finally:
            snapshot.close()

    async def look_again_and_again(stop: asyncio.Event) -> None:
        nonlocal verified
        while not stop.is_set():
            assert await asyncio.to_thread(look) == []
            verified += 1

    async def run() -> None:
        stop = asyncio.Event()
        lookers = [asyncio.create_task(look_again_and_again(stop)) for _ in range(2)]
        for number in range(600):
            keys = [b"k%d" % chance.randrange(60) for _ in range(3)]
            bench.apply(*((key, None if chance.random() < 0.3 else b"v" * chance.randrange(3000)) for key in set(keys)))
            if number % 50 == 49:
                driver.compact(bench.model.revision - chance.randrange(30))
                await asyncio.to_thread(engine.backup, str(tmp_path / f"backup-{number}"))
            if number % 150 == 149:
                await asyncio.to_thread(engine.defragment)
            revision = chance.randint(max(bench.model.compacted, 1), bench.model.revision)
            op = RangeOp(b"k", b"l", chance.randrange(20), revision)
            assert bench.range(op) == bench.model.range(op)
            await asyncio.sleep(0)
        stop.set()
        await asyncio.gather(*lookers)

    asyncio.run(run())
    assert verified > 2
    assert look() == []
    engine.close()
