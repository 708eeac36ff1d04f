"""Messages that are none, too large, or for nobody: a clear error to the sender, nothing to anybody else."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from faults.canary import Canary
from faults.kit import CALL_SECONDS, Client, address, refusal
from faults.raw import DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Raw, headers
from google.protobuf.descriptor import MethodDescriptor
from harness.store import Store
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.common.pb.etcd import v3election_pb2 as election
from wharf.common.pb.etcd import v3lock_pb2 as lock
from wire.pair import raw_frame

MIB = 1 << 20
METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for module in (rpc, lock, election)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
TAG_ZERO = "field number zero"
MALFORMED = {
    "a varint without end": b"\xff" * 12,
    "a length beyond the end": b"\x0a\xff\xff\xff\xff\x07k",
    "cut off": b"\x0a\x05ab",
    "no such wire type": b"\x0f",
    "a group that ends before it begins": b"\x0c",
    TAG_ZERO: b"\x00\x01",
}


def call(client: Client, path: str, message: bytes, **more: Any) -> None:
    """Send these bytes as the request of `path` and take the whole answer."""
    method = METHODS.get(path)
    channel: Any = client.channel
    if method is not None and method.client_streaming:
        list(channel.stream_stream(path)(iter([message]), timeout=CALL_SECONDS))
    elif method is not None and method.server_streaming:
        list(channel.unary_stream(path)(message, timeout=CALL_SECONDS))
    else:
        channel.unary_unary(path)(message, timeout=CALL_SECONDS, **more)


def send(client: Client, path: str, message: bytes, **more: Any) -> tuple[grpc.StatusCode, str]:
    """The refusal of these bytes, sent as the request of `path`."""
    with pytest.raises(grpc.RpcError) as caught:
        call(client, path, message, **more)
    return refusal(caught.value)


@pytest.mark.parametrize("path", sorted(METHODS))
def test_malformed_messages(victim: Store, path: str) -> None:
    with Client(address(victim)) as client:
        for what, message in MALFORMED.items():
            if what == TAG_ZERO and not METHODS[path].input_type.fields:
                continue  # what has no fields takes any
            code, text = send(client, path, message)
            assert code is grpc.StatusCode.INTERNAL, what
            assert "unmarshal" in text, what


def test_nobody_else_noticed(canary: Canary) -> None:
    """The canary after all the malformed messages; its end is checked by its fixture."""
    canary.sing()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etcdserverpb.KV/Nothing", "unknown method Nothing for service etcdserverpb.KV"),
        ("/nobody.Here/Range", "unknown service nobody.Here"),
        ("/Range", "malformed method name"),
        ("/", "malformed method name"),
    ],
)
def test_methods_that_are_not_there(victim: Store, canary: Canary, path: str, text: str) -> None:
    with Client(address(victim)) as client:
        code, said = send(client, path, b"")
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert text in said


def test_requests_that_are_too_large(victim: Store, canary: Canary) -> None:
    with Client(address(victim)) as client:
        for size, expected in (
            (1_600_000, (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large")),
            (3 * MIB, (grpc.StatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max")),
            (64 * MIB, (grpc.StatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max")),
        ):
            message = rpc.PutRequest(key=b"large", value=bytes(size)).SerializeToString()
            code, text = send(client, "/etcdserverpb.KV/Put", message)
            assert (code, text.split(" (", 1)[0]) == expected
        assert client.get(b"large") is None
        assert client.put(b"large", bytes(1_500_000)), "the largest that is allowed, nearly"


def test_a_small_message_that_unpacks_to_a_large_one(victim: Store, canary: Canary) -> None:
    message = rpc.PutRequest(key=b"bomb", value=bytes(64 * MIB)).SerializeToString()
    with Client(address(victim)) as client:
        code, text = send(client, "/etcdserverpb.KV/Put", message, compression=grpc.Compression.Gzip)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in text


def test_a_message_that_announces_gigabytes(victim: Store, canary: Canary) -> None:
    with Raw(victim).open() as raw:
        raw.send(raw_frame(HEADERS, END_HEADERS, 1, headers("/etcdserverpb.KV/Put")))
        raw.send(raw_frame(DATA, 0, 1, b"\0\xff\xff\xff\xffsome"))
        assert is_over(raw, 1), "refused by its announcement"
        raw.call(3, "/etcdserverpb.KV/Range", b"\x0a\x01k")
        assert is_over(raw, 3), "the connection goes on"


def is_over(raw: Raw, stream_id: int) -> bool:
    """Wait for the end of a stream; False when the connection ends instead."""
    while (frame := raw.frame()) is not None:
        if frame.stream_id == stream_id and (frame.kind == RST_STREAM or frame.flags & END_STREAM):
            return True
    return False


def test_metadata_that_is_too_large(victim: Store, canary: Canary) -> None:
    many = tuple((f"bomb-{number}", "x" * 1000) for number in range(100))
    one = (("bomb", "x" * 200_000),)
    with Client(address(victim)) as client:
        code, _ = send(client, "/etcdserverpb.KV/Range", b"\x0a\x01k", metadata=many)
        assert code not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}, "this call alone"
        code, _ = send(client, "/etcdserverpb.KV/Range", b"\x0a\x01k", metadata=one)
        assert code is not grpc.StatusCode.DEADLINE_EXCEEDED
        assert client.put(b"after", b"v")


def test_metadata_that_unpacks_to_gigabytes(victim: Store, canary: Canary) -> None:
    """One kilobyte kept in the table, then referred to by single bytes."""
    kept = b"\x40\x01a\x7f\xe1\x06" + b"x" * 992
    with Raw(victim).open() as raw:
        raw.send(raw_frame(HEADERS, END_STREAM | END_HEADERS, 1, kept + b"\xbe" * 15_000))
        assert raw.goaway() != 0
