"""`wharf brain --workers N`: several processes answer on one port, and no client can tell.

Connections land on whichever process the system picks, so every rule is tried over many of them; what the processes
have counted shows that all of them had their share.
"""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from faults.kit import CALL_SECONDS, Client, address, brain, refusal
from faults.recorded.recording import Recording
from harness.daemon import state, tree
from harness.exposition import repeated_samples
from harness.store import Store
from wharf.cli.kube.process import ProcessFailedError
from wharf.common.pb.etcd import auth_pb2 as authpb
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import rpc_pb2_grpc as stubs

WORKERS = 2
PROCESSES = WORKERS + 1
FLAGS = (f"--workers={WORKERS}", "--watch-progress-notify-interval=200ms")
CONNECTIONS = 24  # on which all processes have a share, but for one time in ten thousand
DEATHS = "wharf_brain_worker_deaths_total"
PATIENCE = 30.0  # seconds, of a busy machine
_POLL_SECONDS = 0.05


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with brain(tmp_path_factory.mktemp("node"), *FLAGS) as store:
        yield store
        processes = tree(store.process.pid)
        assert len(processes) == PROCESSES
        assert store.process.stop(timeout=60) == 0
        assert "Traceback" not in store.process.output(), store.logs()
        assert [pid for pid in processes if state(pid) != "Z"] == []


@contextmanager
def connections(store: Store, count: int = CONNECTIONS) -> Iterator[list[Client]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Client(address(store))) for _ in range(count)]


def workers(store: Store) -> list[int]:
    return tree(store.process.pid)[1:]


def metrics(store: Store) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{store.metrics_port}/metrics", timeout=10) as page:
        return str(page.read().decode())


def counted(store: Store, name: str, *labels: str) -> dict[str, float]:
    """What each process has counted under this name: "" is the one that writes."""
    found: dict[str, float] = {}
    for line in metrics(store).splitlines():
        if line.startswith((name + "{", name + " ")) and all(label in line for label in labels):
            worker = re.search(r'worker="(\d+)"', line)
            place = worker[1] if worker else ""
            found[place] = found.get(place, 0) + float(line.rpartition(" ")[2])
    return found


def eventually(what: Callable[[], bool], why: str) -> None:
    until = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < until, why
        time.sleep(_POLL_SECONDS)


def test_what_is_written_on_one_connection_is_read_on_every_other(node: Store) -> None:
    with connections(node) as clients:
        for number, writer in enumerate(clients):
            revision = writer.put(b"own", b"%d" % number)
            for reader in clients:
                found = reader.get(b"own")
                assert found is not None
                assert (found.value, found.mod_revision) == (b"%d" % number, revision)

    def all_had_a_share() -> bool:
        ranges = counted(node, "grpc_server_handled_total", 'grpc_method="Range"', 'grpc_code="OK"')
        return len(ranges) == PROCESSES and min(ranges.values()) > 0

    eventually(all_had_a_share, f"one process served nothing: {metrics(node)}")


def test_each_sample_is_reported_once(node: Store) -> None:
    """By the process that writes, on its metrics URL, and by each process on the client URL."""
    assert repeated_samples(metrics(node)) == []
    for _ in range(CONNECTIONS):
        with urllib.request.urlopen(f"http://{address(node)}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        assert "etcd_server_proposals_pending " in text
        assert repeated_samples(text) == []


def test_new_connections_read_what_others_have_just_written(node: Store) -> None:
    for number in range(50):
        with Client(address(node)) as writer, Client(address(node)) as reader:
            revision = writer.put(b"new", b"%d" % number)
            assert reader.revision() >= revision
            found = reader.get(b"new")
            assert found is not None
            assert found.value == b"%d" % number


def test_a_list_pinned_to_a_revision_is_the_same_everywhere(node: Store) -> None:
    with connections(node) as clients:
        for number in range(20):
            revision = clients[0].put(b"pin/%d" % number, b"x")
        clients[1].put(b"pin/0", b"y")
        request = rpc.RangeRequest(key=b"pin/", range_end=b"pin0", revision=revision, limit=7)
        pages = {
            client.kv.Range(request, timeout=CALL_SECONDS).SerializeToString(deterministic=True) for client in clients
        }
        bodies = {(tuple(map(str, one.kvs)), one.count, one.more) for one in map(rpc.RangeResponse.FromString, pages)}
        assert len(bodies) == 1


def test_watches_on_every_connection_get_every_event(node: Store) -> None:
    with connections(node) as clients, ThreadPoolExecutor(CONNECTIONS) as pool:
        start = clients[0].revision() + 1
        told = [pool.submit(lambda one: list(one.events(start, start + 49)), client) for client in clients]
        for number in range(50):
            clients[number % CONNECTIONS].put(b"watched/%d" % (number % 7), b"%d" % number)
        events = [[str(event) for event in one.result()] for one in told]
        assert [event.kv.mod_revision for event in told[0].result()] == list(range(start, start + 50))
        assert all(one == events[0] for one in events)


def test_a_watch_that_begins_now_misses_nothing_written_from_now_on(node: Store) -> None:
    """Its first answer names a revision; whatever was acknowledged before it was asked for is at or below."""
    with connections(node) as clients:
        for number, client in enumerate(clients):
            written = clients[-1 - number].put(b"now", b"%d" % number)
            create = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"now"))
            call = client.watch.Watch(iter([create]), timeout=CALL_SECONDS)
            assert next(call).header.revision >= written
            call.cancel()


def test_leases_live_and_end_through_any_process(node: Store) -> None:
    with connections(node) as clients:
        granted = clients[0].lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=60), timeout=CALL_SECONDS).ID
        clients[1].put(b"leased", b"x", lease=granted)
        for client in clients:
            answers = client.lease.LeaseKeepAlive(
                iter([rpc.LeaseKeepAliveRequest(ID=granted)] * 3), timeout=CALL_SECONDS
            )
            assert [answer.TTL for answer in answers] == [60, 60, 60]
            left = client.lease.LeaseTimeToLive(rpc.LeaseTimeToLiveRequest(ID=granted, keys=True), timeout=CALL_SECONDS)
            assert list(left.keys) == [b"leased"]
        clients[2].lease.LeaseRevoke(rpc.LeaseRevokeRequest(ID=granted), timeout=CALL_SECONDS)
        assert all(client.get(b"leased") is None for client in clients)


def test_it_is_one_member_wherever_one_asks(node: Store) -> None:
    with connections(node) as clients:
        members = {str(client.cluster.MemberList(rpc.MemberListRequest(), timeout=30).members) for client in clients}
        answers = [client.maintenance.Status(rpc.StatusRequest(), timeout=30) for client in clients]
        assert len(members) == 1
        assert len({(one.leader, one.header.member_id, one.header.cluster_id, one.raftTerm) for one in answers}) == 1
        assert answers[0].leader == answers[0].header.member_id


def test_compaction_counts_everywhere_at_once(node: Store) -> None:
    with connections(node) as clients:
        for number in range(5):
            old = clients[0].revision()
            last = clients[1].put(b"compacted", b"%d" % number)
            clients[2].kv.Compact(rpc.CompactionRequest(revision=last, physical=number % 2 == 0), timeout=CALL_SECONDS)
            for client in clients:
                with pytest.raises(grpc.RpcError) as caught:
                    client.kv.Range(rpc.RangeRequest(key=b"compacted", revision=old), timeout=CALL_SECONDS)
                assert "required revision has been compacted" in refusal(caught.value)[1]
                create = rpc.WatchCreateRequest(key=b"compacted", start_revision=old)
                call = client.watch.Watch(iter([rpc.WatchRequest(create_request=create)]), timeout=CALL_SECONDS)
                assert next(call).created
                assert next(call).compact_revision == last
                call.cancel()


def test_defragmenting_is_noticed_by_nobody(node: Store) -> None:
    with connections(node) as clients:
        start = clients[0].revision() + 1
        for round_ in range(3):
            clients[round_].put(b"before", b"x" * 100_000)
            clients[round_ + 1].maintenance.Defragment(rpc.DefragmentRequest(), timeout=CALL_SECONDS)
            for number, client in enumerate(clients):
                client.put(b"after/%d" % round_, b"%d" % number)
                found = clients[-1 - number].get(b"after/%d" % round_)
                assert found is not None
                assert found.value == b"%d" % number
        end = clients[0].revision()
        for client in clients:
            assert [event.kv.mod_revision for event in client.events(start, end)] == list(range(start, end + 1))
    for pid in tree(node.process.pid):
        eventually(lambda pid=pid: not holds_old_file(pid), f"process {pid} holds a file that is gone")  # type: ignore[misc]


def holds_old_file(pid: int) -> bool:
    maps = Path(f"/proc/{pid}/maps").read_text()
    return any("store-" in line and line.endswith("(deleted)") for line in maps.splitlines())


def test_snapshots_and_hashes_are_had_from_any_process(node: Store) -> None:
    with connections(node) as clients:
        hashes = {client.maintenance.HashKV(rpc.HashKVRequest(), timeout=CALL_SECONDS).hash for client in clients}
        assert len(hashes) == 1
        for client in clients[:6]:
            parts = client.maintenance.Snapshot(rpc.SnapshotRequest(), timeout=CALL_SECONDS)
            assert sum(len(part.blob) for part in parts) > 0


def test_users_are_asked_everywhere_from_the_answer_on(tmp_path: Path) -> None:
    with brain(tmp_path, *FLAGS) as store, connections(store) as clients:
        auth = [stubs.AuthStub(client.channel) for client in clients]
        auth[0].UserAdd(rpc.AuthUserAddRequest(name="root", password="pw"), timeout=CALL_SECONDS)
        auth[1].UserGrantRole(rpc.AuthUserGrantRoleRequest(user="root", role="root"), timeout=CALL_SECONDS)
        auth[2].UserAdd(rpc.AuthUserAddRequest(name="reader", password="pw"), timeout=CALL_SECONDS)
        auth[3].RoleAdd(rpc.AuthRoleAddRequest(name="reads"), timeout=CALL_SECONDS)
        permission = authpb.Permission(permType=authpb.Permission.READ, key=b"seen")
        auth[4].RoleGrantPermission(
            rpc.AuthRoleGrantPermissionRequest(name="reads", perm=permission), timeout=CALL_SECONDS
        )
        auth[5].AuthEnable(rpc.AuthEnableRequest(), timeout=CALL_SECONDS)
        for client in clients:
            with pytest.raises(grpc.RpcError) as caught:
                client.get(b"seen")
            assert "user name is empty" in refusal(caught.value)[1]
        tokens = {
            name: auth[6].Authenticate(rpc.AuthenticateRequest(name=name, password="pw"), timeout=CALL_SECONDS).token
            for name in ("root", "reader")
        }
        as_root, as_reader = ((("token", tokens[name]),) for name in ("root", "reader"))
        grant = rpc.AuthUserGrantRoleRequest(user="reader", role="reads")
        revoke = rpc.AuthUserRevokeRoleRequest(name="reader", role="reads")
        read = rpc.RangeRequest(key=b"seen")
        for number, client in enumerate(clients):
            auth[-1 - number].UserGrantRole(grant, metadata=as_root, timeout=CALL_SECONDS)
            client.kv.Range(read, metadata=as_reader, timeout=CALL_SECONDS)
            auth[-1 - number].UserRevokeRole(revoke, metadata=as_root, timeout=CALL_SECONDS)
            with pytest.raises(grpc.RpcError) as caught:
                client.kv.Range(read, metadata=as_reader, timeout=CALL_SECONDS)
            assert refusal(caught.value)[0] in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)


def test_a_killed_worker_is_replaced_and_what_it_read_is_let_go_of(tmp_path: Path) -> None:
    with brain(tmp_path, *FLAGS) as store:
        for round_ in range(2):
            before = workers(store)
            with Client(address(store)) as client:
                client.put(b"k", b"%d" % round_)
            os.kill(before[round_ % WORKERS], signal.SIGKILL)
            eventually(lambda: counted(store, DEATHS) == {"": round_ + 1}, "a death is not counted")  # noqa: B023
            eventually(lambda: counted(store, "wharf_brain_workers") == {"": WORKERS}, "no worker in its place")
            assert len(set(workers(store)) - set(before)) == 1
            with connections(store) as clients:
                assert all(client.get(b"k") is not None for client in clients)
        with connections(store) as clients:
            assert growth(clients) < 4_000_000, "a worker that is dead still holds pages"
        assert store.process.stop(timeout=60) == 0


def growth(clients: list[Client]) -> int:
    """Bytes by which the store grows while one key is written 20 times: a reader that is dead but not forgotten keeps
    every page from being used again. A worker that lives lets go of its pages when it shows a newer state, which it has
    done once it has answered a read.
    """
    client, sizes = clients[0], []
    for _ in range(21):
        client.put(b"big", b"x" * 500_000)
        client.kv.Compact(rpc.CompactionRequest(revision=client.revision(), physical=True), timeout=CALL_SECONDS)
        for one in clients:
            one.revision()
        sizes.append(client.maintenance.Status(rpc.StatusRequest(), timeout=CALL_SECONDS).dbSize)
    return sizes[-1] - sizes[0]


def test_a_killed_parent_takes_its_workers_with_it_and_its_successor_starts_at_once(tmp_path: Path) -> None:
    with brain(tmp_path, *FLAGS) as store:
        for round_ in range(3):
            processes = tree(store.process.pid)
            assert len(processes) == PROCESSES
            with Client(address(store)) as client:
                client.put(b"k", b"%d" % round_)
            kill_parent(store)
            store.start()
            assert all(state(pid) == "Z" for pid in processes)
            with connections(store) as clients:
                for client in clients:
                    found = client.get(b"k")
                    assert found is not None
                    assert found.value == b"%d" % round_


def kill_parent(store: Store) -> None:
    """It alone: its workers are the kernel's to end."""
    os.kill(store.process.pid, signal.SIGKILL)
    eventually(lambda: not store.process.running, "the parent does not die")


def test_nobody_else_may_share_the_port(tmp_path: Path) -> None:
    with brain(tmp_path / "one", *FLAGS) as store:
        other = Store(tmp_path / "two", name="brain", flags=(*FLAGS, f"--listen-client-urls={store.url}"))
        try:
            with pytest.raises(ProcessFailedError, match="cannot listen"):
                other.start()
        finally:
            other.kill()


def test_one_history_through_deaths_of_workers_and_of_their_parent(tmp_path: Path) -> None:
    with brain(tmp_path, *FLAGS) as store:
        with Recording([address(store)] * 3, 3, tmp_path, clients_per_node=4, most=2500, pause=0.002) as recording:
            for number in range(3):
                recording.await_writes(250)
                os.kill(workers(store)[number % WORKERS], signal.SIGKILL)
                recording.await_all_served()
            with Client(address(store)) as client:
                client.maintenance.Defragment(rpc.DefragmentRequest(), timeout=CALL_SECONDS)
            recording.await_writes(250)
            kill_parent(store)
            store.start()
            recording.await_all_served()
            judgement = recording.judge()
        print(judgement.report)  # shown when the test fails
        assert not judgement.faults, judgement.faults
        assert judgement.report.unanswered > 0
