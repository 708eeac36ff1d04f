"""What wharf reads and writes of Kubernetes by itself is what kube-apiserver's own code reads and writes."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from common.kube.test_request_info import NAMES, NON_RESOURCES, REFUSED, RESOURCES, WATCHES
from common.kube.test_status import STATUS
from gateway.test_identity import USER
from harness.conventions import Conventions, build_conventions
from hypothesis import Phase, given, settings
from hypothesis.strategies import SearchStrategy
from wharf.common.kube.request_info import BadTarget, parse_request_info
from wharf.common.kube.request_shape import RequestInfo
from wharf.common.kube.status import encode
from wharf.gateway.identity import front_proxy_headers
from wharf.wire.web import Header

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "FOO")


def words(text: str) -> list[str]:
    """Between single spaces."""
    return text.split(" ")


SEGMENTS = (
    *words("api apis v1 apps watch proxy namespaces namespaces ns pods nodes status finalize log exec a "),
    *words("%2F a%20b a+b %E4%BD%A0 .. . % a%2Fb : %41"),
)
QUERIES = (
    *words("watch watch= watch=1 watch=0 watch=FALSE watch=false&watch=1 limit=x limit=5 timeoutSeconds=07 a;b % &&"),
    *words("fieldSelector=metadata.name%3Da fieldSelector=metadata.name=b,spec.x!=c fieldSelector=a"),
    *words("labelSelector=a labelSelector=a+in+(b,c) labelSelector=! labelSelector=a>1"),
)
LABELS = (
    *words("a !a a=b a==b a!=b a= a!= a,b a, ,a a,,b a>1 a<1 a>x a> a>-1 a>007 ! !!a !a=b a=!b in notin=in"),
    *words("x.y/z /z x/ x/y/z X.y/z a- -a a=b- a=-b é a===b a=>b a<>b (a) a=b) a\0b a\0"),
    *("a in (b)", "a notin (b,c)", "a in ()", "a in (,)", "a in (b,,c)", "a in (b", "a in b", "a in (b c)"),
    *("a in (b\0)", "in in (in)", "a b", "a=b c", " a = b ", "a\tin\n(b)"),
    *("a" * 64, "a=" + "b" * 64, f"{'d.' * 126}d/n", f"{'d.' * 127}d/n"),
    *("a>9223372036854775807", "a>9223372036854775808"),
)


@pytest.fixture(scope="module")
def kube() -> Conventions:
    return build_conventions()


def request_line(method: str, target: str) -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def as_shape(told: dict[str, Any]) -> RequestInfo:
    """Go's struct as ours."""
    return RequestInfo(
        is_resource=told["IsResourceRequest"],
        path=told["Path"],
        verb=told["Verb"],
        prefix=told["APIPrefix"],
        group=told["APIGroup"],
        version=told["APIVersion"],
        namespace=told["Namespace"],
        resource=told["Resource"],
        subresource=told["Subresource"],
        name=told["Name"],
        parts=tuple(told["Parts"] or ()),
        label_selector=told["LabelSelector"],
        field_selector=told["FieldSelector"],
    )


def compare(kube: Conventions, requests: list[tuple[str, str]]) -> int:
    """Where both read a target they read the same; what only we refuse is what the module says. The number read."""
    read = 0
    answers = kube.ask("request", (request_line(method, target) for method, target in requests))
    for (method, target), told in zip(requests, answers, strict=True):
        try:
            ours = parse_request_info(method.encode(), target.encode())
        except BadTarget as error:
            on_purpose = any(word in str(error) for word in ("segment of dots", "may not stand", "begin with a slash"))
            assert "error" in told or on_purpose, (method, target, told)
            continue
        assert "error" not in told, (method, target, told)
        assert ours == as_shape(told["requestInfo"]), (method, target)
        read += 1
    return read


def test_the_documented_requests(kube: Conventions) -> None:
    requests = [(method, target) for method, target, *_ in RESOURCES]
    requests += [("GET", f"/api/v1/pods?{query}") for query in (*WATCHES, *NAMES) if " " not in query]
    requests += [("GET", target) for target in (*NON_RESOURCES, *REFUSED) if " " not in target and "\r" not in target]
    assert compare(kube, requests) > 100


def test_every_short_path(kube: Conventions) -> None:
    paths = itertools.chain.from_iterable(itertools.product(SEGMENTS, repeat=length) for length in (1, 2))
    requests = [("GET", f"/{prefix}/v1/{'/'.join(path)}") for path in paths for prefix in ("api", "apis/apps")]
    assert compare(kube, requests) > 1000


def test_thousands_of_others(kube: Conventions) -> None:
    dice = random.Random(5)
    requests = []
    for _ in range(20_000):
        path = "/" + "/".join(dice.choices(SEGMENTS, k=dice.randrange(8)))
        if dice.random() < 0.7:
            path = dice.choice(("/api/v1", "/apis/apps/v1", "/api/v1/namespaces/ns")) + path
        query = "&".join(dice.choices(QUERIES, k=dice.randrange(4)))
        requests.append((dice.choice(METHODS), f"{path}?{query}" if query or dice.random() < 0.1 else path))
    assert compare(kube, requests) > 8000


def test_label_selectors_beside_a_name(kube: Conventions) -> None:
    escaped = ("".join(f"%{byte:02x}" for byte in selector.encode()) for selector in LABELS)
    requests = [("GET", f"/api/v1/pods?fieldSelector=metadata.name%3Da&labelSelector={text}") for text in escaped]
    requests += [
        (method, target.replace("fieldSelector", "watch=fal%C5%BFe&fieldSelector")) for method, target in requests
    ]
    assert compare(kube, requests) == len(requests)


def examples(strategy: SearchStrategy[Any], count: int) -> list[Any]:
    """Some of what a strategy makes."""
    found: list[Any] = []

    @settings(max_examples=count, database=None, phases=[Phase.generate])
    @given(strategy)
    def collect(example: Any) -> None:
        found.append(example)

    collect()
    return found


def test_edge_20_protobuf_is_read_by_kubernetes_own_types(kube: Conventions) -> None:
    statuses = examples(STATUS, 300)
    answers = kube.ask("status", (encode(one, b"application/vnd.kubernetes.protobuf")[1] for one in statuses))
    for status, told in zip(statuses, answers, strict=True):
        assert "error" not in told, told
        expected = {name: value for name, value in status.document.items() if value not in ("", None)}
        expected = {name: value for name, value in expected.items() if name not in ("kind", "apiVersion")}
        seen = {name: value for name, value in told["status"].items() if name not in ("kind", "apiVersion")}
        assert seen == expected


def test_edge_05_kubernetes_own_code_reads_the_very_same_user(kube: Conventions) -> None:
    users = examples(USER, 300)
    answers = kube.ask("user", (request_with(front_proxy_headers(user)) for user in users))
    for user, told in zip(users, answers, strict=True):
        assert "error" not in told, told
        seen = told["user"]
        assert (seen["name"], seen["uid"], tuple(seen["groups"] or ())) == (user.name, user.uid, user.groups)
        extra = {key: tuple(values) for key, values in (seen["extra"] or {}).items()}
        assert extra == {key: values for key, values in user.extra.items() if values}


def request_with(headers: tuple[Header, ...]) -> bytes:
    fields = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return b"GET / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"
