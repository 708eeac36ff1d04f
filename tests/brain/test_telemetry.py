"""Tracing is paid for only by who asks for it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from wharf.brain.api.service import unary
from wharf.brain.config import load_config
from wharf.brain.telemetry import parse_endpoint, trace
from wharf.common.otlp import OtlpExporter

METHODS = [unary("/a/B", lambda data, call: call.reply(data))]


def test_without_a_collector_methods_are_left_as_they_are() -> None:
    assert trace(METHODS, load_config([], {}).config, AsyncExitStack()) is METHODS


def test_with_a_collector_every_method_is_traced_and_the_exporter_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(OtlpExporter, "start", lambda _: said.append("started"))
    monkeypatch.setattr(OtlpExporter, "stop", lambda _: said.append("stopped"))

    async def run() -> None:
        async with AsyncExitStack() as down:
            traced = trace(METHODS, load_config(["--otlp-endpoint=127.0.0.1:4317"], {}).config, down)
            assert [method.path for method in traced] == ["/a/B"]
            assert traced[0].handler is not METHODS[0].handler

    asyncio.run(run())
    assert said == ["started", "stopped"]


@pytest.mark.parametrize(
    ("given", "expected"), [("c:4317", "http://c:4317"), ("http://c:1", "http://c:1"), ("https://c:1", "https://c:1")]
)
def test_a_collector_is_an_address_or_a_url(given: str, expected: str) -> None:
    assert parse_endpoint(given).text == expected


def test_a_collector_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="--otlp-endpoint"):
        parse_endpoint("ftp://c")
