"""Bounds of long-running requests (watches, exec, log, port-forward, proxy) of one client in one cluster. Pure.

A long-running request holds a stream to a server for as long as its client likes. Without a bound one client with the
right to watch could hold all of them. Counted are open requests by user and by client connection.
"""

from __future__ import annotations

from enum import Enum

from wharf.gateway.api.shapes import LongRunning
from wharf.gateway.limits.user_counts import OpenCount, UserCounts


class Bound(Enum):
    """The bound that was reached; the values are labels of a metric."""

    USER = "user"
    CONNECTION = "connection"


class LongRunningCounts:
    """The counters of one cluster in one process."""

    __slots__ = ("by_user", "refused")

    def __init__(self) -> None:
        self.by_user = UserCounts()
        self.refused = dict.fromkeys(Bound, 0)

    def take(self, key: str, connection: OpenCount, limits: LongRunning) -> OpenCount | Bound:
        """Count one more request of a user on a connection: the user's counter, for `give`; or the bound reached."""
        if 0 < limits.per_connection_max <= connection.open:
            return self._refuse(Bound.CONNECTION)
        user = self.by_user.take(key, limits.per_user_max)
        if user is None:
            return self._refuse(Bound.USER)
        connection.open += 1
        return user

    def give(self, user: OpenCount, connection: OpenCount) -> None:
        """A request that was counted is over. Once for each `take`."""
        connection.open -= 1
        self.by_user.give(user)

    def _refuse(self, bound: Bound) -> Bound:
        self.refused[bound] += 1
        return bound
