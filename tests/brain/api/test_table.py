"""Every method of the etcd API is served, and tools can see it."""

from __future__ import annotations

from brain.api.fakes import Client
from brain.api.harness import Server, run
from wharf.brain.api.pb import described, election, lock, rpc
from wharf.brain.api.table import with_tools
from wharf.wire.health import Health
from wharf.wire.pb.grpc import reflection_v1_pb2 as reflection
from wharf.wire.rpc import Kind


def test_every_method_of_every_service_is_served_in_its_kind() -> None:
    async def scenario(server: Server) -> None:
        served = {method.path: method.kind for method in server.api.methods}
        defined = {
            f"/{service.full_name}/{method.name}": Kind.STREAM
            if method.client_streaming or method.server_streaming
            else Kind.UNARY
            for module in (rpc, lock, election)
            for service in module.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        }
        assert served == defined

    run(scenario)


def test_tools_can_ask_what_is_served() -> None:
    async def scenario(server: Server) -> None:
        client = Client(with_tools(server.api.methods, Health()))
        call = client.open("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        call.say(reflection.ServerReflectionRequest(list_services="*"))
        (data,) = await call.wait_sent(1)
        listed = reflection.ServerReflectionResponse.FromString(data).list_services_response.service
        assert {"etcdserverpb.KV", "v3lockpb.Lock"} <= {service.name for service in listed}
        call.cancel()
        health = client.start("/grpc.health.v1.Health/Check", b"")
        assert health.sent == [b"\x08\x01"]

    run(scenario)


def test_descriptors_come_after_what_they_import() -> None:
    files = described(lock, rpc).file
    names = [file.name for file in files]
    assert len(set(names)) == len(names)
    for at, file in enumerate(files):
        assert set(file.dependency) <= set(names[:at])
