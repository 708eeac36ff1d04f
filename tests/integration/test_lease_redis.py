"""The lease in a real Redis: who has it, what its record tells, and every way in which Redis may fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from harness.backing import Redis
from redis import Redis as Client
from wharf.common.clock import CLOCK
from wharf.common.lease import Record, Seen, Tenure, Won, encode_record
from wharf.common.lease_redis import Granted, Held, LeaseUnavailable, RedisLease, new_holder

PREFIX = "wharf:brain:test:lease"
TTL_MS = 60_000  # longer than any test: what a test wants over, it ends itself
A = Record(new_holder("a"), "127.0.0.1:1", 1, TTL_MS)
B = Record(new_holder("b"), "127.0.0.1:2", 1, TTL_MS)

Body = Callable[[RedisLease], Coroutine[Any, Any, None]]


@asynccontextmanager
async def lease(url: str, ttl_ms: int = TTL_MS) -> AsyncIterator[RedisLease]:
    made = RedisLease(url, PREFIX, ttl_ms)
    try:
        yield made
    finally:
        await made.close()


def run(url: str, body: Body, ttl_ms: int = TTL_MS) -> None:
    async def main() -> None:
        async with lease(url, ttl_ms) as made:
            await body(made)

    asyncio.run(main())


@pytest.fixture
def url(redis: Redis) -> str:
    return redis.fresh()


@pytest.fixture
def raw(url: str) -> Iterator[Client]:
    """A client of its own, to look behind the lease."""
    with Client.from_url(url) as client:
        yield client


def won(answer: Won | Held) -> Won:
    assert isinstance(answer, Won), answer
    return answer


def held(answer: Won | Held) -> Held:
    assert isinstance(answer, Held), answer
    return answer


def test_one_wins_and_the_other_is_told_who(url: str) -> None:
    async def body(one: RedisLease) -> None:
        assert (await one.look()).holder is None
        before = CLOCK.now()
        first = won(await one.acquire(A))
        assert first.found is None
        assert before <= first.sent_at <= first.received_at <= CLOCK.now()
        second = held(await one.acquire(B))
        assert second.record == A
        assert 0 < second.remaining_ms <= TTL_MS
        look = await one.look()
        assert (look.holder, look.record) == (A.holder, A)
        assert 0 < look.remaining_ms <= TTL_MS

    run(url, body)


def test_only_the_holder_renews(url: str, raw: Client) -> None:
    async def body(one: RedisLease) -> None:
        await one.acquire(A)
        raw.pexpire(PREFIX, 30_000)
        renewed = replace(A, counter=2)
        assert (await one.renew(renewed)).granted
        assert (await one.look()).record == renewed
        assert (await one.look()).remaining_ms > 30_000
        assert not (await one.renew(B)).granted
        assert (await one.look()).record == renewed

    run(url, body)


def test_the_record_outlives_the_lease(url: str, raw: Client) -> None:
    async def body(one: RedisLease) -> None:
        await one.acquire(A)
        raw.delete(PREFIX)  # as its expiry does
        look = await one.look()
        assert (look.holder, look.record, look.remaining_ms) == (None, A, 0)
        assert not (await one.renew(replace(A, counter=2))).granted
        assert won(await one.acquire(B)).found == A

    run(url, body)


def test_the_lease_expires_by_itself(url: str) -> None:
    async def body(one: RedisLease) -> None:
        await one.acquire(A)
        while (look := await one.look()).holder is not None:
            assert look.remaining_ms <= 300
            await asyncio.sleep(look.remaining_ms / 1000)  # its end is no event anybody could await
        assert won(await one.acquire(B)).found == A

    run(url, body, ttl_ms=300)


def test_a_holder_whose_winning_was_never_told_wins_again(url: str) -> None:
    async def body(one: RedisLease) -> None:
        await one.acquire(A)
        again = won(await one.acquire(replace(A, counter=2)))
        assert again.found == A

    run(url, body)


def test_release_hands_over(url: str) -> None:
    async def body(one: RedisLease) -> None:
        await one.acquire(A)
        assert not await one.release(replace(B, released=True))
        farewell = replace(A, counter=2, released=True, epoch=4)
        assert await one.release(farewell)
        assert not await one.release(farewell)
        assert not (await one.renew(replace(A, counter=3))).granted
        assert won(await one.acquire(B)).found == farewell

    run(url, body)


def test_a_record_promises_what_those_before_may_still_believe(url: str) -> None:
    async def body(one: RedisLease) -> None:
        await one.acquire(replace(A, ttl_ms=90_000, address='[::1]:1 "ü/'))
        await one.release(replace(A, ttl_ms=90_000))
        assert won(await one.acquire(B)).found is not None
        assert (await one.look()).record == replace(B, ttl_ms=90_000)

    run(url, body)


@pytest.mark.parametrize("junk", [b"", b"\xff", b"[]", b"7", b'{"holder":1}', b"{" * 3000])
def test_an_unreadable_record_is_like_none(url: str, raw: Client, junk: bytes) -> None:
    async def body(one: RedisLease) -> None:
        raw.set(f"{PREFIX}:record", junk)
        assert (await one.look()).record is None
        assert won(await one.acquire(A)).found is None
        assert (await one.look()).record == A

    run(url, body)


def test_a_foreign_key_in_its_place_is_told(url: str, raw: Client) -> None:
    async def body(one: RedisLease) -> None:
        raw.rpush(PREFIX, "x")
        with pytest.raises(LeaseUnavailable, match="WRONGTYPE"):
            await one.acquire(A)

    run(url, body)


def test_redis_wiped_refuses_the_holder_and_elects_anew(redis: Redis) -> None:
    async def body(one: RedisLease) -> None:
        first = won(await one.acquire(A))
        tenure = Tenure.begin(A, first, Seen()).promoted(1, 0, CLOCK.now())
        redis.wipe()
        second = won(await one.acquire(B))
        assert second.found is None
        renewal: Granted = await one.renew(tenure.next(CLOCK.now()).record)
        assert not renewal.granted
        assert not renewal.apply(tenure).holds(CLOCK.now())
        follower = Tenure.begin(B, second, Seen()).promoted(2, TTL_MS, CLOCK.now())
        assert follower.from_ > second.received_at + TTL_MS / 1000  # nothing shows when the first believed last

    run(redis.fresh(), body)


def test_scripts_are_sent_anew_to_a_server_that_lost_them(url: str, raw: Client) -> None:
    async def body(one: RedisLease) -> None:
        await one.acquire(A)
        raw.script_flush()
        assert (await one.renew(replace(A, counter=2))).granted
        assert one.contact == 1

    run(url, body)


def test_a_restarted_redis_is_found_again_as_a_new_contact(redis: Redis) -> None:
    async def body(one: RedisLease) -> None:
        await one.acquire(A)
        assert one.contact == 1
        redis.stop()
        for _ in range(2):
            with pytest.raises(LeaseUnavailable, match=r"no contact to 127\.0\.0\.1:\d+"):
                await one.look()
        redis.start()
        assert (await one.look()).holder == A.holder  # its data survived
        assert one.contact > 1

    try:
        run(redis.fresh(), body)
    finally:
        if not redis.running:
            redis.start()


def test_a_paused_redis_costs_a_third_of_the_lease(redis: Redis) -> None:
    async def body(one: RedisLease) -> None:
        await one.acquire(A)
        redis.pause()
        began = CLOCK.now()
        with pytest.raises(LeaseUnavailable, match=r"no answer from .* in 0\.5 s"):
            await one.renew(replace(A, counter=2))
        with pytest.raises(LeaseUnavailable, match="no answer"):
            await one.look()
        assert CLOCK.now() - began < 1.5
        redis.resume()
        look = await one.look()
        assert look.record is not None
        assert look.record.counter in (1, 2)  # it had been sent: whether it was carried out nobody can know

    try:
        run(redis.fresh(), body, ttl_ms=1500)
    finally:
        redis.resume()


def test_a_call_cancelled_anywhere_leaves_no_answer_behind(redis: Redis) -> None:
    async def body(one: RedisLease) -> None:
        for turns in range(30):
            call = asyncio.ensure_future(one.look())
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            assert won(await one.acquire(A)).sent_at > 0
            if turns % 3 == 0:
                await one.close()

    url = redis.fresh()
    run(url, body)
    with Client.from_url(url) as raw:
        assert len(raw.client_list()) == 1


def test_calls_at_the_same_time_get_their_own_answers(url: str) -> None:
    async def body(one: RedisLease) -> None:
        await one.acquire(A)
        renewals = [replace(A, counter=n) for n in range(2, 12)]
        answers = await asyncio.gather(*(one.renew(r) for r in renewals), one.renew(B), one.look())
        assert [getattr(answer, "granted", None) for answer in answers] == [True] * 10 + [False, None]

    run(url, body)


def test_password_and_tls() -> None:
    async def works(one: RedisLease) -> None:
        assert won(await one.acquire(A)).found is None

    def refused(url: str) -> str:
        async def body(one: RedisLease) -> None:
            with pytest.raises(LeaseUnavailable) as caught:
                await one.acquire(B)
            texts.append(caught.value.reason)

        texts: list[str] = []
        run(url, body)
        assert "qu%40y" not in texts[0]
        assert "qu@y" not in texts[0]
        return texts[0]

    with Redis(password="qu@y", tls=True) as server:
        run(server.url, works)
        assert "refuses the user or password" in refused(server.url.replace("qu%40y", "dock"))
        assert "refuses" in refused(server.url.replace(":qu%40y@", ""))
        assert "no contact" in refused(server.url.replace("rediss:", "redis:").split("?")[0])
        strangers = server.url.replace(str(server.certificates.ca if server.certificates else ""), "/dev/null")
        assert "no contact" in refused(strangers)


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:6379", "redis://127.0.0.1?colour=red", "redis://h:x"])
def test_a_bad_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"Redis|[Pp]ort"):
        RedisLease(url, PREFIX, TTL_MS)


def test_the_record_on_the_wire_is_the_record(url: str, raw: Client) -> None:
    async def body(one: RedisLease) -> None:
        await one.acquire(A)
        assert raw.get(f"{PREFIX}:record") == encode_record(A)
        assert raw.get(PREFIX) == A.holder.encode()
        assert raw.pttl(f"{PREFIX}:record") == -1

    run(url, body)
