"""values.yaml, its schema and the README describe the same values, and the schema knows no open object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[1]
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
OPEN = {"global"}  # Helm's own: values that parent charts share with all their parts


def leaves(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no group of others, by its path."""
    for name, value in values.items():
        inner = f"{path}.{name}" if path else name
        if isinstance(value, dict) and value:
            yield from leaves(value, inner)
        else:
            yield inner, value


def known(node: dict[str, Any], path: str = "") -> Iterator[str]:
    """Every path of the schema that is no group of others."""
    for name, inner in node["properties"].items():
        where = f"{path}.{name}" if path else name
        if "properties" in inner:
            yield from known(inner, where)
        else:
            yield where


def objects(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of an object, with where it is."""
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield path, node
        for name, inner in node.items():
            yield from objects(inner, f"{path}.{name}".removeprefix("."))
    elif isinstance(node, list):
        for inner in node:
            yield from objects(inner, path)


def test_readme_has_every_value_with_its_default() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]*)` \| (.+) \|$", (CHART / "README.md").read_text(), re.MULTILINE)
    assert [(path, default) for path, default, _ in rows] == [(path, json.dumps(one)) for path, one in leaves(VALUES)]
    assert all(meaning.strip() for _, _, meaning in rows)


def test_schema_knows_the_values_and_no_others() -> None:
    in_schema = {path for path in known(SCHEMA) if path not in OPEN}
    in_values = {path for path, _ in leaves(VALUES)}
    assert {path for path in in_values if not any(covers(one, path) for one in in_schema)} == set()
    assert {one for one in in_schema if not any(covers(one, path) for path in in_values)} == set()


def covers(known_path: str, path: str) -> bool:
    """Whether a value is this one or inside of it."""
    return path == known_path or path.startswith(f"{known_path}.")


def test_every_object_of_the_schema_refuses_unknown_keys_or_describes_them() -> None:
    for path, node in objects(SCHEMA, ""):
        if path.removeprefix("properties.") in OPEN:
            continue
        assert "additionalProperties" in node, path
        other = node["additionalProperties"]
        assert other is False or "$ref" in other or "type" in other, path
