"""What may be tried again on another server, and how often. Pure.

| the request was                        | any method | get, list, watch, head |
|----------------------------------------|------------|------------------------|
| not sent, or refused unprocessed       | yes        | yes                    |
| reset or lost before the response head | no         | yes                    |
| broken off after the head, timed out   | no         | no                     |

Streams into pods and proxied requests are not among the gets: behind the same verb somebody may run a command. The
budget keeps retries a share of the traffic, so that a broken upstream is not made worse by everybody trying twice.
"""

from __future__ import annotations

from typing import Final

from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.route.kinds import STREAMS
from wharf.wire.web import Fault

UNPROCESSED: Final = frozenset((Fault.UNSENT, Fault.FULL, Fault.REFUSED))
CUT: Final = frozenset((Fault.RESET, Fault.LOST))
READS: Final = frozenset(("get", "list", "watch", "head"))
FLOOR: Final = 1.0  # retries a second that are always granted, however little traffic there is
SAVED_MAX: Final = 100.0  # retries at once after a quiet time


def may_retry(fault: Fault, info: RequestInfo, *, head_sent: bool, replayable: bool, attempts_left: int) -> bool:
    """Whether to send the request to another server.

    `head_sent`: the client has part of an answer. `replayable`: the whole body, if any, is still at hand.
    """
    if head_sent or not replayable or attempts_left <= 0:
        return False
    if fault in UNPROCESSED:
        return True
    return fault in CUT and info.verb in READS and info.subresource not in STREAMS


class Budget:
    """Retries earned by requests: `share` of one each, and FLOOR a second. A share of 0 allows none."""

    def __init__(self, share: float, now: float) -> None:
        self.share = share
        self._tokens = 10.0 * FLOOR
        self._at = now

    def request(self) -> None:
        """One more request that is no retry."""
        if self._tokens < SAVED_MAX:
            self._tokens += self.share

    def take(self, now: float) -> bool:
        """Use one retry up if there is one."""
        if self.share <= 0:
            return False
        self._tokens = min(SAVED_MAX, self._tokens + max(0.0, now - self._at) * FLOOR)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
