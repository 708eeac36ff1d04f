"""How a handler becomes a served method: every error has an answer, and nothing a client sends ends the process.

Handlers raise BrainError and think no further; the guard turns it into the call's status. Anything else raised is a
defect of ours: it is logged with its traceback and the client gets INTERNAL, on this call only.
"""

from __future__ import annotations

from collections.abc import Callable

from wharf.brain.errors import BrainError
from wharf.common.log import get_log
from wharf.wire.rpc import Call, Code, Kind, Method, StreamHandler, UnaryHandler

_log = get_log("brain.api")


def fail(call: Call, error: BaseException) -> None:
    """End `call` with what `error` says."""
    if isinstance(error, BrainError):
        call.finish(error.code, error.text)
        return
    _log.error("a request handler failed", cause=error, method=call.path)
    call.finish(Code.INTERNAL, "etcdserver: internal error, see the server's log")


def unary(path: str, handler: UnaryHandler) -> Method:
    def guarded(data: bytes, call: Call) -> None:
        try:
            handler(data, call)
        except Exception as error:  # whatever it is, the client gets an answer
            fail(call, error)

    return Method(path, Kind.UNARY, guarded)


def stream(path: str, handler: StreamHandler) -> Method:
    def guarded(call: Call) -> None:
        try:
            handler(call)
        except Exception as error:  # as above
            fail(call, error)

    return Method(path, Kind.STREAM, guarded)


def guard(call: Call, callback: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The same net under what a stream calls later."""

    def guarded(data: bytes) -> None:
        try:
            callback(data)
        except Exception as error:  # as above
            fail(call, error)

    return guarded


def listen(call: Call, callback: Callable[[bytes], None], on_drain: Callable[[], None] | None = None) -> None:
    """Have `callback` take the messages of a stream whose every message may be answered, guarded.

    Who does not read the answers is not listened to until he has: what a client can make the server hold is bounded.
    """
    guarded = guard(call, callback)

    def on_message(data: bytes) -> None:
        guarded(data)
        if not call.writable and not call.done:
            call.pause_reading()

    def drained() -> None:
        call.resume_reading()
        if on_drain is not None:
            on_drain()

    call.on_message = on_message
    call.on_drain = drained


def server_stream(path: str, handler: UnaryHandler) -> Method:
    """A method with one request message and a stream of answers: the handler gets the request when it is whole."""

    def opened(call: Call) -> None:
        received: list[bytes] = []

        def on_message(data: bytes) -> None:
            received.append(data)
            if len(received) > 1:
                call.finish(Code.INTERNAL, "too many request messages")
                return
            handler(data, call)

        def on_half_close() -> None:
            if not received:
                call.finish(Code.INTERNAL, "EOF")

        call.on_message = guard(call, on_message)
        call.on_half_close = on_half_close

    return stream(path, opened)
