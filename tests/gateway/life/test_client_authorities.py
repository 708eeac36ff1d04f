"""A client CA that counts no more: connections verified against it are let go, whatever their clients do about it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from faults.raw import literal
from gateway.serve.kit import Stack, run, stack, until
from wharf.wire.h2 import PREFACE
from wharf.wire.web import Exchange
from wire.pair import raw_frame

HEADERS, SETTINGS, GOAWAY, END = 1, 4, 7, 5
FIELDS = ((b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/api/v1/pods"), (b":authority", b"localhost"))
HEAD = b"".join(literal(name, value) for name, value in FIELDS)
GET = b"GET /api/v1/pods HTTP/1.1\r\nHost: localhost\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connection(made: Stack, alpn: str) -> AsyncIterator[Streams]:
    """Alice's, of nobody's library."""
    context = ssl.create_default_context(cafile=made.pki.authority.ca_file)
    context.load_cert_chain(made.pki.alice.cert, made.pki.alice.key)
    context.set_alpn_protocols([alpn])
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port, ssl=context, server_hostname="localhost")
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def rotated(made: Stack, **spec: Any) -> dict[str, Any]:
    """The cluster with another client CA, that has not signed alice."""
    document = made.document(**spec)
    document["spec"]["serving"]["clientCA"] = {"file": made.pki.other.ca_file}
    return document


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, int]]:
    """(type, stream) of each until the end."""
    try:
        while True:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
            yield head[3], int.from_bytes(head[5:9], "big")
    except (asyncio.IncompleteReadError, ConnectionError):
        return


def test_edge_6_a_client_that_ignores_goaway_gets_no_new_stream() -> None:
    async def main() -> None:
        async with stack() as made, connection(made, "h2") as (reader, writer):
            made.servers[0].behave = lambda exchange: exchange.respond(200, [])  # it stays open
            writer.write(PREFACE + raw_frame(SETTINGS, 0, 0) + raw_frame(HEADERS, END, 1, HEAD))
            await until(lambda: made.servers[0].requests, "the first request is served")
            await made.apply(rotated(made))
            told = frames(reader)
            async for kind, _ in told:
                if kind == GOAWAY:
                    break
            async for kind, _ in told:
                if kind == GOAWAY:
                    break  # the second one: nothing after it counts
            for stream_id in range(3, 23, 2):
                writer.write(raw_frame(HEADERS, END, stream_id, HEAD))
            (seen,) = made.servers[0].requests
            seen.exchange.finish()
            assert not [stream_id async for kind, stream_id in told if kind == HEADERS and stream_id > 1]
            assert len(made.servers[0].requests) == 1
            assert reader.at_eof(), "its last stream was the connection's"

    run(main())


def test_edge_6_a_kept_alive_connection_is_closed_after_its_present_request() -> None:
    async def main() -> None:
        async with stack() as made, connection(made, "http/1.1") as (reader, writer):
            waiting: list[Exchange] = []
            made.servers[0].behave = waiting.append
            writer.write(GET)
            await until(lambda: waiting, "the request is served")
            await made.apply(rotated(made))
            writer.write(GET)
            waiting[0].respond(200, [(b"content-length", b"2")])
            waiting[0].send(b"ok")
            waiting[0].finish()
            said = await reader.read()
            assert said.count(b"HTTP/1.1 200 ") == 1
            assert b"connection: close\r\n" in said
            assert len(waiting) == 1

    run(main())


def test_edge_6_an_idle_kept_alive_connection_is_closed_at_once() -> None:
    async def main() -> None:
        async with stack() as made, connection(made, "http/1.1") as (reader, writer):
            writer.write(GET)
            assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200 ")
            await made.apply(rotated(made))
            assert await reader.read() == b""

    run(main())


def test_edge_6_a_cluster_that_comes_back_with_another_authority_trusts_no_old_connection() -> None:
    async def main() -> None:
        async with stack() as made, connection(made, "http/1.1") as (reader, writer):
            writer.write(GET)
            assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200 ")
            (made.clusters / "prod.yaml").unlink()
            await until(lambda: not made.gateway.registry.runtimes, "it is removed")
            await made.apply(rotated(made))
            assert await reader.read() == b""

    run(main())


def test_edge_6_a_handshake_that_was_under_way_while_the_authority_changed_comes_too_late() -> None:
    """It was begun, and the certificate verified, by the CA of before."""

    async def main() -> None:
        async with stack() as made:
            context = ssl.create_default_context(cafile=made.pki.authority.ca_file)
            context.load_cert_chain(made.pki.alice.cert, made.pki.alice.key)
            arrived, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(arrived, leaving, server_hostname="localhost")
            reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
            hello = _step(tls, leaving)
            writer.write(hello)
            while not (finished := _step(tls, leaving)):
                arrived.write(await reader.read(1 << 16))
            await made.apply(rotated(made))
            writer.write(finished)
            arrived.write(b"")
            with suppress(ConnectionError):
                assert await reader.read() == b"", "nobody to talk to"
            assert not made.gateway.server.connections
            writer.transport.abort()

    run(main())


def _step(tls: ssl.SSLObject, leaving: ssl.MemoryBIO) -> bytes:
    """Go on with the handshake; what it says."""
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return leaving.read()


def test_edge_6_other_clusters_and_clients_without_certificates_stay() -> None:
    async def main() -> None:
        async with stack() as made:
            await made.apply(made.document("other", hostnames=["other"]))
            kept = made.client(server_name="other", who=made.pki.alice)
            anonymous = made.client()
            assert (await made.ask(kept, host=b"other")).status == 200
            assert (await made.ask(anonymous)).status == 200
            before = set(made.gateway.server.connections)
            await made.apply(rotated(made))
            assert (await made.ask(kept, host=b"other")).status == 200
            assert (await made.ask(anonymous)).status == 200
            assert set(made.gateway.server.connections) == before

    run(main())
