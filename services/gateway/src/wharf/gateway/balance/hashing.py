"""What ConsistentHash goes by: requests of one key meet one server as long as it is there and not overrun.

Rendezvous hashing: every server draws a lot for the key, heavier ones more luckily, and the luckiest has it. A server
that goes takes with it only the keys it had, one that comes takes only those it wins; n servers move 1/n of the keys.
The lots depend on names alone: every process and every replica of the gateway agrees without a word.

It is bounded in load: a server that has LOAD_MAX of its fair share of what is in flight is passed over for the next in
the key's order, but never below FLOOR requests. Below that a single busy key would be spread though nobody is overrun.

What it is for: reads of one client that reach different kube-apiservers can go back in time (resourceVersion=0 is
answered from each one's own watch cache), and servers of different versions answer discovery differently, which makes
clients flap between two lists of resources. A policy with this strategy and the user or namespace as its key, for
everything or for discovery alone (rules with `/api`, `/apis*`, `/openapi/*`), ends both.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from math import log
from typing import Final

from wharf.gateway.balance.base import Candidate

LOAD_MAX: Final = 1.5  # of the fair share
FLOOR: Final = 64  # requests in flight at one server that never count as too many
REMEMBERED_MAX: Final = 256  # characters; clients choose keys, longer ones are hashed each time
_MASK: Final = 2**64 - 1


def digest(text: str) -> int:
    """64 bits of a name, the same everywhere."""
    return _remembered(text) if len(text) <= REMEMBERED_MAX else _digest(text)


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest())


_remembered = lru_cache(maxsize=16384)(_digest)


def lot(key: int, candidate: Candidate) -> float:
    """What this server drew for the key: the largest of all wins, with a chance in proportion to its weight.

    Source: Schindelhauer and Schomaker, Weighted distributed hash tables, logarithmic method.
    """
    mixed = key ^ digest(candidate.name)
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    mixed ^= mixed >> 31
    return candidate.weight / -log(((mixed >> 12) + 0.5) / 2**52)  # never exactly 0 or 1


def luckiest_with_room(candidates: Sequence[Candidate], lots: Sequence[float]) -> int:
    """The index of the first in the key's order that is not overrun."""
    ranking = sorted(range(len(lots)), key=lots.__getitem__, reverse=True)
    requests = 1 + sum(candidate.in_flight for candidate in candidates)
    weights = sum(candidate.weight for candidate in candidates)

    def has_room(index: int) -> bool:
        candidate = candidates[index]
        return candidate.in_flight < max(FLOOR, LOAD_MAX * requests * candidate.weight / weights)

    return next(filter(has_room, ranking))  # not all can have more than their share
