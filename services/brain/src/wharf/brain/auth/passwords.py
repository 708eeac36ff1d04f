"""Passwords: kept as scrypt hashes, computed beside the loop.

A hash costs tens of megabyte-milliseconds on purpose, so a few worker threads make them, at most so many at a time,
and callers beyond a bound are refused. Whether a user exists cannot be told from how long a refusal takes.

Invariant: a password is in no log and no exception text.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from wharf.brain.errors import TooManyRequests

T = TypeVar("T")

_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_MEMORY_MAX: Final = 256 * 1024 * 1024  # bytes a stored cost may ask for
_SCHEME: Final = "scrypt"
UNUSABLE: Final = ""
"""A hash that no password has."""


@dataclass(frozen=True, slots=True)
class Cost:
    """scrypt's parameters: 2**log_n blocks of 128 * r bytes, p times over.

    16 MiB and about the time of bcrypt at etcd's cost: etcdctl shows its password with every command, and gives up
    after two seconds.
    """

    log_n: int = 14
    r: int = 8
    p: int = 1


def hash_password(password: str, salt: bytes, cost: Cost) -> str:
    """What to store for `password`."""
    digest = _scrypt(password, salt, cost)
    return f"{_SCHEME}:{cost.log_n}:{cost.r}:{cost.p}:{salt.hex()}:{digest.hex()}"


def matches(stored: str, password: str) -> bool:
    """Whether `stored` was made from `password`; ValueError when it is no hash of ours."""
    if stored == UNUSABLE:
        return False
    scheme, log_n, r, p, salt, digest = stored.split(":")
    if scheme != _SCHEME:
        raise ValueError(f"a password is hashed with {scheme!r}, which is not known here")
    made = _scrypt(password, bytes.fromhex(salt), Cost(int(log_n), int(r), int(p)))
    return hmac.compare_digest(made, bytes.fromhex(digest))


def _scrypt(password: str, salt: bytes, cost: Cost) -> bytes:
    return hashlib.scrypt(
        password.encode(),
        salt=salt,
        n=1 << cost.log_n,
        r=cost.r,
        p=cost.p,
        maxmem=_MEMORY_MAX,
        dklen=_HASH_BYTES,
    )


class Hasher:
    """Hashing beside the loop. Close it when done."""

    def __init__(self, cost: Cost | None = None, threads: int = 2, waiting: int = 64) -> None:
        """`threads`: how many hashes at a time; `waiting`: how many more may be asked for."""
        self._cost = cost or Cost()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._most = threads + waiting
        self._asked = 0
        self._stranger = f"{_SCHEME}:{self._cost.log_n}:{self._cost.r}:{self._cost.p}:00:00"

    async def hash(self, password: str) -> str:
        """What to store for `password`; TooManyRequests when too many wait."""
        return await self._run(lambda: hash_password(password, secrets.token_bytes(_SALT_BYTES), self._cost))

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether `stored` was made from `password`; None, for a user who is not there, costs the same and is false.

        TooManyRequests when too many wait.
        """
        return await self._run(lambda: matches(stored or self._stranger, password))

    def close(self) -> None:
        """Start no more; those under way end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._asked >= self._most:
            raise TooManyRequests
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._asked -= 1
