"""What the handlers of one brain node share: who it is, its limits, its store and the hub that feeds watches.

Handlers get this one object; everything in it is fixed once the node serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wharf.brain.api.encode import Encoder
from wharf.brain.api.members import Cluster
from wharf.brain.api.tasks import Tasks
from wharf.brain.store.store import Store
from wharf.brain.watch.hub import Hub

SERVER_VERSION: Final = "3.7.1"
"""The etcd release whose API this is. From 3.5.13 on kube-apiserver trusts progress requests, so it serves consistent
and streaming lists from its cache; from 3.7 on it may stream ranges."""

CLUSTER_VERSION: Final = "3.7.0"


@dataclass(frozen=True, slots=True)
class ApiLimits:
    max_request_bytes: int  # writes beyond are refused
    max_txn_ops: int
    quota_bytes: int  # what Status reports; the store enforces it
    auth_token_ttl: float = 300.0  # seconds a token counts without being used


@dataclass(frozen=True, slots=True)
class Node:
    limits: ApiLimits
    store: Store
    hub: Hub
    encoder: Encoder
    tasks: Tasks
    cluster: Cluster
    spool: Path | None = None  # where copies of the store may be written for a while; None: the temporary directory
