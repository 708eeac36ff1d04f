"""Passwords: hashed beside the loop, a bounded number at a time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.auth.passwords import UNUSABLE, Cost, Hasher, hash_password, matches
from wharf.brain.errors import TooManyRequests

CHEAP = Cost(log_n=2, r=1, p=1)
passwords = st.text(max_size=100)


@given(passwords, passwords, st.binary(min_size=1, max_size=16))
def test_a_hash_matches_its_password_only(password: str, other: str, salt: bytes) -> None:
    stored = hash_password(password, salt, CHEAP)
    assert password not in stored or len(password) < 3
    assert matches(stored, password)
    assert matches(stored, other) is (password == other)


def test_a_stored_hash_says_what_it_cost() -> None:
    """So the cost may be raised later without voiding what is stored."""
    stored = hash_password("p", b"salt", Cost(log_n=3, r=2, p=2))
    assert stored.startswith("scrypt:3:2:2:")
    assert matches(stored, "p")
    with pytest.raises(ValueError, match="md5"):
        matches(stored.replace("scrypt", "md5"), "p")


def test_what_is_unusable_has_no_password() -> None:
    assert not matches(UNUSABLE, "")


def test_the_hasher() -> None:
    async def scenario() -> None:
        hasher = Hasher(CHEAP)
        stored = await hasher.hash("secret")
        assert await hasher.hash("secret") != stored  # a salt of its own
        assert await hasher.matches(stored, "secret")
        assert not await hasher.matches(stored, "Secret")
        assert not await hasher.matches(None, "secret")
        assert not await hasher.matches(UNUSABLE, "")
        hasher.close()

    asyncio.run(scenario())


def test_too_many_are_refused() -> None:
    async def scenario() -> None:
        hasher = Hasher(CHEAP, threads=1, waiting=1)
        first, second = (asyncio.ensure_future(hasher.hash("p")) for _ in range(2))
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests):
            await hasher.hash("p")
        await asyncio.gather(first, second)
        await hasher.hash("p")
        hasher.close()

    asyncio.run(scenario())
