"""The CustomResourceDefinition of UpstreamCluster: its spec from the table of fields, its status, columns and names."""

from __future__ import annotations

from typing import Any, Final

import yaml
from wharf.gateway.api.layout import SPEC
from wharf.gateway.api.shapes import GROUP, KIND, PLURAL, VERSION
from wharf.gateway.api.status import SERVERS_SHOWN

Json = dict[str, Any]
FILE: Final = "charts/wharf/crds/upstreamclusters.yaml"
HEADER: Final = "# Written by `scripts/gateway_api.py` from the gateway's table of fields; not edited by hand.\n"
_GATEWAYS_MAX: Final = 128
_COUNT: Final[Json] = {"type": "integer", "format": "int64", "minimum": 0}
_TIME: Final[Json] = {"type": "string", "format": "date-time"}
_COLUMNS: Final = (
    ("Host", ".spec.hostnames[0]", "string", "The first further name.", 0),
    ("Servers", ".status.servers", "string", "Servers ready for every gateway, of all.", 0),
    ("Ready", '.status.conditions[?(@.type=="Ready")].status', "string", "Whether every gateway has a server.", 0),
    ("Accepted", '.status.conditions[?(@.type=="Accepted")].status', "string", "Whether it is served as it stands.", 0),
    ("Requests", ".status.activeRequests", "integer", "Requests under way.", 1),
    ("Watches", ".status.watches", "integer", "Watches and streams under way.", 1),
    ("Message", '.status.conditions[?(@.type=="Accepted")].message', "string", "Why it is not accepted.", 1),
    ("Age", ".metadata.creationTimestamp", "date", "", 0),
)


def crd() -> Json:
    """The whole definition, as a document."""
    schema = {
        "description": "One cluster behind the gateway. Its name is its first hostname.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {"description": "What is wanted.", **SPEC.schema()},
            "status": _status(),
        },
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(*one) for one in _COLUMNS],
    }
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": KIND.lower(),
        "shortNames": ["uc"],
        "categories": ["wharf"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Cluster", "versions": [version]},
    }


def crd_yaml() -> str:
    """The file in the chart."""
    return HEADER + yaml.dump(crd(), Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Without anchors: the same schema twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _column(name: str, path: str, kind: str, help: str, priority: int) -> Json:
    column = {"name": name, "jsonPath": path, "type": kind}
    if help:
        column["description"] = help
    return column | ({"priority": priority} if priority else {})


def _status() -> Json:
    server = {
        "name": _text(263),
        "url": _text(300),
        "zone": _text(63),
        "healthy": {"type": "boolean"},
        "reason": {"description": "Why it is, or is not, healthy.", **_text(2048)},
        "since": _TIME,
        "activeRequests": _COUNT,
        "watches": _COUNT,
    }
    gateway = {
        "instance": _text(253),
        "updated": _TIME,
        "observedGeneration": _COUNT,
        "accepted": {"type": "boolean"},
        "reason": _text(63),
        "message": _text(2048),
        "serversReady": _COUNT,
        "serversTotal": _COUNT,
        "activeRequests": _COUNT,
        "watches": _COUNT,
        "servers": {**_list(server, ["url"]), "maxItems": SERVERS_SHOWN},
    }
    condition = {
        "type": _text(316),
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "observedGeneration": _COUNT,
        "lastTransitionTime": _TIME,
        "reason": _text(1024),
        "message": _text(32768),
    }
    required = ["type", "status", "lastTransitionTime", "reason", "message"]
    conditions = _list(condition, ["type"], required)
    return {
        "description": "What the gateways see.",
        "type": "object",
        "properties": {
            "observedGeneration": _COUNT,
            "conditions": {
                "description": "Accepted: served as it is. Ready: every gateway has a server.",
                **conditions,
            },
            "servers": {"description": "Servers ready for every gateway, of all: 2/3.", **_text(32)},
            "activeRequests": _COUNT,
            "watches": _COUNT,
            "gateways": {
                "description": "What each gateway sees; it alone writes its entry.",
                **_list(gateway, ["instance"]),
                "maxItems": _GATEWAYS_MAX,
            },
        },
    }


def _text(longest: int) -> Json:
    return {"type": "string", "maxLength": longest}


def _list(properties: Json, keys: list[str], required: list[str] | None = None) -> Json:
    item = {"type": "object", "required": required or keys, "properties": properties}
    return {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys, "items": item}
