"""KubeGateway's UpstreamClusters into ours: every document refused with the path of what is wrong, or converted.

What has no counterpart, and where the same words mean something else here, is told as a warning with its path. The
gateway's credential impersonates users as before (identity: Impersonation); tokens are reviewed only where rules look
at who asks, otherwise they go to the server untouched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wharf.gateway.api.convert_rules import convert_rule
from wharf.gateway.api.fields import BAD, Problem, Reading, shown, suggestion
from wharf.gateway.api.kubegateway import API_VERSION, GATE_NAMES, GATES, SPEC
from wharf.gateway.api.layout_upstream import server_name
from wharf.gateway.api.parse import API_VERSION as OURS
from wharf.gateway.api.parse import Invalid, parse_cluster
from wharf.gateway.api.shapes import KIND

Json = dict[str, Any]
_PATHS: Final = {  # ours → theirs
    "spec.hostnames": "spec.secureServing.serverNames",
    "spec.serving": "spec.secureServing",
    "spec.serving.certificate": "spec.secureServing.certData",
    "spec.serving.certificate.pem": "spec.secureServing.certData",
    "spec.serving.key": "spec.secureServing.keyData",
    "spec.serving.key.pem": "spec.secureServing.keyData",
    "spec.serving.clientCA.pem": "spec.secureServing.clientCAData",
    "spec.upstream": "spec.clientConfig",
    "spec.upstream.ca.pem": "spec.clientConfig.caData",
    "spec.upstream.certificate": "spec.clientConfig.certData",
    "spec.upstream.certificate.pem": "spec.clientConfig.certData",
    "spec.upstream.key": "spec.clientConfig.keyData",
    "spec.upstream.key.pem": "spec.clientConfig.keyData",
    "spec.upstream.token.value": "spec.clientConfig.bearerToken",
    "spec.policies": "spec.dispatchPolicies",
    "spec.flowControl.schemas": "spec.flowControl.flowControlSchemas",
}
_DROPPED_ANNOTATIONS: Final = (GATES, "kubectl.kubernetes.io/last-applied-configuration")


@dataclass(frozen=True, slots=True)
class Converted:
    """Our document, which `parse_cluster` takes, and what its reader should know."""

    document: Json
    warnings: tuple[Problem, ...]


def is_theirs(document: Mapping[str, Any]) -> bool:
    """Whether this is a document to convert."""
    return document.get("apiVersion") == API_VERSION and document.get("kind") == KIND


def convert(document: Mapping[str, Any]) -> Converted:
    """Our document of one of theirs; Invalid, with paths in their document, when it is wrong."""
    reading = Reading(frozenset(), files=False)
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    spec = SPEC.read(document.get("spec") or {}, "spec", reading)
    gates = _gates(metadata.get("annotations"), reading)
    if reading.problems or spec is BAD:
        raise Invalid(reading.problems)
    conversion = _Conversion(str(metadata.get("name", "")).lower(), spec, gates)
    made: Json = {"apiVersion": OURS, "kind": KIND, "metadata": _metadata(metadata), "spec": conversion.spec()}
    try:
        parse_cluster(made)
    except Invalid as invalid:
        raise Invalid(Problem(conversion.their_path(one.path), one.text) for one in invalid.problems) from None
    return Converted(made, tuple(conversion.warnings))


class _Conversion:
    """One cluster: their spec (names in snake_case) and feature gates in, our spec out."""

    def __init__(self, name: str, spec: Mapping[str, Any], gates: Mapping[str, bool]) -> None:
        self.warnings: list[Problem] = []
        self._name = name
        self._spec = spec
        self._gates = gates
        self._paths = dict(_PATHS)

    def spec(self) -> Json:
        """The whole of it; empty parts are left out."""
        names = self._part("secure_serving").get("server_names", ())
        parts = {
            "hostnames": list(dict.fromkeys(one.lower() for one in names)),
            "servers": [self._server(index, one) for index, one in enumerate(self._spec["servers"])],
            "serving": self._serving(),
            "upstream": self._upstream(),
            "authentication": self._authentication(),
            "policies": self._policies(),
            "flowControl": self._flow_control(),
            "logging": {"access": True} if self._part("logging").get("mode") == "on" else {},
            "tracing": self._tracing(),
            "features": self._features(),
        }
        return {name: part for name, part in parts.items() if part}

    def their_path(self, path: str) -> str:
        """Where in their document the cause of a problem lies."""
        known = [ours for ours in self._paths if path == ours or path.startswith((f"{ours}.", f"{ours}["))]
        if not known:
            return path
        longest = max(known, key=len)
        return self._paths[longest] + path[len(longest) :]

    def _part(self, name: str) -> Mapping[str, Any]:
        part: Mapping[str, Any] = self._spec.get(name, {})
        return part

    def _warn(self, path: str, text: str) -> None:
        self.warnings.append(Problem(path, text))

    def _server(self, index: int, server: Mapping[str, Any]) -> Json:
        self._paths[f"spec.servers[{index}].url"] = f"spec.servers[{index}].endpoint"
        return {"url": _url(server["endpoint"])} | ({"disabled": True} if server.get("disabled") else {})

    def _serving(self) -> Json:
        theirs, path = self._part("secure_serving"), "spec.secureServing"
        made: Json = {}
        if bool(theirs.get("cert_data")) != bool(theirs.get("key_data")):
            self._warn(path, "one of certData and keyData alone was ignored by KubeGateway and is left out")
        elif theirs.get("cert_data"):
            made = {"certificate": {"pem": theirs["cert_data"]}, "key": {"pem": theirs["key_data"]}}
        if theirs.get("client_ca_data"):
            made["clientCA"] = {"pem": theirs["client_ca_data"]}
        else:
            self._warn(
                f"{path}.clientCAData",
                "absent: no client certificates are asked for; KubeGateway took those of its control plane's CA",
            )
        return made

    def _upstream(self) -> Json:
        theirs, path = self._part("client_config"), "spec.clientConfig"
        made: Json = {}
        for name, attribute, inline in (
            ("ca", "ca_data", "pem"),
            ("certificate", "cert_data", "pem"),
            ("key", "key_data", "pem"),
            ("token", "bearer_token", "value"),
        ):
            if theirs.get(attribute):
                made[name] = {inline: theirs[attribute]}
        made["identity"] = "Impersonation"
        secure = any(_url(server["endpoint"]).startswith("https:") for server in self._spec["servers"])
        if theirs.get("insecure"):
            made["insecureSkipVerify"] = True
            if made.pop("ca", None):
                self._warn(f"{path}.caData", "means nothing beside insecure; left out")
        elif secure:
            made["serverName"] = theirs.get("server_name") or self._name
        if any(theirs.get(name) for name in ("qps", "burst", "qps_divisor")):
            self._warn(f"{path}.qps", "limited only KubeGateway's own calls (reviews, probes); has no counterpart")
        return made

    def _authentication(self) -> Json:
        rules = [rule for policy in self._spec["dispatch_policies"] for rule in policy["rules"]]
        looks = [rule for rule in rules if _narrow(rule, "users", "user_groups") or rule.get("service_accounts")]
        if looks:
            return {"tokens": "Review"}
        self._warn("spec", "tokens go to the server untouched (tokens: PassThrough); KubeGateway reviewed each")
        return {}

    def _policies(self) -> list[Json]:
        made: list[Json] = []
        for index, policy in enumerate(self._spec["dispatch_policies"]):
            path = f"spec.dispatchPolicies[{index}]"
            self._paths[f"spec.policies[{len(made)}]"] = path
            self._paths[f"spec.policies[{len(made)}].servers"] = f"{path}.upstreamSubset"
            self._paths[f"spec.policies[{len(made)}].flowControl[0]"] = f"{path}.flowControlSchemaName"
            one = self._policy(policy, f"policy-{index + 1}", path, f"spec.policies[{len(made)}]")
            if one is not None:
                made.append(one)
        if not made:  # left out, it would mean one policy for everything
            raise Invalid([Problem("spec.dispatchPolicies", "no policy matches anything")])
        return made

    def _policy(self, policy: Mapping[str, Any], name: str, path: str, ours: str) -> Json | None:
        made: Json = {"name": name}
        rules: list[Json] = []
        for index, rule in enumerate(policy["rules"]):
            for one in convert_rule(rule, f"{path}.rules[{index}]", self._warn):
                self._paths[f"{ours}.rules[{len(rules)}]"] = f"{path}.rules[{index}]"
                self._paths[f"{ours}.rules[{len(rules)}].groups"] = f"{path}.rules[{index}].userGroups"
                rules.append(one)
        if not rules:
            self._warn(path, "has no rule that matches anything; left out")
            return None
        if {} not in rules:
            made["rules"] = rules
        subset = policy.get("upstream_subset") or policy.get("upsteam_subset")
        if subset:
            made["servers"] = list(dict.fromkeys(server_name(_url(endpoint)) for endpoint in subset))
        if policy.get("upsteam_subset"):
            self._warn(f"{path}.upsteamSubset", "is misspelt; taken as upstreamSubset, which KubeGateway did not")
        if policy.get("flow_control_schema_name"):
            made["flowControl"] = [policy["flow_control_schema_name"]]
        mode = policy.get("log_mode")
        if mode:
            made["accessLog"] = mode == "on" and self._part("logging").get("mode") != "off"
        return made

    def _flow_control(self) -> Json:
        schemas = self._part("flow_control").get("flow_control_schemas", ())
        made = [self._schema(one, f"spec.flowControl.flowControlSchemas[{index}]") for index, one in enumerate(schemas)]
        return {"schemas": made} if made else {}

    def _schema(self, schema: Mapping[str, Any], path: str) -> Json:
        made: Json = {"name": schema["name"]}
        kinds = [name for name in ("exempt", "max_requests_inflight", "token_bucket") if name in schema]
        if len(kinds) != 1:
            raise Invalid([Problem(path, "needs exactly one of exempt, maxRequestsInflight, tokenBucket")])
        wanted = schema.get("strategy") in ("globalAllocate", "globalCount")
        both = f"global_{kinds[0]}"
        limit = schema[both] if wanted and both in schema else schema[kinds[0]]
        if wanted and both in schema:
            made["scope"] = "Global"
            if not self._gates.get("GlobalRateLimiter"):
                self._warn(path, "is global; KubeGateway had it so only with the feature gate GlobalRateLimiter")
        elif wanted or both in schema:
            self._warn(path, "is local, as in KubeGateway: a global limit needs both a strategy and global values")
        if kinds[0] == "max_requests_inflight":
            made |= {"maxInFlight": limit["max"], "watchClass": "Same"}
        elif kinds[0] == "token_bucket":
            made |= {"qps": limit["qps"], "burst": limit.get("burst", 0), "watchClass": "Start"}
        return made

    def _tracing(self) -> Json:
        if not self._gates.get("Tracing"):
            return {}
        self._warn(f"metadata.annotations[{GATES}]", "Tracing becomes a span per request; tracing.ratio lowers it")
        return {"ratio": 1}

    def _features(self) -> Json:
        switches = {"closeIdle": "CloseConnectionWhenIdle", "denyAll": "DenyAllRequests"}
        return {ours: True for ours, theirs in switches.items() if self._gates.get(theirs)}


def _narrow(rule: Mapping[str, Any], *names: str) -> bool:
    return any(rule.get(name) and "*" not in rule[name] for name in names)


def _url(endpoint: str) -> str:
    return endpoint.strip().rstrip("/").lower()


def _metadata(metadata: Mapping[str, Any]) -> Json:
    made: Json = {"name": metadata.get("name", "")}
    if isinstance(made["name"], str):
        made["name"] = made["name"].lower()
    for name in ("labels", "annotations"):
        given = metadata.get(name)
        kept = {key: value for key, value in given.items() if key not in _DROPPED_ANNOTATIONS} if given else {}
        if kept:
            made[name] = kept
    return made


def _gates(annotations: object, reading: Reading) -> dict[str, bool]:
    text = annotations.get(GATES, "") if isinstance(annotations, Mapping) else ""
    path, found = f"metadata.annotations[{GATES}]", {}
    words: Sequence[str] = [word.strip() for word in str(text).split(",") if word.strip()]
    for word in words:
        name, _, value = word.partition("=")
        if name not in GATE_NAMES:
            reading.refuse(path, f"{shown(name)} is no feature gate{suggestion(name, GATE_NAMES)}")
        elif value.lower() not in ("true", "false", "1", "0", "t", "f"):
            reading.refuse(path, f"{shown(word)} is not a boolean")
        else:
            found[name] = value.lower() in ("true", "1", "t")
    return found
