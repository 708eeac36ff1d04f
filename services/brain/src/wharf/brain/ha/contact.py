"""What a node knows of its leader: how far the leader was, when it last proved that it leads, and whether this node
has caught up. Pure; times are of the boot clock and passed in.
"""

from __future__ import annotations

from wharf.brain.ha.readgate import NOWHERE, Point

LEADERLESS_LIFETIMES = 3.0  # of a lease, without a leader, until watches that insist on one end


class LeaderContact:
    def __init__(self, now: float) -> None:
        self._index = NOWHERE  # the newest that a leader has answered
        self._asked_at = self._index_at = self._fresh_at = self._heard_at = self._led_at = now

    def asked(self, now: float) -> None:
        """A read index has been asked for."""
        self._asked_at = now

    def answered(self, point: Point | None, now: float) -> None:
        """The newest question is answered; None: the peer cannot prove that it leads."""
        self._heard_at = now
        if point is not None:
            self._index, self._index_at, self._led_at = point, self._asked_at, now

    def shows(self, point: Point) -> None:
        """This node shows `point`."""
        if point.reaches(self._index):
            self._fresh_at = self._index_at

    def leads(self, now: float) -> None:
        """There is a proven leader: this node, or the peer of a session that has just opened."""
        self._led_at = now

    def idle(self, now: float) -> None:
        """No session is open, so no answer is missing."""
        self._heard_at = now

    def lag(self, now: float) -> float:
        """Seconds since this node last knew that it shows what the leader does."""
        return max(0.0, now - self._fresh_at)

    def silence(self, now: float) -> float:
        """Seconds since the last answer."""
        return now - self._heard_at

    def has_leader(self, now: float, lifetime: float) -> bool:
        """Whether a leader has proven itself within the last lease lifetime."""
        return now - self._led_at <= lifetime

    def is_leaderless(self, now: float, lifetime: float) -> bool:
        """Whether there has been no leader for so long that clients should look for another node."""
        return now - self._led_at > LEADERLESS_LIFETIMES * lifetime
