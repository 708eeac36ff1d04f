"""Workers share limits by way of their parent: over a real Unix socket, with everything that may happen to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from wharf.gateway.api.shapes import Schema, Scope
from wharf.gateway.limits.exchange import ASKS_MAX, Answers, Ask, Keeper, Kind, SharesUnavailable
from wharf.gateway.limits.limiter import Limiter
from wharf.gateway.limits.outcome import NOBODY, Ticket
from wharf.gateway.limits.sharer import Sharer, keeper_of
from wharf.gateway.limits.shares import Shares
from wharf.gateway.limits.shares_parent import ParentShares, ShareServer
from wharf.gateway.limits.shares_redis import RedisShares

SLOTS = Ask("k", Kind.SLOTS, 4.0, 0.0, 3.0, 4.0)


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[ShareServer]:
    server = ShareServer(str(path))
    await server.start()
    try:
        yield server
    finally:
        await server.close()


class Told:
    """A keeper whose rounds a test can await."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._round = asyncio.Event()

    async def exchange(self, holder: str, asks: Sequence[Ask]) -> Answers:
        try:
            return await self._keeper.exchange(holder, asks)
        finally:
            self._round.set()

    async def close(self) -> None:
        await self._keeper.close()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self._round.clear()
                await self._round.wait()


def test_workers_are_told_of_each_other_and_a_dead_one_leaves_its_slots(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path / "s"):
            one, two = ParentShares(str(tmp_path / "s")), ParentShares(str(tmp_path / "s"))
            assert (await one.exchange("one", [SLOTS])).grants == (4.0,)
            answers = await two.exchange("two", [SLOTS])
            assert (answers.grants, answers.replicas) == ((0.0,), 2)
            await one.close()
            while (answers := await two.exchange("two", [SLOTS])).replicas == 2:
                pass  # until the parent has heard of it
            assert answers.grants == (4.0,)
            await two.close()

    asyncio.run(main())


def test_without_a_parent_there_is_no_answer(tmp_path: Path) -> None:
    async def main() -> None:
        worker = ParentShares(str(tmp_path / "s"))
        with pytest.raises(SharesUnavailable, match="no contact"):
            await worker.exchange("one", [])
        async with serving(tmp_path / "s"):
            assert (await worker.exchange("one", [])).replicas == 1
        with pytest.raises(SharesUnavailable, match="no contact"):
            await worker.exchange("one", [])
        await worker.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer", [b"", b"\0\0\0\2[]", b"\0\0\0\x0a[1,[1,1,1]]"[:14], b"\xff\xff\xff\xff", b"\0\0\0\6[1,[]]"]
)
def test_nonsense_from_the_parent_is_no_answer(tmp_path: Path, answer: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_unix_server(babble, str(tmp_path / "s"))
        worker = ParentShares(str(tmp_path / "s"))
        with pytest.raises(SharesUnavailable):
            await worker.exchange("one", [SLOTS])
        await worker.close()
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_a_silent_parent_costs_a_bounded_time_and_a_late_answer_is_nobodys(tmp_path: Path) -> None:
    async def main() -> None:
        connections = 0
        silent = asyncio.Event()

        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            if connections == 1:
                await reader.read()  # until the worker hangs up
                silent.set()
            else:
                await reader.read(100)
                writer.write(b"\0\0\0\x07[1,[2]]")
            writer.close()

        server = await asyncio.start_unix_server(late, str(tmp_path / "s"))
        worker = ParentShares(str(tmp_path / "s"), timeout_seconds=0.05)
        with pytest.raises(SharesUnavailable, match=r"no answer .* in 0\.05 s"):
            await worker.exchange("one", [SLOTS])
        await silent.wait()
        assert (await ParentShares.exchange(worker, "one", [SLOTS])).grants == (2.0,)
        await worker.close()
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_a_worker_that_babbles_is_hung_up_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path / "s"):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(b"\0\0\0\1x")
            assert await reader.read() == b""
            writer.close()

    asyncio.run(main())


def test_a_call_cancelled_anywhere_leaves_no_answer_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path / "s"):
            worker = ParentShares(str(tmp_path / "s"), timeout_seconds=10.0)
            for turns in range(12):
                call = asyncio.ensure_future(worker.exchange("one", [SLOTS, SLOTS]))
                for _ in range(turns):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait([call])
                assert len((await worker.exchange("one", [SLOTS])).grants) == 1
            await worker.close()

    asyncio.run(main())


def test_the_sharer_connects_survives_the_parent_and_gives_back(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        shares = Shares(replicas=2)
        limiter = Limiter([Schema("a", max_in_flight=40, scope=Scope.GLOBAL)], loop.time(), shares.of("c"))
        keeper = Told(ParentShares(str(tmp_path / "s")))
        sharer = Sharer(shares, keeper, "worker-0")
        running = asyncio.create_task(sharer.run())

        async with serving(tmp_path / "s") as server:
            await keeper.until(lambda: not shares.away)
            ticket = limiter.admit(("a",), NOBODY, False, 1.0, loop.time())
            assert isinstance(ticket, Ticket)
            await keeper.until(lambda: server.ledger.size)
        limiter.admit(("a",), NOBODY, False, 1.0, loop.time())
        await keeper.until(lambda: shares.away)
        assert sharer.failures
        granted = [limiter.admit(("a",), NOBODY, False, 1.0, loop.time()) for _ in range(50)]
        assert sum(isinstance(one, Ticket) for one in granted) == 40 // shares.replicas - 2
        async with serving(tmp_path / "s") as server:
            await keeper.until(lambda: not shares.away)
            running.cancel()
            await asyncio.wait([running])
            await sharer.close()
            assert server.ledger.answer("x", [Ask("c/a/f/", Kind.SLOTS, 40.0, 0.0, 0.0, 40.0)], 0.0).grants == (40.0,)

    asyncio.run(main())


def test_who_keeps_the_limits() -> None:
    assert isinstance(keeper_of("redis://127.0.0.1", "/run/s"), RedisShares)
    assert isinstance(keeper_of("", "/run/s"), ParentShares)
    assert keeper_of("", "") is None
    with pytest.raises(ValueError, match="Redis"):
        keeper_of("http://127.0.0.1", "")


def test_an_exchange_is_bounded(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path / "s"):
            worker = ParentShares(str(tmp_path / "s"))
            assert len((await worker.exchange("one", [SLOTS] * ASKS_MAX)).grants) == ASKS_MAX
            with pytest.raises(SharesUnavailable):
                await worker.exchange("one", [SLOTS] * (ASKS_MAX + 1))
            await worker.close()

    asyncio.run(main())
