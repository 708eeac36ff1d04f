"""From a key to the watchers that want it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.watch.groups import Groups
from wharf.brain.watch.watcher import Watcher, WatchSpec, interest_of


class Nowhere:
    def send(self, message: bytes) -> None: ...

    def writable(self) -> bool:
        return True


def watcher(spec: WatchSpec) -> Watcher:
    interest = interest_of(spec)
    assert interest is not None
    return Watcher(0, spec, interest, Nowhere(), 1)


KEYS = st.binary(min_size=1, max_size=2).map(lambda key: bytes(byte % 4 for byte in key))
SPECS = st.builds(
    WatchSpec, KEYS, st.one_of(st.just(b""), st.just(b"\0"), KEYS), prev_kv=st.booleans(), no_put=st.booleans()
).filter(lambda spec: interest_of(spec) is not None)


@given(st.lists(st.tuples(SPECS, st.booleans()), max_size=15), st.lists(KEYS, max_size=5))
def test_a_key_finds_exactly_the_watchers_whose_range_holds_it(
    steps: list[tuple[WatchSpec, bool]], keys: list[bytes]
) -> None:
    groups, present = Groups(), list[Watcher]()
    for spec, keep in steps:
        each = watcher(spec)
        groups.add(each)
        present.append(each)
        if not keep:
            gone = present.pop(len(present) // 2)
            groups.remove(gone)
        for key in keys:
            found = [one for group in groups.match(key) for one in group.watchers]
            wanted = [
                one for one in present if one.interest.start <= key and (not one.interest.end or key < one.interest.end)
            ]
            assert set(found) == set(wanted)
            assert len(found) == len(wanted)
    assert len(groups) == len(present)


def test_equal_interests_share_a_group() -> None:
    groups = Groups()
    for _ in range(3):
        groups.add(watcher(WatchSpec(b"a", b"b", prev_kv=True)))
    groups.add(watcher(WatchSpec(b"a", b"b")))
    assert [len(group.watchers) for group in groups.match(b"a")] == [3, 1]


def test_an_empty_range_interests_nobody() -> None:
    assert interest_of(WatchSpec(b"b", b"a")) is None
    assert interest_of(WatchSpec(b"b", b"b")) is None
