"""Run under `disk_faults.c`: an engine whose n-th file operation fails, for each n, in one process.

`python -m faults.disk_rows CONTROL FOLDER SCENARIO ERROR WAVES` prints one JSON object per row: the number of the
operation, how many operations failed, whether the store stopped, and what is wrong. In the first half of the rows the
operation fails once, in the second half every later operation fails too. WAVES: batches that the scenarios "write" and
"compact" commit.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from faults.disk_control import EVER, Control, Counts
from wharf.brain.api.members import Member
from wharf.brain.engine.base import CommitUnknown, EngineError, EngineFailed, Table
from wharf.brain.engine.lmdb import LmdbEngine
from wharf.brain.engine.replica import Replica
from wharf.brain.errors import BrainError, LeaderFailed, NoSpace, Unhealthy
from wharf.brain.lone import Lone
from wharf.brain.store.shapes import Committed, PutOp, RangeOp
from wharf.brain.store.store import Store

PATIENCE: Final = 30.0  # seconds for anything to be answered; never a measure of speed
MOST_ROWS: Final = 1000
WAVE: Final = 4  # requests in a batch


@dataclass
class Row:
    """One run: what was answered, and what is wrong about it."""

    folder: Path
    refused: bool = False  # the start was refused
    stopped: bool = False  # the store takes no more requests
    wrongs: list[str] = field(default_factory=list)
    waves: int = 0
    stored: dict[bytes, bool | None] = field(default_factory=dict)  # key → acknowledged, refused, or None: unknown

    def check(self, right: bool, wrong: str) -> None:
        if not right:
            self.wrongs.append(wrong)

    async def put(self, store: Store, key: bytes, value: bytes = b"v" * 3000) -> None:
        """Put and note what the answer promises."""
        answered: asyncio.Future[Committed | BrainError] = asyncio.get_running_loop().create_future()
        store.submit(PutOp(key, value), answered.set_result)
        try:
            answer = await asyncio.wait_for(answered, PATIENCE)
        except TimeoutError:
            self.stored[key] = None
            self.check(False, f"{key!r} was never answered")
            return
        expected = isinstance(answer, Committed | LeaderFailed | NoSpace | Unhealthy)
        self.check(expected, f"{key!r} was answered with {answer!r}")
        self.stored[key] = None if isinstance(answer, LeaderFailed) else isinstance(answer, Committed)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Store, Lone]]:
    engine = LmdbEngine(folder)
    try:
        store = Store(engine)
        await store.start()
        try:
            yield store, Lone(store, Member(store.member_id, "row"))
        finally:
            await asyncio.wait_for(store.stop(), PATIENCE)
    finally:
        engine.close()


async def write(row: Row, store: Store) -> None:
    """Several batches; each has several requests."""
    for wave in range(row.waves):
        await asyncio.gather(*(row.put(store, b"%d/%d" % (wave, number)) for number in range(WAVE)))


async def defragment(row: Row, store: Store) -> None:
    with suppress(EngineError):
        await asyncio.wait_for(store.defragment(), PATIENCE)
    await row.put(store, b"after")


async def backup(row: Row, store: Store) -> None:
    target = row.folder / "copy"
    try:
        await asyncio.to_thread(store.engine.backup, str(target))
    except EngineError as error:
        row.check(str(row.folder) in str(error), f"the error names no file: {error}")
        row.check(not target.exists(), "a partial copy is left")
    row.check(store.present.refusal is None, "a failed copy ended the writing")


async def compact(row: Row, store: Store) -> None:
    """A compaction and its steps, which are batches of their own, between other batches."""
    answered: asyncio.Future[BrainError | None] = asyncio.get_running_loop().create_future()
    store.compact(store.revision, False, answered.set_result)
    await write(row, store)
    await asyncio.wait_for(answered, PATIENCE)


SCENARIOS: Final[dict[str, Callable[[Row, Store], Awaitable[None]]]] = {
    "write": write,
    "compact": compact,
    "defragment": defragment,
    "backup": backup,
}


async def serve_and_fail(row: Row, control: Control, scenario: str, first: int, last: int, error: int) -> Counts:
    async with serving(row.folder) as (store, lone):
        control.fail(row.folder, first, last, error)
        await SCENARIOS[scenario](row, store)
        counts = control.stop()
        refusal = store.present.refusal
        row.stopped = refusal is not None
        if row.stopped:
            row.check(isinstance(refusal, Unhealthy), f"requests are refused with {refusal!r}")
            await asyncio.wait_for(lone.wait_fatal(), PATIENCE)
            store.engine.size_in_use()  # metrics and Status still read it
        else:
            await row.put(store, b"later")
            row.check(row.stored[b"later"] is True, "the store goes on, but takes no write")
    return counts


async def start_and_fail(row: Row, control: Control, first: int, last: int, error: int) -> Counts:
    """The start itself fails, or the node serves."""
    control.fail(row.folder, first, last, error)
    try:
        async with serving(row.folder):
            pass
    except (EngineError, OSError) as refusal:
        row.refused = True
        row.check(str(row.folder) in str(refusal), f"the error names no file: {refusal}")
    return control.stop()


async def replicate_and_fail(row: Row, control: Control, first: int, last: int, error: int) -> Counts:
    """A replica reports every write that it does not show, and a new generation of its file takes its place."""
    replica = Replica(row.folder)
    try:
        outcomes: list[EngineError | None] = []
        control.fail(row.folder, first, last, error)
        for revision in range(2, 2 + row.waves):
            replica.queue([(Table.NOW, b"%d" % revision, b"v" * 9000)], {}, revision, outcomes.append)
            await asyncio.wait_for(replica.drained(), PATIENCE)
            if outcomes[-1] is not None:
                break
        counts = control.stop()
        row.stopped = isinstance(outcomes[-1], CommitUnknown | EngineFailed)
        loading = replica.next_generation()
        loading.add([(Table.NOW, b"loaded", b"v")], 9)
        loading.end()
        await replica.exchange(loading, 9, 0)
        replica.queue([(Table.NOW, b"next", b"v")], {}, 10, outcomes.append)
        await asyncio.wait_for(replica.drained(), PATIENCE)
        row.check(outcomes[-1] is None, f"the new generation is not written: {outcomes[-1]}")
        row.check(replica.read(Table.NOW, b"loaded") == replica.read(Table.NOW, b"next") == b"v", "not shown")
    finally:
        replica.close()
    return counts


async def verify(row: Row) -> None:
    """A start without faults shows what was acknowledged, nothing that was refused, and takes writes."""
    async with serving(row.folder) as (store, _):
        for key, stored in row.stored.items():
            found = store.range(RangeOp(key)).count == 1
            row.check(stored is None or found is stored, f"{key!r}: acknowledged {stored}, stored {found}")
        before = len(row.wrongs)
        await row.put(store, b"restarted")
        row.check(len(row.wrongs) > before or row.stored[b"restarted"] is True, "no write after the restart")


async def prepare(folder: Path) -> Row:
    """A store with some content, which each row copies."""
    row = Row(folder)
    async with serving(folder) as (store, _):
        for number in range(20):
            await row.put(store, b"early/%d" % number)
        for number in range(20):
            await row.put(store, b"early/%d" % number, b"short")
    return row


async def run(control: Control, template: Row, scenario: str, error: int, last: int, waves: int) -> None:
    for number in range(1, MOST_ROWS):
        row = Row(template.folder.with_name("row"), waves=waves, stored=dict(template.stored))
        if scenario not in ("create", "replica"):
            shutil.copytree(template.folder, row.folder, ignore=shutil.ignore_patterns("*-lock"))
        else:
            row.folder.mkdir()
            row.stored = {}
        if scenario in ("create", "open"):
            counts = await start_and_fail(row, control, number, max(number, last), error)
        elif scenario == "replica":
            counts = await replicate_and_fail(row, control, number, max(number, last), error)
        else:
            counts = await serve_and_fail(row, control, scenario, number, max(number, last), error)
        if scenario != "replica":
            await verify(row)
        shutil.rmtree(row.folder, ignore_errors=scenario == "replica")
        shown = {
            "row": number,
            "on": last == EVER,
            "failed": counts.failed,
            "stopped": row.stopped,
            "refused": row.refused,
        }
        sys.stdout.write(json.dumps({**shown, "wrong": row.wrongs}) + "\n")
        sys.stdout.flush()
        if counts.operations < number:
            return
    raise AssertionError(f"more than {MOST_ROWS} operations")


async def run_both(control: Control, folder: Path, scenario: str, error: int, waves: int) -> None:
    template = await prepare(folder / "template")
    for last in (0, EVER):
        await run(control, template, scenario, error, last, waves)


def main(control: str, folder: str, scenario: str, error: str, waves: str) -> None:
    logging.disable()
    asyncio.run(run_both(Control(Path(control)), Path(folder), scenario, int(error), int(waves)))


if __name__ == "__main__":
    main(*sys.argv[1:])
