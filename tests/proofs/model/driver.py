"""Runs a program against a server and the model side by side and compares every answer.

Invariant: every program starts on an empty key space without leases, compacted at the revision it starts from; so the
model of a fresh store that was compacted once describes any server, however long it has lived.

Watches are asynchronous: before anything that events in flight could make ambiguous (compaction, cancellation, the end)
the driver waits until every watcher has what it is owed; a watcher that is owed nothing yet is made to speak by a put
into its range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proofs.model.client import Client, WatchCall
from proofs.model.programs import CancelWatch, Progress, Step, Unary, Watch
from proofs.model.reference import Model
from proofs.model.refusals import Refused
from proofs.model.shifting import shifted
from proofs.model.versions import Rules
from proofs.model.watching import NO_WATCH, Stream, Watcher
from wharf.common.pb.etcd import kv_pb2, rpc_pb2

STREAMS = 2
_TTL_SLACK = 60  # seconds a lease may have lived by the time it is looked at
_PROGRESS_ASKS = 50
_PROGRESS_SECONDS = 0.2


class Mismatch(AssertionError):
    """Server and model disagree."""


class Session:
    """A server under comparison."""

    def __init__(self, address: str, rules: Rules) -> None:
        self.client = Client(address)
        self.rules = rules

    def close(self) -> None:
        self.client.close()

    def run(self, program: Sequence[Step]) -> None:
        """On whatever the server has been through."""
        base, deleted = self._clean_start()
        self._run(program, Model.compacted_at_start(deleted, self.rules), base - 1)

    def run_fresh(self, program: Sequence[Step]) -> None:
        """On a server that nobody has written to or compacted yet; for what can only be seen there."""
        self._run(program, Model(rules=self.rules), 0)

    def _run(self, program: Sequence[Step], model: Model, offset: int) -> None:
        run = _Run(self.client, model, offset)
        try:
            for step in program:
                run.step(step)
            run.finish()
        finally:
            run.close()

    def _clean_start(self) -> tuple[int, list[bytes]]:
        """(revision of the empty store, keys deleted in it): that revision's events can still be watched."""
        ask = self.client.unary
        for lease in ask["lease_leases"](rpc_pb2.LeaseLeasesRequest()).leases:
            ask["lease_revoke"](rpc_pb2.LeaseRevokeRequest(ID=lease.ID))
        ask["put"](rpc_pb2.PutRequest(key=b"start"))
        everything = rpc_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0", prev_kv=True)
        gone = ask["delete_range"](everything)
        ask["compact"](rpc_pb2.CompactionRequest(revision=gone.header.revision))
        return gone.header.revision, [kv.key for kv in gone.prev_kvs]


class _Run:
    """One program on one server."""

    def __init__(self, client: Client, model: Model, offset: int) -> None:
        self._client = client
        self._model = model
        self._offset = offset
        self._streams: dict[int, tuple[Stream, WatchCall, _Delivered]] = {}

    def step(self, step: Step) -> None:
        match step:
            case Unary():
                if step.method == "compact":
                    self.settle()
                self.unary(step)
            case Watch():
                self._watch(step)
            case CancelWatch():
                self._cancel(step)
            case Progress():
                self._progress(step.stream)

    def unary(self, step: Unary) -> None:
        answer = self._ask(step)
        if step.method == "lease_grant":
            chosen = answer.ID if isinstance(answer, rpc_pb2.LeaseGrantResponse) else 0
            expected = _outcome(lambda: self._model.lease_grant(step.request, chosen))
        else:
            expected = _outcome(lambda: getattr(self._model, step.method)(step.request))
        if isinstance(answer, rpc_pb2.LeaseTimeToLiveResponse | rpc_pb2.LeaseLeasesResponse):
            _comparable(answer, expected)
        if answer != expected:
            raise Mismatch(f"{step!r}\n  server: {_show(answer)}\n  model:  {_show(expected)}")

    def _ask(self, step: Unary) -> Any:
        request = shifted(step.request, self._offset)
        answer = _outcome(lambda: self._client.unary[step.method](request))
        return answer if isinstance(answer, tuple) else shifted(answer, -self._offset)

    def _stream(self, number: int) -> tuple[Stream, WatchCall, _Delivered]:
        if number not in self._streams:
            call = self._client.open_stream()
            self._streams[number] = (self._model.open_stream(), call, _Delivered(call, self._offset))
        return self._streams[number]

    def _watch(self, step: Watch) -> None:
        stream, call, delivered = self._stream(step.stream)
        expected = stream.create(step.request)
        call.send(create_request=shifted(step.request, self._offset))
        delivered.expect_control(expected, repr(step))
        self._await_owed(stream, delivered)

    def _cancel(self, step: CancelWatch) -> None:
        stream, call, delivered = self._stream(step.stream)
        self._await_owed(stream, delivered)
        watcher = stream.watchers.get(step.watch_id)
        expected = stream.cancel(step.watch_id)
        call.send(cancel_request=rpc_pb2.WatchCancelRequest(watch_id=step.watch_id))
        if expected is not None:
            delivered.expect_control(expected, repr(step))
            assert watcher is not None
            delivered.forget(step.watch_id, watcher)

    def _progress(self, number: int) -> None:
        stream, call, delivered = self._stream(number)
        self._await_owed(stream, delivered)
        expected = stream.progress()
        for _ in range(_PROGRESS_ASKS if expected is not None else 1):
            call.send(progress_request=rpc_pb2.WatchProgressRequest())
            if expected is None or delivered.progressed(expected.header.revision, _PROGRESS_SECONDS):
                break
        else:
            wanted = expected.header.revision if expected is not None else None
            raise Mismatch(f"no progress answer with revision {wanted}; {delivered.describe()}")
        if expected is None:
            delivered.progress_refused_at = self._model.revision
        else:
            delivered.progress_due = True

    def settle(self) -> None:
        """Every watcher that can hear anything has heard all it is owed, and at least one event."""
        for stream, _, delivered in self._streams.values():
            for watcher in list(stream.watchers.values()):
                if self._mute(watcher):
                    self._speak(watcher)
            self._await_owed(stream, delivered)

    def _mute(self, watcher: Watcher) -> bool:
        future = watcher.start > self._model.revision + 1
        return not (watcher.owed or watcher.compacted_at or watcher.silent or future)

    def _speak(self, watcher: Watcher) -> None:
        self.unary(Unary("put", rpc_pb2.PutRequest(key=watcher.key, value=b"settle")))
        if kv_pb2.Event.PUT in watcher.filters:
            self.unary(Unary("delete_range", rpc_pb2.DeleteRangeRequest(key=watcher.key)))

    def _await_owed(self, stream: Stream, delivered: _Delivered) -> None:
        for watch_id, watcher in stream.watchers.items():
            delivered.await_owed(watch_id, watcher)

    def finish(self) -> None:
        """Everything owed has come; then one more event for each watcher, so that anything sent beyond what is owed
        shows.
        """
        self.settle()
        for stream, _, _ in list(self._streams.values()):
            for watcher in list(stream.watchers.values()):
                if not watcher.silent:
                    self._speak(watcher)
        self.unary(Unary("delete_range", rpc_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0")))
        self.unary(Unary("range", rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0")))
        for stream, _, delivered in self._streams.values():
            self._await_owed(stream, delivered)
            delivered.check_progress()

    def close(self) -> None:
        for _, call, _ in self._streams.values():
            call.close()


class _Delivered:
    """What one Watch call has delivered, held against what the model says it owes."""

    def __init__(self, call: WatchCall, offset: int) -> None:
        self._call = call
        self._offset = offset
        self._controls = 0
        self._forgotten: dict[int, int] = {}  # watch id → responses before this index belong to an earlier watcher
        self.progress_due = False
        self.progress_refused_at = 1 << 62  # the model's revision when a request met a watcher that was behind

    def expect_control(self, expected: rpc_pb2.WatchResponse, what: str) -> None:
        """The next created or canceled answer is this one (a compaction's cancellation is no answer)."""
        number = self._controls
        self._controls += 1

        def controls(received: Sequence[rpc_pb2.WatchResponse]) -> list[rpc_pb2.WatchResponse]:
            return [r for r in received if r.created or (r.canceled and not r.compact_revision)]

        if not self._call.wait(lambda received: len(controls(received)) > number):
            raise Mismatch(f"{what}: no answer; {self.describe()}")
        answer = shifted(controls(self._call.received)[number], -self._offset)
        if answer != expected:
            raise Mismatch(f"{what}\n  server: {_show(answer)}\n  model:  {_show(expected)}")

    def _of(self, watch_id: int) -> list[rpc_pb2.WatchResponse]:
        since = self._forgotten.get(watch_id, 0)
        return [r for r in self._call.received[since:] if r.watch_id == watch_id and not r.created]

    def await_owed(self, watch_id: int, watcher: Watcher) -> None:
        if watcher.compacted_at:
            self._await_compacted(watch_id, watcher)
            return
        owed = [event for revision in watcher.owed for event in revision]
        self._call.wait(lambda _: sum(len(r.events) for r in self._of(watch_id)) >= len(owed))
        responses = self._of(watch_id)
        revisions = _by_revision(responses, self._offset)
        if [event for revision in revisions for event in revision] != owed:
            shown = "\n    ".join(_show(event) for revision in revisions for event in revision)
            wanted = "\n    ".join(_show(event) for event in owed)
            raise Mismatch(f"watch {watch_id}\n  server:\n    {shown}\n  model:\n    {wanted}\n  {self.describe()}")
        if revisions != watcher.owed:
            raise Mismatch(f"watch {watch_id}: a revision was split over responses: {responses}")

    def _await_compacted(self, watch_id: int, watcher: Watcher) -> None:
        self._call.wait(lambda _: any(r.compact_revision for r in self._of(watch_id)))
        ends = [r for r in self._of(watch_id) if r.compact_revision or r.events]
        if len(ends) != 1 or not ends[0].canceled or ends[0].compact_revision - self._offset != watcher.compacted_at:
            raise Mismatch(
                f"watch {watch_id}: compaction at {watcher.compacted_at}, server says {ends}; {self.describe()}"
            )

    def forget(self, watch_id: int, watcher: Watcher) -> None:
        self.await_owed(watch_id, watcher)
        self._forgotten[watch_id] = len(self._call.received)

    def progressed(self, revision: int, seconds: float) -> bool:
        wanted = revision + self._offset
        return self._call.wait(
            lambda rs: any(r.watch_id == NO_WATCH and r.header.revision == wanted and not r.created for r in rs),
            seconds,
        )

    def check_progress(self) -> None:
        """A request that must stay without answer may only have been read later, behind writes that followed it."""
        refused_until = self.progress_refused_at + self._offset
        answers = [
            r
            for r in self._call.received
            if r.watch_id == NO_WATCH and not r.created and r.header.revision <= refused_until
        ]
        if answers and not self.progress_due:
            raise Mismatch(f"progress although a watcher is behind: {answers}")

    def describe(self) -> str:
        return f"{len(self._call.received)} responses, stream {self._call.failure or 'open'}"


def _by_revision(responses: Sequence[rpc_pb2.WatchResponse], offset: int) -> list[list[kv_pb2.Event]]:
    """Events grouped by revision; one that goes on in a later response (no fragment) makes a group of its own."""
    groups: list[list[kv_pb2.Event]] = []
    fragment = False
    for response in responses:
        last = 0
        if fragment and groups:
            last = groups[-1][-1].kv.mod_revision
        for event in (shifted(event, -offset) for event in response.events):
            if event.kv.mod_revision != last:
                groups.append([])
            last = event.kv.mod_revision
            groups[-1].append(event)
        if last and response.header.revision - offset < last:
            raise Mismatch(f"header says revision {response.header.revision - offset}, an event {last}")
        fragment = response.fragment
    return groups


def _outcome(ask: Any) -> Any:
    try:
        return ask()
    except Refused as refused:
        return refused.refusal


def _comparable(answer: Any, expected: Any) -> None:
    """Time that has passed and orders that mean nothing are taken out."""
    if isinstance(answer, rpc_pb2.LeaseLeasesResponse):
        answer.leases.sort(key=lambda lease: lease.ID)
    elif isinstance(expected, rpc_pb2.LeaseTimeToLiveResponse):
        answer.keys.sort()
        if 0 <= expected.TTL - answer.TTL <= _TTL_SLACK:
            answer.TTL = expected.TTL


def _show(answer: Any) -> str:
    return f"refused {answer[0].name}: {answer[1]}" if isinstance(answer, tuple) else repr(str(answer))
