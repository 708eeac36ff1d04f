"""The schema of `gateway.clusters` in the chart's values: the CRD's, as JSON Schema, with unknown fields refused.

Documents of the chart are files of a watched directory, so materials may be files too. Rules over several fields are
CEL in the CRD and have no form here; the gateway reports them.
"""

from __future__ import annotations

import json
from typing import Any, Final

from wharf.gateway.api.crd import crd

FILE: Final = "charts/wharf/values.schema.json"
DEFINITION: Final = "upstreamClusterSpec"
_KEPT: Final = (
    *("type", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum"),
    *("minItems", "maxItems", "required"),
)

Json = dict[str, Any]


def spec_schema() -> Json:
    """JSON Schema (draft 7) of the `spec` of an UpstreamCluster."""
    return _strict(crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"])


def with_definition(text: str) -> str:
    """The text of the values' schema with the definition as it should be."""
    schema = json.loads(text)
    schema["definitions"][DEFINITION] = spec_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _strict(node: Json) -> Json:
    made: Json = {key: node[key] for key in _KEPT if key in node}
    if node.get("exclusiveMinimum"):  # a number in JSON Schema, a switch in OpenAPI v3.0
        made["exclusiveMinimum"] = made.pop("minimum")
    if "items" in node:
        made["items"] = _strict(node["items"])
    if "properties" in node:
        made["properties"] = {name: _strict(inner) for name, inner in node["properties"].items()}
        made["additionalProperties"] = False
        if "secretRef" in node["properties"]:  # a material: one of its forms
            made["properties"]["file"] = {"type": "string", "minLength": 1, "maxLength": 4096}
            made["minProperties"] = made["maxProperties"] = 1
    return made
