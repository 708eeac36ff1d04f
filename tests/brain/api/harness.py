"""A node on the memory engine with its methods called directly: the whole API without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from brain.api.fakes import Client
from wharf.brain.api.encode import Encoder
from wharf.brain.api.members import Alone, Member
from wharf.brain.api.node import ApiLimits, Node
from wharf.brain.api.pb import rpc
from wharf.brain.api.table import Api
from wharf.brain.api.tasks import Tasks
from wharf.brain.auth.passwords import Cost, Hasher
from wharf.brain.engine import open_engine
from wharf.brain.store.store import RAFT_TERM, Store, StoreLimits
from wharf.brain.watch.hub import Hub

KV = "/etcdserverpb.KV/"
LEASE = "/etcdserverpb.Lease/"
WATCH = "/etcdserverpb.Watch/Watch"
MAINTENANCE = "/etcdserverpb.Maintenance/"
CLUSTER = "/etcdserverpb.Cluster/"
AUTH = "/etcdserverpb.Auth/"
LOCK = "/v3lockpb.Lock/"
ELECTION = "/v3electionpb.Election/"


@dataclass(frozen=True, slots=True)
class Server:
    """What a scenario plays with."""

    client: Client  # of the handlers: nothing checks its permissions
    node: Node
    api: Api

    async def put(self, key: bytes, value: bytes = b"", lease: int = 0) -> int:
        """The revision of the put."""
        request = rpc.PutRequest(key=key, value=value, lease=lease)
        return (await self.client.ask(KV + "Put", request, rpc.PutResponse)).header.revision

    async def get(self, key: bytes, range_end: bytes = b"") -> rpc.RangeResponse:
        request = rpc.RangeRequest(key=key, range_end=range_end)
        return await self.client.ask(KV + "Range", request, rpc.RangeResponse)


def run(
    scenario: Callable[[Server], Awaitable[None]], *, max_request_bytes: int = 1536 * 1024, quota_bytes: int = 0
) -> None:
    """Play `scenario` against a fresh node and take it down."""

    async def play() -> None:
        engine = open_engine("memory:")
        store = Store(engine, limits=StoreLimits(quota_bytes=quota_bytes))
        await store.start()
        hub = Hub(store, max_request_bytes=max_request_bytes)
        node = Node(
            limits=ApiLimits(max_request_bytes, 128, 2 * 1024**3),
            store=store,
            hub=hub,
            encoder=Encoder(store.cluster_id, store.member_id, RAFT_TERM),
            tasks=Tasks(),
            cluster=Alone(
                Member(store.member_id, "n1", ("http://127.0.0.1:2379",), ("http://127.0.0.1:2380",)), RAFT_TERM
            ),
        )
        api = Api(node, Hasher(Cost(log_n=4, r=1, p=1)))
        try:
            await scenario(Server(Client(api.handlers), node, api))
        finally:
            await api.stop()
            hub.close()
            await store.stop()
            engine.close()

    asyncio.run(play())
