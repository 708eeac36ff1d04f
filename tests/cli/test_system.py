"""The table of parts: private files, loopback only, TLS on both sides, the same certificates at the next start; and
what the gateway is told."""

import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.plan import Part, start_waves
from wharf.cli.embedded.ports import Ports
from wharf.cli.embedded.system import BINARIES, Binary, build
from wharf.gateway.config import load_config
from wharf.gateway.sources.directory import Folder

PORTS = Ports(
    apiserver=1001,
    brain=1002,
    brain_health=1003,
    controller_manager=1004,
    scheduler=1005,
    gateway=1006,
    gateway_health=1007,
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path)
    made.make()
    return made


def table(layout: Layout) -> dict[str, Part]:
    binaries = {name: Binary(Path("/bin") / name, "v1.36.3") for name in BINARIES}
    return {part.name: part for part in build(layout, PORTS, binaries)}


def flag(part: Part, name: str) -> str:
    (found,) = (word.removeprefix(f"{name}=") for word in part.argv if word.startswith(f"{name}="))
    return found


def test_the_order_of_the_system(layout: Layout) -> None:
    waves = [[part.name for part in wave] for wave in start_waves(list(table(layout).values()))]
    assert waves == [["brain"], ["kube-apiserver"], ["gateway", "kube-controller-manager", "kube-scheduler"]]


def test_brain_serves_only_who_shows_a_certificate(layout: Layout) -> None:
    parts = table(layout)
    brain, apiserver = parts["brain"], parts["kube-apiserver"]
    assert "--client-cert-auth" in brain.argv
    assert flag(brain, "--listen-client-urls") == flag(apiserver, "--etcd-servers") == "https://127.0.0.1:1002"
    assert flag(brain, "--trusted-ca-file") == flag(apiserver, "--etcd-cafile")
    assert flag(brain, "--trusted-ca-file") != flag(apiserver, "--client-ca-file")
    assert Path(flag(apiserver, "--etcd-certfile")).is_file()


def test_everything_listens_on_loopback(layout: Layout) -> None:
    for part in table(layout).values():
        assert part.endpoint.startswith("https://127.0.0.1:")
        assert "0.0.0.0" not in " ".join(part.argv)  # noqa: S104


def test_a_second_start_keeps_certificates_and_kubeconfig(layout: Layout) -> None:
    first = table(layout)
    before = {path: path.read_bytes() for path in layout.pki.rglob("*") if path.suffix in {".crt", ".key", ".pub"}}
    kubeconfig = layout.kubeconfig.read_text()
    assert table(layout) == first
    assert {path: path.read_bytes() for path in before} == before
    assert layout.kubeconfig.read_text() == kubeconfig


def test_what_holds_a_key_is_private(layout: Layout) -> None:
    table(layout)
    holders = [*layout.pki.rglob("*.key"), *layout.pki.rglob("*.kubeconfig"), layout.kubeconfig]
    assert len(holders) > 8
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}


def test_the_gateway_s_flags_and_document_are_good(layout: Layout) -> None:
    gateway = table(layout)["gateway"]
    loaded = load_config(gateway.argv[gateway.argv.index("wharf.gateway") + 1 :], {})
    assert loaded.warnings == ()
    config = loaded.config
    assert [url.text for url in config.listen] == [gateway.endpoint] == ["https://127.0.0.1:1006"]
    assert gateway.health.url == "http://127.0.0.1:1007/readyz"
    assert config.config_dir == layout.clusters
    assert gateway.stop_within > config.drain_delay + config.drain_watches + config.drain_timeout

    found = Folder(layout.clusters).look()
    assert found is not None
    assert found.refused == ()
    (cluster,) = found.clusters
    assert [server.url for server in cluster.servers] == ["https://127.0.0.1:1001"]
    assert cluster.hostnames == ("localhost",)
    assert [str(address) for address in cluster.addresses] == ["127.0.0.1"]


def test_kube_apiserver_takes_the_gateway_for_a_front_proxy(layout: Layout) -> None:
    parts = table(layout)
    found = Folder(layout.clusters).look()
    assert found is not None
    certificate = found.clusters[0].upstream.certificate
    assert certificate is not None
    shown = x509.load_pem_x509_certificate(certificate.pem)
    authority = Path(flag(parts["kube-apiserver"], "--requestheader-client-ca-file"))
    shown.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.read_bytes()))
    (name,) = shown.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert name.value == flag(parts["kube-apiserver"], "--requestheader-allowed-names")


def test_people_go_through_the_gateway_and_controllers_past_it(layout: Layout) -> None:
    parts = table(layout)

    def servers(path: Path) -> dict[str, str]:
        document = yaml.safe_load(path.read_text())
        clusters = {one["name"]: one["cluster"]["server"] for one in document["clusters"]}
        return {one["name"]: clusters[one["context"]["cluster"]] for one in document["contexts"]}

    assert servers(layout.kubeconfig) == {
        "wharf-admin@wharf": "https://127.0.0.1:1006",
        "wharf-admin@wharf-direct": "https://127.0.0.1:1001",
    }
    assert yaml.safe_load(layout.kubeconfig.read_text())["current-context"] == "wharf-admin@wharf"
    for name in ("kube-controller-manager", "kube-scheduler"):
        assert list(servers(Path(flag(parts[name], "--kubeconfig"))).values()) == ["https://127.0.0.1:1001"]


def test_documents_of_the_user_s_own_stay(layout: Layout) -> None:
    table(layout)
    own = layout.clusters / "other.yaml"
    own.write_text("kind: Secret\nmetadata: {name: mine}\n")
    (layout.clusters / "wharf.yaml").write_text("changed")
    table(layout)
    assert own.read_text() == "kind: Secret\nmetadata: {name: mine}\n"
    assert "UpstreamCluster" in (layout.clusters / "wharf.yaml").read_text()
    assert sorted(path.name for path in layout.clusters.iterdir()) == ["other.yaml", "wharf.yaml"]
