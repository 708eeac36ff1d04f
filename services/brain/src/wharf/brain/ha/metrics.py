"""Metrics of a node among several: etcd's names where etcd has the metric."""

from __future__ import annotations

from collections.abc import Iterator

from wharf.brain.engine.base import epoch_number
from wharf.brain.ha.node import HaNode
from wharf.common.metrics import Family, Kind, Sample


def node_families(node: HaNode) -> Iterator[Family]:
    def one(name: str, text: str, kind: Kind, value: float) -> Family:
        return Family(name, text, kind, (Sample((), value),))

    position, status = node.engine.position(), node.status()
    yield one("etcd_network_active_peers", "Nodes in session with this leader.", "gauge", len(status.followers))
    yield one("wharf_brain_epoch", "The fence of the leader this node knows.", "gauge", epoch_number(node.epoch))
    yield one("wharf_brain_lag_seconds", "Time since this node last showed what the leader does.", "gauge", node.lag())
    yield one("wharf_brain_lease_seconds", "Left of a leader's lease.", "gauge", node.election.left())
    yield one("wharf_brain_applied_revision", "Revision of the replica.", "gauge", position.revision)
    yield one("wharf_brain_waiting_reads", "Reads that wait to be linearizable here.", "gauge", node.waiting_reads)
    yield one("wharf_brain_event_gaps_total", "Times events were missing and the log was read.", "counter", node.gaps)
    yield one("wharf_brain_events_connected", "Whether events arrive by NATS.", "gauge", status.events_connected)
