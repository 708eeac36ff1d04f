"""A span per call, for sampled calls only.

A call whose caller sent a sampled W3C context (in metadata), or that the tracer picks, is handed on inside a
`TracedCall`; every other call is handed on as it came and costs one look at its metadata. Without a collector no
method is wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from wharf.common.trace import Span, Tracer
from wharf.wire.rpc import Call, Code, Kind, Metadata, Method

# Codes that say the server failed, by OpenTelemetry's semantic conventions for gRPC servers.
_SERVER_FAULTS = frozenset(
    (Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS)
)


def traced(method: Method, tracer: Tracer) -> Method:
    """`method`, with a span around its sampled calls."""
    name = method.path[1:]
    handler: Any = method.handler

    def unary(data: bytes, call: Call) -> None:
        span = _start(tracer, name, call)
        handler(data, call if span is None else _stand_in(call, span))

    def stream(call: Call) -> None:
        span = _start(tracer, name, call)
        handler(call if span is None else _stand_in(call, span))

    return Method(method.path, method.kind, unary if method.kind is Kind.UNARY else stream)


def _start(tracer: Tracer, name: str, call: Call) -> Span | None:
    parent: bytes | None = None
    state = b""
    for key, value in call.metadata:
        if key == b"traceparent":
            parent = value
        elif key == b"tracestate":
            state = value
    span = tracer.start(name, parent, state)
    if span is not None:
        service, _, method = name.partition("/")
        span.set("rpc.system", "grpc")
        span.set("rpc.service", service)
        span.set("rpc.method", method)
        span.set("client.address", call.peer.address)
    return span


def _stand_in(call: Call, span: Span) -> Call:
    return cast(Call, TracedCall(call, span))


class TracedCall:
    """A call that ends its span when it ends; in everything else the call it stands for."""

    def __init__(self, call: Call, span: Span) -> None:
        object.__setattr__(self, "_call", call)
        object.__setattr__(self, "_span", span)
        call.on_cancel = lambda: self._end(Code.CANCELLED, "")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "on_cancel":
            setattr(self._call, name, lambda: self._cancelled(value))
        else:
            setattr(self._call, name, value)

    def reply(self, message: bytes) -> None:
        self._call.reply(message)
        self._end(Code.OK, "")

    def reply_parts(self, length: int, parts: Iterator[bytes]) -> None:
        """The span ends with the last part."""

        def counted() -> Iterator[bytes]:
            yield from parts
            self._end(Code.OK, "")

        self._call.reply_parts(length, counted())

    def finish(self, code: int = 0, message: str = "", trailing: Metadata = ()) -> None:
        self._call.finish(code, message, trailing)
        self._end(code, message)

    def _cancelled(self, then: Callable[[], None] | None) -> None:
        self._end(Code.CANCELLED, "")
        if then is not None:
            then()

    def _end(self, code: int, message: str) -> None:
        self._span.set("rpc.grpc.status_code", int(code))
        if code in _SERVER_FAULTS:
            self._span.fail(message)
        self._span.end()
