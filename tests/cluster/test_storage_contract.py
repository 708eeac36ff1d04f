"""kube-apiserver's contract with its store: its own storage tests, unmodified, each on a fresh server.

What passes on etcd must pass here; a test that is skipped on etcd too (it belongs to the watch cache) may be skipped.
"""

from __future__ import annotations

import pytest
from harness.gotests import TestBinary, failures, storage_tests, verdicts
from harness.store import chosen_store, server_command

_SECONDS = 900.0


@pytest.fixture(scope="module", params=["etcd3", "storagebackend/factory"])
def binary(request: pytest.FixtureRequest) -> TestBinary:
    return storage_tests(request.param)


def test_every_storage_test_passes(binary: TestBinary) -> None:
    store = chosen_store()
    done = binary.run(".*", server_command(store), store, _SECONDS)
    reported = verdicts(done.stdout)
    missing = sorted(set(binary.names()) - set(reported))
    assert not missing, f"never finished: {missing}\n{done.stdout[-5000:]}{done.stderr[-3000:]}"
    failed = sorted(name for name, verdict in reported.items() if verdict == "FAIL")
    assert not failed, f"{failed}\n" + "\n".join(block[-4000:] for block in failures(done.stdout))
    assert done.returncode == 0, done.stderr
    assert "PASS" in reported.values()
