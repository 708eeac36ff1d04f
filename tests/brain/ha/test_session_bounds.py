"""What a session costs a leader at most, whatever its follower does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from wharf.brain.ha import session as module
from wharf.brain.ha.limits import BATCH_BYTES, MOST_IN_BATCH, MOST_UNDER_WAY, PAUSE_ANSWERS, PAUSE_BYTES
from wharf.brain.ha.readgate import Point
from wharf.brain.ha.session import Broken, Session
from wharf.common.pb.control import control_pb2 as control
from wharf.wire.rpc import Call

TXN = "/etcdserverpb.KV/Txn"


class Leader:
    def leads(self) -> bool:
        return True

    def proven(self) -> bool:
        return True

    def published(self) -> Point:
        return Point(42, 7)


class Stage:
    """A session whose questions are held until `answer`, or answered at once with a size."""

    def __init__(self, at_once: int | None = None) -> None:
        self.held: list[Call] = []
        self._at_once = at_once
        self.session = Session(Leader(), {TXN: self._txn}, control.Hello(name="follower"))
        self._number = 0

    def _txn(self, data: bytes, call: Call) -> None:
        if self._at_once is None:
            self.held.append(call)
        else:
            call.reply(bytes(self._at_once))

    def ask(self, count: int, size: int = 1) -> None:
        for _ in range(0, count, MOST_IN_BATCH):
            message = control.FromFollower()
            for _ in range(min(count, MOST_IN_BATCH)):
                self._number += 1
                message.questions.add(id=self._number, method=TXN, request=bytes(size))
            count -= MOST_IN_BATCH
            self.session.take(message)

    def sent(self) -> list[control.FromLeader]:
        """Everything there is to say."""
        messages = []
        while self.session.wake.is_set():
            self.session.wake.clear()
            messages.append(self.session.message())
        return messages

    def waits(self) -> bool:
        """Whether nothing more is read from the follower."""
        room = self.session.room()
        try:
            room.send(None)
        except StopIteration:
            return False
        room.close()
        return True


def play(story: Callable[[], None]) -> None:
    async def run() -> None:
        story()

    asyncio.run(run())


def test_answers_leave_in_messages_of_bounded_size() -> None:
    def story() -> None:
        stage = Stage(at_once=BATCH_BYTES // 3)
        stage.ask(10)
        messages = stage.sent()
        assert [len(message.answers) for message in messages] == [2, 2, 2, 2, 2]
        assert [answer.id for message in messages for answer in message.answers] == list(range(1, 11))
        stage = Stage(at_once=0)
        stage.ask(MOST_IN_BATCH + 1)
        assert [len(message.answers) for message in stage.sent()] == [MOST_IN_BATCH, 1]

    play(story)


def test_an_answer_larger_than_a_message_should_be_goes_alone() -> None:
    def story() -> None:
        stage = Stage(at_once=3 * BATCH_BYTES)
        stage.ask(2)
        assert [len(message.answers) for message in stage.sent()] == [1, 1]

    play(story)


def test_goodbye_goes_after_every_answer() -> None:
    def story() -> None:
        stage = Stage(at_once=BATCH_BYTES)
        stage.ask(3)
        stage.session.hand_over(9)
        messages = stage.sent()
        assert [message.HasField("hand_over") for message in messages] == [False, False, True]
        assert messages[-1].hand_over.successor == 9
        assert [len(message.answers) for message in messages] == [1, 1, 1]

    play(story)


@pytest.mark.parametrize(("count", "size"), [(PAUSE_ANSWERS + 1, 0), (PAUSE_BYTES // BATCH_BYTES + 1, BATCH_BYTES)])
def test_who_does_not_take_answers_is_not_read_any_more(count: int, size: int) -> None:
    def story() -> None:
        stage = Stage(at_once=size)
        assert not stage.waits()
        stage.ask(count)
        assert stage.waits()
        assert sum(len(message.answers) for message in stage.sent()) == count
        assert not stage.waits()

    play(story)


def test_who_takes_none_of_very_much_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_UNREAD_BYTES", 4 * BATCH_BYTES)

    def story() -> None:
        stage = Stage()
        stage.ask(100)
        for call in stage.held[:4]:
            call.reply(bytes(BATCH_BYTES))
        assert not stage.session.ended.is_set()
        for call in stage.held[4:]:
            call.reply(bytes(BATCH_BYTES))
        assert stage.session.ended.is_set()
        assert "are not read" in stage.session.fault
        assert sum(len(message.answers) for message in stage.sent()) == 4

    play(story)


def test_one_answer_may_be_as_large_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_UNREAD_BYTES", BATCH_BYTES)

    def story() -> None:
        stage = Stage(at_once=10 * BATCH_BYTES)
        stage.ask(1)
        assert not stage.session.ended.is_set()

    play(story)


def test_more_than_may_be_under_way_goes_back_undone() -> None:
    def story() -> None:
        stage = Stage()
        stage.ask(MOST_UNDER_WAY + 3)
        answers = [answer for message in stage.sent() for answer in message.answers]
        assert [answer.undone for answer in answers] == [True] * 3
        stage.held[0].reply(b"x")
        stage.ask(1)
        assert len(stage.held) == MOST_UNDER_WAY + 1

    play(story)


def test_so_does_what_would_be_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES_UNDER_WAY", 1000)

    def story() -> None:
        stage = Stage()
        stage.ask(1, 5000)
        stage.ask(1, 1)
        assert (len(stage.held), [len(message.answers) for message in stage.sent()]) == (1, [1])
        stage.held[0].reply(b"")
        stage.ask(2, 500)
        assert len(stage.held) == 3

    play(story)


def test_what_none_of_ours_does_ends_the_session() -> None:
    def story() -> None:
        stage = Stage()
        question = control.Question(id=1, method=TXN)
        with pytest.raises(Broken, match="the same number"):
            stage.session.take(control.FromFollower(questions=[question, question]))
        many = control.FromFollower(cancelled=range(MOST_IN_BATCH + 1))
        with pytest.raises(Broken, match="more than"):
            stage.session.take(many)

    play(story)
