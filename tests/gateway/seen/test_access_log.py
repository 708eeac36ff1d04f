"""An access log line says what happened, and nothing that is secret."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.gateway.seen.access_log import FIELDS, TEXT_MAX, AccessLog, Record, encode_record, hide_query

RECORD = Record(
    cluster="prod",
    server="a",
    method="POST",
    target=b"/api/v1/namespaces/n/pods/p/exec?command=sh&command=s3cr3t&stdin=true",
    verb="create",
    group="",
    resource="pods",
    subresource="exec",
    namespace="n",
    name="p",
    user="alice",
    groups=("dev",),
    impersonated=None,
    client="10.0.0.9:1234",
    forwarded_for=None,
    user_agent="kubectl",
    status=101,
    reason="",
    policy="default",
    attempts=1,
    seconds=1.23456789,
    bytes_in=3,
    bytes_out=4,
    protocol="HTTP/1.1",
    audit_id="id",
    trace_id=None,
    slow=False,
)


def test_every_field_of_a_record_has_its_place() -> None:
    own = {item.name for item in fields(Record)} - {"target"} | {"time", "path", "query"}
    assert own == set(FIELDS)


def test_edge_12_commands_and_unknown_parameters_are_hidden() -> None:
    line = json.loads(encode_record(RECORD, 0.0))
    assert line["query"] == "command=***&command=***&stdin=true"
    assert line["path"] == "/api/v1/namespaces/n/pods/p/exec"
    assert line["time"] == "1970-01-01T00:00:00.000+00:00"
    assert "impersonated" not in line
    assert "slow" not in line


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("s3cr3t", "***"),
        ("czNjcjN0PQ==", "***"),
        ("watch&s3cr3t&limit=5", "watch&***&limit=5"),
        ("comm%61nd=s3cr3t", "comm%61nd=***"),
        ("a=1;limit=s3cr3t", "a=***"),
        ("&&watch=1", "&&watch=1"),
    ],
)
def test_edge_12_what_may_be_no_name_is_hidden_too(query: str, told: str) -> None:
    assert hide_query(query) == told


@pytest.mark.parametrize(("verb", "subresource"), [("get", "proxy"), ("proxy", "")])
def test_edge_12_the_query_of_a_proxied_application_is_its_own(verb: str, subresource: str) -> None:
    record = replace(RECORD, verb=verb, subresource=subresource, target=b"/x/proxy/login?continue=s3cr3t&a")
    assert json.loads(encode_record(record, 0.0))["query"] == "***"


def test_fields_are_chosen() -> None:
    assert json.loads(encode_record(RECORD, 0.0, ("user", "status"))) == {"user": "alice", "status": 101}


@given(st.lists(st.tuples(st.text("abc=%", max_size=5), st.text("xyz%", max_size=5)), max_size=5))
def test_edge_12_a_value_is_shown_only_under_a_known_name(pairs: list[tuple[str, str]]) -> None:
    query = "&".join(f"{name}={value}" for name, value in pairs)
    assert not set("xyz") & set(hide_query(query))


@pytest.mark.parametrize("target", [b"/\xff\x00?a", b"/" + b"x" * 100_000, b"/a\nb"])
def test_one_request_is_one_line_of_bounded_length(target: bytes) -> None:
    line = encode_record(replace(RECORD, target=target), 0.0)
    assert "\n" not in line
    assert len(line) < TEXT_MAX + 2000


def test_a_destination_that_fails_is_counted() -> None:
    def full(line: str) -> None:
        raise OSError("no space left")

    log = AccessLog(full, lambda: 0.0)
    log.add(RECORD, ())
    assert log.failed == 1
