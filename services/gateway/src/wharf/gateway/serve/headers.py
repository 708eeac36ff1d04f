"""Which headers go through, and what the gateway adds of its own about the client.

Invariant: whatever a filter here lets through cannot be an identity header; what is added comes after the filter.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from wharf.gateway.answers import HEADER
from wharf.gateway.cluster.pools import SERVER_HEADER, Pools
from wharf.gateway.config import Network
from wharf.gateway.identity import AUTHORIZATION, STRIPPED_NAMES, STRIPPED_PREFIXES
from wharf.wire._http import HeaderFilter
from wharf.wire.relay import REQUEST_ONLY_HERE
from wharf.wire.web import Exchange, Header

if TYPE_CHECKING:
    from wharf.gateway.cluster.runtime import ClusterRuntime
    from wharf.gateway.upstreams.endpoint import Endpoint

FORWARDED_FOR: Final = b"x-forwarded-for"
WEBSOCKET_PROTOCOL: Final = b"sec-websocket-protocol"
TRACEPARENT: Final = b"traceparent"
_CONNECTION: Final = b"connection"

_ALWAYS: Final = (*STRIPPED_NAMES, *REQUEST_ONLY_HERE, FORWARDED_FOR, b"forwarded", b"x-real-ip", HEADER)


def _request_filter(authorization: bool, traceparent: bool, protocols: bool) -> HeaderFilter:
    names = list(_ALWAYS)
    if not authorization:
        names.append(AUTHORIZATION)
    if not traceparent:
        names.append(TRACEPARENT)
    if not protocols:
        names.append(WEBSOCKET_PROTOCOL)
    return HeaderFilter(names, STRIPPED_PREFIXES)


REQUEST_FILTERS: Final = {
    (authorization, traceparent, protocols): _request_filter(authorization, traceparent, protocols)
    for authorization in (False, True)
    for traceparent in (False, True)
    for protocols in (False, True)
}
"""By what of the client's goes through: its Authorization, its traceparent, its WebSocket subprotocols."""

_CREDENTIALS: Final = (AUTHORIZATION, WEBSOCKET_PROTOCOL)

RESPONSE_FILTER: Final = HeaderFilter((HEADER, SERVER_HEADER))


class ClientAddress:
    """What upstream is told about where a client is; made once per connection."""

    __slots__ = ("_own", "_trusted")

    def __init__(self, peer: str, proxies: tuple[Network, ...]) -> None:
        """`peer`: "10.0.0.9:4711", "[::1]:4711", or "@"."""
        host = peer.rpartition(":")[0].strip("[]")
        self._trusted = False
        try:
            address = ip_address(host)
        except ValueError:
            self._own: tuple[Header, ...] = ()
            return
        self._trusted = any(address in network for network in proxies if network.version == address.version)
        self._own = ((FORWARDED_FOR, str(address).encode()),)

    @property
    def varies(self) -> bool:
        """Whether `headers` depends on the request."""
        return self._trusted

    def headers(self, exchange: Exchange) -> tuple[Header, ...]:
        """X-Forwarded-For: the peer, after what a trusted proxy said."""
        if not self._trusted or not self._own:
            return self._own
        said = [value for name, value in exchange.headers if name == FORWARDED_FOR]
        return ((FORWARDED_FOR, b", ".join((*said, self._own[0][1]))),)


def credential_named_by_connection(exchange: Exchange) -> str | None:
    """The credential header that a Connection header of the request names, None without one.

    Such a header ends here (RFC 9110 §7.6.1): the server would answer a request without the credential that the
    gateway saw.
    """
    if exchange.header(_CONNECTION) is None:
        return None
    for name, value in exchange.headers:
        if name == _CONNECTION:
            for option in value.split(b","):
                named = option.strip(b" \t").lower().replace(b"_", b"-")
                if named in _CREDENTIALS:
                    return named.decode("ascii")
    return None


def response_headers(cluster: ClusterRuntime, endpoint: Endpoint) -> tuple[Header, ...]:
    """What the client is told beside the server's own headers."""
    if cluster.spec.features.hide_server:
        return ()
    pools: Pools = endpoint.pools
    return pools.headers_for(endpoint.server)
