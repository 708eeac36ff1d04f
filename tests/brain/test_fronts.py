"""Both front ends host the same methods: one client cannot tell wharf's own server from grpcio.

Every method is called with an empty request, a sensible one and garbage, on a fresh node each; status, text and
answer must be the same (ids and addresses apart).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from wharf.brain.api.pb import election, lock, rpc
from wharf.brain.app import Brain
from wharf.brain.config import load_config

PUT = rpc.RequestOp(request_put=rpc.PutRequest(key=b"t"))
SENSIBLE: dict[str, bytes] = {
    "/etcdserverpb.KV/Range": rpc.RangeRequest(key=b"a", range_end=b"\0", limit=2).SerializeToString(),
    "/etcdserverpb.KV/RangeStream": rpc.RangeRequest(key=b"a", range_end=b"\0").SerializeToString(),
    "/etcdserverpb.KV/Put": rpc.PutRequest(key=b"a", value=b"v", prev_kv=True).SerializeToString(),
    "/etcdserverpb.KV/DeleteRange": rpc.DeleteRangeRequest(key=b"a", prev_kv=True).SerializeToString(),
    "/etcdserverpb.KV/Txn": rpc.TxnRequest(success=[PUT]).SerializeToString(),
    "/etcdserverpb.KV/Compact": rpc.CompactionRequest(revision=2).SerializeToString(),
    "/etcdserverpb.Watch/Watch": rpc.WatchRequest(
        create_request=rpc.WatchCreateRequest(key=b"a", start_revision=2)
    ).SerializeToString(),
    "/etcdserverpb.Lease/LeaseGrant": rpc.LeaseGrantRequest(ID=7, TTL=60).SerializeToString(),
    "/etcdserverpb.Lease/LeaseRevoke": rpc.LeaseRevokeRequest(ID=1).SerializeToString(),
    "/etcdserverpb.Lease/LeaseKeepAlive": rpc.LeaseKeepAliveRequest(ID=1).SerializeToString(),
    "/v3lockpb.Lock/Lock": lock.LockRequest(name=b"l", lease=1).SerializeToString(),
    "/v3electionpb.Election/Campaign": election.CampaignRequest(name=b"e", lease=1).SerializeToString(),
}
WAITING = frozenset(("/etcdserverpb.Watch/Watch", "/v3electionpb.Election/Observe", "/v3electionpb.Election/Campaign"))
DIFFERENT_BY_NATURE = frozenset(("/etcdserverpb.Maintenance/Status", "/etcdserverpb.Maintenance/Snapshot"))
IDS = ("cluster_id", "member_id", "ID", "lease", "key", "rev", "leader")

Outcome = tuple[str, str, list[str]]


def methods() -> list[MethodDescriptor]:
    """Every method of the etcd API."""
    return [
        method
        for file in (rpc.DESCRIPTOR, lock.DESCRIPTOR, election.DESCRIPTOR)
        for service in file.services_by_name.values()
        for method in service.methods
    ]


@asynccontextmanager
async def served(front_end: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a fresh node behind `front_end`, with one key and one lease in it."""
    flags = ("--engine=memory:", "--listen-client-urls=http://127.0.0.1:0", f"--front-end={front_end}")
    brain = Brain(load_config(flags, {}).config)
    await brain.start()
    try:
        async with grpc.aio.insecure_channel(brain.addresses[0]) as channel:
            await call(channel, "/etcdserverpb.KV/Put", rpc.PutRequest(key=b"a", value=b"1").SerializeToString(), 0)
            await call(
                channel, "/etcdserverpb.Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=1, TTL=60).SerializeToString(), 0
            )
            yield channel
    finally:
        await brain.stop()


async def call(channel: grpc.aio.Channel, path: str, request: bytes, answers: int) -> tuple[str, str, list[bytes]]:
    """(status, text, answers) of a call with one request message; with `answers`, cancelled after so many."""
    found: list[bytes] = []
    stream: Any = (
        channel.stream_stream(path, bytes, bytes)(_one(request), timeout=10)
        if answers
        else channel.unary_stream(path, bytes, bytes)(request, timeout=10)
    )
    with suppress(grpc.aio.AioRpcError):  # the status says it all
        async for message in stream:
            found.append(message)
            if len(found) == answers:
                stream.cancel()
                return "cancelled", "", found
    return (await stream.code()).name, await stream.details(), found


async def _one(request: bytes) -> AsyncIterator[bytes]:
    """A request stream that stays open."""
    yield request
    await asyncio.Event().wait()


def readable(method: MethodDescriptor, answers: list[bytes]) -> list[str]:
    """Answers as text without what differs between nodes."""
    kind = message_factory.GetMessageClass(method.output_type)
    texts = []
    for data in answers:
        lines = str(kind.FromString(data)).splitlines()
        texts.append("\n".join(line for line in lines if line.strip().split(":")[0] not in IDS and "URLs" not in line))
    return texts


async def outcomes(front_end: str, requests: list[tuple[MethodDescriptor, bytes, int]]) -> list[Outcome]:
    found: list[Outcome] = []
    async with served(front_end) as channel:
        for method, request, answers in requests:
            path = f"/{method.containing_service.full_name}/{method.name}"
            code, text, data = await call(channel, path, request, answers)
            shown = [] if path in DIFFERENT_BY_NATURE else readable(method, data)
            found.append((code, text, shown))
    return found


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def sensible(method: MethodDescriptor) -> tuple[MethodDescriptor, bytes, int]:
    path = path_of(method)
    return method, SENSIBLE.get(path, b""), {"/etcdserverpb.Watch/Watch": 2}.get(path, 0)


@pytest.mark.parametrize("which", ["empty", "sensible", "garbage"])
def test_every_method_answers_alike(which: str) -> None:
    chosen = [method for method in methods() if path_of(method) not in WAITING or which != "empty"]
    if which == "sensible":
        requests = [sensible(method) for method in chosen if path_of(method) != "/v3electionpb.Election/Observe"]
    else:
        requests = [(method, b"\x0a\xff" if which == "garbage" else b"", 0) for method in chosen]

    async def compare() -> None:
        wire, reference = await outcomes("wire", requests), await outcomes("grpcio", requests)
        for (method, _, _), ours, theirs in zip(requests, wire, reference, strict=True):
            assert ours == theirs, path_of(method)
        if which == "garbage":
            assert {code for code, _, _ in wire} == {"INTERNAL"}

    asyncio.run(compare())


@pytest.mark.parametrize("path", ["/etcdserverpb.KV/Nothing", "/no.Such/Method"])
def test_methods_that_do_not_exist(path: str) -> None:
    async def compare() -> None:
        found = []
        for front_end in ("wire", "grpcio"):
            async with served(front_end) as channel:
                found.append(await call(channel, path, b"", 0))
        assert found[0] == found[1]
        assert found[0][0] == "UNIMPLEMENTED"

    asyncio.run(compare())
