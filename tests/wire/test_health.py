"""The health service, asked by grpcio's own client messages."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st
from wharf.wire.health import SERVICE, Health, Status, parse_request
from wharf.wire.rpc import Code
from wire.pair import Pair


def pair_of(health: Health) -> Pair:
    return Pair(methods=health.methods())


def test_check() -> None:
    health = Health({"": Status.SERVING, "a": Status.NOT_SERVING})
    pair = pair_of(health)
    for name, status in (("", 1), ("a", 2)):
        answer = pair.call(SERVICE + "Check", pb.HealthCheckRequest(service=name).SerializeToString())
        assert pb.HealthCheckResponse.FromString(answer.messages[0]).status == status
    answer = pair.call(SERVICE + "Check", pb.HealthCheckRequest(service="b").SerializeToString())
    assert (answer.code, answer.text) == (Code.NOT_FOUND, "unknown service")


def test_list() -> None:
    health = Health({"": Status.SERVING, "long" * 50: Status.UNKNOWN})
    answer = pair_of(health).call(SERVICE + "List", b"")
    found = pb.HealthListResponse.FromString(answer.messages[0]).statuses
    assert {name: entry.status for name, entry in found.items()} == {"": 1, "long" * 50: 0}


def test_watch_tells_the_present_and_every_change() -> None:
    health = Health()
    pair = pair_of(health)
    stream_id = pair.open(SERVICE + "Watch")
    pair.send(stream_id, pb.HealthCheckRequest(service="new").SerializeToString())
    for status in (Status.SERVING, Status.SERVING, Status.NOT_SERVING):
        health.set("new", status)
    pair.exchange()
    found = [pb.HealthCheckResponse.FromString(item).status for item in pair.answer(stream_id).messages]
    assert found == [3, 1, 2]
    pair.client.reset(stream_id)
    pair.exchange()
    health.set_all(Status.SERVING)
    assert health._watchers == {}


@given(st.text(max_size=300))
def test_requests_are_read_as_protobuf_writes_them(name: str) -> None:
    try:
        data = pb.HealthCheckRequest(service=name).SerializeToString()
    except (UnicodeEncodeError, ValueError):
        return  # surrogates are no protobuf strings
    assert parse_request(data) == name


@pytest.mark.parametrize("data", [b"\n", b"\n\5a", b"\x10\1", b"\n\1ab", b"\n\1\xff", b"\n\xff\xff\xff\xff\xff\xff"])
def test_malformed_requests(data: bytes) -> None:
    assert pair_of(Health()).call(SERVICE + "Check", data).code == Code.INTERNAL
