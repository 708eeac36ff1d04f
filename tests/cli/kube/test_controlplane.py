"""Command lines and kubeconfigs of a control plane, without running one (tests/cluster does)."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
import yaml
from wharf.cli.kube import argv
from wharf.cli.kube.argv import ApiserverOptions, EtcdAccess
from wharf.cli.kube.controlplane import ControlPlane, ControlPlaneOptions, free_port
from wharf.cli.kube.credentials import Identity, kubeconfig, prepare
from wharf.cli.kube.process import ProcessFailedError

BINARIES = {name: Path("/bin/false") for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")}


def flag(words: list[str] | tuple[str, ...], name: str) -> str | None:
    values = [word.partition("=")[2] for word in words if word.partition("=")[0] == name]
    assert len(values) <= 1, f"{name} given twice"
    return values[0] if values else None


def test_apiserver_listens_on_loopback_and_authenticates(tmp_path: Path) -> None:
    files = prepare(tmp_path)
    words = argv.apiserver(Path("/x"), ApiserverOptions(port=16443), EtcdAccess(("http://127.0.0.1:2379",)), files)
    assert words[0] == "/x"
    assert flag(words, "--bind-address") == "127.0.0.1"
    assert flag(words, "--secure-port") == "16443"
    assert flag(words, "--authorization-mode") == "Node,RBAC"
    assert flag(words, "--client-ca-file") == str(files.ca.cert)
    assert flag(words, "--etcd-servers") == "http://127.0.0.1:2379"
    for absent in ("--etcd-cafile", "--event-ttl", "--storage-media-type", "--etcd-compaction-interval"):
        assert flag(words, absent) is None


def test_apiserver_options_and_store_tls_become_flags(tmp_path: Path) -> None:
    files = prepare(tmp_path)
    options = ApiserverOptions(
        port=1,
        storage_media_type="application/json",
        event_ttl="5s",
        compaction_interval="2s",
        extra=("--watch-cache=false",),
    )
    etcd = EtcdAccess(("https://a:1", "https://b:2"), files.ca.cert, files.admin)
    words = argv.apiserver(Path("/x"), options, etcd, files)
    assert flag(words, "--etcd-servers") == "https://a:1,https://b:2"
    assert flag(words, "--etcd-cafile") == str(files.ca.cert)
    assert flag(words, "--etcd-keyfile") == str(files.admin.key)
    assert flag(words, "--storage-media-type") == "application/json"
    assert flag(words, "--event-ttl") == "5s"
    assert flag(words, "--etcd-compaction-interval") == "2s"
    assert words[-1] == "--watch-cache=false"


def test_controllers_share_keys_with_the_apiserver(tmp_path: Path) -> None:
    files = prepare(tmp_path)
    manager = argv.controller_manager(Path("/m"), 7, tmp_path / "config", files)
    assert flag(manager, "--service-account-private-key-file") == str(files.service_account.key)
    assert flag(manager, "--root-ca-file") == str(files.ca.cert)
    for words in (manager, argv.scheduler(Path("/s"), 7, tmp_path / "config", files)):
        assert flag(words, "--bind-address") == "127.0.0.1"
        assert flag(words, "--leader-elect") == "false"


def test_kubeconfig_carries_everything_and_is_private(tmp_path: Path) -> None:
    files = prepare(tmp_path / "pki")
    path = kubeconfig(tmp_path / "pki", tmp_path / "config", "https://127.0.0.1:1", Identity("x", "user", ("group",)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    config = yaml.safe_load(path.read_text())
    cluster = config["clusters"][0]["cluster"]
    assert cluster["server"] == "https://127.0.0.1:1"
    assert base64.b64decode(cluster["certificate-authority-data"]) == files.ca.cert.read_bytes()
    assert config["current-context"] == config["contexts"][0]["name"]
    assert config["contexts"][0]["context"]["user"] == config["users"][0]["name"] == "user"


def test_other_ways_to_a_cluster_are_contexts_beside_the_current_one(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "pki", tmp_path / "c", "https://a:1", Identity("x", "user"), {"past": "https://b:2"})
    config = yaml.safe_load(path.read_text())
    assert {one["name"]: one["cluster"]["server"] for one in config["clusters"]} == {
        "wharf": "https://a:1",
        "past": "https://b:2",
    }
    assert [one["name"] for one in config["contexts"]] == ["user@wharf", "user@past"]
    assert [one["context"]["cluster"] for one in config["contexts"]] == ["wharf", "past"]
    assert config["current-context"] == "user@wharf"


def test_ports_and_kubeconfigs_are_known_before_the_start(tmp_path: Path) -> None:
    servers = (ApiserverOptions(port=0), ApiserverOptions(port=0, advertise_address="192.0.2.2"))
    plane = ControlPlane(tmp_path, BINARIES, EtcdAccess(("http://x",)), ControlPlaneOptions(apiservers=servers))
    assert len(set(plane.urls)) == 2
    assert [yaml.safe_load(path.read_text())["clusters"][0]["cluster"]["server"] for path in plane.kubeconfigs] == list(
        plane.urls
    )
    assert [process.name for process in plane.processes] == [
        "kube-apiserver-0",
        "kube-apiserver-1",
        "kube-controller-manager",
        "kube-scheduler",
    ]


def test_a_wildcard_listener_is_reached_over_loopback(tmp_path: Path) -> None:
    server = ApiserverOptions(port=5, bind_address="0.0.0.0")  # noqa: S104 - what a user may ask for
    options = ControlPlaneOptions(apiservers=(server,), controllers=False)
    plane = ControlPlane(tmp_path, BINARIES, EtcdAccess(("http://x",)), options)
    assert plane.url == "https://127.0.0.1:5"


def test_a_failed_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\necho the reason; exit 3\n")
    script.chmod(0o755)
    binaries = BINARIES | {"kube-apiserver": script}
    plane = ControlPlane(tmp_path / "d", binaries, EtcdAccess(("http://x",)))
    with pytest.raises(ProcessFailedError, match=r"code 3(.|\n)*the reason"):
        plane.start(10)
    assert not any(process.running for process in plane.processes)
    assert "the reason" in plane.logs()


def test_free_port() -> None:
    assert 0 < free_port() < 65536
