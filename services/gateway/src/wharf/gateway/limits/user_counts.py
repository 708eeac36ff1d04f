"""Open requests by user, so that one user cannot hold what all of them share. Pure.

Invariant: a user has a counter exactly while it has open requests, so memory is bounded by the requests under way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wharf.gateway.user import User

POD_UID: Final = "authentication.kubernetes.io/pod-uid"  # set by kube-apiserver for tokens that are bound to a pod


@dataclass(slots=True, eq=False)
class OpenCount:
    """Open requests of one user or of one connection."""

    key: str = ""
    open: int = 0


class UserCounts:
    """The counters of one kind of requests."""

    __slots__ = ("_users",)

    def __init__(self) -> None:
        self._users: dict[str, OpenCount] = {}

    def take(self, key: str, most: int) -> OpenCount | None:
        """Count one more request of a user: its counter, for `give`; None when it has `most`. 0: unlimited."""
        user = self._users.get(key)
        if user is None:
            user = self._users[key] = OpenCount(key)
        elif 0 < most <= user.open:
            return None
        user.open += 1
        return user

    def give(self, user: OpenCount) -> None:
        """A request that was counted is over. Once for each `take`."""
        user.open -= 1
        if not user.open:
            del self._users[user.key]

    @property
    def users(self) -> int:
        """Users with open requests."""
        return len(self._users)

    @property
    def most(self) -> int:
        """Open requests of the user that has most."""
        return max((user.open for user in self._users.values()), default=0)


def counting_key(user: User, user_key: str) -> str:
    """What counts as one client: as for other limits per user (outcome.user_key), or more exactly.

    The pods of one service account are counted apart where a token review names the pod: a daemon with one account
    runs on each node of a cluster.
    """
    pod = user.extra.get(POD_UID)
    return f"{user_key}\0{pod[0]}" if pod else user_key
