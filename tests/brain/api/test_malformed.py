"""What is wrong with a message is said in the words etcd's clients know."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from wharf.brain.api.malformed import TRUNCATED, why_malformed
from wharf.brain.api.pb import rpc


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (rpc.RangeRequest, b"\x0a\xff", TRUNCATED),
        (rpc.RangeRequest, b"\x0a", TRUNCATED),
        (rpc.RangeRequest, b"\x0a\x05abc", TRUNCATED),
        (rpc.RangeRequest, b"\xff", TRUNCATED),
        (rpc.RangeRequest, b"\xff" * 11, TRUNCATED),
        (rpc.RangeRequest, b"\x00\x00", "proto: RangeRequest: illegal tag 0 (wire type 0)"),
        (rpc.RangeRequest, b"\x0c", "proto: RangeRequest: wiretype end group for non-group"),
        (rpc.RangeRequest, b"\x0e", "proto: illegal wireType 6"),
        (rpc.RangeRequest, b"\x0a\x01k\x12\x01l\x1a\x01", "proto: wrong wireType = 2 for field Limit"),
        (rpc.RangeRequest, b"\x10\x01", "proto: wrong wireType = 0 for field RangeEnd"),
        (rpc.LeaseKeepAliveRequest, b"\x0a\xff", "proto: wrong wireType = 2 for field ID"),
        (rpc.MemberAddRequest, b"\x08\x01", "proto: wrong wireType = 0 for field PeerURLs"),
        (rpc.WatchCreateRequest, b"\x2a\x01\x00\x28\x00\x28", TRUNCATED),
        (rpc.TxnRequest, b"\x0a\x02\x1a\x09", TRUNCATED),
    ],
)
def test_faults(kind: type[Message], data: bytes, expected: str) -> None:
    assert why_malformed(kind, data) == expected


@given(st.binary(max_size=60))
def test_there_is_always_a_reason(data: bytes) -> None:
    assert why_malformed(rpc.TxnRequest, data)
