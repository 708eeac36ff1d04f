"""A recording: clients and watchers on every node of a store, and the one judgement of all they wrote down.

The store must be fresh (or this recording's run name new): its log from revision `base` on is compared with what the
clients asked for, so nobody else may write to it meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import grpc
from faults.recorded.checker import Report, check
from faults.recorded.clients import CHANNEL, RecordedClient, longest_silence
from faults.recorded.mix import KEYS, PREFIX, PREFIX_END, Mix
from faults.recorded.record import KV, Entry, Request, kv_of, lines
from faults.recorded.watching import RecordedWatcher, Watch, read_log
from faults.recorded.watchjudge import judge_order, truth_of
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import rpc_pb2_grpc as stubs

_SETTLE_SECONDS = 60.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came out."""

    report: Report
    requests: Sequence[Request]
    watch_faults: Sequence[str]
    streams: int  # watch streams opened over all watchers

    @property
    def faults(self) -> list[str]:
        return [f"{judge}: {fault}" for judge, told in self.report.faults.items() for fault in told] + list(
            self.watch_faults
        )


class Recording:
    """Load on `addresses` from `with` on; `judge` ends it."""

    def __init__(
        self,
        addresses: Sequence[str],
        seed: int,
        folder: Path,
        *,
        clients_per_node: int = 2,
        most: int = 3000,
        pause: float = 0.0,
        readers: Collection[str] = (),
    ) -> None:
        """`readers`: the addresses whose clients never write."""
        self._addresses = addresses
        self._folder = folder
        self.base, self.live = everything(addresses[0])
        run = f"{self.base}."
        count = range(len(addresses) * clients_per_node)
        self.clients = [
            RecordedClient(
                Mix(number, f"n{node}", seed * 100 + number, run, reads_only=addresses[node] in readers),
                addresses[node],
                most,
                pause,
            )
            for number, node in ((number, number % len(addresses)) for number in count)
        ]
        self.watchers = [
            watcher for number, address in enumerate(addresses) for watcher in self._watchers(address, seed + number)
        ]

    def _watchers(self, address: str, seed: int) -> Iterable[RecordedWatcher]:
        first = self.base + 1
        yield RecordedWatcher(address, [Watch(PREFIX, PREFIX_END, first)], seed)
        yield RecordedWatcher(address, [Watch(PREFIX, PREFIX_END, first), Watch(KEYS[0], "", first)], seed, 25)
        yield RecordedWatcher(address, [Watch(KEYS[1], "", 0), Watch(KEYS[2], PREFIX_END, first)], seed, 100)

    def __enter__(self) -> Recording:
        self.began = time.monotonic_ns()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for thread in self._threads:
            if thread.is_alive():
                thread.end()

    @property
    def _threads(self) -> list[RecordedClient | RecordedWatcher]:
        return [*self.watchers, *self.clients]

    @property
    def requests(self) -> list[Request]:
        """What was recorded so far."""
        return [request for client in self.clients for request in list(client.requests)]

    def acknowledged(self) -> int:
        """Writes acknowledged so far."""
        return sum(client.written for client in self.clients)

    def await_writes(self, more: int, timeout: float = 60.0) -> float:
        """Return when so many more writes were acknowledged; the seconds it took."""
        began, wanted = time.monotonic(), self.acknowledged() + more
        while self.acknowledged() < wanted:
            self._alive()
            assert time.monotonic() - began < timeout, f"{more} writes did not come within {timeout} s"
            time.sleep(_POLL_SECONDS)
        return time.monotonic() - began

    def await_all_served(self, timeout: float = 60.0) -> float:
        """Return when every client was answered from now on; the seconds it took."""
        began, since = time.monotonic(), time.monotonic_ns()
        while not all(self._served(client, since) for client in self.clients):
            self._alive()
            silent = [client.name for client in self.clients if not self._served(client, since)]
            assert time.monotonic() - began < timeout, f"not served within {timeout} s: {silent}"
            time.sleep(_POLL_SECONDS)
        return time.monotonic() - began

    @staticmethod
    def _served(client: RecordedClient, since: int) -> bool:
        return any(one.answer and one.called > since for one in client.requests[-20:])

    def _alive(self) -> None:
        for thread in self._threads:
            assert thread.failure is None, thread.failure

    def silence(self, since: int) -> float:
        """Seconds of the longest time without an acknowledged write from `since` (monotonic nanoseconds) on."""
        return longest_silence(self.requests, since, time.monotonic_ns())

    def _logs(self, last: int) -> tuple[list[Entry], list[str]]:
        """The log of the first node that has it to `last`, and what is wrong with those of the others."""
        found = {address: _whole_log(address, self.base + 1, last) for address in self._addresses}
        faults = [log for log in found.values() if isinstance(log, str)]
        logs = {address: log for address, log in found.items() if not isinstance(log, str)}
        if not logs:
            raise AssertionError("\n".join(faults))
        first, log = next(iter(logs.items()))
        for address, other in logs.items():
            if other != log:
                faults.append(f"the log of {address} is not that of {first}: {differ(other, log)}")
        return log, faults

    def judge(self, *, compacted: int = 0) -> Judgement:
        """End the load, let every watch come to the end, and judge; every node must serve again.

        A history that is rejected is kept as files in the recording's folder, with the search's picture of it.
        """
        for client in self.clients:
            client.end()
        self._alive()
        last = max(everything(address)[0] for address in self._addresses)
        deadline = time.monotonic() + _SETTLE_SECONDS
        faults = [
            f"{watcher.name} never came to revision {last}"
            for watcher in self.watchers
            if not watcher.reached(last, max(0.0, deadline - time.monotonic()))
        ]
        for watcher in self.watchers:
            watcher.end()
        log, others = self._logs(last)
        faults += others
        told = list(lines(self.requests, log, self.base, self.live))
        report = check(told, self._folder / "picture.html")
        truth = truth_of(log, self.live, self.base)
        faults += [fault for watcher in self.watchers for fault in watcher.judge(truth, compacted=compacted)]
        faults += judge_order(self.requests, (one for watcher in self.watchers for one in watcher.deliveries()))
        judgement = Judgement(report, self.requests, faults, sum(watcher.streams for watcher in self.watchers))
        if judgement.faults:
            (self._folder / "history.jsonl").write_text("\n".join(told))
        return judgement


def _whole_log(address: str, start: int, last: int) -> list[Entry] | str:
    """The log of one node, or why it is not to be had."""
    try:
        return read_log(address, last, start=start)
    except (grpc.RpcError, AssertionError) as error:
        return f"the log of {address} is not to be had: {error}"


def everything(address: str) -> tuple[int, list[KV]]:
    """(revision, keys) of a node, by a fresh read."""
    with grpc.insecure_channel(address, CHANNEL) as channel:
        request = rpc.RangeRequest(key=b"\0", range_end=b"\0")
        shown = stubs.KVStub(channel).Range(request, timeout=_SETTLE_SECONDS, wait_for_ready=True)
    return shown.header.revision, [kv_of(kv) for kv in shown.kvs]


def differ(one: Sequence[Entry], other: Sequence[Entry]) -> str:
    """The first difference of two logs."""
    for ours, theirs in zip(one, other, strict=False):
        if ours != theirs:
            return f"{ours} is not {theirs}"
    return f"{len(one)} and {len(other)} revisions"
