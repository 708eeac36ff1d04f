"""Connections to a cluster's servers, and whether they may be used: probes, trust, new credentials.

A server that does not trust the gateway's certificate as a front proxy ignores `X-Remote-*` and takes every client for
the owner of that certificate. So before a server gets requests it is asked whom it takes the gateway for, and the
answer must be the name that the headers said; and again every few seconds, because servers are restarted with other
flags. New credentials are tried in the same way on connections of their own, and used once they are accepted; until
then those before them go on.
"""

from __future__ import annotations

import asyncio
from typing import Final

from wharf.common.kube.client import KubeClient, StatusError
from wharf.common.log import get_log
from wharf.gateway.api.shapes import IdentityMode, UpstreamCluster
from wharf.gateway.cluster.pools import Credentials, Pools, Traffic
from wharf.gateway.identity import identity_headers
from wharf.gateway.review import ReviewUnavailable, taken_for
from wharf.gateway.upstreams.endpoint import Endpoint
from wharf.gateway.upstreams.health import Health, ProbeResult, read_probe
from wharf.gateway.upstreams.members import Members
from wharf.gateway.user import AUTHENTICATED, User
from wharf.wire.client import fetch
from wharf.wire.web import Header

OWN_USER: Final = User("wharf-gateway", (AUTHENTICATED,))  # its rights: docs/gateway.md, Rights in the cluster
TRUST_SECONDS: Final = 10.0  # as long as this a server that trusts the gateway is not asked again
GRACE: Final = 3600.0  # seconds that streams on connections with older credentials may live on
_USER_AGENT: Final = (b"user-agent", b"wharf-gateway")
_PROBE_BODY: Final = 64 * 1024

_log = get_log("gateway.servers")


class Equipment:
    """The pools of one cluster's endpoints. On the loop thread."""

    def __init__(self, spec: UpstreamCluster, members: Members) -> None:
        """TlsError when its certificates cannot be used."""
        self._spec, self._members = spec, members
        self._credentials = Credentials(spec)
        self._coming: dict[Endpoint, Pools] = {}  # with credentials that are not accepted yet
        self._trusting: dict[Pools, float] = {}  # loop time until which what their servers said about us counts
        self._closing: set[asyncio.Task[None]] = set()
        self.own_identity = own_identity(spec)

    def prepare(self, spec: UpstreamCluster) -> Credentials:
        """Make the credentials of a version, for `update`. TlsError when its certificates cannot be used."""
        return self._credentials if spec.upstream == self._spec.upstream else Credentials(spec)

    def update(self, spec: UpstreamCluster, credentials: Credentials) -> None:
        """Take over a version and what `prepare` returned for it."""
        before, self._spec = self._spec, spec
        if credentials is self._credentials:
            self._limit()
            return
        self._credentials = credentials
        self.own_identity = own_identity(spec)
        at_once = spec.upstream.identity is not before.upstream.identity
        for endpoint in self._members.endpoints:
            pools = self._make(endpoint)
            if (older := self._coming.pop(endpoint, None)) is not None:
                self._close(older, 0.0)
            if at_once:
                # Identity headers of one kind must not meet the credential of the other, not for one request.
                self._replace(endpoint, pools)
                endpoint.health = Health()
            else:
                self._coming[endpoint] = pools
            if self._members.on_suspect is not None:
                self._members.on_suspect(endpoint)

    def equip(self) -> None:
        """Pools for endpoints that have none, or those of a time before they went and came back."""
        for endpoint in self._members.endpoints:
            if endpoint.pools is None:
                endpoint.pools = self._make(endpoint)
            elif endpoint not in self._coming and endpoint.pools.credentials is not self._credentials:
                self._replace(endpoint, self._make(endpoint))

    def release(self, endpoint: Endpoint) -> None:
        """A removed endpoint has no streams left."""
        coming = self._coming.pop(endpoint, None)
        for pools in (endpoint.pools, coming):
            if pools is not None:
                self._close(pools, 0.0)

    async def probe(self, endpoint: Endpoint) -> ProbeResult:
        """One look at a server, with the credentials that requests use, or are to use."""
        coming = self._coming.get(endpoint)
        if coming is not None:
            result = await self._probe(coming)
            if self._coming.get(endpoint) is not coming:
                return result  # newer ones came meanwhile
            if result.alive:
                del self._coming[endpoint]
                self._replace(endpoint, coming)
                _log.info("new credentials are used", cluster=self._spec.name, server=endpoint.name)
                return result
            _log.warn(
                "new credentials are not used yet", cluster=self._spec.name, server=endpoint.name, reason=result.reason
            )
        return await self._probe(endpoint.pools)

    async def close(self) -> None:
        endpoints = (*self._members.endpoints, *self._members.leaving)
        pools = [endpoint.pools for endpoint in endpoints if endpoint.pools is not None]
        await asyncio.gather(*(item.close(0.0) for item in (*pools, *self._coming.values())))
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    # --- inside
    def _limit(self) -> None:
        """Bounds and times of today, for what happens from now on."""
        endpoints = (*self._members.endpoints, *self._members.leaving)
        for pools in (*(endpoint.pools for endpoint in endpoints), *self._coming.values()):
            if pools is not None:
                pools.configure(self._spec)

    def _make(self, endpoint: Endpoint) -> Pools:
        return Pools(self._credentials, endpoint.server, self._spec)

    def _replace(self, endpoint: Endpoint, pools: Pools) -> None:
        before, endpoint.pools = endpoint.pools, pools
        if before is not None:
            self._close(before, GRACE)

    def _close(self, pools: Pools, grace: float) -> None:
        self._trusting.pop(pools, None)
        task = asyncio.create_task(pools.close(grace))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _probe(self, pools: Pools) -> ProbeResult:
        response = await fetch(
            pools.pool(Traffic.PROBES),
            b"GET",
            self._spec.health.path.encode(),
            (_USER_AGENT, *self.own_identity),
            authority=pools.authority,
            timeout=self._spec.health.timeout,
            body_max=_PROBE_BODY,
        )
        result = read_probe(response.status, response.body)
        now = asyncio.get_running_loop().time()
        if not result.alive or not self._vouches or now < self._trusting.get(pools, 0.0):
            return result
        distrust = await self._distrust(pools)
        if distrust is not None:
            self._trusting.pop(pools, None)
            return distrust
        self._trusting[pools] = now + TRUST_SECONDS
        return result

    @property
    def _vouches(self) -> bool:
        upstream = self._spec.upstream
        return upstream.identity is IdentityMode.FRONT_PROXY and upstream.certificate is not None

    async def _distrust(self, pools: Pools) -> ProbeResult | None:
        """Why the gateway must not vouch for anybody here; None: it may."""
        headers, known = identity_headers(OWN_USER, IdentityMode.FRONT_PROXY), pools in self._trusting
        try:
            name = await taken_for(KubeClient(lambda: pools.pool(Traffic.PROBES), lambda: headers))
        except ReviewUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, StatusError) and cause.status.code == 404:
                if not known:
                    _log.warn("this server cannot say whom it takes the gateway for (Kubernetes before 1.28)")
                return None
            # One that is too busy to say it again has not changed its mind.
            return None if known else ProbeResult(False, f"it does not say whom it takes the gateway for: {error}")
        if name == OWN_USER.name:
            return None
        why = f"it does not trust the gateway's certificate as a front proxy: it takes it for {name!r}"
        return ProbeResult(False, why, certain=True)


def own_identity(spec: UpstreamCluster) -> tuple[Header, ...]:
    """What makes a request the gateway's own: probes and reviews. An authenticating proxy vouches for itself, too."""
    if spec.upstream.identity is IdentityMode.FRONT_PROXY and spec.upstream.token is None:
        return identity_headers(OWN_USER, IdentityMode.FRONT_PROXY)
    return own_headers(spec)


def own_headers(spec: UpstreamCluster) -> tuple[Header, ...]:
    """What authenticates the gateway itself, where that is a token."""
    token = spec.upstream.token
    return ((b"authorization", b"Bearer " + token.pem),) if token is not None else ()
