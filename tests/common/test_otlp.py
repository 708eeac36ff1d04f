"""OTLP export against a receiver of our own: what arrives, and that a missing collector costs nothing but spans."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from wharf.common.metrics import Registry
from wharf.common.otlp import OtlpConfig, OtlpExporter, on_loop, parse_endpoint
from wharf.common.parsers import parse_url
from wharf.common.trace import Attribute, Kind, Span, Tracer

WAIT = 20.0


@dataclass
class Receiver(trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer):
    """Keeps what it is sent."""

    traces: list[trace_service_pb2.ExportTraceServiceRequest] = field(default_factory=list)
    metrics: list[metrics_service_pb2.ExportMetricsServiceRequest] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    refuse: grpc.StatusCode | None = None
    got: threading.Condition = field(default_factory=threading.Condition)

    def Export(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802 the generated name
        with self.got:
            self.metadata = dict(context.invocation_metadata())
            if self.refuse is not None:
                context.abort(self.refuse, "no")
            if isinstance(request, trace_service_pb2.ExportTraceServiceRequest):
                self.traces.append(request)
                self.got.notify_all()
                return trace_service_pb2.ExportTraceServiceResponse()
            self.metrics.append(request)
            self.got.notify_all()
            return metrics_service_pb2.ExportMetricsServiceResponse()

    def wait_for(self, true: Callable[[], bool]) -> None:
        with self.got:
            assert self.got.wait_for(true, WAIT)

    def spans(self) -> list[str]:
        return [s.name for r in self.traces for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]


def serve(receiver: Receiver, port: int = 0) -> tuple[grpc.Server, int]:
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, int]]:
    receiver = Receiver()
    server, port = serve(receiver)
    yield receiver, port
    server.stop(None).wait()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    keep = Keep()
    logger = logging.getLogger("wharf.otlp")
    logger.addHandler(keep)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(keep)


def config(port: int, **options: float) -> OtlpConfig:
    return OtlpConfig(
        endpoint=parse_url(f"http://127.0.0.1:{port}"),
        resource={"service.name": "brain"},
        headers={"X-Api-Key": "hunter2"},
        span_interval=0.05,
        **options,  # type: ignore[arg-type]
    )


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_spans_arrive_as_they_were(receiver: tuple[Receiver, int]) -> None:
    got, port = receiver
    exporter = OtlpExporter(config(port))
    exporter.start()
    tracer = Tracer(1.0, exporter.offer)
    span = tracer.start("KV/Txn", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"v=1")
    assert span is not None
    given: dict[str, Attribute] = {"s": "text", "i": 7, "f": 0.5, "b": True, "odd": "\udcff"}
    for key, value in given.items():
        span.set(key, value)
    span.event("fsync")
    span.fail("disk full")
    span.end()
    got.wait_for(lambda: bool(got.traces))
    exporter.stop()
    (resource,) = got.traces[0].resource_spans
    assert resource.resource.attributes[0].value.string_value == "brain"
    (sent,) = resource.scope_spans[0].spans
    assert (sent.name, sent.kind, sent.trace_state) == ("KV/Txn", sent.SPAN_KIND_SERVER, "v=1")
    assert sent.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert sent.parent_span_id.hex() == "b7ad6b7169203331"
    assert (sent.start_time_unix_nano, sent.end_time_unix_nano) == (span.start_ns, span.end_ns)
    attributes = {a.key: a.value for a in sent.attributes}
    assert (attributes["s"].string_value, attributes["i"].int_value) == ("text", 7)
    assert (attributes["f"].double_value, attributes["b"].bool_value, attributes["odd"].string_value) == (
        0.5,
        True,
        "?",
    )
    assert (sent.status.code, sent.status.message) == (2, "disk full")
    assert sent.events[0].name == "fsync"
    assert got.metadata["x-api-key"] == "hunter2"
    assert (exporter.exported, exporter.dropped) == (1, 0)


def test_stop_sends_what_is_queued(receiver: tuple[Receiver, int]) -> None:
    got, port = receiver
    exporter = OtlpExporter(config(port, batch_size=10))
    exporter.start()
    tracer = Tracer(1.0, exporter.offer)
    for number in range(35):
        tracer.begin(f"s{number}", kind=Kind.INTERNAL, parent=None).end()
    exporter.stop(WAIT)
    assert got.spans() == [f"s{number}" for number in range(35)]


def test_metrics_arrive_with_their_kinds(receiver: tuple[Receiver, int]) -> None:
    got, port = receiver
    registry = Registry()
    registry.counter("requests_total", "R.").value = 3
    registry.gauges("open", "O.", ("kind",)).child("watch").value = 4
    registry.histogram("seconds", "S.", bounds=(0.1, 1.0)).observe(0.5)
    exporter = OtlpExporter(config(port, metric_interval=0.05), registry.collect)
    exporter.start()
    got.wait_for(lambda: bool(got.metrics))
    exporter.stop()
    sent = {m.name: m for m in got.metrics[0].resource_metrics[0].scope_metrics[0].metrics}
    assert sent["requests_total"].sum.is_monotonic
    assert sent["requests_total"].sum.data_points[0].as_double == 3
    (point,) = sent["open"].gauge.data_points
    assert (point.as_double, point.attributes[0].value.string_value) == (4, "watch")
    (histogram,) = sent["seconds"].histogram.data_points
    assert (list(histogram.bucket_counts), histogram.count, histogram.sum) == ([0, 1, 0], 1, 0.5)
    assert list(histogram.explicit_bounds) == [0.1, 1.0]


def test_a_collector_that_comes_late_gets_what_was_queued(logged: list[str]) -> None:
    first, port = serve(Receiver())
    first.stop(None).wait()
    exporter = OtlpExporter(config(port))
    exporter.start()
    Tracer(1.0, exporter.offer).begin("early", Kind.INTERNAL, None).end()
    until(lambda: len(logged) == 1)
    receiver = Receiver()
    server, _ = serve(receiver, port)
    receiver.wait_for(lambda: receiver.spans() == ["early"])
    until(lambda: len(logged) == 2)
    exporter.stop()
    server.stop(None).wait()
    assert logged == ["telemetry is not being exported", "telemetry is being exported again"]


def test_a_missing_collector_never_blocks_and_drops_are_counted(logged: list[str]) -> None:
    first, port = serve(Receiver())
    first.stop(None).wait()
    exporter = OtlpExporter(config(port, queue_size=100))
    exporter.start()
    tracer = Tracer(1.0, exporter.offer)
    for _ in range(1000):
        tracer.begin("x", Kind.INTERNAL, None).end()
    assert exporter.dropped == 900
    until(lambda: len(logged) == 1)
    exporter.stop(WAIT)
    assert (exporter.exported, exporter.dropped) == (0, 1000)
    assert logged == ["telemetry is not being exported"]


def test_what_the_collector_refuses_is_dropped_not_repeated(receiver: tuple[Receiver, int], logged: list[str]) -> None:
    got, port = receiver
    got.refuse = grpc.StatusCode.INVALID_ARGUMENT
    exporter = OtlpExporter(config(port))
    exporter.start()
    Tracer(1.0, exporter.offer).begin("x", Kind.INTERNAL, None).end()
    until(lambda: exporter.dropped == 1)
    exporter.stop()
    assert logged == ["telemetry is not being exported"]


def test_a_failing_scrape_does_not_end_the_export(receiver: tuple[Receiver, int], logged: list[str]) -> None:
    got, port = receiver

    def scrape() -> list[object]:
        raise RuntimeError("bug")

    exporter = OtlpExporter(config(port, metric_interval=0.01), scrape)  # type: ignore[arg-type]
    exporter.start()
    until(lambda: "metrics could not be collected" in logged)
    Tracer(1.0, exporter.offer).begin("after", Kind.INTERNAL, None).end()
    got.wait_for(lambda: got.spans() == ["after"])
    exporter.stop()


async def _scrape_from_a_thread() -> tuple[int, int]:
    loop = asyncio.get_running_loop()
    threads: list[int] = []
    scrape = on_loop(loop, lambda: threads.append(threading.get_ident()) or [])  # type: ignore[func-returns-value]
    await loop.run_in_executor(None, scrape)
    return threads[0], threading.get_ident()


def test_a_scrape_runs_on_the_loop_s_thread() -> None:
    ran, loop = asyncio.run(_scrape_from_a_thread())
    assert ran == loop


def test_endpoints_have_a_default_port() -> None:
    assert parse_endpoint("http://collector").authority == "collector:4317"
    assert parse_endpoint("https://collector:1/x").port == 1
    assert parse_endpoint("localhost:4317").text == "http://localhost:4317"
    assert parse_endpoint("[::1]").authority == "[::1]:4317"


def test_headers_are_not_in_the_configuration_s_text() -> None:
    assert "hunter2" not in repr(config(1))


def test_offer_is_all_a_tracer_needs() -> None:
    exporter = OtlpExporter(config(1))
    span: Span | None = Tracer(1.0, exporter.offer).start("x")
    assert span is not None
    span.end()
    assert exporter.dropped == 0
