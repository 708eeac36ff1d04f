"""Converted rules match what KubeGateway's manual says theirs match: compared over many rules and requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.api.convert_rules import convert_rule
from wharf.gateway.api.fields import Reading
from wharf.gateway.api.kubegateway import SPEC
from wharf.gateway.api.layout import RULE
from wharf.gateway.api.shapes import Policy, Rule
from wharf.gateway.route.router import Router
from wharf.gateway.user import User

Json = dict[str, Any]


def read(rule: Json) -> Json:
    """Their rule as the conversion gets it."""
    reading = Reading(frozenset(), files=False)
    spec = SPEC.read({"servers": [{"endpoint": "a"}], "dispatchPolicies": [{"rules": [rule]}]}, "spec", reading)
    assert not reading.problems
    found: Json = spec["dispatch_policies"][0]["rules"][0]
    return found


def converted(rule: Json) -> tuple[list[Json], list[str]]:
    warnings: list[str] = []
    made = convert_rule(read(rule), "rule", lambda path, text: warnings.append(f"{path}: {text}"))
    return made, warnings


ACCOUNT = {"namespace": "a", "name": "b"}
ALL = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}


@pytest.mark.parametrize(
    ("rule", "made"),
    [
        ({**ALL, "nonResourceURLs": ["*"]}, [{}]),
        (ALL, [{"resources": ["*"]}]),
        ({"verbs": ["get"], "nonResourceURLs": ["*"]}, [{"verbs": ["get"], "nonResourceURLs": ["*"]}]),
        ({**ALL, "resources": ["pods"]}, [{"resources": ["pods"]}]),
        ({**ALL, "resourceNames": ["a"]}, [{"resourceNames": ["a"]}]),
        (
            {**ALL, "nonResourceURLs": ["/healthz*"], "userGroups": ["g"]},
            [{"resources": ["*"], "groups": ["g"]}, {"nonResourceURLs": ["/healthz*"], "groups": ["g"]}],
        ),
        (
            {**ALL, "serviceAccounts": [ACCOUNT]},
            [{"resources": ["*"], "users": ["system:serviceaccount:a:b"]}],
        ),
        ({**ALL, "users": ["*"], "serviceAccounts": [ACCOUNT]}, [{"resources": ["*"]}]),
        (
            {**ALL, "users": ["-x"], "serviceAccounts": [ACCOUNT]},
            [{"resources": ["*"], "users": ["-x"]}],
        ),
        ({"apiGroups": ["*"], "resources": ["*"]}, []),
        ({"verbs": ["*"], "resources": ["*"]}, []),
        ({**ALL, "resources": ["pods/*"]}, []),
        ({**ALL, "resources": ["pods/*", "-nodes"]}, []),
    ],
)
def test_rules_become_rules(rule: Json, made: list[Json]) -> None:
    found, warnings = converted(rule)
    assert found == made
    assert bool(warnings) == (not made)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({**ALL, "resources": ["-pods", "-deployments"]}, "resources: excludes all"),
        ({**ALL, "userGroups": ["-system:masters"]}, "userGroups: excludes members"),
        ({**ALL, "users": ["-user-*"]}, "users: '-user-*' excludes"),
        ({**ALL, "resources": ["-*/status"]}, "resources: '-*/status' excludes"),
        ({**ALL, "verbs": ["get", "-list"]}, "verbs: KubeGateway ignores inverted"),
        ({**ALL, "resources": ["pods", "pods/*"]}, "resources: 'pods/*' never matched"),
        ({**ALL, "nonResourceURLs": ["-/healthz"]}, "nonResourceURLs: inverted URLs"),
    ],
)
def test_their_traps_are_told(rule: Json, words: str) -> None:
    _, warnings = converted(rule)
    assert f"rule.{words}" in " ".join(warnings)


# --- what their manual says
def listed(values: list[str], asked: set[str]) -> bool:
    """`*`, else any positive value, else none of the inverted ones."""
    if "*" in values:
        return True
    positive = [value for value in values if not value.startswith("-")]
    if positive:
        return any(same(value, one) for value in positive for one in asked)
    return not any(same(value[1:], one) for value in values for one in asked)


def same(pattern: str, value: str) -> bool:
    return pattern == value or (pattern.endswith("*") and value.startswith(pattern[:-1]))


def says(rule: Json, info: RequestInfo, user: User) -> bool:
    """Whether their rule, read as their manual does, matches."""
    verbs, users, accounts = rule.get("verbs", []), rule.get("users", []), rule.get("serviceAccounts", [])
    names = [f"system:serviceaccount:{one['namespace']}:{one['name']}" for one in accounts]
    is_user = (not users and not names) or (bool(users) and listed(users, {user.name})) or user.name in names
    groups = rule.get("userGroups", [])
    if not verbs or not listed(verbs, {info.verb}) or not is_user:
        return False
    if groups and not listed(groups, set(user.groups)):
        return False
    if not info.is_resource:
        urls = [url for url in rule.get("nonResourceURLs", []) if not url.startswith("-")]
        return bool(urls) and listed(urls, {info.path})
    whole = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    forms = {whole} | ({f"*/{info.subresource}"} if info.subresource else set())
    wanted = rule.get("resources", [])
    named = rule.get("resourceNames", [])
    return (
        bool(rule.get("apiGroups"))
        and listed(rule["apiGroups"], {info.group})
        and bool(wanted)
        and ("*" in wanted or resource(wanted, forms))
        and (not named or listed(named, {info.name}))
    )


def resource(wanted: list[str], forms: set[str]) -> bool:
    positive = [value for value in wanted if not value.startswith("-")]
    return bool(forms & set(positive)) if positive else not forms & {value[1:] for value in wanted}


def values(*words: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from([*words, *(f"-{word}" for word in words), "*"]), max_size=3)


RESOURCES = ["pods", "pods/status", "*/status", "-pods", "-pods/status", "-*/status", "-nodes", "pods/*", "*"]
RULES = st.fixed_dictionaries(
    {},
    optional={
        "verbs": values("get", "list"),
        "apiGroups": values("", "apps"),
        "resources": st.lists(st.sampled_from(RESOURCES), max_size=3),
        "resourceNames": values("web", "db"),
        "users": values("alice", "bob", "al*", "system:serviceaccount:a:b"),
        "serviceAccounts": st.lists(st.just(ACCOUNT), max_size=1),
        "userGroups": values("dev", "ops"),
        "nonResourceURLs": st.lists(st.sampled_from(["/healthz", "/openapi*", "*"]), max_size=2),
    },
)
INFOS = st.builds(
    RequestInfo,
    st.just(True),
    st.just("/api"),
    st.sampled_from(["get", "list"]),
    st.just("api"),
    st.sampled_from(["", "apps"]),
    resource=st.sampled_from(["pods", "nodes"]),
    subresource=st.sampled_from(["", "status"]),
    name=st.sampled_from(["", "web"]),
)
URL_INFOS = st.builds(
    RequestInfo, st.just(False), st.sampled_from(["/healthz", "/openapi/v2", "/x"]), st.sampled_from(["get", "list"])
)
USERS = st.builds(
    User,
    st.sampled_from(["alice", "carol", "system:serviceaccount:a:b"]),
    st.lists(st.sampled_from(["dev", "ops"]), max_size=2, unique=True).map(tuple),
)


@settings(max_examples=400)
@given(RULES, INFOS | URL_INFOS, USERS)
def test_converted_rules_match_what_the_manual_says(rule: Json, info: RequestInfo, user: User) -> None:
    made, _ = converted(rule)
    reading = Reading(frozenset(), files=False)
    rules: list[Rule] = [RULE.read(one, "rule", reading) for one in made]
    assert not reading.problems, reading.problems
    matches = bool(rules) and Router((Policy("only", tuple(rules)),)).match(info, user) == 0
    assert matches == says(rule, info, user)
