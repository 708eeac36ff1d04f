"""Shared limits kept by the parent of the workers, over a Unix socket: for several processes without a Redis.

The parent holds a `Ledger`. A worker that dies closes its connection, and its slots are free at once. The socket's
folder is what keeps others away: it belongs to the user the gateway runs as.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from wharf.common.log import get_log
from wharf.gateway.limits.exchange import Answers, Ask, SharesUnavailable
from wharf.gateway.limits.ledger import Ledger
from wharf.gateway.limits.share_frames import (
    HEAD,
    BadFrame,
    encode_answers,
    encode_asks,
    parse_answers,
    parse_asks,
    parse_length,
)

TIMEOUT = 0.25  # seconds; a slower parent is away

log = get_log("gateway.limits")


class ShareServer:
    """In the parent, from `start` to `close`."""

    def __init__(self, path: str) -> None:
        self.ledger = Ledger()
        self._path = path
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """OSError when the socket cannot be made."""
        self._server = await asyncio.start_unix_server(self._accept, self._path)

    async def close(self) -> None:
        """Also ends the connections."""
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        holders: set[str] = set()
        clock = asyncio.get_running_loop().time
        try:
            while True:
                holder, asks = parse_asks(await _read(reader))
                holders.add(holder)
                writer.write(encode_answers(self.ledger.answer(holder, asks, clock())))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the worker is gone
        except BadFrame as error:
            log.error("a worker asks for limits in words that cannot be read", reason=str(error))
        finally:
            for holder in holders:
                self.ledger.forget(holder)
            writer.close()


class ParentShares:
    """In a worker. Implements `exchange.Keeper`."""

    def __init__(self, path: str, timeout_seconds: float = TIMEOUT) -> None:
        self._path, self._timeout = path, timeout_seconds
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._lock = asyncio.Lock()

    async def exchange(self, holder: str, asks: Sequence[Ask]) -> Answers:
        try:
            async with asyncio.timeout(self._timeout), self._lock:
                try:
                    if self._streams is None:
                        self._streams = await asyncio.open_unix_connection(self._path)
                    reader, writer = self._streams
                    writer.write(encode_asks(holder, asks))
                    await writer.drain()
                    answers = parse_answers(await _read(reader))
                    if len(answers.grants) != len(asks):
                        raise BadFrame("answers to something else")
                    return answers
                except BaseException:
                    self._abandon()  # an answer that still comes is to nobody's question
                    raise
        except TimeoutError:
            raise SharesUnavailable(f"no answer from the parent process in {self._timeout:g} s") from None
        except (OSError, asyncio.IncompleteReadError, BadFrame) as error:
            raise SharesUnavailable(f"no contact to the parent process: {error}") from None

    async def close(self) -> None:
        self._abandon()

    def _abandon(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()


async def _read(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(parse_length(await reader.readexactly(HEAD)))
