"""kill -9 at random instants: every acknowledged batch is there, none is half there."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from wharf.brain.engine.base import Table
from wharf.brain.engine.lmdb import LmdbEngine
from wharf.brain.engine.lmdb_dir import check_file

WRITER = textwrap.dedent(
    """
    import asyncio, os, sys, threading
    from wharf.brain.engine.base import Batch, Table
    from wharf.brain.engine.lmdb import LmdbEngine

    async def main():
        map_size = int(sys.argv[2])
        engine = LmdbEngine(sys.argv[1], map_size=map_size or None)
        revision = engine.snapshot().revision
        more = asyncio.Event()
        def acknowledged(error, landed):
            assert error is None, error
            os.write(1, b"%d\\n" % landed)
            more.set()
        if sys.argv[3] == "defragment":
            def forever():
                while True:
                    engine.defragment()
            threading.Thread(target=forever, daemon=True).start()
        while True:
            number = revision + 1
            writes = [(Table.NOW, b"%08d-%d" % (number, part), b"v" * (number % 7) * 900) for part in range(5)]
            writes.append((Table.NOW, b"last", b"%d" % number))
            writes.append((Table.LOG, number.to_bytes(8, "big"), b"x" * 50))
            if number % 3 == 0:
                writes += [(Table.NOW, b"%08d-%d" % (number - 2, part), None) for part in range(5)]
            engine.submit(Batch(0, revision, number, writes), lambda error, n=number: acknowledged(error, n))
            revision = number
            if number % 4 == 0:
                more.clear()
                await more.wait()

    asyncio.run(main())
    """
)


def verify(directory: Path, acknowledged: int) -> int:
    """Check a store after a crash; its revision."""
    (path,) = directory.glob("store-*[0-9].mdb") if len(list(directory.glob("store-*.mdb"))) == 1 else (None,)
    engine = LmdbEngine(directory)
    snapshot = engine.snapshot()
    revision = snapshot.revision
    assert revision >= acknowledged
    assert snapshot.get(Table.NOW, b"last") == (b"%d" % revision if revision > 1 else None)
    for number in range(2, revision + 1):
        parts = [snapshot.get(Table.NOW, b"%08d-%d" % (number, part)) for part in range(5)]
        gone = (number + 2) % 3 == 0 and number + 2 <= revision
        assert parts == [None if gone else b"v" * (number % 7) * 900] * 5
        assert snapshot.get(Table.LOG, number.to_bytes(8, "big")) is not None
    assert snapshot.entries(Table.LOG) == revision - 1
    engine.close()
    if path is not None:
        check_file(path, whole=True)
    return revision


@pytest.mark.parametrize(
    ("rounds", "map_size", "mode"),
    [(6, 0, "plain"), (4, 1 << 20, "plain"), (4, 0, "defragment")],
    ids=["while committing", "while the map grows", "while defragmenting"],
)
def test_acknowledged_batches_survive_kill(tmp_path: Path, rounds: int, map_size: int, mode: str) -> None:
    chance = random.Random(f"{rounds} {mode}")
    reached = 1
    for _ in range(rounds):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(map_size), mode], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            first = child.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.3))  # the instant of death is the test's input, nothing is waited for
            child.kill()
            acknowledged = [int(line) for line in (first + child.stdout.read()).splitlines() if line]
        assert acknowledged
        now = verify(tmp_path, acknowledged[-1])
        assert now > reached
        reached = now
