"""Where an apiserver is and how to be known there."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from wharf.common.kube.kubeconfig import Access, KubeconfigError, _in_cluster, load_kubeconfig
from wharf.wire.tls import TlsError

CA, CERT, KEY = b"ca", b"cert", b"key"


def inline(text: bytes) -> str:
    return base64.b64encode(text).decode()


def document(cluster: Any = None, user: Any = None, **context: Any) -> dict[str, Any]:
    return {
        "current-context": "c",
        "contexts": [{"name": "other"}, {"name": "c", "context": {"cluster": "k", "user": "u", **context}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://10.0.0.1:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
    }


def load(folder: Path, content: Any, context: str = "") -> Access:
    path = folder / "config"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_kubeconfig(path, context)


def test_everything_inline(tmp_path: Path) -> None:
    cluster = {"certificate-authority-data": inline(CA), "tls-server-name": "api.example.org"}
    user = {"client-certificate-data": inline(CERT), "client-key-data": inline(KEY), "token": "t"}
    assert load(tmp_path, document(cluster, user, namespace="ns")) == Access(
        host="10.0.0.1",
        port=6443,
        tls=True,
        server_name="api.example.org",
        namespace="ns",
        ca_pem=CA,
        cert_pem=CERT,
        key_pem=KEY,
        token="t",
    )


def test_files_are_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    for name, content in (("ca.pem", CA), ("cert.pem", CERT), ("key.pem", KEY), ("token", b"t1\n")):
        (tmp_path / name).write_bytes(content)
    user = {"client-certificate": "cert.pem", "client-key": str(tmp_path / "key.pem"), "tokenFile": "token"}
    access = load(tmp_path, document({"certificate-authority": "ca.pem"}, user))
    assert (access.ca_pem, access.cert_pem, access.key_pem) == (CA, CERT, KEY)
    assert access.headers() == ((b"authorization", b"Bearer t1"),)
    (tmp_path / "token").write_text("t2")
    assert access.headers() == ((b"authorization", b"Bearer t2"),)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("https://api.example.org", ("api.example.org", 443, True, "")),
        ("http://[::1]:8080/", ("::1", 8080, False, "")),
        ("https://rancher/k8s/clusters/a", ("rancher", 443, True, "/k8s/clusters/a")),
    ],
)
def test_addresses(tmp_path: Path, server: str, expected: tuple[str, int, bool, str]) -> None:
    access = load(tmp_path, document({"server": server}))
    assert (access.host, access.port, access.tls, access.path) == expected
    assert access.headers() == ()


def test_another_context_can_be_chosen(tmp_path: Path) -> None:
    content = document()
    content["contexts"].append({"name": "d", "context": {"cluster": "k", "namespace": "elsewhere"}})
    assert load(tmp_path, content, "d").namespace == "elsewhere"
    assert load(tmp_path, content).namespace == "default"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a", "not a kubeconfig"),
        ("{", "config"),
        ({}, "current-context"),
        ({"current-context": "x"}, "contexts has no 'x'"),
        ({**document(), "clusters": None}, "clusters has no 'k'"),
        ({**document(), "users": [1]}, "users has no 'u'"),
        (document({"server": "10.0.0.1:6443"}), "is no https"),
        (document({"server": "https://a:b"}), "server"),
        (document({"server": ""}), "is no https"),
        (document({"certificate-authority": "missing.pem"}), "certificate-authority"),
        (document({"certificate-authority-data": "!"}), "certificate-authority"),
        (document({"proxy-url": "socks5://x"}), "proxies are not supported"),
        (document(user={"exec": {"command": "aws"}}), r"users\[u\]\.exec: credential plugins"),
        (document(user={"auth-provider": {"name": "gcp"}}), "auth providers"),
        (document(user={"username": "a", "password": "b"}), "user names with passwords"),
        (document(user={"as": "admin"}), "impersonation"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(KubeconfigError, match=message):
        load(tmp_path, content)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="nowhere"):
        load_kubeconfig(tmp_path / "nowhere")


def test_a_pod_uses_its_service_account(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(KubeconfigError, match="no service account"):
        _in_cluster(environment, tmp_path)
    for name, content in (("ca.crt", CA), ("namespace", b"ns\n"), ("token", b"t")):
        (tmp_path / name).write_bytes(content)
    access = _in_cluster(environment, tmp_path)
    assert (access.host, access.port, access.tls, access.namespace) == ("10.96.0.1", 443, True, "ns")
    assert (access.ca_pem, access.headers()) == (CA, ((b"authorization", b"Bearer t"),))
    with pytest.raises(KubeconfigError, match="not in a pod"):
        _in_cluster({}, tmp_path)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    shown = repr(load(tmp_path, document(user={"token": "very-secret", "client-key-data": inline(b"private")})))
    assert "secret" not in shown
    assert "private" not in shown


def test_where_to_dial(tmp_path: Path) -> None:
    plain = load(tmp_path, document({"server": "http://a:1", "tls-server-name": "b"})).target()
    assert (plain.host, plain.port, plain.tls, plain.server_name) == ("a", 1, None, "b")
    secure = load(tmp_path, document({"insecure-skip-tls-verify": True})).target()
    assert secure.tls is not None
    with pytest.raises(TlsError, match=r"10\.0\.0\.1:6443"):
        load(tmp_path, document({"certificate-authority-data": inline(b"junk")})).target()
