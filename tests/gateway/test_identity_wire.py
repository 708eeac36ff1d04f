"""The same over sockets: bytes as a client writes them, and what a server reads behind the gateway's filters."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field

import pytest
from gateway.authn_kit import cluster
from wharf.common.clock import FakeClock
from wharf.gateway.answers import Answer, send
from wharf.gateway.authn import Authenticated, Authenticator
from wharf.gateway.identity import STRIPPED_NAMES, STRIPPED_PREFIXES
from wharf.wire._http import HeaderFilter
from wharf.wire.client import HttpPool, fetch
from wharf.wire.client_shell import ProtocolName
from wharf.wire.relay import REQUEST_ONLY_HERE, Relay
from wharf.wire.web import Exchange, Header
from wire.web_net import pooled, web

REQUESTS = HeaderFilter((*STRIPPED_NAMES, *REQUEST_ONLY_HERE), STRIPPED_PREFIXES)
RESPONSES = HeaderFilter()
VERSIONS: tuple[ProtocolName, ...] = ("http1", "h2")
NAMES = (
    *("X-Remote-User", "x-REMOTE-group", "X_Remote_User", "X-Remote_Uid", "x-remote-extra-Scopes", "X-Remote-"),
    *("Impersonate-User", "IMPERSONATE-GROUP", "impersonate-uid", "Impersonate-Extra-A%2fB", "X-Forwarded-Client-Cert"),
    *("Authorization", "Accept", "X-Kept"),
)
CONNECTIONS = (
    "x-remote-user",
    "X-Remote-User , x-remote-group,, keep-alive",
    "impersonate-user , Impersonate-Group",
    "\tclose,authorization",
)
VALUES = ("system:masters", "admin", "Bearer secret", "a b", "é")


@dataclass
class Upstream:
    """Answers everything, and remembers what it was told."""

    seen: list[list[Header]] = field(default_factory=list)

    def __call__(self, exchange: Exchange) -> None:
        self.seen.append(exchange.headers)
        exchange.respond(200, [(b"content-length", b"0")], end=True)


@dataclass
class Gateway:
    """Authenticates, filters, adds, relays; nothing else."""

    pool: HttpPool
    authenticator: Authenticator = field(default_factory=lambda: Authenticator(cluster(), FakeClock()))
    outcomes: list[Authenticated] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __call__(self, exchange: Exchange) -> None:
        outcome = self.authenticator.authenticate(exchange)
        if isinstance(outcome, Answer):
            send(exchange, outcome)
            return
        assert isinstance(outcome, Authenticated)
        self.outcomes.append(outcome)
        task = asyncio.get_running_loop().create_task(self._relay(exchange, outcome))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _relay(self, exchange: Exchange, outcome: Authenticated) -> None:
        relay = Relay(exchange, request_filter=REQUESTS, response_filter=RESPONSES, on_done=lambda *_: None)
        relay.start(await self.pool.connect(), b"upstream", outcome.headers, scheme=b"http")


def tricks(dice: random.Random) -> list[tuple[str, str]]:
    """Headers of somebody who would like to be somebody else."""
    headers = [(dice.choice(NAMES), dice.choice(VALUES)) for _ in range(dice.randrange(6))]
    headers += [("Connection", value) for value in dice.sample(CONNECTIONS, dice.randrange(3))]
    dice.shuffle(headers)
    return headers


async def ask_http1(port: int, headers: list[tuple[str, str]]) -> None:
    """Bytes of our own; the answer is read to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    writer.write(f"GET /api/v1/pods HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n".encode())
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def ask_http2(pool: HttpPool, headers: list[tuple[str, str]]) -> None:
    fields = [(name.lower().encode(), value.encode()) for name, value in headers if name != "Connection"]
    await fetch(pool, b"GET", b"/api/v1/pods", fields)


def identity_of(headers: list[Header]) -> list[Header]:
    """Whatever could be taken for an identity, by whom ever."""
    return [item for item in headers if item[0].lower().replace(b"_", b"-").startswith(STRIPPED_PREFIXES)]


@pytest.mark.parametrize(("down", "up"), [*itertools.product(VERSIONS, VERSIONS)])
def test_edge_01_02_what_a_server_is_told_about_identity_is_exactly_ours(down: ProtocolName, up: ProtocolName) -> None:
    async def main() -> None:
        dice = random.Random(7)
        upstream = Upstream()
        async with web(upstream) as server, pooled(server.ports[0], up) as pool:
            gateway = Gateway(pool)
            async with web(gateway) as front, pooled(front.ports[0], "h2") as clients:
                for _ in range(200):
                    headers = tricks(dice)
                    if down == "http1":
                        await ask_http1(front.ports[0], headers)
                    else:
                        await ask_http2(clients, headers)
        assert len(upstream.seen) == len(gateway.outcomes) > 50
        for seen, outcome in zip(upstream.seen, gateway.outcomes, strict=True):
            assert identity_of(seen) == list(outcome.headers)
            assert not any(name in STRIPPED_NAMES for name, _ in seen)

    asyncio.run(main())


def test_edge_02_a_connection_header_in_http2_is_a_protocol_error() -> None:
    async def main() -> None:
        upstream = Upstream()
        async with web(upstream) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
            block = b"\x82\x86\x84\x01\x01x" + literal(b"connection", b"x-remote-user")  # GET http / authority x
            writer.write(frame(1, 0x5, 1, block))
            async with asyncio.timeout(10):
                while True:
                    kind, stream, payload = await read_frame(reader)
                    if kind == 3:
                        break
            assert (stream, payload) == (1, b"\0\0\0\1")
            assert not upstream.seen
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header field without indexing, both parts short."""
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    head = await reader.readexactly(9)
    return head[3], int.from_bytes(head[5:]), await reader.readexactly(int.from_bytes(head[:3]))


def test_edge_03_nothing_is_forwarded_for_whom_no_header_can_name() -> None:
    async def main() -> None:
        upstream = Upstream()
        async with web(upstream) as server, pooled(server.ports[0], "h2") as pool, web(Gateway(pool)) as front:
            await ask_http1(front.ports[0], [("Impersonate-User", "a\x01b")])
            await ask_http1(front.ports[0], [("Impersonate-Group", "system:masters")])
            await ask_http1(front.ports[0], [("Impersonate-Whatever", "x")])
            async with pooled(front.ports[0], "h2") as clients:
                answer = await fetch(clients, b"GET", b"/", [(b"impersonate-user", b"\xff")])
                assert answer.status == 400
        assert not upstream.seen

    asyncio.run(main())
