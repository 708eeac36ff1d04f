"""The wire and grpcio host the same methods; one raw client sees the same of both: messages, metadata, codes, texts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop
from wharf.wire.grpcio_front import serve_grpcio
from wharf.wire.rpc import Call, Code, Kind, Method, RpcLimits
from wharf.wire.server import GrpcServer, ListenerConfig

LIMITS = RpcLimits(receive_max=100_000)


def _fail(message: bytes, call: Call) -> None:
    code, _, text = message.partition(b" ")
    call.finish(int(code), text.decode(), ((b"why", b"asked"), (b"raw-bin", b"\x00\xff")))


def _metadata(message: bytes, call: Call) -> None:
    mine = [(name, value) for name, value in call.metadata if name.startswith(b"x-")]
    call.send_initial_metadata(mine)
    call.set_trailing_metadata(mine)
    call.reply(repr(sorted(mine)).encode())


def _echo_stream(call: Call) -> None:
    call.on_message = call.send
    call.on_half_close = lambda: call.finish(0, "", ((b"end", b"yes"),))


def _sum_stream(call: Call) -> None:
    sizes: list[int] = []
    call.on_message = lambda message: sizes.append(len(message))
    call.on_half_close = lambda: call.reply(str(sum(sizes)).encode())


def _half_then_fail(call: Call) -> None:
    call.send(b"one")
    call.on_half_close = lambda: call.finish(Code.OUT_OF_RANGE, "no more — schade")


METHODS = {
    method.path: method
    for method in (
        Method("/t.S/Echo", Kind.UNARY, lambda message, call: call.reply(message)),
        Method("/t.S/Fail", Kind.UNARY, _fail),
        Method("/t.S/Metadata", Kind.UNARY, _metadata),
        Method("/t.S/Parts", Kind.UNARY, lambda message, call: call.reply_parts(4, iter([b"ab", b"cd"]))),
        Method("/t.S/EchoStream", Kind.STREAM, _echo_stream),
        Method("/t.S/Sum", Kind.STREAM, _sum_stream),
        Method("/t.S/HalfThenFail", Kind.STREAM, _half_then_fail),
    )
}
Metadata = list[tuple[str, str | bytes]]
Asked = tuple[str, list[bytes], Metadata, grpc.Compression]


def asked(
    path: str, *messages: bytes, metadata: Metadata | None = None, compression: Any = grpc.Compression.NoCompression
) -> Asked:
    return path, list(messages), metadata or [], compression


QUESTIONS = [
    asked("/t.S/Echo", b""),
    asked("/t.S/Echo", b"x" * 100_000),
    asked("/t.S/Echo", b"gzip" * 1000, compression=grpc.Compression.Gzip),
    *[asked("/t.S/Fail", b"%d text %d" % (code, code)) for code in range(1, 17)],
    asked("/t.S/Fail", "13 Ünïcode\n\t % %41 \U0001f40b".encode()),
    asked("/t.S/Fail", b"5 "),
    asked("/t.S/Metadata", b"", metadata=[("x-a", "1"), ("x-a", "2"), ("x-b-bin", b"\x00\x01\xff")]),
    asked("/t.S/Parts", b""),
    asked("/t.S/EchoStream"),
    asked("/t.S/EchoStream", b"a", b"", b"c" * 50_000),
    asked("/t.S/Sum", *[b"x" * size for size in range(20)]),
    asked("/t.S/HalfThenFail"),
    asked("/t.S/Nope", b""),
    asked("/t.X/Echo", b""),
]


async def ask(port: int, question: Asked) -> tuple[Any, ...]:
    """Everything a client sees of one call."""
    path, messages, metadata, compression = question

    async def requests() -> AsyncIterator[bytes]:
        for message in messages:
            yield message

    to: Any = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    async with to as channel:
        options: Any = {"metadata": metadata, "compression": compression, "timeout": 10}
        call: Any  # a lone message goes out with the call: who still writes to an ended call gets its own error
        if len(messages) == 1:
            call = channel.unary_stream(path)(messages[0], **options)
        else:
            call = channel.stream_stream(path)(requests(), **options)
        received = []
        try:
            async for message in call:
                received.append(message)
        except grpc.aio.AioRpcError:
            pass
        initial = [item for item in await call.initial_metadata() or () if item[0].startswith("x-")]
        kept = ("x-", "why", "raw-bin", "end")
        trailing = [item for item in await call.trailing_metadata() or () if item[0].startswith(kept)]
        return received, sorted(initial), sorted(trailing), await call.code(), await call.details()


async def serve_wire() -> tuple[int, Callable[[], Any]]:
    server = GrpcServer(METHODS, [ListenerConfig()], rpc_limits=LIMITS)
    await server.start()
    return server.ports[0], server.close


async def serve_reference() -> tuple[int, Callable[[], Any]]:
    server, ports = await serve_grpcio(METHODS, ["127.0.0.1:0"], limits=LIMITS)
    return ports[0], lambda: server.stop(0)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: f"{question[0]} {question[1][:1]}"[:40])
def test_both_fronts_say_the_same(question: Asked) -> None:
    async def main() -> list[tuple[Any, ...]]:
        answers = []
        for serve in (serve_wire, serve_reference):
            port, close = await serve()
            answers.append(await ask(port, question))
            await close()
        return answers

    wire, reference = uvloop.run(main())
    assert wire == reference


@pytest.mark.parametrize("serve", [serve_wire, serve_reference])
def test_too_large_a_message_is_the_same_error(serve: Any) -> None:
    """grpcio's text is its own; the code is the protocol's."""

    async def main() -> Any:
        port, close = await serve()
        answer = await ask(port, asked("/t.S/Echo", bytes(100_001)))
        await close()
        return answer

    assert uvloop.run(main())[3] == grpc.StatusCode.RESOURCE_EXHAUSTED
