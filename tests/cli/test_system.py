"""The table of parts: private files, loopback only, TLS on both sides, the same certificates at the next start."""

import stat
from pathlib import Path

import pytest
from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.plan import Part, start_waves
from wharf.cli.embedded.ports import Ports
from wharf.cli.embedded.system import BINARIES, Binary, build

PORTS = Ports(apiserver=1001, brain=1002, brain_health=1003, controller_manager=1004, scheduler=1005)


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
    assert waves == [["brain"], ["kube-apiserver"], ["kube-controller-manager", "kube-scheduler"]]


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
