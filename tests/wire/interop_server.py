"""gRPC's interoperability test service as a `Method` table, for gRPC's own client to judge the wire by.

Run as a program it listens and prints its port: `python -m wire.interop_server [cert key]`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc_tools
import uvloop
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc
from wharf.wire.http import HttpRequest, HttpResponse
from wharf.wire.rpc import Call, Code, Kind, Method
from wharf.wire.server import GrpcServer, ListenerConfig
from wharf.wire.tls import TlsConfig, TlsIdentity

SERVICE = "/grpc.testing.TestService/"
LOAD_STREAM = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"
ECHO_INITIAL = b"x-grpc-test-echo-initial"
ECHO_TRAILING = b"x-grpc-test-echo-trailing-bin"
LOAD_TRAILER = b"endpoint-load-metrics-bin"
LOAD_INTERVAL = 0.1


def compile_proto() -> descriptor_pb2.FileDescriptorSet:
    """testing.proto as descriptors."""
    source = Path(__file__).with_name("testing.proto")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        include = Path(grpc_tools.__file__).parent / "_proto"
        arguments = ["protoc", f"-I{source.parent}", f"-I{include}", f"--descriptor_set_out={out}", source.name]
        if protoc.main(arguments) != 0:
            raise RuntimeError("testing.proto does not compile")
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


DESCRIPTORS = compile_proto()
_pool = descriptor_pool.DescriptorPool()
for _file in DESCRIPTORS.file:
    _pool.Add(_file)


def message(name: str) -> Any:
    """A message class of grpc.testing."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"grpc.testing.{name}"))


def payload_of(size: int) -> dict[str, Any]:
    """A payload of zeros."""
    return {"type": 0, "body": bytes(size)}


def echo_metadata(call: Call) -> None:
    """What the custom_metadata case wants back."""
    for name, value in call.metadata:
        if name == ECHO_INITIAL:
            call.send_initial_metadata([(name, value)])
        elif name == ECHO_TRAILING:
            call.set_trailing_metadata([(name, value)])


def load_report(report: Any) -> bytes:
    """A test report as the load report a balancer reads."""
    found: bytes = message("LoadReport")(
        cpu_utilization=report.cpu_utilization,
        mem_utilization=report.memory_utilization,
        request_cost=report.request_cost,
        utilization=report.utilization,
    ).SerializeToString()
    return found


class TestService:
    """The service; one instance per server."""

    __test__ = False  # its name is gRPC's, it is no test class

    def __init__(self) -> None:
        self._load = b""

    def methods(self) -> dict[str, Method]:
        """Everything served; UnimplementedCall is not, by definition."""
        unary = {"EmptyCall": self.empty_call, "UnaryCall": self.unary_call}
        streams = {
            "StreamingOutputCall": self.full_duplex_call,
            "StreamingInputCall": self.streaming_input_call,
            "FullDuplexCall": self.full_duplex_call,
            "HalfDuplexCall": self.half_duplex_call,
        }
        table = [Method(SERVICE + name, Kind.UNARY, handler) for name, handler in unary.items()]
        table += [Method(SERVICE + name, Kind.STREAM, handler) for name, handler in streams.items()]
        table.append(Method(LOAD_STREAM, Kind.STREAM, self.stream_load))
        return {method.path: method for method in table}

    def empty_call(self, request: bytes, call: Call) -> None:
        call.reply(b"")

    def unary_call(self, request: bytes, call: Call) -> None:
        wanted = message("SimpleRequest").FromString(request)
        echo_metadata(call)
        if wanted.response_status.code:
            call.finish(wanted.response_status.code, wanted.response_status.message)
            return
        if wanted.HasField("orca_per_query_report"):
            call.set_trailing_metadata([(LOAD_TRAILER, load_report(wanted.orca_per_query_report))])
        response = message("SimpleResponse")(payload=payload_of(wanted.response_size))
        if wanted.fill_server_id:
            response.server_id = "wharf"
        call.reply(response.SerializeToString())

    def streaming_input_call(self, call: Call) -> None:
        total = 0

        def add(data: bytes) -> None:
            nonlocal total
            total += len(message("StreamingInputCallRequest").FromString(data).payload.body)

        def answer() -> None:
            call.reply(message("StreamingInputCallResponse")(aggregated_payload_size=total).SerializeToString())

        call.on_message, call.on_half_close = add, answer

    def full_duplex_call(self, call: Call) -> None:
        echo_metadata(call)
        sender = Sender(call)
        call.on_message = lambda data: self._answer(data, call, sender)
        call.on_half_close = sender.end

    def half_duplex_call(self, call: Call) -> None:
        kept: list[bytes] = []
        sender = Sender(call)

        def answer() -> None:
            for data in kept:
                self._answer(data, call, sender)
            sender.end()

        call.on_message, call.on_half_close = kept.append, answer

    def _answer(self, data: bytes, call: Call, sender: Sender) -> None:
        wanted = message("StreamingOutputCallRequest").FromString(data)
        if wanted.response_status.code:
            call.finish(wanted.response_status.code, wanted.response_status.message)
            return
        if wanted.HasField("orca_oob_report"):
            self._load = load_report(wanted.orca_oob_report)
        sender.add((item.size, item.interval_us / 1e6) for item in wanted.response_parameters)

    def stream_load(self, call: Call) -> None:
        loop = asyncio.get_running_loop()

        def send() -> None:
            if not call.done:
                call.send(self._load)
                loop.call_later(LOAD_INTERVAL, send)

        send()


class Sender:
    """Sends answers one after another, each after its interval."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._left: list[Iterator[tuple[int, float]]] = []
        self._busy = False
        self._ending = False

    def add(self, answers: Iterator[tuple[int, float]]) -> None:
        self._left.append(answers)
        self._go_on()

    def end(self) -> None:
        self._ending = True
        self._go_on()

    def _go_on(self) -> None:
        while self._left and not self._busy:
            item = next(self._left[0], None)
            if item is None:
                self._left.pop(0)
            elif item[1]:
                self._busy = True
                asyncio.get_running_loop().call_later(item[1], self._send_late, item[0])
            else:
                self._send(item[0])
        if self._ending and not self._left and not self._busy:
            self._call.finish(Code.OK)

    def _send_late(self, size: int) -> None:
        self._busy = False
        self._send(size)
        self._go_on()

    def _send(self, size: int) -> None:
        self._call.send(message("StreamingOutputCallResponse")(payload=payload_of(size)).SerializeToString())


def plain(request: HttpRequest) -> HttpResponse:
    """Something to GET for h2spec: longer than its small windows."""
    return HttpResponse(200, b"wharf " * 100)


async def run(arguments: list[str]) -> None:
    """Listen until killed."""
    tls = TlsConfig((TlsIdentity(arguments[0], arguments[1]),)) if arguments else None
    server = GrpcServer(TestService().methods(), [ListenerConfig(tls=tls)], http=plain)
    await server.start()
    print(server.ports[0], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1:]))
