"""A range as it was at a revision, said in plain Python over any snapshot: the meaning of NOW and HISTORY together.

At revision R a key has NOW's KeyValue if that is not newer than R; else the version in HISTORY that ended first after
R, if it had begun by then; else it was absent. This is exact for long keys too and costs the whole range;
`_read.page_at` is its fast twin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wharf.brain.engine.base import Snapshot, Table
from wharf.brain.store.churn import Change
from wharf.brain.store.keys import history_bound, log_key, parse_kv, parse_log, scan_is_exact, widen
from wharf.brain.store.shapes import EventKind


def rows_at(snapshot: Snapshot, start: bytes, end: bytes | None, revision: int) -> list[tuple[bytes, bytes]]:
    """(key, serialized KeyValue) of every key of the range live at `revision`, in key order. `revision` must not
    be compacted.
    """
    if end is not None and end <= start:
        return []
    low, high = (start, end) if scan_is_exact(start, end) else widen(start, end)
    then_high = None if high is None else history_bound(high)
    rows: dict[bytes, bytes] = {}
    settled: set[bytes] = set()
    for stored, value in snapshot.scan(Table.HISTORY, history_bound(low), then_high):
        if int.from_bytes(stored[-8:], "big") <= revision or stored[:-8] in settled:
            continue
        settled.add(stored[:-8])
        kv = parse_kv(value)
        if kv.mod_revision <= revision:
            rows[kv.key] = value
    for _, value in snapshot.scan(Table.NOW, low, high):
        kv = parse_kv(value)
        if kv.mod_revision <= revision:
            rows[kv.key] = value
    return sorted((key, value) for key, value in rows.items() if start <= key and (end is None or key < end))


def changes_since(snapshot: Snapshot, revision: int) -> Iterator[Change]:
    """Births and deaths of keys after `revision`, from the log."""
    for stored, record in snapshot.scan(Table.LOG, log_key(revision + 1), None):
        yield from changes_of(int.from_bytes(stored, "big"), parse_log(record))


def changes_of(revision: int, events: Iterable[tuple[int, bytes]]) -> Iterator[Change]:
    for kind, data in events:
        kv = parse_kv(data)
        if kind == EventKind.DELETE:
            yield revision, kv.key, False
        elif kv.create_revision == revision:
            yield revision, kv.key, True
