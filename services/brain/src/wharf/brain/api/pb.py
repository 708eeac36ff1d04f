"""The generated etcd messages under short names; the one place that knows where they are."""

from __future__ import annotations

from types import ModuleType

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from wharf.common.pb.etcd import auth_pb2 as authpb
from wharf.common.pb.etcd import kv_pb2 as mvcc
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import v3election_pb2 as election
from wharf.common.pb.etcd import v3lock_pb2 as lock

__all__ = ["authpb", "described", "election", "lock", "mvcc", "rpc"]


def described(*modules: ModuleType) -> descriptor_pb2.FileDescriptorSet:
    """The descriptors of generated modules and of all they import, imports first."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        for needed in file.dependencies:
            add(needed)
        if file.name not in found:
            found[file.name] = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(found[file.name])

    for module in modules:
        add(module.DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=found.values())
