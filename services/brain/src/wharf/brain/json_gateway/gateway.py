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
from wharf.brain.errors import BrainError
from wharf.brain.json_gateway.call import JsonCall
from wharf.brain.json_gateway.counts import CallCounts
from wharf.brain.json_gateway.headers import BadHeader, comes_from_page, metadata_of, timeout_of
from wharf.brain.json_gateway.marshal import JsonError, parse_message, split_values
from wharf.brain.json_gateway.routes import PREFIX, ROUTES, Route
from wharf.brain.json_gateway.status import refusal
from wharf.wire.http import HttpExchange, Mount
from wharf.wire.rpc import Call, Code, Kind, Method, StreamHandler, UnaryHandler

_BODY_FACTOR: Final = 2  # base64 takes a third more than the bytes, names and quotes come on top


class JsonGateway:
    """See the module. For the loop thread."""

    def __init__(self, methods: Sequence[Method], receive_max: int) -> None:
        """`receive_max`: bytes of a request message, as for gRPC."""
        self._methods = {method.path: method for method in methods}
        self._receive_max = receive_max
        self.counts: dict[str, CallCounts] = {}  # by path of a method, of those that were called
        self._tasks: set[asyncio.Task[None]] = set()
        self.mount: Final = Mount(PREFIX, self.serve, _BODY_FACTOR * receive_max)

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
            try:
                metadata, timeout = metadata_of(request.headers), timeout_of(request.headers)
                messages = self._messages(route, request.body)
            except (BadHeader, JsonError) as error:
                exchange.respond(refusal(Code.INVALID_ARGUMENT, str(error)))
                return
            except TooLarge as error:
                exchange.respond(refusal(error.code, error.text))
                return
            counts = self.counts.setdefault(route.method, CallCounts(method.kind is Kind.UNARY))
            counts.received += len(messages)
            call = JsonCall(
                route.method, route.response, route.server_streams, exchange, metadata, timeout, counts, self._spawn
            )
            _begin(method, cast(Call, call), call, messages)

    def _messages(self, route: Route, body: bytes) -> list[bytes]:
        """The request messages in a body: one, unless clients may stream. JsonError or TooLarge."""
        values = split_values(body)
        if route.client_streams:
            found = [parse_message(route.request, value) for value in values]
        else:
            found = [parse_message(route.request, next(values, {}))]
        messages = [message.SerializeToString() for message in found]
        for message in messages:
            if len(message) > self._receive_max:
                raise TooLarge(len(message), self._receive_max)
        return messages

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class TooLarge(BrainError):
    code = Code.RESOURCE_EXHAUSTED

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.text = f"grpc: received message larger than max ({size} vs. {limit})"


def _begin(method: Method, call: Call, own: JsonCall, messages: list[bytes]) -> None:
    try:
        if method.kind is Kind.UNARY:
            cast(UnaryHandler, method.handler)(messages[0], call)
        else:
            cast(StreamHandler, method.handler)(call)
            own.receive(messages)
    except Exception as error:  # whatever it is, the client gets an answer
        fail(call, error)
