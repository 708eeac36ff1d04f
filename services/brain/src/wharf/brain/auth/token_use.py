"""Tokens live as long as they are used: a token ends after its time to live without a use, on every node.

Each node remembers its own uses. At most once per `RECORD_SHARE` of the time to live it has the newest use of a token
recorded in the store, which carries it to the other nodes and over a restart. A use on another node may therefore be
newer than its record by that share, so a token counts that much longer than the record says. Pure; seconds are of the
wall clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

PREFIX: Final = b"token/"  # of the META records: last use in milliseconds, by token id
RECORD_SHARE: Final = 0.1  # of the time to live
MAX_REMEMBERED: Final = 10_000  # tokens; older ones are looked up in the store


@dataclass(slots=True)
class _Use:
    used: float  # on this node
    recorded: float  # in the store, as far as this node knows
    asked: float  # when this node last asked for a record


class TokenUses:
    """The uses of tokens on one node."""

    def __init__(
        self, ttl: float, stored: Callable[[bytes], bytes | None], record: Callable[[bytes, float], None]
    ) -> None:
        """`stored` reads a META record that this node shows. `record(token_id, at)` asks for a newer one; it may fail
        without a word.
        """
        self._ttl, self._stored, self._record = ttl, stored, record
        self._uses: OrderedDict[bytes, _Use] = OrderedDict()

    def use(self, token_id: bytes, issued: float, now: float) -> bool:
        """Whether a token issued at `issued` counts at `now`; if so it is extended."""
        use = self._uses.get(token_id)
        if use is None:
            use = self._uses[token_id] = _Use(issued, issued, issued)
            if len(self._uses) > MAX_REMEMBERED:
                self._uses.popitem(last=False)
        else:
            self._uses.move_to_end(token_id)
        share = RECORD_SHARE * self._ttl
        if now - use.recorded >= share:
            use.recorded = max(use.recorded, parse_time(self._stored(PREFIX + token_id)))
        if now >= max(use.used, use.recorded + share) + self._ttl:
            del self._uses[token_id]
            return False
        use.used = max(use.used, now)
        if now - max(use.recorded, use.asked) >= share:
            use.asked = now
            self._record(token_id, now)
        return True

    def is_over(self, recorded: float, now: float) -> bool:
        """Whether no node accepts a token that was last recorded at `recorded`."""
        return now >= recorded + (1 + 2 * RECORD_SHARE) * self._ttl


class UseRecords:
    """The records, on the node that writes them."""

    def __init__(self, uses: TokenUses, ttl: float, all_records: Callable[[], Mapping[bytes, bytes]]) -> None:
        self._uses, self._ttl, self._all = uses, ttl, all_records
        self._cleaned = 0.0

    def changes(self, token_id: bytes, at: float) -> Iterator[tuple[bytes, bytes | None]]:
        """META records to write for a use at `at`; once per time to live those of tokens that are over go too."""
        yield PREFIX + token_id, format_time(at)
        if at - self._cleaned >= self._ttl:
            self._cleaned = at
            for key, value in self._all().items():
                if key != PREFIX + token_id and self._uses.is_over(parse_time(value), at):
                    yield key, None


def format_time(seconds: float) -> bytes:
    return max(0, round(seconds * 1000)).to_bytes(8, "big")


def parse_time(stored: bytes | None) -> float:
    """Seconds; 0 for no record."""
    return 0.0 if stored is None else int.from_bytes(stored[:8], "big") / 1000
