"""What every test of a replicated brain does: load on all nodes, a fault in the middle, service again, judgement."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from faults.recorded.recording import Judgement, Recording
from harness.nodes import BrainCluster, BrainNode

CLIENTS_PER_NODE = 2
PAUSE = 0.01  # between a client's requests: the machine is shared with all the servers
MOST = 20_000  # requests of one client
WARM = 60  # writes before the fault, and after it
BACK_SECONDS = 20.0  # beyond the lease, until every client of every node is served again; a busy machine's bound
_POLL_SECONDS = 0.02
_STILL_LOOKS = 5
_SEEDS = iter(range(1, 1_000_000))


@dataclass
class Scenario:
    """One recording on a cluster, and what is known of it afterwards."""

    cluster: BrainCluster
    recording: Recording
    leader: BrainNode  # who led before the fault
    began: int = 0  # monotonic nanoseconds, when all were served before the fault
    judgement: Judgement | None = None

    def bound(self) -> float:
        """Seconds within which service must be back after an unclean end of a leader."""
        return self.cluster.lease_seconds + BACK_SECONDS

    def served(self) -> None:
        """Every client of every node is served again, and writes go on."""
        self.recording.await_all_served(self.bound())
        self.recording.await_writes(WARM, self.bound())

    def silence(self) -> float:
        """Seconds of the longest time so far without an acknowledged write, the fault's own length included."""
        return self.recording.silence(self.began)

    def writes_go_on(self, more: int = WARM) -> None:
        """Some clients, at least, have their writes acknowledged."""
        self.recording.await_writes(more, self.bound())


@contextmanager
def scenario(cluster: BrainCluster, folder: Path, *, leader_only_reads: bool = False) -> Iterator[Scenario]:
    """Load on all nodes; the body does the harm and undoes it. Afterwards all must be served and every promise kept.

    `leader_only_reads`: clients of the leader's node do not write. An old leader would be told by the engine at its
    first write that it leads no more; who is only asked to read must know by itself.
    """
    leader = cluster.wait_leader()
    recording = Recording(
        cluster.addresses,
        next(_SEEDS),
        folder,
        clients_per_node=CLIENTS_PER_NODE,
        most=MOST,
        pause=PAUSE,
        readers=[leader.address] if leader_only_reads else (),
    )
    with recording:
        told = Scenario(cluster, recording, leader)
        try:
            told.served()
            told.began = time.monotonic_ns()
            yield told
            told.served()
            print(f"at most {told.silence():.2f} s without a write")
            told.judgement = recording.judge()
        except AssertionError as failed:
            raise AssertionError(f"{failed}\n{cluster.logs()}") from failed
    print(f"{told.judgement.report}; {told.judgement.streams} watch streams")
    assert not told.judgement.faults, "\n".join([*told.judgement.faults, f"see {folder}", cluster.logs()])


def replace_leader_over_unanswered_batch(load: Scenario) -> None:
    """A batch reaches PostgreSQL and its answer is withheld; the leader's connection is cut until another node has
    raised the epoch, which the wiped Redis lets it do at once. Then the leader asks what became of the batch.
    """
    cluster, leader = load.cluster, load.cluster.wait_leader()
    cluster.partition(leader, "redis")  # the leader goes on believing in its lease
    cluster.partition(leader, "engine", way="down")
    epoch = _await_withheld(cluster)
    cluster.redis.wipe()
    for link in cluster.links_of(leader, "engine"):
        cluster.proxy.cut(link)
    deadline = time.monotonic() + load.bound()
    while _fence(cluster)[0] == epoch:
        assert time.monotonic() < deadline, f"nobody raised the epoch\n{cluster.logs()}"
        time.sleep(_POLL_SECONDS)
    cluster.heal()
    cluster.wait_leader(other_than=leader, timeout=load.bound())
    load.served()


def _await_withheld(cluster: BrainCluster) -> str:
    """Return the epoch once no batch has landed for a while, although all clients ask for writes."""
    still, before = 0, _fence(cluster)
    while still < _STILL_LOOKS:
        time.sleep(_POLL_SECONDS)
        now = _fence(cluster)
        still, before = (still + 1 if now == before else 0), now
    return before[0]


def _fence(cluster: BrainCluster) -> tuple[str, str]:
    """(epoch, sequence number) that PostgreSQL holds."""
    epoch, seq = cluster.postgres.sql("SELECT epoch, seq FROM wharf_brain.fence").split("|")
    return epoch, seq


def hold(seconds: float) -> None:
    """Let a fault last. Its length is what is tested; there is nothing to wait for."""
    time.sleep(seconds)
