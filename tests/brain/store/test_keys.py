"""The layout codec: order, no collisions, bounded lengths, bytes as protobuf would write them."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from wharf.brain.store import keys
from wharf.common.pb.etcd import kv_pb2

SHORT = st.binary(min_size=1, max_size=6)
LONG = st.builds(
    lambda filler, count, tail: filler * count + tail,
    st.sampled_from([b"k", b"\0", b"\xff", b"k\0"]),
    st.integers(110, 520),
    st.binary(max_size=3),
)
KEYS = st.one_of(SHORT, LONG)
REVISIONS = st.integers(1, keys.MAX_REVISION)


@given(KEYS, REVISIONS)
def test_storage_keys_fit_the_engine(key: bytes, revision: int) -> None:
    assert 1 <= len(keys.skey(key)) <= 511
    assert len(keys.hkey(key, revision)) <= 511
    assert (len(keys.skey(key)) == keys.LONG_KEY) == keys.is_long(key)
    assert (len(keys.hkey(key, revision)) == keys.LONG_KEY) == keys.is_long(key)


@given(KEYS, KEYS)
def test_different_keys_are_stored_apart(a: bytes, b: bytes) -> None:
    assert (keys.skey(a) == keys.skey(b)) == (a == b)
    assert (keys.hkey(a, 5) == keys.hkey(b, 5)) == (a == b)


@given(SHORT, SHORT, REVISIONS, REVISIONS)
@example(b"a", b"a\0", 2**63 - 1, 1)
@example(b"a", b"a\0\xff", 2**63 - 1, 1)
@example(b"a\0", b"a\0\0", 5, 5)
@example(b"a", b"a\xff", 2**63 - 1, 1)
def test_history_is_in_order_of_key_then_revision(a: bytes, b: bytes, m: int, n: int) -> None:
    assert keys.skey(a) == a
    assert (keys.hkey(a, m) < keys.hkey(b, n)) == ((a, m) < (b, n))


@given(LONG, REVISIONS, REVISIONS)
def test_one_keys_history_is_in_order_and_apart_from_others(key: bytes, m: int, n: int) -> None:
    assert (keys.hkey(key, m) < keys.hkey(key, n)) == (m < n)
    assert keys.hkey(key, m)[:-8] == keys.history_stem(key)


@given(SHORT, SHORT, REVISIONS)
def test_history_bounds_select_the_keys_of_a_range(key: bytes, bound: bytes, revision: int) -> None:
    assert (keys.hkey(key, revision) >= keys.history_bound(bound)) == (key >= bound)


@given(KEYS, st.binary(max_size=8), REVISIONS)
def test_short_bounds_are_exact_for_long_keys_too(key: bytes, bound: bytes, revision: int) -> None:
    assert keys.scan_is_exact(bound, bound)
    assert (keys.skey(key) >= bound) == (key >= bound)
    assert (keys.hkey(key, revision) >= keys.history_bound(bound)) == (key >= bound)


@given(LONG, LONG, LONG)
def test_widened_bounds_hold_every_key_of_the_range(key: bytes, start: bytes, end: bytes) -> None:
    low, high = keys.widen(start, end)
    assert keys.scan_is_exact(low, high)
    if start <= key < end:
        assert low <= keys.skey(key)
        assert high is None or keys.skey(key) < high
        assert keys.history_bound(low) <= keys.hkey(key, 7)
        assert high is None or keys.hkey(key, 7) < keys.history_bound(high)


@given(SHORT, SHORT)
def test_prefix_end_bounds_exactly_the_prefix(prefix: bytes, tail: bytes) -> None:
    _, end = keys.range_bounds(prefix, keys.prefix_end(prefix))
    assert end is None or prefix + tail < end
    assert end is None or not end.startswith(prefix)


def test_ranges_mean_what_etcd_means() -> None:
    assert keys.range_bounds(b"a", b"") == (b"a", b"a\0")
    assert keys.range_bounds(b"a", b"\0") == (b"a", None)
    assert keys.range_bounds(b"b", b"a") == (b"b", b"a")


INT64 = st.integers(-(2**63), 2**63 - 1)
KVS = st.builds(keys.KeyValue, st.binary(max_size=9), INT64, INT64, INT64, st.binary(max_size=300), INT64)


@given(KVS)
def test_key_values_are_the_bytes_protobuf_writes(kv: keys.KeyValue) -> None:
    encoded = keys.encode_kv(kv)
    assert encoded == kv_pb2.KeyValue(**kv._asdict()).SerializeToString(deterministic=True)
    assert keys.parse_kv(encoded) == kv


@given(st.binary(max_size=30))
def test_garbage_is_a_value_error(data: bytes) -> None:
    for parse in (keys.parse_kv, keys.parse_log):
        try:
            parse(data)
        except ValueError:
            continue


@given(st.lists(st.tuples(st.integers(0, 1), KVS.map(keys.encode_kv)), max_size=5))
def test_log_records_are_events_as_protobuf_writes_them(events: list[tuple[int, bytes]]) -> None:
    record = b"".join(keys.encode_event(kind, kv) for kind, kv in events)
    assert keys.parse_log(record) == events
    at = 0
    for kind, kv in events:
        length, at = keys.parse_varint(record, at + 1)
        parsed = kv_pb2.Event.FromString(record[at : at + length])
        assert parsed.type == kind
        assert parsed.kv == kv_pb2.KeyValue.FromString(kv)
        at += length


@given(INT64)
def test_lease_keys_round_trip(lease_id: int) -> None:
    assert keys.parse_lease_key(keys.lease_key(lease_id)) == lease_id
