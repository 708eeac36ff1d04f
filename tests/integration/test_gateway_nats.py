"""What a gateway tells NATS: that it lives, how it is, and that it goes."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nats as client
from harness.backing import Nats
from integration.gateway_kit import PATIENCE, Instance, Upstream, eventually
from nats.aio.msg import Msg
from wharf.common.heartbeat import Heartbeat, parse_heartbeat, subject_of

INSTANCE = "gw.one"
FLAGS = ("--drain-delay=1s", "--drain-watches=0s", "--drain-timeout=2s", f"--name={INSTANCE}")


class Listener:
    """Everything said on a subject."""

    def __init__(self) -> None:
        self.beats: list[Heartbeat] = []
        self.subscribed = threading.Event()
        self._over: Callable[[], object] = lambda: None

    def run(self, url: str, subject: str) -> None:
        asyncio.run(self._listen(url, subject))

    def end(self) -> None:
        self._over()

    async def _listen(self, url: str, subject: str) -> None:
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        self._over = lambda: loop.call_soon_threadsafe(over.set)
        bus = await client.connect(url)

        async def heard(message: Msg) -> None:
            self.beats.append(parse_heartbeat(message.data))

        await bus.subscribe(subject, cb=heard)
        await bus.flush()
        self.subscribed.set()
        await over.wait()
        await bus.close()


@contextmanager
def listening(url: str, subject: str) -> Iterator[list[Heartbeat]]:
    listener = Listener()
    thread = threading.Thread(target=listener.run, args=(url, subject))
    thread.start()
    try:
        assert listener.subscribed.wait(PATIENCE)
        yield listener.beats
    finally:
        listener.end()
        thread.join()


def test_heartbeats_from_the_start_to_the_end(nats: Nats, tmp_path: Path) -> None:
    with (
        listening(nats.url, subject_of("gateway", INSTANCE)) as beats,
        Upstream(tmp_path / "upstream") as upstream,
        Instance(tmp_path / "gateway", upstream, (*FLAGS, f"--nats={nats.url}")) as gateway,
    ):
        server = upstream.server
        eventually(lambda: beats and beats[-1].ready, "it does not say that it is ready")
        told = beats[-1]
        assert (told.service, told.instance, told.stopping, told.reason) == ("gateway", INSTANCE, False, "")
        assert told.addresses == (f"127.0.0.1:{gateway.port}",)
        assert told.started_at <= told.sent_at
        assert sight(told) == [(server.name, True)]

        server.ready = False
        eventually(lambda: sight(beats[-1]) == [(server.name, False)], "the sick server is not told of")
        server.ready = True
        eventually(lambda: sight(beats[-1]) == [(server.name, True)], "the well server is not told of")

        with open_watch(gateway):
            gateway.process.send_signal(signal.SIGTERM)
            eventually(lambda: beats[-1].reason == "stopping", "its stopping is not told")
            assert not beats[-1].ready
            gateway.wait_ended()
        eventually(lambda: beats[-1].stopping, "its end is not told")
        assert gateway.process.returncode == 0
        assert not beats[-1].ready
        assert [beat.sent_at for beat in beats] == sorted(beat.sent_at for beat in beats)


def sight(beat: Heartbeat) -> list[tuple[str, bool]]:
    """Servers and their health."""
    return [
        (server["name"], server["healthy"]) for cluster in beat.details["clusters"] for server in cluster["servers"]
    ]


@contextmanager
def open_watch(gateway: Instance) -> Iterator[None]:
    connection = gateway.client()
    try:
        connection.request("GET", "/api/v1/pods?watch=true")
        connection.getresponse()
        yield
    finally:
        connection.close()


def test_a_bus_that_is_away_holds_nobody_up(nats: Nats, tmp_path: Path) -> None:
    with Upstream(tmp_path / "upstream") as upstream:
        gateway = Instance(tmp_path / "gateway", upstream, (*FLAGS, f"--nats={nats.url}"))
        nats.stop()
        try:
            with gateway:
                assert gateway.get().status == 200
                with listening_after(nats, subject_of("gateway", INSTANCE)) as beats:
                    eventually(lambda: beats and beats[-1].ready, "it does not come back to the bus")
                nats.stop()
                assert gateway.process.stop(PATIENCE) == 0
                assert "Traceback" not in gateway.said()
        finally:
            if not nats.running:
                nats.start()


@contextmanager
def listening_after(nats: Nats, subject: str) -> Iterator[list[Heartbeat]]:
    nats.start()
    with listening(nats.url, subject) as beats:
        yield beats
