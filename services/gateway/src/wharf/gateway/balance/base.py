"""The contract of balancing strategies, which are plugins: entry points of the group `wharf.gateway.strategies`.

A strategy is asked once per request, on the loop thread, and answers at once. It is told only about servers that may
take the request (healthy, of the policy's subset, of the preferred zone), with the weight that counts now (of a server
that came back a part). It may keep what it likes about them by name. Each policy has instances of its own, one for
short requests and one for long-running ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

ENTRY_POINTS: Final = "wharf.gateway.strategies"


@dataclass(slots=True, eq=False)
class Candidate:
    """A server as a strategy sees it. Strategies read, the upstream's bookkeeping writes."""

    name: str  # unique in a cluster, and the same over time and on every gateway
    weight: float = 1.0  # above 0
    in_flight: int = 0  # requests of the kind being balanced, of this process


class Strategy(Protocol):
    """Chooses a server. Made without arguments."""

    def pick(self, candidates: tuple[Candidate, ...], key: str) -> int:
        """The index of the server that takes this request; there is at least one.

        Requests of one `key` belong together; "" belongs to nothing. It is what the policy's `balance.hashKey` names; a
        bearer token that passes through is a hash. While only `in_flight` changes, the very same
        tuple comes again, so what is worked out about it may be kept.
        """
