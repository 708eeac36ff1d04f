"""brain's metrics under etcd's names, so that dashboards and alerts written for etcd read them.

Nothing is counted here: counts are kept where things happen and read on scrape. Labels are bounded by the method
table, the status codes and the health checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from wharf.brain.api.members import Cluster
from wharf.brain.api.node import CLUSTER_VERSION, SERVER_VERSION
from wharf.brain.json_gateway.counts import CallCounts
from wharf.brain.store.store import Store
from wharf.brain.watch.hub import Hub
from wharf.common.metrics import Family, Histogram, Kind, Labelled, Registry, Sample, open_files, process_collector
from wharf.wire.rpc import Call, Code
from wharf.wire.server import GrpcServer

if TYPE_CHECKING:
    from wharf.brain.store._codec import EventTuple

HANDLING_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # Prometheus' default
_CODE_NAMES: Final = {code: "".join(word.capitalize() for word in code.name.split("_")) for code in Code} | {
    Code.OK: "OK",
    Code.CANCELLED: "Canceled",
}
_SERVER_STREAMS: Final = frozenset(
    (
        "/etcdserverpb.KV/RangeStream",
        "/etcdserverpb.Maintenance/Snapshot",
        "/v3electionpb.Election/Observe",
        "/grpc.health.v1.Health/Watch",
    )
)
_BIDI_STREAMS: Final = frozenset(
    (
        "/etcdserverpb.Watch/Watch",
        "/etcdserverpb.Lease/LeaseKeepAlive",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    )
)
_PROPOSING: Final = (  # what etcd's raft has to agree on
    *(f"/etcdserverpb.KV/{name}" for name in ("Put", "DeleteRange", "Txn", "Compact")),
    *(f"/etcdserverpb.Lease/{name}" for name in ("LeaseGrant", "LeaseRevoke")),
)
NO_JSON: Final[Mapping[str, CallCounts]] = {}
_NOT_AGREED: Final = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


class HealthMetrics:
    """Outcomes of health checks."""

    def __init__(self, registry: Registry) -> None:
        self._success = registry.counter("etcd_server_health_success", "The total number of successful health checks")
        self._failures = registry.counter("etcd_server_health_failures", "The total number of failed health checks")
        self._state = registry.gauges(
            "etcd_server_healthcheck", "The result of each kind of healthcheck.", ("type", "name")
        )
        self._total = registry.counters(
            "etcd_server_healthchecks_total",
            "The total number of each kind of healthcheck.",
            ("type", "name", "status"),
        )

    def count(self, kind: str, name: str, healthy: bool) -> None:
        if kind == "health":
            (self._success if healthy else self._failures).value += 1
            return
        self._state.child(kind, name).value = healthy
        self._total.child(kind, name, "success" if healthy else "error").value += 1


class EventMetrics:
    """Changes as they are published; give `count` to the store."""

    def __init__(self, registry: Registry) -> None:
        self._puts = registry.counter("etcd_mvcc_put_total", "Total number of puts seen by this member.")
        self._deletes = registry.counter("etcd_mvcc_delete_total", "Total number of deletes seen by this member.")

    def count(self, events: Sequence[EventTuple], _: int) -> None:
        deletes = sum(event[1] for event in events)  # kinds: 0 put, 1 delete
        self._puts.value += len(events) - deletes
        self._deletes.value += deletes


class HandlingTimes:
    """How long calls take, per method; for `--metrics=extensive`, because it costs every call a microsecond."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started: dict[Call, float] = {}
        self._times: Labelled[Histogram] = Labelled(
            ("grpc_method", "grpc_service", "grpc_type"), lambda: Histogram(HANDLING_BOUNDS), 128
        )

    def on_start(self, call: Call) -> None:
        self._started[call] = self._clock()

    def on_end(self, call: Call, _code: int) -> None:
        started = self._started.pop(call, None)
        if started is not None:
            service, _, method = call.path[1:].partition("/")
            self._times.child(method, service, grpc_type(call.path)).observe(self._clock() - started)

    def families(self) -> Iterator[Family]:
        yield Family(
            "grpc_server_handling_seconds",
            "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
            "histogram",
            tuple(self._times.samples()),
        )


def grpc_type(path: str) -> str:
    """The kind of a served method, as grpc-go's metrics name it."""
    return "server_stream" if path in _SERVER_STREAMS else "bidi_stream" if path in _BIDI_STREAMS else "unary"


def one(name: str, text: str, kind: Kind, value: float, **labels: str) -> Family:
    """A family of one sample."""
    return Family(name, text, kind, (Sample(tuple(labels.items()), value),))


def server_families(store: Store, cluster: Cluster, waiting: int = 0) -> Iterator[Family]:
    """Who this is, and who leads. `waiting`: calls that wait for a leader."""
    member = f"{store.member_id:x}"
    led, leads = cluster.leader_id != 0, cluster.leader_id == store.member_id
    yield one("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.", "gauge", led)
    yield one("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.", "gauge", leads)
    yield one("etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.", "gauge", 0)
    changes = cluster.leader_changes
    yield one("etcd_server_leader_changes_seen_total", "The number of leader changes seen.", "counter", changes)
    yield one(
        "etcd_server_version",
        "Which version is running. 1 for 'server_version' label with current version.",
        "gauge",
        1,
        server_version=SERVER_VERSION,
    )
    yield one(
        "etcd_cluster_version",
        "Which version is running. 1 for 'cluster_version' label with current cluster version",
        "gauge",
        1,
        cluster_version=CLUSTER_VERSION.rpartition(".")[0],
    )
    yield one(
        "etcd_server_id",
        "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
        "gauge",
        1,
        server_id=member,
    )
    yield from _proposal_families(store, waiting)
    for alarm in store.raised_alarms():
        of = f"{alarm.member_id:x}"
        yield one("etcd_debugging_server_alarms", "Active alarms.", "gauge", 1, server_id=of, alarm_type=alarm.name)


def _proposal_families(store: Store, waiting: int) -> Iterator[Family]:
    """What etcd counts of raft's log, of the log of revisions: a follower's lag is committed minus applied."""
    committed = max(store.present.confirmed, store.revision)
    for name, text, value in (
        ("committed_total", "The total number of consensus proposals committed.", committed),
        ("applied_total", "The total number of consensus proposals applied.", store.revision),
    ):
        yield one(f"etcd_server_proposals_{name}", text, "gauge", value)
    yield pending_family(store.pending_requests + waiting)


def pending_family(value: int) -> Family:
    """Requests that are not committed yet, those that wait for a leader among them."""
    text = "The current number of pending proposals to commit."
    return one("etcd_server_proposals_pending", text, "gauge", value)


def store_families(store: Store, quota_bytes: int) -> Iterator[Family]:
    """Sizes and revisions."""
    engine = store.engine
    yield one(
        "etcd_mvcc_db_total_size_in_bytes",
        "Total size of the underlying database physically allocated in bytes.",
        "gauge",
        engine.size(),
    )
    yield one(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Total size of the underlying database logically in use in bytes.",
        "gauge",
        engine.size_in_use(),
    )
    yield one("etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.", "gauge", quota_bytes)
    yield one("etcd_debugging_mvcc_keys_total", "Total number of keys.", "gauge", store.present.reader.live_keys)
    yield one("etcd_debugging_mvcc_current_revision", "The current revision of store.", "gauge", store.revision)
    yield one(
        "etcd_debugging_mvcc_compact_revision",
        "The revision of the last compaction in store.",
        "gauge",
        max(store.compact_revision, 0),
    )


def watch_families(hub: Hub) -> Iterator[Family]:
    """Watches and what they were sent."""
    yield one("etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.", "gauge", hub.streams)
    yield one("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", "gauge", hub.watchers)
    yield one(
        "etcd_debugging_mvcc_slow_watcher_total",
        "Total number of unsynced slow watchers.",
        "gauge",
        hub.slow_watchers,
    )
    yield one(
        "etcd_debugging_mvcc_events_total",
        "Total number of events sent by this member.",
        "counter",
        hub.events_sent,
    )


def _call_counts(server: GrpcServer, json: Mapping[str, CallCounts]) -> dict[str, CallCounts]:
    """What was called by gRPC and by JSON together."""
    found = {}
    for path, route in sorted(server.counters.routes.items()):
        counts = found[path] = CallCounts(
            route.unary, route.started, route.messages_in, route.messages_out, list(route.handled)
        )
        if path in json:
            counts.add(json[path])
    return found


def rpc_families(server: GrpcServer, json: Mapping[str, CallCounts] = NO_JSON) -> Iterator[Family]:
    """Calls and traffic, under the names every grpc-go server uses. `json`: calls that came over HTTP, which are calls
    in etcd too.
    """
    calls = _call_counts(server, json)
    started: list[Sample] = []
    handled: list[Sample] = []
    received: list[Sample] = []
    sent: list[Sample] = []
    for path, counts in calls.items():
        service, _, name = path[1:].partition("/")
        labels = (("grpc_method", name), ("grpc_service", service), ("grpc_type", grpc_type(path)))
        started.append(Sample(labels, counts.started))
        received.append(Sample(labels, counts.received))
        sent.append(Sample(labels, counts.sent))
        handled.extend(
            Sample((("grpc_code", _CODE_NAMES[Code(code)]), *labels), count)
            for code, count in enumerate(counts.handled)
            if count or code == Code.OK
        )
    text = "Total number of RPC"
    yield Family("grpc_server_started_total", f"{text}s started on the server.", "counter", tuple(started))
    yield Family(
        "grpc_server_handled_total",
        f"{text}s completed on the server, regardless of success or failure.",
        "counter",
        tuple(handled),
    )
    yield Family(
        "grpc_server_msg_received_total",
        f"{text} stream messages received on the server.",
        "counter",
        tuple(received),
    )
    yield Family("grpc_server_msg_sent_total", f"{text} stream messages sent by the server.", "counter", tuple(sent))
    yield from _mvcc_families({path: counts.started for path, counts in calls.items()})
    yield from _request_families(calls)
    totals, counters = server.totals(), server.counters
    yield one(
        "etcd_network_client_grpc_received_bytes_total",
        "The total number of bytes received from grpc clients.",
        "counter",
        totals.bytes_in,
    )
    yield one(
        "etcd_network_client_grpc_sent_bytes_total",
        "The total number of bytes sent to grpc clients.",
        "counter",
        totals.bytes_out,
    )
    yield one("wharf_wire_connections_open", "Open client connections.", "gauge", counters.connections_open)
    yield one("wharf_wire_connections_total", "Connections accepted.", "counter", counters.connections_accepted)
    yield one(
        "wharf_wire_connections_refused_total",
        "Connections closed because there were too many.",
        "counter",
        counters.connections_refused,
    )
    yield one("wharf_wire_connections_abusive_total", "Connections ended by a limit.", "counter", counters.abuse)
    yield one(
        "wharf_wire_handshakes_failed_total", "TLS handshakes that failed.", "counter", counters.handshakes_failed
    )
    yield one("wharf_wire_streams_open", "Open calls.", "gauge", totals.streams_open)


def _request_families(calls: Mapping[str, CallCounts]) -> Iterator[Family]:
    """Requests by kind, and those that the log did not take.

    `client_api_version` is "unknown" for all, as it is in etcd for clients that do not send it: it is not read.
    """
    streams = sum(counts.started for counts in calls.values() if not counts.unary)
    requests = (("unary", sum(counts.started for counts in calls.values()) - streams), ("stream", streams))
    yield Family(
        "etcd_server_client_requests_total",
        "The total number of client requests per client version.",
        "counter",
        tuple(Sample((("type", kind), ("client_api_version", "unknown")), count) for kind, count in requests),
    )
    failed = sum(calls[path].handled[code] for path in _PROPOSING if path in calls for code in _NOT_AGREED)
    yield one("etcd_server_proposals_failed_total", "The total number of failed proposals seen.", "counter", failed)


def _mvcc_families(started: Mapping[str, int]) -> Iterator[Family]:
    ranges = started.get("/etcdserverpb.KV/Range", 0) + started.get("/etcdserverpb.KV/RangeStream", 0)
    yield one("etcd_mvcc_range_total", "Total number of ranges seen by this member.", "counter", ranges)
    txns = started.get("/etcdserverpb.KV/Txn", 0)
    yield one("etcd_mvcc_txn_total", "Total number of txns seen by this member.", "counter", txns)


def file_families() -> Iterator[Family]:
    """Open files, under the names that etcd's dashboards read."""
    used, limit = open_files()
    yield one("os_fd_used", "The number of used file descriptors.", "gauge", used)
    yield one("os_fd_limit", "The file descriptor limit.", "gauge", limit)


def collect(registry: Registry, *sources: Callable[[], Iterable[Family]]) -> None:
    """Have `registry` ask each of `sources` on every scrape, and the process for itself."""
    for source in (*sources, file_families, process_collector):
        registry.collect_from(source)
