"""A node of several over one engine, put together: engine, lease, events, sessions, and the node that uses them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, cast

from wharf.brain.api.members import Cluster, Member, member_id_of
from wharf.brain.api.table import Api
from wharf.brain.config import BrainConfig
from wharf.brain.engine import open_engine
from wharf.brain.engine.base import EngineError, SharedEngine
from wharf.brain.errors import Stopped
from wharf.brain.front import Front
from wharf.brain.ha.election import Election
from wharf.brain.ha.link import Link
from wharf.brain.ha.metrics import node_families
from wharf.brain.ha.node import HaNode
from wharf.brain.ha.peer_tls import PeerFiles, PeerTls
from wharf.brain.ha.publish import Publisher
from wharf.brain.ha.router import Router
from wharf.brain.ha.service import ControlServer, ControlService
from wharf.brain.ha.tail import Tail
from wharf.brain.lone import READY, store_on
from wharf.brain.store.store import Store
from wharf.brain.watch.hub import Hub
from wharf.common.lease_redis import RedisLease
from wharf.common.log import get_log
from wharf.common.metrics import Family, Registry
from wharf.common.pb.control import control_pb2 as control
from wharf.wire.rpc import Method

if TYPE_CHECKING:
    from wharf.common.events_nats import EventBus

OPEN_SECONDS: Final = 60.0  # the engine may take so long to come up beside this node
WAIT: Final = 2.0  # lifetimes of a lease that a request waits for somebody to lead
MOST_LAG: Final = 2.0  # lifetimes of a lease a ready node may be behind
STOP_SECONDS: Final = 1.0  # for sessions to end

_log = get_log("brain.node")


class Replicated:
    """See the module; `lone.Mode`."""

    ready = READY

    def __init__(self, config: BrainConfig, store: Store, node: HaNode, router: Router, tls: PeerTls | None) -> None:
        self.store = store
        self.cluster: Cluster = node
        self.node = node
        self._config = config
        self._server = ControlServer()
        self._router = router
        self._tls = tls

    @classmethod
    async def open(cls, config: BrainConfig, registry: Registry, down: AsyncExitStack) -> Replicated:
        """Everything but taking part; EngineError, OSError or ValueError when that cannot be."""
        tls = peer_tls(config)
        engine = await _opened(lambda: cast(SharedEngine, open_engine(config.engine_url, replica_in=config.directory)))
        down.push_async_callback(engine.aclose)
        store = store_on(engine, config, registry)
        member_id = member_id_of(store.read_cluster_id(), config.name)
        member = Member(member_id, config.name, config.client_urls, config.peer_urls)
        store.load(member.member_id)
        down.push_async_callback(store.stop)
        lease = RedisLease(config.redis, f"wharf:brain:{store.cluster_id:x}:lease", config.election_timeout)
        down.push_async_callback(lease.close)
        bus = _event_bus(config, down)
        subject = f"wharf.brain.{store.cluster_id:x}.batches"
        publisher = Publisher(bus, subject, lambda: store.revision)
        engine.on_landed = publisher.landed

        def tail_of(confirm: Callable[[], None], failed: Callable[[str], None]) -> Tail:
            return Tail(engine, store.present, bus, confirm, failed)

        address = config.advertised_peer_urls[0].authority
        election = Election(lease, member.member_id, address, config.election_timeout)
        link = Link(_hello(store, member), None if tls is None else tls.channel, config.peer_server_name)
        node = HaNode(store, engine, election, link, tail_of, publisher, member)
        if bus is not None:
            bus.subscribe(subject, node.event)
            bus.on_change(lambda _: node.events_changed())
            await bus.connect()
        loop = asyncio.get_running_loop()
        patience = WAIT * config.election_timeout / 1000
        router = Router(node, patience, loop.time, loop.call_later, member_id=member.member_id)
        made = cls(config, store, node, router, tls)
        down.push_async_callback(made.close)
        return made

    def methods(self, api: Api) -> Sequence[Method]:
        self._router.identify = api.guard.identify
        return api.route(self._router.routed)

    def admitted(self, methods: Sequence[Method]) -> Sequence[Method]:
        return methods

    async def begin(self, hub: Hub, api: Api, front: Front) -> None:
        """Take part; returns once somebody leads. EngineError when this node cannot."""
        node, router = self.node, self._router
        service = node.service = ControlService(node, api.for_nodes(), self._config.receive_max)
        node.auth_version = lambda: api.auth_version
        first = asyncio.Event()

        def changed() -> None:
            if node.leads() or node.reachable():
                first.set()
                router.changed()

        node.on_change, node.on_leaderless, node.on_term = changed, api.leaderless, api.set_term
        addresses = [url.authority for url in self._config.listen_peer_urls]
        await self._server.start(service, addresses, None if self._tls is None else self._tls.server())
        node.start(hub)
        known = asyncio.create_task(first.wait())
        try:
            await asyncio.wait((known, node.fatal), return_when=asyncio.FIRST_COMPLETED)
        finally:
            known.cancel()
        if node.fatal.done():
            raise EngineError(node.fatal.result())

    async def hand_over(self) -> None:
        await self.node.hand_over()

    async def close(self) -> None:
        self._router.refuse(Stopped())
        await self.node.stop()
        await self._server.stop(STOP_SECONDS)

    def unready(self) -> str:
        node = self.node
        if not node.leader_id:
            return "etcdserver: no leader"
        if not node.certain():
            return "this node has not heard yet how far the leader is"
        limit = MOST_LAG * self._config.election_timeout / 1000
        return f"this node is {node.lag():.1f} s behind the leader" if node.lag() > limit else ""

    async def wait_fatal(self) -> str:
        return await asyncio.shield(self.node.fatal)

    def waiting(self) -> int:
        return len(self._router)

    def families(self) -> Iterable[Family]:
        return node_families(self.node)


async def _opened(make: Callable[[], SharedEngine]) -> SharedEngine:
    """An open engine. One that is still coming up, or that somebody sets right meanwhile, is waited for."""
    loop = asyncio.get_running_loop()
    until, told = loop.time() + OPEN_SECONDS, ""
    while True:
        engine = make()  # one whose opening failed is closed
        try:
            await engine.open()
            return engine
        except EngineError as error:
            if loop.time() > until:
                raise
            if str(error) != told:
                told = str(error)
                _log.warn("the engine cannot be opened yet, trying on", reason=told, for_seconds=OPEN_SECONDS)
        await asyncio.sleep(0.5)


def _event_bus(config: BrainConfig, down: AsyncExitStack) -> EventBus | None:
    if not config.nats:
        return None
    from wharf.common.events_nats import EventBus  # noqa: PLC0415  only who uses NATS loads it

    bus = EventBus(
        config.nats,
        ca_file=config.nats_ca_file,
        cert_file=config.nats_cert_file,
        key_file=config.nats_key_file,
        credentials_file=config.nats_credentials_file,
        name=f"wharf brain {config.name}",
    )
    down.push_async_callback(bus.close)
    return bus


def _hello(store: Store, member: Member) -> control.Hello:
    return control.Hello(
        cluster_id=store.cluster_id,
        member_id=member.member_id,
        name=member.name,
        instance=secrets.token_bytes(16),  # tells two processes of one name apart
        client_urls=member.client_urls,
        peer_urls=member.peer_urls,
    )


def peer_tls(config: BrainConfig) -> PeerTls | None:
    """TLS between nodes; None: the peer URLs are plain. ValueError for files that cannot be used."""
    if config.listen_peer_urls[0].scheme != "https":
        return None
    if config.peer_key_file is None or config.peer_cert_file is None or config.peer_trusted_ca_file is None:
        raise ValueError("https peer URLs need --peer-cert-file, --peer-key-file and --peer-trusted-ca-file")
    return PeerTls(PeerFiles(config.peer_cert_file, config.peer_key_file, config.peer_trusted_ca_file))
