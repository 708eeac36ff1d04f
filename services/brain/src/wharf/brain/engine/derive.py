"""From the log to the tables: what a replica writes for the log records of a batch. Pure.

A record holds a transaction's events with their KeyValues, so NOW follows from it, and HISTORY from it and the state
before. A leader's batch and what is derived from its records leave the same tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from wharf.brain.engine.base import Table, Write
from wharf.brain.store._codec import event_kv, split_log
from wharf.brain.store.keys import hkey, log_key, skey

DELETED = 1
_UNKNOWN = object()


class Derived(NamedTuple):
    writes: list[Write]
    now: dict[bytes, bytes | None]  # storage key → what NOW holds for it afterwards


def derive(base: int, records: Iterable[bytes], before: Callable[[bytes], bytes | None]) -> Derived:
    """The writes of the revisions after `base`, one record each; `before` gives what NOW holds for a storage key.

    ValueError when a record is malformed.
    """
    writes: list[Write] = []
    now: dict[bytes, bytes | None] = {}
    for revision, record in enumerate(records, base + 1):
        ended: set[bytes] = set()
        writes.append((Table.LOG, log_key(revision), record))
        for kind, key, event, _ in split_log(record):
            stored = skey(key)
            held = now.get(stored, _UNKNOWN)
            if stored not in ended:
                ended.add(stored)
                prev = before(stored) if held is _UNKNOWN else now[stored]
                if prev is not None:
                    writes.append((Table.HISTORY, hkey(key, revision), prev))
            now[stored] = None if kind == DELETED else event_kv(event)
    writes += [(Table.NOW, stored, value) for stored, value in now.items()]
    return Derived(writes, now)


def deleted_keys(record: bytes) -> list[bytes]:
    """Storage keys that a record's transaction deletes. ValueError when it is malformed."""
    return [skey(key) for kind, key, _, _ in split_log(record) if kind == DELETED]
