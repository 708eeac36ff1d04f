"""Only an answer that kube-apiserver gives after authentication makes a token an accepted one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from wharf.gateway.api.shapes import Material, Serving, Upstream, UpstreamCluster
from wharf.gateway.cluster.tokens import KEPT_MAX, TokenBook, token_secret
from wharf.gateway.limits.outcome import user_key
from wharf.gateway.user import UNKNOWN


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


KEY = Material(b"a key")


@pytest.mark.parametrize(
    "parts",
    [
        {"upstream": Upstream(certificate=Material(b"one"), key=KEY)},
        {"upstream": Upstream(token=KEY)},
        {"serving": Serving(Material(b"one"), KEY)},
    ],
)
def test_every_process_that_serves_a_cluster_has_one_key_for_a_token(parts: dict[str, Any]) -> None:
    """Limits that are shared and consistent hashes would tell one client from itself otherwise."""
    code = (
        "import sys; from wharf.gateway.limits.outcome import user_key; from wharf.gateway.user import UNKNOWN;"
        "sys.stdout.write(user_key(UNKNOWN, 'token', bytes.fromhex(sys.argv[1])))"
    )
    secret = token_secret(UpstreamCluster("a", **parts), b"one instance")
    assert secret == token_secret(UpstreamCluster("b", **parts), b"another instance")
    other = subprocess.run([sys.executable, "-c", code, secret.hex()], capture_output=True, check=True, text=True)
    assert other.stdout == user_key(UNKNOWN, "token", secret)
    assert other.stdout != user_key(UNKNOWN, "token", token_secret(UpstreamCluster("a"), b"one instance"))
    assert b"a key" not in secret


def test_without_a_secret_of_its_own_the_instances_is_taken() -> None:
    assert token_secret(UpstreamCluster("a"), b"one instance") == b"one instance"


def test_a_new_upstream_key_or_token_changes_no_digest_while_the_serving_key_stays() -> None:
    def secret(serving: bytes, key: bytes, token: bytes) -> bytes:
        pair = Serving(Material(b"certificate"), Material(serving))
        upstream = Upstream(certificate=Material(b"certificate"), key=Material(key), token=Material(token))
        return token_secret(UpstreamCluster("a", serving=pair, upstream=upstream), b"")

    before = secret(b"1", b"1", b"1")
    assert secret(b"1", b"2", b"2") == before
    assert secret(b"2", b"1", b"1") != before
    assert secret(b"", b"1", b"1") == secret(b"", b"1", b"2") != secret(b"", b"2", b"1")
