"""A store in PostgreSQL made out of a running etcd, or out of a snapshot file."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest
from harness.nodes import BrainCluster, BrainNode
from harness.postgres import Postgres
from proofs import servers
from proofs.model.refusals import Refused
from proofs.moving import Command, Writers, client, command, compare_history, compare_leases, everything, fill, leases
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import SharedEngine, Snapshot, Table
from wharf.brain.store.filling import Filling, close_target, open_target
from wharf.brain.store.hashing import verify
from wharf.brain.store.keys import LEASE_PREFIX, META_COMPACT, parse_lease_key, parse_u64, prefix_end
from wharf.common.pb.etcd import kv_pb2, rpc_pb2


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as running:
        yield running


@pytest.fixture
def url(server: Postgres, request: pytest.FixtureRequest) -> str:
    """An empty database."""
    name = request.node.originalname.removeprefix("test_")[:40]
    server.sql(f"CREATE DATABASE {name}", database="postgres")
    return server.url_of(name)


def look(url: str) -> tuple[int, int, list[kv_pb2.KeyValue], set[int]]:
    """(revision, compact revision, live keys, leases) that a node would load; they must agree with log and history."""

    def read(snapshot: Snapshot) -> tuple[int, int, list[kv_pb2.KeyValue], set[int]]:
        assert verify(snapshot) == []
        kvs = [kv_pb2.KeyValue.FromString(kv) for _, kv in snapshot.scan(Table.NOW, b"", None)]
        held = {parse_lease_key(key) for key, _ in snapshot.scan(Table.META, LEASE_PREFIX, prefix_end(LEASE_PREFIX))}
        compacted = parse_u64(snapshot.get(Table.META, META_COMPACT))
        return snapshot.revision, compacted, sorted(kvs, key=lambda kv: kv.key), held

    async def main() -> tuple[int, int, list[kv_pb2.KeyValue], set[int]]:
        engine = await open_target(url)
        snapshot = engine.snapshot()
        try:
            return read(snapshot)
        finally:
            snapshot.close()
            await close_target(engine)

    return asyncio.run(main())


def back(url: str, path: Path) -> None:
    """The copy that any node of a shared store hands out."""

    async def main() -> None:
        engine = await open_target(url)
        try:
            await asyncio.to_thread(engine.backup, str(path))
        finally:
            await close_target(engine)

    asyncio.run(main())


def test_import_under_load(server: Postgres, url: str, tmp_path: Path) -> None:
    store = servers.start("etcd-3.6", tmp_path / "source")
    words = ("import", f"--from={store.url}", f"--engine={url}")
    try:
        with client(store.url) as source:
            fill(source)
            with Writers(store.url) as writers, Command(*words) as running:
                running.wait_line("caught up")
                writers.wait_more(100)
                running.process.kill()  # and again: it goes on where it was
            with Writers(store.url) as writers, Command(*words) as running:
                running.wait_line("going on with an unfinished import")
                running.wait_line("caught up")
                writers.wait_more(100)
                writers.__exit__()
                code, printed = running.end(signal.SIGINT)
            assert code == 0, printed
            assert server.password not in printed
            revision, kvs = everything(source)
            found, compacted, ours, held = look(url)
            assert (found, ours) == (revision, kvs)
            assert 1 < compacted < revision
            assert held == set(leases(source))
            code, printed = command(*words)
            assert (code, f"the target holds data (revision {revision})" in printed) == (1, True)
    finally:
        store.stop()


def test_restore(url: str, tmp_path: Path) -> None:
    store = servers.start("brain", tmp_path / "source")
    copy = tmp_path / "copy.db"
    try:
        with client(store.url) as source:
            fill(source)
            assert command("snapshot", "save", str(copy), f"--endpoint={store.url}")[0] == 0
            revision, kvs = everything(source)
            held = set(leases(source))
    finally:
        store.stop()
    code, printed = command("restore", str(copy), f"--engine={url}", "--bump-revision=100")
    assert code == 0, printed
    found, compacted, ours, ids = look(url)
    assert (found, compacted, ours, ids) == (revision + 100, revision + 100, kvs, held)
    back(url, tmp_path / "back.db")
    code, printed = command("restore", str(tmp_path / "back.db"), f"--data-dir={tmp_path / 'lone'}")
    assert code == 0, printed
    code, printed = command("check", str(tmp_path / "lone"))
    assert (code, f"revision {revision + 100}" in printed) == (0, True)
    code, printed = command("restore", str(copy), f"--engine={url}")
    assert (code, "the target holds data" in printed) == (1, True)


def test_nodes_serve_what_was_imported(tmp_path: Path) -> None:
    store = servers.start("etcd-3.6", tmp_path / "source")
    nodes = BrainCluster(tmp_path, nodes=2, nats=False)
    nodes.postgres.start()  # and nobody serves on it yet
    words = ("import", f"--from={store.url}", f"--engine={nodes.postgres.url}")
    with ExitStack() as ending, client(store.url) as source:
        ending.callback(store.stop)
        imports = ending.enter_context(ExitStack())
        imports.callback(nodes.postgres.close)
        fill(source, 300)
        with Command(*words) as running:
            base = int(running.wait_line("copying").rpartition(" ")[2])
            running.wait_line("caught up")
            with Writers(store.url) as writers:
                writers.wait_more(50)
            code, printed = running.end(signal.SIGINT)
        assert code == 0, printed
        nodes.postgres.stop()
        imports.pop_all()
        ending.enter_context(nodes)
        for node in nodes.nodes:
            file = str(tmp_path / f"{node.name}.db")
            assert command("snapshot", "save", file, f"--endpoint={node.url}")[0] == 0
            code, printed = command("check", file)
            assert code == 0, printed
            with client(node.url) as copy:
                compare_history(source, copy, base)
                if node.leads():
                    compare_leases(source, copy)


def test_import_refuses_an_engine_that_nodes_run_on(tmp_path: Path) -> None:
    store = servers.start("etcd-3.6", tmp_path / "source")
    with ExitStack() as ending, client(store.url) as source:
        ending.callback(store.stop)
        fill(source, 100)
        with BrainCluster(tmp_path, nodes=2, nats=False) as nodes:
            words = ("import", f"--from={store.url}", f"--engine={nodes.postgres.url}", "--no-follow")
            code, printed = command(*words)
            assert code == 1
            assert "to the target: stop every brain on it, or choose another database" in printed
            with client(nodes.wait_leader().url) as one:
                one.unary["put"](rpc_pb2.PutRequest(key=b"still", value=b"served"))
                kept, _ = everything(one)
            for node in nodes.nodes:
                nodes.stop_node(node)
                nodes.start_node(node)
            with client(nodes.wait_leader().url) as one:
                assert everything(one)[0] == kept


def exit_code(node: BrainNode) -> int | None:
    """Once the process has ended, None when it does not."""
    end = os.pidfd_open(node.process.pid)
    try:
        select.select([end], [], [], 60)
    finally:
        os.close(end)
    return node.process.returncode


def test_nodes_end_when_an_import_has_taken_their_engine_over(tmp_path: Path) -> None:
    """The second barrier alone: an import that did not see them."""

    async def take_over(url: str) -> None:
        engine = open_engine(url)
        await cast(SharedEngine, engine).open()
        try:
            await Filling(engine, 7).begin()
        finally:
            await close_target(engine)

    with BrainCluster(tmp_path, nodes=2, nats=False) as nodes:
        leader = nodes.wait_leader()
        (follower,) = nodes.others(leader)
        asyncio.run(take_over(nodes.postgres.url))
        assert exit_code(follower) == 3
        with client(leader.url) as one, pytest.raises(Refused):
            one.unary["put"](rpc_pb2.PutRequest(key=b"k", value=b"never acknowledged"))
        assert exit_code(leader) == 3
        assert "an unfinished import or restore" in nodes.logs()
