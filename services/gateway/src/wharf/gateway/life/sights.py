"""What a process sees of each cluster, as it goes to its parent, to the objects' status and into the heartbeat. Pure.

Workers see the same servers each for itself; one instance tells one view: a server is healthy when every worker finds
it so, requests are added up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from wharf.gateway.api.status import ServerSight, Sight

Sights = dict[str, Sight]  # by cluster


class BadSights(ValueError):
    """Bytes that tell nothing of clusters."""


def encode_sights(sights: Mapping[str, Sight]) -> bytes:
    return json.dumps({name: asdict(sight) for name, sight in sights.items()}, separators=(",", ":")).encode()


def parse_sights(body: bytes) -> Sights:
    """BadSights when it is none."""
    try:
        return {str(name): _sight(told) for name, told in json.loads(body).items()}
    except (TypeError, KeyError, ValueError, AttributeError, RecursionError) as error:
        raise BadSights(f"not a view of clusters: {error}") from error


def merge_sights(views: Iterable[Mapping[str, Sight]]) -> Sights:
    """One view of several processes of an instance."""
    merged: Sights = {}
    for view in views:
        for name, sight in view.items():
            merged[name] = _merge(merged[name], sight) if name in merged else sight
    return merged


def details(sights: Mapping[str, Sight]) -> dict[str, Any]:
    """The heartbeat's part."""
    return {"clusters": [{"name": name, **asdict(sight)} for name, sight in sorted(sights.items())]}


def _sight(told: Mapping[str, Any]) -> Sight:
    servers = tuple(ServerSight(**server) for server in told["servers"])
    return Sight(**{**told, "servers": servers, "problems": tuple(told["problems"])})


def _merge(one: Sight, other: Sight) -> Sight:
    newer, older = (one, other) if one.generation >= other.generation else (other, one)
    by_name = {server.name: server for server in older.servers}
    servers = tuple(
        _merge_server(server, by_name[server.name]) if server.name in by_name else server for server in newer.servers
    )
    return Sight(newer.instance, newer.generation, servers, newer.accepted, newer.reason, newer.problems)


def _merge_server(one: ServerSight, other: ServerSight) -> ServerSight:
    worse = one if not one.healthy or other.healthy else other
    return ServerSight(
        name=one.name,
        url=one.url,
        healthy=one.healthy and other.healthy,
        zone=one.zone,
        reason=worse.reason,
        since=worse.since,
        active_requests=one.active_requests + other.active_requests,
        watches=one.watches + other.watches,
    )
