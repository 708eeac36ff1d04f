"""YAML and JSON text into documents: strict where YAML is lax (a key twice is an error, a date stays text)."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Final

import yaml

BYTES_MAX: Final = 4 * 1024 * 1024  # of one file; a Secret or ConfigMap holds 1 MiB at most
DEPTH_MAX: Final = 64  # levels; the reader's time grows with the square of them
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
_MERGE: Final = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Plain data only."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if parent is not None and self._depth > DEPTH_MAX:
            problem = f"nested deeper than {DEPTH_MAX} levels"
            raise yaml.composer.ComposerError(None, None, problem, parent.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    problem = f"the key {key.value!r} is here twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_documents(text: str) -> list[Mapping[str, Any]]:
    """The documents of a stream, lists taken apart and empty documents left out. ValueError says what and where."""
    if len(text) > BYTES_MAX:
        raise ValueError(f"longer than {BYTES_MAX} bytes")
    try:
        found = _json(text) or list(yaml.load_all(text, _Loader))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(_where(error)) from error
    return [one for document in found if document is not None for one in _items(document)]


def _json(text: str) -> list[Any]:
    """The one document of a JSON text, whose escapes a YAML reader gets wrong; none when it is not JSON."""
    if not text.lstrip().startswith("{"):
        return []
    try:
        return [json.loads(text, object_pairs_hook=_unique)]
    except json.JSONDecodeError:
        return []


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is here twice")
        found[key] = value
    return found


def _items(document: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(document, Mapping):
        raise ValueError(f"a document is {type(document).__name__}, not an object")
    items = document.get("items")
    if str(document.get("kind", "")).endswith("List") and isinstance(items, list):
        for item in items:
            yield from _items(item)
    else:
        yield document


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "cannot be read as YAML"
    return f"line {mark.line + 1}: {problem}" if mark is not None else problem
