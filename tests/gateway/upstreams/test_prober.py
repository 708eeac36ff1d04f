"""The loops that probe: at once, then at intervals, sooner after failures, and no longer than a server belongs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.upstreams.kit import DOWN, UP, cluster, members_of, server
from wharf.gateway.api import shapes
from wharf.gateway.api.shapes import UpstreamCluster
from wharf.gateway.upstreams.endpoint import Endpoint
from wharf.gateway.upstreams.health import REASON_MAX, ProbeResult, Verdict
from wharf.gateway.upstreams.members import Members
from wharf.gateway.upstreams.outliers import Outcome
from wharf.gateway.upstreams.prober import Prober

OFTEN = shapes.Health(interval=0.01, timeout=0.05)
SELDOM = shapes.Health(interval=3600.0)


class Answers:
    """A probe that answers as it is told, and counts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.down: set[str] = set()
        self.silent: set[str] = set()
        self.raises: Exception | None = None
        self._changed = asyncio.Condition()

    async def __call__(self, endpoint: Endpoint) -> ProbeResult:
        async with self._changed:
            self.counts[endpoint.name] += 1
            self._changed.notify_all()
        if endpoint.name in self.silent:
            await asyncio.Event().wait()
        if self.raises is not None:
            raise self.raises
        return DOWN if endpoint.name in self.down else UP

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(met)


@asynccontextmanager
async def probing(document: UpstreamCluster, answers: Answers) -> AsyncIterator[tuple[Members, Prober]]:
    members = Members(document, asyncio.get_running_loop().time())
    prober = Prober(members, answers)
    try:
        prober.sync(document.health)
        yield members, prober
    finally:
        await prober.close()


def test_what_a_server_says_about_itself_is_told_in_short() -> None:
    async def main() -> None:
        answers = Answers()
        answers.raises = ValueError("x" * 1_000_000)
        async with probing(cluster("a", health=SELDOM), answers) as (members, prober):
            async with asyncio.timeout(10):
                await prober.first_round_done.wait()
            assert members_of(members)["a"].health.reason == "x" * REASON_MAX

    asyncio.run(main())


def test_edge_37_the_first_round_is_done_when_every_server_has_a_verdict() -> None:
    async def main() -> None:
        answers = Answers()
        answers.down.add("b")
        document = cluster("a", "b", server("c", disabled=True), health=SELDOM)
        async with probing(document, answers) as (members, prober):
            assert not prober.first_round_done.is_set()
            async with asyncio.timeout(10):
                await prober.first_round_done.wait()
            verdicts = {name: endpoint.health.verdict for name, endpoint in members_of(members).items()}
            assert verdicts == {"a": Verdict.HEALTHY, "b": Verdict.UNHEALTHY, "c": Verdict.UNKNOWN}
            assert answers.counts == {"a": 1, "b": 1}

    asyncio.run(main())


def test_a_silent_server_does_not_hold_the_round_up_longer_than_the_timeout() -> None:
    async def main() -> None:
        answers = Answers()
        answers.silent.add("a")
        async with probing(cluster("a", health=shapes.Health(timeout=0.02)), answers) as (members, prober):
            async with asyncio.timeout(10):
                await prober.first_round_done.wait()
            assert members.endpoints[0].health.reason == "no answer within 0.02 s"

    asyncio.run(main())


def test_the_round_is_over_when_the_last_unknown_server_goes() -> None:
    async def main() -> None:
        answers = Answers()
        answers.silent.add("a")
        async with probing(cluster("a", health=SELDOM), answers) as (members, prober):
            await answers.until(lambda: answers.counts["a"] == 1)
            assert not prober.first_round_done.is_set()
            members.update(cluster(), (), 0.0)
            prober.sync(SELDOM)
            assert prober.first_round_done.is_set()

    asyncio.run(main())


def test_verdicts_follow_the_answers() -> None:
    async def main() -> None:
        answers = Answers()
        changes: asyncio.Queue[str] = asyncio.Queue()
        async with probing(cluster("a", health=OFTEN), answers) as (_, prober):
            prober.on_verdict = lambda endpoint: changes.put_nowait(endpoint.health.verdict.value)
            async with asyncio.timeout(10):
                assert await changes.get() == "healthy"
                answers.down.add("a")
                assert await changes.get() == "unhealthy"
                answers.down.clear()
                assert await changes.get() == "healthy"

    asyncio.run(main())


def test_whatever_a_probe_raises_is_the_reason_and_the_loop_goes_on() -> None:
    async def main() -> None:
        answers = Answers()
        answers.raises = ConnectionRefusedError("refused by 10.0.0.1:6443")
        async with probing(cluster("a", health=OFTEN), answers) as (members, _):
            await answers.until(lambda: answers.counts["a"] >= 3)
            assert members.endpoints[0].health.reason == "refused by 10.0.0.1:6443"
            answers.raises = KeyError()
            seen = answers.counts["a"]
            await answers.until(lambda: answers.counts["a"] >= seen + 3)
            assert members.endpoints[0].health.reason == "KeyError"

    asyncio.run(main())


def test_a_failed_request_brings_the_next_probe_forward() -> None:
    async def main() -> None:
        answers = Answers()
        async with probing(cluster("a", "b", health=SELDOM), answers) as (members, prober):
            async with asyncio.timeout(10):
                await prober.first_round_done.wait()
            a = members_of(members)["a"]
            for _ in range(100):
                members.started(a, False)
                members.finished(a, Outcome.BAD, 0.0, False)
            await answers.until(lambda: answers.counts["a"] == 2)
            assert answers.counts == {"a": 2, "b": 1}

    asyncio.run(main())


def test_servers_are_probed_as_long_as_they_belong() -> None:
    async def main() -> None:
        answers = Answers()
        async with probing(cluster("a", "b", health=OFTEN), answers) as (members, prober):
            a = members_of(members)["a"]
            await answers.until(lambda: min(answers.counts["a"], answers.counts["b"]) >= 2)
            members.update(cluster(server("b", disabled=True), "c"), (), 0.0)
            prober.sync(OFTEN)
            prober.hurry(a)  # gone: nothing happens
            seen = answers.counts.copy()
            await answers.until(lambda: answers.counts["c"] >= 5)
            assert (answers.counts["a"], answers.counts["b"]) == (seen["a"], seen["b"])
            members.update(cluster("b", "c"), (), 1.0)
            prober.sync(OFTEN)
            await answers.until(lambda: answers.counts["b"] > seen["b"])

    asyncio.run(main())


def test_closing_ends_every_loop_wherever_it_is() -> None:
    async def main() -> None:
        answers = Answers()
        answers.silent.add("a")
        async with probing(cluster("a", "b", health=OFTEN), answers) as (members, _):
            await answers.until(lambda: answers.counts["b"] >= 2)
        assert members.on_suspect is None
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_round_that_was_done_before_discovery_found_a_server_does_not_count() -> None:
    async def main() -> None:
        answers = Answers()
        async with probing(cluster(health=SELDOM), answers) as (members, prober):
            assert prober.first_round_done.is_set()  # nothing to wait for
            members.update(cluster(), (server("a"),), 0.0)
            prober.sync(SELDOM)
            assert not prober.first_round_done.is_set()
            async with asyncio.timeout(10):
                await prober.first_round_done.wait()
            members.update(cluster(), (server("a"), server("b")), 0.0)
            prober.sync(SELDOM)
            assert prober.first_round_done.is_set()  # the cluster is served, one more server changes nothing

    asyncio.run(main())
