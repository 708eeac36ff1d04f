"""What is worked out only when somebody asks: connections, servers, limits, clusters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from wharf.common.metrics import Family, Kind, Sample
from wharf.gateway.upstreams.choice import ABLE

if TYPE_CHECKING:
    from wharf.gateway.cluster.pools import Pools
    from wharf.gateway.cluster.registry import Registry
    from wharf.gateway.cluster.runtime import ClusterRuntime
    from wharf.gateway.seen.access_log import AccessLog
    from wharf.wire.web_server import WebServer


class _Table:
    """Families under construction, in order of their names' first use."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, Kind, list[Sample]]] = {}

    def add(self, name: str, help_: str, kind: Kind, value: float, **labels: str) -> None:
        samples = self._families.setdefault(f"wharf_gateway_{name}", (help_, kind, []))[2]
        samples.append(Sample(tuple(labels.items()), value))

    def families(self) -> Iterator[Family]:
        for name, (help_, kind, samples) in self._families.items():
            yield Family(name, help_, kind, tuple(samples))


def process_families(registry: Registry, server: WebServer, access_log: AccessLog, active: int) -> Iterable[Family]:
    """All of one process. `active`: requests under way."""
    table = _Table()
    _listener(table, server)
    table.add("requests_active", "Requests under way.", "gauge", active)
    table.add("access_log_failed_total", "Lines that could not be written.", "counter", access_log.failed)
    for name, runtime in registry.runtimes.items():
        _cluster(table, name, runtime)
        _long_running(table, name, runtime)
        _servers(table, name, runtime)
        _limits(table, name, runtime)
    refused = registry.objects.refused
    table.add("refused_documents", "Documents that are not served as they stand.", "gauge", len(refused))
    return table.families()


def _listener(table: _Table, server: WebServer) -> None:
    counters = server.counters
    received, sent = server.traffic()
    table.add("client_connections", "Open client connections.", "gauge", counters.connections_open)
    table.add("client_connections_total", "Accepted.", "counter", counters.connections_accepted)
    table.add("client_connections_refused_total", "Beyond the limit.", "counter", counters.connections_refused)
    table.add("client_handshakes_failed_total", "TLS.", "counter", counters.handshakes_failed)
    table.add("client_protocol_errors_total", "Connections that broke HTTP.", "counter", counters.protocol_errors)
    text = "TLS where there is none."
    table.add("client_wrong_protocol_total", text, "counter", counters.wrong_protocol)
    table.add("client_abuse_total", "Connections ended by a limit of the protocol.", "counter", counters.abuse)
    table.add("client_bytes_total", "On the wire, by direction.", "counter", received, direction="in")
    table.add("client_bytes_total", "On the wire, by direction.", "counter", sent, direction="out")


def _cluster(table: _Table, name: str, runtime: ClusterRuntime) -> None:
    table.add("body_bytes_total", "Bytes of bodies.", "counter", runtime.bytes_in, cluster=name, direction="in")
    table.add("body_bytes_total", "Bytes of bodies.", "counter", runtime.bytes_out, cluster=name, direction="out")


def _servers(table: _Table, name: str, runtime: ClusterRuntime) -> None:
    now = runtime.now()
    for endpoint in (*runtime.members.endpoints, *runtime.members.leaving):
        labels = {"cluster": name, "server": endpoint.name}
        fit = endpoint.standing(now) in ABLE
        table.add("server_ready", "1: it takes requests.", "gauge", float(fit), **labels)
        table.add("server_requests_active", "Short ones.", "gauge", endpoint.short.in_flight, **labels)
        table.add("server_streams_active", "Watches and streams.", "gauge", endpoint.long.in_flight, **labels)
        if endpoint.pools is not None:
            _connections(table, endpoint.pools, labels)


def _connections(table: _Table, pools: Pools, of: dict[str, str]) -> None:
    """`use`: connections for short requests (probes and reviews too), or for long-running ones."""
    for long_running, use in ((False, "short"), (True, "long_running")):
        stats, labels = [pool.stats for pool in pools.made(long_running=long_running)], of | {"use": use}
        table.add("server_connections", "Open ones.", "gauge", sum(one.connections for one in stats), **labels)
        waiting, text = sum(one.waiting for one in stats), "Requests that wait for a connection."
        table.add("server_requests_waiting", text, "gauge", waiting, **labels)
        table.add("server_dials_total", "Connections begun.", "counter", sum(one.dials for one in stats), **labels)
        failed = sum(one.dial_failures for one in stats)
        table.add("server_dials_failed_total", "Connections not had.", "counter", failed, **labels)


def _long_running(table: _Table, name: str, runtime: ClusterRuntime) -> None:
    counts, by_user = runtime.long_running, runtime.long_running.by_user
    table.add("long_running_users", "Users with open long-running requests.", "gauge", by_user.users, cluster=name)
    text = "Open long-running requests of the user that has most."
    table.add("long_running_user_most", text, "gauge", by_user.most, cluster=name)
    text = "Long-running requests refused because their user, or their client connection, has too many."
    for bound, number in counts.refused.items():
        table.add("long_running_refused_total", text, "counter", number, cluster=name, bound=bound.value)
    text = "Upgrades with credentials that no server has accepted yet, and that wait for a permit."
    table.add("upgrades_waiting", text, "gauge", runtime.upgrade_permits.waiting, cluster=name)


def _limits(table: _Table, name: str, runtime: ClusterRuntime) -> None:
    for counts in runtime.limiter.counts():
        labels = {"cluster": name, "schema": counts.name}
        table.add("limit_admitted_total", "Requests a schema admitted.", "counter", counts.admitted, **labels)
        table.add("limit_in_flight", "Requests that hold a place.", "gauge", counts.in_flight, **labels)
        table.add("limit_watches", "Long-running ones.", "gauge", counts.watches, **labels)
        table.add("limit_queued", "Requests that wait.", "gauge", counts.queued, **labels)
        table.add("limit_keys", "Buckets kept.", "gauge", counts.keys, **labels)
        for cause, number in counts.refused:
            text = "Requests a schema refused."
            table.add("limit_refused_total", text, "counter", number, **labels, cause=cause.value)
