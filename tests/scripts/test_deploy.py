"""What docker-compose.yml hands to its services, without running one (tests/compose does)."""

from __future__ import annotations

import importlib.util
import stat
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from wharf.gateway.api.documents import load_documents
from wharf.gateway.api.parse import parse_cluster
from wharf.gateway.config import load_config
from wharf.gateway.sources.material import materials_of, resolve

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
MOUNTED = {word.split(":")[1] for word in COMPOSE["services"]["pki"]["volumes"]} - {"/pki"}


@pytest.fixture(scope="module")
def pki() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deploy_pki", ROOT / "deploy" / "pki.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def out(pki: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    for place in MOUNTED:  # volumes are there before the program runs
        (folder / place.removeprefix("/")).mkdir(parents=True)
    pki.main(folder / "home", folder / "out")
    return folder / "out"


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_changes_nothing(pki: ModuleType, out: Path) -> None:
    before = files(out)
    pki.main(out.parent / "home", out)
    assert files(out) == before


def test_everything_is_private_and_no_authority_s_key_leaves_home(out: Path) -> None:
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(out)} == {0o600}
    authorities = {path.read_bytes() for path in (out.parent / "home").rglob("*ca.key")}
    assert len(authorities) == 5
    assert not authorities & set(files(out).values())


def test_each_service_has_its_own_keys_only(out: Path) -> None:
    def keys(service: str) -> set[bytes]:
        return {content for path, content in files(out / service).items() if path.suffix == ".key"}

    shared = keys("gateway") & keys("kube")
    assert shared == {(out / "gateway/upstream/tls.key").read_bytes()}  # apiservers are front proxies of extensions too
    assert not keys("gateway") & keys("brain")


def test_every_volume_of_the_program_that_makes_them_is_made(out: Path) -> None:
    assert {f"/out/{path.name}" for path in out.iterdir() if files(path)} == MOUNTED
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    (owned,) = (line for line in dockerfile.splitlines() if line.startswith("RUN for service in "))
    assert {f"/out/{word}" for word in owned.split(" in ")[1].split(";")[0].split()} == MOUNTED


def test_the_gateway_s_flags_are_those_the_program_knows(out: Path) -> None:
    words = [word.replace("/pki/gateway.yaml", f"{out}/gateway/gateway.yaml") for word in command("gateway")]
    loaded = load_config(words, {})
    assert loaded.warnings == ()
    assert loaded.config.nats == "tls://nats:4222"
    assert urlsplit(loaded.config.redis).username == "gateway"
    grace = loaded.config.drain_delay + loaded.config.drain_watches + loaded.config.drain_timeout
    assert f"{grace + 4:.0f}s" == COMPOSE["services"]["gateway"]["stop_grace_period"]


def command(service: str) -> list[str]:
    name, *words = COMPOSE["services"][service]["command"]
    assert name == service
    return [str(word) for word in words]


def test_redis_knows_the_gateway_s_password(out: Path) -> None:
    url = yaml.safe_load((out / "gateway" / "gateway.yaml").read_text())["redis"]
    password = urlsplit(url).password
    assert password
    brain, gateway = (out / "redis" / "auth.conf").read_text().splitlines()
    assert f"user gateway on >{password} ~wharf:gateway:* " in gateway
    assert password not in brain


def test_the_gateway_s_document_is_good_with_what_was_made_for_it(out: Path) -> None:
    (document,) = load_documents((ROOT / "deploy" / "clusters" / "wharf.yaml").read_text())
    cluster = parse_cluster(document, files=True)
    assert len(list(materials_of(cluster))) == 6

    found = resolve(cluster, lambda material: (out / "gateway" / Path(material.file).relative_to("/pki")).read_bytes())

    assert found.serving.client_ca is not None
    servers = {service: one for service, one in COMPOSE["services"].items() if service.startswith("kube-apiserver")}
    assert [server.host for server in found.servers] == list(servers)
    kubeconfig = yaml.safe_load((out / "kube" / "kubeconfig").read_text())
    host = urlsplit(kubeconfig["clusters"][0]["cluster"]["server"]).hostname
    assert host in found.hostnames
