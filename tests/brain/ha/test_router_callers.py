"""Whose requests go to the leader, and what happens when the leader knows other users."""

from __future__ import annotations

from brain.ha.test_router import TXN, Desk
from wharf.brain.api.answered import Caller, Reply
from wharf.brain.errors import InvalidAuthToken, RequestTimeout
from wharf.brain.ha.link import AUTH_OLD
from wharf.wire.rpc import Call


def test_a_forwarded_request_names_its_user_and_the_users_it_was_authenticated_with() -> None:
    desk = Desk()
    desk.leader.reached = True
    desk.router.identify = lambda _: Caller("alice", 9)
    desk.ask(TXN, "w")
    assert desk.leader.callers == [Caller("alice", 9)]


def test_a_request_refused_for_old_users_is_authenticated_again_after_a_read_index() -> None:
    desk = Desk()
    desk.leader.reached = True
    known = [Caller("alice", 9)]
    desk.router.identify = lambda _: known[-1]
    desk.ask(TXN, "w")
    desk.leader.questions.pop()(AUTH_OLD, False)
    assert "w" not in desk.replies
    known.append(Caller("alice", 10))
    desk.leader.reads.pop()(True)
    assert desk.leader.callers == [Caller("alice", 9), Caller("alice", 10)]
    desk.leader.questions.pop()(Reply(0, "", b"done"), False)
    assert desk.replies["w"].response == b"done"


def test_a_request_of_a_follower_that_never_catches_up_ends_unanswered() -> None:
    """The client learns that it timed out, not that a permission is missing."""
    desk = Desk()
    desk.leader.reached = True
    desk.ask(TXN, "w")
    desk.leader.questions.pop()(AUTH_OLD, False)
    desk.leader.reads.pop()(False)
    for _ in range(8):
        desk.look(1.0)
        while desk.leader.questions:
            desk.leader.questions.pop()(AUTH_OLD, False)
        while desk.leader.reads:
            desk.leader.reads.pop()(False)
    assert desk.replies["w"].text == RequestTimeout.text


def test_a_token_unknown_here_is_looked_at_again_after_a_read_index() -> None:
    """The client may have got it on another node a moment ago."""
    desk = Desk()
    desk.leader.reached = True
    known: list[Caller] = []

    def identify(_: Call) -> Caller:
        if not known:
            raise InvalidAuthToken
        return known[0]

    desk.router.identify = identify
    desk.ask(TXN, "w")
    assert not desk.leader.questions
    known.append(Caller("alice", 9))
    desk.leader.reads.pop()(True)
    assert desk.leader.callers == [Caller("alice", 9)]
    known.clear()
    desk.ask(TXN, "x")
    desk.leader.reads.pop()(True)
    assert desk.replies["x"].text == InvalidAuthToken.text
