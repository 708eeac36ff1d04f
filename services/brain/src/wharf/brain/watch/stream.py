"""One client's watch stream: ids, control responses, progress.

Invariant: nothing about an id is sent before its `created`, nothing after its `canceled`; a progress response says no
more than what is already on the stream.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from wharf.brain.watch import responses
from wharf.brain.watch.replay import History
from wharf.brain.watch.watcher import (
    COMPACTED_TEXT,
    DUPLICATE_ID_TEXT,
    EMPTY_RANGE_TEXT,
    Watcher,
    WatchSpec,
    interest_of,
)
from wharf.wire.timers import Ticker

JITTER = 0.1  # of the progress interval, so that streams opened together do not report together


class Fanout(Protocol):
    """What a stream needs of the hub."""

    progress_interval: float
    streams: int

    @property
    def store(self) -> History: ...
    def add(self, watcher: Watcher) -> None: ...
    def remove(self, watcher: Watcher) -> None: ...
    def flush(self) -> None: ...
    def drained(self) -> None: ...


class WatchStream:
    """Requests come in as method calls, responses go out through `send`."""

    def __init__(self, hub: Fanout, send: Callable[[bytes], None], writable: Callable[[], bool]) -> None:
        self.send = send
        self.writable = writable
        self._hub = hub
        self._watchers: dict[int, Watcher] = {}
        self._next_id = 0
        self._ticker: Ticker | None = None
        self._closed = False

    def create(self, spec: WatchSpec) -> None:
        """Start a watcher; it is told its id first, then whatever it asked for."""
        if self._closed:
            return
        header = self._header()
        interest = interest_of(spec)
        if spec.start_revision < 0:
            self.send(responses.refused(header, COMPACTED_TEXT))
        elif interest is None:
            self.send(responses.refused(header, EMPTY_RANGE_TEXT))
        elif spec.watch_id and spec.watch_id in self._watchers:
            self.send(responses.refused(header, DUPLICATE_ID_TEXT))
        else:
            watch_id = spec.watch_id or self._free_id()
            watcher = Watcher(watch_id, spec, interest, self, self._hub.store.revision)
            self._watchers[watch_id] = watcher
            self.send(responses.created(header, watch_id))
            self._hub.add(watcher)
            if spec.progress_notify and self._ticker is None:
                self._ticker = Ticker("report the progress of watches", self._interval, self._tick)

    def cancel(self, watch_id: int) -> None:
        """End a watcher; an unknown id is passed over in silence, as in etcd."""
        watcher = self._watchers.pop(watch_id, None)
        if watcher is not None:
            self._hub.remove(watcher)
            self.send(responses.canceled(self._header(), watch_id))

    def progress(self) -> None:
        """Report progress of the stream if every watcher on it is synced; else send nothing, as etcd does.

        A watcher that compaction ended counts as not synced until the client cancels it.
        """
        self._hub.flush()
        revision, watchers = self._hub.store.revision, self._watchers.values()
        if watchers and self.writable() and all(watcher.may_report(revision) for watcher in watchers):
            self.send(responses.progress(self._header(), responses.PROGRESS_ALL))

    def drained(self) -> None:
        """The client has taken what was sent: there is room again."""
        self._hub.drained()

    def close(self) -> None:
        """Forget the stream; nothing is sent any more."""
        if self._closed:
            return
        self._closed = True
        self._hub.streams -= 1
        self.writable = _never
        self._stop_ticker()
        for watcher in self._watchers.values():
            self._hub.remove(watcher)
        self._watchers.clear()

    def _free_id(self) -> int:
        while self._next_id in self._watchers:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _header(self) -> bytes:
        store = self._hub.store
        return store.header.encode(store.revision)

    def _interval(self) -> float:
        jitter = random.random() * JITTER  # noqa: S311  spreads load, protects nothing
        return self._hub.progress_interval * (1 + jitter)

    def _tick(self) -> None:
        """Progress to each idle watcher that wants it; the timer runs as long as there is one."""
        notified = [watcher for watcher in self._watchers.values() if watcher.progress_notify]
        if not notified:
            self._stop_ticker()
            return
        self._hub.flush()
        revision, header = self._hub.store.revision, self._header()
        for watcher in notified:
            if watcher.quiet and watcher.may_report(revision) and self.writable():
                self.send(responses.progress(header, watcher.watch_id))
            watcher.quiet = True

    def _stop_ticker(self) -> None:
        if self._ticker is not None:
            self._ticker.close()
            self._ticker = None


def _never() -> bool:
    return False
