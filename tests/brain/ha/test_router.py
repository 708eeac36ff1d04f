"""Where calls go: here, to the leader, or into a bounded queue until somebody leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from wharf.brain.api.answered import AnsweredCall, Caller, Reply
from wharf.brain.api.pb import rpc
from wharf.brain.errors import LeaderFailed, NoLeader, RequestTimeout, Stopped, TooManyRequests
from wharf.brain.ha import router as module
from wharf.brain.ha.router import Router
from wharf.brain.ha.routes import Route, is_serializable, route_of
from wharf.wire.rpc import Call, Code, Kind, Method

TXN, RANGE, STREAM, STATUS, WATCH = (
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Watch/Watch",
)


class FakeLeader:
    def __init__(self) -> None:
        self.leading = self.reached = False
        self.proof = self.sure = True
        self.questions: list[Callable[[Reply | None, bool], None]] = []
        self.callers: list[Caller] = []
        self.reads: list[Callable[[bool], None]] = []

    def leads(self) -> bool:
        return self.leading

    def proven(self) -> bool:
        return self.proof

    def certain(self) -> bool:
        return self.sure

    def reachable(self) -> bool:
        return self.reached

    def ask(
        self, path: str, request: bytes, call: Call, done: Callable[[Reply | None, bool], None], caller: Caller
    ) -> None:
        self.questions.append(done)
        self.callers.append(caller)

    def read(self, done: Callable[[bool], None]) -> None:
        self.reads.append(done)


class Desk:
    """A router with one method of each kind, and time that is told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.later: list[Callable[[], None]] = []
        self.leader = FakeLeader()
        self.router = Router(
            self.leader, 5.0, lambda: self.now, lambda _, callback: self.later.append(callback), member_id=7
        )
        self.here: list[str] = []
        self.refuses = False
        self.replies: dict[str, Reply] = {}

    def ask(self, path: str, name: str, request: bytes = b"") -> AnsweredCall:
        def handler(data: bytes, call: Call) -> None:
            self.here.append(name)
            if self.refuses:
                call.finish(NoLeader.code, NoLeader.text)
            else:
                call.reply(b"here")

        call = AnsweredCall(path, lambda reply: self.replies.update({name: reply}))
        method = self.router.routed(Method(path, Kind.UNARY, handler))
        cast(Callable[[bytes, Call], None], method.handler)(request, cast(Call, call))
        return call

    def look(self, seconds: float) -> None:
        self.now += seconds
        later, self.later = self.later, []
        for callback in later:
            callback()


def test_methods_go_where_they_belong() -> None:
    assert route_of(TXN) is route_of("/etcdserverpb.Auth/UserAdd") is Route.LEADER
    assert route_of("/v3lockpb.Lock/Lock") is Route.HERE, "its own requests go where they belong"
    assert route_of(RANGE) is route_of(STREAM) is Route.READ
    assert route_of(STATUS) is route_of("/grpc.health.v1.Health/Check") is Route.HERE
    assert route_of(WATCH) is Route.SHOWN
    assert route_of("/etcdserverpb.Auth/AuthStatus") is route_of("/etcdserverpb.Maintenance/Snapshot") is Route.READ


def test_a_leader_answers_by_itself() -> None:
    desk = Desk()
    desk.leader.leading = True
    desk.ask(TXN, "w")
    desk.ask(RANGE, "r")
    assert desk.here == ["w", "r"]
    assert desk.replies["w"] == desk.replies["r"] == Reply(0, "", b"here")


def test_what_a_leader_read_before_it_slept_is_not_sent() -> None:
    """It holds its answer, but cannot prove any more that it leads: reads start over, writes have no known outcome."""
    desk = Desk()
    desk.leader.leading, desk.leader.proof = True, False
    desk.ask(TXN, "w")
    desk.leader.leading = True
    desk.ask(RANGE, "r")
    assert desk.replies["w"].text == LeaderFailed.text
    assert "r" not in desk.replies
    desk.leader.proof = True
    desk.router.changed()
    assert desk.replies["r"] == Reply(0, "", b"here")


def test_what_a_leader_had_taken_and_not_begun_when_it_was_replaced_waits_for_the_next() -> None:
    desk = Desk()
    desk.leader.leading = desk.refuses = True
    desk.ask(TXN, "w")
    desk.ask(RANGE, "r")
    assert not desk.replies
    desk.refuses = False
    desk.router.changed()
    assert desk.replies["w"] == desk.replies["r"] == Reply(0, "", b"here")


def test_a_follower_forwards_writes_and_reads_here_when_told_to() -> None:
    desk = Desk()
    desk.leader.reached = True
    desk.ask(TXN, "w")
    desk.ask(RANGE, "r")
    desk.ask(STATUS, "s")
    assert desk.here == ["s"]
    desk.leader.questions[0](Reply(0, "", b"there"), False)
    desk.leader.reads[0](True)
    assert desk.replies["w"] == Reply(0, "", b"there")
    assert desk.here == ["s", "r"]


def test_whoever_is_asked_answers_in_its_own_name() -> None:
    desk = Desk()
    desk.leader.reached = True
    desk.ask(TXN, "w")
    header = rpc.ResponseHeader(cluster_id=1, member_id=2, revision=3, raft_term=4)
    kv = rpc.RangeResponse(header=header, count=5)
    desk.leader.questions[0](Reply(0, "", kv.SerializeToString()), False)
    kv.header.member_id = 7
    assert desk.replies["w"].response == kv.SerializeToString()


def test_a_serializable_read_asks_nobody() -> None:
    desk = Desk()
    request = rpc.RangeRequest(key=b"8", serializable=True).SerializeToString()
    desk.ask(RANGE, "r", request)
    assert desk.here == ["r"]
    assert not is_serializable(rpc.RangeRequest(key=b"8\x01").SerializeToString())
    assert not is_serializable(b"8\xff")


def test_what_nobody_has_done_waits_for_the_next_leader() -> None:
    desk = Desk()
    desk.ask(TXN, "w")
    desk.ask(RANGE, "r")
    assert len(desk.router) == 2
    desk.leader.leading = True
    desk.router.changed()
    assert desk.here == ["w", "r"]


def test_an_undone_question_is_asked_again_and_a_lost_one_is_not() -> None:
    desk = Desk()
    desk.leader.reached = True
    desk.ask(TXN, "undone")
    desk.ask(TXN, "lost")
    desk.leader.questions[0](None, True)
    desk.leader.questions[1](None, False)
    assert desk.replies["lost"] == Reply(LeaderFailed.code, LeaderFailed.text, b"")
    desk.router.changed()
    assert len(desk.leader.questions) == 3
    desk.leader.questions[2](Reply(0, "", b"done"), False)
    assert desk.replies["undone"] == Reply(0, "", b"done")


def test_waiting_ends_in_time_however_often_it_is_tried_again() -> None:
    desk = Desk()
    desk.leader.reached = True
    desk.ask(TXN, "w")
    for _ in range(5):
        desk.leader.questions[-1](None, True)
        desk.look(1.5)
    assert desk.replies["w"].text == RequestTimeout.text
    assert len(desk.router) == 0


def test_a_refused_read_waits_too() -> None:
    desk = Desk()
    desk.leader.reached = True
    desk.ask(RANGE, "r")
    desk.leader.reached = False
    desk.leader.reads[0](False)
    assert len(desk.router) == 1
    desk.look(6.0)
    assert desk.replies["r"].text == RequestTimeout.text


def test_who_has_gone_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.ask(TXN, "w").cancel()
    desk.leader.leading = True
    desk.router.changed()
    assert not desk.here


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    desk = Desk()
    desk.ask(TXN, "large", b"x" * 101)
    for name in ("a", "b", "c"):
        desk.ask(TXN, name)
    assert desk.replies["large"].text == desk.replies["c"].text == TooManyRequests.text
    desk.router.refuse(Stopped())
    assert desk.replies["a"].text == desk.replies["b"].text == Stopped.text


class Stream:
    """A stream's call, its handler, and what the handler heard."""

    def __init__(self, desk: Desk, path: str) -> None:
        self.heard: list[bytes] = []
        self.reading = True
        method = desk.router.routed(Method(path, Kind.STREAM, self._handler))
        self.call = AnsweredCall(path, lambda _: None)
        cast(Callable[[Call], None], method.handler)(cast(Call, _Pausing(self, self.call)))

    def _handler(self, call: Call) -> None:
        call.on_message = self.heard.append
        call.on_half_close = lambda: self.heard.append(b"end")

    def say(self, message: bytes) -> None:
        assert self.call.on_message is not None
        self.call.on_message(message)

    def half_close(self) -> None:
        assert self.call.on_half_close is not None
        self.call.on_half_close()


class _Pausing:
    """A call that knows whether its client is listened to."""

    _stream: Stream

    def __init__(self, stream: Stream, call: AnsweredCall) -> None:
        object.__setattr__(self, "_stream", stream)
        object.__setattr__(self, "_call", call)

    def __getattr__(self, name: str) -> object:
        return getattr(self._call, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._call, name, value)

    def pause_reading(self) -> None:
        self._stream.reading = False

    def resume_reading(self) -> None:
        self._stream.reading = True


def test_a_stream_that_begins_with_a_read_hears_what_was_said_before() -> None:
    desk = Desk()
    desk.leader.reached = True
    stream = Stream(desk, STREAM)
    stream.say(b"range")
    assert not stream.reading, "a client that says more and more while nobody leads is not listened to"
    stream.half_close()
    assert not stream.heard
    desk.leader.reads[0](True)
    assert stream.heard == [b"range", b"end"]
    assert stream.reading


def test_a_node_that_has_just_started_shows_nothing_before_it_has_heard_of_a_leader() -> None:
    """It may have loaded what the leader has not shown yet."""
    desk = Desk()
    desk.leader.reached, desk.leader.sure = True, False
    desk.ask(RANGE, "r", rpc.RangeRequest(key=b"8", serializable=True).SerializeToString())
    stream = Stream(desk, WATCH)
    stream.say(b"create")
    assert not desk.here
    assert not stream.heard
    desk.leader.sure = True
    for read in desk.leader.reads:
        read(True)
    assert desk.here == ["r"]
    assert stream.heard == [b"create"]
    assert Stream(desk, WATCH).heard == []


def test_a_waiting_call_that_fails_takes_no_other_with_it() -> None:
    """The queue goes on, and so does the timer that refuses what waits too long."""
    desk = Desk()

    def broken(data: bytes, call: Call) -> None:
        raise ValueError("broken")

    call = AnsweredCall(TXN, lambda reply: desk.replies.update({"broken": reply}))
    method = desk.router.routed(Method(TXN, Kind.UNARY, broken))
    cast(Callable[[bytes, Call], None], method.handler)(b"", cast(Call, call))
    desk.ask(TXN, "w")
    desk.leader.leading = True
    desk.look(1.0)
    assert desk.here == ["w"]
    assert desk.replies["broken"].code == Code.INTERNAL
    desk.leader.leading = False
    desk.ask(TXN, "late")
    desk.look(5.0)
    assert desk.replies["late"].text == RequestTimeout.text


def test_a_look_that_fails_does_not_end_the_time_limit_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk()
    desk.ask(TXN, "w")

    def broken() -> bool:
        raise ValueError("broken")

    monkeypatch.setattr(desk.leader, "leads", broken)
    for _ in range(5):
        desk.look(1.0)
    assert desk.replies["w"].text == RequestTimeout.text
    assert len(desk.router) == 0
    assert caplog.text.count("Traceback") == 1
