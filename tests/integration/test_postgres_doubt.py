"""Batches whose outcome the writer is not told: nothing is lost, doubled or guessed, whatever happens to the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from brain.engine.conformance import get, outcomes, resolved
from harness.faultproxy import FaultProxy
from harness.postgres import Postgres
from integration.pg_kit import (
    Cut,
    Leader,
    authority,
    before_it_came_back,
    before_it_left,
    engines,
    fate,
    leading,
    run,
    sql,
    tables,
    through,
    until,
)
from wharf.brain.engine import pg_link
from wharf.brain.engine import postgres as pg
from wharf.brain.engine.base import Batch, CommitUnknown, EngineError, EngineFailed, Table
from wharf.brain.engine.pg_link import InDoubt
from wharf.brain.engine.pg_read import READ_SECONDS
from wharf.brain.engine.postgres import PostgresEngine

LINK = "engine"


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pg, "COMMIT_SECONDS", 0.7)
    monkeypatch.setitem(pg_link.SETTINGS, "lock_timeout", "400")


async def insist(leader: Leader, batch: Batch) -> int:
    """Land a batch as a store does; how often its outcome was not known."""
    doubts = 0
    while True:
        (error,) = await outcomes(leader.engine, [batch])
        if error is None:
            return doubts
        assert isinstance(error, CommitUnknown), error
        doubts += 1
        found = await fate(leader.engine, batch)
        assert isinstance(found, bool), found
        if found:
            return doubts


async def written(leader: Leader, revisions: int) -> None:
    """Returns once that many more are tried."""
    wanted = leader.writer.revision + revisions
    await until(lambda: leader.writer.revision >= wanted)


@pytest.mark.parametrize(("cut", "landed"), [(before_it_left, False), (before_it_came_back, True)])
def test_a_silent_server_leaves_a_doubt_that_is_resolved(
    postgres: Postgres, proxy: FaultProxy, tmp_path: Path, cut: Cut, landed: bool
) -> None:
    async def body() -> None:
        link = f"silent {landed}"
        url, direct = through(proxy, postgres, link)
        async with engines(url, tmp_path) as (engine,):
            leader = await leading(engine)
            await leader.commit_some(3)
            before = engine.position()
            cut(proxy, link)
            batch = leader.batch([[(b"k", b"v")]], [(b"clock", b"9")])
            (error,) = await outcomes(engine, [batch])
            assert isinstance(error, CommitUnknown)
            assert engine.position() == before
            assert isinstance(await resolved(engine, batch), EngineError)  # not reachable: not known yet
            proxy.reset(link)
            proxy.heal(link)
            assert await fate(engine, batch) is landed
            assert (get(engine, Table.META, b"clock") == b"9") is landed
            assert len(leader.deltas) == 3 + landed
            if not landed:
                assert await outcomes(engine, [batch]) == [None]
            await leader.commit_some(2)
            assert (engine.position(), tables(engine)) == await authority(direct)

    run(body())


def test_a_batch_that_is_still_on_its_way_cannot_land_once_its_fate_was_told(
    postgres: Postgres, proxy: FaultProxy, tmp_path: Path
) -> None:
    """The statement waits in the network while the writer drops the connection, asks, and goes on."""

    async def body() -> None:
        link = "late"
        url, direct = through(proxy, postgres, link)
        async with engines(url, tmp_path) as (engine,):
            leader = await leading(engine)
            await leader.commit_some(2)
            proxy.pause(link, "up")
            batch = leader.batch([[(b"k", b"v")]])
            (error,) = await outcomes(engine, [batch])
            assert isinstance(error, CommitUnknown)
            # A second way to the same server, as if the first one's packets were only slow.
            engine._writes._url = direct
            assert await fate(engine, batch) is False
            proxy.heal(link)
            await asyncio.sleep(0.3)  # the statement arrives now, on a connection nobody listens to
            position, _ = await authority(direct)
            assert position == engine.position()
            assert await outcomes(engine, [batch]) == [None]
            await leader.commit_some(2)
            assert (engine.position(), tables(engine)) == await authority(direct)

    run(body())


def test_a_question_that_was_never_answered_does_no_harm(postgres: Postgres, proxy: FaultProxy, tmp_path: Path) -> None:
    async def body() -> None:
        async with engines(postgres.fresh(), tmp_path) as (engine,):
            leader = await leading(engine)
            await leader.commit_some(1)
            await sql(engine._writes._url, "UPDATE wharf_brain.fence SET turn = turn + 1")
            await leader.commit_some(3)
            assert engine.position().seq == 4

    run(body())


def test_links_that_break_at_any_byte(postgres: Postgres, proxy: FaultProxy, tmp_path: Path) -> None:
    async def body() -> None:
        link = "bytes"
        url, direct = through(proxy, postgres, link)
        async with engines(url, tmp_path, 2) as (engine, follower):
            leader = await leading(engine)
            doubts = 0
            for number in range(60):
                proxy.limit(link, 20 + 8 * number, "up" if number % 2 else "down")
                doubts += await insist(leader, leader.batch([[(b"%d" % (number % 7), b"%d" % number)]]))
                proxy.heal(link)
            assert doubts >= 10
            assert engine.position().seq == 60
            await follower.catch_up()
            assert (follower.position(), tables(follower)) == await authority(direct)
            assert tables(engine) == tables(follower)

    run(body())


@pytest.mark.parametrize("how", ["immediate", "fast", "kill"])
def test_a_server_that_goes_down_in_mid_write(postgres: Postgres, tmp_path: Path, how: str) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 2) as (engine, follower):
            leader = await leading(engine)
            over = asyncio.Event()

            async def write() -> int:
                doubts = 0
                while not over.is_set():
                    number = b"%d" % leader.writer.revision
                    doubts += await insist(leader, leader.batch([[(number, b"v" * 3000)], [(b"last", number)]]))
                return doubts

            writing = asyncio.create_task(write())
            for _ in range(2):
                await written(leader, 20)
                if how == "kill":
                    postgres.kill()
                    await asyncio.to_thread(postgres.start)
                else:
                    await asyncio.to_thread(postgres.restart, how)
            over.set()
            assert await writing >= 1
            await follower.catch_up()
            assert engine.position().revision == leader.writer.revision
            assert (follower.position(), tables(follower)) == await authority(url)
            assert tables(engine) == tables(follower)

    run(body())


def test_a_backend_that_is_killed_takes_the_server_through_recovery(postgres: Postgres, tmp_path: Path) -> None:
    """kill -9 of one backend makes the server end all the others and recover."""

    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path) as (engine,):
            leader = await leading(engine)
            await leader.commit_some(3)
            pid = postgres.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'wharf-brain' LIMIT 1")
            doubts = 0
            for number in range(30):
                if number == 10:
                    await asyncio.create_subprocess_exec("kill", "-9", pid)
                doubts += await insist(leader, leader.batch([[(b"k", b"%d" % number)]]))
            assert doubts >= 1
            assert (engine.position(), tables(engine)) == await authority(url)

    run(body())


def test_a_promotion_does_not_wait_for_a_reader_whose_server_is_silent(
    postgres: Postgres, proxy: FaultProxy, tmp_path: Path
) -> None:
    async def body() -> None:
        link = "reader"
        url, direct = through(proxy, postgres, link)
        async with engines(url, tmp_path, 2) as (engine, other):
            await (await leading(other)).commit_some(2)
            await engine.catch_up()
            proxy.pause(link)
            reading = asyncio.create_task(engine.catch_up())
            assert engine._following is not None
            moving = engine._following.moving
            await until(moving.locked)
            engine._writes._url = direct
            leader = Leader(engine, await asyncio.wait_for(engine.promote(), READ_SECONDS * 0.8))
            with pytest.raises(InDoubt):
                await reading
            await leader.commit_some(2)
            proxy.heal(link)
            assert (engine.position(), tables(engine)) == await authority(direct)

    run(body())


@pytest.mark.parametrize("way", ["up", "down"])
def test_an_engine_is_closed_while_its_server_is_silent(
    postgres: Postgres, proxy: FaultProxy, tmp_path: Path, way: str
) -> None:
    """Whoever waits is told, and nothing is left: not a task, not a directory."""

    async def body() -> None:
        link = f"closing {way}"
        url, _ = through(proxy, postgres, link)
        async with engines(url, tmp_path, 2) as (engine, follower):
            leader = await leading(engine)
            await leader.commit_some(1)
            proxy.pause(link, way)
            batches = [leader.batch([[(b"k", b"v")]]), leader.batch([[(b"l", b"v")]])]
            committing = asyncio.create_task(outcomes(engine, batches))
            waiting = [
                asyncio.create_task(follower.catch_up()),
                asyncio.create_task(follower.catch_up()),
                asyncio.create_task(follower.reload()),
            ]
            await asyncio.sleep(0.05)  # they are under way, more or less
            await asyncio.wait_for(asyncio.gather(engine.aclose(), follower.aclose()), 20)
            assert [type(error) for error in await committing] == [CommitUnknown] * 2
            told = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(one, EngineError) for one in told)
            proxy.heal(link)

    run(body())
    assert not list(tmp_path.iterdir())


# With a synchronous standby


async def eventually(work: Callable[[], Awaitable[None]]) -> None:
    """Until the servers have sorted themselves out."""
    while True:
        try:
            return await work()
        except EngineError:
            await asyncio.sleep(0.05)


def test_a_standby_is_promoted_in_mid_write(tmp_path: Path) -> None:
    """What was acknowledged is there, what was not is there or not, and never twice."""
    with Postgres() as primary, primary.standby() as standby:

        async def body() -> None:
            url = primary.url_with(standby)
            async with engines(url, tmp_path, 2) as (engine, follower):
                leader = await leading(engine)
                await leader.commit_some(5)
                over = asyncio.Event()

                async def write() -> int:
                    doubts = 0
                    while not over.is_set():
                        number = b"%d" % leader.writer.revision
                        doubts += await insist(leader, leader.batch([[(number, b"v" * 500)], [(b"last", number)]]))
                    return doubts

                writing = asyncio.create_task(write())
                await written(leader, 30)
                primary.kill()
                await asyncio.to_thread(standby.promote)
                await written(leader, 30)
                over.set()
                assert await writing >= 1
                await eventually(lambda: _caught_up(follower))
                assert engine.position().revision == leader.writer.revision
                assert (follower.position(), tables(follower)) == await authority(standby.url)
                assert tables(engine) == tables(follower)

        run(body())


def test_a_host_that_says_nothing_does_not_keep_from_the_next(tmp_path: Path) -> None:
    """The primary is frozen, its connections live on; the standby takes over, and the replaced one comes back."""
    with Postgres() as primary, primary.standby() as standby:

        async def body() -> None:
            url = primary.url_with(standby)
            async with engines(url, tmp_path, 2) as (engine, follower):
                leader = await leading(engine)
                await leader.commit_some(3)
                primary.pause()
                await asyncio.to_thread(standby.promote)
                assert await insist(leader, leader.batch([[(b"k", b"v")]])) >= 1
                await leader.commit_some(2)
                await eventually(lambda: _caught_up(follower))
                primary.resume()  # it takes writes as far as it knows, but acknowledges none
                assert follower._following is not None
                follower._reads.drop()
                await eventually(lambda: _caught_up(follower))
                async with engines(standby.url, tmp_path) as (fresh,):
                    assert tables(engine) == tables(follower) == tables(fresh)

        run(body())


async def _caught_up(engine: PostgresEngine) -> None:
    await engine.catch_up()


def test_a_leader_whose_replica_fails_says_so_and_loads_it_anew(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is stored, but cannot be shown: the writer stops, and the next promotion loads the replica."""

    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path) as (engine,):
            leader = await leading(engine)
            await leader.commit_some(2)
            assert engine._following is not None
            replica = engine._following.replica
            monkeypatch.setattr(replica, "_error", lambda code, batch: EngineFailed("the disk is broken"))
            batch = leader.batch([[(b"k", b"v")]])
            (error,) = await outcomes(engine, [batch])
            assert isinstance(error, CommitUnknown)
            assert isinstance(await resolved(engine, batch), EngineFailed)
            monkeypatch.undo()
            leader = await leading(engine)
            await leader.commit_some(2)
            assert (engine.position(), tables(engine)) == await authority(url)

    run(body())


def test_a_commit_that_the_standby_did_not_see_is_not_acknowledged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody cancels the wait for the standby: the server commits alone and says so in a warning."""
    with Postgres() as primary, primary.standby() as standby:

        async def body() -> None:
            async with engines(primary.url, tmp_path) as (engine,):
                leader = await leading(engine)
                await leader.commit_some(2)
                standby.pause()
                batch = leader.batch([[(b"k", b"v")]])
                committing = asyncio.create_task(outcomes(engine, [batch]))
                waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                await until(lambda: primary.sql(f"SELECT count(*) {waiting}") != "0")
                primary.sql(f"SELECT pg_cancel_backend(pid) {waiting}")
                with caplog.at_level(logging.WARNING):
                    (error,) = await committing
                assert isinstance(error, CommitUnknown)
                assert "synchronous replication" in caplog.text
                assert isinstance(await resolved(engine, batch), EngineError)
                standby.resume()
                assert await fate(engine, batch) is True
                await leader.commit_some(2)
                assert (engine.position(), tables(engine)) == await authority(primary.url)

        run(body())
