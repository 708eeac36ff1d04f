"""A Call without a network: what handlers say to it is kept for the test to look at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeVar

from google.protobuf.message import Message
from wharf.wire.rpc import Call, Code, Metadata, Method, Peer

M = TypeVar("M", bound=Message)


class FakeCall:
    """One call. `writable` can be held False to play a slow reader."""

    def __init__(self, path: str = "/test/Test", deadline: float | None = None) -> None:
        self.path = path
        self.peer = Peer("127.0.0.1:1")
        self.deadline = deadline
        self.done = False
        self.on_message: Callable[[bytes], None] | None = None
        self.on_half_close: Callable[[], None] | None = None
        self.on_cancel: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self.metadata: Metadata = ()
        self.buffered = 0
        self.writable = True
        self.reading = True
        self.sent: list[bytes] = []
        self.code: int | None = None
        self.text = ""
        self.ended = asyncio.Event()
        self.said = asyncio.Event()

    def reply(self, message: bytes) -> None:
        self.send(message)
        self.finish()

    def reply_parts(self, length: int, parts: Iterator[bytes]) -> None:
        message = b"".join(parts)
        assert len(message) == length
        self.reply(message)

    def send(self, message: bytes) -> None:
        if not self.done:
            self.sent.append(message)
            self.said.set()

    def finish(self, code: int = 0, message: str = "", trailing: Metadata = ()) -> None:
        if not self.done:
            self.done = True
            self.code, self.text = int(code), message
            self.ended.set()
            self.said.set()

    def send_initial_metadata(self, metadata: Metadata) -> None: ...

    def set_trailing_metadata(self, metadata: Metadata) -> None: ...

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    # --- the client's side ---

    def cancel(self) -> None:
        """The client goes away."""
        if not self.done:
            self.done = True
            if self.on_cancel is not None:
                self.on_cancel()

    def drain(self) -> None:
        """The reader has caught up."""
        self.writable = True
        if self.on_drain is not None:
            self.on_drain()

    def say(self, message: Message) -> None:
        """One request message of a stream."""
        assert self.on_message is not None
        self.on_message(message.SerializeToString())

    async def wait_sent(self, count: int) -> list[bytes]:
        """The first `count` messages, as soon as they are there."""
        while len(self.sent) < count:
            assert not self.done, (self.code, self.text)
            self.said.clear()
            await self.said.wait()
        return self.sent[:count]


def as_call(call: FakeCall) -> Call:
    return call


class Client:
    """Calls a method table directly, always with the same metadata and from the same peer."""

    def __init__(self, methods: list[Method], metadata: Metadata = (), peer: Peer | None = None) -> None:
        self.methods = {method.path: method for method in methods}
        self._metadata = metadata
        self._peer = peer

    def start(self, path: str, request: Message | bytes) -> FakeCall:
        """Begin a call that has its whole request."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        call = self.open(path) if self.methods[path].kind.value == "stream" else self._call(path)
        if call.on_message is not None:
            call.on_message(data)
            if call.on_half_close is not None:
                call.on_half_close()
        else:
            self.methods[path].handler(data, call)  # type: ignore[call-arg, arg-type]
        return call

    def open(self, path: str) -> FakeCall:
        call = self._call(path)
        self.methods[path].handler(call)  # type: ignore[call-arg, arg-type]
        return call

    def _call(self, path: str) -> FakeCall:
        call = FakeCall(path)
        call.metadata = self._metadata
        call.peer = self._peer or call.peer
        return call

    async def ask(self, path: str, request: Message | bytes, kind: type[M]) -> M:
        """The answer of a unary call that goes well."""
        call = self.start(path, request)
        await call.ended.wait()
        assert (call.code, call.text) == (Code.OK, "")
        return kind.FromString(call.sent[0])

    async def refused(self, path: str, request: Message | bytes) -> tuple[int, str]:
        """(code, text) of a call that does not."""
        call = self.start(path, request)
        await call.ended.wait()
        assert call.code is not None
        return call.code, call.text
