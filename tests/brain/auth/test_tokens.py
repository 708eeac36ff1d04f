"""Tokens hold the claims they were issued with, for whoever has the key."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.auth.tokens import ID_BYTES, Claims, issue, read

KEY, OTHER = b"k" * 32, b"o" * 32
CLAIMS = Claims("somebody", 7, 1_000.5)
TOKEN = issue(KEY, CLAIMS).encode()

names = st.text(min_size=1)


@given(names, st.integers(0, 2**62), st.integers(1, 2**40))
def test_a_token_is_read_back(name: str, revision: int, milliseconds: int) -> None:
    claims = Claims(name, revision, milliseconds / 1000)
    token = issue(KEY, claims).encode()
    assert token.isascii()
    found = read(KEY, token)
    assert found is not None
    assert (found[0], len(found[1])) == (claims, ID_BYTES)
    assert read(OTHER, token) is None


def test_an_id_names_one_token_and_is_no_part_of_it() -> None:
    found, other = read(KEY, TOKEN), read(KEY, issue(KEY, Claims("somebody", 7, 1_000.6)).encode())
    assert found is not None
    assert other is not None
    assert found[1] != other[1]
    assert found[1] not in urlsafe_b64decode(TOKEN)


@given(st.integers(0, len(urlsafe_b64decode(TOKEN)) - 1), st.integers(1, 255))
def test_no_byte_of_it_may_change(at: int, flip: int) -> None:
    raw = bytearray(urlsafe_b64decode(TOKEN))
    raw[at] ^= flip
    assert read(KEY, urlsafe_b64encode(raw)) is None


@given(st.binary(max_size=200))
def test_anything_else_is_no_token(garbage: bytes) -> None:
    assert read(KEY, garbage) is None
    assert read(KEY, urlsafe_b64encode(garbage)) is None


def test_without_a_key_nothing_is_a_token() -> None:
    assert read(b"", issue(b"", CLAIMS).encode()) is None


def test_what_is_absurdly_long_is_not_looked_at() -> None:
    assert read(KEY, issue(KEY, Claims("n" * 100_000, 1, 10.0)).encode()) is None
