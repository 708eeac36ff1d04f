"""Plain endpoints beside gRPC: whole small requests, over the same HTTP/1.1 as proxies."""

from __future__ import annotations

import pytest
from wharf.wire.h1 import open_plain_session
from wharf.wire.http import HttpRequest, HttpResponse
from wharf.wire.limits import ConnectionLimits
from wharf.wire.rpc import Peer

from .http1 import FakePort, Loop, attach

POST = b"POST /p?q HTTP/1.1\r\nHost: a\r\n"


class Plain:
    """A plain connection without a network."""

    def __init__(self, status: int = 200, text: bytes = b"ok") -> None:
        self.requests: list[HttpRequest] = []
        self.port, self.loop = FakePort(), Loop()
        self._response = HttpResponse(status, text)
        self.session = open_plain_session(self._answer, ConnectionLimits(plain_body_max=10), Peer("@"))
        attach(self.session, self.port, self.loop)

    def _answer(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        if request.path == "/fail":
            raise LookupError("a secret")
        return self._response

    def feed(self, data: bytes) -> bytes:
        self.session.receive(data)
        self.session.pump()
        self.loop.run()
        return self.port.take()


def test_requests_come_whole() -> None:
    plain = Plain()
    assert plain.feed(POST + b"Content-Length: 5\r\n\r\nhel") == b""
    answer = plain.feed(b"loGET /x HTTP/1.0\r\n\r\n")
    first = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 2\r\n"
    assert answer == first + b"\r\nok" + first + b"connection: close\r\n\r\nok"
    assert plain.requests == [
        HttpRequest("POST", "/p?q", ((b"host", b"a"), (b"content-length", b"5")), b"hello", Peer("@")),
        HttpRequest("GET", "/x", (), b"", Peer("@")),
    ]
    assert plain.session.finished


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 11\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    ],
)
def test_large_bodies_are_refused(body: bytes) -> None:
    plain = Plain()
    answer = plain.feed(POST + body)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer
    assert plain.requests == []
    assert plain.session.terminating


def test_a_handler_that_fails_is_answered_for() -> None:
    plain = Plain()
    answer = plain.feed(b"GET /fail HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer


def test_responses_without_a_body() -> None:
    assert Plain(204, b"").feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 204 No Content\r\n")
    assert Plain(200, b"").feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").endswith(b"content-length: 0\r\n\r\n")
    assert Plain().feed(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").endswith(b"content-length: 2\r\n\r\n")


def test_who_waits_for_a_word_gets_it() -> None:
    plain = Plain()
    assert plain.feed(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert plain.feed(b"hi").startswith(b"HTTP/1.1 200 OK")
    assert plain.requests[0].body == b"hi"
