"""Upgrades through a whole gateway: exec by SPDY and by WebSocket, as bytes."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
from gateway.serve.kit import Stack, answer, run, stack, until
from wharf.gateway.limits.upgrade_permits import PERMITS
from wharf.wire.web import Exchange, Tunnel

EXEC = b"/api/v1/namespaces/a/pods/b/exec?command=sh&stdin=true"


class Raw:
    """A client that writes its own bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, made: Stack, certificate: bool = True) -> Raw:
        context = ssl.create_default_context(cadata=made.pki.ca.decode())
        context.set_alpn_protocols(["http/1.1"])
        if certificate:
            context.load_cert_chain(made.pki.alice.cert, made.pki.alice.key)
        raw = cls(*await asyncio.open_connection("127.0.0.1", made.port, ssl=context, server_hostname="localhost"))
        made.down.callback(raw.writer.close)
        return raw

    def send(self, protocol: bytes, method: bytes, extra: bytes = b"", after: bytes = b"") -> None:
        self.writer.write(
            method + b" " + EXEC + b" HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: " + protocol
            + b"\r\n" + extra + b"\r\n" + after
        )  # fmt: skip

    async def ask(self, protocol: bytes, method: bytes, extra: bytes = b"", after: bytes = b"") -> bytes:
        """The answer's head."""
        self.send(protocol, method, extra, after)
        return await self.reader.readuntil(b"\r\n\r\n")


def echo(tunnel: Tunnel) -> None:
    tunnel.on_data = tunnel.write
    tunnel.on_eof = tunnel.close


def agree(protocol: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()):  # type: ignore[no-untyped-def]
    def behave(exchange: Exchange) -> None:
        echo(exchange.upgrade([(b"upgrade", protocol), *headers]))

    return behave


@pytest.mark.parametrize(("protocol", "method"), [(b"SPDY/3.1", b"POST"), (b"websocket", b"GET")])
def test_edge_30_an_upgrade_is_relayed_as_bytes(protocol: bytes, method: bytes) -> None:
    async def main() -> None:
        async with stack() as made:
            made.servers[0].behave = agree(protocol)
            raw = await Raw.connect(made)
            head = await raw.ask(protocol, method)
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"upgrade: " + protocol.lower() in head.lower()
            payload = bytes(range(256)) * 4096
            raw.writer.write(payload)
            assert await raw.reader.readexactly(len(payload)) == payload
            seen = made.servers[0].requests[0]
            assert (seen.method, seen.target) == (method, EXEC)
            assert seen.values(b"x-remote-user") == [b"alice"]
            raw.writer.close()
            await until(lambda: not made.gateway.handler.active)
            await until(lambda: made.servers[0].web.open_exchanges == 0)

    run(main())


def test_edge_31_repeated_header_lines_stay_lines_in_their_order() -> None:
    async def main() -> None:
        async with stack() as made:
            made.servers[0].behave = agree(b"SPDY/3.1", ((b"x-stream-protocol-version", b"v4.channel.k8s.io"),))
            raw = await Raw.connect(made)
            versions = [b"v4.channel.k8s.io", b"v3.channel.k8s.io", b"v2.channel.k8s.io"]
            lines = b"".join(b"X-Stream-Protocol-Version: " + version + b"\r\n" for version in versions)
            head = await raw.ask(b"SPDY/3.1", b"POST", lines)
            assert made.servers[0].requests[0].values(b"x-stream-protocol-version") == versions
            assert b"x-stream-protocol-version: v4.channel.k8s.io\r\n" in head.lower()

    run(main())


def test_edge_32_no_byte_is_lost_around_the_switch() -> None:
    async def main() -> None:
        async with stack() as made:

            def behave(exchange: Exchange) -> None:
                tunnel = exchange.upgrade([(b"upgrade", b"SPDY/3.1")])
                tunnel.write(b"first words")
                echo(tunnel)

            made.servers[0].behave = behave
            raw = await Raw.connect(made)
            await raw.ask(b"SPDY/3.1", b"POST", after=b"early bytes")
            assert await raw.reader.readexactly(22) == b"first wordsearly bytes"

    run(main())


@pytest.mark.parametrize(("status", "body"), [(400, b"bad"), (403, b'{"kind":"Status","code":403}'), (500, b"no")])
def test_edge_30_a_refusal_comes_back_word_for_word(status: int, body: bytes) -> None:
    async def main() -> None:
        async with stack() as made:
            made.servers[0].behave = lambda exchange: answer(exchange, body, status, [(b"x-why", b"because")])
            raw = await Raw.connect(made)
            head = await raw.ask(b"websocket", b"GET")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"x-why: because" in head
            assert await raw.reader.readexactly(len(body)) == body
            await until(lambda: not made.gateway.handler.active)

    run(main())


def test_edge_33_exec_is_one_thing_for_rules_by_either_protocol() -> None:
    async def main() -> None:
        policies = [
            {"name": "no-exec", "rules": [{"verbs": ["create"], "resources": ["pods/exec"]}], "deny": {"status": 403}},
            {"name": "rest"},
        ]
        async with stack(policies=policies) as made:
            for protocol, method in ((b"SPDY/3.1", b"POST"), (b"websocket", b"GET")):
                raw = await Raw.connect(made)
                assert (await raw.ask(protocol, method)).startswith(b"HTTP/1.1 403 ")
            assert made.servers[0].requests == []

    run(main())


def test_edge_14_an_upgrade_has_its_own_connection_with_the_same_credential() -> None:
    async def main() -> None:
        async with stack() as made:
            await made.ask(made.client(made.pki.alice))
            made.servers[0].behave = agree(b"SPDY/3.1")
            raw = await Raw.connect(made)
            await raw.ask(b"SPDY/3.1", b"POST")
            plain, upgraded = (seen.exchange.connection for seen in made.servers[0].requests)
            assert (plain.version, upgraded.version) == (2, 1)
            names = {one.peer.certificate.common_name for one in (plain, upgraded) if one.peer.certificate}
            assert names == {"front-proxy-client"}

    run(main())


def test_edge_11_a_token_among_the_subprotocols_goes_where_nothing_vouches() -> None:
    async def main() -> None:
        async with stack() as made:
            made.servers[0].behave = agree(b"websocket")
            lines = (
                b"Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.dG9r, v5.channel.k8s.io\r\n"
                b"Sec-WebSocket-Key: a\r\n"
            )
            raw = await Raw.connect(made, certificate=False)
            await raw.ask(b"websocket", b"GET", lines)
            seen = made.servers[0].requests[0]
            assert seen.values(b"sec-websocket-protocol") == [
                b"base64url.bearer.authorization.k8s.io.dG9r, v5.channel.k8s.io"
            ]
            assert seen.exchange.connection.peer.certificate is None
            raw = await Raw.connect(made)
            await raw.ask(b"websocket", b"GET", lines)
            seen = made.servers[0].requests[1]
            assert seen.values(b"sec-websocket-protocol") == [b"v5.channel.k8s.io"]
            assert seen.values(b"x-remote-user") == [b"alice"]

    run(main())


def test_edge_36_an_upgraded_connection_lasts_until_the_end_of_the_drain() -> None:
    async def main() -> None:
        async with stack(flags={"drain_timeout": 0.5}) as made:
            made.servers[0].behave = agree(b"SPDY/3.1")
            raw = await Raw.connect(made)
            await raw.ask(b"SPDY/3.1", b"POST")
            draining = asyncio.create_task(made.gateway.drain())
            await until(lambda: not made.gateway.server.listening)
            raw.writer.write(b"still here")
            assert await raw.reader.readexactly(10) == b"still here"
            await draining
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await raw.reader.readexactly(1)

    run(main())


def test_an_unknown_upgrade_is_an_ordinary_request() -> None:
    async def main() -> None:
        async with stack() as made:
            raw = await Raw.connect(made)
            assert (await raw.ask(b"h2c", b"GET")).startswith(b"HTTP/1.1 200 ")
            names = {name for name, _ in made.servers[0].requests[0].headers}
            assert not names & {b"upgrade", b"connection", b"http2-settings"}

    run(main())


def limited(**schema: Any) -> dict[str, Any]:
    """The parts of a document that limit all requests by one schema."""
    return {
        "policies": [{"name": "all", "flowControl": ["all"]}],
        "flowControl": {"schemas": [{"name": "all", "watchClass": "Same", **schema}]},
    }


async def unauthenticated(made: Stack, number: int) -> list[Raw]:
    """Upgrades of clients without a credential, sent."""
    raws = [await Raw.connect(made, certificate=False) for _ in range(number)]
    for raw in raws:
        raw.send(b"websocket", b"GET")
    return raws


def test_upgrades_that_wait_for_a_permit_hold_no_place_that_a_watch_needs() -> None:
    async def main() -> None:
        async with stack(timeouts={"connect": 3}, **limited(maxInFlight=PERMITS + 1)) as made:
            held: list[Exchange] = []
            server, runtime = made.servers[0], made.gateway.registry.runtimes["prod"]
            server.behave = held.append
            raws = await unauthenticated(made, PERMITS + 4)
            await until(lambda: len(held) == PERMITS and len(made.gateway.handler.active) >= PERMITS)
            [endpoint] = runtime.members.endpoints
            assert endpoint.long.in_flight == PERMITS
            assert runtime.limiter.counts()[0].in_flight == PERMITS
            opened = await made.open(made.client(made.pki.alice), b"/api/v1/pods?watch=1")
            await until(lambda: len(held) == PERMITS + 1, "the watch has a place")
            answer(held[-1])
            await until(lambda: opened.status == 200)
            heads = [asyncio.create_task(raw.reader.readuntil(b"\r\n\r\n")) for raw in raws]
            await until(lambda: sum(head.done() for head in heads) == 4, "those that wait are refused in time")
            for head in heads:
                if head.done():
                    assert head.result().startswith(b"HTTP/1.1 429 ")
                    assert b"retry-after: 1\r\n" in head.result()
            for exchange in held[:-1]:
                answer(exchange, b"no", 403)
            await asyncio.gather(*heads)
            await until(lambda: not made.gateway.handler.active)
            assert runtime.upgrade_permits.free == PERMITS
            assert (endpoint.in_flight, runtime.limiter.counts()[0].in_flight) == (0, 0)

    run(main())


def test_upgrades_that_wait_for_flow_control_hold_no_permit() -> None:
    async def main() -> None:
        async with stack(**limited(maxInFlight=1, waitSeconds=30)) as made:
            held: list[Exchange] = []
            server, runtime = made.servers[0], made.gateway.registry.runtimes["prod"]
            server.behave = held.append
            raws = await unauthenticated(made, 4)
            await until(lambda: runtime.limiter.counts()[0].queued == 3 and len(held) == 1)
            assert runtime.upgrade_permits.free == PERMITS - 1
            server.behave = lambda exchange: answer(exchange, b"no", 403)
            answer(held[0], b"no", 403)
            for raw in raws:
                assert (await raw.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
            await until(lambda: runtime.upgrade_permits.free == PERMITS)

    run(main())
