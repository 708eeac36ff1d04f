"""Every method this server has, in one table for whichever front end hosts it."""

from __future__ import annotations

from collections.abc import Sequence

from wharf.brain.api.auth import AuthApi
from wharf.brain.api.cluster import ClusterApi
from wharf.brain.api.concurrency import ElectionApi, LockApi
from wharf.brain.api.kv import KvApi
from wharf.brain.api.lease import LeaseApi
from wharf.brain.api.maintenance import MaintenanceApi
from wharf.brain.api.node import Node
from wharf.brain.api.pb import described, election, lock, rpc
from wharf.brain.api.watch import WatchApi
from wharf.brain.errors import Stopped
from wharf.wire.health import Health
from wharf.wire.reflection import reflection_methods
from wharf.wire.rpc import Method


class Api:
    """The etcd services of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._watch = WatchApi(node)
        node.store.on_halt(self._watch.stop)
        self._leases = LeaseApi(node)
        services = (
            KvApi(node),
            self._watch,
            self._leases,
            MaintenanceApi(node),
            ClusterApi(node),
            AuthApi(node),
            LockApi(node),
            ElectionApi(node),
        )
        self.methods: list[Method] = [method for service in services for method in service.methods()]

    async def stop(self) -> None:
        """End what would never end by itself: watches, keep-alives, places in line. Other calls are let finish."""
        self._watch.stop(Stopped())
        self._leases.stop(Stopped())
        await self._node.tasks.stop()


def with_tools(methods: Sequence[Method], health: Health) -> list[Method]:
    """`methods` and what tools ask of any gRPC server: its health, and what it serves."""
    served = [*methods, *health.methods().values()]
    table = {method.path: method for method in served}
    return [*served, *reflection_methods([described(rpc, lock, election)], table).values()]
