"""One cluster at work: what its UpstreamCluster says, compiled, and what has to live longer than one version of it.

A new version takes effect between two requests: policies, limits and switches at once, servers and credentials by
letting what is under way end where it is. Invariant: whatever can fail is made before anything is changed, so after
`update` raised, the version before it is whole.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wharf.common.clock import CLOCK
from wharf.common.kube.client import KubeClient
from wharf.common.kube.request_shape import RequestInfo
from wharf.common.log import get_log
from wharf.common.trace import Span, Tracer
from wharf.gateway.api.shapes import IdentityMode, Policy, Server, UpstreamCluster
from wharf.gateway.authn import Authenticator
from wharf.gateway.cluster.equipment import Equipment, own_headers
from wharf.gateway.cluster.pools import Pools, Traffic, short_requests_max
from wharf.gateway.cluster.tokens import TokenBook, token_secret
from wharf.gateway.limits.bound_log import BoundLog
from wharf.gateway.limits.bucket import Sharing
from wharf.gateway.limits.limiter import Limiter
from wharf.gateway.limits.lists import ListCosts
from wharf.gateway.limits.long_running import LongRunningCounts
from wharf.gateway.limits.pacer import Pacer
from wharf.gateway.limits.upgrade_permits import UpgradePermits
from wharf.gateway.limits.user_counts import UserCounts
from wharf.gateway.review import AccessReviewer, TokenReviewer
from wharf.gateway.route.router import Router
from wharf.gateway.upstreams.choice import ABLE
from wharf.gateway.upstreams.discovery import DnsWatch, servers_from_slices
from wharf.gateway.upstreams.members import Members, Strategies
from wharf.gateway.upstreams.prober import Prober
from wharf.gateway.upstreams.retry import Budget
from wharf.wire.client import HttpPool
from wharf.wire.client_shell import RequestFailed
from wharf.wire.web import Failure, Fault, Header, ServedConnection

Slices = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]

_log = get_log("gateway.cluster")
_generations = itertools.count(1)  # of compiled versions, all clusters'


@dataclass(frozen=True, slots=True)
class _Version:
    """An UpstreamCluster, compiled."""

    spec: UpstreamCluster
    router: Router
    strategies: Strategies
    slices: tuple[Server, ...]  # servers found in EndpointSlices
    tokens: TokenReviewer
    rights: AccessReviewer
    authenticator: Authenticator
    own_headers: tuple[Header, ...]
    tracer: Tracer | None  # None: the process's


class ClusterRuntime:
    """Made, updated and closed on the loop thread."""

    def __init__(
        self,
        spec: UpstreamCluster,
        slices: Slices,
        now: Callable[[], float],
        sharing: Sharing | None = None,
        sink: Callable[[Span], None] | None = None,
        zone: str = "",
        *,
        secret: bytes,
    ) -> None:
        """TlsError when its certificates cannot be used.

        `sink`: where spans go; None: nowhere. `zone`: this instance's, preferred where a policy prefers none.
        `secret`: of the instance, for digests of tokens.
        """
        self.name = spec.name
        self.now, self._sink, self._secret = now, sink, secret
        self._dns: DnsWatch | None = None
        self._dns_task: asyncio.Task[None] | None = None
        self._slices: tuple[Server, ...] = ()
        self.members = Members(spec, now(), zone=zone)
        self._equipment = Equipment(spec, self.members)
        self.members.on_idle = self._equipment.release
        self._client = KubeClient(self._review_pool, lambda: self._equipment.own_identity)
        version = self._prepare(spec, slices, None)
        self.limiter = Limiter(spec.schemas, now(), sharing)
        self.pacer = Pacer(self.limiter)
        self.costs = ListCosts()
        self.bytes_in = self.bytes_out = 0
        self.budget = Budget(spec.retry.budget, now())
        self.tokens = TokenBook()
        self.upgrade_permits = UpgradePermits()
        self.long_running = LongRunningCounts()
        self.short_requests = UserCounts()
        self.bound_log = BoundLog(_log, spec.name)
        self.prober = Prober(self.members, self._equipment.probe)
        self._adopt(version)

    # --- versions
    def update(self, spec: UpstreamCluster, slices: Slices) -> None:
        """Take over a version. Whatever this raises, nothing has changed: TlsError when its certificates cannot be
        used, what the constructor of an installed strategy raises."""
        version = self._prepare(spec, slices, self.spec)
        credentials = self._equipment.prepare(spec)
        self._equipment.update(spec, credentials)
        self.limiter.update(spec.schemas, self.now())
        self.budget.share = spec.retry.budget
        self._adopt(version)

    def _prepare(self, spec: UpstreamCluster, slices: Slices, before: UpstreamCluster | None) -> _Version:
        """All of a version that takes work, or can fail."""
        if before is None or before.authentication != spec.authentication or before.upstream != spec.upstream:
            # Whatever was said about tokens and rights counts for the cluster as it was.
            tokens = TokenReviewer(self._client, spec.authentication, CLOCK)
            rights = AccessReviewer(self._client, CLOCK)
            authenticator = Authenticator(spec, CLOCK, tokens, rights)
        else:
            tokens, rights, authenticator = self._tokens, self._rights, self.authenticator
        # Behind front-proxy headers the gateway's token would make every client the gateway.
        front_proxy = spec.upstream.identity is IdentityMode.FRONT_PROXY
        ratio = spec.tracing.ratio
        found: tuple[Server, ...] = ()
        if spec.service is not None:
            pieces = slices.get((spec.service.namespace, spec.service.name), ())
            found = servers_from_slices(pieces, spec.service)
        return _Version(
            spec,
            Router(spec.policies),
            self.members.prepare(spec),
            found,
            tokens,
            rights,
            authenticator,
            () if front_proxy else own_headers(spec),
            Tracer(ratio, self._sink) if self._sink is not None and ratio else None,
        )

    def _adopt(self, version: _Version) -> None:
        spec = self.spec = version.spec
        self.generation = next(_generations)
        self.router, self.policies = version.router, spec.policies
        self.identity = spec.upstream.identity
        self.short_per_user = short_requests_max(spec) // 2  # the other half is left to all other users
        self._tokens, self._rights, self.authenticator = version.tokens, version.rights, version.authenticator
        self.own_headers = version.own_headers
        self.token_secret = token_secret(spec, self._secret)
        self.tracer = version.tracer
        self.log_fields = spec.logging.fields
        self.logs_some = spec.logging.access or any(policy.access_log for policy in spec.policies)
        limits = (spec.logging.slow_seconds, spec.logging.slow_list_seconds)
        self.slow_from = min((seconds for seconds in limits if seconds > 0), default=math.inf)  # the least that may be
        self._slices = version.slices
        self._watch_dns(spec)
        self._take_servers(version.strategies)

    def _watch_dns(self, spec: UpstreamCluster) -> None:
        if self._dns is not None and spec.dns == self._dns.discovery:
            return
        if self._dns_task is not None:
            self._dns_task.cancel()
        before, self._dns, self._dns_task = self._dns, None, None
        if spec.dns is not None:
            self._dns = DnsWatch(spec.dns, lambda _: self._take_servers())
            if before is not None and replace(before.discovery, refresh_seconds=spec.dns.refresh_seconds) == spec.dns:
                self._dns.servers = before.servers  # the same question: its answer stays until there is another
            self._dns_task = asyncio.create_task(self._dns.run())

    def _take_servers(self, strategies: Strategies | None = None) -> None:
        found = (*self._slices, *(self._dns.servers if self._dns is not None else ()))
        change = self.members.update(self.spec, found, self.now(), strategies)
        self._equipment.equip()
        if change.added or change.removed:
            _log.info(
                "servers changed",
                cluster=self.name,
                added=[endpoint.name for endpoint in change.added],
                removed=[endpoint.name for endpoint in change.removed],
            )
        self.prober.sync(self.spec.health)

    # --- servers
    def _review_pool(self) -> HttpPool:
        """Connections to a server that can be asked a review."""
        for endpoint in self.members.endpoints:
            if endpoint.pools is not None and endpoint.standing(self.now()) in ABLE:
                pools: Pools = endpoint.pools
                return pools.pool(Traffic.REVIEWS)
        raise RequestFailed(Failure(Fault.UNSENT, f"no server of cluster {self.name} can be asked"))

    # --- what requests ask
    def verified(self, connection: ServedConnection) -> bool:
        """Whether a connection's client certificate was verified against this cluster's CA."""
        return connection.identity == self.name

    def count_bytes(self, received: int, sent: int) -> None:
        """Of bodies: from the client, and to it."""
        self.bytes_in += received
        self.bytes_out += sent

    def is_slow(self, info: RequestInfo, seconds: float) -> bool:
        """Whether a short request took longer than it should."""
        rules = self.spec.logging
        limit = rules.slow_list_seconds if info.verb == "list" else rules.slow_seconds
        return 0 < limit < seconds

    def logs(self, policy: Policy) -> bool:
        """Whether a request of this policy has a line in the access log."""
        return self.spec.logging.access if policy.access_log is None else policy.access_log

    def unready(self) -> str:
        """Why it is too early to say that this cluster is served; empty: it is not."""
        if self._dns is not None and not self._dns.first_answer.is_set():
            return f"cluster {self.name}: its servers' name is not resolved yet"
        if not self.prober.first_round_done.is_set():
            return f"cluster {self.name}: servers are not probed yet"
        return ""

    async def close(self) -> None:
        """The cluster is gone, or the process ends: whatever is still under way is cut."""
        if self._dns_task is not None:
            self._dns_task.cancel()
            await asyncio.gather(self._dns_task, return_exceptions=True)
        await self.prober.close()
        self.pacer.close()
        await self._tokens.close()
        await self._rights.close()
        await self._equipment.close()
