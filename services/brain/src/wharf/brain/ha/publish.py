"""What the leader tells its followers: every batch, once it is shown here.

Not earlier: a follower that showed a batch before the leader does would let a client see it there and then not here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from wharf.brain.engine.delta import Delta, encode_delta

MOST_HELD = 1024  # batches; a leader shows each before it hands over the next


class Bus(Protocol):
    """NATS, or nothing."""

    @property
    def connected(self) -> bool: ...
    @property
    def max_payload(self) -> int: ...
    def publish(self, subject: str, data: bytes) -> None: ...


class Publisher:
    def __init__(self, bus: Bus | None, subject: str, shown: Callable[[], int]) -> None:
        """`shown`: the revision this node shows."""
        self._bus, self._subject, self._shown = bus, subject, shown
        self._held: deque[Delta] = deque(maxlen=MOST_HELD)
        self._on = False
        self.published = 0

    @property
    def connected(self) -> bool:
        return self._bus is not None and self._bus.connected

    def start(self) -> None:
        self._held.clear()
        self._on = True

    def stop(self) -> None:
        self._on = False
        self._held.clear()

    def landed(self, delta: Delta) -> None:
        """The engine has a batch of ours."""
        if self._on and self._bus is not None:
            self._held.append(delta)

    def settled(self) -> None:
        """This node shows what has landed. Followers hear of it after everybody here, or soon if nobody does."""
        if self._held and self._held[-1].base == self._held[-1].revision:  # it changes no key
            asyncio.get_running_loop().call_soon(self._flush)

    def flush(self, revision: int) -> None:
        """`revision` is shown."""
        bus = self._bus
        while self._held and self._held[0].revision <= revision:
            delta = self._held.popleft()
            if self._on and bus is not None:
                bus.publish(self._subject, encode_delta(delta, bus.max_payload))
                self.published += 1

    def _flush(self) -> None:
        self.flush(self._shown())
