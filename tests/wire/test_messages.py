"""Which requests are well-formed HTTP messages: the malformed are reset, one stream each; the connection goes on."""

from __future__ import annotations

import pytest
from wharf.wire import grpc
from wharf.wire.rpc import Code
from wire.pair import UNARY, Answer, Pair

PROTOCOL_ERROR = 1
GOOD = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", UNARY.encode()),
    (b":authority", b"test"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
)
BODY = grpc.frame(b"hi")


def send(pair: Pair, headers: list[tuple[bytes, bytes]], body: bytes = BODY) -> Answer:
    stream_id = pair.client.request(headers, body)
    pair.exchange()
    return pair.answer(stream_id)


def without(name: bytes) -> list[tuple[bytes, bytes]]:
    return [pair for pair in GOOD if pair[0] != name]


@pytest.mark.parametrize(
    "authority", [b"127.0.0.1:2379", b"http://127.0.0.1:2379", b"unix:/run/brain.sock", b"[::1]:1"]
)
def test_any_authority_a_go_server_takes_is_taken(authority: bytes) -> None:
    answer = send(Pair(), [*without(b":authority")[:3], (b":authority", authority), *GOOD[4:]])
    assert (answer.code, answer.messages) == (Code.OK, [b"hi"])


@pytest.mark.parametrize(
    "headers",
    [
        without(b":method"),
        without(b":scheme"),
        without(b":path"),
        without(b":authority"),
        [*GOOD[:2], (b":path", b""), *GOOD[3:]],
        [*GOOD[:2], (b":path", b"no-slash"), *GOOD[3:]],
        [*GOOD[:3], (b":path", b"/twice"), *GOOD[3:]],
        [*GOOD[:4], (b":unknown", b"1"), *GOOD[4:]],
        [*GOOD[:4], (b":status", b"200"), *GOOD[4:]],
        [*GOOD[:3], *GOOD[4:], (b":authority", b"late")],
        [*GOOD[:3], (b":authority", b"with\nnewline"), *GOOD[4:]],
        [*GOOD, (b"connection", b"keep-alive")],
        [*GOOD, (b"keep-alive", b"1")],
        [*GOOD, (b"proxy-connection", b"1")],
        [*GOOD, (b"transfer-encoding", b"chunked")],
        [*GOOD, (b"upgrade", b"h2c")],
        [*without(b"te"), (b"te", b"gzip")],
        [*GOOD, (b"content-length", b"x")],
        [*GOOD, (b"content-length", b"7"), (b"content-length", b"7")],
        [*GOOD, (b"content-length", b"6")],
        [*GOOD, (b"content-length", b"8")],
    ],
    ids=lambda headers: str(sorted(set(headers) ^ set(GOOD)))[:60],
)
def test_a_malformed_request_is_reset_and_harms_nobody(headers: list[tuple[bytes, bytes]]) -> None:
    pair = Pair()
    answer = send(pair, headers)
    assert answer.error_code == PROTOCOL_ERROR
    assert not answer.headers
    assert send(pair, list(GOOD)).messages == [b"hi"]
    assert pair.server.streams == {}
    assert pair.server.violation is None


def test_content_length_that_fits_is_taken() -> None:
    assert send(Pair(), [*GOOD, (b"content-length", b"%d" % len(BODY))]).messages == [b"hi"]
