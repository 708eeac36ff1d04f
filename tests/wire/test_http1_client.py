"""HTTP/1.1 as it is asked: requests, responses with one reading, kept connections, failures that say what is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.wire.limits import Http1Limits
from wharf.wire.web import Fault, Header

from .http1 import Asked, pieces

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


# --- requests
@pytest.mark.parametrize(
    ("method", "headers", "end", "out"),
    [
        (b"GET", [(b"accept", b"*/*")], True, b"GET /p?q HTTP/1.1\r\nhost: h:1\r\naccept: */*\r\n\r\n"),
        (b"POST", [], True, b"POST /p?q HTTP/1.1\r\nhost: h:1\r\ncontent-length: 0\r\n\r\n"),
        (b"POST", [], False, b"POST /p?q HTTP/1.1\r\nhost: h:1\r\ntransfer-encoding: chunked\r\n\r\n"),
        (
            b"PUT",
            [(b"host", b"other"), (b"content-length", b"5"), (b"x", b"1"), (b"x", b"2")],
            False,
            b"PUT /p?q HTTP/1.1\r\nhost: h:1\r\nx: 1\r\nx: 2\r\ncontent-length: 5\r\n\r\n",
        ),
        (
            b"GET",
            [(b"connection", b"x"), (b"upgrade", b"h2c"), (b"transfer-encoding", b"chunked"), (b"keep-alive", b"1")],
            True,
            b"GET /p?q HTTP/1.1\r\nhost: h:1\r\n\r\n",
        ),
    ],
)
def test_edge_17_request_heads(method: bytes, headers: list[Header], end: bool, out: bytes) -> None:
    asked = Asked()
    asked.session.request(method, b"/p?q", b"h:1", headers, end=end)
    assert asked.turn() == out
    assert asked.session.capacity == 0
    assert asked.session.open_requests == 1


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        (b"GET", b"/a b", []),
        (b"GET", b"/a\r\nX: y", []),
        (b"GET", b"", []),
        (b"G ET", b"/", []),
        (b"CONNECT", b"a:1", []),
        (b"GET", b"/", [(b"x", b"1\r\ny: 2")]),
        (b"GET", b"/", [(b"x", b"1\0")]),
        (b"GET", b"/", [(b"x y", b"1")]),
        (b"GET", b"/", [(b"content-length", b"3")]),
        (b"GET", b"/", [(b"content-length", b"x")]),
    ],
)
def test_requests_that_cannot_be_said_are_refused(method: bytes, target: bytes, headers: list[Header]) -> None:
    asked = Asked()
    with pytest.raises(ValueError, match=r"method|target|header|content-length|announces"):
        asked.session.request(method, target, b"h", headers)
    assert asked.turn() == b""
    assert asked.session.capacity == 1


def test_authority_that_splits_is_refused() -> None:
    asked = Asked()
    with pytest.raises(ValueError, match="CR, LF"):
        asked.session.request(b"GET", b"/", b"h\r\nx: y", [])


def test_edge_15_raw_target_passes_byte_for_byte() -> None:
    target = b"/a%2Fb//c;d/%20+/?a=&a=&b=%zz&c=\xc3\xa9"
    asked = Asked()
    asked.get(target)
    assert asked.turn().startswith(b"GET " + target + b" HTTP/1.1\r\n")


def test_edge_16_chunked_request_body_with_trailers() -> None:
    asked = Asked()
    got = asked.post()
    asked.turn()
    got.request.send(b"hello")
    got.request.send(b"")
    got.request.send(b"x" * 16)
    assert asked.turn() == b"5\r\nhello\r\n10\r\n" + b"x" * 16 + b"\r\n"
    got.request.finish([(b"x-t", b"1"), (b"host", b"evil")])
    assert asked.turn() == b"0\r\nx-t: 1\r\n\r\n"
    asked.feed(OK)
    assert got.trailers == []
    assert asked.session.capacity == 1


def test_edge_16_request_body_with_a_length() -> None:
    asked = Asked()
    got = asked.post([(b"content-length", b"5")])
    asked.turn()
    got.request.send(b"hel")
    got.request.send(b"lo")
    got.request.finish([(b"x", b"not sent")])
    assert asked.turn() == b"hello"
    assert got.request.bytes_out == 5


@pytest.mark.parametrize("sent", [b"hel", b"hello!"])
def test_request_body_that_breaks_its_length_fails(sent: bytes) -> None:
    asked = Asked()
    got = asked.post([(b"content-length", b"5")])
    asked.turn()
    got.request.send(sent)
    got.request.finish()
    asked.turn()
    assert [failure.fault for failure in got.failures] == [Fault.PROTOCOL]
    assert asked.port.aborted


# --- responses
def test_response_with_a_length() -> None:
    asked = Asked()
    got = asked.get()
    asked.turn()
    asked.feed(b"HTTP/1.1 200 OK\r\nX: 1\r\nx: 2\r\nContent-Length: 5\r\n\r\nhel")
    assert got.status == got.request.status == 200
    assert got.headers == [(b"x", b"1"), (b"x", b"2"), (b"content-length", b"5")]
    assert got.body == b"hel"
    assert got.trailers is None
    asked.feed(b"lo")
    assert got.body == b"hello"
    assert got.trailers == []
    assert got.request.done
    assert got.request.bytes_in == 5
    assert asked.session.capacity == 1


def test_connection_is_used_again() -> None:
    asked = Asked()
    for number in range(3):
        got = asked.get(b"/%d" % number)
        assert asked.turn() == b"GET /%d HTTP/1.1\r\nhost: api.example\r\n\r\n" % number
        asked.feed(OK)
        assert got.body == b"ok"
    assert not asked.closes


@given(st.lists(st.integers(0, 200), max_size=10))
def test_however_the_bytes_arrive(cuts: list[int]) -> None:
    asked = Asked()
    got = asked.get()
    asked.turn()
    stream = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n"
    stream += b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nX-T: 1\r\n\r\n"
    for piece in pieces(stream, cuts):
        asked.feed(piece)
    assert got.informs == [(103, [(b"link", b"</a>")])]
    assert (got.status, bytes(got.body), got.trailers) == (200, b"hello!", [(b"x-t", b"1")])
    assert asked.session.capacity == 1


@pytest.mark.parametrize(
    ("method", "head"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_edge_17_responses_without_a_body(method: bytes, head: bytes) -> None:
    asked = Asked()
    got = asked.get(method=method)
    asked.turn()
    asked.feed(head)
    assert got.trailers == []
    assert got.body == b""
    assert asked.session.capacity == 1


def test_response_up_to_the_end_of_the_connection() -> None:
    asked = Asked()
    got = asked.get()
    asked.turn()
    asked.feed(b"HTTP/1.0 200 OK\r\n\r\nhello")
    assert got.trailers is None
    asked.feed(b", world")
    asked.eof()
    assert got.body == b"hello, world"
    assert got.trailers == []
    assert asked.closes


def test_reset_is_no_end_of_a_body() -> None:
    asked = Asked()
    got = asked.get()
    asked.turn()
    asked.feed(b"HTTP/1.0 200 OK\r\n\r\nhello")
    asked.session.close(ConnectionResetError("reset"))
    assert [failure.fault for failure in got.failures] == [Fault.LOST]


@pytest.mark.parametrize(
    ("connection", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_whether_a_connection_is_kept(connection: bytes, kept: bool) -> None:
    asked = Asked()
    got = asked.get()
    asked.turn()
    asked.feed(connection)
    assert got.trailers == []
    assert asked.session.capacity == int(kept)
    assert asked.closes is not kept


# --- responses with two readings
REFUSED = {
    "length and coding": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "lengths in a list": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
    "malformed length": b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "coding in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "folded line": b"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare CR": b"HTTP/1.1 200 OK\r\nX: 1\rY: 2\r\n\r\n",
    "space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
    "chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5x\r\n",
    "chunk end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    "status": b"HTTP/1.1 20 OK\r\n\r\n",
    "status of a hundred and none": b"HTTP/1.1 099 OK\r\n\r\n",
    "version": b"HTTP/2.0 200 OK\r\n\r\n",
    "no HTTP": b"SSH-2.0-x\r\n\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\r\n\r\n",
    "101 without Upgrade": b"HTTP/1.1 101 Switching Protocols\r\nX-Upgrade: x\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "head too large": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 500,
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 9 + b"\r\n",
    "too many informs": b"HTTP/1.1 100 Continue\r\n\r\n" * 5,
}
SMALL = Http1Limits(head_max=400, line_max=100, fields_max=8, informs_max=4)


@pytest.mark.parametrize("name", sorted(REFUSED))
@pytest.mark.parametrize("byte_by_byte", [False, True])
def test_refused_responses(name: str, byte_by_byte: bool) -> None:
    asked = Asked(limits=SMALL)
    got = asked.get()
    asked.turn()
    data = REFUSED[name]
    for piece in pieces(data, range(len(data)) if byte_by_byte else ()):
        asked.feed(piece)
    assert [failure.fault for failure in got.failures] == [Fault.PROTOCOL]
    assert asked.session.violation
    assert asked.closes
    assert asked.session.capacity == 0


@pytest.mark.parametrize("behind", [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", b"x", b"\r\n"])
def test_bytes_behind_a_response_are_never_the_next_answer(behind: bytes) -> None:
    asked = Asked()
    got = asked.get()
    asked.turn()
    asked.feed(OK + behind)
    assert got.body == b"ok"
    assert got.trailers == []
    assert got.failures == []
    assert asked.session.capacity == 0
    assert asked.closes


def test_bytes_on_an_idle_connection_end_it() -> None:
    asked = Asked()
    asked.feed(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert asked.session.capacity == 0
    assert asked.closes


def test_an_answer_before_the_request_is_no_answer() -> None:
    asked = Asked()
    got = asked.get()
    asked.session.receive(OK)  # in the turn that made the request
    asked.session.pump()
    assert got.status == 0
    assert [failure.fault for failure in got.failures] == [Fault.PROTOCOL]
