"""HTTP/1.1 requests with two readings, or none: each is refused with its status, and nothing behind it is read."""

from __future__ import annotations

from itertools import pairwise

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.wire.limits import Http1Limits

from .http1 import Served, pieces

SMALL = Http1Limits(head_max=400, line_max=100, fields_max=5, trailers_max=100, chunk_overhead_max=200, discard_max=50)
HOST = b"Host: a\r\n"


def request(*lines: bytes, first: bytes = b"POST /x HTTP/1.1", body: bytes = b"") -> bytes:
    return first + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def status_of(answer: bytes) -> int:
    """0: no answer, for who would not understand one."""
    return int(answer.removeprefix(b"HTTP/1.1 ")[:3]) if answer else 0


REFUSED: dict[str, tuple[int, bytes]] = {
    # where a body ends
    "length and coding": (400, request(b"Host: a", b"Content-Length: 4", b"Transfer-Encoding: chunked")),
    "coding and length": (400, request(b"Host: a", b"Transfer-Encoding: chunked", b"Content-Length: 4")),
    "two lengths": (400, request(b"Host: a", b"Content-Length: 4", b"Content-Length: 5")),
    "the same length twice": (400, request(b"Host: a", b"Content-Length: 4", b"Content-Length: 4")),
    "lengths in a list": (400, request(b"Host: a", b"Content-Length: 4, 4")),
    "negative length": (400, request(b"Host: a", b"Content-Length: -1")),
    "signed length": (400, request(b"Host: a", b"Content-Length: +4")),
    "hexadecimal length": (400, request(b"Host: a", b"Content-Length: 0x4")),
    "length with a space": (400, request(b"Host: a", b"Content-Length: 4 4")),
    "length with an underscore": (400, request(b"Host: a", b"Content-Length: 1_0")),
    "empty length": (400, request(b"Host: a", b"Content-Length:")),
    "length past all bounds": (400, request(b"Host: a", b"Content-Length: 9999999999999999999")),
    "length in disguise": (400, request(b"Host: a", b"Content_Length: 4")),
    "coding in disguise": (400, request(b"Host: a", b"Transfer_Encoding: chunked")),
    "chunked twice": (400, request(b"Host: a", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
    "chunked not last": (400, request(b"Host: a", b"Transfer-Encoding: chunked, gzip")),
    "unknown coding": (400, request(b"Host: a", b"Transfer-Encoding: xchunked")),
    "identity": (400, request(b"Host: a", b"Transfer-Encoding: identity")),
    "coding with a vertical tab": (400, request(b"Host: a", b"Transfer-Encoding: \x0bchunked")),
    "empty coding": (400, request(b"Host: a", b"Transfer-Encoding:")),
    "quoted coding": (400, request(b"Host: a", b'Transfer-Encoding: "chunked"')),
    "another coding below": (501, request(b"Host: a", b"Transfer-Encoding: gzip, chunked")),
    "coding in 1.0": (400, request(b"Host: a", b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0")),
    # lines
    "folded line": (400, request(b"Host: a", b"X: 1", b" 2")),
    "folded by a tab": (400, request(b"Host: a", b"X: 1", b"\t2")),
    "folded first line": (400, request(b" Host: a", b"Host: a")),
    "space before the colon": (400, request(b"Host: a", b"X : 1")),
    "space before a length's colon": (400, request(b"Host: a", b"Content-Length : 4")),
    "no colon": (400, request(b"Host: a", b"X")),
    "no name": (400, request(b"Host: a", b": 1")),
    "bare LF": (400, b"POST / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n"),
    "bare LF throughout": (400, b"POST / HTTP/1.1\nHost: a\n\n"),
    "bare LF at the end": (400, b"POST / HTTP/1.1\r\nHost: a\r\n\n"),
    "bare CR": (400, b"POST / HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n"),
    "CR CR LF": (400, b"POST / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    "NUL in a value": (400, request(b"Host: a", b"X: 1\x002")),
    "control in a value": (400, request(b"Host: a", b"X: 1\x082")),
    "DEL in a value": (400, request(b"Host: a", b"X: 1\x7f2")),
    "NUL in a name": (400, request(b"Host: a", b"X\x00: 1")),
    "bytes past ASCII in a name": (400, request(b"Host: a", b"X\xe9: 1")),
    "brackets in a name": (400, request(b"Host: a", b"X[1]: 1")),
    # hosts and targets
    "no host": (400, request(b"X: 1")),
    "two hosts": (400, request(b"Host: a", b"Host: b")),
    "the same host twice": (400, request(b"Host: a", b"Host: a")),
    "two hosts in 1.0": (400, request(b"Host: a", b"Host: b", first=b"GET / HTTP/1.0")),
    "host with a user": (400, request(b"Host: u@a")),
    "host with a path": (400, request(b"Host: a/b")),
    "host list": (400, request(b"Host: a b")),
    "absolute target of another host": (400, request(b"Host: a", first=b"GET http://b/ HTTP/1.1")),
    "absolute target of another port": (400, request(b"Host: a", first=b"GET http://a:80/ HTTP/1.1")),
    "absolute target with a user": (400, request(b"Host: a", first=b"GET http://u@a/ HTTP/1.1")),
    "absolute target of no host": (400, request(first=b"GET http:/// HTTP/1.0")),
    "another scheme": (400, request(b"Host: a", first=b"GET ftp://a/ HTTP/1.1")),
    "fragment": (400, request(b"Host: a", first=b"GET /#a HTTP/1.1")),
    "relative target": (400, request(b"Host: a", first=b"GET a HTTP/1.1")),
    "asterisk for GET": (400, request(b"Host: a", first=b"GET * HTTP/1.1")),
    "authority as target": (501, request(b"Host: a", first=b"CONNECT a:443 HTTP/1.1")),
    "space in the target": (400, request(b"Host: a", first=b"GET /a b HTTP/1.1")),
    "two spaces": (400, request(b"Host: a", first=b"GET  / HTTP/1.1")),
    "tab for a space": (400, request(b"Host: a", first=b"GET\t/ HTTP/1.1")),
    "space at the end": (400, request(b"Host: a", first=b"GET / HTTP/1.1 ")),
    "control in the target": (400, request(b"Host: a", first=b"GET /\x01 HTTP/1.1")),
    "unknown method": (501, request(b"Host: a", first=b"GETT / HTTP/1.1")),
    "method in lower case": (501, request(b"Host: a", first=b"get / HTTP/1.1")),
    # versions
    "HTTP/0.9": (505, b"GET /\r\n\r\n"),
    "HTTP/2.0": (505, request(b"Host: a", first=b"GET / HTTP/2.0")),
    "HTTP/1.2": (505, request(b"Host: a", first=b"GET / HTTP/1.2")),
    "version in lower case": (400, request(b"Host: a", first=b"GET / http/1.1")),
    "no version number": (505, request(b"Host: a", first=b"GET / HTTP/")),
    "HTTP/2's preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "another protocol": (0, request(b"Host: a", first=b"HELLO from SMTP")),
    "TLS": (0, bytes.fromhex("160301020001000100")),
    "zeros": (0, b"\x00\x00"),
    "digits": (0, b"12345\r\n\r\n"),
    # expectations
    "unknown expectation": (417, request(b"Host: a", b"Content-Length: 1", b"Expect: coffee")),
    # sizes
    "line too long": (414, b"GET /" + b"a" * 100 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "line without end": (414, b"GET /" + b"a" * 110),
    "head too large": (431, request(b"Host: a", b"X: " + b"a" * 400)),
    "head without end": (431, b"GET / HTTP/1.1\r\nX: " + b"a" * 400),
    "too many fields": (431, request(b"Host: a", *[b"X: 1"] * 5)),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_heads(name: str) -> None:
    status, data = REFUSED[name]
    served = Served(limits=SMALL)
    answer = served.feed(data + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status_of(answer) == status
    assert not answer or b"connection: close\r\n" in answer
    assert served.seen == []
    assert served.session.violation
    assert served.closes
    assert served.session.held == 0


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_heads_byte_by_byte(name: str) -> None:
    status, data = REFUSED[name]
    served = Served(limits=SMALL)
    answer = b"".join(served.feed(data[at : at + 1]) for at in range(len(data)))
    assert status_of(answer) == status
    assert served.seen == []
    assert served.closes


REFUSED_BODIES: dict[str, bytes] = {
    "no size": b"\r\n",
    "size with a sign": b"+5\r\nhello\r\n",
    "size with a prefix": b"0x5\r\nhello\r\n",
    "size with a space before": b" 5\r\nhello\r\n",
    "size with a space behind": b"5 \r\nhello\r\n",
    "size too large": b"fffffffffffffffff\r\nhello\r\n",
    "size with an underscore": b"1_0\r\n",
    "size ended by LF": b"5\nhello\r\n",
    "extension ended by LF": b"5;a\nhello\r\n",
    "extension with a bare CR": b"5;a\rb\r\nhello\r\n",
    "extension with NUL": b"5;a\x00\r\nhello\r\n",
    "extension too long": b"5;" + b"a" * 2000 + b"\r\n",
    "extensions by the chunk": b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n" * 20,
    "chunk longer than its size": b"5\r\nhello!\r\n",
    "chunk ended by LF": b"5\r\nhello\n0\r\n\r\n",
    "trailers too large": b"0\r\nX: " + b"a" * 200 + b"\r\n\r\n",
    "trailers without end": b"0\r\n" + b"X: a\r\n" * 30,
    "trailer folded": b"0\r\nX: a\r\n b\r\n\r\n",
    "trailer without a colon": b"0\r\nX\r\n\r\n",
    "trailer ended by LF": b"0\r\nX: a\nY: b\r\n\r\n",
    "trailers of the framing": b"0\r\nContent-Length: 5\r\n\r\n",
    "trailers of the coding": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailers of the host": b"0\r\nHost: b\r\n\r\n",
    "too many trailers": b"0\r\n" + b"X:\r\n" * 7 + b"\r\n",
}
CHUNKED = request(b"Host: a", b"Transfer-Encoding: chunked")


@pytest.mark.parametrize("name", sorted(REFUSED_BODIES))
def test_refused_bodies(name: str) -> None:
    for cut in (False, True):
        served = Served(limits=SMALL)
        served.feed(CHUNKED)
        body = REFUSED_BODIES[name]
        answer = b"".join(served.feed(piece) for piece in pieces(body, range(len(body)) if cut else ()))
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")), answer
        assert served.seen[0].cancelled == 1
        assert served.seen[0].trailers is None
        assert served.exchange.done
        assert served.closes


def test_refused_body_after_the_response_began_cuts_the_connection() -> None:
    served = Served()
    served.feed(CHUNKED)
    served.exchange.respond(200, [])
    assert served.turn() == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert served.feed(b"nonsense\r\n") == b""
    assert served.port.aborted
    assert served.seen[0].cancelled == 1


def test_nothing_is_read_after_a_refusal() -> None:
    served = Served()
    served.feed(b"nonsense\r\n\r\n")
    assert served.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000) == b""
    assert served.seen == []
    assert served.session.held == 0


class Oracle:
    """What llhttp alone reads in the same bytes."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = b""
        self.body_begun = False
        self.body = b""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.body_begun:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.body_begun = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


ACCEPTED = [
    request(b"Host: a", b"Accept: */*", b"X:", b"Y: \xc3\xa9", first=b"GET /a%20b?c=d HTTP/1.1"),
    request(b"Host: a", b"Content-Length: 5", body=b"hello"),
    request(b"Host: a", b"Transfer-Encoding: chunked", body=b"5;a=b\r\nhello\r\n0\r\nT: 1\r\n\r\n"),
    request(b"Connection: keep-alive", b"Content-Length: 2", first=b"PUT / HTTP/1.0", body=b"ab"),
    request(b"Host: a", b"Expect: 100-continue", b"Content-Length: 1", body=b"x"),
    request(b"Host: a", b"Connection: close, x", first=b"OPTIONS * HTTP/1.1"),
]
EDITS = st.lists(
    st.tuples(
        st.integers(0, 120),
        st.integers(0, 3),
        st.sampled_from(
            [b"", b" ", b"\r", b"\n", b"\r\n", b"\t", b":", b",", b";", b"\0", b"\xff", b"1", b"a", b"0\r\n"]
        ),
    ),
    max_size=3,
)


@given(st.sampled_from(ACCEPTED), EDITS)
@settings(max_examples=500)
def test_what_is_accepted_reads_the_same_in_llhttp(data: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    """Two readers agree: no head or body is read here in a way another strict reader does not."""
    for at, dropped, put in edits:
        data = data[:at] + put + data[at + dropped :]
    served = Served()
    served.feed(data)
    assert edits or served.seen
    if not served.seen or served.session.violation or not served.exchange.target.isascii():
        return
    oracle = Oracle()
    try:
        httptools.HttpRequestParser(oracle).feed_data(data[: len(data) - served.session.held])
    except httptools.HttpParserError as error:
        if "extension" in str(error):  # ours may have spaces in them; nothing depends on what they say
            return
        raise
    exchange = served.exchange
    assert oracle.headers == exchange.headers
    assert oracle.url == exchange.target
    assert oracle.body == served.seen[0].body
    assert oracle.complete == (not exchange.body_expected or served.seen[0].trailers is not None)


@given(st.lists(st.integers(0, 200), max_size=6), st.sampled_from(sorted(REFUSED)))
def test_refusals_do_not_depend_on_how_bytes_arrive(cuts: list[int], name: str) -> None:
    status, data = REFUSED[name]
    served = Served(limits=SMALL)
    answer = b"".join(served.feed(piece) for piece in pieces(data, cuts))
    assert status_of(answer) == status


def test_pieces_are_whole() -> None:
    data = bytes(range(50))
    assert b"".join(pieces(data, [3, 3, 70, 9])) == data
    assert all(a and b for a, b in pairwise(pieces(data, [3, 9])))
