"""A replica derives from the log what the writer's batches wrote."""

from __future__ import annotations

import pytest
from brain.engine.histories import BATCHES, Txn, Writer
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.engine.base import Batch, Table
from wharf.brain.engine.derive import deleted_keys, derive
from wharf.brain.engine.memory import MemoryEngine
from wharf.brain.store._codec import encode_kv, event_frame, event_kv
from wharf.brain.store.keys import skey


def tables(engine: MemoryEngine) -> list[list[tuple[bytes, bytes]]]:
    return [list(engine.snapshot().scan(table, b"", None)) for table in Table]


@given(BATCHES)
def test_what_is_derived_is_what_was_written(batches: list[list[Txn]]) -> None:
    writer, leader, follower = Writer(), MemoryEngine(), MemoryEngine()
    for txns in batches:
        base, writes = writer.batch(txns)
        leader.commit(Batch(0, base, writer.revision, writes))
        records = [value for table, _, value in writes if table == Table.LOG and value is not None]
        snapshot = follower.snapshot()
        derived = derive(base, records, lambda key, held=snapshot: held.get(Table.NOW, key))  # type: ignore[misc]
        snapshot.close()
        follower.commit(Batch(0, base, writer.revision, derived.writes))
        assert tables(leader) == tables(follower)
        for stored, value in derived.now.items():
            assert follower.snapshot().get(Table.NOW, stored) == value


@given(BATCHES)
def test_batches_may_be_derived_together(batches: list[list[Txn]]) -> None:
    writer, leader, follower = Writer(), MemoryEngine(), MemoryEngine()
    records = []
    for txns in batches:
        base, writes = writer.batch(txns)
        leader.commit(Batch(0, base, writer.revision, writes))
        records += [value for table, _, value in writes if table == Table.LOG and value is not None]
    follower.commit(Batch(0, 1, writer.revision, derive(1, records, lambda _: None).writes))
    assert tables(leader) == tables(follower)


@given(st.integers(0, 1), st.binary(min_size=1, max_size=300), st.binary(max_size=40_000))
def test_the_key_value_of_an_event_is_found(kind: int, key: bytes, value: bytes) -> None:
    kv = encode_kv(key, 3, 4, 2, value, 7)
    assert event_kv(event_frame(kind, kv)) == kv


def test_deletions_are_found_by_storage_key() -> None:
    long = b"k" * 900
    record = b"".join(
        (
            event_frame(0, encode_kv(b"put", 2, 2, 1, b"", 0)),
            event_frame(1, encode_kv(long, 0, 2, 0, b"", 0)),
            event_frame(1, encode_kv(b"gone", 0, 2, 0, b"", 0)),
        )
    )
    assert deleted_keys(record) == [skey(long), b"gone"]


@pytest.mark.parametrize("record", [b"\x5a", b"junk", b"\x5a\x05\x12\x09\x0a"])
def test_a_malformed_record_is_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match="LOG record"):
        derive(1, [record], lambda _: None)
