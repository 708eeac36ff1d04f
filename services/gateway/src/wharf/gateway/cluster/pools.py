"""The connections to one server, apart by what may travel together.

- What the gateway vouches for goes over connections with the gateway's credential.
- Anonymous requests and tokens that no server has accepted yet go apart: kube-apiserver closes a connection on which a
  request came without a credential, or with a wrong one (a defence against floods), and one client with an expired
  token would keep closing what everybody shares.
- Tokens never meet the gateway's credential: where that is a certificate, kube-apiserver would look at it first.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from wharf.gateway.api.shapes import Protocol, Server, UpstreamCluster
from wharf.gateway.authn import Lane
from wharf.wire.client import HttpPool
from wharf.wire.client_shell import ProtocolName, Target, client_context
from wharf.wire.pool import PoolLimits
from wharf.wire.web import Header

SERVER_HEADER: Final = b"x-wharf-server"
_PROTOCOLS: dict[Protocol, ProtocolName] = {Protocol.AUTO: "auto", Protocol.HTTP2: "h2", Protocol.HTTP1: "http1"}


def pool_limits(cluster: UpstreamCluster) -> PoolLimits:
    """What an UpstreamCluster says about connections."""
    timeouts = cluster.timeouts
    return PoolLimits(
        connections_max=cluster.upstream.connections_max,
        pending_max=cluster.breaker.pending_max,
        connect_timeout=timeouts.connect,
        ping_interval=timeouts.ping_interval,
        ping_timeout=timeouts.ping_timeout,
        stall_timeout=timeouts.stall,
    )


class Credentials:
    """How one version of a cluster's `upstream` meets its servers."""

    def __init__(self, cluster: UpstreamCluster) -> None:
        """TlsError when the certificates cannot be used."""
        self._upstream = cluster.upstream
        self._protocol = _PROTOCOLS[cluster.upstream.protocol]
        protocols: tuple[ProtocolName, ...] = (self._protocol, "http1")
        self._contexts = {
            (vouching, protocol): _context(cluster, vouching, protocol)
            for vouching in (False, True)
            for protocol in protocols
        }

    def target(self, server: Server, lane: Lane, *, upgrade: bool = False) -> Target:
        """`upgrade`: for a connection that is to be upgraded, which only HTTP/1.1 can."""
        protocol: ProtocolName = "http1" if upgrade else self._protocol
        context = self._contexts[lane is not Lane.TOKEN, protocol] if server.tls else None
        return Target(server.host, server.port, context, self._upstream.server_name, protocol)


def _headers_for(server: Server) -> tuple[Header, ...]:
    return ((SERVER_HEADER, server.name.encode()),)


def _context(cluster: UpstreamCluster, vouching: bool, protocol: ProtocolName) -> ssl.SSLContext:
    upstream = cluster.upstream
    return client_context(
        upstream.ca.pem if upstream.ca is not None else None,
        upstream.certificate.pem if upstream.certificate is not None and vouching else b"",
        upstream.key.pem if upstream.key is not None and vouching else b"",
        insecure=upstream.insecure_skip_verify,
        protocol=protocol,
        name=cluster.name,
    )


class Pools:
    """All pools of one server."""

    __slots__ = (
        "_headers",
        "_server",
        "anonymous",
        "authority",
        "credentials",
        "new_tokens",
        "scheme",
        "tokens",
        "vouched",
    )

    def __init__(self, credentials: Credentials, server: Server, limits: PoolLimits) -> None:
        self.credentials, self._server = credentials, server
        self._headers = _headers_for(server)
        vouched = credentials.target(server, Lane.VOUCHED)
        token = credentials.target(server, Lane.TOKEN)
        self.vouched = HttpPool(vouched, limits)
        self.anonymous = HttpPool(credentials.target(server, Lane.ANONYMOUS), limits)
        self.tokens = HttpPool(token, limits)  # a server has accepted them
        self.new_tokens = HttpPool(token, limits)
        self.authority, self.scheme = vouched.authority, vouched.scheme

    def headers_for(self, server: Server) -> tuple[Header, ...]:
        """What an answer says about where it comes from. `server`: as it is called now."""
        if server is not self._server:
            self._server, self._headers = server, _headers_for(server)
        return self._headers

    def upgrade_target(self, lane: Lane) -> Target:
        """Where to dial for a connection that is to be upgraded."""
        return self.credentials.target(self._server, lane, upgrade=True)

    @property
    def all(self) -> tuple[HttpPool, ...]:
        return (self.vouched, self.anonymous, self.tokens, self.new_tokens)

    async def close(self, grace: float = 0.0) -> None:
        await asyncio.gather(*(pool.close(grace) for pool in self.all))
