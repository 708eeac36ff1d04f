"""Nodes with nothing in the clear: TLS and passwords everywhere, two authorities, and what strangers meet."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from sys import prefix

import grpc
import pytest
from faults.kit import CALL_SECONDS, Client, refusal
from harness.daemon import LOOPBACK
from harness.secured import SecuredNode, SecuredParts, credentials, leaks
from proofs.ctl import Ctl
from wharf.cli.kube.pki import Authority, KeyPair
from wharf.common.pb.control import control_pb2 as control
from wharf.common.pb.control import control_pb2_grpc as stubs
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.wire.h2 import PREFACE


class Cluster:
    def __init__(self, parts: SecuredParts, nodes: list[SecuredNode]) -> None:
        self.parts, self.nodes = parts, nodes
        self.operator = parts.peers.client("operator", "operator")
        self.user = parts.clients.client("user", "user")

    def client(self, node: SecuredNode) -> Client:
        return Client(node.address, credentials(self.user, self.parts.clients.cert))

    def status(self, node: SecuredNode) -> control.StatusResponse:
        """Over the control port."""
        trusted = credentials(self.operator, self.parts.peers.cert)
        with grpc.secure_channel(node.control, trusted, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            return stubs.ControlStub(channel).Status(control.StatusRequest(), timeout=CALL_SECONDS)

    def roles(self) -> tuple[SecuredNode, SecuredNode]:
        """(leader, follower), once the follower is in session."""
        found: list[SecuredNode] = []

        def settled() -> bool:
            told = [(node, self.status(node)) for node in self.nodes]
            found[:] = [node for node, status in told if status.role == "leader" and len(status.followers) == 1]
            return len(found) == 1

        until(settled)
        (leader,) = found
        return leader, next(node for node in self.nodes if node is not leader)

    def step_down(self, leader: SecuredNode, pair: KeyPair | None) -> subprocess.CompletedProcess[str]:
        words = [str(Path(prefix) / "bin" / "wharf"), "brain", "step-down", f"--endpoint=https://{leader.control}"]
        words += [f"--cacert={self.parts.peers.cert}", "--timeout=10s"]
        words += [] if pair is None else [f"--cert={pair.cert}", f"--key={pair.key}"]
        return subprocess.run(words, capture_output=True, text=True, timeout=CALL_SECONDS * 2, check=False)


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes; whatever was done to them, they say no secret and end in order."""
    folder = tmp_path_factory.mktemp("secured")
    with (
        SecuredParts(folder) as parts,
        SecuredNode(parts, "n1", folder) as one,
        SecuredNode(parts, "n2", folder) as other,
    ):
        yield Cluster(parts, [one, other])
        assert [node.stop() for node in (one, other)] == [0, 0]
        for node in (one, other):
            assert leaks(node.log()) == {}
            assert "Traceback" not in node.log()


def test_they_elect_replicate_forward_and_hand_over(cluster: Cluster) -> None:
    leader, follower = cluster.roles()
    with cluster.client(follower) as there, cluster.client(leader) as here:
        revision = there.put(b"tls", b"forwarded")
        kv = here.get(b"tls")
        assert kv is not None
        assert (kv.value, kv.mod_revision) == (b"forwarded", revision)
        events = there.events(revision, revision)
        assert [event.kv.value for event in events] == [b"forwarded"]
        told = cluster.step_down(leader, cluster.operator)
        assert (told.returncode, told.stdout) == (0, f"{leader.name} leads no more\n"), told.stderr
        assert cluster.roles() == (follower, leader)
        here.put(b"tls", b"after")
        kv = there.get(b"tls")
        assert kv is not None
        assert kv.value == b"after"


def test_every_connection_is_encrypted(cluster: Cluster) -> None:
    parts = cluster.parts
    in_the_clear = (
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_port > 0 AND NOT ssl"
    )
    assert parts.postgres.sql(in_the_clear) == "0"
    assert int(parts.postgres.sql("SELECT count(*) FROM pg_stat_ssl WHERE ssl")) >= 2
    until(lambda: all(metric(node, "wharf_brain_events_connected") == 1.0 for node in cluster.nodes))


def metric(node: SecuredNode, name: str) -> float:
    text = http(node.metrics_port, "/metrics")
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))


def http(port: int, path: str) -> str:
    with socket.create_connection((LOOPBACK, port), CALL_SECONDS) as peer:
        peer.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        return rest(peer).decode()


def rest(peer: socket.socket) -> bytes:
    peer.settimeout(CALL_SECONDS)
    found = b""
    while data := peer.recv(65536):
        found += data
    return found


def test_nothing_that_can_be_seen_of_a_node_holds_a_secret(cluster: Cluster) -> None:
    for node in cluster.nodes:
        words = Path(f"/proc/{node.process.pid}/cmdline").read_text()
        pages = [http(node.metrics_port, path) for path in ("/metrics", "/readyz?verbose", "/health", "/version")]
        told = str(cluster.status(node))
        for text in (words, *pages, told):
            assert leaks(text) == {}


def test_the_client_port_takes_its_own_certificates_and_no_others(cluster: Cluster, tmp_path: Path) -> None:
    clients, stranger = cluster.parts.clients, Authority(tmp_path, "stranger").client("who", "who")
    for node in cluster.nodes:
        for pair in (None, cluster.operator, stranger):
            refuses_client(node, credentials(pair, clients.cert))
        with cluster.client(node) as client:
            assert client.get(b"tls") is not None


def test_the_control_port_takes_its_own_certificates_and_no_others(cluster: Cluster, tmp_path: Path) -> None:
    peers, stranger = cluster.parts.peers, Authority(tmp_path, "stranger").client("who", "who")
    for node in cluster.nodes:
        for pair in (None, cluster.user, stranger):
            refuses_peer(node, credentials(pair, peers.cert))
        cluster.status(node)


def refuses_client(node: SecuredNode, shown: grpc.ChannelCredentials | None) -> None:
    with Client(node.address, shown) as client, pytest.raises(grpc.RpcError) as error:
        client.kv.Range(rpc.RangeRequest(key=b"tls"), timeout=CALL_SECONDS)
    assert refusal(error.value)[0] is grpc.StatusCode.UNAVAILABLE, "the transport, and at once"


def refuses_peer(node: SecuredNode, shown: grpc.ChannelCredentials | None) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    plain = grpc.insecure_channel(node.control, options)
    channel = plain if shown is None else grpc.secure_channel(node.control, shown, options)
    with plain, channel, pytest.raises(grpc.RpcError) as error:
        stubs.ControlStub(channel).Status(control.StatusRequest(), timeout=CALL_SECONDS)
    assert refusal(error.value)[0] is grpc.StatusCode.UNAVAILABLE


def test_plain_words_get_nowhere_at_either_port(cluster: Cluster) -> None:
    for node in cluster.nodes:
        refuses_peer(node, None)
        refuses_client(node, None)
        answer = http(node.client_port, "/health")
        assert answer.startswith("HTTP/1.1 400 ")
        assert "TLS" in answer
        for words in (PREFACE, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n", bytes(64)):
            with socket.create_connection((LOOPBACK, node.control_port), CALL_SECONDS) as peer:
                peer.sendall(words)
                until_closed(peer)
        cluster.status(node)


def until_closed(peer: socket.socket) -> None:
    peer.settimeout(CALL_SECONDS)
    try:
        while peer.recv(65536):
            pass
    except ConnectionError:
        pass


def test_nobody_steps_a_leader_down_without_a_certificate(cluster: Cluster) -> None:
    leader, _ = cluster.roles()
    for pair in (None, cluster.user):
        told = cluster.step_down(leader, pair)
        assert told.returncode == 1
        assert "UNAVAILABLE" in told.stderr
        assert "Traceback" not in told.stderr
    assert cluster.roles()[0] is leader


def test_etcdctl_speaks_tls_to_all(cluster: Cluster) -> None:
    pki = (f"--cacert={cluster.parts.clients.cert}", f"--cert={cluster.user.cert}", f"--key={cluster.user.key}")
    urls = {f"https://{node.address}" for node in cluster.nodes}
    statuses = Ctl("3.6", next(iter(urls)), pki).json("endpoint", "status", "--cluster")
    assert {status["Endpoint"] for status in statuses} == urls
    ended = Ctl("3.6", next(iter(urls)), (pki[0],)).refused("get", "tls", "--command-timeout=5s")
    assert leaks(ended) == {}


def test_replaced_certificates_are_taken_up(cluster: Cluster, tmp_path: Path) -> None:
    """First at the control port of the leader, then by the follower that connects to it anew."""
    leader, follower = cluster.roles()
    peers = cluster.parts.peers
    for node in (leader, follower):
        other = peers.server(f"{node.name}-next", (LOOPBACK,))
        before = shown(node, cluster)
        node.peer_pair.cert.write_bytes(other.cert.read_bytes())
        assert shown(node, cluster) == before, "half of a pair is not taken"
        shutil.copyfile(other.key, node.peer_pair.key)
        expected = ssl.PEM_cert_to_DER_cert(other.cert.read_text())
        assert shown(node, cluster) == expected
    told = cluster.step_down(leader, cluster.operator)
    assert told.returncode == 0, told.stderr
    assert cluster.roles() == (follower, leader)


def test_a_replaced_authority_shuts_out_whom_it_does_not_know(cluster: Cluster, tmp_path: Path) -> None:
    """The CA file of both nodes is replaced, and their certificates with it; the old operator is a stranger then."""
    leader, follower = cluster.roles()
    successor = Authority(tmp_path, "successor")
    old_ca = cluster.parts.peers.cert.read_bytes()
    cluster.parts.peers.cert.write_bytes(old_ca + successor.cert.read_bytes())  # both, for the time of the change
    for node in (leader, follower):
        other = successor.server(node.name, (LOOPBACK,))
        for target, source in ((node.peer_pair.cert, other.cert), (node.peer_pair.key, other.key)):
            shutil.copyfile(source, target)
    cluster.parts.peers.cert.write_bytes(successor.cert.read_bytes())
    old, cluster.operator = cluster.operator, successor.client("operator", "operator")
    cluster.status(leader)
    refuses_peer(leader, credentials(old, successor.cert))
    told = cluster.step_down(leader, cluster.operator)
    assert told.returncode == 0, told.stderr
    assert cluster.roles() == (follower, leader)


def shown(node: SecuredNode, cluster: Cluster) -> bytes:
    """The certificate a node shows at its control port."""
    context = ssl.create_default_context(cafile=cluster.parts.peers.cert)
    context.load_cert_chain(cluster.operator.cert, cluster.operator.key)
    with (
        socket.create_connection((LOOPBACK, node.control_port), CALL_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=LOOPBACK) as secure,
    ):
        found = secure.getpeercert(True)
        assert found is not None
        return found
