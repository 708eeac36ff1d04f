"""`wharf gateway convert`, `check` and `crd` as a person meets them."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from gateway.api.documents import document, spec
from gateway.api.test_convert import theirs
from wharf.gateway.api.crd import crd
from wharf.gateway.api.parse import parse_cluster
from wharf.gateway.commands import find_command
from wire.pki import Authority

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


@pytest.mark.parametrize("content", ["kind: ConfigMap\napiVersion: v1\n", ""], ids=["foreign", "empty"])
def test_convert_with_nothing_to_convert_fails(content: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(content)
    assert run("convert", str(path)) == 1
    told = capsys.readouterr()
    assert told.out == ""
    wanted = "no document is of proxy.kubegateway.io/v1alpha1, kind UpstreamCluster"
    assert told.err.splitlines()[-1] == f"wharf gateway convert: there is nothing to convert: {wanted}"


def test_convert_reads_a_directory(tmp_path: Path, capsys: Capture) -> None:
    for name in ("blue", "green"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(theirs(name)))
    assert run("convert", str(tmp_path)) == 0
    assert [parse_cluster(one).name for one in yaml.safe_load_all(capsys.readouterr().out)] == ["blue", "green"]


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
        f"{path}: b: x belongs to UpstreamCluster a ({path})",
    ]
    path.write_text(yaml.safe_dump(documents[0]))
    assert run("check", str(path)) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("1 UpstreamCluster is valid: a\n", "")


def test_check_names_both_files_of_a_name_and_of_a_claim(tmp_path: Path, capsys: Capture) -> None:
    paths = [tmp_path / f"{name}.yaml" for name in "abc"]
    for path, one in zip(
        paths,
        (document(spec(hostnames=["x"]), "one"), document(spec(), "one"), document(spec(hostnames=["x"]), "two")),
        strict=True,
    ):
        path.write_text(yaml.safe_dump(one))
    assert run("check", *map(str, paths)) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{paths[1]}: one: is defined already, in {paths[0]}",
        f"{paths[2]}: two: x belongs to UpstreamCluster one ({paths[0]})",
    ]


def test_check_of_a_broken_file_does_not_hide_the_problems_of_the_others(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(document(spec(sevring={}), "b")))
    (tmp_path / "c.yaml").write_bytes(b"\xff")
    assert run("check", str(tmp_path)) == 2
    broken, encoded, wrong = capsys.readouterr().err.splitlines()
    assert broken.startswith(f"wharf gateway check: {tmp_path}/a.yaml: line")
    assert encoded == f"wharf gateway check: {tmp_path}/c.yaml: is not UTF-8 text"
    assert wrong.startswith(f"{tmp_path}/b.yaml: b: spec.sevring: ")


@pytest.fixture
def material(tmp_path: Path) -> Path:
    """A directory with a document whose files are all there and right."""
    folder = tmp_path / "clusters"
    folder.mkdir()
    authority = Authority(tmp_path)
    for name in ("server", "other"):
        files = authority.issue(name)
        Path(files.cert).rename(folder / f"{name}.crt")
        Path(files.key).rename(folder / f"{name}.key")
    (folder / "ca.crt").write_bytes(Path(authority.ca_file).read_bytes())
    (folder / "token").write_text("abc\n")
    serving = {"certificate": {"file": "server.crt"}, "key": {"file": "server.key"}, "clientCA": {"file": "ca.crt"}}
    upstream = {"ca": {"file": "ca.crt"}, "token": {"file": "token"}, "identity": "Impersonation"}
    (folder / "a.yaml").write_text(yaml.safe_dump(document(spec(serving=serving, upstream=upstream), "a")))
    return folder


@pytest.mark.parametrize("path", ["", "a.yaml"], ids=["directory", "file"])
def test_check_reads_the_files_that_documents_refer_to(material: Path, path: str, capsys: Capture) -> None:
    assert run("check", str(material / path)) == 0
    assert capsys.readouterr().out == "1 UpstreamCluster is valid: a\n"
    (material / "server.key").write_bytes((material / "other.key").read_bytes())
    assert run("check", str(material / path)) == 1
    wanted = f"{material}/a.yaml: a: spec.serving.key: file server.key is not the key of the certificate"
    assert capsys.readouterr().err.splitlines() == [wanted]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "does not exist"),
        (Path.touch, "is empty"),
        (lambda path: path.write_text("abc"), "is not a PEM certificate"),
        (lambda path: path.symlink_to("/dev/zero"), "is a character device, not a regular file"),
        (os.mkfifo, "is a FIFO, not a regular file"),
        (Path.mkdir, "is a directory, not a regular file"),
    ],
    ids=["missing", "empty", "text", "device", "FIFO", "directory"],
)
def test_check_refuses_files_that_cannot_be_used(
    material: Path, make: Callable[[Path], object], words: str, capsys: Capture
) -> None:
    (material / "ca.crt").unlink()
    make(material / "ca.crt")
    assert run("check", str(material)) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{material}/a.yaml: a: spec.{field}: file ca.crt {words}" for field in ("serving.clientCA", "upstream.ca")
    ]


def test_check_finds_secrets_among_the_documents_only(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.yaml"
    token = {"token": {"secretRef": {"namespace": "wharf", "name": "token"}}}
    path.write_text(yaml.safe_dump(document(spec(upstream=token), "a")))
    assert run("check", str(path)) == 0
    assert capsys.readouterr().out.splitlines()[1] == ("not checked: Secret wharf/token is not among the documents")
    assert run("check", str(tmp_path)) == 1, "a watched directory must hold it"
    assert "spec.upstream.token: Secret wharf/token does not exist" in capsys.readouterr().err

    secret = {"kind": "Secret", "metadata": {"namespace": "wharf", "name": "token"}, "stringData": {"token": "a b"}}
    (tmp_path / "secret.yaml").write_text(yaml.safe_dump(secret))
    assert run("check", str(tmp_path)) == 1
    assert "Secret wharf/token is not a token" in capsys.readouterr().err
    secret["stringData"] = {"token": "ab"}
    (tmp_path / "secret.yaml").write_text(yaml.safe_dump(secret))
    assert run("check", str(tmp_path)) == 0
    assert capsys.readouterr().out == "1 UpstreamCluster is valid: a\n"


@pytest.mark.parametrize("wrong", [{"data": [1]}, {"stringData": "x"}, {"data": {"a": "%"}}])
def test_check_refuses_a_broken_secret(wrong: dict[str, object], tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({"kind": "Secret", "metadata": {"name": "s"}, **wrong}))
    assert run("check", str(path)) == 1
    assert capsys.readouterr().err.startswith(f"{path}: Secret default/s: ")


def test_check_without_a_cluster_fails(tmp_path: Path, capsys: Capture) -> None:
    assert run("check", str(tmp_path)) == 2
    assert capsys.readouterr().err == f"wharf gateway check: {tmp_path}: holds no *.yaml, *.yml or *.json file\n"
    path = tmp_path / "a.yaml"
    path.write_text("")
    assert run("check", str(path)) == 1
    assert capsys.readouterr().err == f"there is no UpstreamCluster in {path}\n"


def test_crd_prints_the_definition(capsys: Capture) -> None:
    assert run("crd") == 0
    assert yaml.safe_load(capsys.readouterr().out) == crd()
