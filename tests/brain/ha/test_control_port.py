"""The control port among peers that err or mean harm: they end, and a follower's session goes on beside them."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from wharf.brain.api.answered import AnsweredCall, Caller, Reply
from wharf.brain.errors import RequestTooLarge
from wharf.brain.ha import service as module
from wharf.brain.ha.limits import BATCH_BYTES, MOST_IN_BATCH, PAUSE_BYTES
from wharf.brain.ha.link import Link
from wharf.brain.ha.protocol import PROTOCOL
from wharf.brain.ha.readgate import Point
from wharf.brain.ha.service import ControlServer, ControlService
from wharf.brain.ha.session import Session
from wharf.common.pb.control import control_pb2 as control
from wharf.common.pb.control import control_pb2_grpc as stubs
from wharf.wire.h2 import PREFACE
from wharf.wire.rpc import Call

TXN = "/etcdserverpb.KV/Txn"
LOOPBACK = "127.0.0.1"
CALLER = Caller(None, 0)
QUESTION_MAX = 2 << 20
ANSWER = 64 << 10
QUESTIONS = 200_000


class Leader:
    cluster_id, member_id, epoch = 1, 2, 3

    def __init__(self) -> None:
        self.there: list[Session] = []

    def leads(self) -> bool:
        return True

    def proven(self) -> bool:
        return True

    def published(self) -> Point:
        return Point(42)

    def joined(self, session: Session) -> str:
        self.there.append(session)
        return ""

    def left(self, session: Session) -> None:
        self.there.remove(session)

    def status(self) -> control.StatusResponse:
        return control.StatusResponse(name="leader")

    async def step_down(self, successor: int) -> bool:
        return False


class Port:
    """A leader's control port, and one good follower."""

    def __init__(self) -> None:
        self.leader = Leader()
        self.asked = 0
        self.service = ControlService(self.leader, {TXN: self._txn}, QUESTION_MAX)
        self.server = ControlServer()
        self.link = Link(control.Hello(name="good", instance=b"good"), None)
        self.closed = asyncio.Event()
        self.link.on_closed = self.closed.set

    @property
    def port(self) -> int:
        return self.server.ports[0]

    def _txn(self, data: bytes, call: Call) -> None:
        self.asked += 1
        call.reply(bytes(ANSWER) if data == b"much" else data)

    async def ask(self, data: bytes) -> tuple[Reply | None, bool]:
        outcome: asyncio.Future[tuple[Reply | None, bool]] = asyncio.get_running_loop().create_future()
        call = AnsweredCall(TXN, lambda _: None)
        self.link.ask(TXN, data, cast(Call, call), lambda reply, undone: outcome.set_result((reply, undone)), CALLER)
        return await outcome

    async def fine(self) -> None:
        """The good follower is served, in the session it has had all the time."""
        assert await self.ask(b"fine") == (Reply(0, "", b"fine"), False)
        assert not self.closed.is_set()

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[Any]:
        """A session of somebody else's, without a hello yet."""
        options = (("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{self.port}", options=options) as channel:
            call = stubs.ControlStub(channel).Session()
            try:
                yield call
            finally:
                call.cancel()


def play(story: Callable[[Port], Awaitable[None]]) -> None:
    async def run() -> None:
        port = Port()
        await port.server.start(port.service, [f"{LOOPBACK}:0"], None)
        opened = asyncio.Event()
        port.link.on_open = opened.set
        port.link.target(f"{LOOPBACK}:{port.port}")
        running = asyncio.create_task(port.link.run())
        try:
            async with asyncio.timeout(60):
                await opened.wait()
                await port.fine()
                await story(port)
                await port.fine()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await port.server.stop(0)

    asyncio.run(run())


async def hello(call: Any, name: str = "other", instance: bytes = b"") -> None:
    await call.write(
        control.FromFollower(hello=control.Hello(name=name, member_id=9, instance=instance, protocol=PROTOCOL))
    )
    first = await call.read()
    assert first.HasField("welcome")


async def ended(call: Any) -> tuple[grpc.StatusCode, str]:
    """How it ends, whatever comes before."""
    with suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
    return await call.code(), await call.details()


@pytest.mark.parametrize(
    "words", [b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n", bytes(1000), PREFACE + bytes(1000), b"\x16\x03\x01\xff\xff"]
)
def test_what_is_not_grpc_is_closed(words: bytes) -> None:
    async def story(port: Port) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, port.port)
        writer.write(words)
        writer.write_eof()
        with suppress(ConnectionError):
            await reader.read()
            while await reader.read(65536):
                pass
        writer.close()

    play(story)


def test_who_does_not_say_who_he_is_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELLO_SECONDS", 0.1)

    async def story(port: Port) -> None:
        async with port.peer() as silent, port.peer() as rude:
            await rude.write(control.FromFollower(index_token=1))
            assert await ended(silent) == (grpc.StatusCode.INVALID_ARGUMENT, "a session begins with a hello")
            assert await ended(rude) == (grpc.StatusCode.INVALID_ARGUMENT, "a session begins with a hello")

    play(story)


def test_a_message_larger_than_any_of_ours_is_not_taken() -> None:
    async def story(port: Port) -> None:
        async with port.peer() as call:
            await hello(call)
            large = control.Question(id=1, method=TXN, request=bytes(QUESTION_MAX + BATCH_BYTES))
            await call.write(control.FromFollower(questions=[large]))
            code, _ = await ended(call)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED

    play(story)


def test_a_follower_refuses_itself_what_its_leader_would_not_take() -> None:
    async def story(port: Port) -> None:
        large = Reply(RequestTooLarge.code, RequestTooLarge.text, b"")
        assert await port.ask(bytes(QUESTION_MAX + 1)) == (large, False)
        answers = await asyncio.gather(*(port.ask(bytes(QUESTION_MAX)) for _ in range(8)))
        assert {len(reply.response) for reply, _ in answers if reply is not None} == {QUESTION_MAX}

    play(story)


def test_what_breaks_the_rules_is_told_so() -> None:
    async def story(port: Port) -> None:
        async with port.peer() as call:
            await hello(call)
            questions = [control.Question(id=number, method=TXN) for number in range(MOST_IN_BATCH + 1)]
            await call.write(control.FromFollower(questions=questions))
            assert await ended(call) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"a message has more than {MOST_IN_BATCH} questions",
            )

    play(story)


def test_who_asks_and_never_reads_is_not_read_any_more() -> None:
    async def story(port: Port) -> None:
        async with port.peer() as call:
            await hello(call)
            number = 0
            with suppress(TimeoutError):
                while True:
                    message = control.FromFollower()
                    for _ in range(64):
                        number += 1
                        message.questions.add(id=number, method=TXN, request=b"much")
                    async with asyncio.timeout(1.0):
                        await call.write(message)
                    await asyncio.sleep(0)
                    assert number < 1_000_000, "it is read for ever"
            await port.fine()
            assert port.asked * ANSWER < 2 * PAUSE_BYTES

    play(story)


def test_hundreds_of_thousands_of_questions_beside_a_good_follower() -> None:
    async def story(port: Port) -> None:
        async with port.peer() as call:
            await hello(call)

            async def read() -> int:
                count = 0
                while count < QUESTIONS:
                    message = await call.read()
                    count += len(message.answers)
                return count

            reading = asyncio.create_task(read())
            for batch in range(QUESTIONS // 4000):
                message = control.FromFollower()
                for number in range(4000):
                    message.questions.add(id=batch * 4000 + number, method="/nobody/Knows")
                await call.write(message)
                if batch % 10 == 0:
                    await port.fine()
            assert await reading == QUESTIONS

    play(story)


def test_sessions_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SESSIONS", 3)

    async def story(port: Port) -> None:
        async with port.peer() as one, port.peer() as two, port.peer() as three:
            await hello(one, "one", b"1")
            await hello(two, "two", b"2")
            await three.write(control.FromFollower(hello=control.Hello(name="three", protocol=PROTOCOL)))
            assert await ended(three) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "there are 3 sessions already")

    play(story)


def test_a_process_that_comes_again_has_left_its_older_session() -> None:
    async def story(port: Port) -> None:
        async with port.peer() as before, port.peer() as after:
            await hello(before, "one", b"1")
            await hello(after, "one", b"1")
            assert (await ended(before))[0] is grpc.StatusCode.OK
            assert len(port.service.sessions) == 2

    play(story)


@pytest.fixture
def many_files() -> Iterator[int]:
    """As many connections as this process may have, at most three thousand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(3000, (hard - 200) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousands_who_say_nothing_are_let_go(monkeypatch: pytest.MonkeyPatch, many_files: int) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 5)

    async def story(port: Port) -> None:
        async with AsyncExitStack() as stack:
            readers = []
            for number in range(many_files):
                reader, writer = await asyncio.open_connection(LOOPBACK, port.port)
                stack.callback(writer.close)
                readers.append(reader)
                if number % 500 == 0:
                    await port.fine()
            async with port.peer() as late:
                await hello(late)
            for reader in readers:
                with suppress(ConnectionError):
                    while await reader.read(4096):
                        pass

    play(story)
