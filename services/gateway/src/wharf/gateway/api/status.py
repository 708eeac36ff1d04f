"""The status of an UpstreamCluster: what each gateway sees, and one summary of it that all would write alike.

Every gateway owns its entry of `status.gateways` by server-side apply under a field manager of its own, so replicas
never overwrite each other. The summary (conditions, counts) follows from the entries alone; the gateway whose name
comes first among those still heard of writes it, and removes the entries of those that fell silent. Nothing is written
while nothing changed but counters; those go with the heartbeat. Pure: what to write is returned, time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from wharf.gateway.api.shapes import GROUP, KIND, VERSION

Json = dict[str, Any]

HEARTBEAT_SECONDS: Final = 60.0  # an entry is written again after this time though nothing changed
SILENT_SECONDS: Final = 210.0  # an entry not written for so long is a gateway that is gone
SERVERS_SHOWN: Final = 512  # of one gateway's entry
SUMMARY_MANAGER: Final = "wharf-gateway"
_MESSAGE_MAX: Final = 2048
_COUNTERS: Final = ("activeRequests", "watches")


@dataclass(frozen=True, slots=True)
class ServerSight:
    """One server as one gateway sees it."""

    name: str
    url: str
    healthy: bool
    zone: str = ""
    reason: str = ""  # why it is, or is not
    since: float = 0.0  # unix seconds of the last change of `healthy`
    active_requests: int = 0
    watches: int = 0


@dataclass(frozen=True, slots=True)
class Sight:
    """One cluster as one gateway sees it."""

    instance: str
    generation: int  # of the object as last read
    servers: tuple[ServerSight, ...] = ()
    accepted: bool = True
    reason: str = "Accepted"  # CamelCase
    problems: tuple[str, ...] = ()  # when not accepted


@dataclass(frozen=True, slots=True)
class Patch:
    """A forced server-side apply to the status subresource."""

    manager: str
    document: Json


def plan_status(stored: Mapping[str, Any], name: str, own: Sight, now: float) -> list[Patch]:
    """What this gateway should write, given the object's present status; often nothing.

    `now` in unix seconds. To be asked at most every few seconds.
    """
    patches: list[Patch] = []
    entries = {entry["instance"]: entry for entry in stored.get("gateways") or ()}
    mine = entry_of(own, now)
    before = entries.get(own.instance)
    if before is None or _significant(before) != _significant(mine) or _age(before, now) >= HEARTBEAT_SECONDS:
        patches.append(_apply(manager_of(own.instance), name, {"gateways": [mine]}))
        entries[own.instance] = mine
    heard = [entry for entry in entries.values() if _age(entry, now) < SILENT_SECONDS]
    if own.instance == min(entry["instance"] for entry in heard):
        summary = summarize(heard, stored.get("conditions") or (), now)
        written = {key: stored.get(key) for key in summary}
        if summary != written and (patches or _significant(summary) != _significant(written)):
            patches.append(_apply(SUMMARY_MANAGER, name, summary))
        others = (entry for entry in stored.get("gateways") or () if entry["instance"] != own.instance)
        patches += _removals(others, name, now)
    return patches


def entry_of(sight: Sight, now: float) -> Json:
    """One gateway's entry of `status.gateways`."""
    entry: Json = {
        "instance": sight.instance,
        "updated": timestamp(now),
        "observedGeneration": sight.generation,
        "accepted": sight.accepted,
        "reason": sight.reason,
        "serversReady": sum(server.healthy for server in sight.servers),
        "serversTotal": len(sight.servers),
        "activeRequests": sum(server.active_requests for server in sight.servers),
        "watches": sum(server.watches for server in sight.servers),
        "servers": [_server(server) for server in _shown(sight.servers)],
    }
    if sight.problems:
        entry["message"] = _short("; ".join(sight.problems))
    return entry


def summarize(entries: Sequence[Mapping[str, Any]], before: Iterable[Mapping[str, Any]], now: float) -> Json:
    """What several gateways see, as one; conditions keep the time of their last change."""
    generation = max((entry.get("observedGeneration", 0) for entry in entries), default=0)
    ready = min((entry.get("serversReady", 0) for entry in entries), default=0)
    total = max((entry.get("serversTotal", 0) for entry in entries), default=0)
    conditions = [_accepted(entries, generation), _ready(entries)]
    known = {condition.get("type"): condition for condition in before}
    for condition in conditions:
        last = known.get(condition["type"], {})
        same = last.get("status") == condition["status"] and "lastTransitionTime" in last
        condition["lastTransitionTime"] = last["lastTransitionTime"] if same else timestamp(now)
        condition["observedGeneration"] = generation
    return {
        "observedGeneration": generation,
        "conditions": conditions,
        "servers": f"{ready}/{total}",
        "activeRequests": sum(entry.get("activeRequests", 0) for entry in entries),
        "watches": sum(entry.get("watches", 0) for entry in entries),
    }


def timestamp(seconds: float) -> str:
    """RFC 3339 with whole seconds, as metav1.Time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _accepted(entries: Sequence[Mapping[str, Any]], generation: int) -> Json:
    newest = [entry for entry in entries if entry.get("observedGeneration", 0) == generation]
    refusing = [entry for entry in newest if not entry.get("accepted", False)]
    if not refusing:
        return {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "served as it stands"}
    first = refusing[0]
    message = first.get("message") or "refused"
    return {"type": "Accepted", "status": "False", "reason": first.get("reason") or "Refused", "message": message}


def _ready(entries: Sequence[Mapping[str, Any]]) -> Json:
    unready = sorted(entry["instance"] for entry in entries if not entry.get("serversReady", 0))
    if not unready:
        return {"type": "Ready", "status": "True", "reason": "ServersReady", "message": "every gateway has a server"}
    reason = "NoServerReady" if len(unready) == len(entries) else "SomeGatewaysUnready"
    message = _short(f"no server ready for {_list(unready)}")
    return {"type": "Ready", "status": "False", "reason": reason, "message": message}


def _shown(servers: Iterable[ServerSight]) -> list[ServerSight]:
    """As many as a status holds, one of each URL; those that are out come first when some must be left out."""
    unlike = list({server.url: server for server in servers}.values())
    return unlike if len(unlike) <= SERVERS_SHOWN else sorted(unlike, key=lambda one: one.healthy)[:SERVERS_SHOWN]


def _server(server: ServerSight) -> Json:
    seen: Json = {"name": server.name, "url": server.url, "healthy": server.healthy}
    if server.zone:
        seen["zone"] = server.zone
    if server.reason:
        seen["reason"] = _short(server.reason)
    if server.since:
        seen["since"] = timestamp(server.since)
    return seen | {"activeRequests": server.active_requests, "watches": server.watches}


def _significant(value: Any) -> Any:
    """Without what changes all the time."""
    if isinstance(value, Mapping):
        skipped = (*_COUNTERS, "updated")
        return {key: _significant(one) for key, one in value.items() if key not in skipped}
    return [_significant(one) for one in value] if isinstance(value, list) else value


def _removals(entries: Iterable[Mapping[str, Any]], name: str, now: float) -> Iterator[Patch]:
    """An apply of nothing in the name of who fell silent takes back all it wrote; if it lives, it writes anew."""
    for entry in entries:
        if _age(entry, now) >= SILENT_SECONDS:
            yield _apply(manager_of(entry["instance"]), name, {})


def manager_of(instance: str) -> str:
    """The field manager of one gateway."""
    return f"{SUMMARY_MANAGER}-{instance}"[:128]


def _apply(manager: str, name: str, status: Json) -> Patch:
    document = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": name}}
    return Patch(manager, document | ({"status": status} if status else {}))


def _age(entry: Mapping[str, Any], now: float) -> float:
    try:
        return now - datetime.fromisoformat(str(entry.get("updated"))).timestamp()
    except ValueError:
        return SILENT_SECONDS


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 5 else f"{', '.join(names[:5])} and {len(names) - 5} more"


def _short(text: str) -> str:
    return text if len(text) <= _MESSAGE_MAX else text[: _MESSAGE_MAX - 1] + "…"
