"""Watchers that lag, fed from the log.

One chunk of the log is read at a time and given to every lagging watcher it concerns, in slices of loop time, as far
as their streams take it. Watchers with the same interest at the same place share the encoded events.

Invariant: memory is one chunk whatever the number of watchers and however far they lag; a chunk holds whole revisions
only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple, Protocol

from wharf.brain.engine.base import Engine, Table
from wharf.brain.store._codec import Header, split_log, with_prev
from wharf.brain.store.keys import META_COMPACT, hkey, log_key, parse_u64
from wharf.brain.watch import responses
from wharf.brain.watch.watcher import Interest, State, Watcher

log = logging.getLogger(__name__)

CHUNK_BYTES = 512 * 1024  # of log records read at once; one larger revision is still read whole
CHUNK_REVISIONS = 1000  # etcd's bound for one response to a lagging watcher
SLICE = 0.003  # seconds of loop time before others get a turn


class LoggedEvent(NamedTuple):
    revision: int
    kind: int
    key: bytes
    plain: bytes  # framed event
    full: bytes  # framed event with its prev_kv


class Chunk(NamedTuple):
    """All events of the revisions `first` to `last`; what came before `compacted` is not in the log any more."""

    first: int
    last: int
    compacted: int
    events: list[LoggedEvent]
    shared: dict[tuple[Interest, int], list[bytes]]

    def framed(self, interest: Interest, revision: int) -> list[bytes]:
        """Framed events for `interest` from `revision` on."""
        found = self.shared.get((interest, revision))
        if found is None:
            found = self.shared[interest, revision] = [
                event.full if interest.prev_kv else event.plain
                for event in self.events
                if event.revision >= revision and interest.wants(event.kind, event.key)
            ]
        return found


class History(Protocol):
    """The store, as far as the log goes."""

    engine: Engine

    @property
    def revision(self) -> int: ...
    @property
    def compact_revision(self) -> int: ...
    @property
    def header(self) -> Header: ...


def read_chunk(store: History, first: int) -> Chunk:
    """The log from `first` on, up to what is published; previous KeyValues as far as compaction has left them.

    What the engine has may be ahead of what is shown, a compaction too: its log begins later then, and says so.
    """
    events: list[LoggedEvent] = []
    snapshot = store.engine.snapshot()
    try:
        compacted = max(store.compact_revision, parse_u64(snapshot.get(Table.META, META_COMPACT), -1))
        first = max(first, compacted)
        size, last = 0, first - 1
        end = log_key(store.revision + 1)
        for stored, record in snapshot.scan(Table.LOG, log_key(first), end):
            last = int.from_bytes(stored, "big")
            for kind, key, plain, is_create in split_log(record):
                prev = None
                if not is_create and last > compacted:
                    prev = snapshot.get(Table.HISTORY, hkey(key, last))
                events.append(LoggedEvent(last, kind, key, plain, plain if prev is None else with_prev(plain, prev)))
            size += len(record)
            if size >= CHUNK_BYTES or last - first >= CHUNK_REVISIONS - 1:
                return Chunk(first, last, compacted, events, {})
    finally:
        snapshot.close()
    return Chunk(first, max(last, store.revision), compacted, events, {})


class Replay:
    """The lagging watchers and their turn on the loop."""

    def __init__(
        self,
        store: History,
        limit: int,
        caught_up: Callable[[Watcher], None],
        call_soon: Callable[[Callable[[], None]], object],
        time: Callable[[], float],
    ) -> None:
        self._store, self._limit, self._caught_up = store, limit, caught_up
        self._call_soon, self._time = call_soon, time
        self._lagging: dict[Watcher, None] = {}
        self._chunk: Chunk | None = None
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._lagging)

    def add(self, watcher: Watcher) -> None:
        self._lagging[watcher] = None
        self.kick()

    def remove(self, watcher: Watcher) -> None:
        self._lagging.pop(watcher, None)

    def kick(self) -> None:
        """A stream has room again, or there is a new watcher."""
        if not self._scheduled and self._lagging:
            self._scheduled = True
            self._call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        deadline, fed = self._time() + SLICE, False
        ready = [watcher for watcher in self._lagging if watcher.outlet.writable()]
        while ready:
            chunk = self._chunk_for(ready)
            later = []
            for watcher in ready:
                if watcher not in self._lagging:
                    continue  # its stream was closed by what another one sent
                compacted = max(chunk.compacted, self._store.compact_revision)
                if watcher.next_revision < compacted:
                    self._overtaken(watcher, compacted)
                elif not chunk.first <= watcher.next_revision <= chunk.last:
                    later.append(watcher)
                elif not fed or self._time() < deadline:
                    fed = True
                    self._try_feed(watcher, chunk)
                    if watcher.state is State.LAGGING and watcher.outlet.writable():
                        later.append(watcher)
                else:
                    self.kick()
                    return
            ready = later
        self._chunk = None

    def _chunk_for(self, ready: list[Watcher]) -> Chunk:
        """The chunk at hand as long as it serves anybody, then the one of whoever is furthest behind."""
        chunk = self._chunk
        if chunk is None or not any(chunk.first <= watcher.next_revision <= chunk.last for watcher in ready):
            first = min(watcher.next_revision for watcher in ready)
            chunk = self._chunk = read_chunk(self._store, first)
        return chunk

    def _try_feed(self, watcher: Watcher, chunk: Chunk) -> None:
        try:
            self._feed(watcher, chunk)
        except Exception:
            log.exception("a watch stream failed, its watcher ends")
            self._lagging.pop(watcher, None)
            watcher.state = State.COMPACTED

    def _feed(self, watcher: Watcher, chunk: Chunk) -> None:
        framed = chunk.framed(watcher.interest, watcher.next_revision)
        watcher.next_revision = chunk.last + 1
        if framed:
            header = self._store.header.encode(chunk.last)
            watcher.quiet = False
            if watcher.fragment:
                for message in responses.fragments(header, watcher.watch_id, framed, self._limit):
                    watcher.outlet.send(message)
            else:
                watcher.outlet.send(responses.events(header, watcher.watch_id, b"".join(framed)))
        if watcher.next_revision > self._store.revision and watcher in self._lagging:
            del self._lagging[watcher]
            self._caught_up(watcher)

    def _overtaken(self, watcher: Watcher, compacted: int) -> None:
        del self._lagging[watcher]
        watcher.state = State.COMPACTED
        header = self._store.header.encode(0)  # etcd tells no revision here
        watcher.outlet.send(responses.compacted(header, watcher.watch_id, compacted))
