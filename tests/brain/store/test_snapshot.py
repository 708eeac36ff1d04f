"""Snapshot files are checked whole and restored under a new identity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from brain.store.kit import Bench
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import EngineCorrupt, EngineError, Table
from wharf.brain.store.hashing import hash_kv
from wharf.brain.store.keys import META_CLUSTER, META_COMPACT, encode_u64, hkey
from wharf.brain.store.snapshot import check, restore


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(open_engine(f"lmdb://{tmp_path}/store", unsafe_no_fsync=True))
    for number in range(300):
        bench.apply((b"k%d" % (number % 50), b"v" * number), (b"once%d" % number, b"1"))
    bench.apply((b"k1", None))
    bench.commit([(Table.META, META_CLUSTER, encode_u64(5))], bench.model.revision)
    bench.reader.advance([])
    yield bench
    bench.engine.close()


@pytest.fixture
def saved(bench: Bench, tmp_path: Path) -> Path:
    """What `etcdctl snapshot save` makes of our stream."""
    path = tmp_path / "saved"
    bench.engine.backup(str(path))
    data = path.read_bytes()
    data += bytes(-len(data) % 512)
    path.write_bytes(data + hashlib.sha256(data).digest())
    return path


def test_a_good_file_tells_what_it_holds(bench: Bench, saved: Path) -> None:
    info = check(saved)
    assert (info.revision, info.keys, info.digest) == (302, 349, True)
    assert info.kv_hash == hash_kv(bench.engine.snapshot())
    assert sorted(saved.parent.glob("saved*")) == [saved]


def test_a_backup_without_checksum_is_a_snapshot_too(bench: Bench, tmp_path: Path) -> None:
    bench.engine.backup(str(tmp_path / "plain"))
    assert check(tmp_path / "plain").digest is False


def test_a_restored_store_has_the_content_and_another_identity(bench: Bench, saved: Path, tmp_path: Path) -> None:
    restore(saved, tmp_path / "new")
    engine = open_engine(f"lmdb://{tmp_path}/new", create=False)
    snapshot = engine.snapshot()
    assert snapshot.revision == 302
    assert hash_kv(snapshot) == hash_kv(bench.engine.snapshot())
    assert snapshot.get(Table.META, META_CLUSTER) is None
    engine.close()


def test_a_bumped_store_goes_on_later_and_is_compacted_there(saved: Path, tmp_path: Path) -> None:
    restore(saved, tmp_path / "new", bump_revision=1000)
    engine = open_engine(f"lmdb://{tmp_path}/new", create=False)
    snapshot = engine.snapshot()
    assert (snapshot.revision, snapshot.get(Table.META, META_COMPACT)) == (1302, encode_u64(1302))
    engine.close()


@pytest.mark.parametrize("at", [0, 5000, 50_000, -1])
def test_a_changed_byte_is_noticed(saved: Path, at: int) -> None:
    data = bytearray(saved.read_bytes())
    data[at] ^= 1
    saved.write_bytes(data)
    with pytest.raises(EngineCorrupt, match="checksum"):
        check(saved)


def test_a_cut_file_is_noticed(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:40_000])
    with pytest.raises(EngineCorrupt):
        check(saved)


def test_a_file_that_contradicts_itself_is_refused(bench: Bench, tmp_path: Path) -> None:
    bench.commit([(Table.HISTORY, hkey(b"k1", 302), None)], bench.model.revision)
    bench.engine.backup(str(tmp_path / "bad"))
    with pytest.raises(EngineCorrupt, match="history does not hold"):
        check(tmp_path / "bad")


def test_nothing_is_restored_over_something(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not empty"):
        restore(saved, tmp_path / "store")
    with pytest.raises(EngineError, match="no snapshot at"):
        restore(tmp_path / "nothing", tmp_path / "new")
