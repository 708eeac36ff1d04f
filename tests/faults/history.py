"""Writers that know what was acknowledged, and the judge of the history a store shows after a crash.

Each writer owns its keys and has one request under way at a time, so after a crash at most one request per writer has
an unknown fate. Invariant judged: revisions have no gap; every acknowledged request is exactly its revision; every
other revision is exactly one request of unknown fate; what is live is what the history made.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
from faults.kit import CALL_SECONDS, Client, refusal
from wharf.common.pb.etcd import kv_pb2 as mvcc
from wharf.common.pb.etcd import rpc_pb2 as rpc

SLOTS = 12  # keys per writer
Changes = dict[bytes, bytes | None]  # key → value put, None: deleted
_CUT_OFF = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


@dataclass(slots=True)
class Attempt:
    """One request: what it changes, and the revision it was acknowledged with."""

    changes: Changes
    revision: int | None = None


@dataclass(slots=True)
class Live:
    """A live key as it must be."""

    value: bytes
    create_revision: int
    mod_revision: int
    version: int


@dataclass
class History:
    """What must be in the store."""

    revision: int = 1
    live: dict[bytes, Live] = field(default_factory=dict)
    acknowledged: int = 0
    unknown_kept: int = 0
    unknown_lost: int = 0

    def judge(self, client: Client, attempts: list[Attempt]) -> None:
        """Check everything after `revision` against `attempts`, and take it over."""
        now = client.revision()
        found: dict[int, list[mvcc.Event]] = {}
        for event in client.events(self.revision + 1, now):
            found.setdefault(event.kv.mod_revision, []).append(event)
        assert list(found) == list(range(self.revision + 1, now + 1)), "revisions have a gap or are out of order"
        promised = {one.revision: one for one in attempts if one.revision is not None}
        unknown = [one for one in attempts if one.revision is None]
        self.acknowledged += len(promised)
        for revision, events in found.items():
            seen: Changes = {event.kv.key: None if event.type else event.kv.value for event in events}
            assert len(seen) == len(events)
            attempt = promised.pop(revision, None)
            if attempt is None:
                fitting = [one for one in unknown if one.changes == seen]
                assert fitting, f"revision {revision} is no whole request: {seen}"
                unknown.remove(fitting[0])
                self.unknown_kept += 1
            else:
                assert seen == attempt.changes, f"revision {revision} is not what was acknowledged with it"
            for event in events:
                self._apply(event)
        assert not promised, f"acknowledged and gone: {sorted(map(str, promised))}; the store is at {now}"
        self.unknown_lost += len(unknown)
        self.revision = now
        self._compare(client)

    def adopt(self, kv: mvcc.KeyValue) -> None:
        """A key that was there before the first judgement."""
        self.live[kv.key] = Live(kv.value, kv.create_revision, kv.mod_revision, kv.version)

    def _apply(self, event: mvcc.Event) -> None:
        kv, before = event.kv, self.live.pop(event.kv.key, None)
        if event.type == mvcc.Event.DELETE:
            assert before is not None
            return
        created, version = (before.create_revision, before.version + 1) if before else (kv.mod_revision, 1)
        assert (kv.create_revision, kv.version) == (created, version)
        self.live[kv.key] = Live(kv.value, created, kv.mod_revision, version)

    def _compare(self, client: Client) -> None:
        shown = History()
        for kv in client.everything().kvs:
            shown.adopt(kv)
        assert shown.live == self.live


class Writer(threading.Thread):
    """Creates, updates, deletes and transactions of several keys, until its connection breaks."""

    def __init__(self, name: str, where: str, seed: int, live: set[bytes], on_acknowledged: Callable[[], None]) -> None:
        super().__init__(name=name)
        self.attempts: list[Attempt] = []
        self.failure: BaseException | None = None
        self._where = where
        self._random = random.Random(seed)
        self._live = {key for key in live if key.startswith(name.encode() + b"/")}
        self._on_acknowledged = on_acknowledged
        self._seed = seed

    def run(self) -> None:
        with Client(self._where) as client:
            try:
                while True:
                    self._step(client)
            except grpc.RpcError as error:
                code, text = refusal(error)
                if code not in _CUT_OFF:
                    self.failure = AssertionError(f"{self.name}: {code} {text}")
            except BaseException as error:
                self.failure = error

    def _step(self, client: Client) -> None:
        number = len(self.attempts)
        value = b"%d:%d:" % (self._seed, number) + b"x" * self._random.choice((0, 10, 900, 20_000))
        keys = [b"%s/%02d" % (self.name.encode(), slot) for slot in range(SLOTS)]
        key = self._random.choice(keys)
        choice = self._random.random()
        if choice < 0.25:
            several = self._random.sample(keys, self._random.randint(2, 6))
            changes: Changes = {one: value + one for one in several}
            gone = self._random.choice(keys)
            if gone in self._live and gone not in changes:
                changes[gone] = None
        elif choice < 0.4 and key in self._live:
            changes = {key: None}
        elif choice < 0.45 and self._live:
            changes = dict.fromkeys(self._live)  # all of them, by one range
        else:
            changes = {key: value}
        attempt = Attempt(changes)
        self.attempts.append(attempt)
        attempt.revision = self._send(client, changes)
        for one, put in changes.items():
            if put is None:
                self._live.discard(one)
            else:
                self._live.add(one)
        self._on_acknowledged()

    def _send(self, client: Client, changes: Changes) -> int:
        if all(put is None for put in changes.values()) and len(changes) == len(self._live):
            name = self.name.encode()
            request = rpc.DeleteRangeRequest(key=name + b"/", range_end=name + b"0")
            answer = client.kv.DeleteRange(request, timeout=CALL_SECONDS)
            assert answer.deleted == len(changes)
            return answer.header.revision
        if len(changes) > 1:
            return self._transact(client, changes)
        ((key, put),) = changes.items()
        if put is None:
            return client.kv.DeleteRange(rpc.DeleteRangeRequest(key=key), timeout=CALL_SECONDS).header.revision
        if key in self._live:
            return client.put(key, put)
        return self._transact(client, changes)  # a create, as kube-apiserver does it

    def _transact(self, client: Client, changes: Changes) -> int:
        compare = [
            rpc.Compare(key=key, target=rpc.Compare.MOD, result=result, mod_revision=0)
            for key in changes
            for result in (rpc.Compare.GREATER if key in self._live else rpc.Compare.EQUAL,)
        ]
        success = [
            rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
            if put is None
            else rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=put))
            for key, put in changes.items()
        ]
        answer = client.kv.Txn(rpc.TxnRequest(compare=compare, success=success), timeout=CALL_SECONDS)
        assert answer.succeeded, "a writer's own keys were changed by someone else"
        return answer.header.revision
