"""`python -m wharf.gateway` as a process: what it says while it serves, and how it ends."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest
from harness.daemon import LOOPBACK, lasting_port
from integration.gateway_kit import Instance, Upstream, ask, eventually
from wharf.gateway.config import GatewayConfig
from wire.pki import Files

QUICK = ("--drain-delay=0s", "--drain-watches=200ms", "--drain-timeout=2s")
PATIENT = ("--drain-delay=5m", "--drain-watches=5m", "--drain-timeout=5m")
WATCH = "/api/v1/pods?watch=true"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with Upstream(tmp_path_factory.mktemp("upstream")) as made:
        yield made


@pytest.fixture(scope="module")
def listener(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A pair of the listener's own, to be replaced."""
    folder = tmp_path_factory.mktemp("listener")
    pair = Files(str(folder / "listener.crt"), str(folder / "listener.key"))
    install(upstream.pki.authority.issue("first"), pair)
    return pair


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, listener: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """A process through everything that leaves it alive, then its end."""
    flags = (*QUICK, f"--tls-cert-file={listener.cert}", f"--tls-private-key-file={listener.key}")
    with Instance(tmp_path_factory.mktemp("life"), upstream, flags) as made:
        yield made
        assert made.process.stop(60) == 0
        assert "Traceback" not in made.said()


def test_the_ready_line_comes_when_a_request_is_served(gateway: Instance) -> None:
    assert gateway.get().status == 200
    assert "listening" in gateway.said()
    assert "ready to serve client requests" in gateway.said()


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_health_pages(gateway: Instance, path: str) -> None:
    assert gateway.health(path) == (200, "ok\n")


def test_metrics_tell_of_the_process_and_its_clusters(gateway: Instance) -> None:
    before = gateway.metric("wharf_gateway_client_connections_total")
    gateway.get()
    assert gateway.metric("wharf_gateway_client_connections_total") == before + 1
    assert gateway.metric("wharf_gateway_server_ready", cluster="prod") == 1
    assert gateway.metric("process_resident_memory_bytes") > 0


def test_an_unknown_page_is_404_and_another_method_405(gateway: Instance) -> None:
    assert gateway.health("/debug/pprof")[0] == 404
    with socket.create_connection((LOOPBACK, gateway.health_port), 10) as raw:
        raw.sendall(b"POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 405 ")


def test_sighup_harms_nobody(gateway: Instance) -> None:
    with closing(gateway.client()) as client:
        assert ask(client).status == 200
        gateway.process.send_signal(signal.SIGHUP)
        gateway.process.wait_logged("SIGHUP changes nothing", 30)
        assert ask(client).status == 200


def test_a_new_listener_certificate_is_shown_without_a_restart(gateway: Instance, listener: Files) -> None:
    before = first_der(listener.cert)
    assert shown(gateway) == before
    with closing(gateway.client()) as kept:
        assert ask(kept).status == 200
        install(gateway.upstream.pki.authority.issue("second"), listener)
        eventually(lambda: shown(gateway) != before, "the new certificate is not shown")
        assert shown(gateway) == first_der(listener.cert)
        Path(listener.key).write_text("half a key")
        gateway.process.wait_logged("certificates cannot be used", 30)
        assert shown(gateway) == first_der(listener.cert), "the one before stays"
        assert ask(kept).status == 200, "connections live on"


def install(new: Files, pair: Files) -> None:
    """Each file appears whole; the key first, so that a look between the two finds a pair that does not fit."""
    for fresh, place in ((new.key, pair.key), (new.cert, pair.cert)):
        Path(fresh).replace(place)


def first_der(path: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(Path(path).read_text())


def shown(gateway: Instance) -> bytes:
    """The certificate for a name of no cluster."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((LOOPBACK, gateway.port), 30) as raw,
        context.wrap_socket(raw, server_hostname="nobody.test") as tls,
    ):
        found = tls.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_no_secret_is_in_the_logs(gateway: Instance) -> None:
    secrets = {"authorization": "Bearer s3cr3t-token", "cookie": "s3cr3t-cookie", "x-remote-user": "s3cr3t-forged"}
    gateway.get("/api/v1/pods?token=s3cr3t-query&command=s3cr3t-argument", headers=secrets)
    gateway.get("/api/v1/%zz?token=s3cr3t-query", headers=secrets)
    eventually(gateway.accesses, "no access is logged")
    for told in (gateway.said(), gateway.access_log.read_text(), gateway.health("/metrics")[1]):
        assert "s3cr3t" not in told
        assert "PRIVATE KEY" not in told


def test_a_watch_is_ended_cleanly_and_the_process_with_0(upstream: Upstream, tmp_path: Path) -> None:
    with Instance(tmp_path, upstream, QUICK) as gateway, closing(gateway.client()) as client:
        client.request("GET", WATCH)
        answer = client.getresponse()
        gateway.process.send_signal(signal.SIGTERM)
        assert answer.read() == b"", "a whole answer, not a broken one"
        gateway.wait_ended()
        assert gateway.process.returncode == 0, gateway.logs()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_sigterm_cuts_the_waiting_short(upstream: Upstream, tmp_path: Path, workers: int) -> None:
    flags = (f"--workers={workers}", *PATIENT)
    with Instance(tmp_path, upstream, flags) as gateway, closing(gateway.client()) as client:
        client.request("GET", WATCH)
        answer = client.getresponse()
        gateway.process.send_signal(signal.SIGTERM)
        gateway.process.wait_logged('"stopping"', 30)
        assert gateway.health("/readyz") == (503, "not ready: stopping\n")
        assert gateway.health("/livez")[0] == 200
        gateway.process.send_signal(signal.SIGTERM)
        assert answer.read() == b"", "hurried, the watch still ends whole"
        gateway.wait_ended()
        assert gateway.process.returncode == 0, gateway.logs()
        assert "Traceback" not in gateway.said()


@pytest.mark.parametrize("content", [None, "spec: {}"], ids=["empty", "refused documents only"])
def test_a_config_directory_without_a_cluster_is_not_ready_until_one_comes(
    upstream: Upstream, tmp_path: Path, content: str | None
) -> None:
    pair = upstream.pki.server
    flags = (*QUICK, f"--tls-cert-file={pair.cert}", f"--tls-private-key-file={pair.key}")
    gateway = Instance(tmp_path, upstream, flags)
    later = gateway.documents.rename(tmp_path / "later")
    gateway.documents.mkdir()
    if content is not None:
        (gateway.documents / "wrong.yaml").write_text(content)
    gateway.ready_text = "no cluster is served"
    with gateway:
        status, reason = gateway.health("/readyz")
        assert status == 503
        named = f"no UpstreamCluster in {gateway.documents}" if content is None else "wrong.yaml"
        assert named in reason
        assert gateway.health("/livez")[0] == 200
        anonymous = ssl.create_default_context(cafile=upstream.pki.authority.ca_file)
        with closing(gateway.client(context=anonymous)) as client:
            assert ask(client).status == 404
        for path in later.iterdir():
            path.rename(gateway.documents / path.name)
        gateway.process.wait_logged("ready to serve client requests", 30)
        assert gateway.get().status == 200
        gateway.process.send_signal(signal.SIGINT)
        gateway.wait_ended()
        assert gateway.process.returncode == 0, gateway.logs()


def test_a_certificate_that_cannot_be_used_ends_the_start_before_a_worker_is_started(tmp_path: Path) -> None:
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_text("no certificate")
    code, said = failed(
        f"--config-dir={tmp_path}",
        "--workers=2",
        f"--listen=https://{LOOPBACK}:0",
        f"--health-listen=http://{LOOPBACK}:{lasting_port()}",
        f"--tls-cert-file={tmp_path / 'tls.crt'}",
        f"--tls-private-key-file={tmp_path / 'tls.key'}",
    )
    assert code == 2, said
    (line,) = said.splitlines()
    assert line.startswith("wharf gateway: --tls-cert-file, --tls-private-key-file: cannot load ")


def failed(*flags: str) -> tuple[int, str]:
    """Exit code and output of a process that ends by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "wharf.gateway", *flags],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_help_is_no_failure_and_names_every_flag() -> None:
    code, told = failed("--help")
    assert code == 0
    for field in fields(GatewayConfig):
        assert f"--{field.name.replace('_', '-')}" in told
