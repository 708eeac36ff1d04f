"""A TLS client whose first flight can be cut, and that can offer a session again; asyncio's own can do neither."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from wharf.wire.client_hello import RECORD_HEAD

Cut = Callable[[bytes], list[bytes]]  # the first flight → the pieces to send one after the other


@dataclass(frozen=True, slots=True)
class Exchanged:
    """One connection: what the server answered, and the session it left."""

    answer: bytes
    session: ssl.SSLSession | None
    resumed: bool


def whole(record: bytes) -> list[bytes]:
    """Does not cut."""
    return [record]


def in_records(size: int) -> Cut:
    """The same message in records of at most `size` bytes."""

    def cut(record: bytes) -> list[bytes]:
        body, head = record[RECORD_HEAD:], record[:3]
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        return [b"".join(head + len(part).to_bytes(2, "big") + part for part in parts)]

    return cut


async def exchange(
    port: int,
    context: ssl.SSLContext,
    name: str,
    request: bytes = b"?",
    *,
    cut: Cut = whole,
    session: ssl.SSLSession | None = None,
) -> Exchanged:
    """Handshake, send `request`, read one answer. OSError when the server ends it; all within ten seconds."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name, session=session)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def feed() -> None:
        writer.write(outgoing.read())
        data = await reader.read(65536)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        incoming.write(data)

    try:
        async with asyncio.timeout(10):
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            for piece in cut(outgoing.read()):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await feed()
            tls.write(request)
            while True:
                try:
                    answer = tls.read()
                    break
                except ssl.SSLWantReadError:
                    await feed()
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.unwrap()  # OpenSSL forgets the session of a connection that ends without close_notify
            writer.write(outgoing.read())
            await reader.read()
            return Exchanged(answer, tls.session, bool(tls.session_reused))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
