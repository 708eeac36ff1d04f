"""The table of errors is the contract with etcd's clients, who match on the text."""

from __future__ import annotations

import re

from wharf.brain import errors
from wharf.brain.errors import BrainError, MalformedMessage, MalformedRequest
from wharf.wire.rpc import Code


def table() -> dict[str, type[BrainError]]:
    return {
        name: found
        for name, found in vars(errors).items()
        if isinstance(found, type) and issubclass(found, BrainError) and found is not BrainError
    }


def test_every_error_has_a_text_of_its_own() -> None:
    given = ("MalformedRequest", "MalformedMessage", "ClientSideError")  # their text comes with the case
    texts = [found.text for name, found in table().items() if name not in given]
    assert all(texts)
    assert len(set(texts)) == len(texts)


def test_texts_with_etcds_prefix_are_clean() -> None:
    for found in table().values():
        if found.text.startswith("etcdserver"):
            assert re.fullmatch(r"etcdserver: [^ ].*[^. ]", found.text)


def test_what_kube_apiserver_matches_on() -> None:
    assert (errors.Compacted.code, errors.Compacted.text) == (
        Code.OUT_OF_RANGE,
        "etcdserver: mvcc: required revision has been compacted",
    )
    assert (errors.FutureRevision.code, errors.FutureRevision.text) == (
        Code.OUT_OF_RANGE,
        "etcdserver: mvcc: required revision is a future revision",
    )
    assert errors.LeaseNotFound.code is Code.NOT_FOUND
    assert errors.NoSpace.text == "etcdserver: mvcc: database space exceeded"


def test_an_error_reads_as_its_text() -> None:
    assert str(errors.Compacted()) == errors.Compacted.text


def test_malformed_messages_read_like_grpc_gos() -> None:
    assert str(MalformedRequest("unexpected EOF")) == "grpc: error unmarshalling request: unexpected EOF"
    assert MalformedRequest("x").code is Code.INTERNAL
    assert str(MalformedMessage("x")) == "grpc: failed to unmarshal the received message: x"


def test_only_what_did_nothing_may_be_retried() -> None:
    assert {name for name, found in table().items() if found.retry_safe} == {
        "AuthOldRevision",
        "TooManyRequests",
        "Stopped",
        "Unhealthy",
        "NoLeader",
        "NotLeader",
    }
