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


def hold(seconds: float) -> None:
    """Let a fault last. Its length is what is tested; there is nothing to wait for."""
    time.sleep(seconds)
