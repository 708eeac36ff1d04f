"""Kubeconfig files: one user of one cluster, everything inline so that the file can be carried away.

Where there are several ways to the cluster, each is a context; the first is the current one.

Invariant: `render` is pure; `write` makes the file readable by its owner only, since it holds a key.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from wharf.cli.kube.pki import KeyPair
from wharf.common.private_files import create_private


@dataclass(frozen=True, slots=True)
class Access:
    """Where an apiserver is and who one is there."""

    server: str  # "https://127.0.0.1:16443"
    ca: bytes
    cert: bytes
    key: bytes
    user: str
    others: Mapping[str, str] = field(default_factory=dict)  # further servers that lead to the same cluster, by name


def access(server: str, ca: Path, pair: KeyPair, user: str, others: Mapping[str, str] | None = None) -> Access:
    """An `Access` from files."""
    return Access(server, ca.read_bytes(), pair.cert.read_bytes(), pair.key.read_bytes(), user, others or {})


def render(one: Access, *, cluster: str = "wharf") -> str:
    """The text of a kubeconfig."""
    authority = _inline(one.ca)
    servers = {cluster: one.server, **one.others}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": name, "cluster": {"server": server, "certificate-authority-data": authority}}
                for name, server in servers.items()
            ],
            "users": [
                {
                    "name": one.user,
                    "user": {"client-certificate-data": _inline(one.cert), "client-key-data": _inline(one.key)},
                }
            ],
            "contexts": [
                {"name": f"{one.user}@{name}", "context": {"cluster": name, "user": one.user}} for name in servers
            ],
            "current-context": f"{one.user}@{cluster}",
        },
        sort_keys=False,
    )


def write(path: Path, one: Access, *, cluster: str = "wharf") -> Path:
    """Write a kubeconfig, mode 0600, in one step: a reader sees the old file or the new one."""
    scratch = path.with_name(f".{path.name}.new")
    with create_private(scratch, replace=True) as file:
        file.write(render(one, cluster=cluster).encode())
    scratch.replace(path)
    return path


def _inline(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
