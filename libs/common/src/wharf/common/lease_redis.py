"""The lease of `wharf.common.lease` in Redis: one connection, four scripts, each atomic.

Two keys: `prefix` holds the holder id and expires (SET NX PX); `prefix`:record holds the record and stays, so that who
wins can tell what it succeeds.

The connection and its invariants are `wharf.common.redis_link`'s: a request is sent at most once, since a repeated one
could bring back a record that a later one had replaced. No call takes longer than a third of the lease's time;
`contact` changes with every connection.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from wharf.common.clock import CLOCK, Clock
from wharf.common.lease import BadRecord, Record, Tenure, Won, encode_record, parse_record
from wharf.common.log import get_log
from wharf.common.redis_link import Answered, RedisLink, RedisUnavailable, Script

log = get_log("common.lease")

_SHARE: Final = 3  # of the lease's time; the longest a call may take

# A record keeps promising the longest time anybody before may believe, until its holder knows better.
_ACQUIRE: Final = Script("""
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
""")
_RENEW: Final = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[2])
return 1
""")
_RELEASE: Final = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[1])
return 1
""")
_LOOK: Final = Script("return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]), redis.call('PTTL', KEYS[1])}")


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
        self.prefix, self.ttl_ms = prefix, ttl_ms
        self._keys = (prefix, f"{prefix}:record")
        self._link = RedisLink(url, ttl_ms / 1000 / _SHARE, clock)

    @property
    def contact(self) -> int:
        """Grows with every connection: what was seen before may be newer than what is seen after."""
        return self._link.contact

    async def acquire(self, record: Record) -> Won | Held:
        """Take the lease if it is free (or this holder's already)."""
        answered = await self._ask(_ACQUIRE, record)
        won, found, remaining = answered.value
        before = self._readable(found)
        if won:
            return Won(before, answered.sent_at, answered.received_at)
        return Held(before, max(remaining, 0), answered.received_at)

    async def renew(self, record: Record) -> Granted:
        """Compare and renew: granted only to whom the lease belongs."""
        answered = await self._ask(_RENEW, record)
        return Granted(answered.value == 1, answered.sent_at, answered.received_at)

    async def release(self, record: Record) -> bool:
        """Give the lease up and leave `record`; False when it was not this holder's any more."""
        return bool((await self._ask(_RELEASE, record)).value == 1)

    async def look(self) -> Look:
        """Read both keys at one moment."""
        answered = await self._ask(_LOOK, None)
        holder, found, remaining = answered.value
        name = None if holder is None else holder.decode("utf-8", "replace")
        return Look(name, self._readable(found), max(remaining, 0), answered.received_at)

    async def close(self) -> None:
        """Let go of the connection; a later call would make a new one."""
        await self._link.close()

    async def _ask(self, script: Script, record: Record | None) -> Answered:
        arguments = () if record is None else (record.holder, encode_record(record), self.ttl_ms)
        try:
            return await self._link.run(script, self._keys, arguments)
        except RedisUnavailable as error:
            raise LeaseUnavailable(error.reason) from None

    def _readable(self, found: bytes | None) -> Record | None:
        """None also for what cannot be read: who wins then waits as long as when there is nothing."""
        try:
            return None if found is None else parse_record(found)
        except BadRecord as error:
            log.warn("the lease record in Redis is unreadable", key=self._keys[1], reason=str(error))
            return None
