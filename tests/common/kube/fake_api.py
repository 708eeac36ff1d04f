"""An apiserver of a few lines: answers what the test says, and tells what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from wharf.common.kube.client import KubeClient
from wharf.wire.client import HttpPool
from wharf.wire.client_shell import Target
from wharf.wire.web import Exchange
from wharf.wire.web_server import WebListener, WebServer


@dataclass
class Question:
    """One request, its body whole; `exchange` to answer a watch bit by bit."""

    exchange: Exchange
    body: bytes = b""

    @property
    def line(self) -> str:
        path = self.exchange.target.partition(b"?")[0]
        return f"{self.exchange.method.decode()} {path.decode()}"

    @property
    def query(self) -> dict[str, str]:
        words = parse_qs(self.exchange.target.partition(b"?")[2].decode(), keep_blank_values=True)
        return {name: values[0] for name, values in words.items()}

    def answer(self, document: Any, status: int = 200) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.exchange.respond(status, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))])
        self.exchange.send(body)
        self.exchange.finish()

    def begin(self) -> None:
        self.exchange.respond(200, [(b"content-type", b"application/json")])

    def event(self, kind: str, item: Any) -> None:
        self.exchange.send(json.dumps({"type": kind, "object": item}).encode() + b"\n")


@dataclass
class FakeApi:
    """Hands each whole request to `answer`, or keeps it in `questions` for the test to answer."""

    answer: Callable[[Question], None] | None = None
    questions: asyncio.Queue[Question] = field(default_factory=asyncio.Queue)
    lines: list[str] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, exchange: Exchange) -> None:
        question = Question(exchange)
        exchange.on_cancel = self.cancelled.set
        if not exchange.body_expected:
            self._asked(question)
            return

        def take(data: bytes) -> None:
            question.body += data
            exchange.take(len(data))

        exchange.on_end = lambda _: self._asked(question)
        exchange.on_data = take

    def _asked(self, question: Question) -> None:
        self.lines.append(question.line)
        if self.answer is not None:
            self.answer(question)
        else:
            self.questions.put_nowait(question)

    async def next(self, line: str) -> Question:
        async with asyncio.timeout(10):
            question = await self.questions.get()
        assert question.line == line
        return question


@contextlib.asynccontextmanager
async def serving(api: FakeApi, protocol: Any = "auto", headers: Iterable[Any] = ()) -> AsyncIterator[KubeClient]:
    """A client of this apiserver."""
    server = WebServer(api, [WebListener()])
    await server.start()
    pool = HttpPool(Target("127.0.0.1", server.ports[0], protocol=protocol))
    try:
        yield KubeClient(lambda: pool, lambda: tuple(headers))
    finally:
        await pool.close()
        await server.close()


def item(name: str, version: str, namespace: str = "ns") -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name, "resourceVersion": version}}


def listing(*items: dict[str, Any], version: str, more: str = "") -> dict[str, Any]:
    return {"items": list(items), "metadata": {"resourceVersion": version, "continue": more}}
