"""Every method this server has, in one table for whichever front end hosts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from wharf.brain.api.auth import AuthApi
from wharf.brain.api.cluster import ClusterApi
from wharf.brain.api.concurrency import ElectionApi, LockApi
from wharf.brain.api.guard import Guard
from wharf.brain.api.kv import KvApi
from wharf.brain.api.lease import LeaseApi
from wharf.brain.api.maintenance import MaintenanceApi
from wharf.brain.api.node import Node
from wharf.brain.api.pb import described, election, lock, rpc
from wharf.brain.api.token_use import TokenUseApi
from wharf.brain.api.watch import WatchApi
from wharf.brain.auth import records
from wharf.brain.auth.book import AuthBook
from wharf.brain.auth.passwords import Hasher
from wharf.brain.errors import BrainError, Stopped
from wharf.wire.health import Health
from wharf.wire.reflection import reflection_methods
from wharf.wire.rpc import Kind, Method, UnaryHandler


class Api:
    """The etcd services of one node. `handlers` check no permission; `methods` are the same behind their checks."""

    def __init__(self, node: Node, hasher: Hasher | None = None, by_certificate: bool = False) -> None:
        """After the store has loaded; ValueError when its users or roles are damaged.

        `by_certificate`: client certificates are required and name their users.
        """
        self._node = node
        self._hasher = hasher or Hasher()
        present = node.store.present
        self.auth = AuthBook(lambda: present.meta_under(records.PREFIX), node.store.write_meta)
        present.on_meta(records.SWITCH, self.auth.switched)
        self.tokens = TokenUseApi(node)
        self.guard = Guard(node, self.auth, self.tokens.uses, by_certificate)
        self._watch = WatchApi(node)
        self.leases = LeaseApi(node)
        services = (
            KvApi(node),
            self._watch,
            self.leases,
            MaintenanceApi(node),
            ClusterApi(node),
            AuthApi(node, self.auth, self._hasher),
            LockApi(node, self._handler),
            ElectionApi(node, self._handler),
        )
        self.handlers: list[Method] = [method for service in services for method in service.methods()]
        self.methods: list[Method] = self.guard.methods(self.handlers)
        self._unary: dict[str, UnaryHandler] = {}
        self.serve(self.methods)
        self._renewal = self.guard.methods([self.leases.renewal()])[0]
        self.leases.renew_by = cast(UnaryHandler, self._renewal.handler)

    @property
    def between_nodes(self) -> list[Method]:
        """Methods that nodes call and clients cannot."""
        return [self._renewal, self.tokens.method()]

    @property
    def auth_version(self) -> int:
        """Of the users and roles that this node shows."""
        return self.auth.state.version

    def for_nodes(self) -> dict[str, UnaryHandler]:
        """The handlers, by method, of what another node may forward to this one."""
        return {method.path: cast(UnaryHandler, method.handler) for method in (*self.methods, *self.between_nodes)}

    def route(self, routed: Callable[[Method], Method]) -> list[Method]:
        """What clients get on a node that answers some methods elsewhere; `routed` is a method answered where it is to
        be.
        """
        self.leases.renew_by = cast(UnaryHandler, routed(self._renewal).handler)
        self.tokens.record_by = cast(UnaryHandler, routed(self.tokens.method()).handler)
        return [routed(method) for method in self.methods]

    def serve(self, methods: Sequence[Method]) -> None:
        """Have the services that are clients themselves call these methods, which are what clients get."""
        unary = (method for method in methods if method.kind is Kind.UNARY)
        self._unary = {method.path: cast(UnaryHandler, method.handler) for method in unary}

    def _handler(self, path: str) -> UnaryHandler:
        return self._unary[path]

    def leaderless(self, leaderless: bool) -> None:
        """Whether nobody has led for long: watches that insist on a leader end, so that their clients go elsewhere."""
        self._watch.leaderless(leaderless)

    def set_term(self, term: int) -> None:
        """Of every answer from now on."""
        self._node.store.set_term(term)
        self._node.encoder.set_term(term)

    def stop_watching(self, reason: BrainError) -> None:
        """End every watch, and new ones at once."""
        self._watch.stop(reason)

    async def stop(self) -> None:
        """End what would never end by itself: watches, keep-alives, places in line. Other calls are let finish."""
        self._watch.stop(Stopped())
        self.leases.stop(Stopped())
        await self._node.tasks.stop()
        self._hasher.close()


def with_tools(methods: Sequence[Method], health: Health) -> list[Method]:
    """`methods` and what tools ask of any gRPC server: its health, and what it serves."""
    served = [*methods, *health.methods().values()]
    table = {method.path: method for method in served}
    return [*served, *reflection_methods([described(rpc, lock, election)], table).values()]
