"""docker-compose.yml as a user would run it: images built, control plane up, data kept over a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from compose.engine import Engine
from wharf.cli.kube.build import build

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def system(engine: Engine) -> Iterator[Engine]:
    engine.run(ROOT / "scripts" / "images.sh", cwd=ROOT, timeout=900)
    engine.run("docker-compose", "up", "-d", cwd=ROOT)
    yield engine
    engine.run("docker-compose", "down", "--volumes", "--timeout", "5", cwd=ROOT)


@pytest.fixture(scope="module")
def kubeconfig(system: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kube") / "kubeconfig"
    path.write_text(system.run("docker-compose", "run", "--rm", "-T", "pki", "cat", "/pki/kubeconfig", cwd=ROOT))
    return path


def kubectl(system: Engine, kubeconfig: Path, *words: str) -> str:
    return system.inside(build(["kubectl"])["kubectl"], f"--kubeconfig={kubeconfig}", *words)


def test_the_control_plane_works_from_outside(system: Engine, kubeconfig: Path) -> None:
    assert "ok" in kubectl(system, kubeconfig, "get", "--raw=/readyz")
    kubectl(system, kubeconfig, "create", "configmap", "kept", "--from-literal=a=b")


def test_a_controller_makes_the_default_service_account(system: Engine, kubeconfig: Path) -> None:
    words = ("wait", "--for=jsonpath={.metadata.name}=default", "serviceaccount/default", "--timeout=60s")
    assert "condition met" in kubectl(system, kubeconfig, *words)


def test_what_was_written_survives_the_containers(system: Engine, kubeconfig: Path) -> None:
    system.run("docker-compose", "down", "--timeout", "20", cwd=ROOT)
    system.run("docker-compose", "up", "-d", cwd=ROOT)
    assert "b" in kubectl(system, kubeconfig, "get", "configmap", "kept", "-o", "jsonpath={.data.a}")


def test_the_store_asks_for_a_certificate(system: Engine) -> None:
    probe = (
        "import ssl, socket; c = ssl.create_default_context(cafile='/pki/store/store-ca.crt');"
        "s = c.wrap_socket(socket.create_connection(('brain', 2379)), server_hostname='brain');"
        "s.send(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n'); print(s.recv(9) or 'refused')"
    )
    script = f"try:\n exec({probe!r})\nexcept OSError as error: print('refused', error)"
    assert "refused" in system.run("docker-compose", "exec", "-T", "brain", "python", "-c", script, cwd=ROOT)


def test_containers_are_locked_down(system: Engine) -> None:
    ids = system.run("docker-compose", "ps", "-q", cwd=ROOT).split()
    assert len(ids) >= 4
    for container in json.loads(system.run("docker", "inspect", *ids)):
        assert container["HostConfig"]["ReadonlyRootfs"], container["Name"]
        assert container["HostConfig"]["CapDrop"] == ["ALL"]
        assert container["Config"]["User"] == "65532:65532"
