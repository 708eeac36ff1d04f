"""kill -9 at random instants: nothing acknowledged is lost, nothing is half there, the parts of the store agree."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
from faults.history import History, Writer
from faults.kit import CALL_SECONDS, Client, address, brain
from harness.store import Store, server_command
from wharf.common.pb.etcd import rpc_pb2 as rpc

KILLS = 50
WRITERS = 4
PROVE_EVERY = 10
MOST_WRITES = 150  # acknowledged before a kill
FILLING = 400  # keys of 8 KiB that make a snapshot last a while


class Disturber(threading.Thread):
    """Repeats a call until the server is gone; `done` counts how often it was through."""

    def __init__(self, where: str, call: Callable[[Client], None]) -> None:
        super().__init__()
        self.done = 0
        self._where = where
        self._call = call
        self._over = threading.Event()

    def run(self) -> None:
        with Client(self._where) as client:
            try:
                while not self._over.is_set():
                    self._call(client)
                    self.done += 1
            except grpc.RpcError:
                return  # killed in the middle, which is what it is for

    def end(self) -> None:
        self._over.set()
        self.join()


def download(client: Client) -> None:
    for _ in client.maintenance.Snapshot(rpc.SnapshotRequest(), timeout=CALL_SECONDS):
        pass


def compactor(first: int, last: int) -> Callable[[Client], None]:
    """Compacts in small steps from `first` to `last`, then stays silent."""
    steps = iter(range(first, last, max((last - first) // 8, 1)))

    def step(client: Client) -> None:
        target = next(steps, None)
        if target is None:
            client.kv.Range(rpc.RangeRequest(key=b"-"), timeout=CALL_SECONDS)
        else:
            client.kv.Compact(rpc.CompactionRequest(revision=target, physical=target % 2 == 0), timeout=CALL_SECONDS)

    return step


def round_of_writes(store: Store, history: History, compact_from: int, chance: random.Random) -> list[Writer]:
    """Write from several connections while compacting and downloading; kill at a random instant."""
    where = address(store)
    enough = threading.Semaphore(0)
    writers = [
        Writer(f"w{number}", where, chance.getrandbits(40), set(history.live), enough.release)
        for number in range(WRITERS)
    ]
    disturbers = [Disturber(where, compactor(compact_from + 1, history.revision)), Disturber(where, download)]
    for thread in (*writers, *disturbers):
        thread.start()
    for _ in range(chance.randrange(1, MOST_WRITES)):
        assert enough.acquire(timeout=CALL_SECONDS), [writer.failure for writer in writers]
    time.sleep(chance.random() * 0.01)  # into the middle of a commit
    store.kill()
    for thread in writers:
        thread.join()
    for disturber in disturbers:
        disturber.end()
    for writer in writers:
        assert writer.failure is None, writer.failure
    return writers


def prove(data: Path) -> int:
    """`wharf brain check` replays the log over the store; the hash it prints."""
    done = subprocess.run([*server_command("brain"), "check", str(data)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rsplit("hash", 1)[1])


def fill(client: Client, history: History) -> None:
    for number in range(FILLING):
        client.put(b"filling/%04d" % number, b"%04d" % number * 2048)
    history.revision = client.revision()
    for kv in client.everything().kvs:
        history.adopt(kv)


def test_fifty_kills(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # shown when the test fails
    chance = random.Random(seed)
    history = History()
    compact_from = 1
    with brain(tmp_path) as store:
        with Client(address(store)) as client:
            fill(client, history)
        for kill in range(1, KILLS + 1):
            before = history.revision
            writers = round_of_writes(store, history, compact_from, chance)
            compact_from = before
            proof = prove(tmp_path / "data") if kill % PROVE_EVERY == 0 else None
            store.start()
            with Client(address(store)) as client:
                history.judge(client, [attempt for writer in writers for attempt in writer.attempts])
                if proof is not None:
                    hashed = client.maintenance.HashKV(rpc.HashKVRequest(), timeout=CALL_SECONDS)
                    assert hashed.hash == proof
        assert store.process.stop() == 0
    prove(tmp_path / "data")
    assert history.acknowledged > KILLS
    fates = f"{history.unknown_kept} whole, {history.unknown_lost} absent"
    print(f"{history.acknowledged} writes acknowledged; of unknown fate: {fates}")
