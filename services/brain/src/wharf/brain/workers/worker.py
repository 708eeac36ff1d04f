"""A process that serves what another one has written: reads and watches by itself, the rest by asking."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from wharf.brain.api.members import Alone, Cluster, Member
from wharf.brain.engine.lmdb_follow import LmdbFollower
from wharf.brain.errors import Stopped
from wharf.brain.ha.link import Link
from wharf.brain.ha.router import Router
from wharf.brain.metrics import one, pending_family, watch_families
from wharf.brain.store.store import RAFT_TERM, Store
from wharf.brain.workers.follow import Follower, worker_route
from wharf.brain.workers.page import Page
from wharf.common import report
from wharf.common.log import get_log
from wharf.common.metrics import Family, process_collector
from wharf.common.pb.control import control_pb2 as control

if TYPE_CHECKING:
    from wharf.brain.api.table import Api
    from wharf.brain.front import Front
    from wharf.brain.watch.hub import Hub
    from wharf.brain.workers.child import Handed
    from wharf.wire.rpc import Method

WAIT = 5.0  # seconds a request waits for the session with the parent
REPORT_EVERY = 1.0  # seconds

_log = get_log("brain.workers")


class Worker:
    """See the module; `lone.Mode`."""

    ready = "this worker serves"

    def __init__(self, handed: Handed, store: Store, follower: Follower, link: Link) -> None:
        self.store = store
        config = handed.config
        self.cluster: Cluster = Alone(
            Member(store.member_id, config.name, config.client_urls, config.peer_urls), RAFT_TERM
        )
        self._handed, self._follower, self._link = handed, follower, link
        loop = asyncio.get_running_loop()
        self._router = Router(follower, WAIT, loop.time, loop.call_later, worker_route)
        self._line = socket.socket(fileno=handed.line)
        self._line.setblocking(False)
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, handed: Handed, down: AsyncExitStack) -> Worker:
        """EngineError when the store cannot be read."""
        engine = LmdbFollower(handed.config.engine_url.removeprefix("lmdb://"))
        down.callback(engine.close)
        page = Page(handed.page)
        down.callback(page.close)
        store = Store(engine)
        store.load()
        down.push_async_callback(store.stop)
        link = Link(control.Hello(cluster_id=store.cluster_id, member_id=store.member_id), None)
        follower = Follower(engine, store.present, page, handed.worker, handed.bell, link)
        down.callback(follower.stop)
        await follower.start()
        made = cls(handed, store, follower, link)
        down.push_async_callback(made.close)
        return made

    def methods(self, api: Api) -> Sequence[Method]:
        self._router.identify = api.guard.identify
        return api.route(self._router.routed)

    def admitted(self, methods: Sequence[Method]) -> Sequence[Method]:
        return self._follower.gate.methods(methods)

    async def begin(self, hub: Hub, api: Api, front: Front) -> None:
        """Returns once what clients write can be passed on."""
        opened = asyncio.Event()

        def on_open() -> None:
            opened.set()
            self._router.changed()

        def counted() -> Iterable[Family]:
            return (
                *front.families(),
                *watch_families(hub),
                *process_collector(),
                *self.families(),
                pending_family(self.waiting()),
            )

        self._link.on_open = on_open
        self._link.target(self._handed.control)
        self._tasks.append(asyncio.create_task(self._link.run()))
        await opened.wait()
        self._tasks.append(asyncio.create_task(self._report(counted)))

    async def close(self) -> None:
        """After the last call: nothing is passed on or told any more."""
        self._router.refuse(Stopped())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._line.close()

    async def hand_over(self) -> None:
        """There is nothing that only this process does."""

    def unready(self) -> str:
        return "" if self._link.open else "this worker has no session with the process that writes"

    async def wait_fatal(self) -> str:
        return await asyncio.shield(self._follower.fatal)

    def waiting(self) -> int:
        return len(self._router)

    def families(self) -> Iterable[Family]:
        """What waits."""
        yield one(
            "wharf_brain_waiting_reads", "Calls that wait for what is published.", "gauge", len(self._follower.gate)
        )

    async def _report(self, counted: Callable[[], Iterable[Family]]) -> None:
        """Say that this process serves, then what it has counted, until the parent is gone."""
        reader, writer = await asyncio.open_unix_connection(sock=self._line)
        gone = asyncio.create_task(reader.read(1))
        try:
            writer.write(report.encode(()))
            while not gone.done():
                if not writer.transport.get_write_buffer_size():  # else nobody has read the one before
                    writer.write(report.encode(counted()))
                await asyncio.wait((gone,), timeout=REPORT_EVERY)
            self._follower.end("the process that writes is gone")
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            writer.close()
