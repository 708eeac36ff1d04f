"""Fan-out: published events to synced watchers, once encoded per group, at a pace the loop can afford.

A delivery that takes long earns the loop a pause before the next one; events of the meantime are gathered and go out
together. So watchers cost writes at most a fixed share of the loop, and many watchers make fewer, larger responses.

Invariant: what is gathered is bounded by `GATHER_BYTES`, a stream that cannot take its events makes its watcher lag
(and read the log later) and never holds up anybody, and everything up to `_delivered` is on every synced watcher's
stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

from wharf.brain.store._codec import with_prev
from wharf.brain.watch import responses
from wharf.brain.watch.groups import Group, Groups
from wharf.brain.watch.replay import History, Replay
from wharf.brain.watch.stream import WatchStream
from wharf.brain.watch.watcher import State, Watcher

if TYPE_CHECKING:
    from wharf.brain.store._codec import EventTuple

log = logging.getLogger(__name__)

GATHER_BYTES = 8 * 1024 * 1024  # of events waiting for a paced delivery
PACE = 2.0  # a delivery of t seconds is followed by PACE * t seconds without one: at most a third of the loop
MAX_PAUSE = 0.1  # seconds an event may wait for that
SHORT = 0.001  # deliveries shorter than this need no pause
OVERHEAD_BYTES = 512 * 1024  # etcd's allowance on top of the largest request: size of a fragment
MIN_PROGRESS_INTERVAL = 0.1  # seconds


class Source(History, Protocol):
    """The store."""

    def on_events(self, listener: Callable[[Sequence[EventTuple], int], None]) -> None: ...
    def on_jumped(self, listener: Callable[[], None]) -> None: ...


class Hub:
    """All watches of a node. Make it after the store has started, on the running loop."""

    def __init__(
        self, store: Source, progress_interval: float = 600.0, max_request_bytes: int = 3 * 512 * 1024
    ) -> None:
        """`progress_interval`: seconds between progress notifications to idle watchers that want them."""
        self._loop = asyncio.get_running_loop()
        self.store = store
        self.progress_interval = max(progress_interval, MIN_PROGRESS_INTERVAL)
        self.streams = 0
        self.events_sent = 0
        self._limit = max_request_bytes + OVERHEAD_BYTES
        self._groups = Groups()
        self._replay = Replay(store, self._limit, self._caught_up, self._loop.call_soon, self._loop.time)
        self._future: list[tuple[int, int, Watcher]] = []  # (start revision, tie break, WAITING watcher), a heap
        self._made = 0
        self._touched: list[Group] = []
        self._gathered_bytes = 0
        self._gathered = self._delivered = store.revision
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None
        store.on_events(self._publish)
        store.on_jumped(self._jumped)

    def open_stream(self, send: Callable[[bytes], None], writable: Callable[[], bool]) -> WatchStream:
        """A client's stream: `send` takes WatchResponse bytes, `writable` says whether it should be given more."""
        self.streams += 1
        return WatchStream(self, send, writable)

    @property
    def watchers(self) -> int:
        """Watchers that are alive."""
        return len(self._groups) + len(self._replay) + len(self._future)

    @property
    def slow_watchers(self) -> int:
        """Watchers that are fed from the log."""
        return len(self._replay)

    def add(self, watcher: Watcher) -> None:
        """A watcher made at the store's present revision."""
        if watcher.state is State.LAGGING:
            self._replay.add(watcher)
        elif watcher.state is State.WAITING:
            self._made += 1
            heappush(self._future, (watcher.next_revision, self._made, watcher))
        else:
            self._join(watcher)

    def remove(self, watcher: Watcher) -> None:
        self._groups.remove(watcher)
        self._replay.remove(watcher)
        if watcher.state is State.WAITING:
            self._future = [item for item in self._future if item[2] is not watcher]
            self._future.sort()
        watcher.state = State.COMPACTED

    def flush(self) -> None:
        """Deliver what is gathered: afterwards synced watchers have everything up to the store's revision."""
        if self._touched:
            self._deliver()
        else:
            self._delivered = self._gathered

    def drained(self) -> None:
        """Some stream has room again."""
        self._replay.kick()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _jumped(self) -> None:
        """The store has moved without telling of events: everybody reads on in the log, as far as there is one."""
        self.flush()
        known = self._delivered
        for watcher in self._groups.all():
            self._fall_behind(watcher, known + 1)
        self._gathered = self._delivered = self.store.revision

    def _publish(self, events: Sequence[EventTuple], revision: int) -> None:
        self._gather(events)
        self._gathered = revision
        while self._future and self._future[0][0] <= revision:
            watcher = heappop(self._future)[2]
            watcher.state = State.LAGGING
            self._replay.add(watcher)
        if not self._touched:
            self._delivered = revision
        elif self._gathered_bytes >= GATHER_BYTES:
            self._deliver()
        elif self._timer is None:
            pause = self._not_before - self._loop.time()
            if pause <= 0:
                self._deliver()
            else:
                self._timer = self._loop.call_later(pause, self._deliver)

    def _gather(self, events: Sequence[EventTuple]) -> None:
        match, touched = self._groups.match, self._touched
        for _, kind, key, framed, prev in events:
            full = None
            for group in match(key):
                interest = group.interest
                if interest.no_delete if kind else interest.no_put:
                    continue
                if not group.framed:
                    touched.append(group)
                if prev is None or not interest.prev_kv:
                    group.framed.append(framed)
                else:
                    if full is None:
                        full = with_prev(framed, prev)
                        self._gathered_bytes += len(full)
                    group.framed.append(full)
            self._gathered_bytes += len(framed)

    def _deliver(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        began = self._loop.time()
        header = self.store.header.encode(self._gathered)
        touched, self._touched, self._gathered_bytes = self._touched, [], 0
        delivered, self._delivered = self._delivered, self._gathered
        for group in touched:
            framed, group.framed = group.framed, []
            self._deliver_group(group, framed, header, delivered + 1)
        took = self._loop.time() - began
        self._not_before = began + took + min(took * PACE, MAX_PAUSE) if took > SHORT else 0.0

    def _deliver_group(self, group: Group, framed: list[bytes], header: bytes, first_revision: int) -> None:
        body = b"".join(framed)
        messages: dict[int, bytes] = {}
        for watcher in tuple(group.watchers):
            outlet, watch_id = watcher.outlet, watcher.watch_id
            if watcher.state is not State.SYNCED:
                continue  # its stream was closed by what another one sent
            if not outlet.writable():
                self._fall_behind(watcher, first_revision)
                continue
            watcher.quiet = False
            self.events_sent += len(framed)
            try:
                if watcher.fragment:
                    for message in responses.fragments(header, watch_id, framed, self._limit):
                        outlet.send(message)
                    continue
                shared = messages.get(watch_id)
                if shared is None:
                    shared = messages[watch_id] = responses.events(header, watch_id, body)
                outlet.send(shared)
            except Exception:
                log.exception("a watch stream failed, its watcher ends")
                self.remove(watcher)

    def _fall_behind(self, watcher: Watcher, first_revision: int) -> None:
        self._groups.remove(watcher)
        watcher.state, watcher.next_revision = State.LAGGING, first_revision
        self._replay.add(watcher)

    def _join(self, watcher: Watcher) -> None:
        """From here on the watcher gets what is published; what is gathered was before its time."""
        self.flush()
        self._groups.add(watcher)

    def _caught_up(self, watcher: Watcher) -> None:
        watcher.state = State.SYNCED
        self._join(watcher)
