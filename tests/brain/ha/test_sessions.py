"""A follower's session with a leader, over real grpcio on loopback."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from wharf.brain.api.answered import AnsweredCall, Caller, Reply
from wharf.brain.api.guard import AUTHENTICATE
from wharf.brain.errors import LeaderFailed, NoLeader
from wharf.brain.ha.link import AUTH_OLD, Link
from wharf.brain.ha.protocol import PROTOCOL
from wharf.brain.ha.readgate import Point
from wharf.brain.ha.service import ControlServer, ControlService
from wharf.brain.ha.session import Session
from wharf.common.pb.control import control_pb2 as control
from wharf.wire.rpc import Call, Code

TXN = "/etcdserverpb.KV/Txn"
LOOPBACK = "127.0.0.1"
CALLER = Caller(None, 0)


class FakeHost:
    cluster_id, member_id, epoch = 1, 2, 3

    def __init__(self) -> None:
        self.leading = self.proof = True
        self.refusal = ""
        self.auth_version = 0
        self.there: list[str] = []

    def leads(self) -> bool:
        return self.leading

    def proven(self) -> bool:
        return self.proof

    def published(self) -> Point:
        return Point(42, 7, self.auth_version)

    def joined(self, session: Session) -> str:
        if not self.refusal:
            self.there.append(session.hello.name)
        return self.refusal

    def left(self, session: Session) -> None:
        self.there.remove(session.hello.name)

    def status(self) -> control.StatusResponse:
        return control.StatusResponse(name="leader", role="leader")

    async def step_down(self, successor: int) -> bool:
        return successor == 9


class Pair:
    """A leader that answers with its question backwards, holds "hold", and a follower's link to it."""

    def __init__(self) -> None:
        self.host = FakeHost()
        self.held: list[Call] = []
        self.service = ControlService(self.host, {TXN: self._txn})
        self.server = ControlServer()
        self.link = Link(control.Hello(name="follower", member_id=5), None)
        self.indexes: list[tuple[int, Point | None]] = []
        self.opened, self.closed, self.successor = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.link.on_open, self.link.on_closed = self.opened.set, self.closed.set
        self.link.on_hand_over = lambda _: self.successor.set()
        self.indexed = asyncio.Event()
        self.link.on_index = self._index

    def _txn(self, data: bytes, call: Call) -> None:
        if data == b"hold":
            self.held.append(call)
        elif data == b"refuse":
            call.finish(NoLeader.code, NoLeader.text)
        elif data == b"wrong":
            call.finish(Code.INVALID_ARGUMENT, "etcdserver: key is not provided")
        else:
            call.reply(data[::-1])

    def _index(self, token: int, point: Point | None) -> None:
        self.indexes.append((token, point))
        self.indexed.set()

    async def ask(self, data: bytes) -> tuple[Reply | None, bool]:
        return await self.begin(data)[0]

    def begin(
        self, data: bytes, path: str = TXN, caller: Caller = CALLER
    ) -> tuple[asyncio.Future[tuple[Reply | None, bool]], AnsweredCall]:
        outcome: asyncio.Future[tuple[Reply | None, bool]] = asyncio.get_running_loop().create_future()
        call = AnsweredCall(path, lambda _: None)
        self.link.ask(path, data, cast(Call, call), lambda reply, undone: outcome.set_result((reply, undone)), caller)
        return outcome, call


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    await made.server.start(made.service, [f"{LOOPBACK}:0"], None)
    made.link.target(f"{LOOPBACK}:{made.server.ports[0]}")
    running = asyncio.create_task(made.link.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.server.stop(0)


def play(story: Callable[[Pair], Awaitable[None]]) -> None:
    async def run() -> None:
        async with pair() as made:
            await asyncio.wait_for(story(made), 30)

    asyncio.run(run())


def test_questions_are_answered_by_their_number() -> None:
    async def story(pair: Pair) -> None:
        await pair.opened.wait()
        assert (pair.link.leader_id, pair.link.epoch, pair.host.there) == (2, 3, ["follower"])
        asked = [pair.begin(b"%d-" % number)[0] for number in range(200)]
        answers = await asyncio.gather(*asked)
        assert answers == [(Reply(0, "", (b"%d-" % number)[::-1]), False) for number in range(200)]
        assert await pair.ask(b"wrong") == (Reply(3, "etcdserver: key is not provided", b""), False)
        unknown = await pair.begin(b"x", "/nobody.Knows/This")[0]
        assert unknown[0] is not None
        assert unknown[0].code == Code.UNIMPLEMENTED

    play(story)


def test_a_leader_that_leads_no_more_says_that_nothing_was_done() -> None:
    async def story(pair: Pair) -> None:
        await pair.opened.wait()
        assert await pair.ask(b"refuse") == (None, True)
        pair.host.leading = False
        assert await pair.ask(b"x") == (None, True)

    play(story)


def _answer_to(pair: Pair, question: control.Question) -> control.Answer:
    """As it goes over the wire."""
    session = Session(pair.host, pair.service._handlers, control.Hello())
    session.take(control.FromFollower(questions=[question]))
    (answer,) = session.message().answers
    return answer


def test_a_leader_refuses_what_was_authenticated_with_other_users() -> None:
    async def story(pair: Pair) -> None:
        await pair.opened.wait()
        pair.host.auth_version = 8
        seen: list[Caller | None] = []
        plain = pair._txn

        def txn(data: bytes, call: Call) -> None:
            seen.append(cast(AnsweredCall, call).caller)
            plain(data, call)

        pair.service._handlers = {TXN: txn, AUTHENTICATE: txn}
        for session in pair.service.sessions:
            session._handlers = pair.service._handlers
        for version in (0, 7, 9):
            reply, _ = await pair.begin(b"x", caller=Caller("alice", version))[0]
            assert reply is AUTH_OLD
        assert not seen
        answer = _answer_to(pair, control.Question(id=1, method=TXN, request=b"x", auth_version=7))
        assert answer == control.Answer(id=1, undone=True, auth_old=True), (
            "a release that reads `undone` only asks again"
        )
        assert _answer_to(pair, control.Question(id=1, method=TXN, request=b"x", auth_version=8)).response == b"x"
        seen.clear()
        assert await pair.begin(b"x", caller=Caller("alice", 8))[0] == (Reply(0, "", b"x"), False)
        assert await pair.begin(b"x", caller=Caller(None, 8))[0] == (Reply(0, "", b"x"), False)
        assert seen == [Caller("alice", 8), Caller(None, 8)]
        assert await pair.begin(b"x", AUTHENTICATE)[0] == (Reply(0, "", b"x"), False), "it needs no permission"

    play(story)


def test_an_answer_that_cannot_be_proven_is_an_unknown_outcome() -> None:
    async def story(pair: Pair) -> None:
        await pair.opened.wait()
        pair.host.proof = False
        assert await pair.ask(b"x") == (Reply(LeaderFailed.code, LeaderFailed.text, b""), False)
        pair.link.ask_index(1)
        await pair.indexed.wait()
        assert pair.indexes == [(1, None)]

    play(story)


def test_an_index_is_what_the_leader_has_published() -> None:
    async def story(pair: Pair) -> None:
        await pair.opened.wait()
        pair.link.ask_index(7)
        await pair.indexed.wait()
        assert pair.indexes == [(7, Point(42, 7))]

    play(story)


def test_what_was_asked_when_the_session_breaks_is_nobodys_to_know() -> None:
    async def story(pair: Pair) -> None:
        await pair.opened.wait()
        outcome, _ = pair.begin(b"hold")
        assert await pair.ask(b"x") == (Reply(0, "", b"x"), False)
        for session in pair.service.sessions:
            session.ended.set()
        assert await outcome == (None, False)
        await pair.closed.wait()

    play(story)


def test_what_never_left_is_undone() -> None:
    async def story(pair: Pair) -> None:
        await pair.opened.wait()
        pair.link = Link(control.Hello(name="other", member_id=6), None)
        outcome, _ = pair.begin(b"x")
        pair.link.target(f"{LOOPBACK}:1")  # nobody listens there
        running = asyncio.create_task(pair.link.run())
        assert await outcome == (None, True)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    play(story)


def test_a_question_nobody_waits_for_any_more_is_cancelled_at_the_leader() -> None:
    async def story(pair: Pair) -> None:
        await pair.opened.wait()
        _, call = pair.begin(b"hold")
        await pair.ask(b"x")
        (held,) = pair.held
        gone = asyncio.Event()
        held.on_cancel = gone.set
        call.cancel()
        await gone.wait()

    play(story)


def test_answers_on_their_way_are_taken_before_another_leader_is_asked() -> None:
    async def story(pair: Pair) -> None:
        await pair.opened.wait()
        outcome, _ = pair.begin(b"hold")
        await pair.ask(b"x")
        pair.link.target(f"{LOOPBACK}:1")
        await asyncio.sleep(0)
        (held,) = pair.held
        held.reply(b"done")
        assert await outcome == (Reply(0, "", b"done"), False)
        await pair.closed.wait()

    play(story)


def test_followers_are_told_of_a_hand_over() -> None:
    async def story(pair: Pair) -> None:
        await pair.opened.wait()
        pair.service.hand_over(0)
        await pair.successor.wait()

    play(story)


class Leaving:
    """The context of a follower whose end is noticed twice: it reads no more, and then its call is cancelled."""

    def __init__(self) -> None:
        self.gone, self.ending = asyncio.Event(), asyncio.Event()
        self._said = [control.FromFollower(hello=control.Hello(name="follower", member_id=5, protocol=PROTOCOL))]

    async def read(self) -> object:
        if self._said:
            return self._said.pop()
        await self.gone.wait()
        return object()

    async def write(self, message: control.FromLeader) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ending.set()
            await asyncio.sleep(0.01)


def test_nothing_is_left_of_a_session_whose_end_is_noticed_twice() -> None:
    """Else its node, started again, would be told for ever that another one has its name."""

    async def story() -> None:
        service, context = ControlService(FakeHost(), {}), Leaving()
        serving = asyncio.create_task(service.Session(None, cast(Any, context)))
        assert await service.wait_for(5, 10)
        context.gone.set()
        await context.ending.wait()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        assert not service.has(5)

    asyncio.run(story())


def test_who_is_refused_is_not_there() -> None:
    async def story(pair: Pair) -> None:
        await pair.opened.wait()
        pair.host.refusal = "another node is called follower already"
        pair.closed.clear()
        pair.opened.clear()
        pair.link.restart()
        await pair.closed.wait()
        await pair.service.wait_empty(10)
        assert pair.host.there == []
        assert not pair.link.open

    play(story)


def test_refusal_by_the_leader_is_logged_as_an_error() -> None:
    """An operator has to give the node another name; a leader that is gone is news at most."""

    async def story(pair: Pair) -> None:
        await pair.opened.wait()
        pair.host.refusal = "another node is called follower already"
        refused: asyncio.Future[logging.LogRecord] = asyncio.get_running_loop().create_future()

        class Watch(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if "is called follower already" in record.getMessage() and not refused.done():
                    refused.set_result(record)

        watch, logger = Watch(), logging.getLogger("wharf.brain.ha.link")
        logger.addHandler(watch)
        try:
            pair.link.restart()
            async with asyncio.timeout(10):
                assert (await refused).levelname == "ERROR"
        finally:
            logger.removeHandler(watch)

    play(story)
