"""The keeper of workers, with workers that do as a test says."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from gateway.serve.kit import until
from wharf.common.metrics import Family, Sample
from wharf.common.parsers import urls
from wharf.gateway.cluster.tokens import SECRET_BYTES
from wharf.gateway.config import GatewayConfig
from wharf.gateway.life import supervisor
from wharf.gateway.life.stops import HURRY
from wharf.gateway.life.supervisor import Supervisor


class Worker:
    """`life.child.Child`, without a process."""

    def __init__(self, worker: int) -> None:
        self.worker, self.pid = worker, 0
        self.code: int | None = None
        self.ready, self.ended = asyncio.Event(), asyncio.Event()
        self.began: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.unready_reason = "starting"
        self.families: Sequence[Family] = (Family("served", "", "counter", (Sample((), worker + 1.0),)),)
        self.status = b"%d" % worker
        self.signals: list[signal.Signals] = []
        self.obeys = True

    def serve(self) -> None:
        if not self.began.done():
            self.began.set_result(True)
        self.ready.set()

    def die(self, code: int) -> None:
        self.code = code
        if not self.began.done():
            self.began.set_result(False)
        self.ended.set()

    def signal(self, number: signal.Signals) -> None:
        self.signals.append(number)
        if self.obeys and number == signal.SIGTERM:
            self.die(0)

    async def close(self) -> None:
        self.die(-9)


class Workers:
    """All that were started, in order."""

    def __init__(self) -> None:
        self.started: list[Worker] = []
        self.secrets: list[bytes] = []
        self.refusals = 0

    def start(self, config: GatewayConfig, worker: int, shares: str, secret: bytes, environment: Any) -> Worker:
        if self.refusals:
            self.refusals -= 1
            raise OSError("no more processes")
        self.started.append(Worker(worker))
        self.secrets.append(secret)
        return self.started[-1]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    made = Workers()
    monkeypatch.setattr(supervisor, "start", made.start)
    return made


@asynccontextmanager
async def supervised(workers: Workers, **flags: Any) -> AsyncIterator[Supervisor]:
    made = Supervisor(
        GatewayConfig(
            listen=urls("https").parse("https://127.0.0.1:0"),
            config_dir=Path("/clusters"),
            workers=2,
            **{"drain_delay": 0.0, "drain_watches": 0.0, "drain_timeout": 0.0} | flags,
        ),
        "",
    )
    beginning = asyncio.create_task(made.begin())
    try:
        await until(lambda: len(workers.started) == 2)
        assert not beginning.done(), "a start is over when its workers began"
        for worker in workers.started:
            worker.began.set_result(True)
        await beginning
        yield made
    finally:
        beginning.cancel()
        await made.close()


def test_it_is_ready_when_every_worker_is(workers: Workers) -> None:
    async def main() -> None:
        async with supervised(workers) as made:
            first, second = workers.started
            assert made.unready() == "worker 0: starting"
            first.serve()
            second.unready_reason = "server a is not probed yet"
            assert made.unready() == "worker 1: server a is not probed yet"
            second.serve()
            assert made.unready() == ""
            first.die(-9)
            await until(lambda: made.unready() == "1 workers do not run")

    uvloop.run(main())


def test_a_dead_worker_is_replaced_in_its_place_and_counted(workers: Workers) -> None:
    async def main() -> None:
        async with supervised(workers) as made:
            for worker in workers.started:
                worker.serve()
            workers.refusals = 1  # even when the first try fails
            workers.started[1].die(-9)
            await until(lambda: len(workers.started) == 3)
            assert workers.started[2].worker == 1
            assert len(workers.secrets[0]) == SECRET_BYTES
            assert workers.secrets == workers.secrets[:1] * 3, "all count a token as one client"
            workers.started[2].serve()
            assert made.unready() == ""
            assert made.deaths >= 1

    uvloop.run(main())


def test_a_worker_that_ends_at_its_start_ends_the_start(workers: Workers) -> None:
    async def main() -> None:
        config = GatewayConfig(
            listen=urls("https").parse("https://127.0.0.1:0"), config_dir=Path("/clusters"), workers=2
        )
        made = Supervisor(config, "")
        beginning = asyncio.create_task(made.begin())
        await until(lambda: len(workers.started) == 2)
        workers.started[0].began.set_result(True)
        workers.started[1].die(1)
        with pytest.raises(OSError, match="worker 1 ended at its start with code 1"):
            await beginning
        await made.close()
        assert len(workers.started) == 2

    uvloop.run(main())


def test_what_workers_count_carries_their_numbers(workers: Workers) -> None:
    async def main() -> None:
        async with supervised(workers) as made:
            samples = [sample for family in made.families() if family.name == "served" for sample in family.samples]
            assert [(dict(sample.labels)["worker"], sample.value) for sample in samples] == [("0", 1.0), ("1", 2.0)]
            assert made.statuses() == [b"0", b"1"]

    uvloop.run(main())


def test_a_drain_waits_for_all_and_replaces_nobody(workers: Workers) -> None:
    async def main() -> None:
        async with supervised(workers) as made:
            await made.drain()
            assert made.unready() == "stopping"
            assert [worker.signals for worker in workers.started] == [[signal.SIGTERM]] * 2
        assert len(workers.started) == 2

    uvloop.run(main())


def test_a_hurry_goes_to_every_worker(workers: Workers) -> None:
    async def main() -> None:
        async with supervised(workers) as made:
            for worker in workers.started:
                worker.obeys = False
            draining = asyncio.create_task(made.drain())
            await until(lambda: all(worker.signals for worker in workers.started))
            made.hurry()
            assert [worker.signals[-1] for worker in workers.started] == [HURRY] * 2
            for worker in workers.started:
                worker.die(0)
            await draining

    uvloop.run(main())


def test_the_port_is_kept_and_nobody_elses(workers: Workers) -> None:
    async def main() -> None:
        async with supervised(workers) as made:
            host, _, port = made.addresses[0].partition(":")
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind((host, int(port)))

    uvloop.run(main())
