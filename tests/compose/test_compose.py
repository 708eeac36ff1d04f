"""docker-compose.yml as a new user would run it, after the README's first command: `make up`, `wharf down`, then images
built, three brains, two kube-apiservers and a gateway up, a leader and a kube-apiserver killed, data kept over a
restart.

The tests are one story on one system, in file order.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from harness.containers import ROOT, Engine, checked
from wharf.cli.kube.build import build

BRAINS = ("brain-1", "brain-2", "brain-3")
PARTS = ("brain", "brain-health", "controller-manager", "scheduler", "gateway", "gateway-health")
FAILOVER_SECONDS = 60.0  # the leader's lease is three; the rest is for a slow machine
T = TypeVar("T")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache that `make up` fills under a private umask; the images are made from it."""
    folder = tmp_path_factory.mktemp("newcomer")
    ports = " ".join(("--port=0", *(f"--{name}-port=0" for name in PARTS)))
    environment = {**os.environ, "WHARF_CACHE": str(folder / "cache")}
    script = 'umask 077; make up ARGS="$1" && .venv/bin/wharf down --dir "$2"'
    words = ["sh", "-ec", script, "sh", f"--detach --dir {folder}/system {ports}", f"{folder}/system"]
    checked(words, environment, ROOT, 1000)
    yield folder / "cache"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def system(engine: Engine, programs: Path) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHARF_CACHE", str(programs))
        engine.build_images()
    compose(engine, "up", "-d")
    yield engine
    compose(engine, "down", "--volumes", "--timeout", "5")


@pytest.fixture(scope="module")
def kubeconfig(system: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kube") / "kubeconfig"
    path.write_text(compose(system, "run", "--rm", "-T", "pki", "cat", "/out/kube/kubeconfig"))
    eventually(lambda: kubectl(system, path, "get", "--raw=/readyz"))
    return path


def compose(system: Engine, *words: str | Path) -> str:
    return system.run("docker-compose", *words, cwd=ROOT)


def kubectl(system: Engine, kubeconfig: Path, *words: str) -> str:
    return system.inside(build(["kubectl"])["kubectl"], f"--kubeconfig={kubeconfig}", "--request-timeout=20s", *words)


def etcdctl(system: Engine, *words: str) -> str:
    """etcdctl where the apiserver is, with the apiserver's credentials."""
    mount = f"{build(['etcdctl'])['etcdctl']}:/usr/local/bin/etcdctl:ro"
    files = ("--cacert=/pki/store/ca.crt", "--cert=/pki/store/tls.crt", "--key=/pki/store/tls.key")
    urls = ",".join(f"https://{name}:2379" for name in BRAINS)
    run = ("run", "--rm", "-T", "--no-deps", "-v", mount, "kube-scheduler", "etcdctl")
    return compose(system, *run, *files, f"--endpoints={urls}", *words)


def leaders(system: Engine) -> dict[str, bool]:
    """Every node that etcdctl can be told of, and whether it leads."""
    listed: list[dict[str, Any]] = json.loads(etcdctl(system, "endpoint", "status", "--cluster", "--write-out=json"))
    return {
        one["Endpoint"].removeprefix("https://").removesuffix(":2379"): (
            one["Status"].get("leader") == one["Status"]["header"]["member_id"]
        )
        for one in listed
    }


def leader(system: Engine) -> str:
    """The one node that leads, while all three answer; AssertionError in between."""
    found = leaders(system)
    assert set(found) == set(BRAINS), found
    leading = [name for name, leads in found.items() if leads]
    assert len(leading) == 1, found
    return leading[0]


def eventually(attempt: Callable[[], T]) -> T:
    """What `attempt` returns once it works: a program asked again until the failover is over."""
    deadline = time.monotonic() + FAILOVER_SECONDS
    while True:
        try:
            return attempt()
        except AssertionError:
            if time.monotonic() > deadline:
                raise


def test_the_control_plane_works_from_outside(system: Engine, kubeconfig: Path) -> None:
    assert "ok" in kubectl(system, kubeconfig, "get", "--raw=/readyz")
    kubectl(system, kubeconfig, "create", "configmap", "kept", "--from-literal=a=b")


def test_a_controller_makes_the_default_service_account(system: Engine, kubeconfig: Path) -> None:
    words = ("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
    assert "condition met" in kubectl(system, kubeconfig, *words)


def test_three_nodes_of_which_one_leads(system: Engine) -> None:
    assert eventually(lambda: leader(system)) in BRAINS


def test_kubectl_goes_on_when_the_leader_is_killed(system: Engine, kubeconfig: Path) -> None:
    killed = eventually(lambda: leader(system))
    compose(system, "kill", killed)
    eventually(lambda: kubectl(system, kubeconfig, "create", "configmap", "after", "--from-literal=a=after"))
    assert kubectl(system, kubeconfig, "get", "configmap", "after", "-o", "jsonpath={.data.a}") == "after"
    assert kubectl(system, kubeconfig, "get", "configmap", "kept", "-o", "jsonpath={.data.a}") == "b"

    compose(system, "start", killed)

    assert eventually(lambda: leader(system)) in BRAINS


def test_what_was_written_survives_the_containers(system: Engine, kubeconfig: Path) -> None:
    compose(system, "down", "--timeout", "20")
    compose(system, "up", "-d")
    words = ("get", "configmap", "kept", "-o", "jsonpath={.data.a}")
    assert eventually(lambda: kubectl(system, kubeconfig, *words)) == "b"


@pytest.mark.parametrize("context", ["wharf-admin@wharf", "wharf-admin@wharf-direct"])
def test_the_apiserver_sees_who_asks_through_the_gateway_and_past_it(
    system: Engine, kubeconfig: Path, context: str
) -> None:
    words = ("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert kubectl(system, kubeconfig, f"--context={context}", *words) == "wharf-admin"


def test_kubectl_does_not_notice_a_killed_kube_apiserver(system: Engine, kubeconfig: Path) -> None:
    """Not asked again: the gateway itself goes to the other one."""
    compose(system, "kill", "kube-apiserver-1")
    for number in range(3):
        kubectl(system, kubeconfig, "create", "configmap", f"one-left-{number}")
    compose(system, "start", "kube-apiserver-1")
    words = ("get", "--raw=/readyz", "--context=wharf-admin@wharf-direct")
    assert eventually(lambda: kubectl(system, kubeconfig, *words)) == "ok"


def as_gateway(system: Engine, command: str) -> str:
    """What Redis says to the gateway's own user."""
    script = (
        "import redis, yaml; url = yaml.safe_load(open('/pki/gateway.yaml'))['redis']\n"
        f"try: print(redis.Redis.from_url(url).{command})\n"
        "except redis.RedisError as error: print(type(error).__name__)"
    )
    return compose(system, "exec", "-T", "gateway", "python", "-c", script).strip()


def test_the_gateway_keeps_its_limits_in_redis_and_reads_nothing_else_there(system: Engine, kubeconfig: Path) -> None:
    kubectl(system, kubeconfig, "get", "namespaces")
    assert eventually(lambda: not_zero(as_gateway(system, "zcard('wharf:gateway:limits:alive')"))) == "1"
    assert as_gateway(system, "get('wharf:brain:leader')") == "NoPermissionError"


def not_zero(said: str) -> str:
    assert said != "0"
    return said


def probe(address: tuple[str, int], authority: str) -> str:
    """A Python program that says "refused" when a server wants the certificate we do not show."""
    script = (
        f"import ssl, socket; c = ssl.create_default_context(cafile={authority!r});"
        f"s = c.wrap_socket(socket.create_connection({address!r}, 10), server_hostname={address[0]!r});"
        "s.send(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n'); print(s.recv(9) or 'refused')"
    )
    return f"try:\n exec({script!r})\nexcept OSError as error: print('refused', error)"


@pytest.mark.parametrize(
    ("address", "authority"),
    [
        (("brain-2", 2379), "/pki/client/ca.crt"),
        (("brain-2", 2380), "/pki/peer/ca.crt"),
        (("redis", 6379), "/pki/backing/ca.crt"),
    ],
    ids=str,
)
def test_every_port_asks_for_a_certificate(system: Engine, address: tuple[str, int], authority: str) -> None:
    said = compose(system, "exec", "-T", "brain-1", "python", "-c", probe(address, authority))
    assert "refused" in said


def test_the_control_plane_has_no_way_to_what_is_behind_the_brains(system: Engine) -> None:
    def networks(service: str) -> set[str]:
        [container] = compose(system, "ps", "-q", service).split()
        [inspected] = json.loads(system.run("docker", "inspect", container))
        return set(inspected["NetworkSettings"]["Networks"])

    assert networks("postgres") == {"wharftest_backing"}
    assert networks("redis") == networks("nats") == {"wharftest_backing", "wharftest_sharing"}
    assert networks("kube-apiserver-1") == networks("kube-apiserver-2") == {"wharftest_clients"}
    assert networks("gateway") == {"wharftest_sharing", "wharftest_clients"}
    for name in ("backing", "sharing"):
        [inspected] = json.loads(system.run("docker", "network", "inspect", f"wharftest_{name}"))
        assert inspected["Internal"]


def test_no_password_is_in_what_the_engine_shows(system: Engine) -> None:
    postgres = compose(system, "exec", "-T", "postgres", "cat", "/pki/password").strip()
    url = compose(system, "exec", "-T", "gateway", "grep", "^redis:", "/pki/gateway.yaml")
    ids = compose(system, "ps", "-q").split()
    shown = system.run("docker", "inspect", *ids) + compose(system, "logs", "--no-color")
    for secret in (postgres, urlsplit(url.removeprefix("redis: ").strip()).password or ""):
        assert len(secret) > 20
        assert secret not in shown


def test_containers_are_locked_down(system: Engine) -> None:
    ids = compose(system, "ps", "-q").split()
    assert len(ids) >= 11
    for container in json.loads(system.run("docker", "inspect", *ids)):
        assert container["HostConfig"]["ReadonlyRootfs"], container["Name"]
        assert container["HostConfig"]["CapDrop"] == ["ALL"]
        assert container["Config"]["User"] == "65532:65532"
