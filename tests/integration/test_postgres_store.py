"""A whole store on PostgreSQL, and what the database may refuse."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from brain.engine.conformance import outcomes
from brain.faulty import ask, fill, running, submit
from harness.postgres import Postgres
from integration.pg_kit import authority, engines, leading, run, sql, tables, until
from wharf.brain.engine import pg_schema
from wharf.brain.engine.base import EngineCorrupt, EngineError, EngineFull, Table
from wharf.brain.engine.pg_link import InDoubt
from wharf.brain.engine.postgres import PostgresEngine
from wharf.brain.engine.sql import MIGRATIONS
from wharf.brain.errors import NoSpace
from wharf.brain.store._codec import encode_kv
from wharf.brain.store.filling import Filling
from wharf.brain.store.hashing import verify
from wharf.brain.store.keys import hkey, lease_key
from wharf.brain.store.shapes import DeleteOp, PutOp, RangeOp
from wharf.brain.store.snapshot import check, restore

REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN {when} RAISE EXCEPTION 'as told' USING ERRCODE = '{code}'; {end} RETURN NULL; END $$
"""
ON_LOG = "CREATE TRIGGER refuse BEFORE INSERT ON wharf_brain.log FOR EACH STATEMENT EXECUTE FUNCTION refuse()"


async def refuse(url: str, code: str, when: str = "", end: str = "") -> None:
    """Make the database refuse to write log records."""
    await sql(url, REFUSE.format(code=code, when=when, end=end))
    await sql(url, ON_LOG)


def test_a_store_lives_on_it_and_compacts(postgres: Postgres, tmp_path: Path) -> None:
    chance = random.Random(1)

    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path / "replicas", 2) as (engine, follower):
            await follower.catch_up()
            async with running(engine) as store:
                for _ in range(30):
                    keys = [b"k%d" % chance.randrange(20) for _ in range(10)]
                    ops = [DeleteOp(key) if chance.random() < 0.3 else PutOp(key, b"v") for key in keys]
                    await fill(store, ops)
                await follower.catch_up()
                target = store.revision - 40
                assert await ask(store.compact, target, True) is None
                await submit(store, PutOp(b"after", b"v"))
                position, held = await authority(url)
                assert (engine.position(), tables(engine)) == (position, held)
                assert held[Table.LOG][0][0] == target.to_bytes(8, "big")
                assert all(int.from_bytes(key[-8:], "big") > target for key, _ in held[Table.HISTORY])
                await follower.catch_up()
                await until(lambda: tables(follower) == held)
                snapshot = follower.snapshot()
                assert verify(snapshot) == []
                snapshot.close()
                left = store.range(RangeOp(b"\0", b"\0")).count
                gone = await sql(url, "DELETE FROM wharf_brain.now WHERE value IS NULL")
                assert int(gone.split()[1]) <= 20 - left + 1

    run(body())


def test_a_backup_of_any_node_becomes_a_store_of_its_own(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> int:
        url = postgres.fresh()
        async with engines(url, tmp_path / "replicas", 2) as (engine, follower), running(engine) as store:
            for number in range(20):
                await submit(store, PutOp(b"k%d" % (number % 7), b"%d" % number))
            await follower.catch_up()
            await asyncio.to_thread(follower.backup, str(tmp_path / "backup"))
            return store.revision

    revisions: list[int] = []

    async def main() -> None:
        revisions.append(await body())

    run(main())
    assert check(tmp_path / "backup").revision == revisions[0]
    assert restore(tmp_path / "backup", tmp_path / "restored").keys == 7


def test_a_full_disk_refuses_the_batch_and_the_store_goes_on(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path) as (engine,), running(engine) as store:
            await submit(store, PutOp(b"before", b"v"))
            await refuse(url, "53100")
            with pytest.raises(NoSpace):
                await submit(store, PutOp(b"k", b"v"))
            await sql(url, "DROP TRIGGER refuse ON wharf_brain.log")
            await submit(store, PutOp(b"after", b"v"))
            assert store.range(RangeOp(b"\0", b"\0")).count == 2
            assert (engine.position(), tables(engine)) == await authority(url)

    run(body())


def test_what_another_transaction_was_in_the_way_of_is_tried_again(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path) as (engine,):
            leader = await leading(engine)
            await sql(url, "CREATE SEQUENCE tries")
            await refuse(url, "40001", "IF nextval('tries') % 3 > 0 THEN", "END IF;")
            for _ in range(3):
                await leader.commit([[(b"k", b"v")]])
            assert (engine.position(), tables(engine)) == await authority(url)

    run(body())


@pytest.mark.parametrize(("code", "meaning"), [("53100", EngineFull), ("23514", EngineError)])
def test_a_refusal_leaves_everything_as_it_was(
    postgres: Postgres, tmp_path: Path, code: str, meaning: type[EngineError]
) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path) as (engine,):
            leader = await leading(engine)
            await leader.commit_some(3)
            before = await authority(url)
            await refuse(url, code)
            (error,) = await outcomes(engine, [leader.batch([[(b"k", b"v")]])])
            assert type(error) is meaning
            assert "as told" in str(error)
            assert (engine.position(), tables(engine)) == await authority(url) == before

    run(body())


def test_a_store_is_filled_begun_anew_and_served(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path) as (engine,):
            for attempt in range(2):
                filling = Filling(engine, origin=1)
                assert await filling.begin() == 1
                now = [(Table.NOW, b"k%05d" % number, kv(b"k%05d" % number, attempt)) for number in range(3000)]
                await filling.rows([*now, (Table.HISTORY, hkey(b"old", 5), b"v"), (Table.META, lease_key(7), b"lease")])
                assert tables(engine)[Table.NOW] == [(key, value) for _, key, value in now]
            await filling.base(9)
            await filling.finish()
            assert (engine.position(), tables(engine)) == await authority(url)
            async with engines(url, tmp_path) as (other,):
                assert other.position().revision == 9
                assert tables(other) == tables(engine)

    run(body())


def kv(key: bytes, attempt: int) -> bytes:
    return encode_kv(key, 3, 4, 2, b"%d" % attempt, 0)


async def refused(engine: PostgresEngine) -> EngineError:
    with pytest.raises(EngineError) as raised:
        await engine.open()
    with pytest.raises(EngineError, match="closed"):
        engine.snapshot()
    return raised.value


def test_a_newer_schema_is_refused_with_a_hint(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path):
            await sql(url, "UPDATE wharf_brain.version SET version = 99")
        assert "schema version 99" in str(await refused(PostgresEngine(url, tmp_path)))

    run(body())
    assert not list(tmp_path.iterdir())


def test_an_older_schema_is_migrated_once(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path) as (engine,):
            await (await leading(engine)).commit_some(3)
        later = ("CREATE TABLE wharf_brain.later (id integer)", "INSERT INTO wharf_brain.later VALUES (1)")
        monkeypatch.setattr(pg_schema, "MIGRATIONS", (*MIGRATIONS, later))
        async with engines(url, tmp_path, 3) as made:
            assert {engine.position().seq for engine in made} == {3}
        assert await sql(url, "DELETE FROM wharf_brain.later") == "DELETE 1"

    run(body())


def test_a_fence_that_is_gone_is_named(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path) as (engine,):
            await sql(url, "DELETE FROM wharf_brain.fence")
            with pytest.raises(EngineCorrupt, match="fence"):
                await engine.promote()
            with pytest.raises(EngineCorrupt, match="fence"):
                await engine.catch_up()

    run(body())


def test_a_role_that_may_not_make_tables_uses_those_that_are_there(postgres: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path):
            pass
        for statement in (
            "CREATE ROLE sailor LOGIN PASSWORD 'rope'",
            "GRANT USAGE ON SCHEMA wharf_brain TO sailor",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA wharf_brain TO sailor",
        ):
            await sql(url, statement)
        login = url.replace(f"{postgres.user}:{postgres.password}@", "sailor:rope@")
        async with engines(login, tmp_path) as (engine,):
            await (await leading(engine)).commit_some(2)

    run(body())


# TLS and passwords


@pytest.fixture(scope="module")
def secured() -> Iterator[Postgres]:
    with Postgres(user="pilot", password="s3cret@/:", tls=True) as server:
        yield server


def test_tls_and_password_come_in_the_url(secured: Postgres, tmp_path: Path) -> None:
    async def body() -> None:
        async with engines(secured.fresh(), tmp_path) as (engine,):
            await (await leading(engine)).commit_some(2)
            row = await engine._writes.fetchrow(5.0, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert row is not None
            assert row["ssl"] is True

    run(body())


@pytest.mark.parametrize("fault", ["password", "authority", "plaintext"])
def test_who_is_not_let_in_is_told_why_and_not_the_password(secured: Postgres, tmp_path: Path, fault: str) -> None:
    assert secured.certificates is not None
    url = {
        "password": secured.url.replace("s3cret", "wr0ng"),
        "authority": secured.url.replace(str(secured.certificates.ca), str(secured.certificates.client.cert)),
        "plaintext": secured.url.replace("sslmode=verify-full", "sslmode=disable"),
    }[fault]

    async def body() -> None:
        error = await refused(PostgresEngine(url, tmp_path))
        assert isinstance(error, InDoubt)
        assert f"PostgreSQL at 127.0.0.1:{secured.port}/wharf" in str(error)
        assert "s3cret" not in str(error)
        assert "wr0ng" not in str(error)

    run(body())
    assert not list(tmp_path.iterdir())
