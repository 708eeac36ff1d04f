"""Both directions against brains in the same process; the real etcds are in tests/proofs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from brain.migrate.test_following import Silent
from wharf.brain.api.pb import rpc
from wharf.brain.app import Brain
from wharf.brain.config import load_config
from wharf.brain.migrate.client import Access, Client, Compacted
from wharf.brain.migrate.exporting import Export, Target, content
from wharf.brain.migrate.following import Stop
from wharf.brain.migrate.importing import Import, Imported, fingerprint
from wharf.brain.migrate.shapes import Ending, MigrationFailed
from wharf.brain.migrate.source import Source
from wharf.brain.store.filling import Filling, close_target, open_target
from wharf.brain.store.hashing import verify
from wharf.common.parsers import parse_url

QUIET = Ending(quiet=0.05)


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Client]:
    """A client of a brain on `directory`."""
    flags = (f"--data-dir={directory}", "--listen-client-urls=http://127.0.0.1:0", "--unsafe-no-fsync")
    brain = Brain(load_config(flags, {}).config)
    await brain.start()
    client = Client(Access(endpoints=(parse_url(f"http://{brain.addresses[0]}"),)), patience=5.0)
    try:
        yield client
    finally:
        await client.aclose()
        await brain.stop()


async def fill(client: Client, keys: int = 1200) -> None:
    target = Target(client)
    await target.grant(5, 600)
    for number in range(keys):
        await target.put(b"k%05d" % number, b"v" * (number % 50))
    await target.flush()
    for number in range(0, keys, 7):
        await target.delete(b"k%05d" % number)
    await target.attach(b"k00001", 5)
    await target.flush()


async def imported(client: Client, directory: Path, ending: Ending | None = QUIET) -> Imported:
    """The outcome of an import into `directory`, whose log, history and present agree."""
    engine = await open_target(f"lmdb://{directory}")
    try:
        done = await Import(Source(client), Filling(engine, 7), Silent(), Stop()).run(ending)
        snapshot = engine.snapshot()
        assert verify(snapshot) == []
        assert fingerprint(snapshot) == (await Source(client).fingerprint(done.revision))[0]
        snapshot.close()
        return done
    finally:
        await close_target(engine)


def between(tmp_path: Path, work: Callable[[Client, Client], Awaitable[None]]) -> None:
    """Run with two brains."""

    async def main() -> None:
        async with serving(tmp_path / "one") as one, serving(tmp_path / "other") as other:
            await work(one, other)

    asyncio.run(main())


def test_import(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path / "source") as client:
            await fill(client)
            running = asyncio.create_task(imported(client, tmp_path / "copy"))
            await fill(client, 300)
            done = await running
            assert (done.leases, done.source_revision) == (1, done.revision)
        async with serving(tmp_path / "copy") as copy:
            answer = await copy.call(
                "/etcdserverpb.Lease/LeaseTimeToLive",
                rpc.LeaseTimeToLiveRequest(ID=5, keys=True),
                rpc.LeaseTimeToLiveResponse,
            )
            assert (answer.grantedTTL, list(answer.keys)) == (600, [b"k00001"])

    asyncio.run(main())


def test_import_of_one_revision(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path / "source") as client:
            await fill(client, 100)
            done = await imported(client, tmp_path / "copy", None)
            assert done.revision == (await Source(client).stand())[0]
            with pytest.raises(MigrationFailed, match="is past"):
                await imported(client, tmp_path / "other", Ending(until=2))

    asyncio.run(main())


def test_export(tmp_path: Path) -> None:
    async def work(one: Client, other: Client) -> None:
        await fill(one)
        running = asyncio.create_task(Export(one, other, b"", Silent(), Stop()).run(QUIET, False))
        await fill(one, 300)
        done = await running
        ours, leased = await content(Source(other), 0)
        assert (ours, leased) == await content(Source(one), done.revision)
        assert leased == {b"k00001": 5}
        with pytest.raises(MigrationFailed, match="--force"):
            await Export(one, other, b"", Silent(), Stop()).run(None, False)
        again = await Export(one, other, b"k000", Silent(), Stop()).run(None, True)
        assert again.keys == (await Source(other, b"k000").count(0))
        with pytest.raises(MigrationFailed, match="is past"):
            await Export(one, other, b"", Silent(), Stop()).run(Ending(until=2), True)

    between(tmp_path, work)


def test_what_is_compacted_away_says_what_to_do(tmp_path: Path) -> None:
    async def work(one: Client, __: Client) -> None:
        await fill(one, 100)
        source = Source(one)
        revision, _ = await source.stand()
        await one.call("/etcdserverpb.KV/Compact", rpc.CompactionRequest(revision=revision), rpc.CompactionResponse)
        with pytest.raises(Compacted, match="compaction-interval"):
            await source.count(revision - 1)
        with pytest.raises(Compacted, match="compaction-interval"):
            async for _ in source.transactions(1, lambda _: None):
                pass

    between(tmp_path, work)


def test_refusals_of_a_server_are_passed_on(tmp_path: Path) -> None:
    async def work(one: Client, __: Client) -> None:
        with pytest.raises(MigrationFailed, match="key is not provided"):
            await one.call("/etcdserverpb.KV/Put", rpc.PutRequest(), rpc.PutResponse)
        with pytest.raises(MigrationFailed, match="does not speak etcd's v3 API"):
            await one.call("/etcdserverpb.KV/Nothing", rpc.PutRequest(), rpc.PutResponse)
        with pytest.raises(MigrationFailed, match="max-request-bytes"):
            await one.call("/etcdserverpb.KV/Put", rpc.PutRequest(key=b"k", value=bytes(1600000)), rpc.PutResponse)

    between(tmp_path, work)
