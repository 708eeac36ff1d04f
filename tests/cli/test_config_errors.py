"""One rule for every service: a configuration error is one plain line with flag, cause and remedy, exit code 2."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from wharf.cli.main import main

SERVICES = ("brain", "gateway")


@pytest.fixture
def words(tmp_path: Path) -> dict[str, list[str]]:
    """What each service needs to start; all of it is refused before anything starts."""
    clusters = tmp_path / "clusters"
    clusters.mkdir()
    return {"brain": ["--engine=memory:"], "gateway": [f"--config-dir={clusters}", "--listen=https://127.0.0.1:0"]}


def refused(service: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main([service, *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err.splitlines()


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("delimiter", ["#", "/", "?", "[", "]", "@"])
@pytest.mark.parametrize("flag", ["redis", "nats"])
def test_no_part_of_an_unescaped_password_is_shown(
    service: str, delimiter: str, flag: str, words: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = refused(service, [*words[service], f"--{flag}={flag}://u:hunter{delimiter}secret@host:1"], capsys)
    assert line.startswith(f"wharf {service}: --{flag}: '{flag}://u:***@host:1' holds an unescaped {delimiter!r}")
    assert "percent-encode the user and the password" in line
    assert "hunter" not in line
    assert "secret" not in line


@pytest.mark.parametrize("service", SERVICES)
def test_wrong_scheme_is_refused(service: str, words: dict[str, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    lines = refused(service, [*words[service], "--redis=http://redis", "--nats=http://nats"], capsys)
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == ["--redis", "--nats"]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("flag", ["nats-ca-file", "nats-cert-file", "nats-key-file", "nats-credentials-file"])
def test_missing_file_is_named_with_its_flag(
    service: str, flag: str, words: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replicated = ["--engine=postgresql://db/w", "--redis=redis://r"] if service == "brain" else words[service]
    pair = {"nats-cert-file": "nats-key-file", "nats-key-file": "nats-cert-file"}.get(flag)
    here = tmp_path / "here.pem"
    here.touch()
    given = [*replicated, "--nats=nats://n", f"--{flag}={tmp_path}/nope.pem", *([f"--{pair}={here}"] if pair else [])]
    (line,) = refused(service, given, capsys)
    cause = f"'{tmp_path}/nope.pem' cannot be read: No such file or directory; name a file that this user may read"
    assert line == f"wharf {service}: --{flag}: {cause}"


@pytest.mark.parametrize("service", SERVICES)
def test_directory_in_place_of_a_file_is_refused(
    service: str, words: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {
        "brain": ["--listen-client-urls=https://127.0.0.1:0", f"--cert-file={tmp_path}", f"--key-file={tmp_path}"],
        "gateway": [f"--tls-cert-file={tmp_path}", f"--tls-private-key-file={tmp_path}"],
    }
    lines = refused(service, [*words[service], *flags[service]], capsys)
    assert [line.rpartition(": ")[2] for line in lines] == 2 * [
        "it is not a regular file; name a file that this user may read"
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_file_that_is_no_certificate_is_refused(
    service: str, words: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tls.pem"
    file.write_text("no certificate")
    flags = {
        "brain": ["--listen-client-urls=https://127.0.0.1:0", f"--cert-file={file}", f"--key-file={file}"],
        "gateway": [f"--tls-cert-file={file}", f"--tls-private-key-file={file}"],
    }
    (line,) = refused(service, [*words[service], *flags[service]], capsys)
    assert f"cannot load {file} with {file}" in line
    assert "give a PEM certificate" in line


@pytest.mark.parametrize("service", SERVICES)
def test_address_in_use_is_named_with_its_flag(
    service: str, words: dict[str, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        flag = {"brain": "listen-client-urls", "gateway": "health-listen"}[service]
        assert main([service, *words[service], f"--{flag}=http://127.0.0.1:{port}"]) == 2
    assert capfd.readouterr().err.splitlines()[-1] == (
        f"wharf {service}: --{flag}: cannot listen on http://127.0.0.1:{port}: address already in use; "
        "stop the process that listens there, or give another port"
    )


@pytest.mark.parametrize("service", SERVICES)
def test_debug_shows_the_traceback(
    service: str,
    words: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(refused(service, [*words[service], "--redis=x"], capsys)) == 1
    assert "Traceback (most recent call last):" in refused(service, [*words[service], "--redis=x", "--debug"], capsys)


def test_access_log_that_cannot_be_written_is_refused(
    words: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = refused("gateway", [*words["gateway"], f"--access-log={tmp_path}"], capsys)
    assert line == f"wharf gateway: --access-log: {tmp_path}: Is a directory; name a file that this user may write"


def test_home_kubeconfig_that_cannot_be_used_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kubeconfig"
    for text in (None, "no: kubeconfig"):
        if text is not None:
            file.write_text(text)
        lines = refused("gateway", [f"--home-kubeconfig={file}"], capsys)
        assert lines[0].startswith(f"wharf gateway: --home-kubeconfig: {file}: ")
        assert lines[-1].endswith("give a kubeconfig of the home cluster")
