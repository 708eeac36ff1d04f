"""A node that is the whole cluster: it owns its engine and leads itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Final, Protocol

from wharf.brain.api.members import Alone, Cluster, Member
from wharf.brain.api.table import Api
from wharf.brain.config import BrainConfig
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import Engine
from wharf.brain.errors import BrainError, Stopped
from wharf.brain.front import Front
from wharf.brain.measured import measured
from wharf.brain.store.store import RAFT_TERM, Store, StoreLimits
from wharf.brain.watch.hub import Hub
from wharf.common.metrics import Family, Registry
from wharf.wire.rpc import Method

READY: Final = "ready to serve client requests"


class Mode(Protocol):
    """How a node stands to its engine and to other nodes."""

    store: Store
    cluster: Cluster
    ready: str  # what this process logs once it serves

    def methods(self, api: Api) -> Sequence[Method]:
        """What clients are served: `api`'s methods, each answered where it is to be."""

    def admitted(self, methods: Sequence[Method]) -> Sequence[Method]:
        """`methods`, with what is to be seen to before anything else."""

    async def begin(self, hub: Hub, api: Api, front: Front) -> None:
        """The listeners are up: take part; returns once requests are answered."""

    async def hand_over(self) -> None:
        """This node goes: let others take over what only it does."""

    def unready(self) -> str:
        """Why clients should go elsewhere, empty: they need not."""

    async def wait_fatal(self) -> str:
        """Why this process must end, when it must."""

    def waiting(self) -> int:
        """Calls that wait for a leader, or for the process that writes."""

    def families(self) -> Iterable[Family]:
        """Metrics of this mode."""


class Lone:
    """See the module."""

    ready = READY

    def __init__(self, store: Store, member: Member) -> None:
        self.store = store
        self.cluster: Cluster = Alone(member, RAFT_TERM)
        self._fatal: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        store.on_halt(self._halted)

    @classmethod
    async def open(cls, config: BrainConfig, registry: Registry, down: AsyncExitStack) -> Lone:
        """EngineError when the engine cannot be had."""
        engine = open_engine(config.engine_url, unsafe_no_fsync=config.unsafe_no_fsync)
        down.callback(engine.close)
        store = store_on(engine, config, registry)
        await store.start()
        down.push_async_callback(store.stop)
        return cls(store, Member(store.member_id, config.name, config.client_urls, config.peer_urls))

    def methods(self, api: Api) -> Sequence[Method]:
        return api.methods

    def admitted(self, methods: Sequence[Method]) -> Sequence[Method]:
        return methods

    async def begin(self, hub: Hub, api: Api, front: Front) -> None:
        """A store that has halted publishes nothing any more: watches end."""
        self.store.on_halt(api.stop_watching)

    async def hand_over(self) -> None:
        """There is nobody."""

    def unready(self) -> str:
        return ""

    async def wait_fatal(self) -> str:
        """A store that has halted by itself never writes again in this process."""
        return await asyncio.shield(self._fatal)

    def _halted(self, error: BrainError) -> None:
        if not isinstance(error, Stopped) and not self._fatal.done():
            self._fatal.set_result(f"the store has stopped: {error}; an earlier line names the file and the cause")

    def waiting(self) -> int:
        return 0

    def families(self) -> Iterable[Family]:
        return ()


def store_on(engine: Engine, config: BrainConfig, registry: Registry) -> Store:
    limits = StoreLimits(quota_bytes=max(config.quota_backend_bytes, 0))
    return Store(measured(engine, registry), limits=limits)
