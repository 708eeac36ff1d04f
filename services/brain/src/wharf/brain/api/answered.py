"""A unary call whose answer goes to a callback: what a handler sees when its question came from another node, or was
one message of a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from wharf.wire.rpc import Code, Metadata, Peer

INSIDE: Final = Peer("inside")


class Reply(NamedTuple):
    code: int
    text: str
    response: bytes


class Caller(NamedTuple):
    """The user of a request, as the node that received the request from its client has authenticated it."""

    user: str | None  # None: the client has sent neither a token nor a certificate that counts
    auth_version: int  # of the users and roles (`AuthState.version`) that the node authenticated with


class AnsweredCall:
    """See `wharf.wire.rpc.Call`. Exactly one reply, unless `cancel` comes first. `caller` is set on a request that
    another node forwards; it is None where the call's own metadata and peer say who calls.
    """

    __slots__ = ("_answer", "caller", "deadline", "done", "metadata", "on_cancel", "on_drain", "on_half_close",
                 "on_message", "path", "peer")  # fmt: skip

    buffered = 0
    writable = True

    def __init__(
        self,
        path: str,
        answer: Callable[[Reply], None],
        metadata: Metadata = (),
        peer: Peer = INSIDE,
        caller: Caller | None = None,
    ) -> None:
        self.path = path
        self.peer = peer
        self.caller = caller
        self.deadline: float | None = None
        self.done = False
        self.metadata = metadata
        self.on_message: Callable[[bytes], None] | None = None
        self.on_half_close: Callable[[], None] | None = None
        self.on_cancel: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self._answer = answer

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        if not self.done:
            self.done = True
            if self.on_cancel is not None:
                self.on_cancel()

    def reply(self, message: bytes) -> None:
        self._end(Reply(0, "", message))

    def reply_parts(self, length: int, parts: Iterator[bytes]) -> None:
        self._end(Reply(0, "", b"".join(parts)))

    def send(self, message: bytes) -> None:
        self._end(Reply(0, "", message))

    def finish(self, code: int = 0, message: str = "", trailing: Metadata = ()) -> None:
        self._end(Reply(code, message, b"") if code else Reply(Code.INTERNAL, "no answer", b""))

    def send_initial_metadata(self, metadata: Metadata) -> None:
        """There is nobody to see it."""

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """As above."""

    def pause_reading(self) -> None:
        """There is one message, and it is here."""

    def resume_reading(self) -> None:
        """As above."""

    def _end(self, reply: Reply) -> None:
        if not self.done:
            self.done = True
            self._answer(reply)
