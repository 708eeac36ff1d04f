"""Messages over NATS core, at most once: publish and forget, subscribe and be told; what is lost is lost.

Nothing here ever waits on the caller's side, fails on it, or keeps more than a bounded number of bytes: without a
server messages are dropped and counted. The connection is made in the background and made again for ever.

Invariant: no URL, user, password or token reaches a log line.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from wharf.common.log import get_log

MOST_QUEUED: Final = 16 << 20  # bytes waiting to be sent; beyond, messages are dropped
MOST_WAITING: Final = 64 << 20  # bytes received and not yet handed on
CONNECT_SECONDS: Final = 2
RETRY_SECONDS: Final = 0.5
PING_SECONDS: Final = 2
DEFAULT_PAYLOAD: Final = 1 << 20  # NATS' own default, until a server says otherwise

Callback = Callable[[bytes], None]

_log = get_log("common.events")


@dataclass(frozen=True, slots=True)
class NatsSecurity:
    """How to be sure of the server and to show oneself; credentials may also stand in the URL."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    credentials_file: Path | None = None

    def context(self, url: str) -> ssl.SSLContext | None:
        """For tls:// URLs, and whenever a file is given."""
        if not url.startswith("tls:") and self.ca_file is None and self.cert_file is None:
            return None
        context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


class EventBus:
    """For the loop thread. `connect` begins, `close` ends."""

    def __init__(self, url: str, security: NatsSecurity | None = None, name: str = "wharf") -> None:
        """`url`: one or more of nats:// or tls://USER:PASSWORD@HOST:PORT, by commas. ValueError for files that are no
        certificates.
        """
        security = security or NatsSecurity()
        self._servers = [each.strip() for each in url.split(",") if each.strip()]
        try:
            self._tls = security.context(url)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"the files for NATS' TLS cannot be used: {error}") from error
        self._credentials = None if security.credentials_file is None else str(security.credentials_file)
        self._name = name
        self._client: Client | None = None
        self._subscriptions: list[tuple[str, Callback]] = []
        self._listeners: list[Callable[[bool], None]] = []
        self._queue: deque[tuple[str, bytes]] = deque()
        self._queued = 0
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._was_connected = False
        self._complaint = ""
        self.dropped = 0  # messages that were not sent

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Bytes a message may have."""
        return self._client.max_payload if self._client is not None and self.connected else DEFAULT_PAYLOAD

    def connect(self) -> None:
        """Begin; returns at once."""
        self._tasks = [asyncio.create_task(self._keep_connected()), asyncio.create_task(self._send())]

    def publish(self, subject: str, data: bytes) -> None:
        """Send a message, or drop it."""
        if not self.connected or self._queued + len(data) > MOST_QUEUED:
            self.dropped += 1
            return
        self._queue.append((subject, data))
        self._queued += len(data)
        self._wake.set()

    def subscribe(self, subject: str, callback: Callback) -> None:
        """Have `callback` take every message on `subject` that arrives from now on."""
        self._subscriptions.append((subject, callback))

    def on_change(self, listener: Callable[[bool], None]) -> None:
        """Call with whether there is a server, when that changes."""
        self._listeners.append(listener)

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._drop_client()

    async def _keep_connected(self) -> None:
        """The library reconnects by itself once it was connected; the first time, and when it gives up, is ours."""
        while True:
            if self._client is None or self._client.is_closed:
                try:
                    await self._open()
                except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
                    self._complain(error)
            self._tell()
            await asyncio.sleep(RETRY_SECONDS)

    async def _open(self) -> None:
        await self._drop_client()
        client = self._client = Client()
        options: dict[str, Any] = {"tls": self._tls} if self._tls is not None else {}
        if self._credentials is not None:
            options["user_credentials"] = self._credentials
        await client.connect(
            servers=self._servers,
            name=self._name,
            connect_timeout=CONNECT_SECONDS,
            reconnect_time_wait=1,
            max_reconnect_attempts=-1,
            ping_interval=PING_SECONDS,
            pending_size=0,  # what cannot be sent is of no use later
            error_cb=self._on_error,
            disconnected_cb=self._on_change,
            reconnected_cb=self._on_change,
            closed_cb=self._on_change,
            **options,
        )
        for subject, callback in self._subscriptions:
            await client.subscribe(subject, cb=_handler(callback), pending_bytes_limit=MOST_WAITING)
        self._complaint = ""

    async def _drop_client(self) -> None:
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            with suppress(Exception):  # whatever it says, it is not used any more
                await client.close()

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                subject, data = self._queue.popleft()
                self._queued -= len(data)
                client = self._client
                if client is None or not client.is_connected:
                    self.dropped += 1
                    continue
                try:
                    await client.publish(subject, data)
                except (nats.errors.Error, OSError) as error:
                    self.dropped += 1
                    self._complain(error)

    async def _on_error(self, error: Exception) -> None:
        self._complain(error)

    async def _on_change(self) -> None:
        self._tell()

    def _tell(self) -> None:
        if self.connected != self._was_connected:
            self._was_connected = self.connected
            _log.info("events by NATS" if self._was_connected else "no events: NATS is away")
            for listener in self._listeners:
                listener(self._was_connected)

    def _complain(self, error: Exception) -> None:
        """Once for each kind, and never in the library's words: they may quote a URL."""
        kind = type(error).__name__
        if isinstance(error, nats.errors.Error) and "authorization" in str(error).lower():
            kind = "the server refuses the credentials"
        if kind != self._complaint:
            self._complaint = kind
            _log.warn("NATS fails", reason=kind)


def _handler(callback: Callback) -> Any:
    async def handle(message: Msg) -> None:
        callback(message.data)

    return handle
