"""Certificates and kubeconfigs of the compose file, into one folder; what is there and valid is kept.

The store has an authority of its own: whoever can sign for the apiserver cannot read the store.
"""

from __future__ import annotations

import sys
from pathlib import Path

from wharf.cli.kube.credentials import ADMIN, CONTROLLER_MANAGER, SCHEDULER, kubeconfig, prepare
from wharf.cli.kube.pki import Authority

INSIDE = "https://kube-apiserver:6443"
OUTSIDE = "https://127.0.0.1:16443"


def main(folder: Path) -> None:
    """Make everything the services of docker-compose.yml read."""
    store = Authority(folder / "store", "store-ca")
    store.server("brain", ("brain", "localhost", "127.0.0.1"))
    store.client("apiserver", "kube-apiserver")
    kube = folder / "kube"
    prepare(kube, ("kube-apiserver",))
    for identity in (CONTROLLER_MANAGER, SCHEDULER, ADMIN):
        kubeconfig(kube, folder / f"{identity.name}.kubeconfig", INSIDE, identity)
    kubeconfig(kube, folder / "kubeconfig", OUTSIDE, ADMIN)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
