"""What only the LMDB engine can get wrong: files, locks, a full map, a full disk, damage."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from brain.engine.conftest import submit_all, write
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import Batch, EngineCorrupt, EngineError, EngineFull, EngineLocked, Table
from wharf.brain.engine.lmdb import LmdbEngine
from wharf.brain.engine.lmdb_dir import check_file, read_claims

NOW, LOG = Table.NOW, Table.LOG
MIB = 1 << 20


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LmdbEngine]:
    opened = LmdbEngine(tmp_path / "store", unsafe_no_fsync=True)
    yield opened
    opened.close()


def store_file(directory: Path) -> Path:
    (found,) = directory.glob("store-*.mdb")
    return found


def filled(directory: Path, keys: int = 3000) -> Path:
    """A closed store with some content; its file."""
    engine = LmdbEngine(directory, unsafe_no_fsync=True)
    write(engine, *((NOW, b"k%06d" % number, b"v" * 500) for number in range(keys)))
    write(engine, (NOW, b"big", b"v" * 20_000))
    write(engine, *((NOW, b"k%06d" % number, None) for number in range(0, keys, 3)))
    engine.close()
    return store_file(directory)


# Opening


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    filled(tmp_path)
    engine = LmdbEngine(tmp_path)
    snapshot = engine.snapshot()
    assert (snapshot.revision, snapshot.get(NOW, b"k000001"), snapshot.get(NOW, b"k000003")) == (4, b"v" * 500, None)
    engine.close()


def test_a_second_process_is_kept_out_and_told_who_is_in(engine: LmdbEngine, tmp_path: Path) -> None:
    program = "import sys; from wharf.brain.engine import open_engine; open_engine(sys.argv[1])"
    child = subprocess.run(
        [sys.executable, "-c", program, f"lmdb://{tmp_path}/store"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode != 0
    assert f"in use by another brain (process {os.getpid()})" in child.stderr
    assert "EngineLocked" in child.stderr


def test_a_closed_store_can_be_opened_again(tmp_path: Path) -> None:
    LmdbEngine(tmp_path).close()
    engine = LmdbEngine(tmp_path)
    with pytest.raises(EngineLocked):
        LmdbEngine(tmp_path)
    engine.close()
    LmdbEngine(tmp_path).close()


def test_an_absent_store_is_not_made_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no store at"):
        open_engine(f"lmdb://{tmp_path}/none", create=False)
    tmp_path.joinpath("empty").mkdir()
    with pytest.raises(EngineError, match="no store at"):
        open_engine(f"lmdb://{tmp_path}/empty", create=False)


def test_an_etcd_directory_is_recognised(tmp_path: Path) -> None:
    tmp_path.joinpath("member", "snap").mkdir(parents=True)
    with pytest.raises(EngineError, match="etcd data directory"):
        LmdbEngine(tmp_path)


def test_unfinished_files_of_a_crash_are_cleared_away(tmp_path: Path) -> None:
    filled(tmp_path)
    for name in ("store-2.mdb.new", "store-2.mdb.new-lock"):
        tmp_path.joinpath(name).write_bytes(b"half")
    LmdbEngine(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LOCK", "store-1.mdb", "store-1.mdb-lock"]


def test_the_newest_generation_is_opened(tmp_path: Path) -> None:
    old = filled(tmp_path)
    shutil.copy(old, tmp_path / "kept")
    engine = LmdbEngine(tmp_path)
    engine.defragment()
    write(engine, (NOW, b"later", b"1"))
    engine.close()
    shutil.copy(tmp_path / "kept", old)
    engine = LmdbEngine(tmp_path)
    assert engine.snapshot().get(NOW, b"later") == b"1"
    engine.close()
    assert not old.exists()


# Damage


@pytest.mark.parametrize("length", [0, 1, 100, 4096, 5000, 8192, 100_000])
def test_a_truncated_file_is_refused_and_left_alone(tmp_path: Path, length: int) -> None:
    path = filled(tmp_path)
    os.truncate(path, length)
    with pytest.raises(EngineCorrupt, match="wharf brain restore"):
        LmdbEngine(tmp_path)
    assert path.stat().st_size == length


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + bytes(9000), os.urandom(20_000), bytes(20_000)])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    tmp_path.joinpath("store-1.mdb").write_bytes(content)
    with pytest.raises(EngineCorrupt, match="not a store of brain"):
        LmdbEngine(tmp_path)


def test_another_format_is_refused_by_name(engine: LmdbEngine, tmp_path: Path) -> None:
    write(engine, (Table.META, b"format", b"wharf-brain 9"))
    engine.close()
    with pytest.raises(EngineCorrupt, match=r"'wharf-brain 9'.*'wharf-brain 1'"):
        LmdbEngine(tmp_path / "store")


def test_every_page_of_the_present_may_be_damaged_and_is_noticed(tmp_path: Path) -> None:
    """Zeroes over any one page in use: refused at start, or (a page on the free list, or inside a value) harmless."""
    path = filled(tmp_path, keys=60)
    claims, whole = read_claims(path), path.read_bytes()
    noticed = 0
    for number in range(2, claims.pages):
        at = number * claims.page_size
        path.write_bytes(whole[:at] + bytes(claims.page_size) + whole[at + claims.page_size :])
        try:
            LmdbEngine(tmp_path).close()
        except EngineCorrupt as error:
            assert "damaged" in str(error)  # noqa: PT017  both outcomes are looked at
            noticed += 1
    assert noticed >= 5


FLIP_AND_OPEN = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from wharf.brain.engine.base import EngineCorrupt
    from wharf.brain.engine.lmdb import LmdbEngine
    from wharf.brain.engine.lmdb_dir import read_claims

    (path,) = Path(sys.argv[1]).glob("store-*.mdb")
    claims, sound = read_claims(path), path.read_bytes()
    refused = 0
    for seed in range(40):
        whole = bytearray(sound)
        for number in range(2, claims.pages):
            if (number + seed) % 5 == 0:
                whole[number * claims.page_size + (seed * 7 + number) % 24] ^= 1 << seed % 8
        path.write_bytes(whole)
        try:
            LmdbEngine(sys.argv[1], unsafe_no_fsync=True).close()
        except EngineCorrupt:
            refused += 1
    print(refused)
    """
)


def test_flipped_bits_in_page_heads_never_end_the_process(tmp_path: Path) -> None:
    filled(tmp_path, keys=300)
    child = subprocess.run(
        [sys.executable, "-c", FLIP_AND_OPEN, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) >= 20


def test_a_whole_check_looks_at_the_log_too(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, unsafe_no_fsync=True)
    write(engine, *((LOG, struct.pack(">Q", number), b"v" * 300) for number in range(2000)))
    engine.close()
    path = store_file(tmp_path)
    check_file(path, whole=True)
    claims, data = read_claims(path), bytearray(path.read_bytes())
    leaves = [at for at in range(2, claims.pages) if data[at * claims.page_size + 10] & 0x02]
    at = leaves[len(leaves) // 2] * claims.page_size
    data[at : at + 16] = bytes(16)
    path.write_bytes(data)
    check_file(path)
    with pytest.raises(EngineCorrupt, match="damaged"):
        check_file(path, whole=True)


# A full map


def batches(count: int, size: int = 200_000) -> list[Batch]:
    return [
        Batch(0, 1 + n, 2 + n, [(NOW, b"k%d" % n, b"v" * size), (LOG, struct.pack(">Q", n), b"v")])
        for n in range(count)
    ]


def test_a_full_map_grows_between_batches(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, unsafe_no_fsync=True, map_size=MIB)
    assert submit_all(engine, batches(60)) == [None] * 60
    engine = LmdbEngine(tmp_path)
    assert engine.snapshot().revision == 61
    assert engine.size() > 12_000_000
    engine.close()


def test_a_map_grows_only_when_older_snapshots_have_gone(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, unsafe_no_fsync=True, map_size=MIB)
    write(engine, (NOW, b"old", b"1"))
    held = engine.snapshot()
    write(engine, (NOW, b"old", b"2"))

    async def run() -> None:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[EngineError | None] = loop.create_future()
        engine.submit(Batch(0, 3, 4, [(NOW, b"k", b"v" * 3 * MIB)]), outcome.set_result)
        while engine._stalled_since is None:  # noqa: ASYNC110  there is no event for being stuck
            await asyncio.sleep(0.001)
        assert held.get(NOW, b"old") == b"1"
        assert not outcome.done()
        held.close()
        assert await asyncio.wait_for(outcome, 30) is None

    asyncio.run(run())
    newest = engine.snapshot()
    assert (newest.revision, len(newest.get(NOW, b"k") or b"")) == (4, 3 * MIB)
    engine.close()


def test_a_snapshot_of_the_newest_state_survives_growth_unmoved(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, unsafe_no_fsync=True, map_size=MIB)
    write(engine, (NOW, b"a", b"1"))
    held = engine.snapshot()
    write(engine, (NOW, b"k", b"v" * 3 * MIB))
    assert held.get(NOW, b"a") == b"1"
    engine.close()


def test_address_space_may_be_limited(tmp_path: Path) -> None:
    """Under a limit on address space a smaller map is reserved, and it still grows."""
    program = textwrap.dedent(
        """
        import resource, sys
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        from wharf.brain.engine.base import Batch, Table
        from wharf.brain.engine import open_engine
        engine = open_engine(sys.argv[1], unsafe_no_fsync=True)
        for n in range(40):
            engine.commit(Batch(0, 1 + n, 2 + n, [(Table.NOW, b"k%d" % n, b"v" * 1000000)]))
        print(engine.snapshot().revision)
        """
    )
    child = subprocess.run(
        [sys.executable, "-c", program, f"lmdb://{tmp_path}"], capture_output=True, text=True, timeout=120, check=False
    )
    assert child.stdout.strip() == "41", child.stderr


# A full disk

FULL_DISK = textwrap.dedent(
    """
    import asyncio, resource, sys
    from wharf.brain.engine import open_engine
    from wharf.brain.engine.base import Batch, EngineFull, Table

    async def main():
        engine = open_engine(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
        loop = asyncio.get_running_loop()
        async def submit(revision, writes):
            outcome = loop.create_future()
            engine.submit(Batch(0, revision, revision + 1, writes), outcome.set_result)
            return await outcome
        revision = 1
        while True:
            error = await submit(revision, [(Table.NOW, b"k%d" % (revision + n), b"v" * 10000) for n in range(20)])
            if error is not None:
                break
            revision += 1
        assert isinstance(error, EngineFull), error
        assert "nothing was written" in str(error), error
        snapshot = engine.snapshot()
        assert snapshot.revision == revision > 10
        assert sum(1 for _ in snapshot.scan(Table.NOW, b"", None)) == revision - 1 + 19
        snapshot.close()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert await submit(revision, [(Table.NOW, b"after", b"room")]) is None
        print(revision + 1)
        engine.close()

    asyncio.run(main())
    """
)


def test_a_full_disk_refuses_the_batch_whole_and_the_store_goes_on(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, f"lmdb://{tmp_path}", str(8 * MIB)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    engine = LmdbEngine(tmp_path)
    assert engine.snapshot().revision == int(child.stdout)
    engine.close()


def test_a_full_disk_is_told_when_a_store_is_made(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import resource, sys
        from wharf.brain.engine import open_engine
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        open_engine(sys.argv[1])
        """
    )
    child = subprocess.run(
        [sys.executable, "-c", program, f"lmdb://{tmp_path}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert "EngineFull" in child.stderr
    assert not list(tmp_path.glob("store-1.mdb"))


# Space


def test_freed_pages_are_used_again(engine: LmdbEngine) -> None:
    for _ in range(20):
        write(engine, *((NOW, b"k%d" % number, os.urandom(5000)) for number in range(200)))
    settled = engine.size()
    for _ in range(20):
        write(engine, *((NOW, b"k%d" % number, os.urandom(5000)) for number in range(200)))
    assert engine.size() <= settled * 1.2
    assert engine.size_in_use() < settled


def test_defragmenting_waits_for_nobody_and_loses_nothing(engine: LmdbEngine) -> None:
    """Batches submitted while the file is rewritten land in the new one."""
    write(engine, *((NOW, b"k%d" % number, b"v" * 2000) for number in range(2000)))
    write(engine, *((NOW, b"k%d" % number, None) for number in range(1, 2000)))
    before = engine.size()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        outcomes: list[EngineError | None] = []
        worker = threading.Thread(target=engine.defragment)
        worker.start()
        for number in range(50):
            engine.submit(Batch(0, 3 + number, 4 + number, [(NOW, b"new%d" % number, b"1")]), outcomes.append)
        await loop.run_in_executor(None, worker.join)
        while len(outcomes) < 50:  # noqa: ASYNC110  callbacks, not awaitables
            await asyncio.sleep(0.001)
        assert outcomes == [None] * 50

    asyncio.run(run())
    assert engine.size() < before / 4
    snapshot = engine.snapshot()
    assert snapshot.revision == 53
    assert sum(1 for _ in snapshot.scan(NOW, b"new", b"nex")) == 50


def test_backup_refuses_to_overwrite(engine: LmdbEngine, tmp_path: Path) -> None:
    tmp_path.joinpath("there").write_bytes(b"x")
    with pytest.raises(EngineError, match="exists already"):
        engine.backup(str(tmp_path / "there"))


def test_commit_errors_are_engine_full_when_the_map_cannot_grow(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, unsafe_no_fsync=True, map_size=MIB)
    held = engine.snapshot()
    write(engine, (NOW, b"a", b"1"))
    with pytest.raises(EngineFull, match="address space"):
        write(engine, (NOW, b"k", b"v" * 3 * MIB))
    held.close()
    write(engine, (NOW, b"k", b"v" * 3 * MIB))
    engine.close()


def test_memory_read_from_the_file_can_be_let_go(engine: LmdbEngine) -> None:
    def mapped() -> int:
        blocks = Path("/proc/self/smaps").read_text().split("VmFlags:")
        ours = [block for block in blocks if block.find("store-1.mdb\n") >= 0]
        return sum(int(line.split()[1]) for block in ours for line in block.splitlines() if line.startswith("Rss:"))

    write(engine, *((NOW, b"k%06d" % number, b"v" * 1000) for number in range(20_000)))
    assert sum(1 for _ in engine.snapshot().scan(NOW, b"", None)) == 20_000
    before = mapped()
    engine.relax()
    assert mapped() < before / 10
    assert engine.snapshot().get(NOW, b"k000001") == b"v" * 1000
