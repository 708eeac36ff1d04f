"""KubeGateway's UpstreamCluster (proxy.kubegateway.io/v1alpha1) as far as it is read here: for conversion only.

Source: kubewharf/kubegateway, pkg/apis/proxy/v1alpha1. Read objects are plain dictionaries with names in snake_case.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from wharf.gateway.api.fields import Field, Kind, Listing, Number, Shape, Switch, Text

API_VERSION: Final = "proxy.kubegateway.io/v1alpha1"
GATES: Final = "proxy.kubegateway.io/feature-gates"
GATE_NAMES: Final = ("CloseConnectionWhenIdle", "DenyAllRequests", "GlobalRateLimiter", "Tracing")
_MANY: Final = 10_000  # lists and numbers: ours are checked where they arrive
_INT32: Final = Number(-(2**31), 2**31 - 1, whole=True)
_ANY: Final = Text(longest=4096)


def _decoded(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("base64 of text") from error


_BYTES: Final = Text(longest=200_000, convert=_decoded, secret=True)


def _mode(word: str) -> str:
    if word not in ("", "on", "off"):
        raise ValueError('on, off or ""')
    return word


_MODE: Final = Text(longest=16, convert=_mode)


_ATTRIBUTES: Final = {"clientCAData": "client_ca_data"}  # where words cannot be told apart by their capitals


def _shape(*fields: tuple[str, Kind] | tuple[str, Kind, bool]) -> Shape:
    return Shape(
        tuple(Field(name, kind, "", bool(more), _ATTRIBUTES.get(name, "")) for name, kind, *more in fields), dict
    )


_STRINGS: Final = Listing(_ANY, _MANY, unique=False)
_ACCOUNT: Final = _shape(("namespace", _ANY, True), ("name", _ANY, True))
_RULE: Final = _shape(
    ("verbs", _STRINGS),
    ("apiGroups", _STRINGS),
    ("resources", _STRINGS),
    ("resourceNames", _STRINGS),
    ("users", _STRINGS),
    ("serviceAccounts", Listing(_ACCOUNT, _MANY)),
    ("userGroups", _STRINGS),
    ("nonResourceURLs", _STRINGS),
)
_POLICY: Final = _shape(
    ("strategy", Text("^(RoundRobin)?$", "RoundRobin")),
    ("upstreamSubset", _STRINGS),
    ("upsteamSubset", _STRINGS),  # as their manual spells it; their server ignores it
    ("rules", Listing(_RULE, _MANY, 1), True),
    ("flowControlSchemaName", _ANY),
    ("logMode", _MODE),
)
_MAX: Final = _shape(("max", Number(0, 2**31 - 1, whole=True), True))
_BUCKET: Final = _shape(("qps", Number(1, 2**31 - 1, whole=True), True), ("burst", Number(0, 2**31 - 1, whole=True)))
_SCHEMA: Final = _shape(
    ("name", Text(longest=4096, shortest=1), True),
    ("strategy", Text("^(local|globalAllocate|globalCount)?$", "local, globalAllocate or globalCount")),
    ("exempt", Shape((), dict)),
    ("maxRequestsInflight", _MAX),
    ("tokenBucket", _BUCKET),
    ("globalMaxRequestsInflight", _MAX),
    ("globalTokenBucket", _BUCKET),
)
SPEC: Final = _shape(
    ("servers", Listing(_shape(("endpoint", _ANY, True), ("disabled", Switch())), _MANY, 1), True),
    (
        "secureServing",
        _shape(("keyData", _BYTES), ("certData", _BYTES), ("clientCAData", _BYTES), ("serverNames", _STRINGS)),
    ),
    (
        "clientConfig",
        _shape(
            ("insecure", Switch()),
            ("bearerToken", _BYTES),
            ("keyData", _BYTES),
            ("certData", _BYTES),
            ("caData", _BYTES),
            ("qps", _INT32),
            ("burst", _INT32),
            ("qpsDivisor", _INT32),
            ("serverName", _ANY),
        ),
    ),
    ("flowControl", _shape(("flowControlSchemas", Listing(_SCHEMA, _MANY, key="name")))),
    ("dispatchPolicies", Listing(_POLICY, _MANY, 1), True),
    ("logging", _shape(("mode", _MODE))),
)
