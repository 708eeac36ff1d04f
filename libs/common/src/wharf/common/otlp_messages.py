"""Spans and metric families as OTLP messages (pure; the only module that imports their generated code).

Counters become cumulative monotonic sums, gauges gauges, histograms explicit-bounds histograms, so a collector shows
the same numbers a Prometheus scrape would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as om
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as ot
from wharf.common.metrics import Family, HistogramValue, Sample
from wharf.common.trace import Attribute, Span

_SCOPE = "wharf"


def encode_spans(resource: Mapping[str, str], spans: Sequence[Span]) -> bytes:
    """An ExportTraceServiceRequest."""
    scope = ot.ScopeSpans(scope=InstrumentationScope(name=_SCOPE), spans=[_span(span) for span in spans])
    batch = ot.ResourceSpans(resource=_resource(resource), scope_spans=[scope])
    return ExportTraceServiceRequest(resource_spans=[batch]).SerializeToString()


def encode_metrics(resource: Mapping[str, str], families: Iterable[Family], start_ns: int, now_ns: int) -> bytes:
    """An ExportMetricsServiceRequest; `start_ns` is when cumulative values began."""
    scope = om.ScopeMetrics(
        scope=InstrumentationScope(name=_SCOPE), metrics=[_metric(family, start_ns, now_ns) for family in families]
    )
    batch = om.ResourceMetrics(resource=_resource(resource), scope_metrics=[scope])
    return ExportMetricsServiceRequest(resource_metrics=[batch]).SerializeToString()


def _resource(resource: Mapping[str, str]) -> Resource:
    return Resource(attributes=[_attribute(key, value) for key, value in resource.items()])


def _attribute(key: str, value: Attribute) -> KeyValue:
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value.encode("utf-8", "replace").decode()))


def _span(span: Span) -> ot.Span:
    failed = span.error is not None
    return ot.Span(
        trace_id=span.context.trace_id,
        span_id=span.context.span_id,
        parent_span_id=span.parent_id,
        trace_state=span.context.state,
        flags=span.context.flags,
        name=span.name,
        kind=ot.Span.SpanKind.ValueType(span.kind.value),
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=[_attribute(key, value) for key, value in span.attributes.items()],
        events=[ot.Span.Event(time_unix_nano=when, name=name) for when, name in span.events],
        status=ot.Status(code=ot.Status.STATUS_CODE_ERROR, message=span.error or "") if failed else None,
    )


def _metric(family: Family, start_ns: int, now_ns: int) -> om.Metric:
    metric = om.Metric(name=family.name, description=family.help)
    if family.kind == "histogram":
        metric.histogram.aggregation_temporality = om.AGGREGATION_TEMPORALITY_CUMULATIVE
        metric.histogram.data_points.extend(_histogram(sample, start_ns, now_ns) for sample in family.samples)
    elif family.kind == "counter":
        metric.sum.aggregation_temporality = om.AGGREGATION_TEMPORALITY_CUMULATIVE
        metric.sum.is_monotonic = True
        metric.sum.data_points.extend(_number(sample, start_ns, now_ns) for sample in family.samples)
    else:
        metric.gauge.data_points.extend(_number(sample, 0, now_ns) for sample in family.samples)
    return metric


def _number(sample: Sample, start_ns: int, now_ns: int) -> om.NumberDataPoint:
    assert not isinstance(sample.value, HistogramValue)  # noqa: S101 the family's kind says so
    return om.NumberDataPoint(
        attributes=[_attribute(key, value) for key, value in sample.labels],
        start_time_unix_nano=start_ns,
        time_unix_nano=now_ns,
        as_double=float(sample.value),
    )


def _histogram(sample: Sample, start_ns: int, now_ns: int) -> om.HistogramDataPoint:
    value = sample.value
    assert isinstance(value, HistogramValue)  # noqa: S101 the family's kind says so
    return om.HistogramDataPoint(
        attributes=[_attribute(key, value) for key, value in sample.labels],
        start_time_unix_nano=start_ns,
        time_unix_nano=now_ns,
        count=sum(value.counts),
        sum=value.sum,
        bucket_counts=value.counts,
        explicit_bounds=value.bounds,
    )
