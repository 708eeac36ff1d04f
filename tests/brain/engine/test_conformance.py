"""What every engine owes the store, rule by rule."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from brain.engine.conftest import submit_all, write
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import Batch, Engine, EngineError, Fenced, Table

NOW, LOG = Table.NOW, Table.LOG


def pairs(
    engine: Engine, start: bytes = b"", end: bytes | None = None, limit: int = 0, reverse: bool = False
) -> list[bytes]:
    snapshot = engine.snapshot()
    try:
        return [key for key, _ in snapshot.scan(NOW, start, end, limit, reverse)]
    finally:
        snapshot.close()


def test_a_new_store_is_empty_at_revision_one(engine: Engine) -> None:
    snapshot = engine.snapshot()
    assert snapshot.revision == 1
    assert not list(snapshot.scan(NOW, b"", None))
    assert snapshot.get(NOW, b"a") is None


def test_a_batch_lands_whole_and_moves_the_revision(engine: Engine) -> None:
    engine.commit(Batch(0, 1, 3, [(NOW, b"a", b"1"), (LOG, b"l", b"2"), (NOW, b"b", b"")]))
    snapshot = engine.snapshot()
    assert snapshot.revision == 3
    assert list(snapshot.scan(NOW, b"", None)) == [(b"a", b"1"), (b"b", b"")]
    assert snapshot.get(LOG, b"l") == b"2"
    assert snapshot.get(NOW, b"b") == b""


def test_the_same_key_in_two_tables_is_two_records(engine: Engine) -> None:
    write(engine, (NOW, b"k", b"now"), (Table.HISTORY, b"k", b"then"))
    snapshot = engine.snapshot()
    assert (snapshot.get(NOW, b"k"), snapshot.get(Table.HISTORY, b"k"), snapshot.get(LOG, b"k")) == (
        b"now",
        b"then",
        None,
    )


def test_a_batch_applies_its_writes_in_order(engine: Engine) -> None:
    write(engine, (NOW, b"k", b"1"), (NOW, b"k", None), (NOW, b"k", b"2"), (NOW, b"gone", b"x"), (NOW, b"gone", None))
    assert list(engine.snapshot().scan(NOW, b"", None)) == [(b"k", b"2")]


def test_deleting_what_is_absent_is_no_error(engine: Engine) -> None:
    write(engine, (NOW, b"k", None))
    assert engine.snapshot().revision == 2


def test_a_snapshot_does_not_move(engine: Engine) -> None:
    write(engine, (NOW, b"a", b"old"))
    before = engine.snapshot()
    write(engine, (NOW, b"a", b"new"), (NOW, b"b", b"new"))
    assert before.revision == 2
    assert list(before.scan(NOW, b"", None)) == [(b"a", b"old")]
    assert engine.snapshot().get(NOW, b"a") == b"new"
    before.close()
    with pytest.raises(ValueError, match="closed"):
        before.get(NOW, b"a")


@pytest.mark.parametrize(
    ("epoch", "expected"), [(1, 1), (0, 2), (0, 0)], ids=["another epoch", "a later revision", "an earlier revision"]
)
def test_a_batch_that_expects_another_state_is_fenced_and_writes_nothing(
    engine: Engine, epoch: int, expected: int
) -> None:
    with pytest.raises(Fenced):
        engine.commit(Batch(epoch, expected, expected + 1, [(NOW, b"k", b"v")]))
    snapshot = engine.snapshot()
    assert (snapshot.revision, snapshot.get(NOW, b"k")) == (1, None)


def test_promotion_fences_the_earlier_epoch(engine: Engine) -> None:
    assert engine.promote() == 1
    assert engine.promote() == 2
    with pytest.raises(Fenced):
        engine.commit(Batch(1, 1, 2, []))
    engine.commit(Batch(2, 1, 2, [(NOW, b"k", b"v")]))
    assert engine.snapshot().revision == 2


def test_a_batch_may_leave_the_revision_alone(engine: Engine) -> None:
    write(engine, (Table.META, b"clock", b"1"), revisions=0)
    assert engine.snapshot().revision == 1
    assert engine.snapshot().get(Table.META, b"clock") == b"1"


def test_submitted_batches_are_reported_in_order_and_a_failed_one_stops_its_successors(engine: Engine) -> None:
    batches = [Batch(0, 1, 2, [(NOW, b"a", b"1")]), Batch(0, 9, 10, []), Batch(0, 2, 3, [(NOW, b"b", b"1")])]
    outcomes = submit_all(engine, [*batches, Batch(0, 10, 11, [])])
    assert [type(outcome) for outcome in outcomes] == [type(None), Fenced, type(None), Fenced]


def test_outcomes_are_reported_from_the_loop_not_from_submit(engine: Engine) -> None:
    async def run() -> None:
        done = asyncio.Event()
        inside = True

        def on_done(error: EngineError | None) -> None:
            assert not inside
            assert error is None
            done.set()

        engine.submit(Batch(0, 1, 2, []), on_done)
        inside = False
        await asyncio.wait_for(done.wait(), 10)
        engine.close()

    asyncio.run(run())


def test_scan_bounds_limit_and_direction(engine: Engine) -> None:
    keys = [b"a", b"b", b"b\0", b"ba", b"c", b"\xff", b"\xff\xff"]
    write(engine, *((NOW, key, b"v") for key in keys))
    assert pairs(engine) == keys
    assert pairs(engine, b"b", b"c") == [b"b", b"b\0", b"ba"]
    assert pairs(engine, b"b", b"c", reverse=True) == [b"ba", b"b\0", b"b"]
    assert pairs(engine, b"b", b"b\0") == [b"b"]
    assert pairs(engine, b"b", None, limit=2) == [b"b", b"b\0"]
    assert pairs(engine, limit=2, reverse=True) == [b"\xff\xff", b"\xff"]
    assert pairs(engine, b"c", b"b") == []
    assert pairs(engine, b"c", b"b", reverse=True) == []
    assert pairs(engine, b"\xff\xff\xff", None) == []
    assert pairs(engine, b"", b"a", reverse=True) == []


def test_scan_crosses_what_an_engine_fetches_at_once(engine: Engine) -> None:
    keys = [b"%05d" % number for number in range(1000)]
    write(engine, *((NOW, key, key) for key in keys))
    assert pairs(engine) == keys
    assert pairs(engine, reverse=True) == keys[::-1]
    assert pairs(engine, limit=600) == keys[:600]
    assert pairs(engine, limit=600, reverse=True) == keys[:399:-1]


def test_bounds_longer_than_any_stored_key(engine: Engine) -> None:
    stored = [b"k" * 510, b"k" * 511, b"l"]
    write(engine, *((NOW, key, b"v") for key in stored))
    assert pairs(engine, b"k" * 600, None) == [b"l"]
    assert pairs(engine, b"k" * 511, b"k" * 600) == [b"k" * 511]
    assert pairs(engine, b"", b"k" * 600) == stored[:2]
    assert pairs(engine, b"", b"k" * 600, reverse=True) == stored[1::-1]
    assert engine.snapshot().get(NOW, b"k" * 600) is None


def test_values_are_framed_as_fields(engine: Engine) -> None:
    big = b"x" * 300
    write(engine, (NOW, b"a", b"1"), (NOW, b"b", b""), (NOW, b"c", big))
    snapshot = engine.snapshot()
    whole = b"\x12\x011" + b"\x12\x00" + b"\x12\xac\x02" + big
    assert snapshot.values(NOW, b"", None, 0, 1 << 30, 0x12) == (whole, 3, None)
    assert snapshot.values(NOW, b"", None, 2, 1 << 30, 0x12) == (b"\x12\x011\x12\x00", 2, b"c")
    assert snapshot.values(NOW, b"", b"c", 2, 1 << 30, 0x12) == (b"\x12\x011\x12\x00", 2, None)
    assert snapshot.values(NOW, b"", None, 0, 4, 0x12) == (b"\x12\x011\x12\x00", 2, b"c")
    assert snapshot.values(NOW, b"c", None, 0, 1, 0x12) == (whole[5:], 1, None)
    assert snapshot.values(NOW, b"d", None, 0, 1, 0x12) == (b"", 0, None)
    assert snapshot.measure(NOW, b"", None, 0) == (len(whole), 3)
    assert snapshot.measure(NOW, b"", None, 2) == (5, 2)
    assert snapshot.measure(NOW, b"b", b"c", 0) == (2, 1)


def test_backup_is_a_store_of_its_own(make_engine: object, engine: Engine, tmp_path: Path) -> None:
    write(engine, (NOW, b"a", b"1"), (LOG, b"b", b"2"))
    target = tmp_path / "backup"
    engine.backup(str(target))
    write(engine, (NOW, b"a", b"changed"))
    if type(engine).__name__ == "MemoryEngine":
        copy: Engine = type(engine).load(str(target))  # type: ignore[attr-defined]
    else:
        os.mkdir(tmp_path / "copy")
        os.rename(target, tmp_path / "copy" / "store-1.mdb")
        copy = open_engine(f"lmdb://{tmp_path}/copy")
    snapshot = copy.snapshot()
    assert (snapshot.revision, snapshot.get(NOW, b"a"), snapshot.get(LOG, b"b")) == (2, b"1", b"2")
    copy.close()


def test_defragment_keeps_content_and_open_snapshots(engine: Engine) -> None:
    write(engine, *((NOW, b"%d" % number, b"x" * 1000) for number in range(500)))
    write(engine, *((NOW, b"%d" % number, None) for number in range(1, 500)))
    before = engine.snapshot()
    size = engine.size()
    engine.defragment()
    assert engine.size() < size or type(engine).__name__ == "MemoryEngine"
    assert engine.size_in_use() <= engine.size()
    assert before.get(NOW, b"0") == b"x" * 1000
    write(engine, (NOW, b"after", b"1"))
    assert before.get(NOW, b"after") is None
    assert pairs(engine) == [b"0", b"after"]


def test_a_closed_engine_says_so(engine: Engine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.snapshot()


@pytest.mark.parametrize("url", ["", "lmdb:", "lmdb://", "memory:x", "redis://h", "/dir"])
def test_unknown_urls_are_refused_by_name(url: str) -> None:
    with pytest.raises(EngineError, match="unknown engine"):
        open_engine(url)
