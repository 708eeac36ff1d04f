"""The embedded system's table of parts, with certificates and ports filled in.

This is where another part is added: one function that makes a `Part`, one line in `build`. Everything listens on the
loopback address only; every connection between parts is TLS with certificates on both sides.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wharf.cli.embedded.gateway import DIRECT, gateway
from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.plan import Health, Part
from wharf.cli.embedded.ports import APISERVER, BRAIN, CONTROLLERS, LOOPBACK, SCHEDULER, Ports
from wharf.cli.kube import argv, credentials
from wharf.cli.kube.argv import ApiserverOptions, EtcdAccess
from wharf.cli.kube.pki import Authority
from wharf.cli.version import own_version

BINARIES: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")


@dataclass(frozen=True, slots=True)
class Binary:
    path: Path
    version: str


def build(layout: Layout, ports: Ports, binaries: Mapping[str, Binary]) -> list[Part]:
    """The parts, their certificates and kubeconfigs made where they are missing."""
    pki = layout.pki / "kube"
    server = f"https://{LOOPBACK}:{ports.apiserver}"
    files = credentials.prepare(pki)
    front = gateway(layout, ports, server, files)
    credentials.kubeconfig(pki, layout.kubeconfig, front.endpoint, credentials.ADMIN, {DIRECT: server})
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
    rest = []  # they go to kube-apiserver itself: what keeps the cluster alive does not hang on the gateway
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
    return [brain, apiserver, front, *rest]


def _brain(layout: Layout, ports: Ports) -> tuple[Part, EtcdAccess]:
    """brain with an authority of its own: nothing but the apiserver holds a certificate it accepts."""
    authority = Authority(layout.pki / "brain")
    server = authority.server("server", ("localhost", LOOPBACK))
    client = authority.client("kube-apiserver", "kube-apiserver")
    endpoint, health = f"https://{LOOPBACK}:{ports.brain}", f"http://{LOOPBACK}:{ports.brain_health}"
    words = (
        *(sys.executable, "-P", "-m", "wharf.brain"),  # -P: no module from a working directory
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
