"""Tracing switched on by configuration: spans of sampled calls, exported by OTLP."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from wharf.brain.api.tracing import traced
from wharf.brain.config import BrainConfig
from wharf.common.parsers import BadValue, Url, parse_url
from wharf.common.trace import Tracer
from wharf.wire.rpc import Method

_PER: Final = 1_000_000  # etcd counts samples per million


def trace(methods: Sequence[Method], config: BrainConfig, down: AsyncExitStack) -> Sequence[Method]:
    """`methods`, traced if a collector is configured; its exporter is stopped with `down`."""
    if not config.trace_endpoint:
        return methods
    from wharf.common.otlp import OtlpConfig, OtlpExporter  # noqa: PLC0415 only who exports pays for it

    resource = {
        "service.name": config.distributed_tracing_service_name,
        "service.instance.id": config.distributed_tracing_instance_id or config.name,
    }
    exporter = OtlpExporter(OtlpConfig(endpoint=parse_endpoint(config.trace_endpoint), resource=resource))
    exporter.start()
    down.callback(exporter.stop)
    tracer = Tracer(config.distributed_tracing_sampling_rate / _PER, exporter.offer)
    return [traced(method, tracer) for method in methods]


def parse_endpoint(text: str) -> Url:
    """A collector's address: "host:4317", or with http:// or https:// before it; ValueError otherwise."""
    try:
        return parse_url(text if "://" in text else f"http://{text}", ("http", "https"))
    except BadValue as wrong:
        raise ValueError(f"--otlp-endpoint: {text!r} {wrong}") from None
