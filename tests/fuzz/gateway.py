"""The gateway's own parsers: what clients write into requests, and what processes say to each other.

The first byte chooses the parser, the rest is its input. Whatever comes is read or refused by the parser's own error;
what is read says the same when it is written again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address

from wharf.common import report
from wharf.common.heartbeat import BadHeartbeat, encode_heartbeat, parse_heartbeat
from wharf.common.kube.request_info import BadTarget, parse_request_info
from wharf.common.kube.selectors import BadSelector, check_labels, exact_match
from wharf.gateway.api.status import Sight
from wharf.gateway.cluster.names import Claim, Names, is_address, parse_authority
from wharf.gateway.life.line import HEAD, BadFrame, encode_frame, parse_head
from wharf.gateway.life.sights import BadSights, encode_sights, merge_sights, parse_sights
from wharf.gateway.limits import share_frames
from wharf.gateway.seen.access_log import FIELDS, TEXT_MAX, Record, encode_record, hide_query
from wharf.wire.client_hello import HELLO_MAX, RECORD_HEAD, BadHello, hello_length, parse_client_hello

_NAMES = Names([Claim("prod", ("prod.test", "*.prod.test"), (ip_address("10.0.0.1"), ip_address("::1")))])

_RECORD = Record(
    cluster="prod",
    server="a",
    method="GET",
    target=b"/",
    verb="get",
    group="",
    resource="",
    subresource="",
    namespace="",
    name="",
    user=None,
    groups=None,
    impersonated=None,
    client="127.0.0.1",
    forwarded_for=None,
    user_agent=None,
    status=200,
    reason="",
    policy="",
    attempts=1,
    seconds=0.5,
    bytes_in=0,
    bytes_out=0,
    protocol="h2",
    audit_id=None,
    trace_id=None,
    slow=False,
)


def _authority(data: bytes) -> None:
    host = parse_authority(data)
    if host is None:
        assert _NAMES.by_authority(data) is None
        assert not is_address(data)
        return
    assert host == host.lower()
    assert not set(host) & set("@/?#[]\\ \r\n")
    bracketed = f"[{host}]" if ":" in host else host
    assert parse_authority(bracketed.encode()) in (host, host or None)
    found = _NAMES.by_authority(data)
    assert found is None or host in ("prod.test", "10.0.0.1", "::1") or host.endswith(".prod.test")


def _target(data: bytes) -> None:
    method, _, target = data.partition(b" ")
    try:
        info = parse_request_info(method, target)
    except BadTarget:
        return
    assert parse_request_info(method, target) == info
    assert ".." not in info.path.split("/")


def _selectors(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(BadSelector):
        name = exact_match(text, "metadata.name")
        assert name is None or "metadata.name" in text
    with suppress(BadSelector):
        check_labels(text)


def _access_log(data: bytes) -> None:
    """One line, whole, with nothing of unknown parameters."""
    text = data.decode("latin-1")
    line = encode_record(replace(_RECORD, target=data, name=text, user=text, user_agent=text, groups=(text,)), 0.0)
    assert line.isascii()
    assert line.isprintable()
    told = json.loads(line)
    assert set(told) <= set(FIELDS)
    assert all(len(value) <= TEXT_MAX for value in told.values() if isinstance(value, str))
    secret = "s3cr3t"
    assert secret not in hide_query(f"command={secret}&{text.replace(secret, '')}")


def _hello(data: bytes) -> None:
    data = data[:HELLO_MAX]
    try:
        needed = hello_length(data)
        assert 0 < needed <= HELLO_MAX
        name = parse_client_hello(data).server_name
    except BadHello:
        return
    assert needed <= len(data)
    if name is not None:
        message = b"".join(data[at + RECORD_HEAD : end] for at, end in _records(data))
        assert name.encode("ascii") in message


def _records(data: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(data):
        end = at + RECORD_HEAD + int.from_bytes(data[at + 3 : at + RECORD_HEAD], "big")
        yield at, end
        at = end


def _line(data: bytes) -> None:
    try:
        word, length = parse_head(data[:HEAD])
    except BadFrame:
        return
    body = data[HEAD : HEAD + length]
    assert parse_head(encode_frame(word, body)[:HEAD]) == (word, len(body))


def _sights(data: bytes) -> None:
    try:
        sights = parse_sights(data)
    except BadSights:
        return
    assert all(isinstance(one, Sight) for one in sights.values())
    assert json.loads(encode_sights(parse_sights(encode_sights(sights)))) == json.loads(encode_sights(sights))
    merge_sights([sights, sights])


def _heartbeat(data: bytes) -> None:
    try:
        beat = parse_heartbeat(data)
    except BadHeartbeat:
        return
    again = parse_heartbeat(encode_heartbeat(beat))
    assert (again.service, again.instance, again.ready) == (beat.service, beat.instance, beat.ready)
    assert again.addresses == beat.addresses


def _report(data: bytes) -> None:
    try:
        families = report.decode(data)
    except report.BadReport:
        return
    assert report.decode(report.encode(families)[report.HEAD :]) == families


def _shares(data: bytes) -> None:
    with suppress(share_frames.BadFrame):
        holder, asks = share_frames.parse_asks(data)
        assert share_frames.parse_asks(share_frames.encode_asks(holder, asks)[share_frames.HEAD :]) == (holder, asks)
    with suppress(share_frames.BadFrame):
        answers = share_frames.parse_answers(data)
        assert share_frames.parse_answers(share_frames.encode_answers(answers)[share_frames.HEAD :]) == answers


_OF_CLIENTS = (_authority, _target, _selectors, _access_log, _hello)
_OF_PROCESSES = (_line, _sights, _heartbeat, _report, _shares)


def clients(data: bytes) -> None:
    """Parts of a stranger's request, and its TLS hello."""
    if data:
        _OF_CLIENTS[data[0] % len(_OF_CLIENTS)](data[1:])


def processes(data: bytes) -> None:
    """What workers, their parent and the bus carry."""
    if data:
        _OF_PROCESSES[data[0] % len(_OF_PROCESSES)](data[1:])


GATEWAY_TARGETS: dict[str, Callable[[bytes], None]] = {
    "gateway_clients": clients,
    "gateway_processes": processes,
}
