"""A watching client, and a store with its hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from brain.faulty import running
from wharf.brain.engine.base import Engine
from wharf.brain.store.store import Store
from wharf.brain.watch.hub import Hub
from wharf.brain.watch.stream import WatchStream
from wharf.brain.watch.watcher import WatchSpec
from wharf.common.pb.etcd import kv_pb2 as mvcc
from wharf.common.pb.etcd import rpc_pb2 as rpc

EVERYTHING = WatchSpec(b"\0", b"\0")


class Seen(NamedTuple):
    """An event as a test likes to read it."""

    kind: str
    key: bytes
    value: bytes
    revision: int
    prev: bytes | None = None  # value


def seen(event: mvcc.Event) -> Seen:
    kind = "DELETE" if event.type == mvcc.Event.DELETE else "PUT"
    prev = event.prev_kv.value if event.HasField("prev_kv") else None
    return Seen(kind, event.kv.key, event.kv.value, event.kv.mod_revision, prev)


class Client:
    """One stream; `room` is how many more messages it takes before it is full, None: any number."""

    def __init__(self, hub: Hub, room: int | None = None) -> None:
        self.responses: list[rpc.WatchResponse] = []
        self.room = room
        self._arrived = asyncio.Event()
        self.stream: WatchStream = hub.open_stream(self._take, lambda: self.room is None or self.room > 0)

    def _take(self, message: bytes) -> None:
        self.responses.append(rpc.WatchResponse.FromString(message))
        if self.room is not None:
            self.room -= 1
        self._arrived.set()

    async def until(self, happened: Callable[[], object]) -> None:
        """Wait for responses until `happened` is true."""
        async with asyncio.timeout(10):
            while not happened():
                self._arrived.clear()
                await self._arrived.wait()

    def watch(self, spec: WatchSpec = EVERYTHING) -> int:
        """Create a watcher; its id."""
        self.stream.create(spec)
        return next(response.watch_id for response in reversed(self.responses) if response.created)

    def drain(self, room: int | None = None) -> None:
        self.room = room
        self._arrived = asyncio.Event()
        self.stream.drained()

    def events(self, watch_id: int = 0) -> list[Seen]:
        mine = [response for response in self.responses if response.watch_id == watch_id]
        return [seen(event) for response in mine for event in response.events]

    def progress(self, watch_id: int = -1) -> list[int]:
        """Revisions of progress responses."""
        return [
            response.header.revision
            for response in self.responses
            if response.watch_id == watch_id and not (response.events or response.created or response.canceled)
        ]


@asynccontextmanager
async def watched(engine: Engine | None = None, progress_interval: float = 600.0) -> AsyncIterator[tuple[Store, Hub]]:
    async with running(engine) as store:
        hub = Hub(store, progress_interval)
        try:
            yield store, hub
        finally:
            hub.close()


async def settle(hub: Hub) -> None:
    """Let replay and paced deliveries come to rest."""
    for _ in range(200):
        await asyncio.sleep(0)
    hub.flush()
