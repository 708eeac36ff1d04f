"""PostgreSQL fails over to an asynchronous standby and loses a promotion: the next one has the same number.

The tables are set back to what they were, which is what such a standby shows.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from brain.engine.conformance import get, outcomes
from brain.engine.histories import Txn
from harness.postgres import Postgres
from integration.pg_kit import authority, engines, leading, run, sql, tables
from wharf.brain.engine.base import EPOCH_TAG_BITS, Diverged, Fenced, Table, epoch_number, next_epoch

LOSE_EVERYTHING = (
    "UPDATE wharf_brain.fence SET epoch = 0, revision = 1, seq = 0, turn = 0, promoted_seq = 0, meta_floor = 0",
    "DELETE FROM wharf_brain.log",
    "DELETE FROM wharf_brain.now",
    "DELETE FROM wharf_brain.history",
    "DELETE FROM wharf_brain.meta WHERE seq > 0",
)
TAG = EPOCH_TAG_BITS
LOST: list[Txn] = [[(b"k", b"lost")]]
KEPT: list[Txn] = [[(b"k", b"kept")]]


async def lose(url: str) -> None:
    for statement in LOSE_EVERYTHING:
        await sql(url, statement)


@pytest.mark.parametrize("tags", [(1, 2), (2, 1)], ids=["higher tag", "lower tag"])
@pytest.mark.parametrize(("lost", "kept"), [(LOST, KEPT), (LOST, LOST), ([], KEPT), (LOST, []), ([], [])])
def test_replica_of_a_lost_epoch_shows_nothing_of_it(
    postgres: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: list[Txn],
    kept: list[Txn],
    tags: tuple[int, int],
) -> None:
    """Its number, batches and even records may be those of the epoch that was made in its place."""
    drawn = iter(tags)
    monkeypatch.setattr(
        "wharf.brain.engine.postgres.next_epoch", lambda epoch: next_epoch(epoch) >> TAG << TAG | next(drawn)
    )

    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 3) as (old, new, follower):
            first = await leading(old)
            await first.commit(lost, [(b"lease/1", b"lost")])
            await follower.catch_up()
            assert get(follower, Table.META, b"lease/1") == b"lost"
            await lose(url)
            await new.reload()
            second = await leading(new)
            assert epoch_number(second.epoch) == epoch_number(first.epoch)
            await second.commit(kept, [(b"lease/2", b"kept")])
            try:
                await follower.catch_up()
            except Diverged:
                await follower.reload()
            assert (follower.position(), tables(follower)) == await authority(url)

    run(body())


def test_writer_of_a_lost_epoch_cannot_commit(postgres: Postgres, tmp_path: Path) -> None:
    """The epoch in its place has its number, and stands at its revision and batch."""

    async def body() -> None:
        url = postgres.fresh()
        async with engines(url, tmp_path, 2) as (old, new):
            first = await leading(old)
            await first.commit(LOST)
            await lose(url)
            await new.reload()
            await (await leading(new)).commit(KEPT)
            (error,) = await outcomes(old, [first.batch([[(b"l", b"v")]])])
            assert isinstance(error, Fenced)
            assert (new.position(), tables(new)) == await authority(url)

    run(body())


def test_epochs_of_an_older_release_are_followed_by_higher_ones() -> None:
    for before in (0, 1, 7, (1 << 24) - 1, next_epoch(7)):
        after = next_epoch(before)
        assert after > before
        assert epoch_number(after) == epoch_number(before) + 1
