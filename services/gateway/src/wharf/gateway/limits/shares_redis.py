"""Shared limits kept in Redis: one script call carries all asks of an exchange, each decided atomically.

Keys, under `prefix`: `alive` is a sorted set of processes and when they are given up; `t:KEY` the state of a token
bucket; `s:KEY` who holds how many slots, wants how many, and until when. All expire by themselves. Time is the
server's, so clocks of gateways do not matter. The script does what `ledger.Ledger` does; tests hold them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from wharf.common.redis_link import RedisLink, RedisUnavailable, Script
from wharf.gateway.limits.exchange import TTL, Answers, Ask, Kind, SharesUnavailable

PREFIX: Final = "wharf:gateway:limits"
TIMEOUT: Final = 0.25  # seconds; a slower Redis is away

_EXCHANGE: Final = Script("""
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local holder, ttl = ARGV[1], tonumber(ARGV[2])

local function take(key, burst, rate, used, want)
  local state = redis.call('HMGET', key, 'tokens', 'at')
  local tokens, at = tonumber(state[1]) or burst, tonumber(state[2]) or now
  tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
  tokens = math.min(burst, tokens - used)
  local grant = math.min(want, math.max(tokens, 0))
  tokens = tokens - grant
  redis.call('HSET', key, 'tokens', string.format('%.17g', tokens), 'at', string.format('%.6f', now))
  local full = rate > 0 and (burst - tokens) / rate or 86400
  redis.call('PEXPIRE', key, math.ceil(math.min(full, 86400 * 30) * 1000) + 1000)
  return grant
end

local function fair_part(wants, mine, limit)
  local left, count = limit, #wants
  table.sort(wants)
  for _, want in ipairs(wants) do
    local level = left / count
    if want > level then return math.min(mine, math.ceil(level)) end
    left, count = left - want, count - 1
  end
  return mine
end

local function lease(key, limit, used, want)
  local held, wants = 0, {}
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    local hold, wish, ends = string.match(all[at + 1], '^(%S+) (%S+) (%S+)$')
    if not ends or tonumber(ends) <= now then
      redis.call('HDEL', key, all[at])
    elseif all[at] ~= holder then
      held = held + tonumber(hold)
      wants[#wants + 1] = tonumber(wish)
    end
  end
  if used <= 0 and want <= 0 then
    redis.call('HDEL', key, holder)
    return 0
  end
  wants[#wants + 1] = want
  local part = math.max(0, math.min(fair_part(wants, want, limit), limit - held))
  local word = string.format('%.17g %.17g %.6f', math.max(used, part), want, now + ttl)
  redis.call('HSET', key, holder, word)
  redis.call('PEXPIRE', key, math.ceil(ttl * 1000) + 1000)
  return part
end

redis.call('ZADD', KEYS[1], now + ttl, holder)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(ttl * 1000) + 1000)
local answers = {redis.call('ZCARD', KEYS[1])}
for at = 2, #KEYS do
  local from = 3 + (at - 2) * 5
  local limit, rate = tonumber(ARGV[from + 1]), tonumber(ARGV[from + 2])
  local used, want = tonumber(ARGV[from + 3]), tonumber(ARGV[from + 4])
  local grant
  if ARGV[from] == 't' then grant = take(KEYS[at], limit, rate, used, want)
  else grant = lease(KEYS[at], limit, used, want) end
  answers[at] = string.format('%.17g', grant)
end
return answers
""")


class RedisShares:
    """Implements `exchange.Keeper`."""

    def __init__(self, url: str, prefix: str = PREFIX, timeout_seconds: float = TIMEOUT) -> None:
        """ValueError for a URL that is not one of redis:// or rediss://; nothing is connected yet."""
        self._prefix = prefix
        self._link = RedisLink(url, timeout_seconds)

    async def exchange(self, holder: str, asks: Sequence[Ask]) -> Answers:
        keys = [f"{self._prefix}:alive", *(self._key(ask) for ask in asks)]
        words: list[str | bytes | float] = [holder, TTL]
        for ask in asks:
            words += (ask.kind.value, ask.limit, ask.rate, ask.used, ask.want)
        try:
            replicas, *told = (await self._link.run(_EXCHANGE, keys, words)).value
            grants = tuple(float(grant) for grant in told)
            if len(grants) != len(asks):
                raise ValueError(f"{len(grants)} answers")
            return Answers(grants, int(replicas))
        except RedisUnavailable as error:
            raise SharesUnavailable(error.reason) from None
        except (TypeError, ValueError) as error:
            raise SharesUnavailable(f"what Redis answers cannot be read: {error}") from None

    async def close(self) -> None:
        await self._link.close()

    def _key(self, ask: Ask) -> str:
        name = ask.key.encode("utf-8", "backslashreplace").decode()  # names come from certificates and tokens
        return f"{self._prefix}:{'t' if ask.kind is Kind.TOKENS else 's'}:{name}"
