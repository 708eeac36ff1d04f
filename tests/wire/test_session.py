"""The bare session in both roles, no gRPC: what one side says the other sees, whatever the cuts between reads."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.wire._nghttp2 import EventSession
from wharf.wire.events import Data, Event, Head, Reset, Trailers

REQUEST = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/a"), (b":authority", b"x"), (b"k", b"v")]
RESPONSE = [(b":status", b"200"), (b"server", b"test")]


def carry(source: EventSession, target: EventSession, size: int = 1 << 20) -> list[Event]:
    """Everything `source` has to say, in reads of `size` bytes; what `target` saw."""
    while True:
        data = source.pull(1 << 16)
        if data is None:
            return target.take_events()
        for at in range(0, len(data), size):
            target.receive(data[at : at + size])


@given(st.binary(max_size=100_000), st.binary(max_size=100_000), st.integers(1, 5000))
@settings(max_examples=40, deadline=None)
def test_request_and_response(upload: bytes, download: bytes, size: int) -> None:
    client, server = EventSession(False), EventSession(True)
    stream_id = client.request(REQUEST, upload)
    seen: list[Event] = []
    answered: list[Event] = []
    replied = False
    for _ in range(40):
        seen += carry(client, server, size)
        if not replied and Data(stream_id, b"", True) in seen:
            server.respond(stream_id, RESPONSE, download, trailers=[(b"t", b"1")])
            replied = True
        answered += carry(server, client, size)
    assert seen[0] == Head(stream_id, tuple(REQUEST))
    assert b"".join(event.data for event in seen if isinstance(event, Data)) == upload
    assert answered[0] == Head(stream_id, tuple(RESPONSE))
    assert b"".join(event.data for event in answered if isinstance(event, Data)) == download
    assert Trailers(stream_id, ((b"t", b"1"),)) in answered
    assert answered[-1] == Reset(stream_id, 0)
    assert client.streams == server.streams == {}


def test_the_client_reads_a_body_in_its_own_time() -> None:
    client, server = EventSession(False), EventSession(True)
    client.auto_take = False
    stream_id = client.request(REQUEST)
    carry(client, server)
    server.respond(stream_id, RESPONSE, bytes(1_000_000))
    received = 0
    for _ in range(3):
        events = carry(server, client)
        carry(client, server)
        received += sum(len(event.data) for event in events if isinstance(event, Data))
    assert received == 65535, "one window, until it is taken"
    client.take(stream_id)
    carry(client, server)
    assert server.streams[stream_id].queued == 1_000_000 - 65535
    assert carry(server, client)


def test_reset_and_goaway() -> None:
    client, server = EventSession(False), EventSession(True)
    stream_id = client.request(REQUEST, end=False)
    assert carry(client, server) == [Head(stream_id, tuple(REQUEST))]
    server.reset(stream_id, 7)
    assert carry(server, client)[-1] == Reset(stream_id, 7)
    server.refuse_streams(0, b"bye")
    carry(server, client)
    assert client.goaway_received
    carry(client, server)
    assert client.finished


def test_a_client_refuses_a_server_that_breaks_the_rules() -> None:
    client = EventSession(False)
    client.pull(1000)
    client.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(100))
    assert client.pull(1000) is not None, "its GOAWAY"
    assert client.finished
