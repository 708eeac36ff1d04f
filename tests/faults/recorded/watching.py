"""Watches that write down everything they are told, through whatever happens to their node.

Each watcher is a thread with one stream at a time, on which it has several watches, as a kube-apiserver does. When the
stream ends, by the node's fault or by the watcher's own choice, every watch is resumed after what it has seen.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import grpc
from faults.recorded.clients import CHANNEL
from faults.recorded.record import Entry, Event, entries_of, event_of
from faults.recorded.watchjudge import Delivery, Segment, Truth, judge_watch
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import rpc_pb2_grpc as stubs

_ASK_PROGRESS_SECONDS = 0.2
_AFTER_FAILURE_SECONDS = 0.05
_LOG_SECONDS = 60.0
_EXPECTED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


@dataclass(slots=True)
class Watch:
    """One watch over all its streams."""

    key: str
    end: str = ""  # empty: this key alone
    start: int = 1  # 0: from now on
    seen: int = 0  # everything up to here has come
    segments: list[Segment] = field(default_factory=list)

    def resume(self) -> int:
        """Begin a new segment; where it starts."""
        start = self.seen + 1 if self.seen else self.start
        self.segments.append(Segment(start))
        return start

    def take(self, delivery: Delivery) -> None:
        segment = self.segments[-1]
        segment.deliveries.append(delivery)
        if delivery.events:
            self.seen = max(self.seen, delivery.events[-1].kv.mod)
        elif delivery.progress or (delivery.created and not segment.start):
            self.seen = max(self.seen, delivery.revision)
        elif delivery.compacted:
            self.seen = delivery.compacted - 1


class RecordedWatcher(threading.Thread):
    """Watches a node until it is ended. `failure` is what must not have happened to it."""

    def __init__(self, address: str, watches: Sequence[Watch], seed: int, leave_after: int = 0) -> None:
        """`leave_after`: give a stream up of its own accord after about so many answers; 0: never."""
        super().__init__(name=f"watcher of {address}")
        self.watches = watches
        self.failure: BaseException | None = None
        self.streams = 0
        self._address = address
        self._random = random.Random(seed)
        self._leave_after = leave_after
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._call: grpc.Call | None = None

    def run(self) -> None:
        try:
            with grpc.insecure_channel(self._address, CHANNEL) as channel:
                while not self._over.is_set():
                    self._stream(stubs.WatchStub(channel))
        except BaseException as error:
            self.failure = error
            with self._changed:
                self._changed.notify_all()

    def reached(self, revision: int, timeout: float) -> bool:
        """Whether all its watches come to have seen `revision` within `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.failure or all(one.seen >= revision for one in self.watches), timeout)
        return all(one.seen >= revision for one in self.watches)

    def end(self) -> None:
        self._over.set()
        call = self._call
        if call is not None:
            call.cancel()
        self.join()

    def deliveries(self) -> list[Delivery]:
        """All it was told."""
        return [one for watch in self.watches for segment in watch.segments for one in segment.deliveries]

    def judge(self, truth: Truth, *, compacted: int = 0) -> list[str]:
        """What is wrong with what it was told."""
        faults = [str(self.failure)] if self.failure else []
        for watch in self.watches:
            told = judge_watch(watch.segments, truth, watch.key, watch.end, compacted=compacted)
            faults += [f"{self.name} of {watch.key!r}: {fault}" for fault in told]
        return faults

    def _stream(self, stub: stubs.WatchStub) -> None:
        ended = threading.Event()
        leave = self._random.randint(1, 2 * self._leave_after) if self._leave_after else -1
        starts = [watch.resume() for watch in self.watches]
        call = self._call = stub.Watch(self._outgoing(starts, ended))
        if self._over.is_set():
            call.cancel()
        self.streams += 1
        try:
            for response in call:
                self._take(response)
                leave -= 1
                if leave == 0 or response.canceled:
                    break
        except grpc.RpcError as error:
            if not isinstance(error, grpc.Call) or error.code() not in _EXPECTED:
                raise
            self._over.wait(_AFTER_FAILURE_SECONDS)
        finally:
            ended.set()
            call.cancel()

    def _outgoing(self, starts: Sequence[int], ended: threading.Event) -> Iterator[rpc.WatchRequest]:
        for number, (watch, start) in enumerate(zip(self.watches, starts, strict=True), 1):
            create = rpc.WatchCreateRequest(
                key=watch.key.encode(),
                range_end=watch.end.encode(),
                start_revision=start,
                prev_kv=True,
                progress_notify=True,
                watch_id=number,
            )
            yield rpc.WatchRequest(create_request=create)
        while not ended.wait(_ASK_PROGRESS_SECONDS):
            yield rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())

    def _take(self, response: rpc.WatchResponse) -> None:
        delivery = Delivery(
            response.header.revision,
            tuple(map(event_of, response.events)),
            response.created,
            response.canceled,
            response.compact_revision,
            response.cancel_reason,
            time.monotonic_ns(),
        )
        with self._changed:
            if response.watch_id < 0:  # an answer about all of them
                for watch in self.watches:
                    watch.take(delivery)
            else:
                self.watches[response.watch_id - 1].take(delivery)
            self._changed.notify_all()


def read_log(address: str, last: int, key: bytes = b"\0", end: bytes = b"\0", start: int = 1) -> list[Entry]:
    """Everything from `start` to `last` as a fresh watch of a node tells it."""
    create = rpc.WatchCreateRequest(key=key, range_end=end, start_revision=start, prev_kv=True)
    found: list[Event] = []
    with grpc.insecure_channel(address, CHANNEL) as channel:
        call = stubs.WatchStub(channel).Watch(
            iter([rpc.WatchRequest(create_request=create)]), timeout=_LOG_SECONDS, wait_for_ready=True
        )
        while last >= start and (not found or found[-1].kv.mod < last):
            response = next(call)
            if response.canceled:
                raise AssertionError(f"the log of {address} from {start} is not to be had: {response}")
            found.extend(map(event_of, response.events))
        call.cancel()
    return list(entries_of(found))
