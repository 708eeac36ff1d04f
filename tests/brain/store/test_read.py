"""Ranges against a naive model: every option, every revision, both engines, small and large."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest
from brain.store.kit import Bench, Step, kv, unframe
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import EngineCorrupt, Table
from wharf.brain.errors import BrainError, Compacted, FutureRevision
from wharf.brain.store.keys import KeyValue, encode_kv
from wharf.brain.store.read import Reader, ReadLimits
from wharf.brain.store.shapes import RangeOp, SortOrder, SortTarget

SMALL = ReadLimits(whole=60, piece=40, changes=2)
LONG = [b"k" * 600, b"k" * 600 + b"x", b"k" * 480, b"\0" * 251, b"k" * 490 + b"\0" * 20]
KEYS = st.one_of(st.sampled_from([b"a", b"a\0", b"a\0\xff", b"ab", b"b", b"ba", b"c", b"\xff"]), st.sampled_from(LONG))
ENDS = st.one_of(st.sampled_from([b"", b"\0", b"b", b"c", b"a", b"l"]), KEYS)
TXNS = st.lists(
    st.lists(
        st.tuples(KEYS, st.one_of(st.none(), st.binary(max_size=30))), min_size=1, max_size=3, unique_by=lambda s: s[0]
    ),
    min_size=1,
    max_size=25,
)
OPS = st.builds(
    RangeOp,
    key=st.one_of(KEYS, st.just(b"\0")),
    range_end=ENDS,
    limit=st.integers(-1, 5),
    revision=st.integers(-1, 30),
    sort_order=st.one_of(st.just(SortOrder.NONE), st.sampled_from(SortOrder)),
    sort_target=st.one_of(st.just(SortTarget.KEY), st.sampled_from(SortTarget)),
    keys_only=st.booleans(),
    count_only=st.sampled_from([False, False, False, True]),
    min_mod_revision=st.sampled_from([0, 0, 0, 3]),
    max_mod_revision=st.sampled_from([0, 0, 0, 9]),
    min_create_revision=st.sampled_from([0, 0, 0, 2]),
    max_create_revision=st.sampled_from([0, 0, 0, 7]),
)


@pytest.fixture(params=["memory", "lmdb"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as directory:
        url = "memory:" if request.param == "memory" else f"lmdb://{directory}"
        engine = open_engine(url, unsafe_no_fsync=True)
        yield Bench(engine)
        engine.close()


def outcome(call: object, op: RangeOp) -> object:
    try:
        return call(op)  # type: ignore[operator]
    except BrainError as error:
        return type(error)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(["memory", "lmdb"]), st.booleans(), TXNS, st.lists(OPS, max_size=12), st.integers(0, 12))
def test_every_range_is_what_the_model_gives(
    kind: str, small: bool, txns: list[list[Step]], ops: list[RangeOp], compacted: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        engine = open_engine("memory:" if kind == "memory" else f"lmdb://{directory}", unsafe_no_fsync=True)
        bench = Bench(engine, Reader(engine, limits=SMALL if small else None))
        try:
            for number, steps in enumerate(txns):
                bench.apply(*steps)
                if number == len(txns) // 2 and compacted <= bench.model.revision:
                    bench.mark_compacted(compacted)
                for op in ops[number::3]:
                    assert outcome(bench.range, op) == outcome(bench.model.range, op)
            for op in ops:
                assert outcome(bench.range, op) == outcome(bench.model.range, op)
            restarted = Bench(engine)
            restarted.model = bench.model
            for op in ops:
                assert outcome(restarted.range, op) == outcome(bench.model.range, op)
        finally:
            engine.close()


@settings(max_examples=60, deadline=None)
@given(TXNS, st.integers(1, 30), st.integers(1, 3), st.sampled_from([2, 20_000]))
def test_pages_of_any_revision_add_up_to_its_list(
    txns: list[list[Step]], revision: int, limit: int, changes: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        engine = open_engine(f"lmdb://{directory}", unsafe_no_fsync=True)
        bench = Bench(engine, Reader(engine, limits=ReadLimits(changes=changes)))
        try:
            for steps in txns:
                bench.apply(*steps)
            revision = min(revision, bench.model.revision)
            whole = bench.model.rows(RangeOp(b"\0", b"\0", revision=revision))
            start, more = b"\0", True
            found: list[KeyValue] = []
            while more:
                page, count, more = bench.range(RangeOp(start, b"\0", limit, revision))
                assert count == len(whole) - len(found)
                found += page
                start = page[-1].key + b"\0" if page else b""
            assert found == whole
        finally:
            bench.engine.close()


def test_answers_at_the_edges_of_revision(bench: Bench) -> None:
    bench.apply((b"a", b"1"))
    with pytest.raises(FutureRevision):
        bench.range(RangeOp(b"a", revision=3))
    assert bench.range(RangeOp(b"a", revision=2))[1] == 1
    assert bench.range(RangeOp(b"a", revision=1)) == ([], 0, False)
    bench.mark_compacted(2)
    assert bench.range(RangeOp(b"a", revision=2))[1] == 1
    with pytest.raises(Compacted):
        bench.range(RangeOp(b"a", revision=1))


def test_parts_stay_at_their_revision_while_writes_go_on(bench: Bench) -> None:
    bench.reader = Reader(bench.engine, limits=ReadLimits(whole=1000, piece=500))
    for number in range(100):
        bench.apply((b"k%03d" % number, b"v" * 50))
    before = bench.model.range(RangeOp(b"k", b"l"))[0]
    answer = bench.reader.range(RangeOp(b"k", b"l"), bench.model.revision, 0)
    assert answer.parts is not None
    pieces = [next(answer.parts)]
    for number in range(0, 100, 2):
        bench.apply((b"k%03d" % number, None if number % 4 else b"new"), (b"k%03dx" % number, b"born"))
    pieces += answer.parts
    assert unframe(b"".join(pieces)) == before
    assert len(b"".join(pieces)) == answer.framed_length
    assert max(map(len, pieces)) < 1200


def test_parts_end_with_compacted_when_compaction_passes_them(bench: Bench) -> None:
    bench.reader = Reader(bench.engine, limits=ReadLimits(whole=100, piece=100))
    for number in range(20):
        bench.apply((b"k%03d" % number, b"v" * 50))
    answer = bench.reader.range(RangeOp(b"k", b"l"), bench.model.revision, 0)
    assert answer.parts is not None
    next(answer.parts)
    bench.apply((b"z", b""))
    bench.mark_compacted(bench.model.revision)
    with pytest.raises(Compacted):
        list(answer.parts)


def test_leases_are_attached_at_start(bench: Bench) -> None:
    bench.apply((b"a", b"1"), lease=7)
    bench.apply((b"b", b"1"))
    bench.apply((b"c" * 600, b"1"), lease=-3)
    seen = []
    Reader(bench.engine, lambda key, lease: seen.append((key, lease)))
    assert sorted(seen) == [(b"a", 7), (b"c" * 600, -3)]


@pytest.mark.parametrize("stored", [b"", b"junk", encode_kv(kv(b"another"))])
def test_a_present_that_is_no_key_value_is_refused_at_start(bench: Bench, stored: bytes) -> None:
    bench.commit([(Table.NOW, b"a", stored)], 1)
    with pytest.raises(EngineCorrupt, match="wharf brain restore"):
        Reader(bench.engine)


def test_scan_now_is_in_key_order_with_long_keys_too(bench: Bench) -> None:
    names = [b"k" * 600 + b"b", b"k" * 600 + b"a", b"k" * 479 + b"z", b"k", b"l"]
    bench.apply(*((name, b"v") for name in names))
    assert [key for key, _ in bench.reader.scan_now(b"k", b"l")] == sorted(names)[:-1]
    assert [key for key, _ in bench.reader.scan_now(b"k" * 600 + b"b", None)] == [
        b"k" * 600 + b"b",
        b"k" * 479 + b"z",
        b"l",
    ]
