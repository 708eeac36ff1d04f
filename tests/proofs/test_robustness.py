"""etcd's own robustness traffic, judged by etcd's own model: puts, deletes, leases, transactions, compactions.

The traffic, the model and the judge are those of the module go.etcd.io/etcd/tests/v3. etcd is judged, too, so that a
rejected history speaks of the server and not of the judge.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from proofs.conftest import Starter
from proofs.traffic import Verdict, judge

SECONDS = 20.0
KILLS = 3
KINDS = {"range", "txn", "leaseGrant", "leaseRevoke", "compact"}


def assert_linearizable(verdict: Verdict, folder: Path) -> None:
    assert not verdict.fault, f"{verdict}; see {folder}"
    assert set(verdict.kinds) >= KINDS, verdict
    assert verdict.revision > 300, verdict


@pytest.mark.parametrize("name", ["brain", "etcd-3.6"])
def test_mixed_traffic_is_linearizable(name: str, begin: Starter, tmp_path: Path) -> None:
    store = begin(name, "server")
    assert_linearizable(judge(store.url, SECONDS, tmp_path), tmp_path)


def test_mixed_traffic_is_linearizable_through_kills(begin: Starter, tmp_path: Path) -> None:
    store = begin("brain", "server")

    def kill() -> None:
        for _ in range(KILLS):
            time.sleep(SECONDS / (KILLS + 2))  # traffic between two kills
            store.kill()
            store.start()

    verdict = judge(store.url, SECONDS, tmp_path, kill)
    assert_linearizable(verdict, tmp_path)
    assert verdict.failed > 0, "nothing was under way when the server was killed"
