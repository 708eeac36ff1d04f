"""What is known of a client's connection, so that its next request need not find it out again.

A client sends one request after the other with the same Host and the same credential. What was made of them last is
used again while nothing it rests on has changed: the bytes of both headers, the version of the cluster, and the time,
because certificates and reviews expire.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wharf.gateway.authn import Lane
from wharf.gateway.limits.user_counts import OpenCount
from wharf.gateway.serve.headers import ClientAddress
from wharf.gateway.user import User
from wharf.wire.web import Header

if TYPE_CHECKING:
    from wharf.gateway.api.shapes import IdentityMode
    from wharf.gateway.cluster.runtime import ClusterRuntime
    from wharf.gateway.config import Network
    from wharf.wire._http import HeaderFilter
    from wharf.wire.web import Exchange

VALID_SECONDS: Final = 1.0  # as long as this an identity is not looked at again
IMPERSONATE: Final = b"impersonate"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Who sends, and how that goes upstream."""

    user: User
    lane: Lane
    request_filter: HeaderFilter
    extra: tuple[Header, ...]
    token: int
    user_key: str  # limits.outcome.user_key
    impersonated: str | None
    told: IdentityMode  # the way in which `extra` tells the upstream who asks


class ClientContext:
    """One per connection, in its `context`."""

    __slots__ = ("_authorization", "_cluster", "_generation", "_prepared", "_until", "address", "long_running")

    def __init__(self, peer: str, proxies: tuple[Network, ...]) -> None:
        self.address = ClientAddress(peer, proxies)
        self.long_running = OpenCount()  # of this connection
        self._authorization: bytes | None = None
        self._cluster: ClusterRuntime | None = None
        self._generation = 0
        self._prepared: Prepared | None = None
        self._until = 0.0

    def recall(self, exchange: Exchange, cluster: ClusterRuntime, now: float) -> Prepared | None:
        """What the last request of the kind was made into; None: find it out, and `remember` it."""
        if (
            now >= self._until
            or cluster is not self._cluster
            or cluster.generation != self._generation
            or exchange.header(b"authorization") != self._authorization
            or exchange.wants_upgrade
            or exchange.has_prefix(IMPERSONATE)
        ):
            return None
        return self._prepared

    def remember(self, exchange: Exchange, cluster: ClusterRuntime, prepared: Prepared, now: float) -> None:
        """Only what `recall` can judge: no upgrade, nobody impersonated, no address that a proxy tells."""
        if exchange.wants_upgrade or prepared.impersonated is not None or self.address.varies:
            return
        if exchange.has_prefix(IMPERSONATE):
            return
        self._cluster, self._generation = cluster, cluster.generation
        self._authorization = exchange.header(b"authorization")
        self._prepared, self._until = prepared, now + VALID_SECONDS
