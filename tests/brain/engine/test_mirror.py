"""Two engines, one truth: the same programs on LMDB and on the model, every answer compared."""

from __future__ import annotations

import tempfile

from brain.engine.conftest import write
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import Snapshot, Table

KEYS = st.one_of(
    st.binary(min_size=1, max_size=3),
    st.sampled_from([b"k" * 511, b"k" * 510, b"k" * 100 + b"\0", b"\xff" * 511]),
)
BOUNDS = st.one_of(KEYS, st.just(b""), st.sampled_from([b"k" * 600, b"\xff" * 700]))
VALUES = st.one_of(st.none(), st.binary(max_size=20), st.sampled_from([b"", b"v" * 127, b"v" * 128, b"v" * 3000]))
WRITES = st.lists(st.tuples(st.sampled_from([1, 2, 3]), KEYS, VALUES), max_size=12)
SCANS = st.tuples(
    st.sampled_from([1, 2, 3]),
    BOUNDS,
    st.one_of(st.none(), BOUNDS),
    st.integers(0, 5),
    st.booleans(),
    st.integers(0, 400),
)
STEPS = st.lists(
    st.one_of(
        WRITES.map(lambda step: ("write", step)), SCANS.map(lambda step: ("read", step)), st.just(("hold", None))
    ),
    max_size=15,
)


def answers(snapshot: Snapshot, scan: tuple[int, bytes, bytes | None, int, bool, int]) -> list[object]:
    table, start, end, limit, reverse, max_bytes = scan
    return [
        snapshot.revision,
        snapshot.get(table, start),
        list(snapshot.scan(table, start, end, limit, reverse)),
        snapshot.values(table, start, end, limit, max_bytes, 0x12),
        snapshot.measure(table, start, end, limit),
    ]


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_lmdb_answers_as_the_model(steps: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        engines = (open_engine("memory:"), open_engine(f"lmdb://{directory}", unsafe_no_fsync=True))
        held = [[engine.snapshot()] for engine in engines]
        try:
            for kind, step in steps:
                if kind == "write":
                    for engine in engines:
                        write(engine, *step)  # type: ignore[arg-type,misc]
                elif kind == "hold":
                    for engine, mine in zip(engines, held, strict=True):
                        mine.append(engine.snapshot())
                else:
                    for mine, other in zip(*held, strict=True):
                        assert answers(mine, step) == answers(other, step)  # type: ignore[arg-type]
            for table in Table:
                whole = [list(engine.snapshot().scan(table, b"", None)) for engine in engines]
                assert whole[0] == whole[1]
        finally:
            for engine in engines:
                engine.close()
