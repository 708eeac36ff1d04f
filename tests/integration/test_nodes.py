"""Three nodes over PostgreSQL as operators and clients meet them: who leads, who answers, what survives a leader."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest
from faults.kit import CALL_SECONDS, Client, refusal
from harness.daemon import LOOPBACK
from harness.exposition import repeated_samples
from harness.nodes import BrainCluster, BrainNode
from proofs.ctl import Ctl
from wharf.common.pb.etcd import kv_pb2 as mvcc
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import v3lock_pb2, v3lock_pb2_grpc

COMPACTED = "etcdserver: mvcc: required revision has been compacted"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrainCluster]:
    with BrainCluster(tmp_path_factory.mktemp("nodes")) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: BrainCluster) -> BrainCluster:
    shared.repair()
    return shared


class Watching(threading.Thread):
    """A watch on one node, from a revision on, until told to stop."""

    def __init__(self, node: BrainNode, prefix: bytes, start: int) -> None:
        super().__init__(daemon=True)
        self.client = Client(node.address)
        create = rpc.WatchCreateRequest(key=prefix, range_end=prefix + b"\xff", start_revision=start, prev_kv=True)
        self._asked = threading.Event()
        self._call = self.client.watch.Watch(self._requests(rpc.WatchRequest(create_request=create)))
        self.events: list[mvcc.Event] = []
        self.ended: grpc.RpcError | None = None
        self._more = threading.Condition()
        self.start()

    def _requests(self, first: rpc.WatchRequest) -> Iterator[rpc.WatchRequest]:
        yield first
        self._asked.wait()

    def run(self) -> None:
        try:
            for answer in self._call:
                with self._more:
                    assert not answer.canceled, answer
                    self.events += answer.events
                    self._more.notify_all()
        except grpc.RpcError as error:
            self.ended = error

    def wait(self, count: int) -> list[mvcc.Event]:
        with self._more:
            assert self._more.wait_for(lambda: len(self.events) >= count, CALL_SECONDS), self.events
        return self.events

    def close(self) -> None:
        self._asked.set()
        self._call.cancel()
        self.join()
        self.client.close()


def followers(cluster: BrainCluster) -> list[BrainNode]:
    return cluster.others(cluster.wait_leader())


def wharf(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.prefix) / "bin" / "wharf", "brain", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def page(node: BrainNode, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{node.metrics_port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_every_node_tells_the_same_about_all(cluster: BrainCluster) -> None:
    leader = cluster.wait_leader()
    for node in cluster.nodes:
        told = Ctl("3.6", node.address).run("endpoint", "status", "--cluster", "-w", "json")
        statuses = json.loads(told.stdout)
        assert {status["Endpoint"] for status in statuses} == set(cluster.urls), told.stdout
        assert len({status["Status"]["leader"] for status in statuses}) == 1
        leading = [s["Endpoint"] for s in statuses if s["Status"]["leader"] == s["Status"]["header"]["member_id"]]
        assert leading == [leader.url]
        assert len({status["Status"]["raftTerm"] for status in statuses}) == 1
    members = json.loads(Ctl("3.6", leader.address).run("member", "list", "-w", "json").stdout)["members"]
    assert {member["name"] for member in members} == {node.name for node in cluster.nodes}


def test_reads_and_writes_anywhere_are_one_order(cluster: BrainCluster) -> None:
    for writer in cluster.nodes:
        with Client(writer.address) as client:
            revision = client.put(b"order/" + writer.name.encode(), writer.name.encode())
        for reader in cluster.nodes:
            with Client(reader.address) as client:
                kv = client.get(b"order/" + writer.name.encode())
                assert kv is not None
                assert (kv.value, kv.mod_revision) == (writer.name.encode(), revision)


def test_a_node_answers_in_its_own_name(cluster: BrainCluster) -> None:
    for node in cluster.nodes:
        status = node.status()
        assert status is not None
        with Client(node.address) as client:
            request = rpc.PutRequest(key=b"name", value=b"")
            assert client.kv.Put(request, timeout=CALL_SECONDS).header.member_id == status.header.member_id


def test_a_leader_that_is_killed_costs_no_watch_and_no_lease(cluster: BrainCluster) -> None:
    leader = cluster.wait_leader()
    one, other = cluster.others(leader)
    with Client(one.address) as client:
        lease = client.lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=5), timeout=CALL_SECONDS)
        start = client.put(b"life/a", b"1", lease.ID)
        watches = [Watching(node, b"life/", start) for node in (one, other)]
        try:
            for watch in watches:
                watch.wait(1)
            cluster.kill(leader)
            cluster.wait_leader(other_than=leader)
            left = client.lease.LeaseTimeToLive(
                rpc.LeaseTimeToLiveRequest(ID=lease.ID, keys=True), timeout=CALL_SECONDS
            )
            assert (left.grantedTTL, list(left.keys)) == (5, [b"life/a"])
            assert left.TTL >= 3, "a failover counts the time of a lease afresh"
            client.put(b"life/b", b"2")
            for watch in watches:
                events = watch.wait(3)
                assert [(event.type, event.kv.key) for event in events[:3]] == [
                    (mvcc.Event.PUT, b"life/a"),
                    (mvcc.Event.PUT, b"life/b"),
                    (mvcc.Event.DELETE, b"life/a"),
                ]
                assert events[2].prev_kv.value == b"1"
                assert watch.ended is None
            assert client.get(b"life/a") is None
        finally:
            for watch in watches:
                watch.close()


def test_leases_are_kept_alive_through_any_node(cluster: BrainCluster) -> None:
    node = followers(cluster)[0]
    with Client(node.address) as client:
        lease = client.lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=30), timeout=CALL_SECONDS).ID
        renewals = client.lease.LeaseKeepAlive(iter([rpc.LeaseKeepAliveRequest(ID=lease)] * 3), timeout=CALL_SECONDS)
        assert [renewal.TTL for renewal in renewals] == [30, 30, 30]
        client.lease.LeaseRevoke(rpc.LeaseRevokeRequest(ID=lease), timeout=CALL_SECONDS)
        gone = client.lease.LeaseKeepAlive(iter([rpc.LeaseKeepAliveRequest(ID=lease)]), timeout=CALL_SECONDS)
        assert [renewal.TTL for renewal in gone] == [0]


def test_compaction_counts_on_every_node_at_once(cluster: BrainCluster) -> None:
    with Client(followers(cluster)[0].address) as client:
        revisions = [client.put(b"compact", b"%d" % number) for number in range(4)]
        client.kv.Compact(rpc.CompactionRequest(revision=revisions[2]), timeout=CALL_SECONDS)
    for node in cluster.nodes:
        with Client(node.address) as client:
            client.revision()  # a linearizable read: this node shows the compaction too
            kept = client.kv.Range(rpc.RangeRequest(key=b"compact", revision=revisions[2]), timeout=CALL_SECONDS)
            assert kept.kvs[0].value == b"2"
            with pytest.raises(grpc.RpcError) as refused:
                client.kv.Range(rpc.RangeRequest(key=b"compact", revision=revisions[1]), timeout=CALL_SECONDS)
            assert refusal(refused.value) == (grpc.StatusCode.OUT_OF_RANGE, COMPACTED)
            create = rpc.WatchCreateRequest(key=b"compact", start_revision=revisions[0])
            stop = threading.Event()
            call = client.watch.Watch(_held(rpc.WatchRequest(create_request=create), stop), timeout=CALL_SECONDS)
            assert next(call).created
            assert next(call).compact_revision == revisions[2]
            stop.set()
            call.cancel()


def _held(request: rpc.WatchRequest, stop: threading.Event) -> Iterator[rpc.WatchRequest]:
    yield request
    stop.wait()


def test_an_operator_hands_leadership_over(cluster: BrainCluster) -> None:
    leader = cluster.wait_leader()
    successor = cluster.others(leader)[1]
    told = wharf("step-down", f"--endpoint=http://{LOOPBACK}:{successor.control_port}")
    assert told.returncode == 1
    assert "does not lead" in told.stderr
    told = wharf("step-down", f"--endpoint=http://{LOOPBACK}:{leader.control_port}", "--to=nobody")
    assert (told.returncode, "no node called 'nobody'" in told.stderr) == (1, True), told.stderr
    told = wharf("step-down", f"--endpoint=http://{LOOPBACK}:{leader.control_port}", f"--to={successor.name}")
    assert (told.returncode, told.stdout) == (0, f"{leader.name} leads no more\n"), told.stderr
    assert cluster.wait_leader(other_than=leader) is successor
    with Client(leader.address) as client:
        client.put(b"after", b"step-down")


def test_etcdctl_moves_the_leader(cluster: BrainCluster) -> None:
    leader = cluster.wait_leader()
    target = cluster.others(leader)[0]
    status = target.status()
    assert status is not None
    member = f"{status.header.member_id:x}"
    refused = Ctl("3.6", target.address).run("move-leader", member)
    assert refused.returncode != 0
    moved = Ctl("3.6", leader.address).run("move-leader", member)
    assert moved.returncode == 0, moved.stderr
    assert target.leads(), "the call returns once the member named leads"


def follows(node: BrainNode, leader: BrainNode) -> bool:
    """Whether it is in session with the leader, as whoever is to lead must be."""
    status, leading = node.status(), leader.status()
    return status is not None and leading is not None and status.leader == leading.header.member_id


def test_the_leader_moves_to_the_member_named_however_late_the_others_hear_of_it(cluster: BrainCluster) -> None:
    leader = cluster.wait_leader()
    for number in range(6):
        target, third = cluster.others(leader)[:: (-1) ** number]
        for node in (target, third):
            _until(lambda: follows(node, leader))  # noqa: B023
        status = target.status()
        assert status is not None
        cluster.partition(third, "nats")
        cluster.partition(leader, "control", way="down")  # no follower hears the leader say that it has gone
        moved = Ctl("3.6", leader.address).run("--command-timeout=30s", "move-leader", f"{status.header.member_id:x}")
        cluster.heal()
        assert moved.returncode == 0, moved.stderr
        assert cluster.wait_leader() is target
        leader = target


def test_a_node_that_lags_or_knows_no_leader_is_alive_and_not_ready(cluster: BrainCluster) -> None:
    leader = cluster.wait_leader()
    node = cluster.others(leader)[0]
    _until(lambda: page(node, "/readyz")[0] == 200)
    cluster.partition(leader, "control")
    _until(lambda: page(node, "/readyz")[0] == 503)
    assert page(node, "/livez")[0] == 200
    assert "[-]linearizable_read failed" in page(node, "/readyz?verbose")[1]
    cluster.heal()
    _until(lambda: page(node, "/readyz")[0] == 200)


def test_no_node_is_ready_while_no_leader_can_prove_itself(cluster: BrainCluster) -> None:
    cluster.redis.close()
    for node in cluster.nodes:
        _until(lambda: page(node, "/readyz")[0] == 503)  # noqa: B023
        assert "etcdserver: no leader" in page(node, "/readyz?verbose")[1]
        assert page(node, "/health")[0] == 503
        assert page(node, "/livez")[0] == 200
        assert "etcd_server_has_leader 0" in page(node, "/metrics")[1].splitlines()
        status = node.status()
        assert status is not None
        assert (status.leader, list(status.errors)) == (0, ["etcdserver: no leader"])
    time.sleep(2 * cluster.lease_seconds)  # it stays so
    assert [page(node, "/readyz")[0] for node in cluster.nodes] == [503] * len(cluster.nodes)
    cluster.redis.start()
    for node in cluster.nodes:
        _until(lambda: page(node, "/readyz")[0] == 200)  # noqa: B023
        assert "etcd_server_has_leader 1" in page(node, "/metrics")[1].splitlines()


def test_metrics_tell_who_leads(cluster: BrainCluster) -> None:
    leader = cluster.wait_leader()
    for node in cluster.nodes:
        text = page(node, "/metrics")[1]
        assert repeated_samples(text) == []
        lines = text.splitlines()
        assert "etcd_server_has_leader 1" in lines
        assert f"etcd_server_is_leader {int(node is leader)}" in lines
        assert any(line.startswith("wharf_brain_lag_seconds ") for line in lines)
        assert "wharf_brain_events_connected 1" in lines


def test_a_member_that_is_gone_can_be_removed_and_one_that_is_there_cannot(cluster: BrainCluster) -> None:
    leader = cluster.wait_leader()
    gone, there = cluster.others(leader)
    ids = {node.name: node.status() for node in (gone, there)}
    cluster.kill(gone)
    with Client(there.address) as client:
        status = ids[there.name]
        assert status is not None
        with pytest.raises(grpc.RpcError):
            client.cluster.MemberRemove(rpc.MemberRemoveRequest(ID=status.header.member_id), timeout=CALL_SECONDS)
        status = ids[gone.name]
        assert status is not None
        request = rpc.MemberRemoveRequest(ID=status.header.member_id)
        _until(lambda: _removed(client, request))
        _until(lambda: gone.name not in _names(client))


def _names(client: Client) -> set[str]:
    return {each.name for each in client.cluster.MemberList(rpc.MemberListRequest(), timeout=CALL_SECONDS).members}


def _removed(client: Client, request: rpc.MemberRemoveRequest) -> bool:
    """The leader may need a moment to see that a session is over."""
    try:
        client.cluster.MemberRemove(request, timeout=CALL_SECONDS)
    except grpc.RpcError as error:
        if "not enough started members" not in refusal(error)[1]:
            raise
        return False
    return True


def test_users_and_roles_count_on_every_node(cluster: BrainCluster) -> None:
    ctl = Ctl("3.6", cluster.nodes[0].address)
    root = ("--user=root:secret",)
    try:
        for words in (("user", "add", "root:secret"), ("user", "grant-role", "root", "root"), ("auth", "enable")):
            done = ctl.run(*words)
            assert done.returncode == 0, done.stderr
        for node in cluster.nodes:
            there = Ctl("3.6", node.address)
            _until(partial(_refused, there, True))
            allowed = there.run(*root, "put", "x", node.name)
            assert allowed.returncode == 0, allowed.stderr
    finally:
        ctl.run(*root, "auth", "disable")
    for node in cluster.nodes:
        _until(partial(_refused, Ctl("3.6", node.address), False))


def _refused(ctl: Ctl, refused: bool) -> bool:
    return (ctl.run("get", "x").returncode != 0) is refused


def test_a_second_node_of_the_same_name_is_refused(cluster: BrainCluster, tmp_path: Path) -> None:
    leader = cluster.wait_leader()
    twin = cluster.others(leader)[0]
    status = twin.status()
    assert status is not None
    words = [word for word in twin.process.argv if not word.startswith(("--listen-", "--data-dir"))]
    words += [f"--data-dir={tmp_path}", f"--listen-client-urls=http://{LOOPBACK}:0"]
    words += [f"--listen-peer-urls=http://{LOOPBACK}:0", f"--listen-metrics-urls=http://{LOOPBACK}:0"]
    log = tmp_path / "twin.log"
    with log.open("w") as out, subprocess.Popen(words, stdout=out, stderr=out) as process:
        try:
            _until(lambda: "give each node a --name of its own" in log.read_text())
        finally:
            process.kill()
    with Client(twin.address) as client:
        client.put(b"twin", b"1")


def _until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def test_a_lock_taken_on_one_node_holds_on_another(cluster: BrainCluster) -> None:
    one, other = followers(cluster)
    with Client(one.address) as first, Client(other.address) as second:
        lease = first.lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=60), timeout=CALL_SECONDS).ID
        held = v3lock_pb2_grpc.LockStub(first.channel).Lock(
            v3lock_pb2.LockRequest(name=b"gate", lease=lease), timeout=CALL_SECONDS
        )
        waiting = v3lock_pb2_grpc.LockStub(second.channel).Lock.future(
            v3lock_pb2.LockRequest(name=b"gate"), timeout=CALL_SECONDS
        )
        second.revision()
        assert not waiting.done()
        v3lock_pb2_grpc.LockStub(first.channel).Unlock(v3lock_pb2.UnlockRequest(key=held.key), timeout=CALL_SECONDS)
        assert waiting.result().key


def test_a_lock_queue_outlives_a_change_of_leader_and_loses_those_who_leave(cluster: BrainCluster) -> None:
    leader = cluster.wait_leader()
    one, other = cluster.others(leader)
    status = one.status()
    assert status is not None
    with Client(leader.address) as led, Client(one.address) as first, Client(other.address) as second:
        stubs = [v3lock_pb2_grpc.LockStub(client.channel) for client in (led, first, second)]
        held = stubs[0].Lock(v3lock_pb2.LockRequest(name=b"queue"), timeout=CALL_SECONDS)
        leaves = [stubs[0], stubs[2]]  # at the node that leads, and at a follower; with a lease of their own
        leases = [led.lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=600), timeout=CALL_SECONDS).ID for _ in leaves]
        requests = [v3lock_pb2.LockRequest(name=b"queue", lease=lease) for lease in leases]
        leaving = [stub.Lock.future(request, timeout=120) for stub, request in zip(leaves, requests, strict=True)]
        _until(lambda: _waiters(led) == 3)
        waiting = stubs[1].Lock.future(v3lock_pb2.LockRequest(name=b"queue"), timeout=120)
        _until(lambda: _waiters(led) == 4)
        moved = Ctl("3.6", leader.address).run("--command-timeout=30s", "move-leader", f"{status.header.member_id:x}")
        assert moved.returncode == 0, moved.stderr
        for call in leaving:
            call.cancel()
        _until(lambda: _waiters(first) == 2)
        assert not waiting.done()
        stubs[2].Unlock(v3lock_pb2.UnlockRequest(key=held.key), timeout=CALL_SECONDS)
        assert waiting.result().key


def _waiters(client: Client) -> int:
    request = rpc.RangeRequest(key=b"queue/", range_end=b"queue0", count_only=True)
    return client.kv.Range(request, timeout=CALL_SECONDS).count
