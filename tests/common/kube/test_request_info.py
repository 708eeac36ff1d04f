"""Request lines read as kube-apiserver reads them; tests/cluster compares with the real RequestInfoFactory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.kube.request_info import BadTarget, parse_request_info
from wharf.common.kube.request_shape import RequestInfo

# (method, target, verb, namespace, resource, subresource, name): the verbs of the Kubernetes documentation
# ("Authorization", "Determine the request verb") and every form of path.
RESOURCES = [
    ("GET", "/api/v1/nodes", "list", "", "nodes", "", ""),
    ("HEAD", "/api/v1/nodes", "list", "", "nodes", "", ""),
    ("GET", "/api/v1/nodes/n1", "get", "", "nodes", "", "n1"),
    ("HEAD", "/api/v1/nodes/n1", "get", "", "nodes", "", "n1"),
    ("POST", "/api/v1/namespaces/ns/pods", "create", "ns", "pods", "", ""),
    ("PUT", "/api/v1/namespaces/ns/pods/p", "update", "ns", "pods", "", "p"),
    ("PATCH", "/api/v1/namespaces/ns/pods/p", "patch", "ns", "pods", "", "p"),
    ("DELETE", "/api/v1/namespaces/ns/pods/p", "delete", "ns", "pods", "", "p"),
    ("DELETE", "/api/v1/namespaces/ns/pods", "deletecollection", "ns", "pods", "", ""),
    ("GET", "/api/v1/namespaces/ns/pods", "list", "ns", "pods", "", ""),
    ("GET", "/api/v1/namespaces/ns/pods/", "list", "ns", "pods", "", ""),
    ("GET", "/api/v1/namespaces/ns/pods/p", "get", "ns", "pods", "", "p"),
    ("GET", "/api/v1/namespaces/ns/pods/p/log", "get", "ns", "pods", "log", "p"),
    ("POST", "/api/v1/namespaces/ns/pods/p/exec?command=ls", "create", "ns", "pods", "exec", "p"),
    ("GET", "/api/v1/namespaces/ns/pods/p/exec?command=ls", "get", "ns", "pods", "exec", "p"),
    ("GET", "/api/v1/namespaces/ns/pods/p/proxy/metrics", "get", "ns", "pods", "proxy", "p"),
    ("GET", "/api/v1/namespaces/ns/pods/https:p:443/proxy/a/../b", "get", "ns", "pods", "proxy", "https:p:443"),
    ("GET", "/api/v1/namespaces", "list", "", "namespaces", "", ""),
    ("POST", "/api/v1/namespaces", "create", "", "namespaces", "", ""),
    ("GET", "/api/v1/namespaces/ns", "get", "ns", "namespaces", "", "ns"),
    ("PUT", "/api/v1/namespaces/ns/status", "update", "ns", "namespaces", "status", "ns"),
    ("PUT", "/api/v1/namespaces/ns/finalize", "update", "ns", "namespaces", "finalize", "ns"),
    ("GET", "/api/v1/watch/pods", "watch", "", "pods", "", ""),
    ("GET", "/api/v1/watch/namespaces/ns/pods", "watch", "ns", "pods", "", ""),
    ("GET", "/api/v1/watch/namespaces/ns/pods/p", "watch", "ns", "pods", "", "p"),
    ("GET", "/api/v1/watch/namespaces", "watch", "", "namespaces", "", ""),
    ("GET", "/api/v1/proxy/namespaces/ns/pods/p/metrics", "proxy", "ns", "pods", "", "p"),
    ("GET", "/api/v1/proxy/nodes/n/logs/../x", "proxy", "", "nodes", "", "n"),
    ("GET", "/api/v1/redirect/pods", "get", "", "redirect", "", "pods"),
    ("GET", "/apis/apps/v1/deployments", "list", "", "deployments", "", ""),
    ("GET", "/apis/apps/v1/namespaces/ns/deployments/d/scale", "get", "ns", "deployments", "scale", "d"),
    ("OPTIONS", "/api/v1/pods", "", "", "pods", "", ""),
    ("get", "/api/v1/pods", "", "", "pods", "", ""),
    # an empty segment is a segment; slashes at the ends are none
    ("GET", "//api/v1/pods//", "list", "", "pods", "", ""),
    ("GET", "/api/v1//pods", "get", "", "", "", "pods"),
    ("GET", "/api/v1/namespaces//pods", "list", "", "pods", "", ""),
    ("GET", "/api//v1/pods", "get", "", "v1", "", "pods"),
    # decoded slashes part segments like any other, as for kube-apiserver
    ("GET", "/api/v1/namespaces/ns/pods/p%2Flog", "get", "ns", "pods", "log", "p"),
    ("GET", "/api/v1/%6eamespaces/ns/pods", "list", "ns", "pods", "", ""),
    ("GET", "/api/v1/namespaces/ns/services/a%20b", "get", "ns", "services", "", "a b"),
    ("GET", "/api/v1/namespaces/ns/services/a+b", "get", "ns", "services", "", "a+b"),
    ("GET", "/api/v1/namespaces/ns/configmaps/%E4%BD%A0", "get", "ns", "configmaps", "", "你"),
    ("GET", "/api/v1/namespaces/ns/configmaps/%ff", "get", "ns", "configmaps", "", "\ufffd"),
    ("GET", "/api/v1/namespaces/ns/configmaps/a%3Fwatch=1", "get", "ns", "configmaps", "", "a?watch=1"),
    ("GET", "/api/v1/namespaces/ns/configmaps/.hidden", "get", "ns", "configmaps", "", ".hidden"),
]

WATCHES = {
    "": "list",
    "watch": "watch",
    "watch=": "watch",
    "watch=1": "watch",
    "watch=true": "watch",
    "watch=TRUE": "watch",
    "watch=yes": "watch",
    "watch=0": "list",
    "watch=false": "list",
    "watch=False": "list",
    "watch=fal%C5%BFe": "list",  # a long s folds to s
    "watch=00": "watch",
    "watch=0&watch=1": "list",  # the first one counts
    "%77atch=1": "watch",
    "Watch=1": "list",
    "a=b;watch=1": "list",  # Go reads no pair with a semicolon
    "watch=%zz": "list",  # nor one with a broken escape
    "watch=1&limit=x": "watch",
    "watch=0&limit=x": "list",
    "watch=fal%C5%BFe&limit=x": "watch",
    "limit=500": "list",
}

NAMES = {
    "fieldSelector=metadata.name=a": "a",
    "fieldSelector=metadata.name%3Da": "a",
    "fieldSelector=metadata.name%3D%3Da": "a",
    "fieldSelector=metadata.name!=a": "",
    "fieldSelector=spec.nodeName=x,metadata.name=a": "a",
    "fieldSelector=metadata.name=b,metadata.name=a": "a",  # terms are sorted
    "fieldSelector=,metadata.name=a,": "a",
    "fieldSelector=metadata.namespace=a": "",
    "fieldSelector=metadata.name=a\\,b": "a,b",
    "fieldSelector=metadata.name=a\\=b\\\\": "a=b\\",
    "fieldSelector=metadata.name=a\\x": "",
    "fieldSelector=metadata.name=a\\": "",
    "fieldSelector=metadata.name=a=b": "",
    "fieldSelector=metadata.name=a,junk": "",
    "fieldSelector=metadata.name=..": "",
    "fieldSelector=metadata.name=a%2Fb": "",
    "fieldSelector=metadata.name=a%2525b": "",
    "fieldSelector=metadata.name=": "",
    "fieldSelector=": "",
    "fieldSelector=metadata.name=a&limit=": "",
    "fieldSelector=metadata.name=a&limit=-5": "a",
    "fieldSelector=metadata.name=a&timeoutSeconds=1.5": "",
    "fieldSelector=metadata.name=a&timeoutSeconds=9223372036854775808": "",
    "fieldSelector=metadata.name=a&timeoutSeconds=00009223372036854775807": "a",
    "fieldSelector=metadata.name=a&labelSelector=app=web,tier+in+(a,b)": "a",
    "fieldSelector=metadata.name=a&labelSelector=(": "",
}

NON_RESOURCES = {
    "/": "/",
    "/healthz": "/healthz",
    "/healthz/": "/healthz/",
    "/api": "/api",
    "/api/v1": "/api/v1",
    "/apis": "/apis",
    "/apis/apps/v1": "/apis/apps/v1",
    "/apix/v1/pods": "/apix/v1/pods",
    "/openapi/v3/apis/apps/v1?hash=A%2FB": "/openapi/v3/apis/apps/v1",
    "/a%20b%2f": "/a b/",
    "//": "//",
}

REFUSED = [
    "",
    "*",
    "api/v1/pods",
    "http://elsewhere/api/v1/pods",
    "/api/v1/pods#a",
    "/api/v1/pods a",
    "/api/v1/pods\r\nx: y",
    "/api/v1/pods?a\0",
    "/api/v1/pods/\x7f",
    "/api/v1/pods/%",
    "/api/v1/pods/%4",
    "/api/v1/pods/%4g",
    "/api/v1/watch",
    "/api/v1/proxy/",
    "/..",
    "/healthz/../api/v1/secrets",
    "/healthz/./x",
    "/api/v1/namespaces/../secrets",
    "/api/v1/namespaces/ns/pods/..",
    "/api/v1/namespaces/ns/pods/p/log/..",
    "/api/v1/namespaces/%2e%2E/pods",
    "/api/v1/namespaces/ns/pods/..%2fproxy",
    "/api/v1/namespaces/ns/pods/../proxy",
    "/apis/../v1/pods",
    "/api/v1/proxy/namespaces/../pods/p/x",
]


@pytest.mark.parametrize(("method", "target", "verb", "namespace", "resource", "subresource", "name"), RESOURCES)
def test_resource_requests(
    method: str, target: str, verb: str, namespace: str, resource: str, subresource: str, name: str
) -> None:
    info = parse_request_info(method.encode(), target.encode())
    found = (info.verb, info.namespace, info.resource, info.subresource, info.name)
    assert info.is_resource
    assert found == (verb, namespace, resource, subresource, name)


@pytest.mark.parametrize(("query", "verb"), WATCHES.items())
def test_watch_is_asked_for_as_go_reads_booleans(query: str, verb: str) -> None:
    assert parse_request_info(b"GET", f"/api/v1/pods?{query}".encode()).verb == verb


@pytest.mark.parametrize(("query", "name"), NAMES.items())
def test_a_field_selector_may_name_the_object(query: str, name: str) -> None:
    assert parse_request_info(b"GET", f"/api/v1/pods?{query}".encode()).name == name


def test_a_watch_of_one_object_names_it() -> None:
    info = parse_request_info(b"GET", b"/api/v1/namespaces/ns/pods?watch=1&fieldSelector=metadata.name%3Dp")
    assert (info.verb, info.name, info.resource) == ("watch", "p", "pods")


def test_only_reads_are_named_by_a_selector() -> None:
    info = parse_request_info(b"DELETE", b"/api/v1/pods?fieldSelector=metadata.name%3Dp&labelSelector=a")
    assert (info.verb, info.name) == ("deletecollection", "")
    assert (info.field_selector, info.label_selector) == ("metadata.name=p", "a")


def test_selectors_count_where_kube_apiserver_honours_them() -> None:
    assert parse_request_info(b"GET", b"/api/v1/watch/pods?labelSelector=a").label_selector == ""
    assert parse_request_info(b"GET", b"/api/v1/pods/p?labelSelector=a").label_selector == ""
    assert parse_request_info(b"GET", b"/api/v1/pods?labelSelector=a+in+(b)").label_selector == "a in (b)"


@pytest.mark.parametrize(("target", "path"), NON_RESOURCES.items())
def test_non_resource_requests(target: str, path: str) -> None:
    info = parse_request_info(b"GET", target.encode())
    assert (info.is_resource, info.path, info.verb) == (False, path, "get")


def test_a_verb_of_no_resource_is_the_method() -> None:
    assert parse_request_info(b"POST", b"/logs/").verb == "post"
    assert parse_request_info(b"OPTIONS", b"*") == RequestInfo(False, "*", "options")


@pytest.mark.parametrize("target", REFUSED)
def test_edge_15_targets_that_could_be_read_in_two_ways_are_refused(target: str) -> None:
    with pytest.raises(BadTarget):
        parse_request_info(b"GET", target.encode())


def test_what_is_refused_once_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(BadTarget):
            parse_request_info(b"GET", b"/api/v1/..")


def test_long_targets_are_read_like_short_ones() -> None:
    long = b"/api/v1/pods?watch=1&labelSelector=" + b"a" * 5000
    assert parse_request_info(b"GET", long).verb == "watch"


@pytest.mark.parametrize(("target", "long_running"), [
    (b"/api/v1/pods?watch=1", True),
    (b"/api/v1/namespaces/ns/pods/p/log", True),
    (b"/api/v1/namespaces/ns/pods/p/exec", True),
    (b"/api/v1/namespaces/ns/pods/p/portforward", True),
    (b"/api/v1/namespaces/ns/services/s/proxy/x", True),
    (b"/api/v1/namespaces/ns/pods/p/status", False),
    (b"/api/v1/pods", False),
    (b"/debug/pprof/profile?seconds=68", True),
    (b"/debug/pprof/trace?seconds=5", True),
    (b"/debug/%70prof/heap", True),
    (b"/debug/pprof", False),
    (b"/debug/flags/v", False),
    (b"/logs/kube-apiserver.log", False),
    (b"/api/v1/debug/pprof/profile", False),
])  # fmt: skip
def test_long_running_requests(target: bytes, long_running: bool) -> None:
    assert parse_request_info(b"GET", target).long_running is long_running


@pytest.mark.parametrize("subresource", ["exec", "log", "proxy"])
def test_a_subresource_makes_only_requests_of_objects_long_running(subresource: str) -> None:
    assert RequestInfo(True, "/x", "get", subresource=subresource).long_running
    assert not RequestInfo(False, "/x", "get", subresource=subresource).long_running


SEGMENT = st.sampled_from(
    [
        "api",
        "apis",
        "v1",
        "apps",
        "watch",
        "proxy",
        "namespaces",
        "pods",
        "status",
        "a",
        "",
        ".",
        "..",
        "%2f",
        "%2E",
        "%",
    ]
)
QUERY = st.lists(
    st.sampled_from(["watch", "watch=0", "fieldSelector=metadata.name%3Da", "limit=x", "labelSelector=a", ";", "%"])
)


@given(st.sampled_from([b"GET", b"POST", b"DELETE", b"PUT"]), st.lists(SEGMENT), QUERY)
def test_any_path_is_read_or_refused(method: bytes, segments: list[str], query: list[str]) -> None:
    target = "/" + "/".join(segments) + "?" + "&".join(query)
    try:
        info = parse_request_info(method, target.encode())
    except BadTarget:
        return
    assert "/".join(info.parts) in info.path
    assert info.is_resource == bool(info.parts)
    assert info.resource == (info.parts[0] if info.parts else "")
    assert not {".", ".."} & {info.namespace, info.resource, info.name, info.group, info.version}


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_bytes_break_the_parser(path: bytes, query: bytes) -> None:
    try:
        info = parse_request_info(b"GET", b"/api/v1/" + path + b"?" + query)
    except BadTarget:
        return
    assert info.path.startswith("/api/v1/")
