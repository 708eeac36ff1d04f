"""The view of pending changes over published ones."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.store.overlay import Layer, rewound, select, stacked

KEYS = st.binary(min_size=1, max_size=2)
CHANGES = st.dictionaries(KEYS, st.one_of(st.none(), st.binary(max_size=2)), max_size=8)


class Dict:
    """A view over a dict."""

    def __init__(self, kvs: dict[bytes, bytes]) -> None:
        self.kvs = kvs

    def get(self, key: bytes) -> bytes | None:
        return self.kvs.get(key)

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(self.kvs):
            if start <= key and (end is None or key < end):
                yield key, self.kvs[key]


def applied(kvs: dict[bytes, bytes], changes: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    merged: dict[bytes, bytes | None] = {**kvs, **changes}
    return {key: kv for key, kv in merged.items() if kv is not None}


@given(st.dictionaries(KEYS, st.binary(max_size=2)), st.lists(CHANGES, max_size=3), KEYS, st.one_of(st.none(), KEYS))
def test_layers_read_like_the_state_they_describe(
    kvs: dict[bytes, bytes], layers: list[dict[bytes, bytes | None]], start: bytes, end: bytes | None
) -> None:
    truth = kvs
    for changes in layers:
        truth = applied(truth, changes)
    view = stacked(Dict(kvs), layers)
    assert list(view.scan(start, end)) == list(Dict(truth).scan(start, end))
    assert view.get(start) == truth.get(start)


@given(st.lists(st.tuples(KEYS, st.one_of(st.none(), st.binary(max_size=2))), max_size=8), st.integers(1, 9))
def test_rewinding_gives_the_state_of_any_revision(steps: list[tuple[bytes, bytes | None]], revision: int) -> None:
    states: list[dict[bytes, bytes]] = [{}]
    undo = []
    for made_at, (key, kv) in enumerate(steps, start=2):
        undo.append((made_at, key, states[-1].get(key)))
        states.append(applied(states[-1], {key: kv}))
    view = rewound(Dict(states[-1]), undo, revision)
    assert dict(view.scan(b"", None)) == states[min(revision, len(states)) - 1]


def test_empty_layers_cost_nothing() -> None:
    base = Dict({b"a": b"1"})
    assert stacked(base, ({}, {})) is base


def test_a_layer_is_read_as_it_grows() -> None:
    changes: dict[bytes, bytes | None] = {}
    view = Layer(Dict({b"a": b"1"}), changes)
    changes[b"a"] = None
    assert view.get(b"a") is None


def test_ranges_are_etcds() -> None:
    view = Dict({key: key for key in (b"a", b"b", b"c")})
    assert [key for key, _ in select(view, b"b", b"")] == [b"b"]
    assert [key for key, _ in select(view, b"b", b"\0")] == [b"b", b"c"]
    assert [key for key, _ in select(view, b"a", b"c")] == [b"a", b"b"]
    assert not list(select(view, b"c", b"a"))
    assert not list(select(view, b"x", b""))
