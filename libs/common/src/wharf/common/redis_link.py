"""One connection to Redis and the scripts run over it, one after another.

What stands on it (the lease, the gateway's shared limits) must know what a silence means. Invariants: a script is sent
at most once, since nobody can tell whether a lost one was run; no call takes longer than `limit_seconds`; whatever ends
a call early (an error, a timeout, a cancellation) closes the connection, so that no answer is taken for another's;
`contact` changes with every connection.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoScriptError, RedisError, ResponseError
from wharf.common.clock import CLOCK, Clock
from wharf.common.redact import hide_password

_TLS_HINT: Final = " (TLS; see rediss://, ssl_ca_certs, ssl_certfile and ssl_keyfile in the Redis URL)"


class RedisUnavailable(Exception):
    """Redis did not say; whether the script was run is not known. `reason` is for people, without secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Script:
    """A Lua script and the digest it is called by."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Answered:
    """What a script returned, and the clock before it was sent and after it was answered."""

    value: Any
    sent_at: float
    received_at: float


class RedisLink:
    """A connection made when it is first needed."""

    def __init__(self, url: str, limit_seconds: float, clock: Clock = CLOCK) -> None:
        """ValueError for a URL that is not one of redis:// or rediss://; nothing is connected yet."""
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss"):
            raise ValueError("a Redis URL starts with redis:// or rediss://")
        self.contact = 0  # grows with every connection: what was seen before may be newer than what is seen after
        self.address = f"{parts.hostname}:{parts.port or 6379}"
        self._limit = limit_seconds
        self._clock = clock
        self._lock = asyncio.Lock()
        self._url = url
        self._writer: asyncio.StreamWriter | None = None
        self._connection = _connection(url, limit_seconds, self._greet)

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | float]) -> Answered:
        """The script's answer. RedisUnavailable."""
        words = (len(keys), *keys, *arguments)
        try:
            async with asyncio.timeout(self._limit), self._lock:
                try:
                    if not self._connection.is_connected:
                        self.contact += 1
                        # A new one reads the certificate files again; the library's would keep what it had read.
                        self._connection = _connection(self._url, self._limit, self._greet)
                        await self._connection.connect()  # type: ignore[no-untyped-call]
                    return await self._run(script, words)
                except BaseException:
                    await self._abandon()
                    raise
        except TimeoutError:
            raise RedisUnavailable(f"no answer from {self.address} in {self._limit:.1f} s") from None
        except AuthenticationError as error:
            reason = f"{self.address} refuses the user or password of the Redis URL: {hide_password(str(error))}"
            raise RedisUnavailable(reason) from None
        except ResponseError as error:
            raise RedisUnavailable(f"{self.address} refuses: {hide_password(str(error))}") from None
        except (RedisError, OSError, ValueError) as error:
            reason = f"no contact to {self.address}: {hide_password(str(error))}"
            raise RedisUnavailable(f"{reason}{_TLS_HINT if 'SSL' in reason else ''}") from None

    async def close(self) -> None:
        """Let go of the connection; a later call would make a new one."""
        async with self._lock:
            await self._connection.disconnect()
            await self._abandon()

    async def _run(self, script: Script, words: Sequence[Any]) -> Answered:
        connection, sent_at = self._connection, self._clock.now()
        try:
            await connection.send_command("EVALSHA", script.digest, *words)
            answer = await connection.read_response()
        except NoScriptError:  # nothing was done: this server does not know the script yet
            sent_at = self._clock.now()
            await connection.send_command("EVAL", script.text, *words)
            answer = await connection.read_response()
        return Answered(answer, sent_at, self._clock.now())

    async def _greet(self, connection: AbstractConnection) -> None:
        """Keep hold of the transport: the library forgets it before it is closed."""
        self._writer = getattr(connection, "_writer", None)
        await connection.on_connect()

    async def _abandon(self) -> None:
        """Close at once. Over TLS an orderly end would wait for a server that may never answer."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.transport.abort()
        await self._connection.disconnect(nowait=True)


def _connection(url: str, limit: float, greet: Callable[[AbstractConnection], Awaitable[None]]) -> AbstractConnection:
    """Not connected yet, and without any of the library's own repetitions."""
    options: dict[str, Any] = dict(parse_url(url))
    kind = options.pop("connection_class", Connection)
    options |= {"retry": Retry(NoBackoff(), 0), "protocol": 2, "driver_info": None}
    options |= {"socket_timeout": None, "socket_connect_timeout": limit, "health_check_interval": 0}
    options["redis_connect_func"] = greet
    try:
        connection: AbstractConnection = kind(**options)
    except TypeError:
        raise ValueError("the Redis URL has an option that is not known") from None
    return connection
