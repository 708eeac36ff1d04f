"""`wharf.common.events` over NATS core.

One background task connects, serves the connection until it is lost, and begins anew for ever, from server to server.
Each connection is a client of its own; the library's way of reconnecting is not used, since it keeps messages that have
become old meanwhile and cannot say at once that they are lost.

Invariants: `connected` is true only after the server has taken every subscription; nothing in here grows without bound;
over a URL that asks for TLS no login is sent in the clear; a login is in no log.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from wharf.common.clock import CLOCK
from wharf.common.events import OUTBOX_BYTES, Outbox, Server, backoff, parse_servers
from wharf.common.log import get_log

log = get_log("common.events")

CONNECT_SECONDS: Final = 5
PROBE_SECONDS: Final = 2  # between questions whether the server still answers, and how long each may take
PENDING_BYTES: Final = 8 << 20  # received and not yet handed on
PENDING_MESSAGES: Final = 8192
COMPLAINT_SECONDS: Final = 30.0  # between lines about the same trouble
_CLOSE_SECONDS: Final = 1
_DEFAULT_PAYLOAD: Final = 1 << 20  # until a server has said

Callback = Callable[[bytes], None]

# The library puts a stream over TLS that was not told so; what that means is one line for every connection that ends.
logging.getLogger("asyncio").addFilter(lambda record: "eof_received() has no effect" not in record.getMessage())


class EventBus:
    """A connection to one of several NATS servers. Nothing happens before `connect`."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
        credentials_file: Path | None = None,
        name: str = "wharf",
        outbox_bytes: int = OUTBOX_BYTES,
    ) -> None:
        """ValueError for a bad URL. Files are read at every connection, so they may be renewed."""
        self._servers: Sequence[Server] = parse_servers(url)
        self._files = (ca_file, cert_file, key_file)
        self._credentials_file = credentials_file
        self._name = name
        self._outbox = Outbox(outbox_bytes)
        self._subscriptions: list[tuple[str, Callback]] = []
        self._listeners: list[Callable[[bool], None]] = []
        self._news = asyncio.Event()  # something to send, a new subscription, trouble, or the end
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._connected = False
        self._trouble = ""  # of the present connection
        self._complaint, self._complained_at = "", float("-inf")
        self.max_payload = _DEFAULT_PAYLOAD
        self.missed = 0  # messages received that nobody took in time
        self.connections = 0

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def dropped(self) -> int:
        """Messages published that were not sent."""
        return self._outbox.dropped

    async def connect(self) -> None:
        """Begin to connect, and go on for ever in the background; returns at once."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def publish(self, subject: str, data: bytes) -> None:
        if not self._connected or len(data) > self.max_payload:
            self._outbox.dropped += 1
        elif self._outbox.put(subject, data):
            self._news.set()

    def subscribe(self, subject: str, callback: Callback) -> None:
        self._subscriptions.append((subject, callback))
        self._news.set()

    def on_change(self, callback: Callable[[bool], None]) -> None:
        self._listeners.append(callback)

    async def close(self) -> None:
        """Send what is waiting if that is quick, then let go of everything."""
        self._stopping = True
        self._news.set()
        task, self._task = self._task, None
        if task is None:
            return
        await asyncio.wait([task], timeout=_CLOSE_SECONDS)
        while not task.done():  # the library has places that swallow a cancellation
            task.cancel()
            await asyncio.wait([task], timeout=_CLOSE_SECONDS)

    # --- the background task -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        failures = 0
        for server in itertools.cycle(self._servers):
            before = self.connections
            reason = await self._session(server)
            if self._stopping:
                return
            failures = 1 if self.connections != before else failures + 1
            self._complain(server, reason)
            await self._pause(backoff(failures))

    async def _pause(self, seconds: float) -> None:
        """Cut short by the end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._stopping:
                    self._news.clear()
                    await self._news.wait()

    async def _session(self, server: Server) -> str:
        """One connection from its beginning to its end; returns why it ended."""
        client = _Client(server.tls)
        self._trouble = ""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.connect(**self._options(server))
                self._trouble = ""  # of an attempt before the one that came through
                taken = await self._subscribe(client, 0)
                await _settle(client, CONNECT_SECONDS)
            self.max_payload = client.max_payload
            self.connections += 1
            self._change(True)
            await self._serve(client, taken)
            return self._trouble or "the connection was closed"
        except TimeoutError:
            return self._trouble or "no answer"
        except ssl.SSLError as error:
            told = getattr(error, "verify_message", "") or error.reason or str(error)
            return f"TLS: {told} (see the CA, certificate and key files for NATS)"
        except (OSError, ValueError, nats.errors.Error) as error:
            return self._trouble or _told(error)
        finally:
            self._change(False)
            self._outbox.drop_all()
            await _abandon(client)

    def _options(self, server: Server) -> dict[str, Any]:
        options: dict[str, Any] = {
            "servers": [f"{'tls' if server.tls else 'nats'}://{server.address}"],
            "name": self._name,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "connect_timeout": CONNECT_SECONDS,
            "flush_timeout": PROBE_SECONDS,
            "no_echo": True,
        }
        if server.tls or any(self._files):
            options["tls"] = _tls(*self._files)
        if self._credentials_file is not None:
            options["user_credentials"] = str(self._credentials_file)
        elif server.password:
            options |= {"user": server.user, "password": server.password}
        elif server.user:
            options["token"] = server.user
        return options

    async def _serve(self, client: Client, taken: int) -> None:
        """Send what there is, and ask now and then whether the server is there, until it is not."""
        probe_at = CLOCK.now() + PROBE_SECONDS
        while client.is_connected and not self._trouble:
            taken = await self._subscribe(client, taken)
            while not self._trouble and (message := self._outbox.take()) is not None:
                await client.publish(*message)
            if self._stopping:
                await _settle(client, _CLOSE_SECONDS)
                return
            if CLOCK.now() >= probe_at:
                await client.flush(PROBE_SECONDS)
                probe_at = CLOCK.now() + PROBE_SECONDS
            self._news.clear()
            if len(self._outbox) or self._trouble or self._stopping or taken < len(self._subscriptions):
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, probe_at - CLOCK.now())):
                    await self._news.wait()

    async def _subscribe(self, client: Client, taken: int) -> int:
        """Those the server has not been asked for yet."""
        for subject, callback in self._subscriptions[taken:]:
            await client.subscribe(
                subject,
                cb=_handler(callback),
                pending_msgs_limit=PENDING_MESSAGES,
                pending_bytes_limit=PENDING_BYTES,
            )
        return len(self._subscriptions)

    def _change(self, connected: bool) -> None:
        if connected != self._connected:
            self._connected = connected
            if connected:
                log.info("events are connected", connections=self.connections)
                self._complaint = ""
            for listener in self._listeners:
                listener(connected)

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            self.missed += 1
            return
        self._trouble = self._trouble or _told(error)
        self._news.set()

    async def _on_disconnected(self) -> None:
        self._trouble = self._trouble or "the connection was lost"
        self._news.set()

    def _complain(self, server: Server, reason: str) -> None:
        """One line for each new reason, and now and then while it lasts."""
        now, complaint = CLOCK.now(), f"{server.address} {reason}"
        if complaint != self._complaint or now - self._complained_at >= COMPLAINT_SECONDS:
            self._complaint, self._complained_at = complaint, now
            log.warn("events are not connected, trying on", server=server.address, reason=reason, dropped=self.dropped)


class _Client(Client):
    """Refuses to go on without TLS where TLS is asked for: a server that does not offer it may be no server of ours."""

    def __init__(self, needs_tls: bool) -> None:
        super().__init__()
        self._needs_tls = needs_tls

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._needs_tls and not info.get("tls_required"):
            raise nats.errors.Error("the server offers no TLS, and the URL asks for it")
        await super()._process_info(info, initial_connection)


def _handler(callback: Callback) -> Callable[[Msg], Awaitable[None]]:
    async def handle(message: Msg) -> None:
        try:
            callback(message.data)
        except Exception as error:
            log.error("a message could not be handled", cause=error)

    return handle


def _tls(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context


def _told(error: Exception) -> str:
    """What happened, for people. The library's errors name subjects and addresses, never a login."""
    text = str(error).removeprefix("nats: ").strip("'")
    if "authorization violation" in text.lower():
        return "the server refuses the user, password or credentials"
    return text or type(error).__name__


async def _settle(client: Client, seconds: int) -> None:
    """Return once the server has taken everything sent so far. The library's question overtakes what it has not written
    yet; by the first answer it has, so the second answer is the one that counts."""
    await client.flush(seconds)
    await client.flush(seconds)


async def _abandon(client: Client) -> None:
    """Leave nothing of it behind, whatever state it is in. An orderly end is not worth waiting for: over TLS, or with
    bytes that the server does not take, it may never come."""
    transport = getattr(client, "_transport", None)
    for name in ("_io_writer", "_bare_io_writer"):
        writer: asyncio.StreamWriter | None = getattr(transport, name, None)
        if writer is not None:
            writer.transport.abort()
    subscriptions: dict[int, Any] = getattr(client, "_subs", {})
    tasks = [getattr(client, name, None) for name in ("_reading_task", "_ping_interval_task", "_flusher_task")]
    tasks += [getattr(subscription, "_wait_for_msgs_task", None) for subscription in subscriptions.values()]
    running: list[asyncio.Task[None]] = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
