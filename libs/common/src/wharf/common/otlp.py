"""Export of spans and metrics over OTLP/gRPC, from a thread of its own.

Nothing here may slow a service: `offer` appends to a bounded queue or counts a drop; conversion to protobuf, connecting
and waiting happen in the background thread. grpc and the OTLP messages are imported there, so a process that exports
nothing never pays for them. A collector that is down costs one log line when it goes and one when it is back.

Invariant: memory is bounded by `queue_size` spans; every span is exported, still queued or counted in `dropped`.
Source: OpenTelemetry protocol (OTLP) 1.x, gRPC transport; Prometheus → OTLP metric mapping.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wharf.common.clock import CLOCK, Clock
from wharf.common.log import get_log
from wharf.common.metrics import Family
from wharf.common.parsers import Url, parse_url
from wharf.common.trace import Span

if TYPE_CHECKING:
    import asyncio

    import grpc

_TRACES: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_METRICS: Final = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
DEFAULT_PORT: Final = 4317
_BACKOFF_FIRST: Final = 1.0
_BACKOFF_MOST: Final = 30.0

log = get_log("otlp")


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpConfig:
    """Where telemetry goes. Times in seconds."""

    endpoint: Url  # http://host:4317 plain, https://host:4317 with TLS
    resource: Mapping[str, str]  # service.name and friends
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may carry credentials
    ca_pem: bytes | None = None  # https: trust this instead of the system's authorities
    queue_size: int = 4096  # spans
    batch_size: int = 512  # spans per request
    span_interval: float = 2.0  # longest a span waits while the collector is up
    metric_interval: float = 15.0
    timeout: float = 5.0  # per request


class OtlpExporter:
    """Sends what it is offered until `stop`. Use `offer` as a Tracer's sink."""

    def __init__(
        self, config: OtlpConfig, scrape: Callable[[], Sequence[Family]] | None = None, clock: Clock = CLOCK
    ) -> None:
        """`scrape` is called on the exporter's thread every `metric_interval`; None: spans only."""
        self._config = config
        self._scrape = scrape
        self._clock = clock
        self._queue: deque[Span] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._down = False
        self._started_ns = clock.wall_ns()
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self.exported = 0  # spans the collector took
        self.dropped = 0  # spans lost: queue full, or the collector refused them

    def start(self) -> None:
        self._thread.start()

    def offer(self, span: Span) -> None:
        """Queue an ended span; never blocks."""
        if len(self._queue) >= self._config.queue_size:
            self.dropped += 1
            return
        self._queue.append(span)
        if len(self._queue) == self._config.batch_size:
            self._wake.set()

    def stop(self, timeout: float = 3.0) -> None:
        """Send what is queued, for at most `timeout` seconds. The thread is a daemon: an exit is never held up."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    # --- the background thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        channel = _dial(self._config)
        metadata = tuple((name.lower(), value) for name, value in self._config.headers.items())
        send = _Sender(channel, metadata, self._config.timeout)
        backoff = 0.0
        next_metrics = self._clock.now() + self._config.metric_interval
        try:
            while True:
                self._wake.wait(backoff or self._config.span_interval)
                self._wake.clear()
                last = self._stopping
                reached = self._send_spans(send)
                if reached and self._scrape is not None and (last or self._clock.now() >= next_metrics):
                    next_metrics = self._clock.now() + self._config.metric_interval
                    reached = self._send_metrics(send, self._scrape)
                if last:
                    return
                backoff = 0.0 if reached else min(max(_BACKOFF_FIRST, backoff * 2), _BACKOFF_MOST)
        finally:
            self.dropped += len(self._queue) if self._stopping else 0
            channel.close()

    def _send_spans(self, send: _Sender) -> bool:
        """False when the collector cannot be reached; the spans stay queued for the next try."""
        from wharf.common.otlp_messages import encode_spans  # noqa: PLC0415 see the module's head

        while self._queue:
            batch = [self._queue[at] for at in range(min(len(self._queue), self._config.batch_size))]
            outcome = send(_TRACES, encode_spans(self._config.resource, batch))
            self._note(outcome)
            if outcome.try_again:
                return False
            for _ in batch:
                self._queue.popleft()
            if outcome.problem is None:
                self.exported += len(batch)
            else:
                self.dropped += len(batch)
        return True

    def _send_metrics(self, send: _Sender, scrape: Callable[[], Sequence[Family]]) -> bool:
        from wharf.common.otlp_messages import encode_metrics  # noqa: PLC0415 see the module's head

        try:
            families = scrape()
        except Exception as error:  # a collector's bug must not end the export of spans
            log.error("metrics could not be collected", cause=error)
            return True
        now = self._clock.wall_ns()
        outcome = send(_METRICS, encode_metrics(self._config.resource, families, self._started_ns, now))
        self._note(outcome)
        return not outcome.try_again

    def _note(self, outcome: _Outcome) -> None:
        """One line per change of the collector's state, not one per failure."""
        if (outcome.problem is not None) == self._down:
            return
        self._down = outcome.problem is not None
        if outcome.problem is not None:
            log.warn("telemetry is not being exported", endpoint=self._config.endpoint, error=outcome.problem)
        else:
            log.info("telemetry is being exported again", endpoint=self._config.endpoint, dropped=self.dropped)


@dataclass(frozen=True, slots=True)
class _Outcome:
    problem: str | None  # None: the collector took it
    try_again: bool


class _Sender:
    """One unary call of bytes, its failures as values."""

    def __init__(self, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...], timeout: float) -> None:
        self._channel = channel
        self._metadata = metadata
        self._timeout = timeout

    def __call__(self, method: str, message: bytes) -> _Outcome:
        import grpc  # noqa: PLC0415 see the module's head

        call = self._channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        try:
            call(message, timeout=self._timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            # The retryable codes are OTLP's; anything else is the collector's last word on these bytes.
            code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
            retry = code.name in _RETRYABLE
            return _Outcome(f"{code.name}: {error.details() if isinstance(error, grpc.Call) else error}", retry)
        return _Outcome(None, False)


_RETRYABLE: Final = frozenset(
    ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS", "RESOURCE_EXHAUSTED")
)


def _dial(config: OtlpConfig) -> grpc.Channel:
    import grpc  # noqa: PLC0415 see the module's head

    target = config.endpoint.authority + ("" if config.endpoint.port is not None else f":{DEFAULT_PORT}")
    # Reconnecting is grpc's own affair; its longest pause follows ours.
    options = [("grpc.max_reconnect_backoff_ms", int(_BACKOFF_MOST * 1000)), ("grpc.enable_http_proxy", 0)]
    if config.endpoint.scheme == "https":
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(config.ca_pem), options)
    return grpc.insecure_channel(target, options)


def on_loop(
    loop: asyncio.AbstractEventLoop, scrape: Callable[[], Sequence[Family]], timeout: float = 5.0
) -> Callable[[], Sequence[Family]]:
    """`scrape` as the exporter's thread may call it: run on `loop`'s thread, where what it reads lives."""

    def call() -> Sequence[Family]:
        answer: Future[Sequence[Family]] = Future()

        def run() -> None:
            try:
                answer.set_result(scrape())
            except Exception as error:  # handed to the thread that asked
                answer.set_exception(error)

        loop.call_soon_threadsafe(run)
        return answer.result(timeout)

    return call


def parse_endpoint(text: str) -> Url:
    """An OTLP endpoint: http(s)://host[:port], or host[:port] (plain); the port is 4317 if not given. Or BadValue."""
    url = parse_url(text if "://" in text else f"http://{text}", ("http", "https"))
    return url if url.port is not None else parse_url(f"{url.scheme}://{url.authority}:{DEFAULT_PORT}")
