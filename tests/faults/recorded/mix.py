"""Which requests a recorded client makes: every shape a control plane sends, over few keys that all clients share.

Pure. Invariant: a value is written by one request only, so that what became of an unanswered one can be told.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from faults.recorded.record import Answer, Compare, Operation, Request

PREFIX, PREFIX_END = "r/", "r0"
KEYS = tuple(f"{PREFIX}{number}" for number in range(6))


class Mix:
    """The requests of one client; it remembers what it was shown, to compare with it later."""

    def __init__(self, client: int, node: str, seed: int, run: str = "", *, reads_only: bool = False) -> None:
        self._client, self._node = client, node
        self._random = random.Random(seed)
        self._run = run  # tells the values of several recordings on one store apart
        self._count = 0
        self._seen: dict[str, int] = {}  # key → its mod revision as last shown
        reads: list[tuple[int, Callable[[], Request]]] = [
            (22, self._get),
            (8, self._stale_get),
            (5, self._list),
            (4, self._count_keys),
            (3, self._stale_list),
        ]
        writes: list[tuple[int, Callable[[], Request]]] = [
            (16, self._put),
            (6, self._delete),
            (2, self._delete_range),
            (11, self._create),
            (14, self._update),
            (5, self._delete_known),
            (8, self._several),
        ]
        self._shapes = reads if reads_only else reads + writes
        self._weights = [weight for weight, _ in self._shapes]

    def next(self) -> Request:
        """A request, neither sent nor answered yet."""
        self._count += 1
        ((_, shape),) = self._random.choices(self._shapes, self._weights)
        return shape()

    def learn(self, request: Request, answer: Answer) -> None:
        """Remember what an answer tells of keys."""
        taken = request.success if answer.succeeded else request.failure
        for one, told in zip(taken, answer.outcomes, strict=True):
            if one.type == "put":
                self._seen[one.key] = answer.revision
            elif one.type == "delete" or (one.type == "range" and not told.kvs):
                self._seen[one.key] = 0
            self._seen.update({kv.key: kv.mod for kv in told.kvs})

    def _ask(self, *success: Operation, serializable: bool = False) -> Request:
        return Request(self._client, self._node, 0, 0, success, serializable=serializable)

    def _if(self, compare: list[Compare], *success: Operation) -> Request:
        otherwise = tuple(Operation("range", one.key) for one in compare)
        return replace(self._ask(*success), compare=tuple(compare), failure=otherwise)

    def _key(self) -> str:
        return self._random.choice(KEYS)

    def _write(self, key: str, prev: bool = False) -> Operation:
        return Operation("put", key, value=f"{self._run}{self._client}-{self._count}", prev=prev)

    def _known(self, key: str) -> Compare:
        return Compare(key, self._seen.get(key, 0))

    def _get(self) -> Request:
        return self._ask(Operation("range", self._key()))

    def _stale_get(self) -> Request:
        return self._ask(Operation("range", self._key()), serializable=True)

    def _list(self) -> Request:
        return self._ask(Operation("range", PREFIX, PREFIX_END, limit=self._random.choice((0, 2, 4))))

    def _count_keys(self) -> Request:
        return self._ask(Operation("range", PREFIX, PREFIX_END, count_only=True))

    def _stale_list(self) -> Request:
        return self._ask(Operation("range", PREFIX, PREFIX_END), serializable=True)

    def _put(self) -> Request:
        return self._ask(self._write(self._key(), prev=self._random.random() < 0.3))

    def _delete(self) -> Request:
        return self._ask(Operation("delete", self._key(), prev=self._random.random() < 0.5))

    def _delete_range(self) -> Request:
        return self._ask(Operation("delete", self._key(), PREFIX_END, prev=True))

    def _create(self) -> Request:
        key = self._key()
        return self._if([Compare(key, 0)], self._write(key))

    def _update(self) -> Request:
        key = self._key()
        return self._if([self._known(key)], self._write(key))

    def _delete_known(self) -> Request:
        known = self._known(self._key())
        return self._if([known], Operation("delete", known.key))

    def _several(self) -> Request:
        first, second, third = self._random.sample(KEYS, 3)
        writes = [replace(self._write(key), value=f"{self._write(key).value}/{key}") for key in (first, second)]
        gone = Operation("delete", third, prev=True)
        look = Operation("range", PREFIX, PREFIX_END)
        return self._if([self._known(first)] if self._random.random() < 0.5 else [], *writes, gone, look)
