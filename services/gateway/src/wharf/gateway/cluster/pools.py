"""The connections to one server, apart by what may travel together and by what must not wait for each other.

- What the gateway vouches for goes over connections with the gateway's credential.
- Anonymous requests and tokens that no server has accepted yet go apart: kube-apiserver closes a connection on which a
  request came without a credential, or with a wrong one (a defence against floods), and one client with an expired
  token would keep closing what everybody shares.
- Tokens never meet the gateway's credential: where that is a certificate, kube-apiserver would look at it first.
- Long-running requests have connections of their own, so that watches never use up the streams of short requests.
- Probes have a connection of their own, and so have the gateway's reviews: however busy clients keep a server, it is
  still seen alive and still asked about tokens and rights.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from dataclasses import replace
from enum import IntEnum
from typing import Final

from wharf.gateway.api.shapes import Protocol, Server, UpstreamCluster
from wharf.gateway.authn import Lane
from wharf.wire.client import HttpPool
from wharf.wire.client_shell import ProtocolName, RequestFailed, Target, client_context
from wharf.wire.pool import PoolLimits
from wharf.wire.web import Failure, Fault, Header

SERVER_HEADER: Final = b"x-wharf-server"
_PROTOCOLS: dict[Protocol, ProtocolName] = {Protocol.AUTO: "auto", Protocol.HTTP2: "h2", Protocol.HTTP1: "http1"}


STREAMS_MAX: Final = 100  # requests that kube-apiserver takes on one HTTP/2 connection at the same time
HTTP1_WATCHES_MAX: Final = 16_384  # connections of a pool of long-running requests; HTTP/1.1 carries one on each
PROBE_CONNECTIONS_MAX: Final = 2  # the current one, and the next while a server sends the current one away
REVIEW_CONNECTIONS_MAX: Final = 4  # reviews of either kind are bounded by their reviewers to 64 at the same time


class Traffic(IntEnum):
    """What a pool carries; short and long-running requests of one kind have a pool each."""

    VOUCHED = 0
    ANONYMOUS = 1
    TOKENS = 2  # a server has accepted them
    NEW_TOKENS = 3
    PROBES = 4
    REVIEWS = 5


_LANES: Final = {
    Traffic.VOUCHED: Lane.VOUCHED,
    Traffic.ANONYMOUS: Lane.ANONYMOUS,
    Traffic.TOKENS: Lane.TOKEN,
    Traffic.NEW_TOKENS: Lane.TOKEN,
    Traffic.PROBES: Lane.VOUCHED,
    Traffic.REVIEWS: Lane.VOUCHED,
}


def pool_limits(
    cluster: UpstreamCluster, traffic: Traffic = Traffic.VOUCHED, *, long_running: bool = False
) -> PoolLimits:
    """What an UpstreamCluster says about connections of one kind."""
    timeouts, upstream = cluster.timeouts, cluster.upstream
    limits = PoolLimits(
        connections_max=upstream.watch_connections_max if long_running else upstream.connections_max,
        pending_max=cluster.breaker.pending_max or sys.maxsize,
        connect_timeout=timeouts.connect,
        ping_interval=timeouts.ping_interval,
        ping_timeout=timeouts.ping_timeout,
        stall_timeout=timeouts.stall,
    )
    if long_running:
        return replace(limits, http1_connections_max=HTTP1_WATCHES_MAX)
    if traffic is Traffic.PROBES:
        return replace(limits, connections_max=PROBE_CONNECTIONS_MAX, http1_connections_max=PROBE_CONNECTIONS_MAX)
    return replace(limits, connections_max=REVIEW_CONNECTIONS_MAX) if traffic is Traffic.REVIEWS else limits


def short_requests_max(cluster: UpstreamCluster) -> int:
    """Short requests with one kind of credential that one server has places for."""
    limits = pool_limits(cluster)
    if cluster.upstream.protocol is Protocol.HTTP1:
        return limits.http1_connections_max
    return limits.connections_max * STREAMS_MAX


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
    """All pools of one server. Each is made at its first use: most servers see few kinds of traffic."""

    __slots__ = ("_closed", "_cluster", "_headers", "_long", "_server", "_short", "authority", "credentials", "scheme")

    def __init__(self, credentials: Credentials, server: Server, cluster: UpstreamCluster) -> None:
        self.credentials, self._server, self._cluster = credentials, server, cluster
        self._headers = _headers_for(server)
        self._short: list[HttpPool | None] = [None] * len(Traffic)
        self._long: list[HttpPool | None] = [None] * len(Traffic)
        self._closed = False
        target = credentials.target(server, Lane.VOUCHED)
        self.authority, self.scheme = target.authority, target.scheme

    def pool(self, traffic: Traffic, *, long_running: bool = False) -> HttpPool:
        """The connections for requests of a kind. RequestFailed (FULL) after `close`."""
        pools = self._long if long_running else self._short
        found = pools[traffic]
        if found is None:
            if self._closed:
                raise RequestFailed(Failure(Fault.FULL, "the pools are closed"))
            target = self.credentials.target(self._server, _LANES[traffic])
            found = pools[traffic] = HttpPool(target, pool_limits(self._cluster, traffic, long_running=long_running))
        return found

    def configure(self, cluster: UpstreamCluster) -> None:
        """Bounds and times of a newer version, for what happens from now on."""
        self._cluster = cluster
        for long_running, pools in ((False, self._short), (True, self._long)):
            for traffic, pool in zip(Traffic, pools, strict=True):
                if pool is not None:
                    pool.limits = pool_limits(cluster, traffic, long_running=long_running)

    def headers_for(self, server: Server) -> tuple[Header, ...]:
        """What an answer says about where it comes from. `server`: as it is called now."""
        if server is not self._server:
            self._server, self._headers = server, _headers_for(server)
        return self._headers

    def upgrade_target(self, lane: Lane) -> Target:
        """Where to dial for a connection that is to be upgraded."""
        return self.credentials.target(self._server, lane, upgrade=True)

    def made(self, *, long_running: bool) -> tuple[HttpPool, ...]:
        """The pools of short, or of long-running requests that have been used; probes and reviews are short."""
        return tuple(pool for pool in (self._long if long_running else self._short) if pool is not None)

    async def close(self, grace: float = 0.0) -> None:
        self._closed = True
        pools = (*self.made(long_running=False), *self.made(long_running=True))
        await asyncio.gather(*(pool.close(grace) for pool in pools))
