"""What flow control is asked and what it answers.

A `Ticket` is what a request holds while it runs. Invariant: whatever it holds is given back exactly once, however often
`release` is called; a request that holds nothing gets the one ticket `FREE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from wharf.gateway.bearer import token_digest
from wharf.gateway.user import SERVICE_ACCOUNT, User

UNREAD: Final = "\0token:"  # no user's name begins like this


class Cause(Enum):
    """Why a request was refused; the values are labels of a metric."""

    RATE = "rate"
    IN_FLIGHT = "in_flight"
    WATCHES = "watches"
    QUEUE = "queue"  # others wait already, and there is no room among them
    WAITED = "waited"  # its turn did not come in time


@dataclass(frozen=True, slots=True)
class Who:
    """What keyed limits tell requests apart by."""

    user: str = ""
    namespace: str = ""

    @property
    def service_account(self) -> str:
        """The user, if it is a service account; all others share the bucket of ""."""
        return self.user if self.user.startswith(SERVICE_ACCOUNT) else ""


NOBODY: Final = Who()


def user_key(user: User, token: str = "", secret: bytes = b"") -> str:
    """What limits per user and hash keys tell clients apart by: the user's name, or a keyed digest of its bearer token.

    `token`: the parsed token that passes through, of a user that only the upstream knows. All its spellings that a
    server reads as the same have one key, in every process with the same `secret`.
    """
    return user.name if user.known else UNREAD + token_digest(token, secret)


@dataclass(frozen=True, slots=True)
class Refused:
    """429."""

    schema: str
    retry_after: int  # seconds, at least 1
    cause: Cause


class Held(Protocol):
    """One thing a ticket gives back."""

    def give(self, now: float) -> None:
        """Let the next one have it."""


class Ticket:
    """Admission of one request."""

    __slots__ = ("_held",)

    def __init__(self, held: tuple[Held, ...]) -> None:
        self._held = held

    def release(self, now: float) -> None:
        """The request is over, in whatever way. Later calls do nothing."""
        held, self._held = self._held, ()
        for one in held:
            one.give(now)

    @classmethod
    def joined(cls, tickets: Sequence[Ticket]) -> Ticket:
        """One for what several hold."""
        held = tuple(one for ticket in tickets for one in ticket._held)
        return cls(held) if held else FREE


FREE: Final = Ticket(())  # nothing to give back
