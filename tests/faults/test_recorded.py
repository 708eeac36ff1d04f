"""Concurrent clients and watchers on one node, recorded and judged: alone, and through kills and pauses of it.

Real etcd is recorded, too: the judges are held to the server whose promises they judge.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from faults.kit import address, brain
from faults.recorded.recording import Recording
from harness.store import Store

PROGRESS = "--watch-progress-notify-interval=200ms"
CLIENTS = 6


@pytest.mark.parametrize("name", ["brain", "etcd"])
def test_concurrent_clients_see_one_history(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path, name=name, flags=(PROGRESS,)).start()
    try:
        with Recording([address(store)], 1, tmp_path, clients_per_node=CLIENTS, most=1500) as recording:
            recording.await_writes(1500, timeout=120)
            judgement = recording.judge()
        assert not judgement.faults, judgement.faults
        assert judgement.report.revisions >= 1500
        assert judgement.streams > 2 * len(recording.watchers)
        assert store.process.stop() == 0 or name == "etcd"  # which ends itself by the signal
    finally:
        store.kill()


def test_kills_and_pauses_of_a_node_break_no_promise(tmp_path: Path) -> None:
    with brain(tmp_path, PROGRESS) as store:
        with Recording([address(store)], 2, tmp_path, clients_per_node=CLIENTS, most=3000, pause=0.002) as recording:
            for _ in range(3):
                recording.await_writes(200)
                store.kill()
                store.start()
                recording.await_all_served()
                store.process.send_signal(signal.SIGSTOP)
                time.sleep(0.5)  # the pause itself
                store.process.send_signal(signal.SIGCONT)
                recording.await_all_served()
            judgement = recording.judge()
        print(judgement.report)  # shown when the test fails
        assert not judgement.faults, judgement.faults
        assert judgement.report.unanswered > 0
