"""The control service of a node: sessions with its followers, and what operators ask of it.

A follower's questions are answered by the very handlers that serve this node's own clients, as long as this node can
prove that it leads; otherwise they go back `undone`, for whoever leads now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol, cast

import grpc
import grpc.aio
from wharf.brain.api.answered import AnsweredCall, Reply
from wharf.brain.errors import LeaderFailed, NoLeader
from wharf.brain.ha.readgate import Point
from wharf.common.pb.control import control_pb2 as control
from wharf.common.pb.control import control_pb2_grpc as stubs
from wharf.wire.rpc import Call, Code, UnaryHandler

log = logging.getLogger(__name__)

MOST_UNDER_WAY: Final = 50_000  # questions of one follower


class Host(Protocol):
    """The node."""

    cluster_id: int
    member_id: int
    epoch: int

    def leads(self) -> bool: ...
    def proven(self) -> bool: ...
    def published(self) -> Point:
        """Everything acknowledged is at or below this."""

    def joined(self, session: Session) -> str:
        """A follower has come; a text refuses it."""

    def left(self, session: Session) -> None: ...
    def status(self) -> control.StatusResponse: ...
    async def step_down(self, successor: int) -> bool: ...


class Session:
    """One follower's."""

    def __init__(self, host: Host, handlers: Mapping[str, UnaryHandler], hello: control.Hello) -> None:
        self.hello = hello
        self._host = host
        self._handlers = handlers
        self._calls: dict[int, AnsweredCall] = {}
        self._out = control.FromLeader()
        self.wake = asyncio.Event()
        self.ended = asyncio.Event()

    def take(self, message: control.FromFollower) -> None:
        if message.index_token:
            point = self._host.published()
            leads = self._host.proven()  # asked last: this process may have slept since it looked
            index = control.Index(token=message.index_token, refused=not leads)
            index.revision, index.compact_revision = point
            self._out.index.CopyFrom(index)
            self.wake.set()
        for question in message.questions:
            self._ask(question)
        for number in message.cancelled:
            call = self._calls.pop(number, None)
            if call is not None:
                call.cancel()

    def hand_over(self, successor: int) -> None:
        """This node leads no more."""
        self._out.hand_over.CopyFrom(control.HandOver(successor=successor))
        self.wake.set()

    def message(self) -> control.FromLeader:
        """What there is to say."""
        out, self._out = self._out, control.FromLeader()
        return out

    def close(self) -> None:
        """Nobody waits for answers any more."""
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.cancel()

    def _ask(self, question: control.Question) -> None:
        handler = self._handlers.get(question.method)
        if handler is None:
            self._answer(question.id, Reply(Code.UNIMPLEMENTED, f"unknown method {question.method}", b""))
        elif not self._host.leads() or len(self._calls) >= MOST_UNDER_WAY:
            self._undone(question.id)
        else:
            metadata = ((b"traceparent", question.traceparent),) if question.traceparent else ()
            call = AnsweredCall(question.method, partial(self._answer, question.id), metadata)
            self._calls[question.id] = call
            handler(question.request, cast(Call, call))

    def _answer(self, number: int, reply: Reply) -> None:
        self._calls.pop(number, None)
        if (reply.code, reply.text) == (NoLeader.code, NoLeader.text):
            self._undone(number)
            return
        if not reply.code and not self._host.proven():
            reply = Reply(LeaderFailed.code, LeaderFailed.text, b"")
        self._out.answers.add(id=number, code=reply.code, text=reply.text, response=reply.response)
        self.wake.set()

    def _undone(self, number: int) -> None:
        self._out.answers.add(id=number, undone=True)
        self.wake.set()


class ControlService(stubs.ControlServicer):
    """See the module."""

    def __init__(self, host: Host, handlers: Mapping[str, UnaryHandler]) -> None:
        self._host = host
        self._handlers = handlers
        self.sessions: set[Session] = set()
        self._joined = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    async def Session(self, request_iterator: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:  # type: ignore[override]  # noqa: N802  grpcio's name
        """Until the follower goes, or this node stops."""
        first = await context.read()
        if not isinstance(first, control.FromFollower) or not first.HasField("hello"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a session begins with a hello")
        if not self._host.leads():
            await context.abort(grpc.StatusCode.UNAVAILABLE, NoLeader.text)
        session = Session(self._host, self._handlers, first.hello)
        refusal = self._host.joined(session)
        if refusal:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, refusal)
        self.sessions.add(session)
        self._joined.set()
        self._empty.clear()
        welcome = control.Welcome(leader_id=self._host.member_id, epoch=self._host.epoch)
        writer = asyncio.create_task(_write(session, context, welcome))
        reader = asyncio.create_task(_read(session, context))
        ended = asyncio.create_task(session.ended.wait())
        try:
            await asyncio.wait((writer, reader, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writer, reader, ended):
                task.cancel()
            await asyncio.gather(writer, reader, ended, return_exceptions=True)
            self.sessions.discard(session)
            if not self.sessions:
                self._empty.set()
            session.close()
            self._host.left(session)

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


async def _read(session: Session, context: Any) -> None:
    while isinstance(message := await context.read(), control.FromFollower):
        session.take(message)


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
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
            ("grpc.http2.max_ping_strikes", 0),  # pings that were held up on their way come together
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", 2_000),
            ("grpc.keepalive_timeout_ms", 2_000),
        )
        server = grpc.aio.server(options=options)
        stubs.add_ControlServicer_to_server(service, server)
        ports = []
        for address in addresses:
            try:
                if credentials is None:
                    ports.append(server.add_insecure_port(address))
                else:
                    ports.append(server.add_secure_port(address, credentials))
            except RuntimeError as error:
                raise OSError(f"cannot listen on {address} for other nodes: {error}") from error
        await server.start()
        self._service, self._server, self.ports = service, server, tuple(ports)

    async def stop(self, grace: float) -> None:
        """Ends sessions; those who are told that this node leads no more leave by themselves."""
        if self._server is not None and self._service is not None:
            await self._service.wait_empty(grace)
            for session in tuple(self._service.sessions):
                session.ended.set()
            await self._server.stop(grace)
