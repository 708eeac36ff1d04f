"""The files written from the table of fields are up to date, and the schema keeps the rules of a structural one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gateway_api
import pytest
import yaml
from wharf.gateway.api.crd import crd, crd_yaml
from wharf.gateway.api.documents import load_documents
from wharf.gateway.api.parse import parse_cluster
from wharf.gateway.api.reference import reference

Json = dict[str, Any]


def nodes(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every schema inside a schema."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


@pytest.fixture(scope="module")
def spec() -> Json:
    found: Json = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def test_the_written_files_are_up_to_date() -> None:
    assert gateway_api.main(["--check"]) == 0


def test_the_yaml_is_the_document() -> None:
    assert yaml.safe_load(crd_yaml()) == crd()
    assert "&id" not in crd_yaml()


def test_every_list_and_string_has_a_limit(spec: Json) -> None:
    for path, node in nodes(spec):
        if node["type"] == "array":
            assert "maxItems" in node, path
            assert "x-kubernetes-list-type" in node, path
        if node["type"] == "string":
            assert "maxLength" in node or "enum" in node, path


def test_every_field_says_what_it_means(spec: Json) -> None:
    for path, node in nodes(spec):
        for name, inner in node.get("properties", {}).items():
            assert inner["description"].endswith("."), f"{path}.{name}"


def test_defaults_are_those_of_the_reader(spec: Json) -> None:
    defaults = {path: node["default"] for path, node in nodes(spec) if "default" in node}
    assert defaults[".servers[].weight"] == 1
    assert defaults[".upstream.identity"] == "FrontProxy"
    assert defaults[".authentication.review.successSeconds"] == 10
    assert defaults[".policies[].balance.strategy"] == "RoundRobin"
    assert defaults[".discovery.service.port"] == "https"
    assert ".flowControl.schemas[].qps" not in defaults


def test_files_are_not_offered_by_the_api(spec: Json) -> None:
    assert not [path for path, _ in nodes(spec) if path.endswith(".file")]


def test_the_manual_has_every_field(spec: Json) -> None:
    text = reference()
    for path, node in nodes(spec):
        for name in node.get("properties", {}):
            assert f"{name}" in text, f"{path}.{name}"
    assert "| successSeconds | number, 0 to 600 | 10 |" in text
    assert "| **url** | string |" in text


def test_the_documents_in_the_manual_are_good() -> None:
    text = (gateway_api.ROOT / "docs" / "gateway.md").read_text()
    blocks = [block.partition("```")[0] for block in text.split("```yaml\n")[1:]]
    documents = [one for block in blocks for one in load_documents(block) if one.get("kind") == "UpstreamCluster"]
    assert documents
    for one in documents:
        parse_cluster(one, files=True)
