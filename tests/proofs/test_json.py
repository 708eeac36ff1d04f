"""etcd's HTTP/JSON API: every path of brain's answers as etcd's does, and a client that knows only this way works."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import Etcd3Exception
from harness.store import Store
from proofs import servers

TARGETS = ("brain", "etcd-3.6")
DIFFERENT_IDS = ("cluster_id", "member_id")
SECONDS = 10

# Path below /v3/ and body, in this order on a fresh server.
CASES = (
    ("kv/put", '{"key":"Zm9v","value":"YmFy"}'),
    ("kv/put", '{"key":"Zm9v","value":"YmF6","prev_kv":true}'),
    ("kv/put", '{"key":"Zm9v","value":"YmF6","prevKv":true,"lease":"99"}'),
    ("kv/range", '{"key":"Zm9v"}'),
    ("kv/range", '{"key":"AA==","range_end":"AA==","sort_order":"DESCEND","sort_target":"KEY","count_only":true}'),
    ("kv/range", '{"key":"AA==","rangeEnd":"AA==","sortOrder":2,"limit":"1","keys_only":true}'),
    ("kv/range", '{"key":"AA==","rangeEnd":"AA==","sortOrder":"NOPE","unknown":[1,{"a":2}]}'),
    ("kv/range", '{"key":"AA==","rangeEnd":"AA==","sortOrder":7}'),
    ("kv/range", '{"key":"Zm9v","revision":"99"}'),
    ("kv/range", ""),
    ("kv/range", "{}"),
    ("kv/range", "null"),
    ("kv/range", "[]"),
    ("kv/range", "x"),
    ("kv/range", '{"key":"Zm9v"} trailing'),
    ("kv/range", '{"key":"Zm9v","key":"Zm9v"}'),
    ("kv/range", '{"key":"Zm9v","range_end":"YQ==","rangeEnd":"YQ=="}'),
    ("kv/range", '{"key":1}'),
    ("kv/range", '{"key":"!!"}'),
    ("kv/range", '{"key":"Zm9vYQ"}'),
    ("kv/range", '{"key":"-_-_"}'),
    ("kv/range", '{"key":"Zm9v","limit":1.0}'),
    ("kv/range", '{"key":"Zm9v","limit":1e1}'),
    ("kv/range", '{"key":"Zm9v","limit":1.5}'),
    ("kv/range", '{"key":"Zm9v","limit":"1e1"}'),
    ("kv/range", '{"key":"Zm9v","limit":" 1"}'),
    ("kv/range", '{"key":"Zm9v","limit":9223372036854775808}'),
    ("kv/range", '{"key":"Zm9v","limit":"-1"}'),
    ("kv/range", '{"key":"Zm9v","limit":true}'),
    ("kv/range", '{"key":"Zm9v","serializable":"true"}'),
    ("kv/range", '{"key":"Zm9v","serializable":null,"limit":null}'),
    (
        "kv/txn",
        '{"compare":[{"key":"Zm9v","target":"VERSION","result":"GREATER","version":"0"}],"success":[{"request_put":{"key":"Zm9v","value":"eA=="}},{"requestRange":{"key":"Zm9v"}}],"failure":[{"request_delete_range":{"key":"Zm9v"}}]}',
    ),
    (
        "kv/txn",
        '{"compare":[{"key":"Zm9v","target":"CREATE","createRevision":"0"}],"success":[{"request_put":{"key":"Zm9v","value":"eA=="}}],"failure":[{"request_delete_range":{"key":"Zm9v","prev_kv":true}},{"request_txn":{"success":[{"request_range":{"key":"Zm9v"}}]}}]}',
    ),
    ("kv/txn", '{"compare":[{"key":"Zm9v","version":"0","value":"eA=="}]}'),
    ("kv/txn", '{"success":[{"request_put":{"key":"YQ=="},"request_range":{"key":"YQ=="}}]}'),
    ("kv/txn", '{"success":[{"request_put":{"key":"YQ=="}},{"request_put":{"key":"YQ=="}}]}'),
    ("kv/txn", '{"success":[{}]}'),
    ("kv/txn", '{"success":{}}'),
    ("kv/txn", '{"success":["a"]}'),
    ("kv/txn", '{"success":[null]}'),
    ("kv/txn", "{}"),
    ("kv/deleterange", '{"key":"bm9uZQ=="}'),
    ("kv/put", '{"key":"Zm9v","value":"YmFy"}'),
    ("kv/deleterange", '{"key":"Zm9v","prev_kv":true}'),
    ("kv/compaction", '{"revision":"3"}'),
    ("kv/compaction", '{"revision":"3"}'),
    ("kv/compaction", '{"revision":99}'),
    ("kv/range", '{"key":"Zm9v","revision":2}'),
    ("lease/grant", '{"ID":"7","TTL":"100"}'),
    ("lease/grant", '{"ID":7,"TTL":100}'),
    ("kv/put", '{"key":"bA==","value":"YmFy","lease":7}'),
    ("lease/timetolive", '{"ID":"7","keys":true}'),
    ("kv/lease/timetolive", '{"ID":"8"}'),
    ("lease/leases", "{}"),
    ("kv/lease/leases", ""),
    ("lease/keepalive", '{"ID":"7"}'),
    ("lease/keepalive", '{"ID":"7"} {"ID":8}'),
    ("lease/keepalive", ""),
    ("lease/revoke", '{"ID":"7"}'),
    ("kv/lease/revoke", '{"ID":"7"}'),
    ("cluster/member/remove", '{"ID":"1"}'),
    ("cluster/member/promote", '{"ID":"1"}'),
    ("cluster/member/add", "{}"),
    ("maintenance/alarm", "{}"),
    ("maintenance/alarm", '{"action":"ACTIVATE","alarm":"NOSPACE"}'),
    ("maintenance/alarm", '{"action":2,"alarm":1}'),
    ("maintenance/defragment", "{}"),
    ("maintenance/transfer-leadership", '{"targetID":"5"}'),
    ("maintenance/downgrade", '{"action":"VALIDATE","version":"x"}'),
    ("maintenance/hashkv", '{"revision":"999"}'),
    ("auth/status", "{}"),
    ("auth/user/add", '{"name":"root","password":"pw"}'),
    ("auth/user/add", '{"name":""}'),
    ("auth/user/get", '{"user":"x"}'),
    ("auth/role/add", '{"name":"r"}'),
    ("auth/role/grant", '{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}'),
    ("auth/role/grant", '{"name":"r","perm":{"permType":7,"key":"Yw=="}}'),
    ("auth/role/get", '{"role":"r"}'),
    ("auth/role/list", ""),
    ("auth/user/list", "{}"),
    ("auth/user/grant", '{"user":"root","role":"r"}'),
    ("auth/user/changepw", '{"name":"root","password":"pw2"}'),
    ("auth/user/revoke", '{"name":"root","role":"r"}'),
    ("auth/role/revoke", '{"role":"r","key":"YQ==","range_end":"Yg=="}'),
    ("auth/role/delete", '{"role":"r"}'),
    ("auth/user/delete", '{"name":"root"}'),
    ("auth/enable", "{}"),
    ("auth/disable", "{}"),
    ("auth/authenticate", '{"name":"a","password":"b"}'),
    ("lock/lock", '{"name":"bA==","lease":"5"}'),
    ("lock/unlock", '{"key":"bA=="}'),
    ("election/leader", '{"name":"ZQ=="}'),
    ("election/proclaim", '{"value":"ZQ=="}'),
    ("election/resign", "{}"),
    ("election/campaign", '{"name":"ZQ==","lease":77}'),
    ("nope", "{}"),
    ("kv/range/", "{}"),
    ("", "{}"),
    ("kv/range?x=1", '{"key":"YQ=="}'),
)
ENABLE = (
    ("auth/user/add", '{"name":"root","password":"pw"}'),
    ("auth/role/add", '{"name":"root"}'),
    ("auth/user/grant", '{"user":"root","role":"root"}'),
    ("auth/user/add", '{"name":"u","password":"pw"}'),
    ("auth/role/add", '{"name":"r"}'),
    ("auth/role/grant", '{"name":"r","perm":{"permType":"READWRITE","key":"YQ=="}}'),
    ("auth/user/grant", '{"user":"u","role":"r"}'),
    ("auth/enable", "{}"),
)
AUTHENTICATED = (
    ("kv/put", '{"key":"YQ==","value":"MQ=="}'),
    ("kv/put", '{"key":"Yg==","value":"MQ=="}'),
    ("kv/range", '{"key":"YQ=="}'),
    ("kv/range", '{"key":"YQ==","range_end":"AA=="}'),
    ("auth/user/get", '{"name":"u"}'),
    ("auth/user/list", "{}"),
    ("maintenance/hash", "{}"),
)

Answer = tuple[int, str | None, Any]


def opened(url: str, path: str, body: str, method: str = "POST", token: str = "") -> HTTPResponse:
    """An answer that can be read as it comes; HTTPError when it is a refusal."""
    headers = {"Authorization": token} if token else {}
    data = body.encode() or None
    request = urllib.request.Request(f"{url}/v3/{path}", data, headers, method=method)  # noqa: S310  http only
    answer = urllib.request.urlopen(request, timeout=SECONDS)  # noqa: S310  as above
    assert isinstance(answer, HTTPResponse)
    return answer


def ask(url: str, path: str, body: str, *, method: str = "POST", token: str = "") -> Answer:
    """(status, content type, JSON of the lines) without what differs between any two servers."""
    try:
        with opened(url, path, body, method, token) as answer:
            return answer.status, answer.headers.get("content-type"), _lines(answer.read())
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code, error.headers.get("content-type"), _lines(error.read())


def _lines(body: bytes) -> list[Any]:
    return [_same(json.loads(line)) for line in body.splitlines()]


def _same(value: Any) -> Any:
    """`value` without ids; of an error about broken JSON only the code, because Go's parser has words of its own."""
    if isinstance(value, list):
        return [_same(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("code") == 3 and not value.get("message", "").startswith("etcdserver"):
        return {"code": 3}
    return {name: "#" if name in DIFFERENT_IDS else _same(item) for name, item in value.items()}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """brain and etcd, fresh."""
    stores = [servers.start(target, tmp_path / target) for target in TARGETS]
    yield stores[0], stores[1]
    for store in stores:
        store.stop()


def test_every_path_answers_as_etcds(pair: tuple[Store, Store]) -> None:
    brain, etcd = pair
    for path, body in CASES:
        assert ask(brain.url, path, body) == ask(etcd.url, path, body), (path, body)
    for method in ("GET", "PUT", "DELETE"):
        assert ask(brain.url, "kv/range", "", method=method) == ask(etcd.url, "kv/range", "", method=method)


def test_tokens_and_permissions_are_etcds(pair: tuple[Store, Store]) -> None:
    brain, etcd = pair
    for path, body in ENABLE:
        assert ask(brain.url, path, body) == ask(etcd.url, path, body), (path, body)
    tokens = [ask(store.url, "auth/authenticate", '{"name":"u","password":"pw"}')[2][0]["token"] for store in pair]
    for path, body in AUTHENTICATED:
        assert ask(brain.url, path, body) == ask(etcd.url, path, body), (path, body)
        wrong = [ask(store.url, path, body, token="nonsense") for store in pair]
        assert wrong[0] == wrong[1], (path, body)
        answers = [ask(store.url, path, body, token=token) for store, token in zip(pair, tokens, strict=True)]
        assert answers[0] == answers[1], (path, body)


def watched(store: Store) -> list[Any]:
    """The lines of a watch over a put, a delete and one from the past, as they come."""
    found = []
    ask(store.url, "kv/put", '{"key":"YQ==","value":"MQ=="}')
    body = json.dumps({"create_request": {"key": "YQ==", "range_end": "AA==", "start_revision": "2", "prev_kv": True}})
    with opened(store.url, "watch", body) as answer:
        found += [_same(json.loads(answer.readline())) for _ in range(2)]
        for path, change in (("put", '{"key":"Yg=="}'), ("deleterange", '{"key":"YQ=="}')):
            ask(store.url, f"kv/{path}", change)
            found.append(_same(json.loads(answer.readline())))
    return found


def test_a_watch_streams_what_etcds_does(pair: tuple[Store, Store]) -> None:
    brain, etcd = map(watched, pair)
    assert brain == etcd
    assert [len(line["result"].get("events", ())) for line in brain] == [0, 1, 1, 1]


def test_an_election_is_observed_as_in_etcd(pair: tuple[Store, Store]) -> None:
    found = []
    for store in pair:
        ask(store.url, "lease/grant", '{"ID":"7","TTL":"100"}')
        ask(store.url, "election/campaign", '{"name":"ZQ==","lease":"7","value":"MQ=="}')
        with opened(store.url, "election/observe", '{"name":"ZQ=="}') as answer:
            found.append(_same(json.loads(answer.readline())))
    assert found[0] == found[1]


@pytest.fixture(params=TARGETS)
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Etcd3Client]:
    """etcd3gw's client, of brain and of etcd."""
    store = servers.start(request.param, tmp_path)
    client = Etcd3Client(host="127.0.0.1", port=store.port, api_path="/v3/", timeout=SECONDS)
    yield client
    client.session.close()
    store.stop()


def test_etcd3gw_reads_writes_and_transacts(client: Etcd3Client) -> None:
    assert client.status()["version"].startswith("3.")
    assert client.put("key", "value")
    assert client.get("key") == [b"value"]
    assert client.create("new", "1")
    assert not client.create("new", "2")
    assert client.replace("new", "1", "3")
    assert not client.replace("new", "1", "4")
    found = client.get_prefix("n")
    assert [(value, meta["key"]) for value, meta in found] == [(b"3", b"new")]
    assert client.delete("new")
    assert not client.delete("new")
    compare = {"key": b64encode(b"key").decode(), "result": "EQUAL", "target": "VERSION", "version": 1}
    answer = client.transaction({"compare": [compare], "success": [], "failure": []})
    assert answer["succeeded"]
    with pytest.raises(Etcd3Exception):
        client.post(client.get_url("/kv/range"), json={})


def test_etcd3gw_keeps_leases_and_locks(client: Etcd3Client) -> None:
    lease = client.lease(ttl=100)
    assert client.put("key", "value", lease)
    assert lease.keys() == [b"key"]
    assert 0 < lease.ttl() <= 100
    assert lease.refresh() == 100
    lease.revoke()
    assert client.get("key") == []
    with client.lock("name", ttl=30) as lock:
        assert lock.is_acquired()
        assert not client.lock("name", ttl=30).acquire()
    assert not lock.is_acquired()


def test_etcd3gw_watches(client: Etcd3Client) -> None:
    events, cancel = client.watch("key")
    client.put("key", "1")
    client.put("key", "2")
    values = [next(events)["kv"]["value"] for _ in range(2)]
    cancel()
    assert values == [b"1", b"2"]
