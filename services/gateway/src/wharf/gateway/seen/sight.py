"""What this process sees of its clusters' servers, for status and heartbeat. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wharf.gateway.api.status import ServerSight, Sight
from wharf.gateway.upstreams.choice import ABLE
from wharf.gateway.upstreams.endpoint import Endpoint

if TYPE_CHECKING:
    from wharf.gateway.cluster.registry import Registry
    from wharf.gateway.sources.base import Refused


def see(instance: str, registry: Registry, now: float, wall: float) -> dict[str, Sight]:
    """By cluster, refused documents included. `now`: loop time; `wall`: the same moment in unix seconds."""
    refused = {one.name: one for one in registry.objects.refused}
    sights = {}
    for name, runtime in registry.runtimes.items():
        servers = tuple(_server(endpoint, now, wall) for endpoint in runtime.members.endpoints)
        told, broken = refused.pop(name, None), registry.broken.get(name)
        if told is not None:
            sights[name] = _not_accepted(instance, told, servers)
        elif broken is not None:
            sights[name] = Sight(instance, runtime.spec.generation, servers, False, "TlsUnusable", (broken,))
        else:
            sights[name] = Sight(instance, runtime.spec.generation, servers)
    for name, one in refused.items():
        sights[name] = _not_accepted(instance, one, ())
    return sights


def _not_accepted(instance: str, one: Refused, servers: tuple[ServerSight, ...]) -> Sight:
    return Sight(instance, one.generation, servers, False, one.reason.value, one.problems)


def _server(endpoint: Endpoint, now: float, wall: float) -> ServerSight:
    since = wall - (now - endpoint.health.since) if endpoint.health.since else wall
    return ServerSight(
        name=endpoint.name,
        url=endpoint.server.url,
        healthy=endpoint.standing(now) in ABLE,
        zone=endpoint.server.zone,
        reason=endpoint.why(now),
        since=since,
        active_requests=endpoint.short.in_flight,
        watches=endpoint.long.in_flight,
    )
