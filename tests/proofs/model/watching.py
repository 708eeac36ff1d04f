"""What watchers are owed: per watcher the events of each revision, in order, from its start on.

Invariant: a revision's events for one watcher are one item of `owed`; `previous` values are those readable when the
event was owed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proofs.model.ranges import in_range
from proofs.model.refusals import DUPLICATE_WATCH, EMPTY_WATCH_RANGE
from wharf.common.pb.etcd import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from proofs.model.reference import Model

NO_WATCH = -1


@dataclass(slots=True)
class Watcher:
    key: bytes
    range_end: bytes
    asked: int  # start revision as requested; 0: from now on
    start: int  # first revision it is owed
    filters: frozenset[int]
    prev_kv: bool
    owed: list[list[kv_pb2.Event]] = field(default_factory=list)
    compacted_at: int = 0  # set: the server ends it, saying this compact revision

    @property
    def silent(self) -> bool:
        """No event can ever reach it."""
        return len(self.filters) > 1


class Stream:
    """One Watch call."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._next_id = 0
        self.watchers: dict[int, Watcher] = {}

    def create(self, request: rpc_pb2.WatchCreateRequest) -> rpc_pb2.WatchResponse:
        model = self._model
        answer = rpc_pb2.WatchResponse(created=True)
        answer.header.revision = model.revision
        key = request.key or b"\0"
        if request.range_end not in (b"", b"\0") and key >= request.range_end:
            return _refused(answer, EMPTY_WATCH_RANGE)
        watch_id = request.watch_id or self._free_id()
        if watch_id in self.watchers:
            return _refused(answer, DUPLICATE_WATCH)
        start = request.start_revision or model.revision + 1
        watcher = Watcher(
            key, request.range_end, request.start_revision, start, frozenset(request.filters), request.prev_kv
        )
        self.watchers[watch_id] = watcher
        answer.watch_id = watch_id
        if start < model.compacted:
            watcher.compacted_at = model.compacted
        else:
            for revision in range(start, model.revision + 1):
                self._owe(watcher, revision)
        return answer

    def _free_id(self) -> int:
        while self._next_id in self.watchers:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def cancel(self, watch_id: int) -> rpc_pb2.WatchResponse | None:
        """None: no such watcher, and the server says nothing."""
        if self.watchers.pop(watch_id, None) is None:
            return None
        answer = rpc_pb2.WatchResponse(watch_id=watch_id, canceled=True)
        answer.header.revision = self._model.revision
        return answer

    def progress(self) -> rpc_pb2.WatchResponse | None:
        """None: a watcher waits for a later revision or is dead, or there is none, so nothing can be said about the
        stream.
        """
        model = self._model
        waiting = any(w.compacted_at or w.asked > model.revision for w in self.watchers.values())
        if model.rules.progress_waits_for_watchers and (waiting or not self.watchers):
            return None
        answer = rpc_pb2.WatchResponse(watch_id=NO_WATCH)
        answer.header.revision = model.revision
        return answer

    def published(self, revision: int) -> None:
        for watcher in self.watchers.values():
            if not watcher.compacted_at and watcher.start <= revision:
                self._owe(watcher, revision)

    def _owe(self, watcher: Watcher, revision: int) -> None:
        owed = []
        for event in self._model.events[revision]:
            if event.type not in watcher.filters and in_range(event.kv.key, watcher.key, watcher.range_end):
                owed.append(self._with_previous(event) if watcher.prev_kv else event)
        if owed:
            watcher.owed.append(owed)

    def _with_previous(self, event: kv_pb2.Event) -> kv_pb2.Event:
        created = event.type == kv_pb2.Event.PUT and event.kv.create_revision == event.kv.mod_revision
        before = self._model.states.get(event.kv.mod_revision - 1, {})
        if created or event.kv.key not in before:
            return event
        return kv_pb2.Event(type=event.type, kv=event.kv, prev_kv=before[event.kv.key])


def _refused(answer: rpc_pb2.WatchResponse, reason: str) -> rpc_pb2.WatchResponse:
    answer.watch_id, answer.canceled, answer.cancel_reason = NO_WATCH, True, reason
    return answer
