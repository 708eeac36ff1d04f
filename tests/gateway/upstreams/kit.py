"""Clusters, servers and requests for tests of the bookkeeping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.api.shapes import Server, UpstreamCluster
from wharf.gateway.upstreams.endpoint import Endpoint
from wharf.gateway.upstreams.health import ProbeResult
from wharf.gateway.upstreams.members import Members

UP = ProbeResult(True)
DOWN = ProbeResult(False, "500 etcd failed")


def server(name: str, weight: int = 1, zone: str = "", disabled: bool = False, host: str = "") -> Server:
    host = host or f"{name}.example.org"
    return Server(name, f"https://{host}:6443", host, 6443, True, weight, zone, disabled)


def cluster(*servers: Server | str, **fields: Any) -> UpstreamCluster:
    made = tuple(server(one) if isinstance(one, str) else one for one in servers)
    return UpstreamCluster("c", servers=made, **fields)


def members_of(members: Members) -> dict[str, Endpoint]:
    return {endpoint.name: endpoint for endpoint in members.endpoints}


def all_up(members: Members, now: float = 0.0) -> Members:
    for endpoint in members.endpoints:
        members.probed(endpoint, UP, now)
    return members


def names(endpoints: Iterable[Endpoint]) -> list[str]:
    return [endpoint.name for endpoint in endpoints]


def asks(verb: str = "get", what: str = "pods", group: str = "") -> RequestInfo:
    resource, _, subresource = what.partition("/")
    return RequestInfo(True, "/x", verb, "api", group, "v1", "ns", resource, subresource)
