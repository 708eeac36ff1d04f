"""Rules and policies: one meaning of `*`, prefixes and exclusions, by tables and against a plain reading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.api.shapes import Policy, Rule
from wharf.gateway.route.router import PLAN_KEY_MAX, Router
from wharf.gateway.user import ANONYMOUS, UNKNOWN, User

JANE = User("jane", ("dev", "system:authenticated"))
ROOT = User("root", ("system:masters", "system:authenticated"))
BUILDER = User("system:serviceaccount:ci:builder", ("system:serviceaccounts", "system:authenticated"))


def asks(verb: str = "get", what: str = "pods", group: str = "", namespace: str = "", name: str = "") -> RequestInfo:
    """A request for an object: "pods" or "pods/log"."""
    resource, _, subresource = what.partition("/")
    return RequestInfo(True, f"/api/v1/{what}", verb, "api", group, "v1", namespace, resource, subresource, name)


def visits(path: str, verb: str = "get") -> RequestInfo:
    return RequestInfo(False, path, verb)


def matches(rule: Rule, info: RequestInfo, user: User = JANE) -> bool:
    return Router((Policy("p", (rule,)),)).match(info, user) == 0


@pytest.mark.parametrize(
    ("values", "value", "expected"),
    [
        ((), "a", True),
        ((), "", True),
        (("*",), "a", True),
        (("*",), "", True),
        (("a",), "a", True),
        (("a",), "", False),
        (("a",), "ab", False),
        (("a*",), "ab", True),
        (("a*",), "a", True),
        (("a*",), "b", False),
        (("a*",), "", False),
        (("-a",), "a", False),
        (("-a",), "b", True),
        (("-a",), "", True),
        (("-a", "-b"), "a", False),  # two exclusions narrow each other; they do not cancel
        (("-a", "-b"), "b", False),
        (("-a", "-b"), "c", True),
        (("-a*",), "ab", False),
        (("-a*",), "b", True),
        (("a*", "-ab"), "ac", True),
        (("a*", "-ab"), "ab", False),
        (("a*", "-ab"), "b", False),
        (("*", "-a"), "b", True),
        (("*", "-a"), "a", False),
        (("-",), "", False),
        (("-",), "a", True),
        (("-*",), "a", False),
        (("a", "b"), "b", True),
    ],
)
def test_values_of_a_field(values: tuple[str, ...], value: str, expected: bool) -> None:
    assert matches(Rule(namespaces=values), asks(namespace=value)) is expected
    assert matches(Rule(resource_names=values), asks(name=value)) is expected
    assert matches(Rule(users=values), asks(), User(value)) is expected
    assert matches(Rule(api_groups=values), asks(group=value)) is expected
    assert matches(Rule(non_resource_urls=values), visits(value)) is expected


@pytest.mark.parametrize(
    ("values", "what", "expected"),
    [
        (("pods",), "pods", True),
        (("pods",), "pods/log", False),
        (("pods/log",), "pods/log", True),
        (("pods/log",), "pods", False),
        (("pods/log",), "pods/exec", False),
        (("*/status",), "pods/status", True),
        (("*/status",), "pods", False),
        (("pods/*",), "pods/log", True),
        (("pods/*",), "pods", False),
        (("pods/*",), "nodes/log", False),
        (("*/*",), "pods/log", True),
        (("*/*",), "pods", False),
        (("*",), "pods/log", True),
        (("pods", "pods/*"), "pods", True),
        (("-pods",), "pods", False),
        (("-pods",), "pods/log", True),
        (("-pods", "-pods/*"), "pods/log", False),
        (("-pods", "-deployments"), "pods", False),
        (("-pods", "-deployments"), "deployments", False),
        (("-pods", "-deployments"), "nodes", True),
        (("-*/status",), "pods/status", False),
        (("-*/status",), "pods", True),
        (("*", "-secrets"), "secrets", False),
        (("*", "-secrets"), "pods/log", True),
        (("pods/*", "-pods/exec"), "pods/exec", False),
        (("pods/*", "-pods/exec"), "pods/log", True),
        (("-*",), "pods", False),
    ],
)
def test_resources(values: tuple[str, ...], what: str, expected: bool) -> None:
    assert matches(Rule(resources=values), asks("create", what)) is expected


@pytest.mark.parametrize(
    ("values", "groups", "expected"),
    [
        (("dev",), ("dev", "x"), True),
        (("dev",), ("x",), False),
        (("dev",), (), False),
        (("*",), (), True),
        (("system:*",), ("dev", "system:masters"), True),
        (("-system:masters",), ("system:masters", "system:authenticated"), False),
        (("-system:masters",), ("dev", "system:authenticated"), True),
        (("-system:masters",), (), True),
        (("-system:m*",), ("dev", "system:masters"), False),
        (("dev", "-ops"), ("dev", "ops"), False),
        (("dev", "-ops"), ("dev",), True),
        (("dev", "-ops"), ("x",), False),
        (("-ops", "-dev"), ("dev",), False),
    ],
)
def test_any_group_satisfies_and_any_group_excludes(
    values: tuple[str, ...], groups: tuple[str, ...], expected: bool
) -> None:
    assert matches(Rule(groups=values), asks(), User("u", groups)) is expected


@pytest.mark.parametrize(
    ("values", "user", "expected"),
    [
        (("ci/builder",), BUILDER, True),
        (("ci/other",), BUILDER, False),
        (("ci/*",), BUILDER, True),
        (("ci/bui*",), BUILDER, True),
        (("*",), JANE, True),
        (("ci/b.*",), BUILDER, False),
        (("-ci/*",), BUILDER, False),
        (("-ci/*",), JANE, True),
        (("*", "-ci/*"), BUILDER, False),
        (("kube-system/*", "ci/builder"), BUILDER, True),
        (("ci/builder",), User("system:serviceaccount:ci:"), False),
    ],
)
def test_service_accounts(values: tuple[str, ...], user: User, expected: bool) -> None:
    assert matches(Rule(service_accounts=values), asks(), user) is expected


@pytest.mark.parametrize(
    ("values", "path", "expected"),
    [
        (("/healthz",), "/healthz", True),
        (("/healthz",), "/healthz/etcd", False),
        (("/healthz/*",), "/healthz/etcd", True),
        (("/healthz/*",), "/healthz", False),
        (("/healthz*",), "/healthzfoo", True),
        (("/healthz", "/healthz/*"), "/healthzfoo", False),
        (("-/metrics",), "/metrics", False),
        (("-/metrics",), "/version", True),
    ],
)
def test_non_resource_urls(values: tuple[str, ...], path: str, expected: bool) -> None:
    assert matches(Rule(non_resource_urls=values), visits(path)) is expected


@pytest.mark.parametrize(
    ("rule", "objects", "urls"),
    [
        (Rule(), True, True),
        (Rule(verbs=("get",), users=("jane",)), True, True),
        (Rule(resources=("*",)), True, False),
        (Rule(api_groups=("*",)), True, False),
        (Rule(namespaces=("-kube-system",)), True, False),
        (Rule(resource_names=("*",)), True, False),
        (Rule(non_resource_urls=("*",)), False, True),
        (Rule(resources=("pods",), non_resource_urls=("/version",)), True, True),  # each kind asks its own fields
        (Rule(resources=("nodes",), non_resource_urls=("/version",)), False, True),
        (Rule(resources=("pods",), non_resource_urls=("/healthz",)), True, False),
    ],
)
def test_a_rule_speaks_of_objects_of_urls_or_of_both(rule: Rule, objects: bool, urls: bool) -> None:
    assert matches(rule, asks()) is objects
    assert matches(rule, visits("/version")) is urls


def test_all_fields_must_match() -> None:
    rule = Rule(verbs=("list",), resources=("pods",), namespaces=("a*",), users=("jane",), groups=("dev",))
    assert matches(rule, asks("list", namespace="ab"))
    assert not matches(rule, asks("get", namespace="ab"))
    assert not matches(rule, asks("list", "nodes", namespace="ab"))
    assert not matches(rule, asks("list", namespace="b"))
    assert not matches(rule, asks("list", namespace="ab"), ROOT)
    assert not matches(rule, asks("list", namespace="ab"), User("jane"))


@pytest.mark.parametrize("what", ["pods/exec", "pods/attach", "pods/portforward", "services/proxy"])
@pytest.mark.parametrize("verb", ["get", "create"])
def test_edge_33_a_stream_is_the_same_by_get_and_by_create(what: str, verb: str) -> None:
    assert matches(Rule(verbs=("create",)), asks(verb, what))
    assert matches(Rule(verbs=("get",)), asks(verb, what))
    assert not matches(Rule(verbs=("-create",)), asks(verb, what))
    assert not matches(Rule(verbs=("-get",)), asks(verb, what))
    assert not matches(Rule(verbs=("delete",)), asks(verb, what))
    assert matches(Rule(verbs=("-delete",)), asks(verb, what))


def test_logs_and_proxied_deletes_keep_their_verb() -> None:
    assert not matches(Rule(verbs=("create",)), asks("get", "pods/log"))
    assert matches(Rule(verbs=("delete",)), asks("delete", "services/proxy"))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(), True),
        (Rule(resources=("pods",)), True),
        (Rule(users=("*",), groups=("*",), service_accounts=("*",)), True),
        (Rule(users=("jane",)), False),
        (Rule(users=("-jane",)), False),  # it may be jane
        (Rule(users=("*", "-jane")), False),
        (Rule(users=("*",), groups=("-dev",)), False),
        (Rule(groups=("system:authenticated",)), False),
        (Rule(service_accounts=("a/*",)), False),
        (Rule(users=("",)), False),
    ],
)
def test_whoever_is_unknown_matches_only_what_asks_for_nobody(rule: Rule, expected: bool) -> None:
    assert matches(rule, asks(), UNKNOWN) is expected


def test_the_anonymous_user_is_known() -> None:
    assert matches(Rule(users=("system:anonymous",)), asks(), ANONYMOUS)
    assert not matches(Rule(groups=("-system:unauthenticated",)), asks(), ANONYMOUS)


def test_the_first_policy_that_matches_wins() -> None:
    router = Router(
        (
            Policy("secrets", (Rule(resources=("secrets",), users=("-root",)),)),
            Policy("reads", (Rule(verbs=("get", "list"), resources=("*",)), Rule(non_resource_urls=("/openapi/*",)))),
            Policy("jane", (Rule(users=("jane",)),)),
            Policy("nodes", (Rule(groups=("system:nodes",)), Rule(verbs=("watch",)))),
        )
    )
    assert router.match(asks("get", "secrets"), JANE) == 0
    assert router.match(asks("get", "secrets"), ROOT) == 1
    assert router.match(visits("/openapi/v3"), ROOT) == 1
    assert router.match(asks("create"), JANE) == 2
    assert router.match(asks("watch"), ROOT) == 3
    assert router.match(asks("create"), User("n", ("system:nodes",))) == 3
    assert router.match(asks("create"), ROOT) == -1


def test_a_policy_without_rules_takes_everything_and_none_takes_nothing() -> None:
    assert Router((Policy("all"),)).match(visits("/x"), UNKNOWN) == 0
    assert Router(()).match(visits("/x"), JANE) == -1


def test_what_clients_make_up_is_not_remembered_without_bound() -> None:
    router = Router((Policy("p", (Rule(resources=("-secrets",)),)),))
    for number in range(5000):
        assert router.match(asks(what=f"made-up-{number}"), JANE) == 0
    assert router.match(asks(what="x" * PLAN_KEY_MAX), JANE) == 0
    assert len(router._plans) <= 2048
    assert all(sum(map(len, kind[1:])) <= PLAN_KEY_MAX for kind in router._plans)


WORDS = ("a", "ab", "b", "")
VALUES = st.lists(st.sampled_from(["a", "ab", "a*", "*", "-a", "-ab", "-a*", "-*", "-", "b"]), max_size=3).map(tuple)
WHAT = st.sampled_from(["pods", "nodes", "pods/log", "pods/exec", "nodes/proxy", "pods/status"])
RESOURCES = st.lists(
    st.sampled_from(["pods", "-pods", "pods/*", "-pods/log", "*/status", "-*/status", "*", "nodes", "*/*"]), max_size=3
).map(tuple)
VERBS = st.lists(st.sampled_from(["get", "create", "-get", "-create", "*", "delete", "-delete"]), max_size=2).map(tuple)
ACCOUNTS = st.lists(st.sampled_from(["a/b", "a/*", "c/x*", "*", "-a/*", "-c/b"]), max_size=2).map(tuple)
URLS = st.lists(st.sampled_from(["/a", "/a/*", "/a*", "*", "-/a", "-/a/*"]), max_size=2).map(tuple)
RULES = st.builds(Rule, VERBS, VALUES, RESOURCES, VALUES, VALUES, VALUES, VALUES, ACCOUNTS, URLS)
POLICIES = st.lists(st.lists(RULES, max_size=3).map(tuple), max_size=4).map(
    lambda rules: tuple(Policy(str(index), some) for index, some in enumerate(rules))
)
USERS = st.one_of(
    st.just(UNKNOWN),
    st.builds(User, st.sampled_from(WORDS), st.lists(st.sampled_from(WORDS), max_size=2).map(tuple)),
    st.sampled_from([User("system:serviceaccount:a:b"), User("system:serviceaccount:c:b")]),
)
INFOS = st.one_of(
    st.builds(
        asks,
        st.sampled_from(["get", "create", "delete"]),
        WHAT,
        *[st.sampled_from(WORDS)] * 3,
    ),
    st.builds(visits, st.sampled_from(["/a", "/a/b", "/ab", "/b"]), st.sampled_from(["get", "delete"])),
)


def plain_text(pattern: str, value: str) -> bool:
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def plain_resource(pattern: str, value: str) -> bool:
    if pattern in ("*", value):
        return True
    resource, _, subresource = value.partition("/")
    left, slash, right = pattern.partition("/")
    return bool(slash and subresource) and left in ("*", resource) and right in ("*", subresource)


def plain_field(values: tuple[str, ...], having: tuple[str, ...], match: object = plain_text) -> bool:
    assert callable(match)
    wanted = [value for value in values if not value.startswith("-")]
    refused = [value[1:] for value in values if value.startswith("-")]
    if any(match(pattern, value) for pattern in refused for value in having):
        return False
    return not wanted or "*" in wanted or any(match(pattern, value) for pattern in wanted for value in having)


def plain_who(rule: Rule, user: User) -> bool:
    if not user.known:
        fields = (rule.users, rule.groups, rule.service_accounts)
        return all(
            not values or ("*" in values and not any(value.startswith("-") for value in values)) for values in fields
        )
    account = "/".join(user.service_account or ())
    return (
        plain_field(rule.users, (user.name,))
        and plain_field(rule.groups, user.groups)
        and plain_field(rule.service_accounts, (account,))
    )


def plain_rule(rule: Rule, info: RequestInfo, user: User) -> bool:
    of_objects = any((rule.api_groups, rule.resources, rule.resource_names, rule.namespaces))
    stream = info.subresource in ("exec", "attach", "portforward", "proxy")
    verbs = (info.verb, "get", "create") if stream else (info.verb,)
    if not plain_field(rule.verbs, verbs) or not plain_who(rule, user):
        return False
    if not info.is_resource:
        applies = bool(rule.non_resource_urls) or not of_objects
        return applies and plain_field(rule.non_resource_urls, (info.path,))
    what = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    return (
        (of_objects or not rule.non_resource_urls)
        and plain_field(rule.api_groups, (info.group,))
        and plain_field(rule.resources, (what,), plain_resource)
        and plain_field(rule.resource_names, (info.name,))
        and plain_field(rule.namespaces, (info.namespace,))
    )


@given(POLICIES, st.lists(st.tuples(INFOS, USERS), min_size=1, max_size=6))
def test_compiled_rules_say_what_the_plain_reading_says(
    policies: tuple[Policy, ...], requests: list[tuple[RequestInfo, User]]
) -> None:
    router = Router(policies)
    for info, user in requests:
        hits = (
            index
            for index, policy in enumerate(policies)
            if not policy.rules or any(plain_rule(rule, info, user) for rule in policy.rules)
        )
        assert router.match(info, user) == next(hits, -1)
