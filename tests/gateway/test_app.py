"""Starts that fail: what is missing or taken is said in one line, and the exit code tells the rest."""

from __future__ import annotations

import gc
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.daemon import lasting_port
from wharf.gateway.app import main

HOST = "127.0.0.1"
LISTEN = f"--listen=https://{HOST}:0"


@pytest.fixture(autouse=True)
def process_settings_come_back() -> Iterator[None]:
    """`main` is meant to have a process of its own."""
    root, thresholds = logging.getLogger(), gc.get_threshold()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def health() -> str:
    return f"--health-listen=http://{HOST}:{lasting_port()}"


def assert_refused(capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], named: str) -> None:
    """It ended with 2 and its last line names the flag, the value and the remedy."""
    assert main(flags, {}) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("wharf gateway: --")
    assert named in last
    assert "; " in last


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use(workers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        flags = (f"--config-dir={tmp_path}", f"--workers={workers}", health(), f"--listen=https://{HOST}:{port}")
        assert_refused(capsys, flags, str(port))


def test_a_health_port_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        flags = (f"--config-dir={tmp_path}", LISTEN, f"--health-listen=http://{HOST}:{port}")
        assert_refused(capsys, flags, str(port))


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "wrong"])
def test_a_bad_listener_certificate(content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = tmp_path / "tls.crt", tmp_path / "tls.key"
    if content is not None:
        for path in pair:
            path.write_text(content)
    files = (f"--tls-cert-file={pair[0]}", f"--tls-private-key-file={pair[1]}")
    flags = (f"--config-dir={tmp_path}", LISTEN, health(), *files)
    assert_refused(capsys, flags, "tls.key" if content is None else "certificate")


@pytest.mark.parametrize("content", [None, "clusters: 7"], ids=["missing", "wrong"])
def test_an_unreadable_kubeconfig(content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    assert_refused(capsys, (f"--home-kubeconfig={path}", LISTEN, health()), "kubeconfig")


def test_an_access_log_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "no" / "access.log"
    assert_refused(capsys, (f"--config-dir={tmp_path}", f"--access-log={path}", LISTEN, health()), str(path))


@pytest.mark.parametrize("flag", ["--otlp-endpoint=:::", "--nats=http://a", "--redis=http://a"])
def test_addresses_of_others_that_are_none(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(capsys, (f"--config-dir={tmp_path}", flag, LISTEN, health()), "")


@pytest.mark.parametrize(
    ("name", "reason"), [("missing", "No such file or directory"), ("file", "Not a directory")], ids=str
)
def test_a_config_dir_that_is_no_directory_ends_with_2(
    name: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / name
    assert main((f"--config-dir={path}", LISTEN, health()), {}) == 2
    [line] = capsys.readouterr().err.splitlines()
    remedy = "name the directory that holds the UpstreamCluster documents"
    assert line == f"wharf gateway: --config-dir: {path}: {reason}; {remedy}"


@pytest.mark.parametrize("flags", [(), ("--no-such-flag",), ("no-such-command",)])
def test_wrong_words_end_with_2(flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(flags, {}) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()
    assert all(line.startswith("wharf gateway: ") for line in told.err.splitlines())
