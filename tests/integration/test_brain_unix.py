"""brain on unix:// sockets, beside TCP: etcdctl and grpcio over a socket file, and what becomes of the file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from harness.store import Store
from proofs.ctl import RELEASES, Ctl


@pytest.mark.parametrize("release", RELEASES)
def test_etcdctl_over_a_socket_file(tmp_path: Path, release: str) -> None:
    path = tmp_path / "client.sock"
    store = Store(tmp_path / "store", "brain")
    store.process.argv = tuple(
        f"{word},unix://{path}" if word.startswith("--listen-client-urls=") else word for word in store.process.argv
    )
    over_tcp, over_socket = Ctl(release, store.url), Ctl(release, f"unix://{path}")
    store.start()
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert over_socket("put", "a", "1").strip() == "OK"
        assert over_tcp("get", "a").split() == ["a", "1"]
        assert f"unix://{path}" in over_tcp("member", "list")
        store.kill()
        assert path.exists(), "nothing removes it when the process is killed"
        store.start()
        assert over_socket("get", "a").split() == ["a", "1"]
    finally:
        store.stop()
    assert not path.exists()
