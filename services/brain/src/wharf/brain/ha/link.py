"""A follower's session with whoever leads: questions out, answers in, both in batches.

What is asked while a message is on its way goes out together in the next one. Invariant: every question is answered
exactly once; when the session breaks, those that never left are `undone`, those that did are nobody's to know.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
from wharf.brain.api.answered import Caller, Reply
from wharf.brain.errors import AuthOldRevision, RequestTooLarge
from wharf.brain.ha.limits import BATCH_BYTES, MOST_IN_BATCH
from wharf.brain.ha.protocol import PROTOCOL, mismatch
from wharf.brain.ha.readgate import Point
from wharf.common.pb.control import control_pb2 as control
from wharf.common.pb.control import control_pb2_grpc as stubs

if TYPE_CHECKING:
    from wharf.wire.rpc import Call

log = logging.getLogger(__name__)

OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
)
TLS_HINT: Final = " (TLS; see --peer-cert-file, --peer-trusted-ca-file and --peer-server-name, there and here)"
_REFUSED: Final = grpc.StatusCode.FAILED_PRECONDITION
_EXPECTED_NAME: Final = "grpc.ssl_target_name_override"
RETRY: Final = 0.1  # seconds until a session that could not be had is tried again
FINISH_SECONDS: Final = 0.5  # for answers on their way when another leads already
OPEN_SECONDS: Final = 2.0  # for a session to open

AUTH_OLD: Final = Reply(AuthOldRevision.code, AuthOldRevision.text, b"")
"""This very object answers a question that the leader has refused, undone, because it knows other users and roles."""

Done = Callable[[Reply | None, bool], None]


@dataclass(slots=True)
class _Question:
    path: str
    request: bytes
    traceparent: bytes
    caller: Caller
    done: Done
    sent: bool = False


class Link:
    """See the module. For the loop thread; callbacks are plain functions set before `run`."""

    def __init__(
        self,
        hello: control.Hello,
        credentials: Callable[[], grpc.ChannelCredentials] | None,
        server_name: str = "",
    ) -> None:
        """`credentials` of each new connection; None: they are plain. `server_name` is what a leader's certificate must
        carry where its address is not in it.
        """
        self._hello = control.Hello()
        self._hello.CopyFrom(hello)
        self._hello.protocol = PROTOCOL
        self._credentials = credentials
        self._options = (*OPTIONS, (_EXPECTED_NAME, server_name)) if server_name else OPTIONS
        self._address = ""
        self._moved = asyncio.Event()
        self._wake = asyncio.Event()
        self._next_id = 0
        self._questions: dict[int, _Question] = {}
        self._answered = asyncio.Event()
        self._unsent: deque[int] = deque()
        self._cancelled: deque[int] = deque()
        self._question_max = 0  # bytes the leader takes; 0: it has not said
        self._index_token = 0
        self._complaint = ("", "")
        self.leader_id = 0  # of the open session, 0: none is open
        self.epoch = 0
        self.on_open: Callable[[], None] = _nothing
        self.on_closed: Callable[[], None] = _nothing
        self.on_index: Callable[[int, Point | None], None] = _no_index
        self.on_hand_over: Callable[[int], None] = _no_successor

    @property
    def open(self) -> bool:
        return self.leader_id != 0

    def target(self, address: str) -> None:
        """Whom to hold a session with, "host:port"; empty: nobody. An open session with somebody else ends."""
        if address != self._address:
            self._address = address
            self._moved.set()

    def restart(self) -> None:
        """This session is of no use: another one, with the same."""
        self._moved.set()

    def ask(self, path: str, request: bytes, call: Call, done: Done, caller: Caller) -> None:
        """One question; see `router.Leader.ask`."""
        self._next_id += 1
        number = self._next_id
        traceparent = next((value for key, value in call.metadata if key == b"traceparent"), b"")
        self._questions[number] = _Question(path, request, traceparent, caller, done)
        self._unsent.append(number)
        call.on_cancel = lambda: self._forget(number)
        self._wake.set()

    def ask_index(self, token: int) -> None:
        self._index_token = token
        self._wake.set()

    async def run(self) -> None:
        """Hold sessions until cancelled."""
        while True:
            address = self._address
            self._moved.clear()
            if not address:
                await self._moved.wait()
                continue
            session = asyncio.create_task(self._session(address))
            moved = asyncio.create_task(self._moved.wait())
            try:
                await asyncio.wait((session, moved), return_when=asyncio.FIRST_COMPLETED)
                if self._address != address:
                    await self._finish(session)
            finally:
                for task in (session, moved):
                    task.cancel()
                await asyncio.gather(session, moved, return_exceptions=True)
            if not self._moved.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY):
                        await self._moved.wait()

    async def _finish(self, session: asyncio.Task[None]) -> None:
        """A leader that hands over has answered everything: what is on its way is waited for, for a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                while not session.done() and any(question.sent for question in self._questions.values()):
                    self._answered.clear()
                    await self._answered.wait()

    async def _session(self, address: str) -> None:
        try:
            async with self._channel(address) as channel:
                call: Any = stubs.ControlStub(channel).Session()
                async with asyncio.timeout(OPEN_SECONDS):
                    await call.write(control.FromFollower(hello=self._hello))
                    first = await call.read()
                if not isinstance(first, control.FromLeader) or not first.HasField("welcome"):
                    return
                refusal = mismatch("this node", "the leader", first.welcome.protocol)
                if refusal:
                    call.cancel()
                    self._complain(address, f"{_REFUSED.name} {refusal}", logging.ERROR)
                    return
                self._opened(first.welcome)
                writer = asyncio.create_task(self._write(call))
                try:
                    while isinstance(message := await call.read(), control.FromLeader):
                        self._take(message)
                finally:
                    writer.cancel()
                    await asyncio.gather(writer, return_exceptions=True)
                    call.cancel()
        except (grpc.RpcError, grpc.aio.UsageError, TimeoutError, asyncio.InvalidStateError) as error:
            refused = isinstance(error, grpc.aio.AioRpcError) and error.code() is _REFUSED
            self._complain(address, _reason(error), logging.ERROR if refused else logging.INFO)
        finally:
            self._closed()

    def _channel(self, address: str) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, options=OPTIONS)
        return grpc.aio.secure_channel(address, self._credentials(), options=self._options)

    async def _write(self, call: Any) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await call.write(self._message())

    def _message(self) -> control.FromFollower:
        """As much as goes into one message; the rest wakes the writer again."""
        cancelled = [self._cancelled.popleft() for _ in range(min(len(self._cancelled), MOST_IN_BATCH))]
        message = control.FromFollower(cancelled=cancelled, index_token=self._index_token)
        self._index_token = 0
        size = 0
        while self._unsent and len(message.questions) < MOST_IN_BATCH:
            number = self._unsent[0]
            question = self._questions.get(number)
            if question is not None:
                question_size = len(question.request) + len(question.path) + len(question.traceparent) + 32
                if self._question_max and len(question.request) > self._question_max:
                    del self._questions[number]
                    question.done(Reply(RequestTooLarge.code, RequestTooLarge.text, b""), False)
                elif size and size + question_size > BATCH_BYTES:
                    break
                else:
                    size += question_size
                    question.sent = True
                    message.questions.add(
                        id=number,
                        method=question.path,
                        request=question.request,
                        traceparent=question.traceparent,
                        user=question.caller.user,
                        auth_version=question.caller.auth_version,
                    )
                    question.request = b""
            self._unsent.popleft()
        if self._unsent or self._cancelled:
            self._wake.set()
        return message

    def _take(self, message: control.FromLeader) -> None:
        if message.HasField("index"):
            index = message.index
            point = Point(index.revision, index.compact_revision, index.auth_version)
            self.on_index(index.token, None if index.refused else point)
        for answer in message.answers:
            question = self._questions.pop(answer.id, None)
            self._answered.set()
            if question is None:
                continue
            if answer.auth_old:  # `undone` too, for who does not know of this
                question.done(AUTH_OLD, False)
            elif answer.undone:
                question.done(None, True)
            else:
                question.done(Reply(answer.code, answer.text, answer.response), False)
        if message.HasField("hand_over"):
            self.on_hand_over(message.hand_over.successor)

    def _complain(self, address: str, reason: str, level: int) -> None:
        """Once per address and reason: a leader that is gone is tried again and again.

        A refusal (a name that another node has, another cluster, another protocol) is an error: it needs an operator.
        """
        if (address, reason) != self._complaint:
            self._complaint = (address, reason)
            log.log(level, "no session with the leader at %s: %s", address, reason)

    def _opened(self, welcome: control.Welcome) -> None:
        self.leader_id, self.epoch, self._question_max = welcome.leader_id, welcome.epoch, welcome.question_max
        self.on_open()

    def _closed(self) -> None:
        was_open, self.leader_id = self.open, 0
        questions, self._questions = self._questions, {}
        self._answered.set()
        self._unsent.clear()
        self._cancelled.clear()
        self._index_token = 0
        self._wake.clear()
        if was_open:
            self.on_closed()
        for question in questions.values():
            question.done(None, not question.sent)

    def _forget(self, number: int) -> None:
        question = self._questions.pop(number, None)
        if question is not None and question.sent:
            self._cancelled.append(number)
            self._wake.set()


def _reason(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        details = error.details() or ""
        hint = TLS_HINT if "handshake" in details.lower() else ""
        return f"{error.code().name} {details}{hint}"
    return str(error) or type(error).__name__


def _nothing() -> None: ...


def _no_index(token: int, point: Point | None) -> None: ...


def _no_successor(successor: int) -> None: ...
