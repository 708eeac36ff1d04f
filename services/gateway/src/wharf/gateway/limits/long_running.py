"""Bounds of long-running requests (watches, exec, log, port-forward, proxy) of one client in one cluster. Pure.

A long-running request holds a stream to a server for as long as its client likes. Without a bound one client with the
right to watch could hold all of them. Counted are open requests by user and by client connection.

Invariant: a user has a counter exactly while it has open requests, so memory is bounded by the requests under way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from wharf.gateway.api.shapes import LongRunning
from wharf.gateway.user import User

POD_UID: Final = "authentication.kubernetes.io/pod-uid"  # set by kube-apiserver for tokens that are bound to a pod


class Bound(Enum):
    """The bound that was reached; the values are labels of a metric."""

    USER = "user"
    CONNECTION = "connection"


@dataclass(slots=True, eq=False)
class OpenCount:
    """Open long-running requests of one user or of one connection."""

    key: str = ""
    open: int = 0


class LongRunningCounts:
    """The counters of one cluster in one process."""

    __slots__ = ("_users", "refused")

    def __init__(self) -> None:
        self._users: dict[str, OpenCount] = {}
        self.refused = dict.fromkeys(Bound, 0)

    def take(self, key: str, connection: OpenCount, limits: LongRunning) -> OpenCount | Bound:
        """Count one more request of a user on a connection: the user's counter, for `give`; or the bound reached."""
        if 0 < limits.per_connection_max <= connection.open:
            return self._refuse(Bound.CONNECTION)
        user = self._users.get(key)
        if user is None:
            user = self._users[key] = OpenCount(key)
        elif 0 < limits.per_user_max <= user.open:
            return self._refuse(Bound.USER)
        user.open += 1
        connection.open += 1
        return user

    def give(self, user: OpenCount, connection: OpenCount) -> None:
        """A request that was counted is over. Once for each `take`."""
        connection.open -= 1
        user.open -= 1
        if not user.open:
            del self._users[user.key]

    @property
    def users(self) -> int:
        """Users with open long-running requests."""
        return len(self._users)

    @property
    def most(self) -> int:
        """Open long-running requests of the user that has most."""
        return max((user.open for user in self._users.values()), default=0)

    def _refuse(self, bound: Bound) -> Bound:
        self.refused[bound] += 1
        return bound


def long_running_key(user: User, user_key: str) -> str:
    """What counts as one client: as for other limits per user (outcome.user_key), or more exactly.

    The pods of one service account are counted apart where a token review names the pod: a daemon with one account
    runs on each node of a cluster.
    """
    pod = user.extra.get(POD_UID)
    return f"{user_key}\0{pod[0]}" if pod else user_key
