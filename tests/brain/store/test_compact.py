"""Compaction deletes exactly what no read may ask for, in bounded steps, and goes on after a crash."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from brain.store.kit import Bench, Step
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.brain.engine import open_engine
from wharf.brain.engine._lmdb import LmdbError
from wharf.brain.engine.base import Engine, EngineCorrupt, EngineError, EngineFull, Snapshot, Table, Write
from wharf.brain.errors import BrainError, Stopped
from wharf.brain.store.compact import LEAST, MOST, TRIES, Compactor, next_size
from wharf.brain.store.keys import META_COMPACTED, hkey, log_key, parse_u64
from wharf.brain.store.shapes import RangeOp

KEYS = st.sampled_from([b"a", b"b", b"c", b"d\0", b"k" * 600])
TXNS = st.lists(
    st.lists(st.tuples(KEYS, st.sampled_from([b"1", b"2", None])), min_size=1, max_size=4, unique_by=lambda s: s[0]),
    min_size=1,
    max_size=20,
)


class Driver:
    """A bench whose compaction steps land when told to."""

    def __init__(self, bench: Bench, budget: float = 0.01) -> None:
        self.bench = bench
        self.now = 0.0
        self.queued: list[tuple[Sequence[Write], Callable[[EngineError | None], None]]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.compactor = Compactor(
            bench.engine,
            lambda writes, done: self.queued.append((writes, done)),
            lambda: self.now,
            lambda delay, call: self.later.append((delay, call)),
            budget,
        )

    def land(self, seconds: float = 0.0, error: EngineError | None = None) -> Sequence[Write]:
        """Commit the queued step, or fail it; returns its writes."""
        writes, done = self.queued.pop()
        if error is None:
            self.bench.commit(writes, self.bench.model.revision)
            self.bench.reader.advance([])
        self.now += seconds
        done(error)
        return writes

    def compact(self, revision: int) -> None:
        """Compact to `revision` and see it through."""
        self.bench.mark_compacted(revision)
        self.compactor.compact(revision)
        self.finish()

    def finish(self) -> None:
        while self.queued or self.later:
            while self.queued:
                self.land()
            if self.later:
                self.later.pop()[1]()


def table(engine: Engine, number: int) -> list[bytes]:
    snapshot = engine.snapshot()
    try:
        return [key for key, _ in snapshot.scan(number, b"", None)]
    finally:
        snapshot.close()


def remaining(bench: Bench) -> tuple[list[bytes], list[bytes]]:
    """(LOG, HISTORY) as they must be once everything is compacted."""
    model = bench.model
    kept_log = [log_key(revision) for revision in model.events if revision >= model.compacted]
    kept_history = [
        hkey(new.key, revision)
        for revision, events in model.events.items()
        for _, new, old in events
        if old is not None and revision > model.compacted
    ]
    return sorted(kept_log), sorted(kept_history)


def apply(bench: Bench, txns: Sequence[Sequence[Step]]) -> None:
    for steps in txns:
        bench.apply(*steps)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["memory", "lmdb"]), TXNS, TXNS, st.lists(st.integers(1, 40), max_size=3))
def test_what_is_left_is_exactly_what_reads_may_need(
    kind: str, txns: list[list[Step]], more: list[list[Step]], targets: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(open_engine("memory:" if kind == "memory" else f"lmdb://{directory}", unsafe_no_fsync=True))
        try:
            apply(bench, txns)
            driver = Driver(bench)
            for target in sorted(set(targets)):
                driver.compact(min(target, bench.model.revision))
                assert (table(bench.engine, Table.LOG), table(bench.engine, Table.HISTORY)) == remaining(bench)
                apply(bench, more)
            for revision in range(max(bench.model.compacted, 1), bench.model.revision + 1):
                op = RangeOp(b"\0", b"\0", revision=revision)
                assert bench.range(op) == bench.model.range(op)
        finally:
            bench.engine.close()


@pytest.fixture(params=["memory", "lmdb"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    engine = open_engine("memory:" if request.param == "memory" else f"lmdb://{tmp_path}", unsafe_no_fsync=True)
    yield Bench(engine)
    engine.close()


def test_a_revision_with_many_keys_is_taken_in_steps_and_repeated_after_a_crash(bench: Bench) -> None:
    names = [b"k%05d" % number for number in range(2000)]
    bench.apply(*((name, b"1") for name in names))
    bench.apply(*((name, None) for name in names))
    bench.apply((b"z", b"1"))
    driver = Driver(bench)
    bench.mark_compacted(4)
    driver.compactor.compact(4)
    first = driver.land()
    assert len(first) <= 260
    driver.later.pop()[1]()
    driver.land()
    assert parse_u64(bench.meta(META_COMPACTED)) < 3
    again = Driver(bench)
    again.compactor.start()
    again.finish()
    assert (table(bench.engine, Table.LOG), table(bench.engine, Table.HISTORY)) == remaining(bench)
    assert again.compactor.progress.finished == 4


def test_only_what_ended_is_walked(bench: Bench) -> None:
    for number in range(100):
        bench.apply((b"k%d" % number, b"1"))
    bench.apply((b"k1", b"2"))
    driver = Driver(bench)
    driver.bench.mark_compacted(102)
    driver.compactor.compact(102)
    writes = driver.land()
    assert [key for number, key, _ in writes if number == Table.HISTORY] == [hkey(b"k1", 102)]
    assert len([key for number, key, _ in writes if number == Table.LOG]) == 100
    assert not driver.queued


def test_waiters_hear_when_their_revision_is_done(bench: Bench) -> None:
    apply(bench, [[(b"a", b"%d" % number)] for number in range(10)])
    driver, heard = Driver(bench), list[object]()
    bench.mark_compacted(5)
    driver.compactor.compact(5)
    driver.compactor.when_compacted(5, heard.append)
    assert heard == []
    driver.finish()
    assert heard == [None]
    driver.compactor.when_compacted(5, heard.append)
    assert heard == [None, None]


def test_stopping_tells_waiters_and_submits_no_more(bench: Bench) -> None:
    apply(bench, [[(b"a", b"%d" % number)] for number in range(10)])
    driver, heard = Driver(bench), list[BrainError | None]()
    driver.compactor.compact(5)
    driver.compactor.when_compacted(5, heard.append)
    driver.compactor.stop()
    driver.land()
    driver.compactor.when_compacted(6, heard.append)
    driver.compactor.compact(6)
    assert [type(error) for error in heard] == [Stopped, Stopped]
    assert not driver.queued


def test_a_full_engine_is_tried_again_later(bench: Bench) -> None:
    apply(bench, [[(b"a", b"%d" % number)] for number in range(10)])
    driver = Driver(bench)
    bench.mark_compacted(5)
    driver.compactor.compact(5)
    driver.land(error=EngineFull("disk full"))
    assert not driver.queued
    delay, again = driver.later.pop()
    assert delay >= 1
    again()
    driver.finish()
    assert driver.compactor.progress.finished == 5


def test_the_writer_is_left_alone_for_as_long_as_a_step_took(bench: Bench) -> None:
    for number in range(1000):
        bench.apply((b"a", b"%d" % number))
    driver = Driver(bench)
    driver.compactor.compact(1000)
    driver.land(seconds=0.2)
    assert [delay for delay, _ in driver.later] == [0.2]


def test_step_size_follows_the_time_steps_take() -> None:
    assert next_size(256, 0.02, 0.01) == 128
    assert next_size(256, 0.007, 0.01) == 256
    assert next_size(256, 0.001, 0.01) == 384
    assert next_size(LEAST, 9.0, 0.01) == LEAST
    assert next_size(MOST, 0.0, 0.01) == MOST


def test_a_step_that_fails_between_others_is_tried_again() -> None:
    bench = Bench(open_engine("memory:"))
    for _ in range(3 * LEAST):
        bench.apply((b"a", b"1"))
    driver = Driver(bench)
    driver.compactor._size = LEAST
    bench.mark_compacted(bench.model.revision)
    driver.compactor.compact(bench.model.revision)
    driver.land()
    snapshot = bench.engine.snapshot

    def broken() -> None:
        raise OSError("no snapshot")

    bench.engine.snapshot = broken  # type: ignore[assignment,method-assign]
    driver.later.pop()[1]()
    assert not driver.queued
    bench.engine.snapshot = snapshot  # type: ignore[method-assign]
    driver.finish()
    assert driver.compactor.progress.finished == bench.model.revision
    bench.engine.close()


def failing(error: Exception) -> Callable[[], Snapshot]:
    def snapshot() -> Snapshot:
        raise error

    return snapshot


@pytest.mark.parametrize(
    "error", [EngineCorrupt("a page"), LmdbError(-30790, "mdb_txn_begin"), EngineError("engine is closed")]
)
def test_a_walk_ends_with_its_engine_and_who_waits_is_told(
    bench: Bench, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    apply(bench, [[(b"a", b"%d" % number)] for number in range(10)])
    driver, heard = Driver(bench), list[BrainError | None]()
    driver.compactor.when_compacted(5, heard.append)
    monkeypatch.setattr(bench.engine, "snapshot", failing(error))
    driver.compactor.compact(5)
    assert [type(each) for each in heard] == [Stopped]
    assert not driver.later
    assert str(error) in caplog.text
    assert "Traceback" not in caplog.text
    monkeypatch.undo()
    driver.compactor.compact(6)
    assert not driver.queued


def test_a_step_that_always_fails_is_tried_a_few_times_and_again_with_the_next_compaction(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    apply(bench, [[(b"a", b"%d" % number)] for number in range(10)])
    driver, heard = Driver(bench), list[BrainError | None]()
    driver.compactor.when_compacted(5, heard.append)
    monkeypatch.setattr(bench.engine, "snapshot", failing(OSError("no snapshot")))
    driver.compactor.compact(5)
    for _ in range(TRIES - 1):
        assert heard == []
        driver.later.pop()[1]()
    assert not driver.later
    assert caplog.text.count("Traceback") == TRIES
    assert [type(each) for each in heard] == [Stopped]
    monkeypatch.undo()
    driver.compact(6)
    assert driver.compactor.progress.finished == 6
