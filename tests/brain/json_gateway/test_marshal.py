"""JSON is read and written as Go's protojson does it for etcd."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.api.pb import authpb, mvcc, rpc
from wharf.brain.json_gateway.marshal import JsonError, parse_message, render, split_values

NEWEST_FIRST = rpc.RangeRequest(sort_order=rpc.RangeRequest.DESCEND, sort_target=rpc.RangeRequest.CREATE)


def read(text: str) -> rpc.RangeRequest:
    (value,) = split_values(text.encode())
    return parse_message(rpc.RangeRequest, value)


def parse_all(body: bytes) -> None:
    for value in split_values(body):
        parse_message(rpc.TxnRequest, value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", rpc.RangeRequest()),
        ('{"key":"Zm9v"}', rpc.RangeRequest(key=b"foo")),
        ('{"key":"Zm9vYQ"}', rpc.RangeRequest(key=b"fooa")),
        ('{"key":"-_-_"}', rpc.RangeRequest(key=b"\xfb\xff\xbf")),
        ('{"key":"+/+/"}', rpc.RangeRequest(key=b"\xfb\xff\xbf")),
        ('{"range_end":"AA==","rangeEnd":null}', rpc.RangeRequest(range_end=b"\0")),
        ('{"rangeEnd":"AA=="}', rpc.RangeRequest(range_end=b"\0")),
        ('{"limit":7,"revision":"8"}', rpc.RangeRequest(limit=7, revision=8)),
        ('{"limit":1e1,"revision":"2.0"}', rpc.RangeRequest(limit=10, revision=2)),
        ('{"limit":"-9223372036854775808"}', rpc.RangeRequest(limit=-(2**63))),
        ('{"sort_order":"DESCEND","sortTarget":2}', NEWEST_FIRST),
        ('{"sort_order":"NOPE","limit":1}', rpc.RangeRequest(limit=1)),
        ('{"unknown":{"a":[1,2]},"limit":1}', rpc.RangeRequest(limit=1)),
        ('{"serializable":true,"countOnly":false}', rpc.RangeRequest(serializable=True)),
    ],
)  # fmt: skip
def test_both_spellings_and_all_forms_of_numbers_are_read(text: str, expected: rpc.RangeRequest) -> None:
    assert read(text) == expected


def test_an_enum_number_that_is_unknown_is_kept() -> None:
    assert read('{"sort_order":7}').sort_order == 7


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("null", "unexpected token null"),
        ("[]", r"unexpected token \["),
        ("7", "unexpected token 7"),
        ("x", "syntax error"),
        ('{"key":', "syntax error"),
        ("NaN", "invalid value NaN"),
        ('{"limit":' + "9" * 5000 + "}", "syntax error|invalid value"),
        ('{"key":1}', "bytes field key: 1"),
        ('{"key":"!!"}', 'bytes field key: "!!"'),
        ('{"key":"a"}', 'bytes field key: "a"'),
        ('{"key":"YQ==","key":"YQ=="}', "given twice"),
        ('{"range_end":"YQ==","rangeEnd":"YQ=="}', 'duplicate field "rangeEnd"'),
        ('{"limit":1.5}', "int64 field limit: 1.5"),
        ('{"limit":true}', "int64 field limit: true"),
        ('{"limit":" 1"}', 'int64 field limit: " 1"'),
        ('{"limit":"0x1"}', "int64 field limit"),
        ('{"limit":"1_0"}', "int64 field limit"),
        ('{"limit":9223372036854775808}', "int64 field limit: 9223372036854775808"),
        ('{"limit":{}}', "int64 field limit: {"),
        ('{"sort_order":true}', "enum field sort_order: true"),
        ('{"sort_order":4294967296}', "enum field sort_order"),
        ('{"serializable":"true"}', "bool field serializable"),
        ('{"serializable":1}', "bool field serializable: 1"),
        ('{"key":"\ufffd"}', "bytes field key"),
    ],
)
def test_what_is_no_message_is_refused_with_the_field(text: str, why: str) -> None:
    with pytest.raises(JsonError, match=why):
        read(text)


@pytest.mark.parametrize("body", [b'{"key":"\xff"}', b"\xff"])
def test_bytes_that_are_no_text_are_refused(body: bytes) -> None:
    with pytest.raises(JsonError, match="invalid UTF-8"):
        list(split_values(body))


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(JsonError, match="name"):
        parse_message(rpc.AuthUserAddRequest, {"name": "\ud800"})
    with pytest.raises(JsonError, match="peerURLs"):
        parse_message(rpc.MemberAddRequest, {"peerURLs": ["\ud800"]})


@pytest.mark.parametrize("text", ["[" * 100_000, '{"success":[{"request_txn":' * 3000 + "{}" + "}]}" * 3000])
def test_depth_is_bounded(text: str) -> None:
    with pytest.raises(JsonError):
        parse_all(text.encode())


@pytest.mark.parametrize(
    "value",
    [{"success": {}}, {"success": ["a"]}, {"success": [None]}, {"success": [{"request_put": "abc"}]}],
)
def test_messages_are_objects_and_lists_are_arrays(value: Any) -> None:
    with pytest.raises(JsonError, match="unexpected token"):
        parse_message(rpc.TxnRequest, value)


def test_one_field_of_a_oneof_may_be_set() -> None:
    assert parse_message(rpc.Compare, {"version": "0"}).WhichOneof("target_union") == "version"
    with pytest.raises(JsonError, match=r"oneof etcdserverpb\.Compare\.target_union is already set"):
        parse_message(rpc.Compare, {"version": "0", "value": "eA=="})


def test_values_may_follow_each_other() -> None:
    assert list(split_values(b' {"ID":1}{"ID":2}\n\t{} ')) == [{"ID": 1}, {"ID": 2}, {}]
    assert list(split_values(b" \r\n")) == []
    values = split_values(b"{} x")
    assert next(values) == {}
    with pytest.raises(JsonError):
        next(values)


def test_a_message_is_written_with_proto_names_and_without_empty_fields() -> None:
    permission = authpb.Permission(key=b"\xfb\xff")
    permission.MergeFromString(b"\x08\x07")
    response = rpc.AuthRoleGetResponse(
        header=rpc.ResponseHeader(cluster_id=2**64 - 1, revision=-1),
        perm=[authpb.Permission(permType=authpb.Permission.WRITE), permission, authpb.Permission()],
    )
    assert json.loads(render(response)) == {
        "header": {"cluster_id": "18446744073709551615", "revision": "-1"},
        "perm": [{"permType": "WRITE"}, {"permType": 7, "key": "+/8="}, {}],
    }
    assert render(rpc.RangeResponse(more=True, kvs=[mvcc.KeyValue(key=b"a")])) == '{"kvs":[{"key":"YQ=="}],"more":true}'
    assert render(rpc.MemberListResponse(members=[rpc.Member(name="é<", isLearner=True)])) == (
        '{"members":[{"name":"é<","isLearner":true}]}'
    )


@given(st.binary(), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.sampled_from([0, 1, 2, 7]))
def test_what_is_written_is_read_back(key: bytes, limit: int, flag: bool, order: int) -> None:
    message = rpc.RangeRequest(key=key, limit=limit, serializable=flag)
    message.sort_order = order  # type: ignore[assignment]
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=key, lease=limit))
    nested = rpc.TxnRequest(success=[rpc.RequestOp(request_range=message), put])
    (value,) = split_values(render(nested).encode())
    assert parse_message(rpc.TxnRequest, value) == nested


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with suppress(JsonError):
        parse_all(body)
