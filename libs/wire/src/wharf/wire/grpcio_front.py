"""The reference front end: the same `Method` table hosted by grpcio.

Owns nothing of the protocol; it adapts grpc.aio's coroutines to `Call`. Slow beside wharf's own server, but written by
others: it is what the wire is compared with. `reply_parts` joins its parts here; bounded memory is the wire's business.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import grpc
import grpc.aio
from wharf.wire.rpc import Code, Kind, Metadata, Method, Peer, PeerCertificate, RpcLimits
from wharf.wire.texts import unknown_method_text

STATUS = {code.value[0]: code for code in grpc.StatusCode}


class GrpcioCall:
    """`Call` over one grpc.aio servicer context."""

    def __init__(self, path: str, context: Any, limits: RpcLimits) -> None:
        self.path = path
        self.peer = _peer(context)
        remaining = context.time_remaining()
        loop = asyncio.get_running_loop()
        self.deadline: float | None = None if remaining is None else loop.time() + remaining
        self.done = False
        self.on_message: Callable[[bytes], None] | None = None
        self.on_half_close: Callable[[], None] | None = None
        self.on_cancel: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self.buffered = 0
        self.writable = True
        self._context = context
        self._limits = limits
        self._out: deque[bytes] = deque()
        self._initial: Metadata | None = None
        self._trailing: Metadata = ()
        self._status: tuple[int, str] = (0, "")
        self._wake = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()

    @property
    def metadata(self) -> Metadata:
        pairs = self._context.invocation_metadata() or ()
        return tuple((_raw(name), _raw(value)) for name, value in pairs if not _raw(name).startswith(b"grpc-"))

    def reply(self, message: bytes) -> None:
        self.send(message)
        self.finish()

    def reply_parts(self, length: int, parts: Iterator[bytes]) -> None:
        try:
            message = b"".join(parts)
        except Exception as error:
            self.finish(Code.UNAVAILABLE, str(error))
            return
        if len(message) != length:
            self.finish(Code.INTERNAL, f"response of {length} bytes ended after {len(message)}")
            return
        self.reply(message)

    def send(self, message: bytes) -> None:
        if self.done:
            return
        self._out.append(message)
        self.buffered += len(message)
        if self.buffered > self._limits.high_water:
            self.writable = False
        self._wake.set()

    def finish(self, code: int = 0, message: str = "", trailing: Metadata = ()) -> None:
        if self.done:
            return
        self.done = True
        self._status = (int(code), message)
        self._trailing = (*self._trailing, *trailing)
        self._wake.set()

    def send_initial_metadata(self, metadata: Metadata) -> None:
        self._initial = metadata
        self._wake.set()

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        self._trailing = (*self._trailing, *metadata)

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    async def run_unary(self, handler: Callable[[bytes, Any], None], request: bytes) -> bytes:
        """Hosts a unary handler; returns its reply, or aborts with its status."""
        try:
            handler(request, self)
            while not self.done:
                await self._wait()
            await self._send_initial()
            if not self._out or self._status[0]:
                await self._close()
            self._set_trailing()
            return self._out.popleft()
        except asyncio.CancelledError:
            self._cancelled()
            raise

    async def run_stream(self, handler: Callable[[Any], None], requests: AsyncIterator[bytes]) -> None:
        """Hosts a streaming handler until it has finished and everything is written."""
        handler(self)
        reader = asyncio.ensure_future(self._read(requests))
        try:
            while not (self.done and not self._out):
                await self._send_initial()
                await self._write()
                if not self.done:
                    await self._wait()
            await self._close()
        except asyncio.CancelledError:
            self._cancelled()
            raise
        finally:
            reader.cancel()

    async def _wait(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        async for message in requests:
            await self._reading.wait()
            if self.done:
                return
            if self.on_message is not None:
                self.on_message(message)
        if not self.done and self.on_half_close is not None:
            self.on_half_close()

    async def _send_initial(self) -> None:
        if self._initial is not None:
            initial, self._initial = self._initial, None
            await self._context.send_initial_metadata(_for_grpcio(initial))

    async def _write(self) -> None:
        while self._out:
            message = self._out.popleft()
            await self._context.write(message)
            self.buffered -= len(message)
            if not self.writable and self.buffered <= self._limits.low_water:
                self.writable = True
                if self.on_drain is not None:
                    self.on_drain()

    def _set_trailing(self) -> None:
        if self._trailing:
            self._context.set_trailing_metadata(_for_grpcio(self._trailing))

    async def _close(self) -> None:
        code, message = self._status
        self._set_trailing()
        if code:
            await self._context.abort(STATUS[code], message, _for_grpcio(self._trailing))

    def _cancelled(self) -> None:
        if not self.done:
            self.done = True
            if self.on_cancel is not None:
                self.on_cancel()


class _Router(grpc.GenericRpcHandler):
    def __init__(self, methods: Mapping[str, Method], limits: RpcLimits) -> None:
        self._methods = methods
        self._limits = limits

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        path: str = handler_call_details.method
        method = self._methods.get(path)
        if method is None:
            return grpc.stream_stream_rpc_method_handler(self._refuse(path))
        if method.kind is Kind.UNARY:
            return grpc.unary_unary_rpc_method_handler(self._unary(method))
        return grpc.stream_stream_rpc_method_handler(self._stream(method))

    def _unary(self, method: Method) -> Any:
        async def serve(request: bytes, context: Any) -> bytes:
            handler: Any = method.handler
            return await GrpcioCall(method.path, context, self._limits).run_unary(handler, request)

        return serve

    def _stream(self, method: Method) -> Any:
        async def serve(requests: AsyncIterator[bytes], context: Any) -> None:
            handler: Any = method.handler
            await GrpcioCall(method.path, context, self._limits).run_stream(handler, requests)

        return serve

    def _refuse(self, path: str) -> Any:
        async def serve(requests: AsyncIterator[bytes], context: Any) -> None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, unknown_method_text(path, self._methods))

        return serve


async def serve_grpcio(
    methods: Mapping[str, Method],
    addresses: list[str],
    *,
    credentials: grpc.ServerCredentials | None = None,
    limits: RpcLimits | None = None,
) -> tuple[grpc.aio.Server, list[int]]:
    """Start a grpc.aio server for `methods`; returns it with the bound port of each "host:port" of `addresses`."""
    limits = limits or RpcLimits()
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", limits.receive_max),
            ("grpc.max_send_message_length", limits.send_max),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.so_reuseport", 0),
        )
    )
    server.add_generic_rpc_handlers((_Router(methods, limits),))
    ports = []
    for address in addresses:
        if credentials is None:
            ports.append(server.add_insecure_port(address))
        else:
            ports.append(server.add_secure_port(address, credentials))
    await server.start()
    return server, ports


def _raw(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _for_grpcio(metadata: Metadata) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((name.decode(), value if name.endswith(b"-bin") else value.decode()) for name, value in metadata)


def _peer(context: Any) -> Peer:
    address = context.peer().partition(":")[2]
    pem = context.auth_context().get("x509_pem_cert")
    return Peer(address=address, certificate=_certificate(pem[0]) if pem else None)


def _certificate(pem: bytes) -> PeerCertificate:
    import ssl  # noqa: PLC0415

    from wharf.wire.certificates import parse_peer_certificate  # noqa: PLC0415 - only TLS listeners pay for it

    return parse_peer_certificate(ssl.PEM_cert_to_DER_cert(pem.decode()))
