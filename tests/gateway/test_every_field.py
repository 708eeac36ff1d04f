"""What a document can say has an effect: a field that nothing reads would be a promise that nobody keeps."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import wharf.gateway
from wharf.gateway.api import shapes
from wharf.gateway.config import GatewayConfig

SOURCES = Path(next(iter(wharf.gateway.__path__)))
READ_IN_API = {"created"}  # api.parse: the older of two documents keeps what both claim


def read_names(*but: str) -> set[str]:
    """Every `x.name` of the gateway's sources outside these folders and files."""
    files = [path for path in SOURCES.rglob("*.py") if path.relative_to(SOURCES).parts[0] not in but]
    trees = (ast.parse(path.read_text()) for path in files)
    return {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def document_fields() -> Iterator[tuple[str, str]]:
    for name, shape in vars(shapes).items():
        if isinstance(shape, type) and is_dataclass(shape):
            yield from ((name, field.name) for field in fields(shape))


@pytest.fixture(scope="module")
def read() -> set[str]:
    return read_names("api")


@pytest.mark.parametrize(("shape", "field"), list(document_fields()))
def test_something_beyond_the_parser_reads_it(shape: str, field: str, read: set[str]) -> None:
    assert field in read | READ_IN_API, f"{shape}.{field}"


def test_every_flag_is_read() -> None:
    assert {field.name for field in fields(GatewayConfig)} <= read_names("api")
