"""Server reflection, v1 and v1alpha: tells tools such as grpcurl what is served. The two versions differ in name only.

Invariant: only served services are listed; a file is sent with everything it imports, each once per stream.
Source: gRPC server reflection protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from wharf.wire.pb.grpc import reflection_v1_pb2 as pb
from wharf.wire.rpc import Call, Code, Kind, Method

VERSIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


def reflection_methods(
    files: Iterable[descriptor_pb2.FileDescriptorSet], served: Mapping[str, Method]
) -> dict[str, Method]:
    """Both reflection services for the methods in `served`, described by `files`."""
    index = Index(files, served)
    paths = [f"/{version}.ServerReflection/ServerReflectionInfo" for version in VERSIONS]
    return {path: Method(path, Kind.STREAM, index.serve) for path in paths}


class Index:
    """Where every symbol is defined."""

    def __init__(self, files: Iterable[descriptor_pb2.FileDescriptorSet], served: Mapping[str, Method]) -> None:
        self._files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        self._symbols: dict[str, str] = {}
        self._extensions: dict[tuple[str, int], str] = {}
        self._types: set[str] = set()
        for found in files:
            for file in found.file:
                self._files[file.name] = file
                self._add_file(file)
        names = {path.rpartition("/")[0][1:] for path in served}
        self._services = sorted(names | {f"{version}.ServerReflection" for version in VERSIONS})

    def serve(self, call: Call) -> None:
        """One reflection stream."""
        sent: set[str] = set()

        def answer(data: bytes) -> None:
            try:
                request = pb.ServerReflectionRequest.FromString(data)
            except DecodeError:
                call.finish(Code.INTERNAL, "malformed reflection request")
                return
            call.send(self.answer(request, sent).SerializeToString())

        call.on_message = answer
        call.on_half_close = call.finish

    def answer(self, request: pb.ServerReflectionRequest, sent: set[str]) -> pb.ServerReflectionResponse:
        """The response to one request; `sent` are the files this stream has."""
        response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            for name in self._services:
                response.list_services_response.service.add(name=name)
        elif kind == "file_by_filename":
            self._describe(response, request.file_by_filename, request.file_by_filename in self._files, sent)
        elif kind == "file_containing_symbol":
            name = self._symbols.get(request.file_containing_symbol, "")
            self._describe(response, name, bool(name), sent)
        elif kind == "file_containing_extension":
            wanted = request.file_containing_extension
            name = self._extensions.get((wanted.containing_type, wanted.extension_number), "")
            self._describe(response, name, bool(name), sent)
        elif kind == "all_extension_numbers_of_type":
            self._number(response, request.all_extension_numbers_of_type)
        else:
            _refuse(response, Code.INVALID_ARGUMENT, "invalid MessageRequest")
        return response

    def _describe(self, response: pb.ServerReflectionResponse, name: str, known: bool, sent: set[str]) -> None:
        if not known:
            _refuse(response, Code.NOT_FOUND, "not found")
            return
        response.file_descriptor_response.SetInParent()
        waiting = [name]
        while waiting:
            file = self._files.get(waiting.pop())
            if file is not None and (file.name not in sent or file.name == name):
                if file.name not in sent or not response.file_descriptor_response.file_descriptor_proto:
                    response.file_descriptor_response.file_descriptor_proto.append(file.SerializeToString())
                if file.name not in sent:
                    waiting.extend(file.dependency)
                sent.add(file.name)

    def _number(self, response: pb.ServerReflectionResponse, type_name: str) -> None:
        if type_name not in self._types:
            _refuse(response, Code.NOT_FOUND, "not found")
            return
        response.all_extension_numbers_response.base_type_name = type_name
        numbers = sorted(number for owner, number in self._extensions if owner == type_name)
        response.all_extension_numbers_response.extension_number.extend(numbers)

    def _add_file(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        prefix = f"{file.package}." if file.package else ""
        for message in file.message_type:
            self._add_message(prefix + message.name, message, file.name)
        for enum in file.enum_type:
            self._symbols[prefix + enum.name] = file.name
        for service in file.service:
            self._symbols[prefix + service.name] = file.name
            for method in service.method:
                self._symbols[f"{prefix}{service.name}.{method.name}"] = file.name
        self._add_extensions(prefix, file.extension, file.name)

    def _add_message(self, name: str, message: descriptor_pb2.DescriptorProto, file: str) -> None:
        self._symbols[name] = file
        self._types.add(name)
        for field in message.field:
            self._symbols[f"{name}.{field.name}"] = file
        for enum in message.enum_type:
            self._symbols[f"{name}.{enum.name}"] = file
        for nested in message.nested_type:
            self._add_message(f"{name}.{nested.name}", nested, file)
        self._add_extensions(f"{name}.", message.extension, file)

    def _add_extensions(self, prefix: str, extensions: Any, file: str) -> None:
        for extension in extensions:
            self._symbols[prefix + extension.name] = file
            self._extensions[extension.extendee.lstrip("."), extension.number] = file


def _refuse(response: pb.ServerReflectionResponse, code: Code, text: str) -> None:
    response.error_response.error_code = code
    response.error_response.error_message = text
