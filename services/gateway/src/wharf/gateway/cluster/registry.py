"""All clusters of a process: made, changed and ended as snapshots of the configuration come.

Invariant: a snapshot takes effect whole, between two requests. A cluster whose new version cannot be used (a key that
is not the certificate's) keeps the version before it, and the others are not held up.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from wharf.common.log import get_log
from wharf.common.trace import Span
from wharf.gateway.api.shapes import UpstreamCluster
from wharf.gateway.cluster.names import Claim, Names
from wharf.gateway.cluster.runtime import ClusterRuntime
from wharf.gateway.cluster.tokens import SECRET_BYTES
from wharf.gateway.limits.shares import Shares
from wharf.gateway.sources.base import ClusterObjects
from wharf.wire.server_tls import DynamicTls, Identity
from wharf.wire.tls import TlsError

GRACE: Final = 30.0  # seconds that requests of a deleted cluster have to end
_NAMED: Final = 3  # refused documents named in the reason for not being ready

_log = get_log("gateway.clusters")


class Registry:
    """On the loop thread. `tls`: the listener's identities, None without TLS; `on_change` after each snapshot."""

    def __init__(
        self,
        tls: DynamicTls | None,
        default: Callable[[], Identity | None],
        on_change: Callable[[Registry], None],
        shares: Shares | None = None,
        sink: Callable[[Span], None] | None = None,
        zone: str = "",
        empty: str = "",
        secret: bytes | None = None,
    ) -> None:
        """`default`: the identity for names of no cluster; `zone`: this instance's.

        `empty`: why a configuration without any document is no reason to serve; "" where documents may come later.
        `secret`: for digests of tokens, the same in all workers of an instance; None: there is only this process.
        """
        self.runtimes: dict[str, ClusterRuntime] = {}
        self.names: Names[ClusterRuntime] = Names(())
        self.objects = ClusterObjects()
        self.broken: dict[str, str] = {}  # clusters whose newest version cannot be used, and why
        self.certificates_changed: set[str] = set()  # clusters whose client CA is another now, or gone
        self._tls, self._default, self._on_change = tls, default, on_change
        self._shares, self._sink, self._zone, self._empty = shares, sink, zone, empty
        self._secret = secrets.token_bytes(SECRET_BYTES) if secret is None else secret
        self.on_gone: Callable[[ClusterRuntime], None] | None = None  # a deleted cluster's grace is over
        self._ending: set[asyncio.Task[None]] = set()
        self._now = asyncio.get_running_loop().time

    def apply(self, objects: ClusterObjects) -> None:
        """Take over a snapshot."""
        self._tell(objects)
        self.objects = objects
        wanted = {cluster.name: cluster for cluster in objects.clusters}
        self.broken = {}
        self.certificates_changed = {name for name in self.runtimes if name not in wanted}
        for name in self.certificates_changed:
            _log.info("cluster removed", cluster=name)
            self._end(self.runtimes.pop(name))
        for name, cluster in wanted.items():
            try:
                self._take(cluster)
            except TlsError as error:
                self.broken[name] = str(error)
                _log.error("this version of a cluster cannot be used", cluster=name, reason=str(error))
            except Exception as error:  # a fault in here is no reason to hold up the others, or what comes later
                self.broken[name] = f"the gateway fails: {error!r}"
                _log.error("this version of a cluster cannot be used", cluster=name, cause=error)
        self.names = Names(_claim(runtime) for runtime in self.runtimes.values())
        if not self.runtimes:
            _log.warn("no cluster is served", reason=self._unserved() or "there is no UpstreamCluster yet")
        self.meet()
        self._on_change(self)

    def meet(self) -> None:
        """Show clients the certificates of today."""
        if self._tls is None:
            return
        identities = [
            identity for runtime in self.runtimes.values() if (identity := _identity(runtime.spec, self._default()))
        ]
        try:
            self._tls.replace(identities, self._default())
        except TlsError as error:
            _log.error("certificates cannot be used, the ones before stay", reason=str(error))

    def unready(self) -> str:
        """Why it is too early to serve; empty: it is not."""
        if not self.objects.synced:
            return "the configuration is not read yet"
        if not self.runtimes:
            return self._unserved()
        return next((reason for runtime in self.runtimes.values() if (reason := runtime.unready())), "")

    def _unserved(self) -> str:
        """Why there is no cluster though there should be one."""
        refused = [one.name for one in self.objects.refused] + sorted(self.broken)
        if not refused:
            return self._empty
        return f"no cluster is served: {', '.join(refused[:_NAMED])} refused or unusable; the log says why"

    async def close(self) -> None:
        await asyncio.gather(*(runtime.close() for runtime in self.runtimes.values()))
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _take(self, cluster: UpstreamCluster) -> None:
        """Add or change a cluster. TlsError or another error, and it is as before."""
        identity = _identity(cluster, self._default())
        if self._tls is not None and identity is not None:
            self._tls.check(identity)  # here, or one cluster's certificate would hold up those of all
        runtime = self.runtimes.get(cluster.name)
        if runtime is None:
            sharing = self._shares.of(cluster.name) if self._shares is not None else None
            runtime = ClusterRuntime(
                cluster, self.objects.slices, self._now, sharing, self._sink, self._zone, secret=self._secret
            )
            self.runtimes[cluster.name] = runtime
            _log.info("cluster added", cluster=cluster.name, servers=[server.name for server in cluster.servers])
            return
        before = runtime.spec
        runtime.update(cluster, self.objects.slices)
        if before.serving.client_ca != cluster.serving.client_ca:
            self.certificates_changed.add(cluster.name)
        if before != cluster:
            _log.info("cluster changed", cluster=cluster.name, generation=cluster.generation)

    def _end(self, runtime: ClusterRuntime) -> None:
        task = asyncio.create_task(self._close_later(runtime))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _close_later(self, runtime: ClusterRuntime) -> None:
        """Let requests end, then cut what is left and let go."""
        try:
            await asyncio.sleep(GRACE)
            if self.on_gone is not None:
                self.on_gone(runtime)
        finally:
            await runtime.close()

    def _tell(self, objects: ClusterObjects) -> None:
        known = set(self.objects.refused)
        for one in objects.refused:
            if one not in known:
                _log.error(
                    "a document is refused",
                    name=one.name,
                    reason=one.reason.value,
                    problems=list(one.problems),
                    last_version_stays=one.kept,
                )


def _claim(runtime: ClusterRuntime) -> Claim[ClusterRuntime]:
    spec = runtime.spec
    return Claim(runtime, (spec.name, *spec.hostnames), spec.addresses)


def _identity(spec: UpstreamCluster, default: Identity | None) -> Identity | None:
    """What clients of a cluster meet: its own certificate, else the listener's."""
    serving = spec.serving
    certificate, key = serving.certificate, serving.key
    if certificate is not None and key is not None:
        pair = certificate.pem, key.pem
    elif default is not None:
        pair = default.cert_pem, default.key_pem
    else:
        return None
    return Identity(
        spec.name,
        *pair,
        client_ca_pem=serving.client_ca.pem if serving.client_ca is not None else None,
        names=(spec.name, *spec.hostnames),
        addresses=tuple(str(address) for address in spec.addresses),
    )
