"""metav1.Status in every form, and which form a client gets."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.kube import status as statuses
from wharf.common.kube.negotiate import JSON, PROTOBUF, YAML, negotiate
from wharf.common.kube.status import Details, Status, encode, parse_status

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
STATUS = st.builds(
    Status,
    st.integers(400, 599),
    st.sampled_from(["", "Forbidden", "TooManyRequests"]),
    TEXT,
    st.none() | st.builds(Details, TEXT, TEXT, TEXT, TEXT, st.integers(0, 2**31 - 1)),
)

ACCEPTS = {
    b"": JSON,
    b"*/*": JSON,
    b"application/json": JSON,
    b"application/json, */*": JSON,
    b"application/yaml": YAML,
    b"application/vnd.kubernetes.protobuf": PROTOBUF,
    b"application/vnd.kubernetes.protobuf,application/json": PROTOBUF,
    b"application/json,application/vnd.kubernetes.protobuf": JSON,
    b"application/json;q=0.5, application/vnd.kubernetes.protobuf;q=0.8": PROTOBUF,
    b"application/json;q=0, application/yaml;q=0.1": YAML,
    b"application/vnd.kubernetes.protobuf;q=oops,application/json;q=0.9": PROTOBUF,
    b"*/*, application/yaml": YAML,
    b"application/*": JSON,
    b"APPLICATION/YAML ; Q=1": YAML,
    b"application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1,application/json": JSON,
    b"application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1": PROTOBUF,
    b"application/cbor": JSON,
    b"application/cbor, application/yaml;q=0.1": YAML,
    b"text/html, image/*": JSON,
    b",,;;q=,": JSON,
    b"application/yaml;q=1" + b",x/y" * 1000: YAML,
}


@pytest.mark.parametrize(("accept", "media_type"), ACCEPTS.items())
def test_edge_20_errors_come_in_the_media_type_that_was_asked_for(accept: bytes, media_type: str) -> None:
    assert encode(statuses.unauthorized(), accept)[0] == media_type


def test_without_an_accept_header_it_is_json() -> None:
    content_type, body = encode(statuses.too_many_requests("slow down", 3))
    assert content_type == JSON
    assert json.loads(body) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "slow down",
        "reason": "TooManyRequests",
        "details": {"retryAfterSeconds": 3},
        "code": 429,
    }


@given(st.binary(max_size=100))
def test_any_accept_header_is_answered(accept: bytes) -> None:
    assert negotiate(accept) in (JSON, YAML, PROTOBUF)


@given(STATUS)
def test_json_and_yaml_tell_the_same(status: Status) -> None:
    document = json.loads(encode(status, b"application/json")[1])
    assert yaml.safe_load(encode(status, b"application/yaml")[1]) == document
    assert parse_status(document) == status


@given(STATUS)
def test_edge_20_protobuf_tells_the_same(status: Status) -> None:
    body = encode(status, b"application/vnd.kubernetes.protobuf")[1]
    assert body.startswith(b"k8s\0")
    unknown = dict(fields(body[4:]))
    assert dict(fields(bytes_of(unknown[1]))) == {1: b"v1", 2: b"Status"}
    told = dict(fields(bytes_of(unknown[2])))
    assert told[2] == b"Failure"
    assert told.get(3, b"") == status.message.encode()
    assert told.get(4, b"") == status.reason.encode()
    assert told[6] == status.code
    assert (5 in told) == (status.details is not None)
    if status.details is not None:
        details = dict(fields(bytes_of(told[5])))
        expected = {1: status.details.name, 2: status.details.group, 3: status.details.kind, 6: status.details.uid}
        assert {number: details.get(number, b"") for number in expected} == {
            number: text.encode() for number, text in expected.items()
        }
        assert details.get(5, 0) == status.details.retry_after_seconds


@pytest.mark.parametrize(
    ("status", "code", "reason", "retry_after"),
    [
        (statuses.bad_request("x"), 400, "BadRequest", 0),
        (statuses.unauthorized(), 401, "Unauthorized", 0),
        (statuses.forbidden("x"), 403, "Forbidden", 0),
        (statuses.not_found("x"), 404, "NotFound", 0),
        (statuses.failure(405, "x"), 405, "MethodNotAllowed", 0),
        (statuses.failure(413, "x"), 413, "RequestEntityTooLarge", 0),
        (statuses.misdirected("x"), 421, "", 0),
        (statuses.too_many_requests("x"), 429, "TooManyRequests", 1),
        (statuses.too_many_requests("x", 0), 429, "TooManyRequests", 0),
        (statuses.internal("x"), 500, "InternalError", 0),
        (statuses.service_unavailable("x"), 503, "ServiceUnavailable", 1),
        (statuses.timeout("x"), 504, "Timeout", 0),
    ],
)
def test_edge_21_codes_and_reasons_are_kubernetes_own(status: Status, code: int, reason: str, retry_after: int) -> None:
    assert (status.code, status.reason, status.retry_after_seconds) == (code, reason, retry_after)


def test_forbidden_names_what_was_refused() -> None:
    assert statuses.forbidden("no", "pods", "", "a").message == 'pods "a" is forbidden: no'
    assert statuses.forbidden("no", "leases", "coordination.k8s.io").message == (
        "leases.coordination.k8s.io is forbidden: no"
    )


def test_documents_of_other_kinds_are_no_status() -> None:
    assert parse_status({"kind": "Pod"}) is None
    assert parse_status({"kind": "Status", "code": "x", "details": 1}) == Status(0, "", "")


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of a protobuf message."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        value, at = varint(data, at)
        if key & 7 == 0:
            yield key >> 3, value
        else:
            assert key & 7 == 2
            yield key >> 3, data[at : at + value]
            at += value


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def bytes_of(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value
