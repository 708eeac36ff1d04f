"""The servers that proofs compare: brain, etcd 3.6 from source, Debian's etcd 3.4. Same flags, same readiness line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.store import Store
from wharf.cli.kube.process import Process

DEBIAN_ETCD = Path("/usr/bin/etcd")
DEBIAN_ETCDCTL = Path("/usr/bin/etcdctl")
TARGETS = ("brain", "etcd-3.6", "etcd-3.4")


def start(target: str, folder: Path, *, tls: bool = False, flags: Sequence[str] = ()) -> Store:
    """A served store on a fresh directory under `folder`."""
    if target == "brain":
        return Store(folder, name="brain", tls=tls, flags=flags).start()
    store = Store(folder, name="etcd", tls=tls, flags=flags)
    if target == "etcd-3.4":
        store.process = Process(target, [DEBIAN_ETCD, *store.process.argv[1:]], store.process.log)
    return store.start()
