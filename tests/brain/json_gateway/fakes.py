"""An HTTP exchange without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from wharf.wire.http import Headers, HttpRequest, HttpResponse
from wharf.wire.rpc import Peer


class FakeExchange:
    """One exchange; `room` is how many more pieces it takes before it is not writable, None: any number."""

    def __init__(
        self, path: str, body: Any = None, *, method: str = "POST", headers: Headers = (), peer: Peer | None = None
    ) -> None:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.request = HttpRequest(method, path, headers, data, peer or Peer("127.0.0.1:1"))
        self.done = False
        self.on_cancel: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self.room: int | None = None
        self.status = 0
        self.headers: Headers = ()
        self.body = b""
        self.said = asyncio.Event()

    @property
    def writable(self) -> bool:
        return self.room is None or self.room > 0

    def respond(self, response: HttpResponse) -> None:
        self.open(response.status, response.headers)
        self.send(response.body)
        self.finish()

    def open(self, status: int, headers: Headers) -> None:
        if not self.done:
            assert self.status == 0
            self.status, self.headers = status, headers
            self.said.set()

    def send(self, data: bytes) -> None:
        if not self.done:
            self.body += data
            self.room = None if self.room is None else self.room - 1
            self.said.set()

    def finish(self) -> None:
        self.done = True
        self.said.set()

    # --- the client's side

    def cancel(self) -> None:
        """The client goes away."""
        self.done = True
        if self.on_cancel is not None:
            self.on_cancel()

    def drain(self) -> None:
        """The reader has caught up."""
        self.room = None
        if self.on_drain is not None:
            self.on_drain()

    async def until(self, happened: Callable[[], object]) -> None:
        """Wait for something to be sent until `happened` is true."""
        async with asyncio.timeout(10):
            while not happened():
                self.said.clear()
                await self.said.wait()

    async def ended(self) -> None:
        await self.until(lambda: self.done)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of a stream."""
        return [json.loads(line) for line in self.body.splitlines()]
