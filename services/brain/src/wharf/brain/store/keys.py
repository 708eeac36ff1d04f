"""The layout of what is stored: which key holds what, and the KeyValue bytes themselves.

Owns the bijection between etcd keys and storage keys. An engine takes keys of at most 511 bytes, etcd keys are
unbounded, so:

* plain key: at most `MAX_ESCAPED` bytes once escaped; stored under itself, so NOW is in etcd's own order;
* long key: stored as its first bytes and a SHA-256, always exactly `LONG_KEY` bytes, a length no plain key has.

NOW's order is etcd's order as long as no long key is involved; `scan_is_exact` tells where a plain scan may be
trusted. HISTORY is ordered by key, then by the revision that ended the version: escaping 0x00 and closing with 0x00
0x01 keeps "a" before "a\\0" before "ab" whatever revision follows. Long keys have their own exact length there too.
Pure.
"""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

LONG_KEY = 511  # exact length of a long key's storage keys, in NOW and in HISTORY; LMDB's limit
MAX_ESCAPED = 500  # longest escaped plain key: with its two closing bytes and the revision it stays below LONG_KEY
NOW_PREFIX = LONG_KEY - 32  # bytes of a long key kept in order in NOW
HISTORY_PREFIX = LONG_KEY - 32 - 8
EXACT_BOUND = (
    HISTORY_PREFIX  # escaped length of a bound up to which both tables compare long keys as the keys themselves
)

META_COMPACT = b"compact"  # reads below are refused
META_COMPACTED = b"compacted"  # the compaction walk is finished up to here
META_CLUSTER = b"cluster"
META_MEMBER = b"member"
META_CLOCK = b"clock"
META_UNFINISHED = b"unfinished"  # the store is being made out of another; not to be served yet
LEASE_PREFIX = b"lease/"
ALARM_PREFIX = b"alarm/"

MAX_REVISION = (1 << 63) - 1


def is_long(key: bytes) -> bool:
    """Whether a key is stored under a hash."""
    return len(key) * 2 > MAX_ESCAPED and len(key) + key.count(0) > MAX_ESCAPED


def skey(key: bytes) -> bytes:
    """Key of NOW under which `key`'s live KeyValue is stored."""
    if len(key) * 2 <= MAX_ESCAPED or not is_long(key):
        return key
    return key[:NOW_PREFIX].ljust(NOW_PREFIX, b"\0") + sha256(key).digest()


def history_stem(key: bytes) -> bytes:
    """What all HISTORY keys of `key` begin with; the revision follows."""
    escaped = key.replace(b"\0", b"\0\xff") if 0 in key else key
    if len(escaped) <= MAX_ESCAPED:
        return escaped + b"\0\1"
    return escaped[:HISTORY_PREFIX] + sha256(key).digest()


def hkey(key: bytes, revision: int) -> bytes:
    """Key of HISTORY that holds the version of `key` which ended at `revision`."""
    return history_stem(key) + revision.to_bytes(8, "big")


def history_bound(key: bytes) -> bytes:
    """Where HISTORY begins to hold keys >= `key`: a bound for scans."""
    return key.replace(b"\0", b"\0\xff") if 0 in key else key


def log_key(revision: int) -> bytes:
    return revision.to_bytes(8, "big")


def lease_key(lease_id: int) -> bytes:
    """META key of a lease; ids are int64 and may be negative."""
    return LEASE_PREFIX + (lease_id & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "big")


def parse_lease_key(stored: bytes) -> int:
    return int.from_bytes(stored[len(LEASE_PREFIX) :], "big", signed=True)


def encode_u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def parse_u64(stored: bytes | None, default: int = 0) -> int:
    return default if stored is None else int.from_bytes(stored, "big")


def range_bounds(key: bytes, range_end: bytes) -> tuple[bytes, bytes | None]:
    """etcd's (key, range_end) as start <= k < end; end None: no upper bound. An upside-down range has end <=
    start: empty.
    """
    if not range_end:
        return key, key + b"\0"
    if range_end == b"\0":
        return key, None
    return key, range_end


def scan_is_exact(start: bytes, end: bytes | None) -> bool:
    """Whether scans of NOW and HISTORY over these bounds hold exactly the range's long keys too (in hash order,
    though).

    Every long key keeps at least its first `EXACT_BOUND` bytes in both tables, so short bounds compare as with the
    key itself.
    """
    return len(start) + start.count(0) <= EXACT_BOUND and (end is None or len(end) + end.count(0) <= EXACT_BOUND)


def widen(start: bytes, end: bytes | None) -> tuple[bytes, bytes | None]:
    """The smallest range around these bounds for which scans are exact: what is read must then be filtered by true
    key.
    """
    half = EXACT_BOUND // 2
    if end is not None and len(end) > half:
        wider = prefix_end(end[:half])
        end = None if wider == b"\0" else wider
    return start[:half], end


def prefix_end(prefix: bytes) -> bytes:
    """`range_end` that makes a range of all keys with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


class KeyValue(NamedTuple):
    """An `mvccpb.KeyValue`, fields as on the wire."""

    key: bytes
    create_revision: int
    mod_revision: int
    version: int
    value: bytes
    lease: int


def encode_varint(number: int) -> bytes:
    """Protobuf varint of an int64 (negative numbers take ten bytes)."""
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def parse_varint(data: bytes, at: int) -> tuple[int, int]:
    """(int64, position after it); ValueError when the bytes are no varint."""
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("truncated or overlong varint")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    number &= 0xFFFF_FFFF_FFFF_FFFF
    return (number - (1 << 64) if number >> 63 else number), at


def frame(tag: int, message: bytes) -> bytes:
    """`message` as a length-delimited protobuf field with a one-byte tag."""
    return bytes((tag,)) + encode_varint(len(message)) + message


def encode_kv(kv: KeyValue) -> bytes:
    """Canonical bytes: fields in number order, zero and empty ones left out. This is what NOW and HISTORY hold."""
    parts = [frame(0x0A, kv.key)] if kv.key else []
    for tag, number in ((0x10, kv.create_revision), (0x18, kv.mod_revision), (0x20, kv.version)):
        if number:
            parts.append(bytes((tag,)) + encode_varint(number))
    if kv.value:
        parts.append(frame(0x2A, kv.value))
    if kv.lease:
        parts.append(b"\x30" + encode_varint(kv.lease))
    return b"".join(parts)


def parse_kv(data: bytes) -> KeyValue:
    """The inverse of `encode_kv`, for any field order; ValueError when the bytes are not a KeyValue."""
    key = value = b""
    numbers = {2: 0, 3: 0, 4: 0, 6: 0}
    at, end = 0, len(data)
    while at < end:
        tag = data[at]
        field, kind = tag >> 3, tag & 7
        number, at = parse_varint(data, at + 1)
        if kind == 0 and field in numbers:
            numbers[field] = number
        elif kind == 2 and field in (1, 5) and 0 <= number <= end - at:
            if field == 1:
                key = data[at : at + number]
            else:
                value = data[at : at + number]
            at += number
        else:
            raise ValueError(f"not a KeyValue: tag {tag:#x} at {at}")
    return KeyValue(key, numbers[2], numbers[3], numbers[4], value, numbers[6])


def encode_event(kind: int, kv: bytes) -> bytes:
    """One LOG item: an mvccpb.Event framed as a field of WatchResponse.events. `kind`: 0 PUT, 1 DELETE."""
    event = (b"\x08\x01" if kind else b"") + frame(0x12, kv)
    return frame(0x5A, event)


def parse_log(data: bytes) -> list[tuple[int, bytes]]:
    """(kind, serialized KeyValue) of each event of a LOG record; ValueError when the record is malformed."""
    events = []
    at = 0
    while at < len(data):
        if data[at] != 0x5A:
            raise ValueError(f"not a log record: tag {data[at]:#x} at {at}")
        length, at = parse_varint(data, at + 1)
        end = at + length
        kind = 0
        if data[at : at + 2] == b"\x08\x01":
            kind, at = 1, at + 2
        if end > len(data) or data[at : at + 1] != b"\x12":
            raise ValueError(f"not a log record: broken event at {at}")
        length, at = parse_varint(data, at + 1)
        if at + length != end:
            raise ValueError(f"not a log record: event length at {at}")
        events.append((kind, data[at:end]))
        at = end
    return events
