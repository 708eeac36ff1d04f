"""The process that leads and has workers: it writes, publishes what it has written, and keeps the others running.

It serves clients itself, like any of them. What a worker passes on is answered by the handlers of its own clients. A
worker that dies is replaced; what it was reading is let go of. One that stands still while others write holds pages
that would be used again, and is killed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from wharf.brain.config import BrainConfig
from wharf.brain.engine.base import EngineError
from wharf.brain.engine.lmdb import LmdbEngine, LmdbSnapshot
from wharf.brain.engine.lmdb_follow import place
from wharf.brain.errors import BrainError, Stopped
from wharf.brain.front_wire import client_listener
from wharf.brain.ha.readgate import Point
from wharf.brain.ha.service import ControlServer, ControlService
from wharf.brain.ha.session import Session
from wharf.brain.lone import Lone
from wharf.brain.metrics import one
from wharf.brain.workers.child import Child, Handed, start
from wharf.brain.workers.page import HALTED, Page, make_page, word_of
from wharf.brain.workers.policy import Watchdog
from wharf.common.backoff import Backoff
from wharf.common.clock import CLOCK, Clock
from wharf.common.log import get_log
from wharf.common.metrics import Family, Registry
from wharf.common.pb.control import control_pb2 as control
from wharf.common.report import labelled
from wharf.wire.rpc import Method
from wharf.wire.server import bind

if TYPE_CHECKING:
    from wharf.brain.api.table import Api
    from wharf.brain.front import Front
    from wharf.brain.watch.hub import Hub

READY_SECONDS: Final = 10.0  # for workers to serve, before this process says that it does
DRAIN_SECONDS: Final = 10.0  # for them to end
LOOK_EVERY: Final = 1.0  # seconds between looks at what they have acted upon
LONGEST_PATH: Final = 100  # bytes of a Unix socket's address, a little less than the system takes

_log = get_log("brain.workers")


class Parent:
    """See the module; `lone.Mode` and `service.Host`."""

    ready = Lone.ready

    def __init__(self, config: BrainConfig, lone: Lone, control_directory: Path, clock: Clock = CLOCK) -> None:
        self.store, self.cluster = lone.store, lone.cluster
        self.cluster_id, self.member_id, self.epoch = self.store.cluster_id, self.store.member_id, 1
        self._config, self._lone, self._clock = config, lone, clock
        self._page_fd = make_page()
        self._page = Page(self._page_fd)
        self._control = f"unix:{control_directory / 'control'}"
        self._server = ControlServer()
        self._children: dict[int, Child] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._auth_version: Callable[[], int] = int
        self._over = False  # no worker is started any more
        self._closed = False
        self.deaths = 0  # of workers, unasked

    @classmethod
    async def open(cls, config: BrainConfig, registry: Registry, down: AsyncExitStack) -> Parent:
        """EngineError, OSError or ValueError when that cannot be."""
        if config.front_end != "wire":
            raise ValueError("--workers need --front-end=wire")
        for url in config.listen_client_urls:
            # Nobody else may be there; with a shared port the system would let two stores answer by turns.
            bind(replace(client_listener(url, config), reuse_port=False)).close()
        lone = await Lone.open(config, registry, down)
        made = cls(config, lone, _control_directory(Path(config.engine_url.removeprefix("lmdb://")), down))
        down.push_async_callback(made.close)
        return made

    def methods(self, api: Api) -> Sequence[Method]:
        return self._lone.methods(api)

    def admitted(self, methods: Sequence[Method]) -> Sequence[Method]:
        return methods

    async def begin(self, hub: Hub, api: Api, front: Front) -> None:
        """Returns once the workers serve, or have had the time to."""
        await self._lone.begin(hub, api, front)
        self.store.present.on_settled(self._publish)
        self.store.on_halt(self._halted)
        self._publish()
        self._auth_version = lambda: api.auth_version
        service = ControlService(self, api.for_nodes(), self._config.receive_max)
        await self._server.start(service, [self._control], None)
        self._config = _for_workers(self._config, front.addresses)
        served = [asyncio.Event() for _ in range(self._config.workers)]
        self._tasks += [asyncio.create_task(self._keep(worker, first)) for worker, first in enumerate(served)]
        self._tasks.append(asyncio.create_task(self._watch()))
        try:
            await asyncio.wait_for(asyncio.gather(*(first.wait() for first in served)), READY_SECONDS)
        except TimeoutError:
            _log.warn("not all workers serve yet, going on without them", workers=self._config.workers)

    async def hand_over(self) -> None:
        """Let the workers finish what they were asked, while what they pass on is still answered."""
        self._over = True
        children = tuple(self._children.values())
        for child in children:
            child.signal(signal.SIGTERM)
        if children:
            ends = [asyncio.create_task(child.ended.wait()) for child in children]
            _, late = await asyncio.wait(ends, timeout=DRAIN_SECONDS)
            if late:
                _log.warn("workers that do not end are killed", workers=len(late))
            for end in late:
                end.cancel()

    async def close(self) -> None:
        """Whatever is left of the workers ends."""
        self._over = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.stop(0.0)
        self._closed = True
        self._page.close()
        os.close(self._page_fd)

    def unready(self) -> str:
        return ""

    async def wait_fatal(self) -> str:
        return await self._lone.wait_fatal()

    def waiting(self) -> int:
        return 0

    def families(self) -> Iterable[Family]:
        """Of the workers, and what each has told, up to a second ago, with its number as a label."""
        serving = sum(child.ready.is_set() for child in self._children.values())
        yield one("wharf_brain_workers", "Worker processes that serve.", "gauge", serving)
        yield one("wharf_brain_worker_deaths_total", "Workers that ended unasked.", "counter", self.deaths)
        for worker, child in sorted(self._children.items()):
            yield from labelled(child.told, "worker", str(worker))

    # service.Host

    def leads(self) -> bool:
        return self.store.leads

    def proven(self) -> bool:
        """Nobody else can: the store is locked."""
        return True

    def published(self) -> Point:
        return Point(self.store.revision, self.store.compact_revision, self._auth_version())

    def joined(self, session: Session) -> str:
        return ""

    def left(self, session: Session) -> None:
        """Whether a worker lives is seen by its process."""

    def status(self) -> control.StatusResponse:
        revision = self.store.revision
        return control.StatusResponse(cluster_id=self.cluster_id, member_id=self.member_id, revision=revision)

    async def step_down(self, successor: int) -> bool:
        """To nobody."""
        return False

    # What is published

    def _publish(self) -> None:
        if self._closed:
            return
        self._page.published = word_of(*place(cast(LmdbSnapshot, self.store.present.reader.snapshot)))
        for child in self._children.values():
            child.ring()

    def _halted(self, error: BrainError) -> None:
        """Nobody knows what is true any more: whoever answers from the file must not go on."""
        if not isinstance(error, Stopped) and not self._closed:
            self._over = True
            self._page.published = HALTED
            for child in self._children.values():
                child.ring()

    # Workers

    async def _keep(self, worker: int, first: asyncio.Event) -> None:
        """A worker in this place, again and again."""
        backoff = Backoff()
        while not self._over:
            began = self._clock.now()
            try:
                child = self._start(worker)
            except OSError as error:
                _log.error("a worker cannot be started", worker=worker, reason=str(error))
            else:
                try:
                    await self._live(child, first)
                finally:
                    await child.close()
                    del self._children[worker]
            delay = backoff.died(self._clock.now() - began)
            if not self._over:
                self.deaths += 1
                self._forget_readers()
                _log.warn("a worker has ended, another one is started", worker=worker, seconds=delay)
                await asyncio.sleep(delay)

    def _start(self, worker: int) -> Child:
        def handed(page: int, bell: int, line: int) -> Handed:
            return Handed(self._config, worker, os.getpid(), self._control, page, bell, line)

        self._page.note(worker, 0)
        child = start(handed, self._page_fd, cast(LmdbEngine, self.store.engine).lock, worker)
        self._children[worker] = child
        return child

    async def _live(self, child: Child, first: asyncio.Event) -> None:
        ready, ended = asyncio.create_task(child.ready.wait()), asyncio.create_task(child.ended.wait())
        try:
            await asyncio.wait((ready, ended), return_when=asyncio.FIRST_COMPLETED)
            if child.ready.is_set():
                _log.info("a worker serves", worker=child.worker, process=child.pid)
                first.set()
            await ended
        finally:
            ready.cancel()
            ended.cancel()
        if not self._over:
            _log.error("a worker has died", worker=child.worker, process=child.pid, code=child.code)

    def _forget_readers(self) -> None:
        try:
            cast(LmdbEngine, self.store.engine).forget_dead_readers()
        except EngineError as error:
            _log.error("what a dead worker was reading is still held", reason=str(error))

    async def _watch(self) -> None:
        """Kill a worker that stands still."""
        dogs: dict[Child, Watchdog] = {}
        while True:
            await asyncio.sleep(LOOK_EVERY)
            dogs = {child: dogs.get(child, Watchdog()) for child in self._children.values() if child.ready.is_set()}
            for child, dog in dogs.items():
                if dog.look(self._page.seen(child.worker), self._page.published):
                    _log.error("a worker stands still and is killed", worker=child.worker, process=child.pid)
                    child.signal(signal.SIGKILL)


def _for_workers(config: BrainConfig, addresses: Sequence[str]) -> BrainConfig:
    """The same node at the ports that were bound; what the parent does for all is left out."""
    urls = tuple(
        replace(url, port=int(address.rpartition(":")[2]))
        for url, address in zip(config.listen_client_urls, addresses, strict=True)
    )
    return replace(
        config,
        listen_client_urls=urls,
        advertise_client_urls=config.advertise_client_urls or config.listen_client_urls,
        listen_metrics_urls=(),
        auto_compaction_mode="periodic",
        auto_compaction_retention="0",
    )


def _control_directory(store: Path, down: AsyncExitStack) -> Path:
    """A directory that only this user can look into: in the store's, unless its name is too long for a socket's."""
    inside = store.absolute() / "workers"
    if len(os.fsencode(inside)) < LONGEST_PATH:
        inside.mkdir(mode=0o700, exist_ok=True)
        inside.chmod(0o700)
        return inside
    made = Path(tempfile.mkdtemp(prefix="wharf-brain-"))
    down.callback(shutil.rmtree, made, ignore_errors=True)
    return made
