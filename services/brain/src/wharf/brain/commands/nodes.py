"""`wharf brain step-down`: what operators ask of a running node over its control port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wharf.brain.api.members import member_id_of
from wharf.brain.commands.running import CommandFailed, check_tls_files, load_checked, run
from wharf.common.config import Loaded, Schema, option
from wharf.common.parsers import DURATION, FILE, STRING, Url, url

if TYPE_CHECKING:
    import grpc

_ENDPOINT: Final = url("http", "https")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDownOptions:
    endpoint: Url = option(
        _ENDPOINT, _ENDPOINT.parse("http://127.0.0.1:2380"), help="Control port of the node that leads."
    )
    to: str = option(STRING, "", help="Name of the node that shall lead next; whoever is first if not given.")
    cacert: Path | None = option(FILE, None, help="CA of the nodes' certificates, PEM.")
    cert: Path | None = option(FILE, None, help="Client certificate, PEM.")
    key: Path | None = option(FILE, None, help="Its key, PEM.")
    server_name: str = option(STRING, "", help="Name in the node's certificate, if not the endpoint's.")
    timeout: float = option(DURATION, 30.0, help="How long it may take.")


_STEP_DOWN: Final = Schema(
    shape=StepDownOptions,
    program="wharf brain step-down",
    service="brain_step_down",
    summary="Have the leading node finish what it has accepted and hand leadership to another; nothing fails.",
)


def step_down(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    return run(lambda: _step_down(load_checked(_STEP_DOWN, argv, environment)))


def _step_down(loaded: Loaded[StepDownOptions]) -> str:
    import grpc  # noqa: PLC0415 only this command needs it
    from wharf.common.pb.control import control_pb2 as control  # noqa: PLC0415
    from wharf.common.pb.control import control_pb2_grpc as stubs  # noqa: PLC0415

    options = loaded.config
    check_tls_files("", options.cacert, options.cert, options.key)
    try:
        with _dial(options) as channel:
            stub = stubs.ControlStub(channel)
            status = stub.Status(control.StatusRequest(), timeout=options.timeout)
            if status.role != "leader":
                raise CommandFailed(
                    f"{status.name} does not lead (it is a {status.role}); give --endpoint of member "
                    f"{status.leader_id:x}, see `etcdctl endpoint status --cluster`"
                )
            successor = member_id_of(status.cluster_id, options.to) if options.to else 0
            if successor and successor not in status.followers:
                raise CommandFailed(f"no node called {options.to!r} is in session with {status.name}")
            stub.StepDown(control.StepDownRequest(successor=successor), timeout=options.timeout)
    except grpc.RpcError as error:
        raise CommandFailed(f"{options.endpoint}: {_explain(error, options)}") from error
    return f"{status.name} leads no more"


def _explain(error: grpc.RpcError, options: StepDownOptions) -> str:
    import grpc  # noqa: PLC0415 as above

    if not isinstance(error, grpc.Call):
        return str(error)
    cause = f"{error.code().name} {error.details()}"
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return (
            "this is not the control port of a node of several; give --endpoint the address of its --listen-peer-urls "
            "(2380 by default; a node by itself has none)"
        )
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        tls = "is it running, and are --cacert, --cert, --key those it wants?"
        plain = "is it running, and does it speak TLS (then --endpoint begins with https://)?"
        return f"{cause}: {tls if options.endpoint.scheme == 'https' else plain}"
    return cause


def _dial(options: StepDownOptions) -> grpc.Channel:
    import grpc  # noqa: PLC0415 as above

    if options.endpoint.scheme == "http":
        return grpc.insecure_channel(options.endpoint.authority)
    ca, key, cert = (
        path.read_bytes() if path is not None else None for path in (options.cacert, options.key, options.cert)
    )
    names = [("grpc.ssl_target_name_override", options.server_name)] if options.server_name else []
    return grpc.secure_channel(options.endpoint.authority, grpc.ssl_channel_credentials(ca, key, cert), names)
