"""Random histories of a store, as its writer produces them: transactions, and the batches they become."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from wharf.brain.engine.base import Table, Write
from wharf.brain.store._codec import Pending, encode_kv, kv_numbers

Step = tuple[bytes, bytes | None]
"""(key, value to put, None to delete)."""
Txn = Sequence[Step]

SHORT = [b"a", b"b", b"b\0", b"c"]
AT_THE_EDGE = [
    b"k" * 250,
    b"k" * 251,
    b"\0" * 300,
    b"long" * 200,
    b"long" * 200 + b"er",
]  # of being stored under a hash
KEYS = st.one_of(st.sampled_from(SHORT + AT_THE_EDGE), st.binary(min_size=1, max_size=2))
TXNS = st.lists(st.tuples(KEYS, st.one_of(st.none(), st.binary(max_size=4))), min_size=1, max_size=5)
BATCHES = st.lists(st.lists(TXNS, min_size=1, max_size=4), min_size=1, max_size=8)


class Writer:
    """Knows what is live, and turns transactions into the writes of a batch."""

    def __init__(self, revision: int = 1) -> None:
        self.revision = revision
        self.live: dict[bytes, bytes] = {}

    def batch(self, txns: Sequence[Txn], meta: Sequence[tuple[bytes, bytes | None]] = ()) -> tuple[int, list[Write]]:
        """(revision before, writes); `revision` is the one after."""
        pending = Pending(self.revision)
        for txn in txns:
            self._record(pending, txn)
        for key, value in meta:
            pending.write(Table.META, key, value)
        before, self.revision = self.revision, pending.revision
        return before, pending.writes

    def _record(self, pending: Pending, txn: Txn) -> None:
        revision, state = pending.revision + 1, dict(self.live)
        changes = []
        for key, value in txn:
            now = state.get(key)
            if value is not None:
                created = revision if now is None else kv_numbers(now)[0]
                state[key] = encode_kv(key, created, revision, 1, value, 0)
                changes.append((0, key, state[key], self.live.get(key), now is None))
            elif now is not None:
                del state[key]
                changes.append((1, key, encode_kv(key, 0, revision, 0, b"", 0), self.live.get(key), False))
        if changes:
            pending.record(changes)
            self.live = state
