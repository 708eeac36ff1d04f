"""For how long something has been the same. Pure."""

from __future__ import annotations


class Unchanged:
    """Asked now and then, with what there is at that moment."""

    def __init__(self) -> None:
        self._what: object = None
        self._since = 0.0

    def seconds(self, what: object, now: float) -> float:
        """Since when, at most, `what` has been there; 0 for None."""
        if what is None or what != self._what:
            self._what, self._since = what, now
        return now - self._since
