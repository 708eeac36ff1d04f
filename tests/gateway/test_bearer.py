"""Bearer tokens as kube-apiserver parses them, and the one text for all spellings that it accepts as the same."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.bearer import bearer_token, canonical_token, hash_token, split_subprotocols


def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


HEADER, CLAIMS, SIGNATURE = part(b'{"alg":"RS256"}'), part(b'{"iss":"a","sub":"b"}'), part(bytes(range(256)))
JWT = f"{HEADER}.{CLAIMS}.{SIGNATURE}"


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer token",
        b"bearer token",
        b"bEaReR token",
        b"  Bearer token \t",
        b"Bearer token text behind it",
        b"Bearer token ",
        b"Bearer token\xc2\xa0",
        b"\xe3\x80\x80Bearer token\xe2\x80\xa8",
    ],
)
def test_every_spelling_of_the_header_gives_the_same_token(value: bytes) -> None:
    assert bearer_token(value) == "token"


@pytest.mark.parametrize(
    "value", [b"Bearer Token", b"Bearer token\tx", b"Bearer token\xa0", b"Bearer token=", b"Bearer x"]
)
def test_another_token_is_another_token(value: bytes) -> None:
    assert bearer_token(value) not in (None, "token")


def test_a_subprotocol_gives_the_same_token_whatever_white_space_is_around_it() -> None:
    word = b"base64url.bearer.authorization.k8s.io." + part(b"token").encode()
    for value in (b"v5.channel.k8s.io," + word, word + b"\t ,a", b"a,\xc2\xa0" + word + b"\xe2\x80\x83"):
        assert split_subprotocols([value]).token == "token"


@pytest.mark.parametrize(
    "spelling",
    [
        f"{HEADER[:4]}\t{HEADER[4:]}.{CLAIMS}.{SIGNATURE}",
        f"{HEADER}.{CLAIMS}.{SIGNATURE}\u00a0\u2003",
        f"{HEADER}.{CLAIMS}.{SIGNATURE}\r\n\n",
        f"{HEADER}.{CLAIMS}.{SIGNATURE}==",
        f"{HEADER}.{CLAIMS}.{SIGNATURE[:-1]}{chr(ord(SIGNATURE[-1]) + 1)}",
    ],
)
def test_spellings_of_one_jwt_have_one_text(spelling: str) -> None:
    assert spelling != JWT
    assert canonical_token(spelling) == canonical_token(JWT)


@pytest.mark.parametrize(
    "other",
    [
        f"{HEADER}.{CLAIMS}.{part(bytes(256))}",
        f"{HEADER}.{part(b'{}')}.{SIGNATURE}",
        f"{part(b'{}')}.{CLAIMS}.{SIGNATURE}",
        f"{HEADER}.{CLAIMS}",
        f"{HEADER}.{CLAIMS}.{SIGNATURE}.",
        f"{HEADER}.{CLAIMS}.!",
    ],
)
def test_other_tokens_have_another_text(other: str) -> None:
    assert canonical_token(other) != canonical_token(JWT)


def test_tokens_in_json_share_one_text_whatever_else_they_hold() -> None:
    """go-jose reads JWS JSON too, and ignores fields that it does not know."""
    fields = {"protected": HEADER, "payload": CLAIMS, "signature": SIGNATURE}
    texts = {canonical_token(space + json.dumps(fields | {"x": at})) for at in range(3) for space in ("", "\u2003")}
    assert len(texts) == 1


@given(st.text())
def test_any_text_has_a_canonical_text_that_is_its_own(token: str) -> None:
    assert canonical_token(token) == canonical_token(token)
    assert hash_token(token) != 0
    if "." not in token and not token.lstrip().startswith("{"):
        assert canonical_token(token) == token
