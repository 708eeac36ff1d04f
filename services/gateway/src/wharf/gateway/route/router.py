"""First match wins: which policy of a cluster a request falls under.

What a rule says about the verb and the kind of object is asked once per combination and remembered; what is left of a
policy for that combination are the questions about who and where, and a policy without any is the end of the list. So
a request costs one look-up and a question or two.

A request for an object looks at the fields for objects, any other at `non_resource_urls`; a rule that has fields of
one kind only does not match the other kind, one without either matches both. URLs are compared with the decoded path:
"/healthz" is that alone, "/healthz/*" all below it but not itself, "/healthz*" all that begins so.

A stream into a pod is one thing however it is opened (a GET by WebSocket, a POST by SPDY): it has the verbs get and
create beside its own, any of which satisfies a rule and any of which excludes.

A service account is compared as "namespace/name", anybody else as "": `["ci/*"]` is that namespace's, `["-ci/*"]`
everybody else's, people included; all service accounts are the group system:serviceaccounts.

Whose token it is that passes through, only the upstream can tell. Such a request matches `*`, or no word about users,
groups and service accounts at all, and no exclusion: what can't be ruled out may not pass it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wharf.common.kube.request_shape import RequestInfo
from wharf.gateway.api.shapes import Policy, Rule
from wharf.gateway.route.kinds import effective_verbs
from wharf.gateway.route.patterns import (
    anything,
    compile_many,
    compile_resources,
    compile_text,
)
from wharf.gateway.user import User

PLANS_MAX: Final = 2048  # combinations remembered; resources of a large cluster times its verbs
PLAN_KEY_MAX: Final = 256  # characters of one; whatever a client makes up beyond is worked out each time

Question = Callable[[RequestInfo, User], bool]
Kind = tuple[bool, str, str, str, str]  # is_resource, verb, group, resource, subresource
Plan = tuple[tuple[int, Question | None], ...]  # policies that may match, in order; None: matches


class Router:
    """The policies of one generation of a cluster."""

    def __init__(self, policies: tuple[Policy, ...]) -> None:
        self._policies = tuple(tuple(map(_Rule, policy.rules)) for policy in policies)
        self._plans: dict[Kind, Plan] = {}

    def match(self, info: RequestInfo, user: User) -> int:
        """The index of the first policy that matches, -1 when none does."""
        kind = (info.is_resource, info.verb, info.group, info.resource, info.subresource)
        plan = self._plans.get(kind)
        if plan is None:
            plan = self._plan(kind)
        for index, question in plan:
            if question is None or question(info, user):
                return index
        return -1

    def _plan(self, kind: Kind) -> Plan:
        plan: list[tuple[int, Question | None]] = []
        for index, rules in enumerate(self._policies):
            questions = [rule.question(kind[0]) for rule in rules if rule.applies(kind)]
            if not rules or None in questions:
                plan.append((index, None))
                break
            if questions:
                plan.append((index, _any([question for question in questions if question is not None])))
        result = tuple(plan)
        if sum(map(len, kind[1:])) <= PLAN_KEY_MAX:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            self._plans[kind] = result
        return result


def _any(questions: list[Question]) -> Question:
    if len(questions) == 1:
        return questions[0]

    def ask(info: RequestInfo, user: User) -> bool:
        return any(question(info, user) for question in questions)

    return ask


class _Rule:
    """A rule in two halves: about the kind of request, and about who and where for kinds of objects and for URLs."""

    def __init__(self, rule: Rule) -> None:
        self._verbs = compile_many(rule.verbs)
        self._groups = compile_text(rule.api_groups)
        self._resources = compile_resources(rule.resources)
        of_objects = bool(rule.api_groups or rule.resources or rule.resource_names or rule.namespaces)
        self._objects = of_objects or not rule.non_resource_urls
        self._urls = bool(rule.non_resource_urls) or not of_objects
        who = _who(rule)
        self._object_question = _all([*_where(rule), *who])
        self._url_question = _all([*_path(rule), *who])

    def applies(self, kind: Kind) -> bool:
        is_resource, verb, group, resource, subresource = kind
        if not (self._objects if is_resource else self._urls):
            return False
        if self._verbs is not None and not self._verbs(effective_verbs(verb, subresource)):
            return False
        if not is_resource:
            return True
        if self._groups is not None and not self._groups(group):
            return False
        return self._resources is None or self._resources(resource, subresource)

    def question(self, is_resource: bool) -> Question | None:
        return self._object_question if is_resource else self._url_question


def _all(questions: list[Question]) -> Question | None:
    if not questions:
        return None
    if len(questions) == 1:
        return questions[0]
    if len(questions) == 2:
        first, second = questions
        return lambda info, user: first(info, user) and second(info, user)
    return lambda info, user: all(question(info, user) for question in questions)


def _where(rule: Rule) -> list[Question]:
    questions: list[Question] = []
    if (namespace := compile_text(rule.namespaces)) is not None:
        in_namespace = namespace
        questions.append(lambda info, user: in_namespace(info.namespace))
    if (name := compile_text(rule.resource_names)) is not None:
        is_named = name
        questions.append(lambda info, user: is_named(info.name))
    return questions


def _path(rule: Rule) -> list[Question]:
    path = compile_text(rule.non_resource_urls)
    return [] if path is None else [lambda info, user: path(info.path)]


def _who(rule: Rule) -> list[Question]:
    if all(anything(values) for values in (rule.users, rule.groups, rule.service_accounts)):
        return []
    user_test = compile_text(rule.users)
    group_test = compile_many(rule.groups)
    account_test = compile_text(rule.service_accounts)

    def ask(info: RequestInfo, user: User) -> bool:
        if not user.known:
            return False
        if user_test is not None and not user_test(user.name):
            return False
        if group_test is not None and not group_test(user.groups):
            return False
        return account_test is None or account_test("/".join(user.service_account or ()))

    return [ask]
