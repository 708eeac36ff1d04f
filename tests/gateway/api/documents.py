"""Documents that are good and documents that are not: what our reader and a real kube-apiserver must agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wharf.gateway.api.parse import API_VERSION

Json = dict[str, Any]
CERT = "-----BEGIN CERTIFICATE-----\n"  # enough for the API server's look at it, not for ours
SECRET = {"secretRef": {"namespace": "wharf", "name": "tls"}}
PAIR = {"certificate": SECRET, "key": SECRET}


def document(spec: Json, name: str = "blue.example.com") -> Json:
    return {"apiVersion": API_VERSION, "kind": "UpstreamCluster", "metadata": {"name": name}, "spec": spec}


def spec(**parts: Any) -> Json:
    return {"servers": [{"url": "https://10.0.0.1:6443", "name": "one"}, {"url": "https://10.0.0.2:6443"}], **parts}


def policy(**parts: Any) -> Json:
    return spec(policies=[{"name": "all", **parts}])


def rule(**parts: Any) -> Json:
    return policy(rules=[parts])


def denial(tokens: str = "PassThrough", **parts: Any) -> Json:
    """A policy that refuses what one rule matches."""
    return {
        **policy(rules=[parts], deny={"status": 403}),
        "authentication": {"tokens": tokens},
        "upstream": {**PAIR, "ca": SECRET},
    }


def limit(**parts: Any) -> Json:
    return spec(flowControl={"schemas": [{"name": "limit", **parts}]})


@dataclass(frozen=True, slots=True)
class Bad:
    """A spec that is refused, the path that is blamed, a word of the reason."""

    spec: Json
    path: str
    word: str = ""
    server: bool = True  # a real API server refuses it too


FULL = spec(
    hostnames=["blue.example.org", "*.blue.example.org"],
    addresses=["10.9.0.1", "fd00::1"],
    servers=[
        {"url": "https://10.0.0.1:6443", "name": "one", "weight": 3, "zone": "a"},
        {"url": "https://[fd00::2]:6443", "weight": 0, "disabled": True},
        {"url": "http://localhost"},
    ],
    serving={**PAIR, "clientCA": {"secretRef": {"namespace": "wharf", "name": "ca", "key": "bundle.pem"}}},
    upstream={
        **PAIR,
        "ca": SECRET,
        "identity": "FrontProxy",
        "protocol": "HTTP2",
        "serverName": "kubernetes.default.svc",
        "connectionsMax": 4,
        "watchConnectionsMax": 40,
        "uidHeader": False,
    },
    authentication={
        "tokens": "Review",
        "anonymous": False,
        "impersonation": False,
        "review": {"successSeconds": 5.5, "failureSeconds": 0},
        "audiences": ["https://kubernetes.default.svc"],
    },
    policies=[
        {
            "name": "lists",
            "rules": [
                {
                    "verbs": ["list", "watch"],
                    "apiGroups": ["", "apps"],
                    "resources": ["pods", "pods/*", "*/status", "-secrets"],
                    "resourceNames": ["web-*", "-web-0"],
                    "namespaces": ["kube-*", "", "-kube-system"],
                    "users": ["system:node:*", "-system:node:a"],
                    "groups": ["-system:masters"],
                    "serviceAccounts": ["default/*", "-default/builder"],
                },
                {"nonResourceURLs": ["/openapi/*", "-/openapi/v2"]},
            ],
            "servers": ["one", "[fd00::2]:6443", "localhost"],
            "balance": {"strategy": "ConsistentHash", "hashKey": "Namespace", "preferZone": "a"},
            "flowControl": ["slow", "many"],
            "lists": {"injectLimit": 500, "costPerBytes": 1048576, "costMax": 50},
            "accessLog": True,
        },
        {"name": "no", "deny": {"status": 503, "retryAfterSeconds": 7, "message": "closed today"}},
    ],
    flowControl={
        "schemas": [
            {"name": "slow", "qps": 0.5, "burst": 3, "key": "User", "scope": "Global", "waitSeconds": 1.5},
            {"name": "many", "maxInFlight": 0, "watchClass": "Separate", "watches": 9, "keysMax": 5},
            {"name": "free"},
        ]
    },
    timeouts={
        "connect": 1.5,
        "head": 61,
        "total": 90,
        "stall": 30,
        "pingInterval": 10,
        "pingTimeout": 5,
        "halfClose": 9,
    },
    health={"path": "/livez?verbose", "interval": 1, "timeout": 1, "failures": 3, "successes": 1, "slowStart": 0},
    outliers={"consecutiveFailures": 3, "eject": 5, "ejectMax": 50, "ejectShare": 0.3},
    breaker={"requestsMax": 100, "watchesMax": 1000, "pendingMax": 10},
    longRunning={"perUserMax": 5000, "perConnectionMax": 0},
    retry={"attempts": 1, "budget": 0.1, "bodyMax": 1024},
    logging={"access": True, "fields": ["verb", "user"], "slowSeconds": 1, "slowListSeconds": 0},
    tracing={"ratio": 0.01},
    features={"denyAll": False, "closeIdle": True, "hideServer": True, "requireHost": False},
)

GOOD: dict[str, Json] = {
    "smallest": {"servers": [{"url": "https://10.0.0.1:6443"}]},
    "full": FULL,
    "only dns": {"discovery": {"dns": {"name": "kube.example.com", "port": 443, "tls": True, "refreshSeconds": 0.5}}},
    "only a service": {"discovery": {"service": {"namespace": "a", "name": "kube", "port": "6443"}}},
    "policies may name discovered servers": spec(
        discovery={"dns": {"name": "kube"}}, policies=[{"name": "x", "servers": ["10.0.0.77:6443"]}]
    ),
    "all weights 0 beside discovery": {
        "servers": [{"url": "https://a", "weight": 0}],
        "discovery": {"dns": {"name": "kube"}},
    },
    "impersonation by token": spec(
        serving={"clientCA": SECRET}, upstream={"identity": "Impersonation", "token": {"value": "abc.def"}}
    ),
    "a certificate to serve alone": spec(serving=PAIR),
    "empty parts": spec(serving={}, upstream={}, discovery={}, flowControl={}, timeouts={}, features={}),
    "denies a user with review": denial("Review", users=["mallory", "-bob"], groups=["dev"]),
    "denies the anonymous user": denial(users=["system:anonymous"]),
    "denies the group of the anonymous user": denial(groups=["system:unauthenticated"]),
    "denies whatever the user": denial(users=["*"], groups=["*", "dev"], resources=["secrets"]),
    "names users without deny": rule(users=["alice"], groups=["-dev"], serviceAccounts=["ci/*"]),
    "null is absent": spec(serving=None, hostnames=None),
}

BAD: dict[str, Bad] = {
    "nothing": Bad({}, "spec.servers", "at least one server"),
    "no servers": Bad({"servers": []}, "spec.servers", "at least one server"),
    "servers is an object": Bad({"servers": {}}, "spec.servers", "must be a list"),
    "a server is a string": Bad({"servers": ["https://a"]}, "spec.servers[0]", "must be an object"),
    "no url": Bad({"servers": [{"name": "a"}]}, "spec.servers[0].url", "required"),
    "url without scheme": Bad({"servers": [{"url": "10.0.0.1:6443"}]}, "spec.servers[0].url", "https://"),
    "url with path": Bad({"servers": [{"url": "https://a/api"}]}, "spec.servers[0].url", "path"),
    "url with user": Bad({"servers": [{"url": "https://a:b@c"}]}, "spec.servers[0].url", "https://"),
    "url of no address": Bad({"servers": [{"url": "https://[::zz]:1"}]}, "spec.servers[0].url"),
    "port out of range": Bad({"servers": [{"url": "https://a:65536"}]}, "spec.servers[0].url", server=False),
    "port 0": Bad({"servers": [{"url": "https://a:0"}]}, "spec.servers[0].url", server=False),
    "weight too big": Bad({"servers": [{"url": "https://a", "weight": 1001}]}, "spec.servers[0].weight", "0 to 1000"),
    "weight negative": Bad({"servers": [{"url": "https://a", "weight": -1}]}, "spec.servers[0].weight", "0 to 1000"),
    "weight a fraction": Bad({"servers": [{"url": "https://a", "weight": 1.5}]}, "spec.servers[0].weight", "whole"),
    "weight text": Bad({"servers": [{"url": "https://a", "weight": "1"}]}, "spec.servers[0].weight", "whole number"),
    "no weight at all": Bad({"servers": [{"url": "https://a", "weight": 0}]}, "spec.servers", "weight above 0"),
    "a url twice": Bad({"servers": [{"url": "https://a"}] * 2}, "spec.servers[1].url", "already at [0]"),
    "a server's name twice": Bad(
        {"servers": [{"url": "https://a"}, {"url": "https://b", "name": "a"}]}, "spec.servers[1].name", "already at [0]"
    ),
    "unknown server": Bad(policy(servers=["two"]), "spec.policies[0].servers[0]", "not a server"),
    "unknown schema": Bad(policy(flowControl=["x"]), "spec.policies[0].flowControl[0]", "flowControl.schemas"),
    "hostname upper case": Bad(spec(hostnames=["Blue"]), "spec.hostnames[0]", "lower-case"),
    "hostname inner star": Bad(spec(hostnames=["a.*.b"]), "spec.hostnames[0]", "first label"),
    "hostname star alone": Bad(spec(hostnames=["*"]), "spec.hostnames[0]", "first label"),
    "hostname with port": Bad(spec(hostnames=["a:443"]), "spec.hostnames[0]", "DNS name"),
    "hostname twice": Bad(spec(hostnames=["a", "b", "a"]), "spec.hostnames[2]", "already at [0]"),
    "no address": Bad(spec(addresses=["10.0.0"]), "spec.addresses[0]", "IP address"),
    "a long address": Bad(spec(addresses=["fd00:0::1"]), "spec.addresses[0]", "shortest form"),
    "an address with zone": Bad(spec(addresses=["fe80::1%eth0"]), "spec.addresses[0]", "IP address"),
    "a network": Bad(spec(addresses=["10.0.0.0/8"]), "spec.addresses[0]", "IP address"),
    "refresh too often": Bad(
        {"discovery": {"dns": {"name": "a", "refreshSeconds": 0.1}}}, "spec.discovery.dns.refreshSeconds"
    ),
    "certificate alone": Bad(spec(serving={"certificate": SECRET}), "spec.serving.key", "belong together"),
    "key alone": Bad(spec(upstream={"key": SECRET}), "spec.upstream.key", "belong together"),
    "no material": Bad(spec(serving={"clientCA": {}}), "spec.serving.clientCA", "exactly one"),
    "two materials": Bad(spec(upstream={"ca": {"pem": CERT, **SECRET}}), "spec.upstream.ca.pem", "PEM certificate"),
    "no pem": Bad(spec(upstream={"ca": {"pem": "hello"}}), "spec.upstream.ca.pem", "PEM certificate"),
    "broken pem": Bad(spec(upstream={"ca": {"pem": CERT}}), "spec.upstream.ca.pem", "PEM certificate", server=False),
    "a token with spaces": Bad(spec(upstream={"token": {"value": "a b"}}), "spec.upstream.token.value", "a token"),
    "secret without namespace": Bad(
        spec(upstream={"ca": {"secretRef": {"name": "a"}}}), "spec.upstream.ca.secretRef.namespace", "required"
    ),
    "insecure with a ca": Bad(
        spec(upstream={"ca": SECRET, "insecureSkipVerify": True}), "spec.upstream.insecureSkipVerify", "meaningless"
    ),
    "vouches with nothing": Bad(
        spec(serving={"clientCA": SECRET}), "spec.upstream.certificate", "certificate of its own"
    ),
    "reviews with nothing": Bad(spec(authentication={"tokens": "Review"}), "spec.upstream.certificate"),
    "front proxy by token": Bad(
        spec(serving={"clientCA": SECRET}, upstream={"token": {"value": "abc"}}), "spec.upstream.certificate"
    ),
    "unknown choice": Bad(
        spec(upstream={"identity": "FrontProxi"}), "spec.upstream.identity", "did you mean FrontProxy"
    ),
    "unknown verb": Bad(rule(verbs=["get", "lsit"]), "spec.policies[0].rules[0].verbs[1]", "verb"),
    "excludes everything": Bad(rule(verbs=["-*"]), "spec.policies[0].rules[0].verbs[0]", "verb"),
    "verb prefix": Bad(rule(verbs=["li*"]), "spec.policies[0].rules[0].verbs[0]", "verb"),
    "verb twice": Bad(rule(verbs=["get", "get"]), "spec.policies[0].rules[0].verbs[1]", "already"),
    "no verbs": Bad(rule(verbs=[]), "spec.policies[0].rules[0].verbs", "1 to 64 entries"),
    "inner star": Bad(rule(resourceNames=["a*b"]), "spec.policies[0].rules[0].resourceNames[0]", "prefix"),
    "excluded star": Bad(rule(users=["-*"]), "spec.policies[0].rules[0].users[0]", "prefix"),
    "a line break": Bad(rule(groups=["a\nb"]), "spec.policies[0].rules[0].groups[0]", "prefix"),
    "resource of two stars": Bad(rule(resources=["*/*"]), "spec.policies[0].rules[0].resources[0]", "resource"),
    "service account without namespace": Bad(
        rule(serviceAccounts=["builder"]), "spec.policies[0].rules[0].serviceAccounts[0]", "namespace/name"
    ),
    "url without slash": Bad(rule(nonResourceURLs=["healthz"]), "spec.policies[0].rules[0].nonResourceURLs[0]", "path"),
    "url with a query": Bad(rule(nonResourceURLs=["/a?b"]), "spec.policies[0].rules[0].nonResourceURLs[0]", "path"),
    "resource and url": Bad(
        rule(resources=["pods"], nonResourceURLs=["/x"]), "spec.policies[0].rules[0].nonResourceURLs", "two rules"
    ),
    "no rules": Bad(policy(rules=[]), "spec.policies[0].rules", "entries"),
    "no policies": Bad(spec(policies=[]), "spec.policies", "entries"),
    "policy without name": Bad(spec(policies=[{}]), "spec.policies[0].name", "required"),
    "policy name twice": Bad(spec(policies=[{"name": "a"}] * 2), "spec.policies[1].name", "already at [0]"),
    "unknown strategy": Bad(
        policy(balance={"strategy": "RoundRobbin"}), "spec.policies[0].balance.strategy", "RoundRobin", server=False
    ),
    "odd status": Bad(policy(deny={"status": 404}), "spec.policies[0].deny.status", "403, 429, 503"),
    "denies a user by pass-through": Bad(
        denial(users=["mallory"]), "spec.policies[0].rules[0].users", "set authentication.tokens to Review"
    ),
    "denies all but a user by pass-through": Bad(denial(users=["-admin"]), "spec.policies[0].rules[0].users"),
    "denies an exclusion beside * by pass-through": Bad(
        denial(users=["*", "-admin"]), "spec.policies[0].rules[0].users"
    ),
    "denies a group by pass-through": Bad(
        denial(groups=["system:serviceaccounts"], verbs=["list"]), "spec.policies[0].rules[0].groups"
    ),
    "denies a service account by pass-through": Bad(
        denial(serviceAccounts=["ci/*"]), "spec.policies[0].rules[0].serviceAccounts"
    ),
    "denies more than the anonymous user by pass-through": Bad(
        denial(users=["system:anonymous", "mallory"]), "spec.policies[0].rules[0].users"
    ),
    "message of two lines": Bad(policy(deny={"message": "a\r\nb"}), "spec.policies[0].deny.message", "one line"),
    "two limits": Bad(limit(qps=1, maxInFlight=1), "spec.flowControl.schemas[0].qps", "two schemas"),
    "qps 0": Bad(limit(qps=0), "spec.flowControl.schemas[0].qps", "above 0"),
    "burst alone": Bad(limit(burst=1), "spec.flowControl.schemas[0].burst", "needs qps"),
    "watches of another class": Bad(
        limit(watches=1, watchClass="Same"), "spec.flowControl.schemas[0].watches", "watchClass Separate"
    ),
    "schema name twice": Bad(
        spec(flowControl={"schemas": [{"name": "a"}] * 2}), "spec.flowControl.schemas[1].name", "already at [0]"
    ),
    "timeout 0": Bad(spec(timeouts={"connect": 0}), "spec.timeouts.connect", "above 0"),
    "health of no path": Bad(spec(health={"path": "readyz"}), "spec.health.path", "path"),
    "ejected longer than the longest": Bad(spec(outliers={"eject": 400}), "spec.outliers.ejectMax", "at least"),
    "budget above 1": Bad(spec(retry={"budget": 1.5}), "spec.retry.budget", "0 to 1"),
    "a ratio of true": Bad(spec(tracing={"ratio": True}), "spec.tracing.ratio", "number"),
    "a switch of text": Bad(spec(features={"denyAll": "yes"}), "spec.features.denyAll", "true or false"),
    "too many policies": Bad(spec(policies=[{"name": f"p{n}"} for n in range(65)]), "spec.policies", "64"),
}
