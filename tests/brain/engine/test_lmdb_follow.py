"""A store read by one who does not write it, and who keeps it locked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import Batch, EngineError, EngineLocked, Table
from wharf.brain.engine.lmdb import LmdbEngine
from wharf.brain.engine.lmdb_follow import LmdbFollower, place


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A store with one record, which nobody has open."""
    engine = LmdbEngine(tmp_path, map_size=1 << 26)
    epoch = asyncio.run(engine.promote()).epoch
    engine.commit(Batch(epoch, 1, 2, [(Table.NOW, b"k", b"v")]))
    engine.close()
    return tmp_path


def test_it_reads_what_is_committed(directory: Path) -> None:
    follower = LmdbFollower(directory)
    snapshot = follower.snapshot()
    assert (snapshot.revision, snapshot.get(Table.NOW, b"k")) == (2, b"v")
    assert (follower.generation, place(snapshot)) == (1, (1, snapshot.number()))
    assert follower.size() >= follower.size_in_use() > 0
    follower.relax()
    follower.reopen()
    follower.close()
    follower.close()
    with pytest.raises(EngineError, match="closed"):
        follower.snapshot()


def test_it_writes_nothing(directory: Path) -> None:
    follower = LmdbFollower(directory)
    batch = Batch(1, 2, 3, [])
    with pytest.raises(EngineError, match="only reads"):
        follower.submit(batch, lambda _: None)
    with pytest.raises(EngineError, match="only reads"):
        follower.resolve(batch, lambda _: None)
    with pytest.raises(EngineError, match="only reads"):
        follower.defragment()
    with pytest.raises(EngineError, match="only reads"):
        asyncio.run(follower.promote())
    follower.close()


def test_a_copy_is_a_store(directory: Path, tmp_path: Path) -> None:
    follower = LmdbFollower(directory)
    copy = tmp_path / "copy" / "store-1.mdb"
    copy.parent.mkdir()
    follower.backup(str(copy))
    with pytest.raises(EngineError, match="exists already"):
        follower.backup(str(copy))
    with pytest.raises(EngineError, match="copying"):
        follower.backup(str(tmp_path / "nowhere" / "store-1.mdb"))
    follower.close()
    engine = open_engine(f"lmdb://{copy.parent}", map_size=1 << 26)
    snapshot = engine.snapshot()
    assert snapshot.get(Table.NOW, b"k") == b"v"
    engine.close()


def test_there_must_be_a_store(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no store"):
        LmdbFollower(tmp_path)
    (tmp_path / "store-1.mdb").write_bytes(b"x" * 10_000)
    with pytest.raises(EngineError, match="cannot read"):
        LmdbFollower(tmp_path)


HEIR = """
import subprocess, sys
from pathlib import Path
from wharf.brain.engine import lmdb_dir
fd = lmdb_dir.lock(Path(sys.argv[1]), create=True)
heir = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(fd,))
print("locked", flush=True)
input()
"""


def test_the_lock_is_held_by_whoever_inherits_it_and_waited_for_if_that_is_all(tmp_path: Path) -> None:
    """Killing the first ends the input of the second, which then ends by itself, a moment later."""
    first = subprocess.Popen(
        [sys.executable, "-c", HEIR, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        with pytest.raises(EngineLocked, match=f"process {first.pid}"):
            LmdbEngine(tmp_path)
        first.kill()
        first.wait()
        LmdbEngine(tmp_path).close()
