"""A replicated brain: PostgreSQL, Redis, NATS and several nodes, with a fault proxy on every link between them.

    with BrainCluster(folder) as cluster:
        leader = cluster.wait_leader()
        cluster.kill(leader)
        cluster.wait_leader(other_than=leader)

Clients reach nodes directly (`cluster.addresses`); a node reaches Redis, NATS and PostgreSQL by links of its own, and
its followers reach it by the link in front of its control port. `links` has their names.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from wharf.cli.kube.process import Process
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import rpc_pb2_grpc as stubs

from harness.backing import Nats, Postgres, Redis
from harness.daemon import LOOPBACK, Daemon, lasting_port
from harness.faultproxy import FaultProxy
from harness.store import READY_LINE, server_command

PARTS = ("redis", "nats", "engine", "control")
LEASE_MS = 3000
_READY_SECONDS = 60.0
_STOP_SECONDS = 60.0
_STATUS_SECONDS = 2.0
_POLL_SECONDS = 0.02


@dataclass(eq=False)
class BrainNode:
    """One node and its process."""

    name: str
    folder: Path
    client_port: int = field(default_factory=lasting_port)
    control_port: int = field(default_factory=lasting_port)
    metrics_port: int = field(default_factory=lasting_port)
    process: Process = field(init=False)

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"{LOOPBACK}:{self.client_port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def link(self, part: str) -> str:
        """The proxy's name of its link to "redis", "nats" or "engine", or of the one in front of its "control" port."""
        return f"{self.name}.{part}"

    def status(self) -> rpc.StatusResponse | None:
        """What it says of itself, None when it does not answer."""
        with grpc.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            try:
                return stubs.MaintenanceStub(channel).Status(rpc.StatusRequest(), timeout=_STATUS_SECONDS)
            except grpc.RpcError:
                return None

    def leads(self) -> bool:
        """Whether it says that it leads; only its followers can confirm it."""
        status = self.status()
        return status is not None and status.leader == status.header.member_id != 0


class BrainCluster:
    """The whole of it. Used as a context manager it is started and leaves nothing behind."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 3,
        lease_ms: int = LEASE_MS,
        nats: bool = True,
        standby: bool = False,
        flags: Sequence[str] = ("--watch-progress-notify-interval=200ms",),
        program: Sequence[str] = (),
    ) -> None:
        """`program`: the words before a node's flags, instead of `wharf brain`."""
        self.folder = folder
        self.lease_seconds = lease_ms / 1000
        self.proxy = FaultProxy()
        self.postgres = Postgres()
        self.redis = Redis(folder / "redis")
        self.nats = Nats(folder / "nats") if nats else None
        self.standby: Postgres | None = None
        self.nodes = [BrainNode(f"n{number}", folder / f"n{number}") for number in range(nodes)]
        self._flags = [f"--election-timeout={lease_ms}", *flags]
        self._program = program or server_command("brain")
        self._wants_standby = standby

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.nodes]

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    @property
    def links(self) -> list[str]:
        parts = PARTS if self.nats else tuple(part for part in PARTS if part != "nats")
        engines = ("engine", "standby") if self.standby else ("engine",)
        names = [name for part in parts for name in (engines if part == "engine" else (part,))]
        return [node.link(name) for node, name in itertools.product(self.nodes, names)]

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Everything, until each node serves."""
        try:
            self.proxy.start()
            self._start_backing()
            for node in self.nodes:
                node.process = Process(node.name, self._command(node), node.folder / "brain.log")
            self.together(self.start_node)
        except BaseException:
            self.close()
            raise
        return self

    def _start_backing(self) -> None:
        servers: list[Daemon] = [self.postgres, self.redis, *([self.nats] if self.nats else [])]
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(lambda server: server.start(), servers))
        if self._wants_standby:
            self.standby = self.postgres.standby().start()

    def _command(self, node: BrainNode) -> list[str]:
        """A node's words: what it reaches goes by its links."""
        add, control = self.proxy.add, self.proxy.add(node.link("control"), node.control_port)
        engine_ports = [add(node.link("engine"), self.postgres.port)]
        if self.standby:
            engine_ports.append(add(node.link("standby"), self.standby.port))
            engine = self.postgres.url_with(self.standby, ports=engine_ports)
        else:
            engine = self.postgres.url_at(engine_ports[0])
        words = [*self._program, f"--name={node.name}", f"--engine={engine}"]
        words += [f"--data-dir={node.folder / 'data'}"]
        words += [f"--redis={self.redis.url_at(add(node.link('redis'), self.redis.port))}"]
        if self.nats:
            words += [f"--nats={self.nats.url_at(add(node.link('nats'), self.nats.port))}"]
        words += [f"--listen-client-urls={node.url}", f"--advertise-client-urls={node.url}"]
        words += [f"--listen-peer-urls=http://{LOOPBACK}:{node.control_port}"]
        words += [f"--initial-advertise-peer-urls=http://{LOOPBACK}:{control}"]
        words += [f"--listen-metrics-urls=http://{LOOPBACK}:{node.metrics_port}"]
        return [*words, *self._flags]

    def start_node(self, node: BrainNode) -> None:
        """Start a node (again), until it serves."""
        node.process.start()
        node.process.wait_logged(READY_LINE, _READY_SECONDS)

    def stop_node(self, node: BrainNode) -> int | None:
        """SIGTERM: it hands over and drains. The exit code."""
        return node.process.stop(_STOP_SECONDS)

    def kill(self, node: BrainNode) -> None:
        node.process.kill()

    def freeze(self, node: BrainNode) -> None:
        """SIGSTOP: nothing is closed, nothing answers."""
        node.process.send_signal(signal.SIGSTOP)

    def thaw(self, node: BrainNode) -> None:
        node.process.send_signal(signal.SIGCONT)

    def repair(self) -> None:
        """Whatever a test has left broken: all links whole, all servers and nodes running, one of them leading."""
        self.heal()
        for server in (self.postgres, self.redis, self.nats):
            if server is not None and not server.running:
                server.start()
        for node in self.nodes:
            if node.process.running:
                self.thaw(node)
            else:
                self.start_node(node)
        self.wait_leader()

    def close(self) -> None:
        """End everything at once."""
        for node in self.nodes:
            if hasattr(node, "process"):
                node.process.kill()
        for server in (self.standby, self.postgres, self.redis, self.nats):
            if server is not None:
                server.close()
        self.proxy.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- who leads, and what divides them -----------------------------------------------------------------------------

    def wait_leader(
        self, *, other_than: BrainNode | None = None, among: Sequence[BrainNode] = (), timeout: float = 60.0
    ) -> BrainNode:
        """The node of `among` (all) that leads as soon as one does."""
        deadline = time.monotonic() + timeout
        while True:
            for node in among or self.nodes:
                if node is not other_than and node.process.running and node.leads():
                    return node
            if time.monotonic() > deadline:
                raise AssertionError(f"nobody leads after {timeout} s\n{self.logs()}")
            time.sleep(_POLL_SECONDS)

    def others(self, node: BrainNode) -> list[BrainNode]:
        return [one for one in self.nodes if one is not node]

    def partition(self, node: BrainNode, *parts: str, way: str = "both") -> None:
        """Let nothing pass between a node and its "redis", "nats" or "engine", or its followers ("control")."""
        for part in parts:
            for link in self.links_of(node, part):
                self.proxy.pause(link, way)

    def heal(self) -> None:
        """Undo what the proxy does to any link."""
        for link in self.links:
            self.proxy.heal(link)

    def links_of(self, node: BrainNode, part: str) -> list[str]:
        """The proxy's names of a node's links to one part."""
        names = ["engine", "standby"] if part == "engine" and self.standby else [part]
        return [node.link(name) for name in names]

    def together(self, do: Callable[[BrainNode], object]) -> None:
        """Do something to all nodes at once."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(do, self.nodes))

    def logs(self) -> str:
        """The ends of all logs, for people."""
        started = [node for node in self.nodes if hasattr(node, "process") and node.process.log.exists()]
        return "\n".join(f"==== {node.name} ({node.process.log})\n{node.process.tail()}" for node in started)
