"""No file that a service or a command writes is open to other users, whatever the umask."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
import yaml
from wharf.brain.api.pb import rpc
from wharf.brain.app import Brain
from wharf.brain.config import load_config
from wharf.cli.embedded.ports import free_port
from wharf.cli.main import main


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def open_files(folder: Path) -> dict[str, str]:
    """Files below `folder` that somebody else may read or write, with their modes."""
    found = {}
    for path in folder.rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_file() and mode & 0o077:
            found[str(path.relative_to(folder))] = oct(mode)
    return found


def open_directories(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_dir() and stat.S_IMODE(path.stat().st_mode) & 0o077]


def wait_for_text(path: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    """Until the file holds `text`; the process must live meanwhile."""
    while not path.exists() or text not in path.read_text():
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            raise AssertionError(f"the process ended with {process.returncode}")


def serve(folder: Path, *flags: str) -> None:
    """Run a brain in `folder` through a write, a defragmentation and a snapshot."""

    def work(address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            for method, request in (
                ("KV/Put", rpc.PutRequest(key=b"k", value=b"secret")),
                ("Maintenance/Defragment", rpc.DefragmentRequest()),
            ):
                call = channel.unary_unary(f"/etcdserverpb.{method}", type(request).SerializeToString, bytes)
                call(request, timeout=30)
        assert main(["brain", "snapshot", "save", str(folder / "copy.db"), f"--endpoint=http://{address}"]) == 0

    async def run() -> None:
        words = (f"--data-dir={folder / 'data'}", "--listen-client-urls=http://127.0.0.1:0", *flags)
        brain = Brain(load_config(words, {}).config)
        await brain.start()
        try:
            await asyncio.to_thread(work, brain.addresses[0])
        finally:
            await brain.stop()

    asyncio.run(run())


@pytest.mark.parametrize("flags", [(), ("--engine=memory:",)], ids=["lmdb", "memory"])
def test_brain_and_its_commands(flags: tuple[str, ...], tmp_path: Path) -> None:
    if flags:
        (tmp_path / "data").mkdir()
    serve(tmp_path, *flags)
    if not flags:
        assert main(["brain", "restore", str(tmp_path / "copy.db"), f"--data-dir={tmp_path / 'restored'}"]) == 0
        assert (tmp_path / "data" / "store-2.mdb").exists(), "defragmented"
    assert open_files(tmp_path) == {}
    assert [path for path in tmp_path.rglob("*") if path.is_file()], "something was written"


def test_brains_own_certificate(tmp_path: Path) -> None:
    data = tmp_path / "data"
    words = [sys.executable, "-m", "wharf.brain", f"--data-dir={data}", "--listen-client-urls=https://127.0.0.1:0"]
    with subprocess.Popen([*words, "--auto-tls"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("ready to serve client requests" in line for line in process.stderr)
        process.terminate()
        process.stderr.read()
        assert process.wait(30) == 0
    assert (data / "fixtures" / "client" / "key.pem").exists()
    assert open_files(tmp_path) == {}
    assert open_directories(tmp_path) == []


def test_logs_of_both_services(tmp_path: Path) -> None:
    outputs = f"--log-outputs={tmp_path / 'brain.log'}"
    with subprocess.Popen(
        [sys.executable, "-m", "wharf.brain", "--engine=memory:", "--listen-client-urls=http://127.0.0.1:0", outputs]
    ) as brain:
        wait_for_text(tmp_path / "brain.log", "ready to serve client requests", brain)
        brain.terminate()
        assert brain.wait(30) == 0
    clusters = tmp_path / "clusters"
    clusters.mkdir()
    words = [
        f"--config-dir={clusters}",
        "--listen=https://127.0.0.1:0",
        f"--health-listen=http://127.0.0.1:{free_port()}",
    ]
    words += [f"--access-log={tmp_path / 'access.log'}", "--drain-delay=0s"]
    with subprocess.Popen(
        [sys.executable, "-m", "wharf.gateway", *words], stderr=subprocess.PIPE, text=True
    ) as gateway:
        assert gateway.stderr is not None
        assert any("listening" in line for line in gateway.stderr)
        gateway.terminate()
        gateway.stderr.read()
        assert gateway.wait(30) == 0
    assert (tmp_path / "access.log").exists()
    assert open_files(tmp_path) == {}


def test_what_the_gateway_converts(tmp_path: Path) -> None:
    rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "nonResourceURLs": ["*"]}
    theirs = {
        "apiVersion": "proxy.kubegateway.io/v1alpha1",
        "kind": "UpstreamCluster",
        "metadata": {"name": "one.example"},
        "spec": {"servers": [{"endpoint": "https://10.0.0.1:6443"}], "dispatchPolicies": [{"rules": [rule]}]},
    }
    document = tmp_path / "theirs.yaml"
    document.write_text(yaml.safe_dump(theirs))
    document.chmod(0o600)
    main(["gateway", "convert", str(document), "-o", str(tmp_path / "ours")])
    assert list((tmp_path / "ours").iterdir())
    assert open_files(tmp_path) == {}


def test_a_command_s_own_mode_check_can_fail(tmp_path: Path) -> None:
    (tmp_path / "open").touch(0o644)
    assert open_files(tmp_path) == {"open": "0o644"}
