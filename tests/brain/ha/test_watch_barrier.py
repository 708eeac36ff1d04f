"""A follower creates watches after a read index, without changing the order of a stream's messages."""

from __future__ import annotations

from brain.ha.test_router import WATCH, Desk, Stream
from wharf.brain.api.pb import rpc
from wharf.brain.ha.watch_barrier import MAX_HELD


def create(key: bytes) -> bytes:
    return rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=key)).SerializeToString()


PROGRESS = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()).SerializeToString()


def test_a_follower_creates_a_watch_after_a_read_index_and_keeps_the_order_of_messages() -> None:
    desk = Desk()
    desk.leader.reached = True
    stream = Stream(desk, WATCH)
    for message in (PROGRESS, create(b"a"), PROGRESS, create(b"b")):
        stream.say(message)
    assert stream.heard == [PROGRESS]
    desk.leader.reads.pop(0)(True)
    assert stream.heard == [PROGRESS, create(b"a")], "what arrived after the read index began needs another one"
    desk.leader.reads.pop(0)(True)
    assert stream.heard == [PROGRESS, create(b"a"), PROGRESS, create(b"b")]
    stream.say(PROGRESS)
    assert stream.heard[-1] == PROGRESS
    assert not desk.leader.reads


def test_a_create_request_hidden_behind_another_field_waits_too() -> None:
    desk = Desk()
    desk.leader.reached = True
    stream = Stream(desk, WATCH)
    stream.say(PROGRESS + create(b"a"))  # of a oneof the last field counts
    assert stream.heard == []


def test_a_leader_creates_a_watch_at_once() -> None:
    desk = Desk()
    desk.leader.leading = True
    stream = Stream(desk, WATCH)
    stream.say(create(b"a"))
    assert stream.heard == [create(b"a")]


def test_a_watch_stream_is_not_read_while_many_of_its_messages_wait() -> None:
    desk = Desk()
    desk.leader.reached = True
    stream = Stream(desk, WATCH)
    for _ in range(MAX_HELD):
        stream.say(create(b"a"))
    assert not stream.reading
    while desk.leader.reads:
        desk.leader.reads.pop(0)(True)
    assert len(stream.heard) == MAX_HELD
    assert stream.reading


def test_a_watch_that_no_leader_confirms_ends_after_the_patience_of_a_call() -> None:
    desk = Desk()
    stream = Stream(desk, WATCH)
    stream.say(create(b"a"))
    desk.look(5.1)
    assert stream.call.done
    assert stream.heard == []
