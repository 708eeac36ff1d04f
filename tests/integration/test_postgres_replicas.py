"""Nodes of one PostgreSQL: each replica shows what the authority holds, whichever way it came there."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from brain.engine.conformance import get, outcomes, scanned
from harness.postgres import Postgres
from integration.pg_kit import Leader, applied, authority, engines, leading, run, sql, tables, until
from wharf.brain.engine.base import Batch, Diverged, EngineError, Fenced, Table, Write
from wharf.brain.engine.delta import Position, announcement
from wharf.brain.engine.postgres import PURGE_AT, PostgresEngine
from wharf.brain.store.keys import META_CLUSTER, META_COMPACTED, META_MEMBER, encode_u64


def test_the_first_nodes_may_start_at_once(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 5) as made:
            assert {engine.position() for engine in made} == {Position(0, 0, 1)}
            assert len({get(engine, Table.META, META_CLUSTER) for engine in made}) == 1
            assert all(get(engine, Table.META, META_MEMBER) for engine in made)

    run(body())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(4))
def test_every_way_to_follow_leads_to_the_same_tables(postgres: Postgres, tmp_path: Path, seed: int) -> None:
    """By deltas, by the log, by some of both, by loading at the end."""
    chance = random.Random(seed)

    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 4) as (first, by_deltas, by_log, by_both):
            leader = await leading(first)
            await by_deltas.catch_up()
            await leader.commit_some(25)
            for delta in leader.deltas:
                assert await applied(by_deltas, delta)
                if chance.random() < 0.7:
                    assert await applied(by_both, delta) or (await by_both.catch_up()).seq >= delta.seq
            await by_both.catch_up()
            assert await by_log.catch_up() == Position(leader.epoch, 25, leader.writer.revision)
            position, held = await authority(url)
            async with engines(url, tmp_path) as (loaded,):
                for engine in (first, by_deltas, by_log, by_both, loaded):
                    assert engine.position() == position
                    assert tables(engine) == held

    run(body())


def test_deltas_may_come_while_the_log_is_read(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 2) as (first, follower):
            leader = await leading(first)
            await follower.catch_up()
            await leader.commit_some(10)
            writing = asyncio.create_task(leader.commit_some(60))
            while not writing.done():
                reading = asyncio.create_task(follower.catch_up())
                while not reading.done():
                    await asyncio.sleep(0)
                    for delta in leader.deltas[-5:]:
                        follower.apply(delta, lambda error: None)
                await reading
            await writing
            await follower.catch_up()
            position, held = await authority(url)
            assert (follower.position(), tables(follower)) == (position, held)

    run(body())


def test_a_delta_is_taken_only_if_it_is_the_next(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        async with engines(postgres.fresh(), tmp_path, 2) as (first, follower):
            leader = await leading(first)
            await leader.commit_some(3)
            one, _, three = leader.deltas
            assert not await applied(follower, one)  # of another epoch than it knows of: the log is looked at first
            assert (await follower.catch_up()).seq == 3
            assert not await applied(follower, three)
            await leader.commit_some(2)
            four, five = leader.deltas[3:]
            assert not await applied(follower, five)
            assert not await applied(follower, announcement(four))
            assert not await applied(follower, four._replace(records=[b"junk"], base=four.base, revision=four.base + 1))
            assert await applied(follower, four)
            assert not await applied(follower, four)
            assert await applied(follower, five)
            assert follower.position() == first.position()

    run(body())


def test_who_asks_while_the_authority_is_read_gets_the_next_reading(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        async with engines(postgres.fresh(), tmp_path, 2) as (first, follower):
            leader = await leading(first)
            begun = asyncio.Event()
            go_on = asyncio.Event()
            assert follower._following is not None
            follow, readings = follower._following.follow, 0

            async def slowly(link: object) -> None:
                nonlocal readings
                readings += 1
                await follow(link)  # type: ignore[arg-type]
                begun.set()
                await go_on.wait()

            follower._following.follow = slowly  # type: ignore[method-assign]
            early = [asyncio.create_task(follower.catch_up()) for _ in range(3)]
            await begun.wait()
            await leader.commit_some(2)
            late = [asyncio.create_task(follower.catch_up()) for _ in range(3)]
            await asyncio.sleep(0)
            late[0].cancel()
            go_on.set()
            assert {(await task).seq for task in late[1:]} == {2}
            assert {(await task).seq for task in early} <= {0, 2}
            assert readings == 2

    run(body())


def test_of_two_who_are_promoted_one_can_commit(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 3) as nodes:
            for number in range(8):
                promoted = await asyncio.gather(*(node.promote(1000) for node in nodes), return_exceptions=True)
                assert all(isinstance(one, Fenced | EngineError) or one.epoch for one in promoted)  # type: ignore[union-attr]
                landed = []
                for node, one in zip(nodes, promoted, strict=True):
                    if isinstance(one, BaseException):
                        continue
                    revision = node.position().revision
                    batch = Batch(one.epoch, revision, revision, [(Table.META, b"who", b"%d" % number)])
                    landed += [error for error in await outcomes(node, [batch]) if not isinstance(error, Fenced)]
                assert landed == [None]
            for node in nodes:
                await node.catch_up()
            position, held = await authority(url)
            assert [(node.position(), tables(node)) for node in nodes] == [(position, held)] * 3

    run(body())


def test_a_promotion_that_nobody_waits_for_fences_nobody(postgres: Postgres, tmp_path: Path) -> None:
    """Its node has lost the lease, and another one leads by now."""

    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 2) as (late, leader):
            assert late._following is not None
            async with late._following.moving:  # it is still busy with something else
                waiting = [asyncio.create_task(late.promote(1000)) for _ in range(2)]
                await asyncio.sleep(0)
                led = await leading(leader)
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
            await late.catch_up()
            await led.commit([[(b"k", b"v")]])

    run(body())


def test_leadership_goes_round(postgres: Postgres, tmp_path: Path) -> None:
    """Who led follows, who followed leads, on the same engines; the earlier leader's batches land no more."""

    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 2) as nodes:
            earlier: Leader | None = None
            live: dict[bytes, bytes] = {}
            for turn in range(6):
                leader = await leading(nodes[turn % 2], 100 * turn)
                leader.writer.live = live
                await leader.commit_some(5)
                live = leader.writer.live
                if earlier is not None:
                    (error,) = await outcomes(earlier.engine, [earlier.batch([[(b"late", b"v")]])])
                    assert isinstance(error, Fenced)
                    await earlier.engine.catch_up()
                await leader.commit_some(1)
                live = leader.writer.live
                other = nodes[(turn + 1) % 2]
                assert turn == 0 or await applied(other, leader.deltas[-1])
                earlier = leader
            for node in nodes:
                await node.catch_up()
            assert [tables(node) for node in nodes] == [(await authority(url))[1]] * 2
            assert scanned(nodes[0], b"late", b"latf") == []

    run(body())


def test_the_lease_of_the_one_before_is_handed_on(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        async with engines(postgres.fresh(), tmp_path) as (engine,):
            assert (await engine.promote(5000)).previous_lease_ms == 0
            assert (await engine.promote(300)).previous_lease_ms == 5000
            # The second has written nothing, so it may still have been waiting for the first.
            assert (await engine.promote(300)).previous_lease_ms == 5000
            leader = await leading(engine, 300)
            await leader.commit_some(1)
            assert (await engine.promote(300)).previous_lease_ms == 300

    run(body())


# Losing the way


async def far_behind(first: PostgresEngine) -> Leader:
    """A history whose beginning is compacted away."""
    leader = await leading(first)
    await leader.commit_some(30)
    compacted = leader.writer.revision - 5
    records = [(Table.LOG, revision.to_bytes(8, "big"), None) for revision in range(2, compacted)]
    writes = [*records, (Table.META, META_COMPACTED, encode_u64(compacted))]
    batch = Batch(leader.epoch, leader.writer.revision, leader.writer.revision, writes)
    assert await outcomes(first, [batch]) == [None]
    return leader


def test_who_is_behind_the_log_loads_anew_and_open_snapshots_stay(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        async with engines(postgres.fresh(), tmp_path, 2) as (first, follower):
            before = follower.snapshot()
            await far_behind(first)
            await follower.catch_up()
            assert follower.position() == first.position()
            assert tables(follower)[Table.NOW] == tables(first)[Table.NOW]
            assert (before.revision, list(before.scan(Table.NOW, b"", None))) == (1, [])
            before.close()

    run(body())


@pytest.mark.parametrize(
    "loss",
    [
        "UPDATE wharf_brain.fence SET seq = seq - 1",
        "UPDATE wharf_brain.fence SET revision = revision - 1, epoch = epoch + 1",
        "UPDATE wharf_brain.fence SET epoch = epoch - 1",
        "WITH lost AS (UPDATE wharf_brain.log SET epoch = epoch + 1) UPDATE wharf_brain.fence SET epoch = epoch + 1",
        "WITH lost AS (UPDATE wharf_brain.log SET events = events || events) "
        "UPDATE wharf_brain.fence SET epoch = epoch + 1",
        "WITH lost AS (UPDATE wharf_brain.meta SET value = '12345678' WHERE key = 'cluster') "
        "UPDATE wharf_brain.fence SET epoch = epoch + 1",
    ],
    ids=["batches", "revisions", "epoch", "record's writer", "record", "cluster"],
)
def test_an_authority_that_has_lost_something_is_noticed(postgres: Postgres, tmp_path: Path, loss: str) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 2) as (first, follower):
            leader = await leading(first)
            await leader.commit([[(b"k", b"v")]])
            await leader.commit([[(b"k", b"w")]])
            await follower.catch_up()
            await sql(url, loss)
            with pytest.raises(Diverged):
                await follower.catch_up()
            await follower.reload()
            assert await follower.catch_up() == (await authority(url))[0]

    run(body())


def test_a_replica_that_cannot_be_written_is_loaded_anew(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 2) as (first, follower):
            leader = await leading(first)
            await follower.catch_up()
            await leader.commit_some(3)
            assert follower._following is not None
            follower._following.replica.queued_revision = 77  # what is queued now cannot be shown
            outcome: asyncio.Future[EngineError | None] = asyncio.get_running_loop().create_future()
            assert follower.apply(leader.deltas[0], outcome.set_result)
            assert isinstance(await outcome, EngineError)
            assert not follower.apply(leader.deltas[1], lambda error: None)
            await follower.catch_up()
            assert tables(follower) == tables(first)

    run(body())


def test_a_replica_that_cannot_be_written_notices_too_what_the_authority_has_lost(
    postgres: Postgres, tmp_path: Path
) -> None:
    """Loading anew would show clients an earlier revision than they have seen."""

    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 2) as (first, follower):
            leader = await leading(first)
            await leader.commit([[(b"k", b"v")]])
            await follower.catch_up()
            assert follower._following is not None
            follower._following._broken = True
            await sql(url, "UPDATE wharf_brain.fence SET seq = seq - 1, revision = revision - 1")
            with pytest.raises(Diverged):
                await follower.catch_up()
            with pytest.raises(Diverged):
                await follower.catch_up()

    run(body())


# Forgetting


def test_deletions_in_meta_are_told_for_a_while(postgres: Postgres, tmp_path: Path) -> None:
    """Who was not told of a deletion before its trace was cleared away reads META whole."""

    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 3) as (first, prompt, late):
            leader = await leading(first)
            await leader.commit([], [(b"lease/%d" % number, b"l") for number in range(PURGE_AT + 1)])
            await prompt.catch_up()
            await late.catch_up()
            await leader.commit([], [(b"lease/0", None)])
            await prompt.catch_up()
            assert tables(prompt) == tables(first)
            await leader.commit([], [(b"lease/%d" % number, None) for number in range(1, PURGE_AT)])
            await leader.commit([], [(b"clock", b"1")])
            assert await sql(url, "DELETE FROM wharf_brain.meta WHERE value IS NULL") == "DELETE 0"
            await prompt.catch_up()
            await late.catch_up()
            assert tables(prompt) == tables(late) == tables(first) == (await authority(url))[1]

    run(body())


def test_followers_trim_what_the_leader_has_compacted(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 3) as (first, by_delta, by_log):
            leader = await leading(first)
            await by_delta.catch_up()
            for number in range(60):
                await leader.commit([[(b"k", b"%d" % number), (b"%d" % number, b"v")], [(b"%d" % number, None)]])
            await by_log.catch_up()
            target = leader.writer.revision - 10
            writes: list[Write] = []
            for table, rows in ((Table.HISTORY, tables(first)[Table.HISTORY]), (Table.LOG, tables(first)[Table.LOG])):
                bound = target if table == Table.HISTORY else target - 1
                writes += [(table, key, None) for key, _ in rows if int.from_bytes(key[-8:], "big") <= bound]
            writes.append((Table.META, META_COMPACTED, encode_u64(target)))
            batch = Batch(leader.epoch, leader.writer.revision, leader.writer.revision, writes)
            assert await outcomes(first, [batch]) == [None]
            for delta in leader.deltas:
                assert await applied(by_delta, delta)
            await by_log.catch_up()
            held = (await authority(url))[1]
            assert tables(first) == held
            assert held[Table.LOG][0][0] == target.to_bytes(8, "big")
            for follower in (by_delta, by_log):
                await until(lambda follower=follower: tables(follower) == held)  # type: ignore[misc]
            assert await sql(url, "DELETE FROM wharf_brain.now WHERE value IS NULL") == "DELETE 5"

    run(body())
