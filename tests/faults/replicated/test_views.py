"""What every node shows of the cluster, of compaction and of leases, before and after the leader has changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from faults.kit import CALL_SECONDS, Client, refusal
from harness.nodes import BrainCluster, BrainNode
from wharf.common.pb.etcd import rpc_pb2 as rpc

COMPACTED = "etcdserver: mvcc: required revision has been compacted"
FUTURE = "etcdserver: mvcc: required revision is a future revision"


@contextmanager
def clients(cluster: BrainCluster) -> Iterator[dict[str, Client]]:
    """A client of each node, by the node's name."""
    found = {node.name: Client(node.address) for node in cluster.nodes}
    try:
        for client in found.values():
            grpc.channel_ready_future(client.channel).result(timeout=CALL_SECONDS)
        yield found
    finally:
        for client in found.values():
            client.close()


def change_leader(cluster: BrainCluster) -> BrainNode:
    """Kill who leads and bring it back; the new leader."""
    leader = cluster.wait_leader()
    cluster.kill(leader)
    new = cluster.wait_leader(other_than=leader)
    cluster.start_node(leader)
    return new


def test_every_node_shows_every_node_and_who_leads(cluster: BrainCluster) -> None:
    for _ in range(2):
        leader = cluster.wait_leader()
        with clients(cluster) as each:
            statuses = {name: joined(client, cluster) for name, client in each.items()}
        assert {status.leader for status in statuses.values()} == {statuses[leader.name].header.member_id}
        assert len({status.header.cluster_id for status in statuses.values()}) == 1
        assert len({status.raftTerm for status in statuses.values()}) == 1
        change_leader(cluster)


def joined(client: Client, cluster: BrainCluster) -> rpc.StatusResponse:
    """The status of a node once it lists all nodes, itself among them, and knows who leads."""
    expected = {node.name: [node.url] for node in cluster.nodes}
    deadline = time.monotonic() + CALL_SECONDS
    while True:
        told = client.cluster.MemberList(rpc.MemberListRequest(), timeout=CALL_SECONDS)
        listed = {member.name: list(member.clientURLs) for member in told.members}
        status = client.maintenance.Status(rpc.StatusRequest(), timeout=CALL_SECONDS)
        if listed == expected and status.leader:
            assert {status.header.member_id, status.leader} <= {member.ID for member in told.members}
            return status
        assert time.monotonic() < deadline, f"{listed} is not {expected}"
        time.sleep(0.05)


def test_compaction_is_the_same_on_every_node(cluster: BrainCluster) -> None:
    """Asked of a follower; a watch or a read from before it is refused everywhere, one from it on nowhere."""
    leader = cluster.wait_leader()
    follower = cluster.others(leader)[0]
    with clients(cluster) as each:
        revisions = [each[follower.name].put(b"views/compact", b"%d" % number) for number in range(40)]
        at, last = revisions[25], revisions[-1]
        each[follower.name].kv.Compact(rpc.CompactionRequest(revision=at), timeout=CALL_SECONDS)
        for client in each.values():
            assert_compacted(client, at, last)
    change_leader(cluster)
    with clients(cluster) as each:
        for client in each.values():
            assert_compacted(client, at, last)


def assert_compacted(client: Client, at: int, last: int) -> None:
    with pytest.raises(grpc.RpcError) as before:
        client.kv.Range(rpc.RangeRequest(key=b"views/compact", revision=at - 1), timeout=CALL_SECONDS)
    assert refusal(before.value) == (grpc.StatusCode.OUT_OF_RANGE, COMPACTED)
    with pytest.raises(grpc.RpcError) as future:
        client.kv.Range(rpc.RangeRequest(key=b"views/compact", revision=client.revision() + 1), timeout=CALL_SECONDS)
    assert refusal(future.value) == (grpc.StatusCode.OUT_OF_RANGE, FUTURE)
    shown = client.kv.Range(rpc.RangeRequest(key=b"views/compact", revision=at), timeout=CALL_SECONDS)
    assert shown.kvs[0].mod_revision == at
    assert [event.kv.mod_revision for event in client.events(at, last)] == list(range(at, last + 1))
    create = rpc.WatchCreateRequest(key=b"views/compact", start_revision=at - 1)
    call = client.watch.Watch(iter([rpc.WatchRequest(create_request=create)]), timeout=CALL_SECONDS)
    assert next(call).created
    refused = next(call)
    call.cancel()
    assert refused.canceled
    assert refused.compact_revision == at


def test_a_lease_outlives_its_leader_and_ends_with_a_delete(cluster: BrainCluster) -> None:
    """Time without a leader is not counted: never early. Then its keys go, and every node's watch is told."""
    ttl = 6
    with clients(cluster) as each:
        client = next(iter(each.values()))
        lease = client.lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=ttl), timeout=CALL_SECONDS).ID
        put = client.put(b"views/leased", b"v", lease)
    time.sleep(ttl / 2)  # so that an expiry counted from the grant would be early
    leader = cluster.wait_leader()
    cluster.kill(leader)
    promoted_after = time.monotonic()  # whoever leads next began no earlier
    cluster.wait_leader(other_than=leader)
    cluster.start_node(leader)
    create = rpc.WatchCreateRequest(key=b"views/leased", start_revision=put + 1, prev_kv=True)
    with clients(cluster) as each:
        calls = [
            one.watch.Watch(iter([rpc.WatchRequest(create_request=create)]), timeout=CALL_SECONDS)
            for one in each.values()
        ]
        told = [next(answer for answer in call if answer.events).events[0] for call in calls]
        assert time.monotonic() - promoted_after >= ttl - 1, "it died early"
        for call in calls:
            call.cancel()
        assert {event.kv.mod_revision for event in told} == {told[0].kv.mod_revision}
        assert all(event.type and event.prev_kv.lease == lease for event in told)
        for one in each.values():
            assert one.get(b"views/leased") is None
            left = one.lease.LeaseTimeToLive(rpc.LeaseTimeToLiveRequest(ID=lease), timeout=CALL_SECONDS)
            assert left.TTL == -1
