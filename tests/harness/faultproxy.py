"""A TCP proxy whose links can be cut, frozen, slowed and garbled: the network between any two parts of a system.

    with FaultProxy() as proxy:
        port = proxy.add("n0.redis", redis.port)      # give this port to the node instead of Redis' own
        proxy.pause("n0.redis")                       # a partition: nothing passes, nothing is closed
        proxy.heal("n0.redis")

It is a process of its own, so that what passes through does not wait for the test's own threads. It takes commands as
JSON lines on its standard input, and ends with it: a test that dies leaves no proxy behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvloop

from harness.natsfaults import NatsFaults, Rates

LOOPBACK = "127.0.0.1"
DIRECTIONS = ("up", "down")  # from whoever connects to the target, and back
_CHUNK = 1 << 16
_END_SECONDS = 10.0


@dataclass(eq=False)
class Link:
    """One listening port and where it leads."""

    host: str
    port: int
    delay: float = 0.0  # seconds each chunk is late, per direction
    refusing: bool = False
    left: dict[str, int] = field(default_factory=dict)  # bytes that may still pass before all is reset
    rates: Rates | None = None
    opened: int = 0
    passed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DIRECTIONS, 0))
    faults: list[NatsFaults] = field(default_factory=list)
    open: dict[str, asyncio.Event] = field(default_factory=lambda: {name: asyncio.Event() for name in DIRECTIONS})
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def listen(self) -> int:
        for gate in self.open.values():
            gate.set()
        server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        return int(server.sockets[0].getsockname()[1])

    def reset(self) -> None:
        """Break every connection, as a firewall or a dying router would."""
        for writer in self.writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.writers.add(writer)
        try:
            for gate in self.open.values():
                await gate.wait()
            if not self.refusing:
                await self._join(reader, writer)
        except OSError:
            pass  # a side that is gone: the other is told below
        finally:
            self.writers.discard(writer)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self.host, self.port)
        self.writers.add(back)
        pumps = [
            asyncio.ensure_future(self._pump("up", reader, back, None)),
            asyncio.ensure_future(self._pump("down", there, writer, self._garbling())),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for side in (writer, back):
                with contextlib.suppress(OSError):
                    await side.drain()
                    side.close()
        finally:
            self.writers.discard(back)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def _garbling(self) -> NatsFaults | None:
        if self.rates is None:
            return None
        self.faults.append(NatsFaults(self.rates, seed=len(self.faults)))
        return self.faults[-1]

    async def _pump(
        self, way: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter, garbling: NatsFaults | None
    ) -> None:
        while True:
            try:
                data = await source.read(_CHUNK)
            except OSError:
                data = b""
            await self.open[way].wait()  # an end of the stream is a message, too
            if self.delay:
                await asyncio.sleep(self.delay)
            if not data:
                return
            if way in self.left:
                data = data[: self.left[way]]
                self.left[way] -= len(data)
            self.passed[way] += len(data)
            sink.write(garbling.feed(data) if garbling else data)
            await sink.drain()
            if self.left.get(way) == 0:
                del self.left[way]
                self.reset()
                return

    def do(self, what: str, **told: Any) -> dict[str, object]:
        """One command; what it answers."""
        ways = DIRECTIONS if told.get("way", "both") == "both" else (told["way"],)
        match what:
            case "pause":
                for way in ways:
                    self.open[way].clear()
            case "cut":
                self.refusing = True
                self.reset()
            case "reset":
                self.reset()
            case "delay":
                self.delay = told["seconds"]
            case "limit":
                self.left = dict.fromkeys(ways, told["size"])
            case "garble":  # connections that are open are not garbled: the caller resets them
                self.rates = Rates(told["drop"], told["duplicate"], told["reorder"])
            case "heal":
                self.refusing, self.delay, self.rates = False, 0.0, None
                self.left.clear()
                for gate in self.open.values():
                    gate.set()
            case "stats":
                pass
            case _:
                raise ValueError(f"no command is called {what}")
        counted = {
            name: sum(getattr(one, name) for one in self.faults) for name in ("dropped", "duplicated", "reordered")
        }
        return {"opened": self.opened, "live": len(self.writers), **self.passed, **counted}


async def serve(read_line: Callable[[], Any], answer: Callable[[dict[str, object]], None]) -> None:
    """Take commands until the input ends."""
    links: dict[str, Link] = {}
    while line := await read_line():
        told = json.loads(line)
        name, what = told.pop("link"), told.pop("do")
        try:
            if what == "add":
                links[name] = Link(told["host"], told["port"])
                answer({"port": await links[name].listen()})
            else:
                answer(links[name].do(what, **told))
        except (LookupError, ValueError) as wrong:
            answer({"error": repr(wrong)})


async def main() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await serve(reader.readline, lambda told: print(json.dumps(told), flush=True))


class FaultProxy:
    """The process, and its links by name. Callable from any thread."""

    def start(self) -> Self:
        words = [sys.executable, "-m", "harness.faultproxy"]
        tests = Path(__file__).resolve().parent.parent
        self._child = subprocess.Popen(words, cwd=tests, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lock = threading.Lock()
        return self

    def close(self) -> None:
        """End it; every connection through it breaks."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        try:
            self._child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(self, link: str, port: int, host: str = LOOPBACK) -> int:
        """A new link; the port that leads to `port`."""
        return int(self._ask(link, "add", host=host, port=port)["port"])

    def pause(self, link: str, way: str = "both") -> None:
        """Let nothing pass ("up": to the target, "down": from it), and close nothing. Data wait and come later."""
        self._ask(link, "pause", way=way)

    def cut(self, link: str) -> None:
        """Reset all connections and every new one."""
        self._ask(link, "cut")

    def reset(self, link: str) -> None:
        """Reset all connections; new ones are welcome."""
        self._ask(link, "reset")

    def delay(self, link: str, seconds: float) -> None:
        """Let every chunk come so much later."""
        self._ask(link, "delay", seconds=seconds)

    def limit(self, link: str, size: int, way: str = "both") -> None:
        """Reset all connections once `size` more bytes have passed."""
        self._ask(link, "limit", size=size, way=way)

    def garble_nats(self, link: str, *, drop: float = 0.0, duplicate: float = 0.0, reorder: float = 0.0) -> None:
        """Do so to messages from a NATS server, on connections that are made from now on; those that are open end."""
        self._ask(link, "garble", drop=drop, duplicate=duplicate, reorder=reorder)
        self.reset(link)

    def heal(self, link: str) -> None:
        """Undo everything; what waited passes. Connections that garble go on until they end."""
        self._ask(link, "heal")

    def stats(self, link: str) -> dict[str, int]:
        """Connections opened and live, bytes passed up and down, messages dropped, duplicated and reordered."""
        return self._ask(link, "stats")

    def _ask(self, link: str, what: str, **told: object) -> dict[str, Any]:
        with self._lock:
            assert self._child.stdin is not None
            assert self._child.stdout is not None
            self._child.stdin.write(json.dumps({"link": link, "do": what, **told}) + "\n")
            self._child.stdin.flush()
            answer = self._child.stdout.readline()
        assert answer, f"the proxy died of {what} on {link}"
        parsed: dict[str, Any] = json.loads(answer)
        if "error" in parsed:
            raise ValueError(f"{what} on {link}: {parsed['error']}")
        return parsed


if __name__ == "__main__":
    uvloop.run(main())
