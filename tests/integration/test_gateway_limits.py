"""Limits shared through a real Redis: its script does what the ledger in memory does, and processes keep the limit."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.backing import Redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis as Client
from wharf.gateway.api.shapes import Schema, Scope
from wharf.gateway.limits.exchange import ASKS_MAX, TTL, Ask, Kind, SharesUnavailable
from wharf.gateway.limits.ledger import Ledger
from wharf.gateway.limits.limiter import Limiter
from wharf.gateway.limits.outcome import NOBODY, Ticket
from wharf.gateway.limits.share import batch_tokens
from wharf.gateway.limits.sharer import Sharer
from wharf.gateway.limits.shares import Shares
from wharf.gateway.limits.shares_redis import PREFIX, RedisShares

TOKENS = Ask("c/a/t/", Kind.TOKENS, 10.0, 0.001, 0.0, 4.0)
SLOTS = Ask("c/a/f/", Kind.SLOTS, 10.0, 0.0, 3.0, 6.0)


@asynccontextmanager
async def keeper(url: str, timeout_seconds: float = 20.0) -> AsyncIterator[RedisShares]:
    made = RedisShares(url, timeout_seconds=timeout_seconds)
    try:
        yield made
    finally:
        await made.close()


def run(url: str, body: Callable[[RedisShares], Coroutine[Any, Any, None]], timeout_seconds: float = 20.0) -> None:
    async def main() -> None:
        async with keeper(url, timeout_seconds) as made:
            await body(made)

    asyncio.run(main())


AMOUNT = st.floats(0, 20).map(lambda number: round(number, 2))
TOKEN_ASK = st.builds(
    Ask, st.sampled_from(("x", "y ü\udcff")), st.just(Kind.TOKENS), AMOUNT, st.just(1e-6), AMOUNT, AMOUNT
)
GIVE_BACK = TOKEN_ASK.map(lambda ask: Ask(ask.key, ask.kind, ask.limit, ask.rate, -ask.used, 0.0))
WHOLE = st.integers(0, 12).map(float)
SLOT_ASK = st.builds(Ask, st.sampled_from(("x", "z")), st.just(Kind.SLOTS), WHOLE, st.just(0.0), WHOLE, WHOLE | AMOUNT)
EXCHANGES = st.lists(
    st.tuples(st.sampled_from("abc"), st.lists(TOKEN_ASK | GIVE_BACK | SLOT_ASK, max_size=4)), max_size=12
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(exchanges=EXCHANGES)
def test_the_script_does_what_the_ledger_does(redis: Redis, exchanges: list[tuple[str, list[Ask]]]) -> None:
    async def body(shares: RedisShares) -> None:
        ledger = Ledger()
        for holder, asks in exchanges:
            answers, expected = await shares.exchange(holder, asks), ledger.answer(holder, asks, 0.0)
            assert answers.replicas == expected.replicas
            assert answers.grants == pytest.approx(expected.grants, abs=1e-3)

    run(redis.fresh(), body)


def test_tokens_come_back_with_time_and_the_state_expires_when_full(redis: Redis) -> None:
    async def body(shares: RedisShares) -> None:
        fast = Ask("k", Kind.TOKENS, 10.0, 1000.0, 0.0, 10.0)
        assert (await shares.exchange("a", [fast])).grants == (10.0,)
        with Client.from_url(url) as raw:
            assert 0 < raw.pttl(f"{PREFIX}:t:k") <= 1100
            raw.hset(f"{PREFIX}:t:k", "at", "0")  # long ago
        assert (await shares.exchange("a", [fast])).grants == (10.0,)
        with Client.from_url(url) as raw:
            raw.hset(f"{PREFIX}:t:k", mapping={"at": "9999999999", "tokens": "0"})  # another server's clock was ahead
        slow = Ask("k", Kind.TOKENS, 10.0, 0.001, 0.0, 10.0)
        assert (await shares.exchange("a", [slow])).grants == pytest.approx((0.0,), abs=1e-3)

    url = redis.fresh()
    run(url, body)


def test_slots_and_processes_nobody_hears_of_run_out(redis: Redis) -> None:
    async def body(shares: RedisShares) -> None:
        await shares.exchange("dead", [Ask("k", Kind.SLOTS, 10.0, 0.0, 10.0, 10.0)])
        assert (await shares.exchange("a", [Ask("k", Kind.SLOTS, 10.0, 0.0, 0.0, 5.0)])).grants == (0.0,)
        with Client.from_url(url) as raw:
            assert 0 < raw.pttl(f"{PREFIX}:s:k") <= TTL * 1000 + 1000
            raw.hset(f"{PREFIX}:s:k", "dead", "10 10 1.0")
            raw.hset(f"{PREFIX}:s:k", "mad", "nonsense")
            raw.zadd(f"{PREFIX}:alive", {"dead": 1.0})
        answers = await shares.exchange("a", [Ask("k", Kind.SLOTS, 10.0, 0.0, 0.0, 5.0)])
        assert (answers.grants, answers.replicas) == ((5.0,), 1)
        with Client.from_url(url) as raw:
            assert list(raw.hgetall(f"{PREFIX}:s:k")) == [b"a"]

    url = redis.fresh()
    run(url, body)


def test_one_exchange_is_one_command_however_many_asks(redis: Redis) -> None:
    async def body(shares: RedisShares) -> None:
        await shares.exchange("a", [])
        with Client.from_url(url) as raw:
            before = raw.info("commandstats")["cmdstat_evalsha"]["calls"]
            answers = await shares.exchange(
                "a", [Ask(f"k{at}", TOKENS.kind, 9.0, 1.0, 0.0, 1.0) for at in range(ASKS_MAX)]
            )
            assert answers.grants == (1.0,) * ASKS_MAX
            assert raw.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 1

    url = redis.fresh()
    run(url, body)


def test_password_and_tls() -> None:
    async def works(shares: RedisShares) -> None:
        assert (await shares.exchange("a", [TOKENS, SLOTS])).grants == (4.0, 6.0)

    async def refused(shares: RedisShares) -> None:
        with pytest.raises(SharesUnavailable, match="refuses") as caught:
            await shares.exchange("a", [])
        assert "qu%40y" not in caught.value.reason

    with Redis(password="qu@y", tls=True, persistent=False) as server:
        run(server.url, works)
        run(server.url.replace(":qu%40y@", ""), refused)


def limited_processes(url: str, count: int, seconds: float, qps: float, burst: int) -> list[list[float]]:
    """Times of admission of so many processes that begin together."""
    words = [str(word) for word in (Path(__file__).with_name("limits_process.py"), url, count, seconds, qps, burst)]
    processes = [
        subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        results = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert all((away, failures) == (False, 0) for _, away, failures in results)
    return [admitted for admitted, _, _ in results]


def test_three_processes_keep_one_rate(redis: Redis) -> None:
    qps, burst = 200.0, 100
    answers = limited_processes(redis.fresh(), 3, 3.0, qps, burst)
    times = sorted(at for admitted in answers for at in admitted)
    margin = 3 * batch_tokens(Schema("a", qps=qps, burst=burst, scope=Scope.GLOBAL), 3)
    for first in times[::7]:
        assert sum(first <= at <= first + 1.0 for at in times) <= burst + qps + margin
    assert burst < len(times) <= burst + qps * (times[-1] - times[0]) + margin
    assert all(answers)


def test_redis_away_is_a_local_part_and_back_is_shared_again(redis: Redis) -> None:
    """Paused, killed, and back: no request waits, none is unlimited."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        shares = Shares(replicas=1)
        limiter = Limiter([Schema("a", max_in_flight=40, scope=Scope.GLOBAL)], loop.time(), shares.of("c"))
        rounds = asyncio.Event()

        class Told(RedisShares):
            async def exchange(self, *words: Any) -> Any:
                try:
                    return await super().exchange(*words)
                finally:
                    rounds.set()

        async def until(away: bool) -> None:
            async with asyncio.timeout(60):
                while shares.away is not away:
                    rounds.clear()
                    await rounds.wait()

        def take() -> list[Ticket]:
            granted = [limiter.admit(("a",), NOBODY, False, 1.0, loop.time()) for _ in range(99)]
            return [one for one in granted if isinstance(one, Ticket)]

        async with keeper(url) as other:
            sharer = Sharer(shares, Told(url), "test")
            running = asyncio.create_task(sharer.run())
            await until(away=False)
            for _ in range(3):
                await other.exchange("other", [])
                rounds.clear()
                await rounds.wait()
            assert shares.replicas == 2
            redis.pause()
            await until(away=True)
            held = take()
            assert len(held) == 20
            redis.resume()
            await until(away=False)
            redis.kill()
            await until(away=True)
            for ticket in held:
                ticket.release(loop.time())
            assert len(take()) == 20
            redis.start()
            await until(away=False)
            running.cancel()
            await asyncio.wait([running])
            await sharer.close()

    url = redis.fresh()
    try:
        asyncio.run(main())
    finally:
        redis.resume()
        if not redis.running:
            redis.start()
