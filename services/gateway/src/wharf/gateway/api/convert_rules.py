"""KubeGateway's dispatch rules as ours: what its manual says they mean, with a warning where its code did otherwise.

Source of both: kubewharf/kubegateway, pkg/apis/proxy/v1alpha1 (evaluation_helpers.go) and pkg/clusters/matcher.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Json = dict[str, Any]
Warn = Callable[[str, str], None]  # path in their document, text


def convert_rule(rule: Mapping[str, Any], path: str, warn: Warn) -> list[Json]:
    """The rules that match what theirs matches: one for resources, one for URLs, one for both, or none."""
    reader = _Reader(rule, path, warn)
    verbs = reader.required("verbs")
    groups, resources = reader.required("apiGroups", "api_groups"), reader.resources()
    names, urls = reader.values("resourceNames", "resource_names"), reader.urls()
    who = {"users": reader.users(), "groups": reader.values("userGroups", "user_groups")}
    found: list[Json] = []
    if verbs is not None and groups is not None and resources is not None:
        found.append({"apiGroups": groups, "resources": resources, "resourceNames": names})
    if verbs is not None and urls is not None:
        found.append({"nonResourceURLs": urls})
    if len(found) == 2 and not any(values for one in found for values in one.values()):
        found = [{}]  # everything of both kinds
    if not found:
        warn(path, "matches nothing; left out")
    return [_without_empty({"verbs": verbs, **_bounded(one), **who}) for one in found]


def _bounded(rule: Json) -> Json:
    """A rule for all resources, or all URLs, has to say so: one that names neither is for both."""
    if not rule or any(rule.values()):
        return rule
    return {"nonResourceURLs" if "nonResourceURLs" in rule else "resources": ["*"]}


def _without_empty(rule: Json) -> Json:
    return {name: values for name, values in rule.items() if values}


class _Reader:
    """One rule. Everything is an empty list, nothing is None."""

    def __init__(self, rule: Mapping[str, Any], path: str, warn: Warn) -> None:
        self._rule = rule
        self._path = path
        self._warn = warn

    def values(self, name: str, attribute: str = "") -> list[str]:
        """A field of which nothing given means everything."""
        return self._plain(name, self._given(attribute or name))

    def required(self, name: str, attribute: str = "") -> list[str] | None:
        """A field of which nothing given means nothing."""
        given = self._given(attribute or name)
        if not given:
            return None
        return self._plain(name, given)

    def users(self) -> list[str]:
        """Users or service accounts: either will do."""
        accounts = [_account(**one) for one in self._given("service_accounts")]
        given = self._given("users")
        users = self._plain("users", given)
        if given and not users:
            return []
        if users and users[0].startswith("-"):
            hidden = [account for account in accounts if f"-{account}" in users]
            return [user for user in users if user[1:] not in hidden]
        return _unique([*users, *accounts])

    def resources(self) -> list[str] | None:
        given = self._given("resources")
        usable = [one for one in given if not (one.endswith("/*") and not one.startswith("-"))]
        for one in given:
            if one not in usable:
                self._warn(f"{self._path}.resources", f"{one!r} never matched in KubeGateway; left out")
        if len(usable) < len(given) and all(one.startswith("-") for one in usable):
            return None  # inverted values beside others do not count
        return self._plain("resources", usable) if usable else None

    def urls(self) -> list[str] | None:
        given = self._given("non_resource_urls")
        usable = [one for one in given if not one.startswith("-")]
        if len(usable) < len(given):
            self._warn(f"{self._path}.nonResourceURLs", "inverted URLs never matched in KubeGateway; left out")
        return self._plain("nonResourceURLs", usable) if usable else None

    def _given(self, attribute: str) -> Sequence[Any]:
        given: Sequence[Any] = self._rule.get(attribute, ())
        return given

    def _plain(self, name: str, given: Sequence[str]) -> list[str]:
        """Without what says nothing: `*` is everything, and inverted values beside others are dropped."""
        path = f"{self._path}.{name}"
        if "*" in given:
            return []
        positive = [one for one in given if not one.startswith("-")]
        inverted = [one for one in given if one not in positive]
        if positive and inverted:
            self._warn(path, f"KubeGateway ignores inverted values beside others; {', '.join(inverted)} left out")
            return _unique(positive)
        if inverted:
            self._warn_inverted(path, name, inverted)
        return _unique(positive or inverted)

    def _warn_inverted(self, path: str, name: str, inverted: list[str]) -> None:
        if len(inverted) > 1:
            self._warn(path, "excludes all of its values here; in KubeGateway several inverted values match everything")
        elif name == "userGroups":
            self._warn(path, "excludes members of the group here; in KubeGateway any other group of theirs matched")
        elif "*" in inverted[0]:
            self._warn(path, f"{inverted[0]!r} excludes here; in KubeGateway an inverted pattern excludes nothing")


def _account(namespace: str, name: str) -> str:
    return f"system:serviceaccount:{namespace}:{name}"


def _unique(values: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(values))
