"""The control service of a node: sessions with its followers, and what operators ask of it.

A follower's questions are answered by the very handlers that serve this node's own clients, as long as this node can
prove that it leads; otherwise they go back `undone`, for whoever leads now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import grpc
import grpc.aio
from wharf.brain.errors import NoLeader
from wharf.brain.ha.limits import (
    BATCH_BYTES,
    HANDSHAKE_SECONDS,
    HELLO_SECONDS,
    IDLE_SECONDS,
    MOST_CALLS,
    MOST_CALLS_OF_CONNECTION,
    MOST_CONNECTIONS,
    MOST_SESSIONS,
    OVERHEAD_BYTES,
)
from wharf.brain.ha.protocol import PROTOCOL, mismatch
from wharf.brain.ha.session import Broken, Leader, Session
from wharf.common.pb.control import control_pb2 as control
from wharf.common.pb.control import control_pb2_grpc as stubs
from wharf.wire.rpc import UnaryHandler
from wharf.wire.tcp import ListenError

log = logging.getLogger(__name__)

DEFAULT_QUESTION_MAX: Final = 2 << 20  # bytes; what clients may send by default


class Host(Leader, Protocol):
    """The node."""

    cluster_id: int
    member_id: int
    epoch: int

    def joined(self, session: Session) -> str:
        """A follower has come; a text refuses it."""

    def left(self, session: Session) -> None: ...
    def status(self) -> control.StatusResponse: ...
    async def step_down(self, successor: int) -> bool: ...


class ControlService(stubs.ControlServicer):
    """See the module."""

    def __init__(
        self, host: Host, handlers: Mapping[str, UnaryHandler], question_max: int = DEFAULT_QUESTION_MAX
    ) -> None:
        """`question_max`: bytes of the largest request that is taken from a follower."""
        self.question_max = question_max
        self._host = host
        self._handlers = handlers
        self.sessions: set[Session] = set()
        self._joined = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    async def Session(self, request_iterator: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:  # type: ignore[override]  # noqa: N802  grpcio's name
        """Until the follower goes, or this node stops."""
        session = Session(self._host, self._handlers, await _hello(context))
        if not self._host.leads():
            await context.abort(grpc.StatusCode.UNAVAILABLE, NoLeader.text)
        if len(self.sessions) >= MOST_SESSIONS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"there are {MOST_SESSIONS} sessions already")
        refusal = mismatch("the leader", "this node", session.hello.protocol) or self._host.joined(session)
        if refusal:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, refusal)
        _add(session, self.sessions)
        self._joined.set()
        self._empty.clear()
        welcome = control.Welcome(
            leader_id=self._host.member_id,
            epoch=self._host.epoch,
            question_max=self.question_max,
            protocol=PROTOCOL,
        )
        writer = asyncio.create_task(_write(session, context, welcome))
        reader = asyncio.create_task(_read(session, context))
        ended = asyncio.create_task(session.ended.wait())
        try:
            await asyncio.wait((writer, reader, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writer, reader, ended):
                task.cancel()
            self.sessions.discard(session)
            if not self.sessions:
                self._empty.set()
            session.close()
            self._host.left(session)
            # Last: grpcio may cancel this task too, and a session that stayed would keep its node from coming back.
            await asyncio.gather(writer, reader, ended, return_exceptions=True)
        if session.fault:
            log.warning("the session with %r was ended: %s", session.hello.name, session.fault)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, session.fault)

    async def Status(self, request: control.StatusRequest, context: object) -> control.StatusResponse:  # noqa: N802  grpcio's name
        return self._host.status()

    async def StepDown(self, request: control.StepDownRequest, context: object) -> control.StepDownResponse:  # noqa: N802  grpcio's name
        return control.StepDownResponse(led=await self._host.step_down(request.successor))

    def has(self, member_id: int) -> bool:
        """Whether this member is in session here."""
        return any(session.hello.member_id == member_id for session in self.sessions)

    async def wait_for(self, member_id: int, seconds: float) -> bool:
        """Until this member is in session, or so many seconds; whether it is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.has(member_id):
                    self._joined.clear()
                    await self._joined.wait()
        return self.has(member_id)

    async def wait_empty(self, seconds: float) -> None:
        """Until the last follower has gone, or so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()

    def hand_over(self, successor: int) -> None:
        for session in self.sessions:
            session.hand_over(successor)


def _add(session: Session, sessions: set[Session]) -> None:
    """A process has one session: an older one of the same is what is left of a connection it has given up."""
    for older in tuple(sessions):
        if session.hello.instance and older.hello.instance == session.hello.instance:
            sessions.discard(older)
            older.end()
    sessions.add(session)


async def _hello(context: Any) -> control.Hello:
    """The first message, which must come soon."""
    first: object = None
    with suppress(TimeoutError):
        async with asyncio.timeout(HELLO_SECONDS):
            first = await context.read()
    if not isinstance(first, control.FromFollower) or not first.HasField("hello"):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a session begins with a hello")
        raise AssertionError("abort raises")
    return first.hello


async def _read(session: Session, context: Any) -> None:
    while isinstance(message := await context.read(), control.FromFollower):
        try:
            session.take(message)
        except Broken as error:
            session.end(str(error))
            return
        await session.room()


async def _write(session: Session, context: Any, welcome: control.Welcome) -> None:
    await context.write(control.FromLeader(welcome=welcome))
    while True:
        await session.wake.wait()
        session.wake.clear()
        await context.write(session.message())


class ControlServer:
    """grpcio listening on the peer URLs."""

    def __init__(self) -> None:
        self._service: ControlService | None = None
        self._server: grpc.aio.Server | None = None
        self.ports: tuple[int, ...] = ()

    async def start(
        self, service: ControlService, addresses: list[str], credentials: grpc.ServerCredentials | None
    ) -> None:
        """OSError when an address cannot be had."""
        options = (
            # One question alone, or a batch of smaller ones; answers may be as large as a store's.
            ("grpc.max_receive_message_length", max(BATCH_BYTES, service.question_max) + OVERHEAD_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", MOST_CALLS_OF_CONNECTION),
            ("grpc.max_allowed_incoming_connections", MOST_CONNECTIONS),
            ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
            ("grpc.http2.max_ping_strikes", 0),  # pings that were held up on their way come together
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", 2_000),
            ("grpc.keepalive_timeout_ms", 2_000),
        )
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MOST_CALLS)
        stubs.add_ControlServicer_to_server(service, server)
        ports = []
        for address in addresses:
            try:
                if credentials is None:
                    ports.append(server.add_insecure_port(address))
                else:
                    ports.append(server.add_secure_port(address, credentials))
            except RuntimeError as error:
                host, _, port = address.rpartition(":")
                number = int(port) if port.isdecimal() else 0  # none for a Unix socket
                raise ListenError(None, host.strip("[]"), number, str(error)) from error
        await server.start()
        self._service, self._server, self.ports = service, server, tuple(ports)

    async def stop(self, grace: float) -> None:
        """Ends sessions; those who are told that this node leads no more leave by themselves."""
        if self._server is not None and self._service is not None:
            await self._service.wait_empty(grace)
            for session in tuple(self._service.sessions):
                session.end()
            await self._server.stop(grace)
