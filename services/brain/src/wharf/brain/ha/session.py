"""One follower's session, as the leader sees it: questions in, answers out, both in batches and both bounded.

Invariants: a question is answered at most once, and as long as the session lasts exactly once; what waits to be sent
is bounded by `limits`, whatever the follower asks and however slowly it reads; a message that says goodbye goes after
every answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Protocol, cast

from wharf.brain.api.answered import AnsweredCall, Caller, Reply
from wharf.brain.api.guard import AUTHENTICATE
from wharf.brain.errors import LeaderFailed, NoLeader
from wharf.brain.ha.limits import (
    BATCH_BYTES,
    MOST_BYTES_UNDER_WAY,
    MOST_IN_BATCH,
    MOST_UNDER_WAY,
    MOST_UNREAD_BYTES,
    PAUSE_ANSWERS,
    PAUSE_BYTES,
)
from wharf.brain.ha.readgate import Point
from wharf.common.pb.control import control_pb2 as control
from wharf.wire.rpc import Call, Code, UnaryHandler


class Leader(Protocol):
    """The node, as far as a session needs it."""

    def leads(self) -> bool: ...
    def proven(self) -> bool: ...
    def published(self) -> Point:
        """Everything acknowledged is at or below this, changes of users and roles included."""


class Broken(Exception):
    """The follower does what none of ours does: its session must end. The text is for people."""


class Session:
    """See the module. `wake`: there is something to say; `ended`: the session must end, `fault` may say why."""

    def __init__(self, host: Leader, handlers: Mapping[str, UnaryHandler], hello: control.Hello) -> None:
        self.hello = hello
        self.wake = asyncio.Event()
        self.ended = asyncio.Event()
        self.fault = ""
        self._host = host
        self._handlers = handlers
        self._calls: dict[int, tuple[AnsweredCall, int]] = {}  # with the size of the request
        self._asked = 0  # bytes of requests under way
        self._answers: deque[control.Answer] = deque()
        self._unsent = 0  # bytes of answers
        self._index: control.Index | None = None
        self._goodbye: control.HandOver | None = None
        self._room = asyncio.Event()
        self._room.set()

    def take(self, message: control.FromFollower) -> None:
        """Raises Broken."""
        if max(len(message.questions), len(message.cancelled)) > MOST_IN_BATCH:
            raise Broken(f"a message has more than {MOST_IN_BATCH} questions")
        if message.index_token:
            point = self._host.published()
            leads = self._host.proven()  # asked last: this process may have slept since it looked
            self._index = control.Index(token=message.index_token, refused=not leads)
            self._index.revision, self._index.compact_revision, self._index.auth_version = point
            self.wake.set()
        for question in message.questions:
            self._ask(question)
        for number in message.cancelled:
            call = self._forget(number)
            if call is not None:
                call.cancel()

    async def room(self) -> None:
        """Until the follower has taken so much of what it asked for that it may ask more."""
        await self._room.wait()

    def hand_over(self, successor: int) -> None:
        """This node leads no more."""
        self._goodbye = control.HandOver(successor=successor)
        self.wake.set()

    def message(self) -> control.FromLeader:
        """What there is to say, as much as goes into one message; `wake` is set again if there is more."""
        out, size = control.FromLeader(), 0
        if self._index is not None:
            out.index.CopyFrom(self._index)
            self._index = None
        while self._answers and len(out.answers) < MOST_IN_BATCH:
            answer_size = _size(self._answers[0])
            if size and size + answer_size > BATCH_BYTES:
                break
            size += answer_size
            out.answers.append(self._answers.popleft())
        self._unsent -= size
        if self._answers:
            self.wake.set()
        elif self._goodbye is not None:
            out.hand_over.CopyFrom(self._goodbye)
            self._goodbye = None
        if not self._crowded():
            self._room.set()
        return out

    def close(self) -> None:
        """Nobody waits for answers any more."""
        calls, self._calls = self._calls, {}
        for call, _ in calls.values():
            call.cancel()
        self._answers.clear()
        self._unsent = self._asked = 0

    def end(self, fault: str = "") -> None:
        self.fault = self.fault or fault
        self.ended.set()

    def _ask(self, question: control.Question) -> None:
        handler, number, size = self._handlers.get(question.method), question.id, len(question.request)
        if number in self._calls:
            raise Broken("two questions have the same number")
        if handler is None:
            text = f"unknown method {question.method[:100]}"
            self._send(control.Answer(id=number, code=Code.UNIMPLEMENTED, text=text))
        elif not self._host.leads() or self._is_full(size):
            self._send(control.Answer(id=number, undone=True))
        elif question.auth_version != self._host.published().auth_version and question.method != AUTHENTICATE:
            # The follower may have let in what was revoked.
            self._send(control.Answer(id=number, undone=True, auth_old=True))
        else:
            metadata = ((b"traceparent", question.traceparent),) if question.traceparent else ()
            caller = Caller(question.user if question.HasField("user") else None, question.auth_version)
            call = AnsweredCall(question.method, partial(self._answer, number), metadata, caller=caller)
            self._calls[number] = (call, size)
            self._asked += size
            handler(question.request, cast(Call, call))

    def _is_full(self, size: int) -> bool:
        under_way = len(self._calls)
        return under_way >= MOST_UNDER_WAY or (under_way > 0 and self._asked + size > MOST_BYTES_UNDER_WAY)

    def _answer(self, number: int, reply: Reply) -> None:
        if self._forget(number) is None:
            return
        if (reply.code, reply.text) == (NoLeader.code, NoLeader.text):
            self._send(control.Answer(id=number, undone=True))
            return
        if not reply.code and not self._host.proven():
            reply = Reply(LeaderFailed.code, LeaderFailed.text, b"")
        self._send(control.Answer(id=number, code=reply.code, text=reply.text, response=reply.response))

    def _forget(self, number: int) -> AnsweredCall | None:
        call, size = self._calls.pop(number, (None, 0))
        self._asked -= size
        return call

    def _send(self, answer: control.Answer) -> None:
        if self._unsent > MOST_UNREAD_BYTES:
            self.end(f"more than {MOST_UNREAD_BYTES >> 20} MiB of answers are not read")
            return
        self._answers.append(answer)
        self._unsent += _size(answer)
        if self._crowded():
            self._room.clear()
        self.wake.set()

    def _crowded(self) -> bool:
        return len(self._answers) > PAUSE_ANSWERS or self._unsent > PAUSE_BYTES


def _size(answer: control.Answer) -> int:
    """Bytes it keeps, about."""
    return len(answer.response) + len(answer.text) + 16
