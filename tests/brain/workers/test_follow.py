"""A worker shows what is published: no less, no more, whatever the file holds already."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from brain.faulty import ask, submit
from brain.watch.kit import Client
from wharf.brain.engine import lmdb_dir
from wharf.brain.engine.base import EngineError
from wharf.brain.engine.lmdb import LmdbEngine, LmdbSnapshot
from wharf.brain.engine.lmdb_follow import LmdbFollower, place
from wharf.brain.errors import Compacted
from wharf.brain.ha.link import Link
from wharf.brain.ha.routes import Route
from wharf.brain.store.shapes import PutOp, RangeOp
from wharf.brain.store.store import Store
from wharf.brain.watch.hub import Hub
from wharf.brain.watch.watcher import WatchSpec
from wharf.brain.workers.follow import Follower, worker_route
from wharf.brain.workers.page import HALTED, Page, make_page, word_of
from wharf.common.clock import FakeClock
from wharf.common.pb.control import control_pb2 as control


class Near:
    """The writer's engine as a follower sees its own: one process may open a file only once."""

    def __init__(self, engine: LmdbEngine) -> None:
        self._engine = engine
        self.generation = 1
        self.fails = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def snapshot(self) -> LmdbSnapshot:
        if self.fails:
            raise EngineError("reading: it is gone")
        return self._engine.snapshot()

    def reopen(self) -> None:
        self.generation = lmdb_dir.generation_of(self._engine.snapshot().env.path)


class Scene:
    """A writer, and a worker that follows it. `publish` says what the writer has come to."""

    def __init__(self, directory: Path) -> None:
        self.engine = LmdbEngine(directory, map_size=1 << 26)
        self.writer = Store(self.engine, FakeClock())
        self.near = Near(self.engine)
        self.page_fd, self.bell = make_page(), os.eventfd(0, os.EFD_NONBLOCK)
        self.page = Page(self.page_fd)
        self.reader: Store
        self.follower: Follower

    def publish(self) -> None:
        snapshot = cast(LmdbSnapshot, self.writer.present.reader.snapshot)
        self.page.published = word_of(*place(snapshot))

    async def follow(self) -> None:
        self.reader = Store(self.near)  # type: ignore[arg-type]
        self.reader.load()
        engine = cast(LmdbFollower, self.near)
        link = Link(control.Hello(), None)
        self.follower = Follower(engine, self.reader.present, self.page, 0, self.bell, link)
        await self.follower.start()

    async def put(self, value: bytes, key: bytes = b"k") -> None:
        await submit(self.writer, PutOp(key, value))

    def shown(self) -> bytes:
        return self.reader.range(RangeOp(b"k")).framed


Story = Callable[[Scene], Awaitable[None]]


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    made = Scene(directory)
    await made.writer.start()
    made.publish()
    await made.follow()
    try:
        yield made
    finally:
        made.follower.stop()
        await made.reader.stop()
        await made.writer.stop()
        made.engine.close()
        made.page.close()
        os.close(made.page_fd)
        os.close(made.bell)


def play(directory: Path, story: Story) -> None:
    async def run() -> None:
        async with scene(directory) as made:
            await story(made)

    asyncio.run(run())


def test_what_is_not_published_is_not_shown(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.put(b"one")
        it.publish()
        it.follower.look()
        assert b"one" in it.shown()
        await it.put(b"two")
        it.follower.look()
        assert (it.reader.revision, b"one" in it.shown()) == (2, True)
        it.publish()
        it.follower.look()
        assert (it.reader.revision, b"two" in it.shown()) == (3, True)
        assert it.page.seen(0) == it.page.published == it.follower.shown

    play(tmp_path, story)


def test_what_is_ahead_is_kept_until_it_is_published(tmp_path: Path) -> None:
    """Published is the second of three batches, and the file is at the third already."""

    async def story(it: Scene) -> None:
        await it.put(b"one")
        it.publish()
        await it.put(b"two")
        it.follower.look()
        assert it.reader.revision == 1
        it.publish()
        await it.put(b"three")
        it.follower.look()  # what it has kept is the very state that is published now
        assert it.reader.revision == 3
        it.publish()
        it.follower.look()
        assert it.reader.revision == 4

    play(tmp_path, story)


def test_the_bell_only_says_look(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        moved = asyncio.Event()
        it.reader.present.on_moved(moved.set)
        await it.put(b"one")
        it.publish()
        for _ in range(3):
            os.eventfd_write(it.bell, 1)
        async with asyncio.timeout(10):
            await moved.wait()
        assert it.reader.revision == 2

    play(tmp_path, story)


def test_what_changes_no_revision_is_shown_too(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        heard: list[bytes | None] = []
        it.reader.present.on_meta(b"note", heard.append)
        await ask(it.writer.write_meta, [(b"note", b"x")])
        it.follower.look()
        assert heard == [None]
        it.publish()
        it.follower.look()
        assert heard == [None, b"x"]

    play(tmp_path, story)


def test_who_slept_through_a_compaction_jumps(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        jumped: list[int] = []
        it.reader.on_jumped(lambda: jumped.append(it.reader.revision))
        for number in range(9):
            await it.put(b"%d" % number)
        await ask(it.writer.compact, 9, True)
        it.publish()
        await it.put(b"more")  # what it jumps to is what is published, not what there is
        it.follower.look()
        it.publish()
        it.follower.look()
        assert jumped == [it.reader.revision] == [11]
        with pytest.raises(Compacted):
            it.reader.range(RangeOp(b"k", revision=8))

    play(tmp_path, story)


def test_a_watch_behind_a_compaction_that_is_not_shown_yet_is_told(tmp_path: Path) -> None:
    """The log it would read from is gone from the file: silence would be a gap."""

    async def story(it: Scene) -> None:
        for number in range(4):
            await it.put(b"%d" % number)
        it.publish()
        it.follower.look()
        hub = Hub(it.reader)
        for number in range(4):
            await it.put(b"%d" % number)
        await ask(it.writer.compact, 8, True)
        client = Client(hub)
        client.watch(WatchSpec(b"k", start_revision=2))
        await client.until(lambda: client.responses[-1].canceled)
        assert (client.responses[-1].compact_revision, client.events()) == (8, [])
        hub.close()

    play(tmp_path, story)


def test_a_defragmented_store_is_followed_and_its_old_file_let_go_of(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.put(b"one")
        it.publish()
        it.follower.look()
        await it.writer.defragment()
        it.publish()
        it.follower.look()
        assert (it.near.generation, b"one" in it.shown()) == (2, True)
        await it.put(b"two")
        it.publish()
        it.follower.look()
        assert b"two" in it.shown()
        assert not [name for name in open_files(tmp_path) if name.endswith("(deleted)")]

    play(tmp_path, story)


def open_files(directory: Path) -> list[str]:
    """Of this process, in `directory`."""
    return [name for fd in Path("/proc/self/fd").iterdir() if (name := _target(fd)).startswith(str(directory))]


def _target(fd: Path) -> str:
    try:
        return os.readlink(fd)
    except OSError:
        return ""


def test_a_writer_that_has_stopped_writing_ends_its_workers(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        it.page.published = HALTED
        it.follower.look()
        assert "stopped writing" in it.follower.fatal.result()
        it.follower.look()

    play(tmp_path, story)


def test_a_store_that_cannot_be_read_ends_the_worker(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        await it.put(b"one")
        it.publish()
        it.near.fails = True
        it.follower.look()
        assert "it is gone" in it.follower.fatal.result()

    play(tmp_path, story)


def test_a_word_of_no_state_ends_the_worker(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        it.page.published += 1
        it.follower.look()
        assert "is not in the store" in it.follower.fatal.result()

    play(tmp_path, story)


def test_it_leads_nobody_and_reads_by_itself(tmp_path: Path) -> None:
    async def story(it: Scene) -> None:
        assert (it.follower.leads(), it.follower.proven(), it.follower.reachable()) == (False, False, False)
        outcomes: list[bool] = []
        it.follower.read(outcomes.append)
        assert outcomes == [True]

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/etcdserverpb.Maintenance/Defragment", Route.LEADER),
        ("/etcdserverpb.KV/Txn", Route.LEADER),
        ("/etcdserverpb.KV/Range", Route.HERE),
        ("/etcdserverpb.KV/RangeStream", Route.HERE),
        ("/etcdserverpb.Watch/Watch", Route.HERE),
    ],
)
def test_where_a_worker_has_things_answered(path: str, route: Route) -> None:
    assert worker_route(path) is route
