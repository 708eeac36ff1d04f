"""Serves etcd's JSON paths by calling the method table in process.

The methods are those that gRPC clients get, with all that stands in front of them: authentication, read barriers,
forwarding, traces. Nothing is checked here that is not about HTTP or JSON.

A body is read whole before its messages are handed over, so a client cannot send more on a stream that is open: etcd's
own gateway allows it over WebSockets only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, cast

from wharf.brain.api.service import fail
from wharf.brain.json_gateway.bodies import Bodies, BodyLimits
from wharf.brain.json_gateway.call import JsonCall
from wharf.brain.json_gateway.counts import CallCounts, CallObserver
from wharf.brain.json_gateway.headers import BadHeader, comes_from_page, metadata_of, timeout_of
from wharf.brain.json_gateway.routes import PREFIX, ROUTES, Route
from wharf.brain.json_gateway.status import refusal
from wharf.wire.http import HttpExchange, Mount
from wharf.wire.rpc import Call, Code, Kind, Metadata, Method, StreamHandler, UnaryHandler


class JsonGateway:
    """See the module. For the loop thread."""

    def __init__(self, methods: Sequence[Method], limits: BodyLimits, observer: CallObserver | None = None) -> None:
        """`observer` is called at the start and the end of each call."""
        self._methods = {method.path: method for method in methods}
        self._observer = observer
        self._bodies = Bodies(limits, self._spawn)
        self.counts: dict[str, CallCounts] = {}  # by path of a method, of those that were called
        self._tasks: set[asyncio.Task[None]] = set()
        self.mount: Final = Mount(PREFIX, self.serve, limits.body_max)

    async def close(self) -> None:
        """Once nothing is served any more: wait for what still runs."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def serve(self, exchange: HttpExchange) -> None:
        """Answer one request of a path below `PREFIX`, now or later."""
        request = exchange.request
        route = ROUTES.get(request.path)
        method = None if route is None else self._methods.get(route.method)
        if comes_from_page(request.headers):
            exchange.respond(
                refusal(Code.PERMISSION_DENIED, "requests of web pages (with an Origin header) are refused")
            )
        elif route is None or method is None:
            exchange.respond(refusal(Code.NOT_FOUND, "Not Found"))
        elif request.method != "POST":
            exchange.respond(refusal(Code.UNIMPLEMENTED, "Method Not Allowed"))
        else:
            self._serve_call(route, method, exchange)

    def _serve_call(self, route: Route, method: Method, exchange: HttpExchange) -> None:
        wrong = ""
        metadata: Metadata = ()
        timeout = None
        try:
            metadata, timeout = metadata_of(exchange.request.headers), timeout_of(exchange.request.headers)
        except BadHeader as error:
            wrong = str(error)
        counts = self.counts.setdefault(route.method, CallCounts(method.kind is Kind.UNARY))
        call = JsonCall(route, exchange, metadata, timeout, counts, self._spawn, self._observer)
        if wrong:
            call.finish(Code.INVALID_ARGUMENT, wrong)
            return

        def begin(messages: list[bytes]) -> None:
            counts.received += len(messages)
            _begin(method, cast(Call, call), call, messages)

        self._bodies.read(route, exchange.request, call, begin)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _begin(method: Method, call: Call, own: JsonCall, messages: list[bytes]) -> None:
    try:
        if method.kind is Kind.UNARY:
            cast(UnaryHandler, method.handler)(messages[0], call)
        else:
            cast(StreamHandler, method.handler)(call)
            own.receive(messages)
    except Exception as error:  # whatever it is, the client gets an answer
        fail(call, error)
