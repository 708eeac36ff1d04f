"""`wharf gateway convert`, `check` and `crd` as a person meets them."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest
import yaml
from gateway.api.documents import document, spec
from gateway.api.test_convert import theirs
from wharf.gateway.api.crd import crd
from wharf.gateway.api.parse import parse_cluster
from wharf.gateway.commands import find_command

Capture = pytest.CaptureFixture[str]


def run(*words: str) -> int:
    found = find_command(words)
    assert found is not None
    command, rest = found
    return command(rest)


def test_convert_writes_to_standard_output_and_tells_warnings_apart(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump_all([theirs("blue"), theirs("green"), {"apiVersion": "v1", "kind": "ConfigMap"}]))
    assert run("convert", str(path)) == 0
    told = capsys.readouterr()
    clusters = [parse_cluster(one) for one in yaml.safe_load_all(told.out)]
    assert [one.name for one in clusters] == ["blue", "green"]
    assert f"{path}: blue: warning: spec.secureServing.clientCAData: absent" in told.err
    assert f"{path}: a document without a name: is no UpstreamCluster of KubeGateway; passed over" in told.err


def test_convert_into_a_directory_keeps_secrets_from_others(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump(theirs("blue")))
    assert run("convert", str(path), "-o", str(tmp_path / "new" / "clusters")) == 0
    made = tmp_path / "new" / "clusters" / "blue.yaml"
    assert parse_cluster(yaml.safe_load(made.read_text())).name == "blue"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


def test_a_refused_document_does_not_stop_the_others(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump_all([theirs("blue", servers=[{"endpoint": "10.0.0.1:6443"}]), theirs("green")]))
    assert run("convert", str(path)) == 1
    told = capsys.readouterr()
    assert "blue: refused: spec.servers[0].endpoint: '10.0.0.1:6443' is not https://host:port" in told.err
    assert parse_cluster(yaml.safe_load(told.out)).name == "green"


def test_convert_reads_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(theirs("blue"))))
    assert run("convert") == 0
    assert parse_cluster(yaml.safe_load(capsys.readouterr().out)).name == "blue"


@pytest.mark.parametrize("command", ["convert", "check"])
def test_files_that_cannot_be_read_are_one_clear_line(command: str, tmp_path: Path, capsys: Capture) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    assert run(command, str(broken)) == 2
    assert capsys.readouterr().err.startswith(f"wharf gateway {command}: {broken}: line")
    assert run(command, str(tmp_path / "nothing.yaml")) == 2
    assert capsys.readouterr().err.endswith("nothing.yaml: No such file or directory\n")


def test_a_directory_that_cannot_be_written_is_one_clear_line(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump(theirs("blue")))
    assert run("convert", str(path), "-o", str(path / "below")) == 2
    assert capsys.readouterr().err.endswith("Not a directory\n")


@pytest.mark.parametrize("command", ["convert", "check", "crd"])
def test_help_and_wrong_words(command: str, capsys: Capture) -> None:
    assert run(command, "--help") == 0
    assert f"wharf gateway {command}" in capsys.readouterr().out
    assert run(command, "--nonsense") == 2


def test_check_says_every_problem_and_conflict(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "all.yaml"
    documents = [
        document(spec(hostnames=["x"]), "a"),
        document(spec(hostnames=["x"]), "b"),
        document(spec(retry={"budget": 2}, sevring={}), "c"),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}},
    ]
    path.write_text(yaml.safe_dump_all(documents))
    assert run("check", str(path)) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{path}: c: spec.sevring: unknown field (did you mean serving?)",
        f"{path}: c: spec.retry.budget: must be 0 to 1, not 2",
        "b: x belongs to UpstreamCluster a",
    ]
    path.write_text(yaml.safe_dump(documents[0]))
    assert run("check", str(path)) == 0
    assert capsys.readouterr().err == ""


def test_crd_prints_the_definition(capsys: Capture) -> None:
    assert run("crd") == 0
    assert yaml.safe_load(capsys.readouterr().out) == crd()
