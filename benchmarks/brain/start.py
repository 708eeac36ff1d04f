"""How long brain's engine and index take to start on many keys, and what memory that takes.

    python -m benchmarks.brain.start --keys 1000000

Fills a store with pods' keys in random order (512-byte values, one in ten with a lease), then measures in a fresh
process: opening with its checks, loading the index and the lease attachments, resident and own memory, and what reads
cost on a store of that size.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from wharf.brain.engine import open_engine
from wharf.brain.engine.base import Batch, Table, Write
from wharf.brain.engine.lmdb import LmdbEngine
from wharf.brain.store.keys import KeyValue, encode_event, encode_kv, log_key
from wharf.brain.store.read import Reader
from wharf.brain.store.shapes import RangeOp

BATCH = 500
PREFIX, END = b"/registry/pods/", b"/registry/pods0"


def key_of(number: int) -> bytes:
    return b"%bnamespace-%03d/%040d" % (PREFIX, number % 200, number)


def fill(directory: str, keys: int) -> None:
    engine = LmdbEngine(directory, unsafe_no_fsync=True)
    numbers = list(range(keys))
    random.Random(1).shuffle(numbers)
    revision = 1
    for begin in range(0, keys, BATCH):
        writes: list[Write] = []
        for number in numbers[begin : begin + BATCH]:
            revision += 1
            lease = 7 if number % 10 == 0 else 0
            kv = encode_kv(KeyValue(key_of(number), revision, revision, 1, b"v" * 512, lease))
            writes += [(Table.NOW, key_of(number), kv), (Table.LOG, log_key(revision), encode_event(0, kv))]
        engine.commit(Batch(0, revision - len(writes) // 2, revision, writes))
    engine.close()


def memory(name: str) -> int:
    """Bytes of this process's memory, by its name in smaps_rollup."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def timed(call: Callable[[], object], times: int) -> float:
    """Microseconds per call."""
    call()
    begun = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begun) / times * 1e6


def measure(directory: str, keys: int) -> dict[str, float]:
    own = memory("Anonymous")
    leased: list[int] = []
    begun = time.perf_counter()
    engine = open_engine(f"lmdb://{directory}", create=False)
    opened = time.perf_counter()
    reader = Reader(engine, lambda _, lease: leased.append(lease))
    loaded = time.perf_counter()
    found = {
        "keys": keys,
        "file MB": engine.size() / 1e6,
        "open s": opened - begun,
        "load s": loaded - opened,
        "rss MB": memory("Rss") / 1e6,
        "own memory per key B": (memory("Anonymous") - own) / keys,
    }
    now, middle = reader.revision, key_of(keys // 2)
    page = RangeOp(middle, END, 500)
    found["get us"] = timed(lambda: reader.get(middle), 20_000)
    found["page of 500 us"] = timed(lambda: reader.range(page, now, 0), 200)
    older = RangeOp(middle, END, 500, now - 10)
    found["page of 500, 10 revisions ago, us"] = timed(lambda: reader.range(older, now, 0), 200)
    found["count us"] = timed(lambda: reader.range(RangeOp(PREFIX, END, count_only=True), now, 0), 2000)
    reader.close()
    engine.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--measure", metavar="DIR", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.keys)))
        return
    with tempfile.TemporaryDirectory() as directory:
        fill(directory, options.keys)
        command = [sys.executable, "-m", __spec__.name, "--keys", str(options.keys), "--measure", directory]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for name, value in found.items():
        print(f"{name:36} {value:12,.2f}")


if __name__ == "__main__":
    main()
