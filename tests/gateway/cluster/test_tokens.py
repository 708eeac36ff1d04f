"""Only an answer that kube-apiserver gives after authentication makes a token an accepted one."""

from __future__ import annotations

import pytest
from wharf.gateway.cluster.tokens import KEPT_MAX, TokenBook


@pytest.mark.parametrize(
    ("method", "status"),
    [(b"GET", 200), (b"POST", 201), (b"DELETE", 202), (b"HEAD", 204), (b"GET", 101), (b"GET", 304), (b"PATCH", 200)],
)
def test_a_success_is_evidence(method: bytes, status: int) -> None:
    book = TokenBook()
    book.note(7, method, status)
    assert book.accepted(7)
    assert not book.accepted(8)


@pytest.mark.parametrize(
    ("method", "status"),
    [
        (b"OPTIONS", 200),  # net/http answers `OPTIONS *`, the CORS filter answers 204
        (b"OPTIONS", 204),
        (b"TRACE", 200),
        (b"GET", 301),
        (b"GET", 400),  # `?timeout=x` is refused before authentication
        (b"GET", 401),
        (b"GET", 403),
        (b"GET", 404),
        (b"GET", 429),  # while the server stops
        (b"GET", 500),
        (b"GET", 503),
        (b"GET", 504),
        (b"GET", 0),
    ],
)
def test_nothing_else_is_evidence(method: bytes, status: int) -> None:
    book = TokenBook()
    book.note(7, method, status)
    assert not book.accepted(7)


def test_401_ends_it_and_other_failures_do_not() -> None:
    book = TokenBook()
    book.note(7, b"GET", 200)
    for status in (0, 400, 403, 500, 504):
        book.note(7, b"GET", status)
    assert book.accepted(7)
    book.note(7, b"OPTIONS", 401)
    assert not book.accepted(7)


def test_the_oldest_goes_first() -> None:
    book = TokenBook()
    for token in range(1, KEPT_MAX + 2):
        book.note(token, b"GET", 200)
    assert len(book) == KEPT_MAX
    assert not book.accepted(1)
    assert book.accepted(2)
