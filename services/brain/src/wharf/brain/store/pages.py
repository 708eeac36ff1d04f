"""Pages: the unit in which ranges, lists and start-up read a snapshot, by the compiled walk or, where that gives
up, from rows in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from wharf.brain.engine._lmdb import ReadTxn
from wharf.brain.engine.base import Snapshot, Table
from wharf.brain.store import _log, _read
from wharf.brain.store.churn import Change
from wharf.brain.store.keys import MAX_REVISION, encode_kv, frame, history_bound, parse_kv, skey

KVS_TAG = 0x12  # RangeResponse.kvs
CHUNK = 10_000  # keys, or log records, taken at once at start-up


class Page(NamedTuple):
    """Part of a range: `framed` KeyValues, how many were `taken`, their framed length, the last key taken, whether
    more was left.
    """

    framed: bytes
    taken: int
    length: int
    last: bytes | None
    cut: bool


class Span(NamedTuple):
    """What is asked of a range once bounds and revision are settled."""

    start: bytes
    end: bytes | None
    revision: int
    latest: bool
    keys_only: bool


def after(page: Page) -> bytes:
    """Where the page after this one starts."""
    return b"" if page.last is None else page.last + b"\0"


def read_page(snapshot: ReadTxn, span: Span, limit: int, max_bytes: int, keep: bool) -> Page | None:
    end = span.end
    found = _read.page_at(
        snapshot,
        span.start,
        end,
        history_bound(span.start),
        None if end is None else history_bound(end),
        MAX_REVISION if span.latest else span.revision,
        span.latest,
        limit,
        max_bytes,
        span.keys_only,
        KVS_TAG,
        keep,
    )
    return None if found is None else Page(*found)


def log_changes(snapshot: ReadTxn, revision: int) -> Iterator[Change]:
    after: int | None = revision
    while after is not None:
        changes, after = _log.log_changes(snapshot, after, CHUNK)
        yield from changes


def page_of(rows: Iterable[tuple[bytes, bytes]], limit: int, max_bytes: int, keys_only: bool) -> Page:
    """A page from rows in order."""
    pieces: list[bytes] = []
    size, last = 0, None
    for key, value in rows:
        if (limit and len(pieces) >= limit) or (pieces and size >= max_bytes):
            return Page(b"".join(pieces), len(pieces), size, last, True)
        pieces.append(frame(KVS_TAG, encode_kv(parse_kv(value)._replace(value=b"")) if keys_only else value))
        size, last = size + len(pieces[-1]), key
    return Page(b"".join(pieces), len(pieces), size, last, False)


def live_keys(snapshot: Snapshot) -> Iterator[tuple[list[bytes], list[tuple[int, bytes]]]]:
    """(keys, leased keys) in chunks, in NOW's order."""
    if isinstance(snapshot, ReadTxn):
        start: bytes | None = b""
        while start is not None:
            keys, leased, start = _log.live_keys(snapshot, start, CHUNK)
            yield keys, leased
    else:
        for stored, value in snapshot.scan(Table.NOW, b"", None):
            kv = parse_kv(value)
            if skey(kv.key) != stored:
                raise ValueError("a stored KeyValue is under another key")
            yield [kv.key], [(kv.lease, kv.key)] if kv.lease else []
