"""What processes that share limits say to whoever keeps them.

One exchange carries every bucket that is due. Two kinds: of tokens, which are taken in batches ahead of need, and of
slots, which are leased: told again and again how many are used and wanted, and lost when nothing is heard for `TTL`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

TTL: Final = 3.0  # seconds that a process is believed in without word from it
ASKS_MAX: Final = 256  # in one exchange


class Kind(Enum):
    TOKENS = "t"
    SLOTS = "s"


@dataclass(frozen=True, slots=True)
class Ask:
    """For one bucket."""

    key: str  # cluster, schema and key of the bucket
    kind: Kind
    limit: float  # tokens: burst; slots: how many there are
    rate: float  # tokens a second; slots: 0
    used: float  # tokens: spent on credit since the last time (below 0: given back); slots: in use now
    want: float  # tokens: further ones; slots: all that are wished for. With used 0 and want 0 they are given up


@dataclass(frozen=True, slots=True)
class Answers:
    """To the asks, in their order: tokens granted, or slots that may be used."""

    grants: tuple[float, ...]
    replicas: int  # processes heard of lately, the asking one included


class SharesUnavailable(Exception):
    """No answer; whether the asks were counted is not known. `reason` is for people, without secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Keeper(Protocol):
    """Where shared limits are kept."""

    async def exchange(self, holder: str, asks: Sequence[Ask]) -> Answers:
        """At most `ASKS_MAX` asks; none is a sign of life. SharesUnavailable."""

    async def close(self) -> None:
        """Let go of the connection."""
