"""Fingerprints of what is stored, and the proof that its parts agree.

`hash_kv` depends only on what clients can see (the state at the compact revision, then every change up to a
revision), so it is the same before and after a restart, a defragmentation, or the physical part of a compaction.
`verify` replays the log over the oldest readable state and compares with what NOW and HISTORY hold. Blocking, over a
snapshot of their own: for worker threads and tools.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from wharf.brain.engine._lmdb import ReadTxn
from wharf.brain.engine.base import FIRST_REVISION, Snapshot, Table
from wharf.brain.errors import Compacted, FutureRevision
from wharf.brain.store.history import rows_at
from wharf.brain.store.keys import META_COMPACT, frame, hkey, log_key, parse_kv, parse_log, parse_u64, skey
from wharf.brain.store.pages import KVS_TAG, Span, after, read_page

PIECE = 1 << 20  # framed bytes read at once
MOST_COMPLAINTS = 20


class KvHash(NamedTuple):
    hash: int
    compact_revision: int  # 0: never compacted
    revision: int  # up to which it was computed


def hash_all(snapshot: Snapshot) -> int:
    """CRC-32 of everything stored but META: Maintenance.Hash."""
    found = 0
    for table in (Table.LOG, Table.NOW, Table.HISTORY):
        for key, value in snapshot.scan(table, b"", None):
            found = crc32(value, crc32(key, found))
    return found


def hash_kv(snapshot: Snapshot, revision: int = 0) -> KvHash:
    """CRC-32 of the visible history up to `revision` (0: all of it): Maintenance.HashKV. Compacted, FutureRevision."""
    compacted = parse_u64(snapshot.get(Table.META, META_COMPACT))
    if revision > snapshot.revision:
        raise FutureRevision
    if 0 < revision < compacted:
        raise Compacted
    upto = revision or snapshot.revision
    found = 0
    for framed in _state(snapshot, compacted):
        found = crc32(framed, found)
    for stored, record in snapshot.scan(Table.LOG, log_key(compacted + 1), log_key(upto + 1)):
        found = crc32(record, crc32(stored, found))
    return KvHash(found, compacted, upto)


def verify(snapshot: Snapshot) -> list[str]:
    """What is inconsistent in a store, at most `MOST_COMPLAINTS` sentences; empty: nothing is."""
    complaints: list[str] = []
    for complaint in _complaints(snapshot):
        complaints.append(complaint)
        if len(complaints) == MOST_COMPLAINTS:
            break
    return complaints


def _complaints(snapshot: Snapshot) -> Iterator[str]:
    compacted = max(parse_u64(snapshot.get(Table.META, META_COMPACT)), FIRST_REVISION)
    state = dict(rows_at(snapshot, b"", None, compacted))
    expected = compacted + 1
    ended = 0
    for stored, record in snapshot.scan(Table.LOG, log_key(compacted + 1), None):
        revision = int.from_bytes(stored, "big")
        if revision != expected:
            yield f"the log goes on with revision {revision} where {expected} was due"
        expected = revision + 1
        touched: set[bytes] = set()
        for kind, data in parse_log(record):
            key = parse_kv(data).key
            old = state.pop(key, None)
            if key not in touched:
                ended += old is not None
                yield from _event_complaints(snapshot, revision, kind, data, old)
            touched.add(key)
            if not kind:
                state[key] = data
    if expected != snapshot.revision + 1:
        yield f"the log ends at revision {expected - 1}, the store is at {snapshot.revision}"
    yield from _present_complaints(snapshot, state)
    held = sum(int.from_bytes(stored[-8:], "big") > compacted for stored, _ in snapshot.scan(Table.HISTORY, b"", None))
    if held != ended:
        yield f"history holds {held} versions that ended after revision {compacted}, the log ended {ended}"


def _event_complaints(snapshot: Snapshot, revision: int, kind: int, data: bytes, old: bytes | None) -> Iterator[str]:
    kv = parse_kv(data)
    where = f"revision {revision}, key {kv.key!r}"
    if kv.mod_revision != revision:
        yield f"{where}: the event says revision {kv.mod_revision}"
    if snapshot.get(Table.HISTORY, hkey(kv.key, revision)) != old:
        yield f"{where}: history does not hold the version that ended here"
    if kind:
        if old is None:
            yield f"{where}: deleted without having been there"
        return
    before = None if old is None else parse_kv(old)
    created, version = (revision, 1) if before is None else (before.create_revision, before.version + 1)
    if (kv.create_revision, kv.version) != (created, version):
        yield f"{where}: created at {kv.create_revision}, version {kv.version} instead of {created} and {version}"


def _present_complaints(snapshot: Snapshot, state: dict[bytes, bytes]) -> Iterator[str]:
    live = 0
    for stored, value in snapshot.scan(Table.NOW, b"", None):
        key = parse_kv(value).key
        live += 1
        if skey(key) != stored:
            yield f"key {key!r} is stored under another"
        if state.get(key) != value:
            yield f"key {key!r} is not what the log made it"
    if live != len(state):
        yield f"{live} keys are live, the log left {len(state)}"


def _state(snapshot: Snapshot, revision: int) -> Iterator[bytes]:
    """The framed KeyValues live at `revision`, in key order, whatever the pieces."""
    span = Span(b"", None, revision, False, False)
    while isinstance(snapshot, ReadTxn):
        page = read_page(snapshot, span, 0, PIECE, True)
        if page is None:
            break
        yield page.framed
        if not page.cut:
            return
        span = span._replace(start=after(page))
    for _, value in rows_at(snapshot, span.start, None, revision):
        yield frame(KVS_TAG, value)
