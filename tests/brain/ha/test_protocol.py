"""A session needs the same protocol number on both sides, over real grpcio on loopback."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import grpc.aio
import pytest
from brain.ha.test_sessions import LOOPBACK, FakeHost
from wharf.brain.ha.link import Link
from wharf.brain.ha.protocol import PROTOCOL
from wharf.brain.ha.service import ControlServer, ControlService
from wharf.common.pb.control import control_pb2 as control
from wharf.common.pb.control import control_pb2_grpc as stubs

SECONDS = 60
REMEDY = (
    "run the same release of wharf on all nodes (stop the nodes of the other release, then start them with this one)"
)


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, str]] = []
        self.event = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append((record.levelno, record.getMessage()))
        self.event.set()


class Welcoming(stubs.ControlServicer):
    """A leader that takes every follower and names `protocol`."""

    def __init__(self, protocol: int) -> None:
        self.protocol = protocol
        self.hello: control.Hello | None = None

    async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        self.hello = (await context.read()).hello
        await context.write(control.FromLeader(welcome=control.Welcome(leader_id=7, epoch=1, protocol=self.protocol)))
        while await context.read() is not grpc.aio.EOF:
            pass

    async def Status(self, request: control.StatusRequest, context: object) -> control.StatusResponse:  # noqa: N802
        return control.StatusResponse()

    async def StepDown(self, request: control.StepDownRequest, context: object) -> control.StepDownResponse:  # noqa: N802
        return control.StepDownResponse()


async def attempt(leader: Welcoming) -> tuple[bool, list[tuple[int, str]], str]:
    """Whether a follower opens a session, what it logs, and the address of the leader."""
    server, records, opened = grpc.aio.server(), Records(), asyncio.Event()
    stubs.add_ControlServicer_to_server(leader, server)
    address = f"{LOOPBACK}:{server.add_insecure_port(f'{LOOPBACK}:0')}"
    await server.start()
    logger = logging.getLogger("wharf.brain.ha.link")
    logger.addHandler(records)
    link = Link(control.Hello(name="follower"), None)
    link.on_open = opened.set
    link.target(address)
    tasks = [asyncio.create_task(one) for one in (link.run(), opened.wait(), records.event.wait())]
    try:
        await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED, timeout=SECONDS)
        return opened.is_set(), list(records.found), address
    finally:
        logger.removeHandler(records)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop(None)


def test_a_follower_opens_a_session_with_a_leader_of_its_protocol_and_names_its_own() -> None:
    leader = Welcoming(PROTOCOL)
    opened, _, _ = asyncio.run(attempt(leader))
    assert opened
    assert leader.hello is not None
    assert leader.hello.protocol == PROTOCOL


@pytest.mark.parametrize("number", [0, PROTOCOL + 1])
def test_a_follower_refuses_a_leader_of_another_protocol(number: int) -> None:
    opened, logged, address = asyncio.run(attempt(Welcoming(number)))
    assert not opened
    text = f"this node speaks protocol {PROTOCOL} and the leader protocol {number}: {REMEDY}"
    assert logged == [(logging.ERROR, f"no session with the leader at {address}: FAILED_PRECONDITION {text}")]


@pytest.mark.parametrize("number", [PROTOCOL, 0, PROTOCOL + 1])
def test_a_leader_refuses_a_follower_of_another_protocol(number: int) -> None:
    async def story() -> None:
        host, server = FakeHost(), ControlServer()
        await server.start(ControlService(host, {}), [f"{LOOPBACK}:0"], None)
        try:
            async with asyncio.timeout(SECONDS), grpc.aio.insecure_channel(f"{LOOPBACK}:{server.ports[0]}") as channel:
                call: Any = stubs.ControlStub(channel).Session()
                await call.write(control.FromFollower(hello=control.Hello(name="follower", protocol=number)))
                if number == PROTOCOL:
                    assert (await call.read()).welcome.protocol == PROTOCOL
                    call.cancel()
                    return
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await call.read()
                assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
                text = f"the leader speaks protocol {PROTOCOL} and this node protocol {number}: {REMEDY}"
                assert error.value.details() == text
                assert not host.there, "it is no member"
        finally:
            await server.stop(0)

    asyncio.run(story())
