"""Which tokens a cluster's servers have accepted lately, told by keyed hashes of them; the tokens are not kept.

Only the choice of a connection hangs on it: a request with a token that was never accepted must not share a connection
with others, because a server that refuses it closes the connection. Pure.
"""

from __future__ import annotations

from typing import Final

KEPT_MAX: Final = 65_536


class TokenBook:
    """A bounded set; the oldest goes first."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, None] = {}

    def accepted(self, token: int) -> bool:
        return token in self._known

    def note(self, token: int, status: int) -> None:
        """A server answered a request that carried this token."""
        if status == 401:
            self._known.pop(token, None)
        elif 0 < status < 500 and token not in self._known:
            if len(self._known) >= KEPT_MAX:
                del self._known[next(iter(self._known))]
            self._known[token] = None

    def __len__(self) -> int:
        return len(self._known)


def hash_token(authorization: bytes) -> int:
    """Never 0. Python's hash of bytes is SipHash under a key of this process."""
    return hash(authorization) or 1
