"""What an UpstreamCluster document holds, the whole of it: its policies and limits, what must agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from wharf.gateway.api.fields import (
    Choice,
    Constraint,
    Field,
    Listing,
    Number,
    Problem,
    Shape,
    Switch,
    Unread,
    Values,
    constraint,
    is_bad,
    peek,
    suggestion,
)
from wharf.gateway.api.layout_names import (
    ADDRESS,
    API_GROUP,
    HOSTNAME,
    MESSAGE,
    NAME,
    PRINCIPAL,
    RESOURCE,
    RESOURCE_NAME,
    RULE_NAMESPACE,
    SERVER_NAME,
    SERVICE_ACCOUNT,
    URL,
    VERB,
    WORD,
    ZONE,
)
from wharf.gateway.api.layout_upstream import (
    AUTHENTICATION,
    BREAKER,
    DISCOVERY,
    FEATURES,
    HEALTH,
    LOGGING,
    LONG_RUNNING,
    OUTLIERS,
    RETRY,
    SERVER,
    SERVING,
    TIMEOUTS,
    TRACING,
    UPSTREAM,
    count,
    server_name,
)
from wharf.gateway.api.shapes import (
    Balance,
    Deny,
    IdentityMode,
    Key,
    ListProtection,
    Policy,
    Rule,
    Schema,
    Scope,
    Server,
    TokenMode,
    UpstreamCluster,
    WatchClass,
)
from wharf.gateway.user import ANONYMOUS_NAME, UNAUTHENTICATED

SERVERS_MAX: Final = 64
POLICIES_MAX: Final = 64
SCHEMAS_MAX: Final = 64
_VALUES: Final = 64  # of one field of a rule

_RESOURCE_FIELDS: Final = ("apiGroups", "resources", "resourceNames", "namespaces")

RULE: Final = Shape(
    (
        Field(
            "verbs",
            Listing(VERB, _VALUES, 1),
            "get list watch create update patch delete deletecollection proxy; a method in lower case for URLs.",
        ),
        Field("apiGroups", Listing(API_GROUP, _VALUES, 1), 'API groups; "" is the core group.'),
        Field("resources", Listing(RESOURCE, _VALUES, 1), "pods, pods/log, pods/* (all subresources), */status."),
        Field("resourceNames", Listing(RESOURCE_NAME, _VALUES, 1), "Names of objects."),
        Field("namespaces", Listing(RULE_NAMESPACE, _VALUES, 1), 'Namespaces; "" is what has none.'),
        Field("users", Listing(PRINCIPAL, _VALUES, 1), "User names."),
        Field("groups", Listing(PRINCIPAL, _VALUES, 1), "Groups, any of the user's."),
        Field("serviceAccounts", Listing(SERVICE_ACCOUNT, _VALUES, 1), "namespace/name."),
        Field(
            "nonResourceURLs",
            Listing(URL, _VALUES, 1),
            "Paths outside of the API: /healthz, /openapi/*.",
            attribute="non_resource_urls",
        ),
    ),
    Rule,
    (
        constraint(
            "nonResourceURLs",
            "a request is for a resource or for a URL: make two rules",
            "!has(self.nonResourceURLs) || !(" + " || ".join(f"has(self.{name})" for name in _RESOURCE_FIELDS) + ")",
            lambda values: "nonResourceURLs" not in values or not any(name in values for name in _RESOURCE_FIELDS),
        ),
    ),
)
BALANCE: Final = Shape(
    (
        Field("strategy", WORD, "RoundRobin, Random, LeastRequests, ConsistentHash, or an installed plugin's name."),
        Field("hashKey", Choice(Key), "What ConsistentHash, or a plugin, gets as the key of a request."),
        Field("preferZone", ZONE, "Servers of this zone first (without it: of the gateway's own), then others."),
    ),
    Balance,
)
DENY: Final = Shape(
    (
        Field("status", Choice((403, 429, 503)), "Status code of the refusal."),
        Field("retryAfterSeconds", count(0, 3600), "Retry-After of the refusal. 0: none of its own."),
        Field("message", MESSAGE, "What the refusal says."),
    ),
    Deny,
)
LISTS: Final = Shape(
    (
        Field(
            "injectLimit",
            count(0, 100_000),
            "limit= of an unpaged list that does not read from the watch cache, added or lowered. 0: off.",
        ),
        Field(
            "costPerBytes",
            count(0, 1_073_741_824),
            "One further token per so many bytes of earlier answers to the same list. 0: off.",
        ),
        Field("costMax", count(1, 1_000_000), "Tokens that one list takes at most."),
    ),
    ListProtection,
)
POLICY: Final = Shape(
    (
        Field("name", NAME, "What metrics, logs and refusals call it.", required=True),
        Field("rules", Listing(RULE, 64, 1), "Any of them must match.", shown_default="everything matches"),
        Field(
            "servers",
            Listing(SERVER_NAME, SERVERS_MAX, 1),
            "Names of the servers that may answer.",
            shown_default="all",
        ),
        Field("balance", BALANCE, "How one of the servers is chosen."),
        Field("flowControl", Listing(NAME, 16, 1), "Names of the limits, all of which must admit the request."),
        Field("deny", DENY, "Refuses what matches."),
        Field("lists", LISTS, "Protection from large lists."),
        Field("accessLog", Switch(), "Whether these requests are logged.", shown_default="the cluster's"),
    ),
    Policy,
)
LIMIT: Final = Shape(
    (
        Field("name", NAME, "What policies, metrics and refusals call it.", required=True),
        Field("maxInFlight", count(0, 1_000_000), "Requests at once.", shown_default="no such limit"),
        Field("qps", Number(0, 1_000_000, above=True), "Requests per second.", shown_default="no such limit"),
        Field(
            "burst", count(0, 1_000_000), "Requests at once after a quiet time, for qps. 0: as many as a second allows."
        ),
        Field("key", Choice(Key), "Every value of it has its own limit."),
        Field(
            "scope",
            Choice(Scope),
            "Local: each gateway process by itself. Global: all of them together, through Redis.",
        ),
        Field(
            "watchClass",
            Choice(WatchClass),
            "How watches and streams count: apart, at their start, or like any request.",
        ),
        Field("watches", count(0, 1_000_000), "Watches and streams at once, with watchClass Separate. 0: unlimited."),
        Field("keysMax", count(1, 1_000_000), "Values of the key remembered; the longest unused is forgotten first."),
        Field("waitSeconds", Number(0, 60), "How long a request may wait for its turn before it is refused."),
    ),
    Schema,
    (
        constraint(
            "qps",
            "maxInFlight and qps are two limits: make two schemas",
            "!(has(self.maxInFlight) && has(self.qps))",
            lambda values: not ("maxInFlight" in values and "qps" in values),
        ),
        constraint(
            "burst",
            "burst needs qps",
            "!has(self.burst) || self.burst == 0 || has(self.qps)",
            lambda values: not values.get("burst") or "qps" in values,
        ),
        constraint(
            "watches",
            "watches needs watchClass Separate",
            "!has(self.watches) || self.watches == 0 || !has(self.watchClass) || self.watchClass == 'Separate'",
            lambda values: (
                not values.get("watches") or values.get("watchClass", WatchClass.SEPARATE) is WatchClass.SEPARATE
            ),
        ),
    ),
)


def _servers(values: Values) -> tuple[Server, ...]:
    return _whole(values.get("servers", ()))


def _whole(entries: tuple[Any, ...]) -> tuple[Any, ...]:
    """A list of which nothing was refused; Unread otherwise."""
    if any(map(is_bad, entries)):
        raise Unread
    return entries


def _names(entries: tuple[Any, ...]) -> list[str]:
    """Names of a list's objects, those with other problems too; Unread when one has none that can be read."""
    names = []
    for entry in entries:
        url = peek(entry, "url", "")
        name = peek(entry, "name") or (server_name(url) if url else "")
        if not name:
            raise Unread
        names.append(name)
    return names


def _references(values: Values, field: str) -> Iterator[tuple[str, str]]:
    """(path, name) of every name that this field of a policy gives."""
    for index, policy in enumerate(values.get("policies", ())):
        for place, name in enumerate(peek(policy, field, ())):
            if isinstance(name, str):
                yield f"policies[{index}].{field}[{place}]", name


def _discovers(values: Values) -> bool:
    return bool(values.get("discovery"))


def _unknown_servers(values: Values) -> Iterator[Problem]:
    names = _names(values.get("servers", ()))
    if not names or _discovers(values):
        return
    for path, name in _references(values, "servers"):
        if name not in names:
            yield Problem(path, f"{name!r} is not a server of this cluster{suggestion(name, names)}")


def _unknown_schemas(values: Values) -> Iterator[Problem]:
    names = _names(values.get("flowControl", {}).get("schemas", ()))
    for path, name in _references(values, "flowControl"):
        if name not in names:
            yield Problem(path, f"{name!r} is not one of flowControl.schemas{suggestion(name, names)}")


def _repeated_servers(values: Values) -> Iterator[Problem]:
    servers = _servers(values)
    seen: dict[str, int] = {}
    for index, server in enumerate(servers):
        first = seen.setdefault(server.name, index)
        if servers[first].url != server.url:  # a URL twice is already a problem of its own
            yield Problem(f"servers[{index}].name", f"{server.name!r} is already at [{first}]")


def _unenforced_denials(values: Values) -> Iterator[Problem]:
    authentication = values.get("authentication")
    if authentication is not None and authentication.tokens is TokenMode.REVIEW:
        return
    for index, policy in enumerate(values.get("policies", ())):
        if is_bad(policy) or policy.deny is None:
            continue
        for place, rule in enumerate(_whole(policy.rules)):
            field = _field_about_users(rule)
            if field:
                yield Problem(f"policies[{index}].rules[{place}].{field}", _UNENFORCED)


def _field_about_users(rule: Rule) -> str:
    """The field by which a rule leaves out tokens that pass through; empty: it matches them too, or none by intent.

    Only the server knows the users of such tokens, and that they are not anonymous.
    """
    if rule.users and set(rule.users) == {ANONYMOUS_NAME}:
        return ""
    if rule.groups and set(rule.groups) == {UNAUTHENTICATED}:
        return ""
    fields = {"users": rule.users, "groups": rule.groups, "serviceAccounts": rule.service_accounts}
    return next((name for name, values in fields.items() if values and not _matches_all(values)), "")


def _matches_all(values: tuple[str, ...]) -> bool:
    return "*" in values and not any(value.startswith("-") for value in values)


def _vouches(values: Values) -> bool:
    """Whether the gateway tells servers who asks."""
    authentication = values.get("authentication")
    serving = values.get("serving")
    reviews = authentication is not None and authentication.tokens is TokenMode.REVIEW
    return reviews or (serving is not None and serving.client_ca is not None)


def _can_vouch(values: Values) -> bool:
    upstream = values.get("upstream")
    if not _vouches(values):
        return True
    if upstream is None:
        return False
    impersonates = upstream.identity is IdentityMode.IMPERSONATION
    return upstream.certificate is not None or (impersonates and upstream.token is not None)


_NAME_OF: Final = "(has({0}.name) ? {0}.name : url({0}.url).getHost())"
_HAS_DISCOVERY: Final = "(has(self.discovery) && (has(self.discovery.dns) || has(self.discovery.service)))"
_UNENFORCED: Final = (
    "a policy with deny cannot name users while tokens pass through, because only the server knows their users: "
    "set authentication.tokens to Review, or deny without users, groups and serviceAccounts"
)
_ALL_OF: Final = "(!has(r.{0}) || ('*' in r.{0} && r.{0}.all(v, !v.startsWith('-'))))"
_ONLY: Final = "(has(r.{0}) && r.{0}.all(v, v == '{1}'))"
_ENFORCED: Final = " || ".join(
    (
        "(" + " && ".join(map(_ALL_OF.format, ("users", "groups", "serviceAccounts"))) + ")",
        _ONLY.format("users", ANONYMOUS_NAME),
        _ONLY.format("groups", UNAUTHENTICATED),
    )
)
_NAMES: Final = f"self.servers.map(s, {_NAME_OF.format('s')})"

SPEC_CONSTRAINTS: Final = (
    constraint(
        "servers",
        "at least one server, or discovery, is needed",
        f"(has(self.servers) && size(self.servers) > 0) || {_HAS_DISCOVERY}",
        lambda values: bool(_servers(values)) or _discovers(values),
    ),
    constraint(
        "servers",
        "at least one server needs a weight above 0",
        f"!has(self.servers) || size(self.servers) == 0 || {_HAS_DISCOVERY}"
        " || self.servers.exists(s, !has(s.weight) || s.weight > 0)",
        lambda values: not _servers(values) or _discovers(values) or any(one.weight for one in _servers(values)),
    ),
    Constraint(
        f"!has(self.servers) || [{_NAMES}].all(names, names.all(n, names.exists_one(m, m == n)))",
        "names of servers must differ",
        _repeated_servers,
        "servers",
    ),
    Constraint(
        f"!has(self.policies) || !has(self.servers) || size(self.servers) == 0 || {_HAS_DISCOVERY}"
        f" || [{_NAMES}].all(names, self.policies.all(p, !has(p.servers) || p.servers.all(n, n in names)))",
        "policies name servers of this cluster",
        _unknown_servers,
        "policies",
    ),
    Constraint(
        "!has(self.policies) || self.policies.all(p, !has(p.flowControl) || (has(self.flowControl)"
        " && has(self.flowControl.schemas)"
        " && p.flowControl.all(n, self.flowControl.schemas.exists(s, s.name == n))))",
        "policies name schemas of flowControl.schemas",
        _unknown_schemas,
        "policies",
    ),
    Constraint(
        "(has(self.authentication) && has(self.authentication.tokens) && self.authentication.tokens == 'Review')"
        " || !has(self.policies)"
        f" || self.policies.all(p, !has(p.deny) || !has(p.rules) || p.rules.all(r, {_ENFORCED}))",
        _UNENFORCED,
        _unenforced_denials,
        "policies",
    ),
    constraint(
        "upstream.certificate",
        "to tell servers who asks (serving.clientCA, or tokens: Review) the gateway needs a certificate of its own, "
        "or with identity Impersonation a token",
        "!((has(self.serving) && has(self.serving.clientCA)) || (has(self.authentication)"
        " && has(self.authentication.tokens) && self.authentication.tokens == 'Review'))"
        " || (has(self.upstream) && (has(self.upstream.certificate) || (has(self.upstream.token)"
        " && has(self.upstream.identity) && self.upstream.identity == 'Impersonation')))",
        _can_vouch,
    ),
)

SPEC: Final = Shape(
    (
        Field(
            "hostnames",
            Listing(HOSTNAME, 64),
            "Further names of the cluster; the object's own name is always one. *.x stands for one label.",
        ),
        Field(
            "addresses",
            Listing(ADDRESS, 64),
            "Addresses of the gateway that mean this cluster, for clients that send no name.",
        ),
        Field("servers", Listing(SERVER, SERVERS_MAX, key="url"), "The kube-apiservers."),
        Field("discovery", DISCOVERY, "Servers that are found, besides those listed."),
        Field("serving", SERVING, "What clients meet."),
        Field("upstream", UPSTREAM, "How the gateway meets the servers."),
        Field("authentication", AUTHENTICATION, "Who is let in."),
        Field(
            "policies",
            Listing(POLICY, POLICIES_MAX, 1, key="name"),
            "Where requests go; the first that matches decides.",
            shown_default="one policy `default` for everything",
        ),
        Field(
            "flowControl",
            Shape((Field("schemas", Listing(LIMIT, SCHEMAS_MAX, key="name"), "The limits that policies name."),)),
            "Limits.",
        ),
        Field("timeouts", TIMEOUTS, "Seconds."),
        Field("health", HEALTH, "Probing of the servers. Times in seconds."),
        Field("outliers", OUTLIERS, "What requests tell about a server. Times in seconds."),
        Field("breaker", BREAKER, "Limits per server; beyond them it is passed over."),
        Field("longRunning", LONG_RUNNING, "Bounds of watches, exec and other long-running requests of one client."),
        Field("retry", RETRY, "Repetition on another server."),
        Field("logging", LOGGING, "Logs."),
        Field("tracing", TRACING, "Traces."),
        Field("features", FEATURES, "Switches."),
    ),
    constraints=SPEC_CONSTRAINTS,
    of=UpstreamCluster,
)
