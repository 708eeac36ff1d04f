"""Good histories without a server: clients whose requests overlap, on a store of a dozen lines.

For the tests of the checker itself: a second reading of the rules, independent of the checker's model, so that the two
hold each other.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from faults.recorded.mix import Mix
from faults.recorded.record import KV, Answer, Entry, Event, Operation, Outcome, Request


@dataclass
class Store:
    """Keys, and the log of how they came to be."""

    revision: int = 1
    live: dict[str, KV] = field(default_factory=dict)
    log: list[Entry] = field(default_factory=list)

    def ask(self, request: Request) -> Answer:
        held = all(one.mod == (self.live[one.key].mod if one.key in self.live else 0) for one in request.compare)
        events: list[Event] = []
        outcomes = [self._do(one, events) for one in (request.success if held else request.failure)]
        if events:
            self.revision += 1
            self.log.append(Entry(self.revision, tuple(events)))
        return Answer(self.revision, held, tuple(outcomes))

    def _do(self, one: Operation, events: list[Event]) -> Outcome:
        within = sorted(key for key in self.live if (one.key <= key < one.end if one.end else key == one.key))
        kvs = tuple(self.live[key] for key in within)
        if one.type == "range":
            shown = kvs[: one.limit or None]
            return Outcome(() if one.count_only else shown, len(kvs), not one.count_only and len(shown) < len(kvs))
        if one.type == "delete":
            for kv in kvs:
                del self.live[kv.key]
                events.append(Event("delete", KV(kv.key, mod=self.revision + 1), kv))
            return Outcome(deleted=len(kvs), prev=kvs if one.prev else ())
        before = self.live.get(one.key)
        created, version = (before.create, before.version + 1) if before else (self.revision + 1, 1)
        after = self.live[one.key] = KV(one.key, one.value, created, self.revision + 1, version)
        events.append(Event("put", after, before))
        return Outcome(prev=(before,) if before and one.prev else ())


def history(
    seed: int, count: int, clients: int = 6, unanswered: float = 0.0, lost: float = 0.5
) -> tuple[list[Request], list[Entry]]:
    """`count` requests of overlapping clients; some of them never answered, of which some never happened."""
    chance, store = random.Random(seed), Store()
    mixes = [Mix(number, f"n{number % 3}", seed * 1000 + number) for number in range(clients)]
    free = [0] * clients  # when each client may call again
    done: list[Request] = []
    waiting: list[tuple[int, Request]] = []  # when it takes effect, what
    while len(done) < count:
        number = min(range(clients), key=lambda one: free[one])
        called = free[number] + chance.randrange(1, 50)
        effect = called + chance.randrange(1, 100)
        free[number] = effect + chance.randrange(1, 100)
        waiting.append((effect, replace(mixes[number].next(), called=called, returned=free[number])))
        now = min(free)
        due, waiting = [one for one in waiting if one[0] < now], [one for one in waiting if one[0] >= now]
        for _, request in sorted(due, key=lambda one: one[0]):
            done.append(_take_effect(store, request, mixes[request.client], chance, unanswered, lost))
    return done, store.log


def _take_effect(
    store: Store, request: Request, mix: Mix, chance: random.Random, unanswered: float, lost: float
) -> Request:
    silent = chance.random() < unanswered
    if silent and chance.random() < lost:
        return request
    answer = store.ask(request)
    if silent:
        return request
    mix.learn(request, answer)
    return replace(request, answer=answer)
