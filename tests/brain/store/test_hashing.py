"""Hashes tell visible histories apart and nothing else; the replay finds every kind of contradiction."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import pytest
from brain.store.kit import Bench, Step
from brain.store.test_compact import TXNS, Driver, apply
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import Table, Write
from wharf.brain.errors import Compacted, FutureRevision
from wharf.brain.store.hashing import hash_all, hash_kv, verify
from wharf.brain.store.keys import encode_event, encode_kv, hkey, log_key, parse_kv, skey


@settings(max_examples=60, deadline=None)
@given(TXNS, st.integers(1, 20), st.integers(1, 20))
def test_the_hash_depends_on_the_visible_history_alone(txns: list[list[Step]], compacted: int, revision: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        benches = [Bench(open_engine("memory:")), Bench(open_engine(f"lmdb://{directory}", unsafe_no_fsync=True))]
        hashes = []
        for walk, bench in enumerate(benches):
            apply(bench, txns)
            target = min(compacted, bench.model.revision)
            if walk:
                Driver(bench).compact(target)
            else:
                bench.mark_compacted(target)
            upto = max(target, min(revision, bench.model.revision))
            hashes.append((hash_kv(bench.engine.snapshot(), upto), hash_kv(bench.engine.snapshot())))
            assert verify(bench.engine.snapshot()) == []
            bench.engine.close()
        assert hashes[0] == hashes[1]


@pytest.fixture
def bench() -> Bench:
    bench = Bench(open_engine("memory:"))
    bench.apply((b"a", b"1"), (b"b", b"1"))
    bench.apply((b"a", b"2"))
    bench.apply((b"b", None))
    bench.apply((b"b", b"again"), (b"k" * 600, b"long"))
    return bench


def test_hashes_are_of_a_readable_revision(bench: Bench) -> None:
    found = {hash_kv(bench.engine.snapshot(), revision).hash for revision in range(1, 6)}
    assert len(found) == 5
    assert hash_kv(bench.engine.snapshot()) == hash_kv(bench.engine.snapshot(), 5)
    with pytest.raises(FutureRevision):
        hash_kv(bench.engine.snapshot(), 6)
    before = hash_all(bench.engine.snapshot())
    bench.mark_compacted(3)
    with pytest.raises(Compacted):
        hash_kv(bench.engine.snapshot(), 2)
    assert hash_all(bench.engine.snapshot()) == before


def damage(name: str, bench: Bench) -> list[Write]:
    live = bench.reader.get(b"a") or b""
    wrong = encode_kv(parse_kv(live)._replace(version=9))
    damages: dict[str, list[Write]] = {
        "a live value changed": [(Table.NOW, b"a", wrong)],
        "a live key lost": [(Table.NOW, b"a", None)],
        "a live key too many": [(Table.NOW, b"z", encode_kv(parse_kv(live)._replace(key=b"z")))],
        "a key under another": [(Table.NOW, b"a", None), (Table.NOW, b"c", live)],
        "a long key under another": [(Table.NOW, skey(b"k" * 600)[:-1] + b"?", bench.reader.get(b"k" * 600))],
        "a version lost": [(Table.HISTORY, hkey(b"a", 3), None)],
        "a version too many": [(Table.HISTORY, hkey(b"a", 5), live)],
        "a revision lost": [(Table.LOG, log_key(3), None)],
        "the last revision lost": [(Table.LOG, log_key(5), None)],
        "an event changed": [(Table.LOG, log_key(3), encode_event(0, wrong))],
        "an event of another revision": [(Table.LOG, log_key(4), encode_event(0, live))],
    }
    return damages[name]


@pytest.mark.parametrize(
    "name",
    [
        "a live value changed",
        "a live key lost",
        "a live key too many",
        "a key under another",
        "a long key under another",
        "a version lost",
        "a version too many",
        "a revision lost",
        "the last revision lost",
        "an event changed",
        "an event of another revision",
    ],
)
def test_every_contradiction_is_found(bench: Bench, name: str) -> None:
    look: Callable[[], list[str]] = lambda: verify(bench.engine.snapshot())  # noqa: E731
    assert look() == []
    bench.commit(damage(name, bench), bench.model.revision)
    assert look() != []
