"""The embedded system's table of parts, with certificates and ports filled in.

This is where another part is added: one function that makes a `Part`, one line in `build`. Everything listens on the
loopback address only; every connection between parts is TLS with certificates on both sides.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.plan import Health, Part, Port
from wharf.cli.embedded.ports import LOOPBACK, free_port
from wharf.cli.kube import argv, credentials
from wharf.cli.kube.argv import ApiserverOptions, EtcdAccess
from wharf.cli.kube.pki import Authority

BINARIES: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
BRAIN: Final = "brain"
APISERVER: Final = "kube-apiserver"
CONTROLLERS: Final = "kube-controller-manager"
SCHEDULER: Final = "kube-scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the parts listen; 0 is any free port."""

    apiserver: int = 16443
    brain: int = 2379
    brain_health: int = 2381
    controller_manager: int = 10257
    scheduler: int = 10259

    def chosen(self) -> Ports:
        """The same with every 0 replaced."""
        return replace(self, **{one.name: free_port() for one in fields(self) if getattr(self, one.name) == 0})

    def table(self) -> list[Port]:
        return [
            Port(part=APISERVER, number=self.apiserver, flag="--port"),
            Port(part=BRAIN, number=self.brain, flag="--brain-port"),
            Port(part=BRAIN, number=self.brain_health, flag="--brain-health-port"),
            Port(part=CONTROLLERS, number=self.controller_manager, flag="--controller-manager-port"),
            Port(part=SCHEDULER, number=self.scheduler, flag="--scheduler-port"),
        ]


@dataclass(frozen=True, slots=True)
class Binary:
    path: Path
    version: str


def build(layout: Layout, ports: Ports, binaries: Mapping[str, Binary]) -> list[Part]:
    """The parts, their certificates and kubeconfigs made where they are missing."""
    pki = layout.pki / "kube"
    server = f"https://{LOOPBACK}:{ports.apiserver}"
    files = credentials.prepare(pki)
    credentials.kubeconfig(pki, layout.kubeconfig, server, credentials.ADMIN)
    brain, store = _brain(layout, ports)
    options = ApiserverOptions(port=ports.apiserver)
    one = binaries[APISERVER]
    apiserver = Part(
        name=APISERVER,
        argv=tuple(argv.apiserver(one.path, options, store, files)),
        health=Health(f"{server}/readyz", files.ca.cert, files.admin.cert, files.admin.key),
        endpoint=server,
        version=one.version,
        after=(BRAIN,),
        stop_within=30.0,
    )
    rest = []
    for name, identity, line, port in (
        (CONTROLLERS, credentials.CONTROLLER_MANAGER, argv.controller_manager, ports.controller_manager),
        (SCHEDULER, credentials.SCHEDULER, argv.scheduler, ports.scheduler),
    ):
        config = credentials.kubeconfig(pki, pki / f"{identity.name}.kubeconfig", server, identity)
        endpoint = f"https://{LOOPBACK}:{port}"
        rest.append(
            Part(
                name=name,
                argv=tuple(line(binaries[name].path, port, config, files)),
                health=Health(f"{endpoint}/healthz", files.ca.cert),
                endpoint=endpoint,
                version=binaries[name].version,
                after=(APISERVER,),
            )
        )
    return [brain, apiserver, *rest]


def _brain(layout: Layout, ports: Ports) -> tuple[Part, EtcdAccess]:
    """brain with an authority of its own: nothing but the apiserver holds a certificate it accepts."""
    authority = Authority(layout.pki / "brain")
    server = authority.server("server", ("localhost", LOOPBACK))
    client = authority.client("kube-apiserver", "kube-apiserver")
    endpoint, health = f"https://{LOOPBACK}:{ports.brain}", f"http://{LOOPBACK}:{ports.brain_health}"
    words = (
        *(sys.executable, "-m", "wharf.brain"),
        "--name=brain",
        f"--data-dir={layout.data / BRAIN}",
        f"--listen-client-urls={endpoint}",
        f"--listen-metrics-urls={health}",
        f"--cert-file={server.cert}",
        f"--key-file={server.key}",
        f"--trusted-ca-file={authority.cert}",
        "--client-cert-auth",
    )
    part = Part(
        name=BRAIN,
        argv=words,
        health=Health(f"{health}/readyz"),
        endpoint=endpoint,
        version=own_version("wharf-brain"),
        ready_within=30.0,
    )
    return part, EtcdAccess((endpoint,), authority.cert, client)


def own_version(distribution: str = "wharf") -> str:
    """The version of one of wharf's packages; a checkout that was never installed says so."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "source"
