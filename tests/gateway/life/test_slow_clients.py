"""Clients that take their time: every stage of a connection has a bound, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import replace

import pytest
from faults.raw import literal
from gateway.serve.kit import Stack, run, stack
from wharf.gateway.life import local
from wharf.wire.h2 import PREFACE
from wharf.wire.web_server import WEB_LIMITS
from wire.pair import raw_frame

SHORT = 0.4  # seconds
HEAD = b"POST /api/v1/pods HTTP/1.1\r\nHost: localhost\r\n"
BLOCK = literal(b":method", b"GET")


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = replace(
        WEB_LIMITS,
        preface_timeout=SHORT,
        handshake_timeout=SHORT,
        block_timeout=SHORT,
        http1_idle_timeout=SHORT,
        idle_timeout=SHORT,
    )
    monkeypatch.setattr(local, "WEB_LIMITS", limits)


async def connect(made: Stack, alpn: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not alpn:
        return await asyncio.open_connection("127.0.0.1", made.port)
    context = ssl.create_default_context(cafile=made.pki.authority.ca_file)
    context.set_alpn_protocols([alpn])
    return await asyncio.open_connection("127.0.0.1", made.port, ssl=context, server_hostname="localhost")


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    """One byte, a pause, one byte, …"""
    for at in range(len(data)):
        writer.write(data[at : at + 1])
        await asyncio.sleep(SHORT / 8)


@pytest.mark.parametrize(
    ("alpn", "first", "slowly"),
    [
        ("", b"", b""),
        ("", b"\x16", b""),
        ("", b"\x16\x03\x01\x02\x00", b"\x01" * 60),
        ("http/1.1", b"", b""),
        ("http/1.1", HEAD, b""),
        ("http/1.1", HEAD + b"X: ", b"slow" * 15),
        ("http/1.1", b"", HEAD + b"X: " + b"slow" * 15),
        ("h2", b"", b""),
        ("h2", PREFACE, b""),
        ("h2", PREFACE[:10], PREFACE[10:] + raw_frame(4, 0, 0) * 5),
        ("h2", PREFACE + raw_frame(4, 0, 0), b""),
        ("h2", PREFACE + raw_frame(4, 0, 0) + raw_frame(1, 0, 1, BLOCK), b""),
    ],
    ids=[
        *("no hello", "a byte of a hello", "a hello by drops", "no request", "half a head", "a head by drops"),
        *("a request by drops", "no preface", "no settings", "a preface by drops", "no stream", "half a block"),
    ],
)
def test_slowloris_is_cut(alpn: str, first: bytes, slowly: bytes) -> None:
    async def main() -> None:
        async with stack() as made:
            reader, writer = await connect(made, alpn)
            writer.write(first)
            dripping = asyncio.create_task(drip(writer, slowly))
            with_others = made.client(made.pki.alice)
            assert (await made.ask(with_others)).status == 200, "nobody waits for it"
            try:
                async with asyncio.timeout(20):
                    while await reader.read(1 << 16):
                        pass
            except ConnectionError:
                pass
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)
            writer.transport.abort()
            assert made.servers[0].requests[0].values(b"x-remote-user") == [b"alice"]

    run(main())


def test_a_body_by_drops_ends_with_the_time_of_its_answer() -> None:
    async def main() -> None:
        async with stack(timeouts={"head": 1}) as made:
            reader, writer = await connect(made, "http/1.1")
            writer.write(HEAD + b"Content-Length: 60\r\n\r\n")
            dripping = asyncio.create_task(drip(writer, b"slow" * 15))
            async with asyncio.timeout(20):
                assert (await reader.readline()).startswith(b"HTTP/1.1 504 ")
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)
            writer.transport.abort()

    run(main())


@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_head_beyond_the_bounds_is_refused_with_a_status(alpn: str) -> None:
    async def main() -> None:
        async with stack() as made:
            client = made.client(made.pki.alice, "h2" if alpn == "h2" else "http1")
            big = [(b"x-%d" % at, b"y" * 10_000) for at in range(8)]
            answer = await made.ask(client, headers=big)
            assert (answer.status, answer.header(b"content-type")) == (431, b"application/json")
            assert answer.header(b"x-wharf-gateway") == b"bad_request"
            status = json.loads(answer.body)
            assert (status["kind"], status["apiVersion"], status["code"]) == ("Status", "v1", 431)
            assert status["message"]
            assert (await made.ask(client)).status == 200, "a head within the bounds is served"

    run(main())
