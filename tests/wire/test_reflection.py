"""Server reflection: what is served can be found out, by either version."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2
from wharf.wire.pb.grpc import reflection_v1_pb2 as pb
from wharf.wire.reflection import VERSIONS, reflection_methods
from wharf.wire.rpc import Code
from wire.interop_server import DESCRIPTORS, TestService
from wire.pair import Pair


def ask(version: str, *requests: pb.ServerReflectionRequest) -> list[pb.ServerReflectionResponse]:
    served = {path: method for path, method in TestService().methods().items() if "grpc.testing" in path}
    pair = Pair(methods=reflection_methods([DESCRIPTORS], served))
    stream = f"/{version}.ServerReflection/ServerReflectionInfo"
    answer = pair.call(stream, *[request.SerializeToString() for request in requests])
    assert answer.code == Code.OK
    return [pb.ServerReflectionResponse.FromString(item) for item in answer.messages]


@pytest.mark.parametrize("version", VERSIONS)
def test_services_are_listed(version: str) -> None:
    found = ask(version, pb.ServerReflectionRequest(list_services="*"))[0].list_services_response.service
    assert [item.name for item in found] == [
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "grpc.testing.TestService",
    ]


@pytest.mark.parametrize(
    "request_",
    [
        pb.ServerReflectionRequest(file_by_filename="testing.proto"),
        pb.ServerReflectionRequest(file_containing_symbol="grpc.testing.TestService"),
        pb.ServerReflectionRequest(file_containing_symbol="grpc.testing.TestService.UnaryCall"),
        pb.ServerReflectionRequest(file_containing_symbol="grpc.testing.SimpleRequest.response_size"),
        pb.ServerReflectionRequest(file_containing_symbol="grpc.testing.TestOrcaReport.UtilizationEntry"),
    ],
    ids=str,
)
def test_a_file_is_found_by_what_it_holds(request_: pb.ServerReflectionRequest) -> None:
    for response in ask(VERSIONS[0], request_, request_):
        data = response.file_descriptor_response.file_descriptor_proto
        assert [descriptor_pb2.FileDescriptorProto.FromString(item).name for item in data] == ["testing.proto"]
        assert response.original_request == request_


def test_what_is_not_there_is_not_found() -> None:
    extension = pb.ExtensionRequest(containing_type="grpc.testing.Empty", extension_number=5)
    responses = ask(
        VERSIONS[0],
        pb.ServerReflectionRequest(file_by_filename="x"),
        pb.ServerReflectionRequest(file_containing_symbol="x"),
        pb.ServerReflectionRequest(file_containing_extension=extension),
        pb.ServerReflectionRequest(all_extension_numbers_of_type="x"),
        pb.ServerReflectionRequest(),
    )
    assert [item.error_response.error_code for item in responses] == [5, 5, 5, 5, 3]


def test_extension_numbers() -> None:
    request = pb.ServerReflectionRequest(all_extension_numbers_of_type="grpc.testing.Empty")
    response = ask(VERSIONS[0], request)[0].all_extension_numbers_response
    assert (response.base_type_name, list(response.extension_number)) == ("grpc.testing.Empty", [])
