"""The lease of `wharf.common.lease` in Redis: one connection, four scripts, each atomic.

Two keys: `prefix` holds the holder id and expires (SET NX PX); `prefix`:record holds the record and stays, so that who
wins can tell what it succeeds.

It owns its connection, and the clock readings around each request. Invariants: a request is sent at most once, since a
repeated one could bring back a record that a later one had replaced; no call takes longer than a third of the lease's
time; whatever ends a call early (an error, a timeout, a cancellation) closes the connection, so that no answer is taken
for another's; `contact` changes with every connection.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoScriptError, RedisError, ResponseError
from wharf.common.clock import CLOCK, Clock
from wharf.common.lease import BadRecord, Record, Tenure, Won, encode_record, parse_record
from wharf.common.log import get_log
from wharf.common.parsers import hide_password

log = get_log("common.lease")

_TLS_HINT: Final = " (TLS; see rediss://, ssl_ca_certs, ssl_certfile and ssl_keyfile in the Redis URL)"
_SHARE: Final = 3  # of the lease's time; the longest a call may take

# A record keeps promising the longest time anybody before may believe, until its holder knows better.
_ACQUIRE: Final = """
local found = redis.call('GET', KEYS[2])
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return {0, found, redis.call('PTTL', KEYS[1])}
end
local record = ARGV[2]
local readable, before = pcall(cjson.decode, found or '')
if readable and type(before) == 'table' and type(before.ttl_ms) == 'number' then
  local mine = cjson.decode(record)
  if before.ttl_ms > mine.ttl_ms then
    mine.ttl_ms = before.ttl_ms
    record = cjson.encode(mine)
  end
end
if holder then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[3])
end
redis.call('SET', KEYS[2], record)
return {1, found, tonumber(ARGV[3])}
"""
_RENEW: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[1])
return 1
"""
_LOOK: Final = "return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]), redis.call('PTTL', KEYS[1])}"


class LeaseUnavailable(Exception):
    """Redis did not say; whether the request was carried out is not known. `reason` is for people, without secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else has the lease."""

    record: Record | None  # None: wiped, or unreadable
    remaining_ms: int
    received_at: float


@dataclass(frozen=True, slots=True)
class Look:
    """What stands in Redis."""

    holder: str | None  # of the lease; None: it is free
    record: Record | None
    remaining_ms: int  # 0 when it is free
    received_at: float


@dataclass(frozen=True, slots=True)
class Granted:
    """A renewal's answer: whether, and when it was asked and answered."""

    granted: bool
    sent_at: float
    received_at: float

    def apply(self, tenure: Tenure) -> Tenure:
        return tenure.renewed(self.sent_at, self.received_at) if self.granted else tenure.refused()


def new_holder(name: str) -> str:
    """A holder id nobody ever had: one for each attempt to lead."""
    return f"{name}/{secrets.token_hex(8)}"


class RedisLease:
    """The lease under `prefix`. Calls are made one after another; LeaseUnavailable when one gets no answer."""

    def __init__(self, url: str, prefix: str, ttl_ms: int, clock: Clock = CLOCK) -> None:
        """ValueError for a URL that is not one of redis:// or rediss://; nothing is connected yet."""
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss"):
            raise ValueError("a Redis URL starts with redis:// or rediss://")
        self.prefix, self.ttl_ms = prefix, ttl_ms
        self.contact = 0  # grows with every connection: what was seen before may be newer than what is seen after
        self._address = f"{parts.hostname}:{parts.port or 6379}"
        self._keys = (prefix, f"{prefix}:record")
        self._limit = ttl_ms / 1000 / _SHARE
        self._clock = clock
        self._lock = asyncio.Lock()
        self._url = url
        self._writer: asyncio.StreamWriter | None = None
        self._connection = _connection(url, self._limit, self._greet)

    async def acquire(self, record: Record) -> Won | Held:
        """Take the lease if it is free (or this holder's already)."""
        answer, sent_at, received_at = await self._ask(_ACQUIRE, record)
        won, found, remaining = answer
        before = self._readable(found)
        return Won(before, sent_at, received_at) if won else Held(before, max(remaining, 0), received_at)

    async def renew(self, record: Record) -> Granted:
        """Compare and renew: granted only to whom the lease belongs."""
        answer, sent_at, received_at = await self._ask(_RENEW, record)
        return Granted(answer == 1, sent_at, received_at)

    async def release(self, record: Record) -> bool:
        """Give the lease up and leave `record`; False when it was not this holder's any more."""
        answer, _, _ = await self._ask(_RELEASE, record)
        return bool(answer == 1)

    async def look(self) -> Look:
        """Read both keys at one moment."""
        (holder, found, remaining), _, received_at = await self._ask(_LOOK, None)
        name = None if holder is None else holder.decode("utf-8", "replace")
        return Look(name, self._readable(found), max(remaining, 0), received_at)

    async def close(self) -> None:
        """Let go of the connection; a later call would make a new one."""
        async with self._lock:
            await self._connection.disconnect()
            await self._abandon()

    async def _ask(self, script: str, record: Record | None) -> tuple[Any, float, float]:
        """One script's answer, and the clock before it was sent and after it was answered."""
        arguments = () if record is None else (record.holder, encode_record(record), self.ttl_ms)
        words = (len(self._keys), *self._keys, *arguments)
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
            raise LeaseUnavailable(f"no answer from {self._address} in {self._limit:.1f} s") from None
        except AuthenticationError as error:
            reason = f"{self._address} refuses the user or password of the Redis URL: {hide_password(str(error))}"
            raise LeaseUnavailable(reason) from None
        except ResponseError as error:
            raise LeaseUnavailable(f"{self._address} refuses: {hide_password(str(error))}") from None
        except (RedisError, OSError, ValueError) as error:
            reason = f"no contact to {self._address}: {hide_password(str(error))}"
            raise LeaseUnavailable(f"{reason}{_TLS_HINT if 'SSL' in reason else ''}") from None

    async def _run(self, script: str, words: Sequence[Any]) -> tuple[Any, float, float]:
        connection, sent_at = self._connection, self._clock.now()
        digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        try:
            await connection.send_command("EVALSHA", digest, *words)
            answer = await connection.read_response()
        except NoScriptError:  # nothing was done: this server does not know the script yet
            sent_at = self._clock.now()
            await connection.send_command("EVAL", script, *words)
            answer = await connection.read_response()
        return answer, sent_at, self._clock.now()

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

    def _readable(self, found: bytes | None) -> Record | None:
        """None also for what cannot be read: who wins then waits as long as when there is nothing."""
        try:
            return None if found is None else parse_record(found)
        except BadRecord as error:
            log.warn("the lease record in Redis is unreadable", key=self._keys[1], reason=str(error))
            return None


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
