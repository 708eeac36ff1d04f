"""Migrations under test: the command as a process, writers that go on meanwhile, what two stores have to agree on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.store import server_command
from proofs.model.client import SECONDS, Client
from wharf.common.pb.etcd import kv_pb2, rpc_pb2

PATIENCE = 60.0
ALL = {"key": b"\0", "range_end": b"\0"}
SLACK = 30  # seconds of a lease's life that a slow machine may lose between two looks
LONG = b"long/" + b"\xfe" * 600


class Command:
    """`wharf brain …` while it runs; ended at the end of the block whatever happened."""

    def __init__(self, *words: str) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [*server_command("brain"), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def wait_line(self, part: str, seconds: float = PATIENCE) -> str:
        """The first line with `part` in it."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._find(part) is not None, seconds)
            found = self._find(part)
        assert found is not None, f"no line with {part!r} in {self.lines}"
        return found

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """(exit code, everything printed), after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code, "\n".join(self.lines)

    def _find(self, part: str) -> str | None:
        return next((line for line in self.lines if part in line), None)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def command(*words: str) -> tuple[int, str]:
    """(exit code, everything printed) of one that ends by itself."""
    with Command(*words) as running:
        return running.end()


@contextmanager
def client(url: str) -> Iterator[Client]:
    one = Client(url.partition("://")[2])
    try:
        yield one
    finally:
        one.close()


def fill(one: Client, keys: int = 1200) -> None:
    """Live keys of many kinds, deleted ones, several versions, leases with and without keys."""
    for lease in (11, 12, -13):
        one.unary["lease_grant"](rpc_pb2.LeaseGrantRequest(ID=lease, TTL=900))
    for start in range(0, keys, 100):
        puts = [rpc_pb2.PutRequest(key=b"k/%06d" % at, value=b"v" * (at % 700)) for at in range(start, start + 100)]
        one.unary["txn"](rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_put=put) for put in puts]))
    for key in (b"a\0b", b"a\0", b"a", LONG, LONG + b"\xff", b"\xff\xff"):
        one.unary["put"](rpc_pb2.PutRequest(key=key, value=key[:5]))
    one.unary["put"](rpc_pb2.PutRequest(key=b"leased", lease=11))
    one.unary["put"](rpc_pb2.PutRequest(key=b"leased/too", lease=-13))
    one.unary["put"](rpc_pb2.PutRequest(key=b"k/000001", value=b"again"))
    one.unary["delete_range"](rpc_pb2.DeleteRangeRequest(key=b"k/000010", range_end=b"k/000020"))


class Writers:
    """Threads that change keys of their own until the block ends: puts, deletions, transactions of several."""

    def __init__(self, url: str, threads: int = 2) -> None:
        self._client = Client(url.partition("://")[2])
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self.writes = 0
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._client.close()

    def wait_more(self, writes: int) -> None:
        """Until so many more writes are acknowledged."""
        with self._changed:
            wanted = self.writes + writes
            assert self._changed.wait_for(lambda: self.writes >= wanted, PATIENCE), "writers got stuck"

    def _write(self, number: int) -> None:
        dice = random.Random(number)
        while not self._stop.is_set():
            self._client.unary["txn"](rpc_pb2.TxnRequest(success=self._ops(dice, number)))
            with self._changed:
                self.writes += 1
                self._changed.notify_all()

    @staticmethod
    def _ops(dice: random.Random, number: int) -> list[rpc_pb2.RequestOp]:
        keys = {b"w%d/%02d" % (number, dice.randrange(40)) for _ in range(dice.choice((1, 1, 1, 3)))}
        ops = []
        for key in keys:
            if dice.random() < 0.3:
                ops.append(rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key)))
            else:
                put = rpc_pb2.PutRequest(key=key, value=dice.randbytes(20), lease=dice.choice((0, 0, 12)))
                ops.append(rpc_pb2.RequestOp(request_put=put))
        return ops


def everything(one: Client, revision: int = 0) -> tuple[int, list[kv_pb2.KeyValue]]:
    """(revision, all live keys)"""
    answer = one.unary["range"](rpc_pb2.RangeRequest(revision=revision, **ALL))  # type: ignore[arg-type]
    return answer.header.revision, list(answer.kvs)


def leases(one: Client) -> dict[int, tuple[int, int, list[bytes]]]:
    """Id → (granted, remaining, keys)."""
    listed = one.unary["lease_leases"](rpc_pb2.LeaseLeasesRequest())
    found = {}
    for lease in listed.leases:
        told = one.unary["lease_time_to_live"](rpc_pb2.LeaseTimeToLiveRequest(ID=lease.ID, keys=True))
        found[lease.ID] = (told.grantedTTL, told.TTL, sorted(told.keys))
    return found


def history(one: Client, start: int, end: int) -> list[Any]:
    """All events of the revisions from `start` to `end`, with what was before, as a watch tells them."""
    watch = one.open_stream()
    create = rpc_pb2.WatchCreateRequest(start_revision=start, prev_kv=True, **ALL)  # type: ignore[arg-type]
    watch.send(create_request=create)

    def events(responses: Sequence[rpc_pb2.WatchResponse]) -> list[Any]:
        return [event for response in responses for event in response.events]

    def complete(responses: Sequence[rpc_pb2.WatchResponse]) -> bool:
        seen = events(responses)
        return start > end or bool(seen and seen[-1].kv.mod_revision >= end)

    try:
        assert watch.wait(complete, SECONDS), f"the watch ended early: {watch.failure or events(watch.received)[-1:]}"
        return events(watch.received)
    finally:
        watch.close()


def import_words(url: str, target: Path, *words: str) -> tuple[str, ...]:
    return ("import", f"--from={url}", f"--data-dir={target}", *words)


def compare(source: Client, copy: Client, base: int) -> None:
    """Everything a client can see from revision `base` on."""
    compare_history(source, copy, base)
    compare_leases(source, copy)


def compare_history(source: Client, copy: Client, base: int) -> None:
    """Keys now and at earlier revisions, and the events between."""
    revision, kvs = everything(source)
    assert everything(copy) == (revision, kvs)
    for at in {base, (base + revision) // 2}:
        assert everything(copy, at)[1] == everything(source, at)[1]
    assert history(copy, base + 1, revision) == history(source, base + 1, revision)


def compare_leases(source: Client, copy: Client) -> None:
    """None ends earlier than at the source, give or take; a leader that was just elected lets each begin anew."""
    theirs, ours = leases(source), leases(copy)
    assert {lease: (granted, keys) for lease, (granted, _, keys) in ours.items()} == {
        lease: (granted, keys) for lease, (granted, _, keys) in theirs.items()
    }
    for lease, (granted, remaining, _) in theirs.items():
        assert remaining - SLACK <= ours[lease][1] <= granted
