"""Sessions between nodes over TLS: both sides show a certificate, and the leader's must carry the expected name."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from wharf.brain.commands.nodes import step_down
from wharf.brain.config import BrainConfig, load_config
from wharf.brain.ha.link import Link
from wharf.brain.ha.protocol import PROTOCOL
from wharf.brain.replicated import peer_tls
from wharf.cli.kube.pki import Authority
from wharf.common.pb.control import control_pb2 as control
from wharf.common.pb.control import control_pb2_grpc as stubs

LEADER = 7


class Welcoming(stubs.ControlServicer):
    """A leader that takes everybody."""

    async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        await context.read()
        await context.write(control.FromLeader(welcome=control.Welcome(leader_id=LEADER, epoch=1, protocol=PROTOCOL)))
        while await context.read() is not grpc.aio.EOF:
            pass

    async def Status(self, request: control.StatusRequest, context: object) -> control.StatusResponse:  # noqa: N802
        return control.StatusResponse(name="leader", role="leader")

    async def StepDown(self, request: control.StepDownRequest, context: object) -> control.StepDownResponse:  # noqa: N802
        return control.StepDownResponse()


class Heard(logging.Handler):
    """An event that a line was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.event = asyncio.Event()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()
        self.event.set()


def config(folder: Path, authority: Authority, name: str, *flags: str) -> BrainConfig:
    pair = authority.server(name, ("nodes.test",))
    words = [
        "--engine=postgresql://db/wharf",
        "--redis=redis://redis",
        "--listen-peer-urls=https://127.0.0.1:0",
        "--initial-advertise-peer-urls=https://127.0.0.1:2380",
        f"--peer-cert-file={pair.cert}",
        f"--peer-key-file={pair.key}",
        f"--peer-trusted-ca-file={authority.cert}",
    ]
    return load_config([*words, *flags], {}).config


async def outcome(leader: BrainConfig, follower: BrainConfig) -> str:
    """ "open" when the follower gets a session with the leader, else why not."""
    server, opened, heard = grpc.aio.server(), asyncio.Event(), Heard()
    stubs.add_ControlServicer_to_server(Welcoming(), server)
    here, there = peer_tls(leader), peer_tls(follower)
    assert here is not None
    assert there is not None
    port = server.add_secure_port("127.0.0.1:0", here.server())
    await server.start()
    logger = logging.getLogger("wharf.brain.ha.link")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(heard)
    link = Link(control.Hello(name="follower"), there.channel, follower.peer_server_name)
    link.on_open = opened.set
    link.target(f"127.0.0.1:{port}")
    tasks = [asyncio.create_task(one) for one in (link.run(), opened.wait(), heard.event.wait())]
    try:
        await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED, timeout=20)
        return "open" if opened.is_set() else heard.text
    finally:
        logger.removeHandler(heard)
        logger.setLevel(before)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop(None)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "peers")


def test_a_certificate_without_the_address_is_taken_by_its_name(tmp_path: Path, authority: Authority) -> None:
    leader = config(tmp_path, authority, "leader")
    follower = config(tmp_path, authority, "follower", "--peer-server-name=nodes.test")
    assert asyncio.run(outcome(leader, follower)) == "open"


@pytest.mark.parametrize("flags", [(), ("--peer-server-name=others.test",)])
def test_a_certificate_with_another_name_is_not(tmp_path: Path, authority: Authority, flags: tuple[str, ...]) -> None:
    leader = config(tmp_path, authority, "leader")
    said = asyncio.run(outcome(leader, config(tmp_path, authority, "follower", *flags)))
    assert "no session with the leader" in said


def test_a_node_of_another_authority_gets_no_session(tmp_path: Path, authority: Authority) -> None:
    leader = config(tmp_path, authority, "leader")
    stranger = config(tmp_path, Authority(tmp_path / "others", "others"), "follower", "--peer-server-name=nodes.test")
    assert "no session with the leader" in asyncio.run(outcome(leader, stranger))


@pytest.mark.parametrize(("name", "code"), [("nodes.test", 0), ("others.test", 1)])
def test_step_down_takes_a_certificate_by_its_name(tmp_path: Path, authority: Authority, name: str, code: int) -> None:
    async def ask() -> int:
        server = grpc.aio.server()
        stubs.add_ControlServicer_to_server(Welcoming(), server)
        tls = peer_tls(config(tmp_path, authority, "leader"))
        assert tls is not None
        port = server.add_secure_port("127.0.0.1:0", tls.server())
        await server.start()
        pair = authority.client("operator", "operator")
        files = [f"--cacert={authority.cert}", f"--cert={pair.cert}", f"--key={pair.key}", "--timeout=20s"]
        words = [f"--endpoint=https://127.0.0.1:{port}", f"--server-name={name}", *files]
        try:
            return await asyncio.to_thread(step_down, words, {})
        finally:
            await server.stop(None)

    assert asyncio.run(ask()) == code
