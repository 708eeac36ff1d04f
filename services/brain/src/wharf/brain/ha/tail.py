"""How a follower keeps up: batches as they come by NATS, and the engine's log for whatever did not come.

Whatever moves the replica, clients are shown only what a leader is known to have published (`Present.confirmed`):
events carry that with them, what was read from the log is confirmed by asking the leader.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from wharf.brain.engine.base import Diverged, EngineError, SharedEngine
from wharf.brain.engine.delta import BadDelta, parse_delta
from wharf.brain.ha.crew import Crew
from wharf.brain.store.filling import StoreUnfinished, check_finished
from wharf.brain.store.present import Present

log = logging.getLogger(__name__)

PATIENCE: Final = 0.010  # seconds a wanted revision may be on its way by NATS before the log is read
WITH_EVENTS: Final = 1.0  # seconds between looks into the log, in case the last event was lost
WITHOUT_EVENTS: Final = 0.1  # while there are no events
MOST_BACK_OFF: Final = 1.0  # seconds after an engine that did not answer


class Events(Protocol):
    """Where batches come from."""

    @property
    def connected(self) -> bool: ...


class Tail:
    """For the loop thread; works between `start` and `stop`, and forgets nothing in between."""

    def __init__(
        self,
        engine: SharedEngine,
        present: Present,
        events: Events | None,
        confirm: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        """`confirm`: ask the leader how far it is. `failed`: the replica cannot be trusted, or moved, any more, and
        why.
        """
        self._engine, self._present, self._events = engine, present, events
        self._confirm = confirm
        self._crew = Crew(failed)
        self._failed = failed
        self._kick = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.gaps = 0  # times the log was read because events were missing
        self.engine_answers = False

    def start(self) -> None:
        if self._task is None:
            self._kick.set()
            self._task = self._crew.spawn(self._run())

    async def stop(self) -> None:
        """Afterwards nothing moves the replica. Cancel-safe."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def event(self, data: bytes) -> None:
        """A batch by NATS, in whatever order and however often."""
        if self._task is None:
            return
        try:
            delta = parse_delta(data)
        except BadDelta as error:
            log.warning("an event is not one of ours and is passed over: %s", error)
            return
        position = self._engine.position()
        if delta.whole and self._engine.apply(delta, self._applied):
            self._confirmed(delta.revision)
        elif delta.seq > position.seq:
            self.gaps += 1
            self._confirmed(delta.revision)
            self._kick.set()

    def want(self, reached: Callable[[], bool]) -> None:
        """Somebody waits until `reached`: what that takes may be on its way by NATS, else it is in the log."""
        if self._events is None or not self._events.connected:
            self._kick.set()
        else:
            asyncio.get_running_loop().call_later(PATIENCE, self._look, reached)

    def confirmed(self, revision: int) -> None:
        """A leader says that it has published this."""
        self._confirmed(revision)
        self._show()

    def changed(self) -> None:
        """Events have begun or ceased to come."""
        self._kick.set()

    def _look(self, reached: Callable[[], bool]) -> None:
        if not reached():
            self._kick.set()

    def _confirmed(self, revision: int) -> None:
        self._present.confirmed = max(self._present.confirmed, revision)

    def _applied(self, error: EngineError | None) -> None:
        if error is not None:
            log.error("the replica could not take a batch, reading the log instead: %s", error)
            self._kick.set()
        else:
            self._show()

    def _show(self) -> None:
        if self._task is None:
            return
        self._present.advance()
        if self._engine.position().revision > self._present.confirmed:
            self._confirm()

    async def _run(self) -> None:
        failures = 0
        while True:
            connected = self._events is not None and self._events.connected
            with suppress(TimeoutError):
                async with asyncio.timeout(WITH_EVENTS if connected else WITHOUT_EVENTS):
                    await self._kick.wait()
            self._kick.clear()
            try:
                await self._engine.catch_up()
                check_finished(self._engine)
                self._show()
            except StoreUnfinished as error:
                self._failed(str(error))
                return
            except Diverged as error:
                self._failed(f"this node has seen what the engine has lost, it must start over: {error}")
                return
            except EngineError as error:
                self.engine_answers = False
                if failures == 0:
                    log.warning("the engine does not answer, trying on: %s", error)
                failures += 1
                await asyncio.sleep(min(0.05 * 2 ** min(failures, 6), MOST_BACK_OFF))
                self._kick.set()
                continue
            failures, self.engine_answers = 0, True
