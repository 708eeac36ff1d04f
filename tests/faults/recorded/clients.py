"""Clients that make requests of a node and write down what they were told, until they are ended.

Each is a thread with a connection of its own and one request under way at a time. What a node does to it (dies, stops,
forgets it) it survives: a call that failed may have happened or not, and the next one is made.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import grpc
from faults.recorded.mix import Mix
from faults.recorded.record import Answer, Request, outcome_of, request_op, transaction, txn_answer
from wharf.common.pb.etcd import rpc_pb2_grpc as stubs

CALL_SECONDS = 4.0  # longer than a failover takes to begin, so that some calls last through one
_AFTER_FAILURE_SECONDS = 0.05
# A node that is ended, cut off or without a leader may say these, and nothing else.
_EXPECTED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
CHANNEL = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 300),
)


class RecordedClient(threading.Thread):
    """Makes requests of one node. `requests` is what it recorded; `failure` is what must not have happened to it."""

    def __init__(self, mix: Mix, address: str, most: int, pause: float = 0.0) -> None:
        super().__init__(name=f"client of {address}")
        self.requests: list[Request] = []
        self.written = 0  # acknowledged writes
        self.failure: BaseException | None = None
        self._mix, self._address, self._most, self._pause = mix, address, most, pause
        self._over = threading.Event()

    def run(self) -> None:
        try:
            with grpc.insecure_channel(self._address, CHANNEL) as channel:
                kv = stubs.KVStub(channel)
                while not self._over.is_set() and len(self.requests) < self._most:
                    answered = self._step(kv)
                    self._over.wait(self._pause if answered else _AFTER_FAILURE_SECONDS)
        except BaseException as error:
            self.failure = error

    def end(self) -> None:
        """Stop after the request under way, and wait for that."""
        self._over.set()
        self.join()

    def _step(self, kv: stubs.KVStub) -> bool:
        request = self._mix.next()
        called = time.monotonic_ns()
        try:
            answer = send(kv, request)
        except grpc.RpcError as error:
            answer = None
            code = error.code() if isinstance(error, grpc.Call) else None
            if code not in _EXPECTED:
                raise AssertionError(f"{self.name} was refused {request}: {error}") from error
        done = replace(request, called=called, returned=time.monotonic_ns(), answer=answer)
        self.requests.append(done)
        self.written += done.changed
        if answer is not None:
            self._mix.learn(done, answer)
        return answer is not None


def send(kv: stubs.KVStub, request: Request, seconds: float = CALL_SECONDS) -> Answer:
    """Make a request: a plain call when it is one operation without conditions, else a transaction."""
    if request.compare or len(request.success) != 1:
        return txn_answer(kv.Txn(transaction(request), timeout=seconds))
    one = request_op(request.success[0], request.serializable)
    if one.HasField("request_put"):
        put = kv.Put(one.request_put, timeout=seconds)
        return Answer(put.header.revision, True, (outcome_of(put),))
    if one.HasField("request_delete_range"):
        gone = kv.DeleteRange(one.request_delete_range, timeout=seconds)
        return Answer(gone.header.revision, True, (outcome_of(gone),))
    shown = kv.Range(one.request_range, timeout=seconds)
    return Answer(shown.header.revision, True, (outcome_of(shown),))


def longest_silence(requests: Sequence[Request], since: int, until: int) -> float:
    """Seconds of the longest time without an acknowledged write, from `since` to `until` (monotonic nanoseconds)."""
    times = sorted(one.returned for one in requests if one.changed and since <= one.returned <= until)
    edges = [since, *times, until]
    return max(after - before for before, after in itertools.pairwise(edges)) / 1e9
