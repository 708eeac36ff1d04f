"""The strategies that come with the gateway: RoundRobin, Random, LeastRequests, ConsistentHash.

All of them heed weights and none needs to be told when servers come and go: what they remember is by name.
Chance is enough to balance with; nothing here guards a secret.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from wharf.gateway.balance.base import Candidate
from wharf.gateway.balance.hashing import FLOOR, digest, lot, luckiest_with_room

MEMORY_SPARE: Final = 64  # names beyond twice those in use before the absent are forgotten


@dataclass(slots=True)
class _Turn:
    order: float  # of its last pick; below 0: never picked
    credit: float = 0.0  # of smooth weighted round-robin


class RoundRobin:
    """In turn. Servers of equal weight strictly: of n in a row no two are the same, whoever came or went before.

    Of equal servers the one that waited longest is next, which needs no position in a list that changes. Weights make
    it smooth weighted round-robin: every server gains its weight, the richest is picked and pays for all, so that
    over the sum of whole weights each has exactly its share and the heavy one's turns lie apart.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()  # noqa: S311
        self._memory: dict[str, _Turn] = {}
        self._picks = 0
        self._candidates: tuple[Candidate, ...] = ()
        self._turns: list[_Turn] = []  # beside the candidates
        self._queue: list[int] = []  # of candidates, who waited longest first; empty: weights differ
        self._next = 0

    def pick(self, candidates: tuple[Candidate, ...], key: str) -> int:
        if candidates is not self._candidates:
            self._meet(candidates)
        if self._queue:
            index = self._queue[self._next]
            self._next = (self._next + 1) % len(self._queue)
        else:
            index = self._richest()
        self._picks += 1
        self._turns[index].order = self._picks
        return index

    def _richest(self) -> int:
        total = 0.0
        best = 0
        for index, (candidate, turn) in enumerate(zip(self._candidates, self._turns, strict=True)):
            turn.credit += candidate.weight
            total += candidate.weight
            if turn.credit > self._turns[best].credit:
                best = index
        self._turns[best].credit -= total
        return best

    def _meet(self, candidates: tuple[Candidate, ...]) -> None:
        memory = self._memory
        if len(memory) > 2 * len(candidates) + MEMORY_SPARE:
            present = {candidate.name for candidate in candidates}
            for name in [name for name in memory if name not in present]:
                del memory[name]
        for candidate in candidates:
            if candidate.name not in memory:
                # The new come first, in no order: gateways that start together must not all begin with one server.
                memory[candidate.name] = _Turn(self._rng.random() - 1.0)
        turns = [memory[candidate.name] for candidate in candidates]
        equal = all(candidate.weight == candidates[0].weight for candidate in candidates)
        self._candidates, self._turns, self._next = candidates, turns, 0
        self._queue = sorted(range(len(turns)), key=lambda at: turns[at].order) if equal else []


class Random:
    """By chance, in proportion to weight."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._random = (rng or random.Random()).random  # noqa: S311

    def pick(self, candidates: tuple[Candidate, ...], key: str) -> int:
        return _draw(candidates, self._random())


class LeastRequests:
    """The power of two choices: two by chance, in proportion to weight, and of them the less busy for its weight.

    Near the best there is, and unlike always the least busy of all it does not send everything that many gateways have
    to the one that looked idle to each of them.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._random = (rng or random.Random()).random  # noqa: S311

    def pick(self, candidates: tuple[Candidate, ...], key: str) -> int:
        first = _draw(candidates, self._random())
        if len(candidates) == 1:
            return first
        second = _draw(candidates, self._random(), without=first)
        a, b = candidates[first], candidates[second]
        return second if b.in_flight * a.weight < a.in_flight * b.weight else first


class ConsistentHash:
    """Requests of one key to one server, see hashing.py; those without a key by chance."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._keyless = Random(rng)

    def pick(self, candidates: tuple[Candidate, ...], key: str) -> int:
        if not key:
            return self._keyless.pick(candidates, key)
        hashed = digest(key)
        lots = [lot(hashed, candidate) for candidate in candidates]
        best = lots.index(max(lots))
        if candidates[best].in_flight < FLOOR:
            return best
        return luckiest_with_room(candidates, lots)


def _draw(candidates: tuple[Candidate, ...], chance: float, without: int = -1) -> int:
    """An index by weight; `chance` is in [0, 1)."""
    total = 0.0
    for index, candidate in enumerate(candidates):
        if index != without:
            total += candidate.weight
    left = chance * total
    last = 0
    for index, candidate in enumerate(candidates):
        if index == without:
            continue
        last = index
        left -= candidate.weight
        if left < 0.0:
            break
    return last
