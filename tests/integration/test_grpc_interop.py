"""gRPC's own interoperability client (Go) against the wire: every case that needs no cloud, plain and TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.wire_server import Served, serve_program
from wharf.cli.kube.binaries import locate

CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "pick_first_unary",
    "rpc_soak",
    "channel_soak",
    "orca_per_rpc",
    "orca_oob",
)
BALANCED = {"orca_per_rpc", "orca_oob"}  # these look at what the load balancer got
LOAD_CONFIG = '{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}'


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_program("wire.interop_server", tmp_path_factory.mktemp("interop"), request.param) as found:
        yield found


@pytest.fixture(scope="module")
def client() -> Path:
    return Path(locate("grpc-interop-client"))


@pytest.mark.parametrize("case", CASES)
def test_case_passes(case: str, served: Served, client: Path) -> None:
    command = [str(client), f"--test_case={case}", "--server_host=127.0.0.1", f"--server_port={served.port}"]
    if served.ca_file is not None:
        command += [
            "--use_tls",
            "--use_test_ca",
            f"--ca_file={served.ca_file}",
            "--server_host_override=localhost",
        ]
    if case in BALANCED:
        command.append(f"--service_config_json={LOAD_CONFIG}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
