"""kube-apiserver's contract with its store: its own storage tests, unmodified, each on a fresh server.

`etcd3` is the store's client, `storagebackend/factory` health checks and TLS, `cacher` the watch cache above it.
What passes on etcd must pass here.
"""

from __future__ import annotations

import pytest
from harness.gotests import TestBinary, failures, interrupted, storage_tests, verdicts
from harness.store import chosen_store, server_command

_SECONDS = 900.0


@pytest.fixture(scope="module", params=["etcd3", "storagebackend/factory", "cacher"])
def binary(request: pytest.FixtureRequest) -> TestBinary:
    return storage_tests(request.param)


def test_every_storage_test_passes(binary: TestBinary) -> None:
    store = chosen_store()
    done = binary.run(".*", server_command(store), store, _SECONDS)
    reported = verdicts(done.stdout)
    missing = sorted(set(binary.names()) - set(reported))
    assert not missing, f"never finished: {missing}\n{interrupted(done.stdout + done.stderr)}"
    failed = sorted(name for name, verdict in reported.items() if verdict == "FAIL")
    assert not failed, f"{failed}\n" + "\n".join(block[-4000:] for block in failures(done.stdout))
    assert done.returncode == 0, done.stderr
    assert "PASS" in reported.values()
