"""What the tests run against: brain, a control plane and a node with pods, with a gateway in front or without.

The apiserver reaches pods and services as it would in a cluster (webhooks need that): it runs outside the node's
namespaces, so both ranges are routed into them. Invariant: everything started here is ended on leaving.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.cluster import Cluster
from harness.gateway import Gateway, apiserver_options, upstream_cluster
from harness.node import NAME, POD_CIDR, Node
from harness.sandbox import Sandbox, run
from wharf.cli.kube.argv import SERVICE_CIDR
from wharf.cli.kube.controlplane import ControlPlaneOptions
from wharf.cli.kube.process import Process

CLUSTER = "conformance.test"
_ADDRESS = "127.0.0.1"
_READY = "--timeout=120s"


@dataclass(frozen=True, slots=True)
class World:
    """A running cluster; `kubeconfig` is the way to it that is under test."""

    node: Node
    dns: Process
    gateway: Gateway | None
    kubeconfig: Path

    @property
    def kubectl(self) -> Path:
        """The program, which tests start too."""
        return self.node.cluster.kubectl.binary

    def keep_logs(self, folder: Path) -> None:
        """Whole logs of everything, for people."""
        folder.mkdir(parents=True, exist_ok=True)
        cluster = self.node.cluster
        processes = [cluster.store.process, *cluster.plane.processes, *self.node.processes, self.dns]
        logs = [one.log for one in processes]
        if self.gateway is not None:
            logs += [self.gateway.process.log, self.gateway.access_log]
        for log in logs:
            if log.exists():
                shutil.copy(log, folder / log.name)


def name_server(sandbox: Sandbox, coredns: Path, kubeconfig: Path) -> Process:
    """CoreDNS on the node's address, for the names of services; not started yet."""
    corefile = sandbox.folder / "Corefile"
    service_names = f"kubernetes cluster.local {{\n kubeconfig {kubeconfig}\n ttl 5\n}}"
    corefile.write_text(f".:53 {{\nbind {sandbox.inside}\nerrors\n{service_names}\n}}\n")
    return sandbox.process("coredns", [coredns, "-conf", corefile])


@contextmanager
def world(folder: Path, coredns: Path, *, through: bool) -> Iterator[World]:
    """Everything in `folder`, whose path must be short: sockets are in it."""
    with ExitStack() as down:
        sandbox = Sandbox(folder / "node").start()
        down.callback(sandbox.stop)
        for addresses in (POD_CIDR, SERVICE_CIDR):
            run("ip", "route", "add", addresses, "via", sandbox.inside)
        # Compacted often: a test waits until an old state is gone.
        server = apiserver_options(sandbox.outside, advertise_address=sandbox.outside, compaction_interval="1m")
        cluster = Cluster.create(folder, ControlPlaneOptions((server,)))
        cluster.start()
        down.callback(cluster.stop)
        role = ("--clusterrole=system:node-proxier", "--user=system:kube-proxy")
        cluster.kubectl("create", "clusterrolebinding", "kube-proxy", *role)
        dns = name_server(sandbox, coredns, cluster.plane.kubeconfig)
        down.callback(dns.stop)
        dns.start().wait_logged("CoreDNS-", 60)
        node = Node(sandbox, cluster, dns=True)
        down.callback(node.stop)
        node.start()
        cluster.kubectl("wait", "--for=create", f"node/{NAME}", _READY)
        cluster.kubectl("wait", "--for=condition=Ready", f"node/{NAME}", _READY)
        if not through:
            yield World(node, dns, None, cluster.plane.kubeconfig)
            return
        gateway = Gateway(folder / "gateway", {CLUSTER: _ADDRESS})
        gateway.put(upstream_cluster(CLUSTER, cluster.plane, _ADDRESS, logging={"access": True}))
        down.callback(gateway.close)
        gateway.start()
        yield World(node, dns, gateway, gateway.kubeconfig(CLUSTER, cluster.plane))
