"""Watches on a follower are created after a read index, so that permissions revoked before the request count.

Only create requests wait. Messages behind a waiting one keep their order. What a stream holds is bounded: beyond
`MAX_HELD` messages nothing more is read from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError
from wharf.brain.api.pb import rpc
from wharf.wire.rpc import Call

MAX_HELD: Final = 100  # messages of one stream


class WatchBarrier:
    """The messages of one Watch stream, between the transport and the handler."""

    def __init__(self, call: Call, read_index: Callable[[Callable[[], None]], None]) -> None:
        """`read_index(then)` calls `then` once this node shows everything acknowledged before; it ends the call itself
        when that cannot be had in time.
        """
        self._call = call
        self._read_index = read_index
        self._take = call.on_message
        self._held: deque[bytes] = deque()

    def install(self) -> None:
        if self._take is not None:
            self._call.on_message = self._on_message

    def _on_message(self, data: bytes) -> None:
        if self._held or _creates(data):
            self._held.append(data)
            if len(self._held) == 1:
                self._wait()
            elif len(self._held) >= MAX_HELD:
                self._call.pause_reading()
        else:
            self._give(data)

    def _wait(self) -> None:
        count = len(self._held)  # what arrives later needs a read index of its own
        self._read_index(lambda: self._release(count))

    def _release(self, count: int) -> None:
        full = len(self._held) >= MAX_HELD
        for _ in range(count):
            if self._call.done:
                return
            self._give(self._held[0])
            self._held.popleft()
        if full and not self._call.done:
            self._call.resume_reading()
        if self._held:
            self._wait()

    def _give(self, data: bytes) -> None:
        if self._take is not None:
            self._take(data)


def _creates(data: bytes) -> bool:
    """Whether a WatchRequest creates a watch. The handler refuses malformed bytes."""
    try:
        return rpc.WatchRequest.FromString(data).WhichOneof("request_union") == "create_request"
    except DecodeError:
        return False
