"""Random operations in random order: never more than a limit, nothing leaked, nothing taken back twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from wharf.gateway.api.shapes import Key, Schema, WatchClass
from wharf.gateway.limits.limiter import Limiter
from wharf.gateway.limits.outcome import Ticket, Who
from wharf.gateway.limits.waiting import Outcome, Waiting

NAMES = ("slots", "rate", "user", "both", "exempt", "gone")
WHO = st.builds(Who, st.sampled_from("abcdef"), st.sampled_from("xy"))


def schemas(slots: int, qps: float, wait: float, keys_max: int, watch_class: WatchClass) -> list[Schema]:
    return [
        Schema("slots", max_in_flight=slots, wait_seconds=wait, watch_class=watch_class),
        Schema("rate", qps=qps, burst=4, wait_seconds=wait),
        Schema("user", max_in_flight=1, key=Key.USER, keys_max=keys_max, wait_seconds=wait, watch_class=watch_class),
        Schema("both", max_in_flight=slots, qps=qps, burst=3, key=Key.NAMESPACE, watches=2),
        Schema("exempt"),
    ]


@dataclass(eq=False)
class Asked:
    """A request as its handler sees it."""

    names: tuple[str, ...]
    who: Who
    long_running: bool
    waiting: Waiting | None = None
    ticket: Ticket | None = None
    over: bool = False  # released, refused or cancelled
    told: list[Outcome] = field(default_factory=list)

    def done(self, outcome: Outcome) -> None:
        self.told.append(outcome)
        if isinstance(outcome, Ticket):
            self.ticket = outcome
        else:
            self.over = True

    @property
    def running(self) -> bool:
        return self.ticket is not None and not self.over


class Limits(RuleBasedStateMachine):
    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.slots, self.watch_class = 2, WatchClass.SEPARATE
        self.limiter = Limiter(schemas(2, 1.0, 3.0, 2, self.watch_class), self.now)
        self.all: list[Asked] = []
        self.rate_admitted: list[float] = []
        self.qps_most = 1.0

    @rule(
        target=requests,
        names=st.lists(st.sampled_from(NAMES), max_size=3, unique=True).map(tuple),
        who=WHO,
        long_running=st.booleans(),
    )
    def admit(self, names: tuple[str, ...], who: Who, long_running: bool) -> object:
        asked = Asked(names, who, long_running)
        outcome = self.limiter.admit(names, who, long_running, 1.0, self.now)
        if isinstance(outcome, Waiting):
            asked.waiting = outcome
            outcome.on_done = self._note(asked)
        else:
            self._note(asked)(outcome)
        self.all.append(asked)
        return multiple(asked)

    def _note(self, asked: Asked) -> Callable[[Outcome], None]:
        def done(outcome: Outcome) -> None:
            asked.done(outcome)
            if isinstance(outcome, Ticket) and "rate" in asked.names and not asked.long_running:
                self.rate_admitted.append(self.now)

        return done

    @rule(asked=requests)
    def release(self, asked: Asked) -> None:
        if asked.ticket is not None:
            asked.over = True
            asked.ticket.release(self.now)

    @rule(asked=requests)
    def cancel(self, asked: Asked) -> None:
        if asked.waiting is not None:
            asked.over = True
            asked.waiting.cancel(self.now)

    @rule(seconds=st.floats(0.0, 4.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.limiter.tick(self.now)
        assert self.limiter.next_due is None or self.limiter.next_due > self.now

    @initialize(watch_class=st.sampled_from(WatchClass))
    def begin(self, watch_class: WatchClass) -> None:
        self.watch_class = watch_class
        self.limiter = Limiter(schemas(2, 1.0, 3.0, 2, watch_class), self.now)

    @rule(
        slots=st.integers(0, 3), qps=st.floats(0.1, 3.0), wait=st.sampled_from((0.0, 1.0, 5.0)), keys=st.integers(1, 9)
    )
    def resize(self, slots: int, qps: float, wait: float, keys: int) -> None:
        self.slots, self.qps_most = max(self.slots, slots), max(self.qps_most, qps)
        self.limiter.update(schemas(slots, qps, wait, keys, self.watch_class), self.now)

    @invariant()
    def counted_right(self) -> None:
        by_name = {found.name: found for found in self.limiter.counts()}
        running = [asked for asked in self.all if asked.running]
        for name, found in by_name.items():
            mine = [asked for asked in running if name in asked.names]
            assert found.watches == sum(asked.long_running for asked in mine)
            if name in ("slots", "user", "both"):
                same = self.watch_class is WatchClass.SAME and name != "both"
                assert found.in_flight == sum(same or not asked.long_running for asked in mine)
        queued = [asked for asked in self.all if asked.waiting and not asked.told and not asked.over]
        assert sum(found.queued for found in by_name.values()) == len(queued)
        assert all(len(asked.told) <= 1 for asked in self.all)

    @invariant()
    def never_more_than_the_limit(self) -> None:
        short = [asked for asked in self.all if asked.running and not asked.long_running]
        assert sum("slots" in asked.names for asked in short) <= self.slots
        for user in "abcdef":
            assert sum("user" in asked.names and asked.who.user == user for asked in short) <= 1
        times = self.rate_admitted
        for first, start in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= 4 + self.qps_most * (times[last] - start) + 1e-3

    @invariant()
    def memory_is_bounded(self) -> None:
        busy = sum(not asked.over for asked in self.all)
        assert all(found.keys <= 9 + busy for found in self.limiter.counts())

    def teardown(self) -> None:
        for asked in self.all:
            self.cancel_or_release(asked)
        for found in self.limiter.counts():
            assert (found.in_flight, found.queued, found.watches) == (0, 0, 0)

    def cancel_or_release(self, asked: Asked) -> None:
        if asked.waiting is not None:
            asked.waiting.cancel(self.now)
        if asked.ticket is not None:
            asked.ticket.release(self.now)


TestLimits = Limits.TestCase
TestLimits.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
