"""How a worker keeps up: the pages of the store as the writer publishes them, and a session for what only it does.

LMDB has one newest state. What is found there may be ahead of what is published: it is kept, and shown the moment it
is. A bell rings after every publication; it only says "look", and the page says what there is, so that a bell that was
missed costs nothing but the time until the next one or the next call.

Invariant: what is shown was published, and only grows.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from wharf.brain.engine._lmdb import LmdbError
from wharf.brain.engine.base import EngineError
from wharf.brain.engine.lmdb import LmdbSnapshot
from wharf.brain.engine.lmdb_follow import LmdbFollower, place
from wharf.brain.ha.routes import Route, route_of
from wharf.brain.workers.gate import Gate
from wharf.brain.workers.page import HALTED, Page, generation_of, word_of

if TYPE_CHECKING:
    from wharf.brain.api.answered import Caller, Reply
    from wharf.brain.ha.link import Link
    from wharf.brain.store.present import Present
    from wharf.wire.rpc import Call

log = logging.getLogger(__name__)

_DEFRAGMENT = "/etcdserverpb.Maintenance/Defragment"


def worker_route(path: str) -> Route:
    """As between nodes, but for what the gate has seen to already, and for the file, which is everybody's."""
    if path == _DEFRAGMENT:
        return Route.LEADER
    route = route_of(path)
    return Route.HERE if route in (Route.SHOWN, Route.READ) else route


class Follower:
    """See the module. For the loop thread. Implements `router.Leader`."""

    def __init__(self, engine: LmdbFollower, present: Present, page: Page, worker: int, bell: int, link: Link) -> None:
        """After `present` has loaded. `bell`: an eventfd."""
        self._loop = asyncio.get_running_loop()
        self._engine, self._present, self._page, self._worker, self._bell = engine, present, page, worker, bell
        self._link = link
        self._ahead: LmdbSnapshot | None = None  # newer than what is published
        self._started: asyncio.Event = asyncio.Event()
        self.fatal: asyncio.Future[str] = self._loop.create_future()
        self.gate = Gate(lambda: page.published, self.look, self._loop.time, self._loop.call_later)
        self.shown = word_of(*place(cast(LmdbSnapshot, present.reader.snapshot)))

    async def start(self) -> None:
        """Returns once everything that was loaded is published."""
        self._loop.add_reader(self._bell, self._rung)
        self._rung()
        await self._started.wait()

    def stop(self) -> None:
        """Afterwards nothing moves."""
        self._loop.remove_reader(self._bell)
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def look(self) -> None:
        """Show what may be shown."""
        published = self._page.published
        if published == HALTED:
            self.end("the process that writes has stopped writing")
        if self.fatal.done() or self.shown > published:
            return
        try:
            while self.shown < published and self._step(published):
                pass
        except (EngineError, LmdbError, ValueError) as error:
            self.end(f"the store cannot be followed: {error}")
            return
        self._page.note(self._worker, published)
        self._started.set()
        self.gate.moved(self.shown)

    def end(self, reason: str) -> None:
        """This process is of no use any more."""
        if not self.fatal.done():
            self.fatal.set_result(reason)

    # router.Leader

    def leads(self) -> bool:
        return False

    def proven(self) -> bool:
        return False

    def certain(self) -> bool:
        return True  # the gate has seen to it

    def reachable(self) -> bool:
        return self._link.open

    def ask(
        self, path: str, request: bytes, call: Call, done: Callable[[Reply | None, bool], None], caller: Caller
    ) -> None:
        self._link.ask(path, request, call, done, caller)

    def read(self, done: Callable[[bool], None]) -> None:
        """The gate has waited for what was published when the call came; show what is published now."""
        self.look()
        done(True)

    # Moving

    def _rung(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._bell, 8)
        self.look()

    def _step(self, published: int) -> bool:
        """Show the next state that can be had; False when that is not published yet."""
        newest, self._ahead = self._ahead or self._newest(published), None
        word = word_of(*place(newest))
        if word > published:
            self._ahead = newest
            return False
        if word <= self.shown:
            newest.close()
            raise EngineError("a published state is not in the store")
        self._present.confirmed = newest.revision
        self._present.advance(newest)
        self.shown = word
        return True

    def _newest(self, published: int) -> LmdbSnapshot:
        if generation_of(published) != self._engine.generation:
            self._engine.reopen()
        return self._engine.snapshot()
