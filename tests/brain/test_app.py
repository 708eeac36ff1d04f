"""The process: how it starts, what it says, how it ends."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from wharf.brain.api.pb import rpc
from wharf.brain.app import main


class Process:
    """A running `wharf brain`, its log lines read as they come."""

    def __init__(self, *flags: str) -> None:
        words = [sys.executable, "-m", "wharf.brain", "--listen-client-urls=http://127.0.0.1:0", *flags]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        self.lines: list[dict[str, Any]] = []

    def wait_line(self, message: str) -> dict[str, Any]:
        """The first log line with this message."""
        assert self.process.stderr is not None
        for text in self.process.stderr:
            self.lines.append(json.loads(text))
            if self.lines[-1]["msg"] == message:
                return self.lines[-1]
        raise AssertionError(f"ended without saying {message!r}: {self.lines}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self._read_rest()
        return self.process.wait(timeout=20)

    def _read_rest(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(json.loads(text) for text in self.process.stderr)
        self.process.stderr.close()


@contextmanager
def running(*flags: str) -> Iterator[Process]:
    process = Process(*flags)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()
        if process.process.stderr is not None:
            process.process.stderr.close()


def ask(address: str, path: str, request: bytes) -> bytes:
    with grpc.insecure_channel(address) as channel:
        return bytes(channel.unary_unary(path, bytes, bytes)(request, timeout=10))


def get(address: str, path: str) -> tuple[int, str]:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
        return answer.status, answer.read().decode()


def test_what_is_acknowledged_survives_a_restart(tmp_path: Path) -> None:
    data = f"--data-dir={tmp_path / 'data'}"
    with running(data) as brain:
        (address,) = brain.wait_line("ready to serve client requests")["addresses"]
        ask(address, "/etcdserverpb.KV/Put", rpc.PutRequest(key=b"k", value=b"v").SerializeToString())
        assert brain.stop() == 0
    assert oct((tmp_path / "data").stat().st_mode & 0o777) == "0o700"
    with running(data) as brain:
        ready = brain.wait_line("ready to serve client requests")
        assert ready["revision"] == 2
        answer = ask(ready["addresses"][0], "/etcdserverpb.KV/Range", rpc.RangeRequest(key=b"k").SerializeToString())
        assert rpc.RangeResponse.FromString(answer).kvs[0].value == b"v"
        assert brain.stop(signal.SIGINT) == 0


def test_probes_and_metrics_are_on_both_kinds_of_addresses() -> None:
    with running("--engine=memory:", "--listen-metrics-urls=http://127.0.0.1:0") as brain:
        ready = brain.wait_line("ready to serve client requests")
        ask(ready["addresses"][0], "/etcdserverpb.KV/Put", rpc.PutRequest(key=b"k").SerializeToString())
        for address in (*ready["addresses"], *ready["metrics_addresses"]):
            assert get(address, "/health") == (200, '{"health":"true","reason":""}')
            assert get(address, "/readyz") == (200, "ok\n")
            assert json.loads(get(address, "/version")[1])["etcdserver"].startswith("3.")
            metrics = get(address, "/metrics")[1]
            assert "etcd_server_has_leader 1\n" in metrics
            assert "etcd_debugging_mvcc_current_revision 2\n" in metrics
            handled = [line for line in metrics.splitlines() if line.startswith("grpc_server_handled_total")]
            (put,) = [line for line in handled if 'grpc_method="Put"' in line]
            assert 'grpc_code="OK"' in put
            assert put.endswith(" 1")
        assert brain.stop() == 0


def test_the_probe_port_serves_no_api() -> None:
    with running("--engine=memory:", "--listen-metrics-urls=http://127.0.0.1:0") as brain:
        (address,) = brain.wait_line("ready to serve client requests")["metrics_addresses"]
        with pytest.raises(grpc.RpcError) as caught:
            ask(address, "/etcdserverpb.KV/Range", rpc.RangeRequest(key=b"k").SerializeToString())
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert brain.stop() == 0


def test_flags_without_a_meaning_are_named_in_one_line() -> None:
    flags = ("--initial-cluster=default=http://127.0.0.1:2380", "--snapshot-count", "10000", "--pre-vote")
    with running("--engine=memory:", *flags) as brain:
        brain.wait_line("ready to serve client requests")
        warnings = [line for line in brain.lines if line["level"] == "warn"]
        assert len(warnings) == 1
        assert warnings[0]["flags"] == ["--initial-cluster", "--snapshot-count", "--pre-vote"]
        assert brain.stop() == 0


def test_a_watching_client_does_not_hold_up_the_end() -> None:
    with running("--engine=memory:") as brain:
        (address,) = brain.wait_line("ready to serve client requests")["addresses"]
        request = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"k")).SerializeToString()
        with grpc.insecure_channel(address) as channel:
            stream = channel.stream_stream("/etcdserverpb.Watch/Watch", bytes, bytes)(iter((request,)), timeout=30)
            assert rpc.WatchResponse.FromString(next(stream)).created
            assert brain.stop() == 0
            with pytest.raises(grpc.RpcError):
                next(stream)
            assert stream.code() is grpc.StatusCode.UNAVAILABLE


def test_a_second_brain_on_the_same_data_is_refused(tmp_path: Path) -> None:
    data = f"--data-dir={tmp_path / 'data'}"
    with running(data) as first:
        first.wait_line("ready to serve client requests")
        with running(data) as second:
            refused = second.wait_line("cannot start")
            assert "in use by another brain" in refused["reason"]
            assert second.process.wait(timeout=20) == 1
        assert first.stop() == 0


@pytest.mark.parametrize("flag", ["--listen-client-urls", "--listen-metrics-urls"])
def test_an_address_in_use_is_refused_with_its_flag(flag: str) -> None:
    with running("--engine=memory:") as first:
        (address,) = first.wait_line("ready to serve client requests")["addresses"]
        flags = {"--listen-client-urls": "http://127.0.0.1:0"} | {flag: f"http://{address}"}
        said = refusal("--engine=memory:", *(f"{name}={value}" for name, value in flags.items()))
        assert said == (
            f"wharf brain: {flag}: cannot listen on http://{address}: address already in use; stop the process that "
            "listens there, or give another port\n"
        )
        assert first.stop() == 0


def test_mistakes_are_one_line_each_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--listen-client-url=http://127.0.0.1:1", "--front-end=h3"], {}) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "wharf brain: unknown flag --listen-client-url; did you mean --listen-client-urls?"
    assert len(lines) == 2


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"], {}) == 0
    assert "--data-dir" in capsys.readouterr().out
    assert main(["--version"], {}) == 0
    assert "etcd API 3." in capsys.readouterr().out


def test_an_open_data_directory_is_warned_about(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    os.chmod(data, 0o755)  # noqa: S103 that is what is warned about
    with running(f"--data-dir={data}") as brain:
        brain.wait_line("ready to serve client requests")
        assert any("0700" in line["msg"] for line in brain.lines)
        assert brain.stop() == 0


def test_a_log_may_have_several_outputs(tmp_path: Path) -> None:
    file = tmp_path / "brain.log"
    with running("--engine=memory:", f"--log-outputs=stderr,{file}") as brain:
        brain.wait_line("ready to serve client requests")
        assert brain.stop() == 0
    written = [json.loads(text)["msg"] for text in file.read_text().splitlines()]
    assert written == [line["msg"] for line in brain.lines]


def refusal(*flags: str) -> str:
    """What a start that is refused as a configuration error prints; its exit code is 2."""
    words = [sys.executable, "-m", "wharf.brain", *flags]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return done.stderr


def test_a_certificate_that_cannot_be_used_is_refused_with_its_flag(tmp_path: Path) -> None:
    missing = tmp_path / "server.crt"
    https = ("--engine=memory:", "--listen-client-urls=https://127.0.0.1:0")
    said = refusal(*https, f"--cert-file={missing}", f"--key-file={missing}")
    assert f"wharf brain: --cert-file: '{missing}' cannot be read: No such file or directory; name a file" in said
    assert f"wharf brain: --key-file: '{missing}'" in said
    missing.write_text("no certificate")
    said = refusal(*https, f"--cert-file={missing}", f"--key-file={missing}")
    assert said.startswith(f"wharf brain: --cert-file, --key-file, --trusted-ca-file: cannot load {missing}")


def test_a_directory_that_cannot_be_used_is_refused_with_its_flag(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert f"--data-dir: {file}: {file} is not a directory; give another directory" in refusal(f"--data-dir={file}")
    assert f"--engine: {file}/x: {file} is not a directory" in refusal(f"--engine=lmdb://{file}/x")
    outputs = f"--log-outputs={tmp_path}"
    assert f"--log-outputs: '{tmp_path}': Is a directory" in refusal("--engine=memory:", outputs)


@pytest.mark.parametrize("front", ["wire", "grpcio"])
def test_a_socket_file_that_cannot_be_made_is_refused_with_its_flag(front: str, tmp_path: Path) -> None:
    path = tmp_path / "no" / "a@b.sock"
    said = refusal("--engine=memory:", f"--listen-client-urls=unix://{path}", f"--front-end={front}")
    assert f"wharf brain: --listen-client-urls: cannot listen on unix://{path}: " in said
    assert "name a path in a directory that this user may write" in said


def test_auto_tls_serves_https_with_a_kept_certificate(tmp_path: Path) -> None:
    flags = (f"--data-dir={tmp_path}", "--listen-client-urls=https://127.0.0.1:0", "--auto-tls")
    made = []
    for _ in range(2):
        with running(*flags) as brain:
            (address,) = brain.wait_line("ready to serve client requests")["addresses"]
            made.append((tmp_path / "fixtures" / "client" / "cert.pem").read_text())
            context = ssl.create_default_context(cadata=made[-1])
            with urllib.request.urlopen(f"https://{address}/health", timeout=10, context=context) as answer:
                assert answer.status == 200
            assert brain.stop() == 0
    assert made[0] == made[1]


def test_host_whitelist_holds_on_client_urls_and_leaves_probes_alone(tmp_path: Path) -> None:
    urls = ("--host-whitelist=good.example", "--listen-metrics-urls=http://127.0.0.1:0")
    with running("--engine=memory:", *urls) as brain:
        ready = brain.wait_line("ready to serve client requests")
        (address,), (probe,) = ready["addresses"], ready["metrics_addresses"]

        def health(at: str, host: str) -> int:
            request = urllib.request.Request(f"http://{at}/health", headers={"Host": host})
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                    return int(answer.status)
            except urllib.error.HTTPError as refused:
                refused.close()
                return refused.code

        assert (health(address, "good.example:1"), health(address, "evil.example")) == (200, 421)
        assert health(probe, "evil.example") == 200
        assert brain.stop() == 0
