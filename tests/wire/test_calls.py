"""gRPC calls between two cores: what a handler says is what the client sees, and every wrong request has its answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.wire import grpc
from wharf.wire.rpc import Code, RpcLimits
from wire.pair import STREAM, UNARY, Pair


def test_unary_reply() -> None:
    pair = Pair(lambda message, call: call.reply(b"<" + message + b">"))
    answer = pair.call(UNARY, b"hi")
    assert (answer.code, answer.messages, answer.error_code) == (Code.OK, [b"<hi>"], 0)
    assert answer.headers == {b":status": b"200", b"content-type": b"application/grpc"}
    assert pair.server.streams == {}


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(1, 20))
@settings(max_examples=50)
def test_messages_survive_any_cut_into_data_frames(messages: list[bytes], size: int) -> None:
    seen: list[bytes] = []

    def handler(call: Any) -> None:
        call.on_message = seen.append
        call.on_half_close = call.finish

    pair = Pair(stream=handler)
    stream_id = pair.open(STREAM)
    body = b"".join(grpc.frame(message) for message in messages)
    for at in range(0, len(body), size):
        pair.client.send(stream_id, body[at : at + size])
        pair.exchange()
    pair.client.send(stream_id, b"", True)
    pair.exchange()
    assert seen == messages
    assert pair.answer(stream_id).code == Code.OK


@pytest.mark.parametrize("size", [0, 1, 8192, 8193, 16384, 65536, 2_000_000])
def test_replies_of_all_sizes(size: int) -> None:
    pair = Pair(client_window=1 << 20, connection_window=1 << 20)
    body = bytes(range(256)) * (size // 256 + 1)
    assert pair.call(UNARY, body[:size]).messages == [body[:size]]


def test_reply_later() -> None:
    waiting: list[Any] = []
    pair = Pair(lambda message, call: waiting.append(call))
    answer = pair.call(UNARY, b"")
    assert not answer.ended
    assert not answer.headers
    waiting[0].reply(b"late")
    pair.exchange()
    assert pair.answer(1).messages == [b"late"]
    waiting[0].reply(b"again")
    waiting[0].finish(Code.INTERNAL, "ignored")
    pair.exchange()
    assert pair.answer(1).messages == [b"late"]


def test_error_is_trailers_only() -> None:
    pair = Pair(
        lambda message, call: call.finish(Code.NOT_FOUND, "kein Schlüssel 100%", ((b"k", b"v"), (b"b-bin", b"\0")))
    )
    answer = pair.call(UNARY, b"")
    assert (answer.code, answer.text, answer.trailers, answer.body) == (Code.NOT_FOUND, "kein Schlüssel 100%", {}, b"")
    assert answer.headers[b"k"] == b"v"
    assert answer.headers[b"b-bin"] == b"AA"


def test_metadata_both_ways() -> None:
    seen: list[Any] = []

    def handler(message: bytes, call: Any) -> None:
        seen.extend(call.metadata)
        call.send_initial_metadata([(b"first", b"1")])
        call.set_trailing_metadata([(b"last-bin", b"\xff")])
        call.reply(b"")

    answer = Pair(handler).call(UNARY, b"", extra=((b"a", b"b"), (b"c-bin", b"Ag"), (b"grpc-timeout", b"1S")))
    assert seen == [(b"a", b"b"), (b"c-bin", b"\x02")]
    assert answer.headers[b"first"] == b"1"
    assert answer.trailers[b"last-bin"] == b"/w"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/test.Service/Nope", "unknown method Nope for service test.Service"),
        ("/test.Other/Unary", "unknown service test.Other"),
        ("/x", 'malformed method name: "/x"'),
    ],
)
def test_unknown_paths(path: str, text: str) -> None:
    answer = Pair().call(path, b"")
    assert (answer.code, answer.text) == (Code.UNIMPLEMENTED, text)


def test_message_above_the_limit() -> None:
    pair = Pair(rpc_limits=RpcLimits(receive_max=10))
    answer = pair.call(UNARY, b"x" * 11)
    assert (answer.code, answer.text) == (
        Code.RESOURCE_EXHAUSTED,
        "grpc: received message larger than max (11 vs. 10)",
    )
    assert pair.call(UNARY, b"x" * 10).code == Code.OK


def test_answer_above_the_limit() -> None:
    pair = Pair(lambda message, call: call.reply(bytes(11)), rpc_limits=RpcLimits(send_max=10))
    assert pair.call(UNARY, b"").text == "grpc: trying to send message larger than max (11 vs. 10)"


def test_an_early_error_asks_the_client_to_stop() -> None:
    pair = Pair(rpc_limits=RpcLimits(receive_max=10))
    stream_id = pair.open(UNARY)
    pair.send(stream_id, b"x" * 11)
    answer = pair.answer(stream_id)
    assert (answer.code, answer.error_code) == (Code.RESOURCE_EXHAUSTED, 0)


@pytest.mark.parametrize("messages", [(), (b"a", b"b")])
def test_a_unary_call_has_one_message(messages: tuple[bytes, ...]) -> None:
    assert Pair().call(UNARY, *messages).code == Code.INTERNAL


@pytest.mark.parametrize("body", [b"\0\0\0", b"\0\0\0\0\5abc", b"\2\0\0\0\0", b"\1\0\0\0\0"])
def test_broken_framing(body: bytes) -> None:
    pair = Pair()
    assert pair.call_raw(pair.headers(UNARY), body).code == Code.INTERNAL


def test_gzip_is_answered_with_gzip() -> None:
    pair = Pair()
    headers = pair.headers(UNARY, (b"grpc-encoding", b"gzip"))
    answer = pair.call_raw(headers, grpc.frame(grpc.compress(b"hello" * 100), compressed=True))
    assert answer.headers[b"grpc-encoding"] == b"gzip"
    assert answer.body[0] == 1
    assert answer.messages == [b"hello" * 100]


def test_unknown_encoding() -> None:
    answer = Pair().call(UNARY, b"", extra=((b"grpc-encoding", b"br"),))
    assert answer.code == Code.UNIMPLEMENTED
    assert answer.text == 'grpc: Decompressor is not installed for grpc-encoding "br"'
    assert answer.headers[b"grpc-accept-encoding"] == b"identity,gzip"


def test_gzip_bomb() -> None:
    pair = Pair(rpc_limits=RpcLimits(receive_max=1000))
    headers = pair.headers(UNARY, (b"grpc-encoding", b"gzip"))
    answer = pair.call_raw(headers, grpc.frame(grpc.compress(bytes(100_000)), compressed=True))
    assert answer.code == Code.RESOURCE_EXHAUSTED


def test_deadline() -> None:
    told: list[str] = []

    def handler(message: bytes, call: Any) -> None:
        assert call.deadline == pytest.approx(1000.25)
        call.on_cancel = lambda: told.append("cancelled")

    pair = Pair(handler)
    pair.call(UNARY, b"", extra=((b"grpc-timeout", b"250m"),))
    assert pair.server.next_deadline == pytest.approx(1000.25)
    pair.server.expire(1000.2)
    pair.exchange()
    assert told == []
    pair.server.expire(1000.3)
    pair.exchange()
    assert told == ["cancelled"]
    assert (pair.answer(1).code, pair.answer(1).text) == (Code.DEADLINE_EXCEEDED, "context deadline exceeded")
    assert pair.server.next_deadline > 1e9
    assert pair.routes[UNARY].handled[Code.DEADLINE_EXCEEDED] == 1


def test_malformed_timeout() -> None:
    answer = Pair().call(UNARY, b"", extra=((b"grpc-timeout", b"soon"),))
    assert (answer.code, answer.text) == (Code.INTERNAL, "malformed grpc-timeout: soon")


def test_cancel_is_told_once_and_later_words_are_ignored() -> None:
    told: list[Any] = []
    calls: list[Any] = []

    def handler(call: Any) -> None:
        calls.append(call)
        call.on_cancel = lambda: told.append(call.done)

    pair = Pair(stream=handler)
    stream_id = pair.open(STREAM)
    pair.client.reset(stream_id)
    pair.exchange()
    calls[0].send(b"x")
    calls[0].finish()
    pair.exchange()
    pair.server.close()
    assert told == [True]
    assert pair.routes[STREAM].handled[Code.CANCELLED] == 1


def test_a_lost_connection_cancels_every_call() -> None:
    told: list[int] = []

    def handler(call: Any) -> None:
        call.on_cancel = lambda: told.append(call.id)

    pair = Pair(stream=handler)
    ids = [pair.open(STREAM) for _ in range(3)]
    pair.server.close()
    assert told == ids
    assert pair.server.streams == {}


def test_bidirectional_stream_keeps_order() -> None:
    def handler(call: Any) -> None:
        call.on_message = lambda message: call.send(message.upper())
        call.on_half_close = lambda: call.finish(0, "", ((b"k", b"v"),))

    pair = Pair(stream=handler)
    stream_id = pair.open(STREAM)
    pair.send(stream_id, b"a", b"b")
    assert pair.answer(stream_id).messages == [b"A", b"B"]
    pair.send(stream_id, b"c", end=True)
    answer = pair.answer(stream_id)
    assert (answer.messages, answer.code, answer.trailers[b"k"]) == ([b"A", b"B", b"C"], Code.OK, b"v")


def test_pause_and_resume() -> None:
    seen: list[bytes] = []
    calls: list[Any] = []

    def handler(call: Any) -> None:
        calls.append(call)

        def take(message: bytes) -> None:
            seen.append(message)
            call.pause_reading()

        call.on_message = take
        call.on_half_close = lambda: seen.append(b"end")

    pair = Pair(stream=handler)
    stream_id = pair.open(STREAM)
    pair.send(stream_id, b"1", b"2", end=True)
    assert seen == [b"1"]
    for expected in ([b"1", b"2"], [b"1", b"2", b"end"]):
        calls[0].resume_reading()
        pair.exchange()
        assert seen == expected


@pytest.mark.parametrize("path", [UNARY, STREAM])
def test_a_handler_that_raises_is_an_internal_error(path: str) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret")

    answer = Pair(fail, fail).call(path, b"")
    assert (answer.code, answer.text) == (Code.INTERNAL, "internal error")


def test_reply_parts_are_one_message() -> None:
    pair = Pair(lambda message, call: call.reply_parts(6, iter([b"ab", b"", b"cdef"])))
    assert pair.call(UNARY, b"").messages == [b"abcdef"]
    assert Pair(lambda message, call: call.reply_parts(0, iter([]))).call(UNARY, b"").messages == [b""]


@pytest.mark.parametrize("parts", [[b"abc"], [b"abcdefg"]])
def test_parts_that_do_not_add_up_reset_the_stream(parts: list[bytes]) -> None:
    pair = Pair(lambda message, call: call.reply_parts(6, iter(parts)))
    answer = pair.call(UNARY, b"")
    assert answer.error_code not in (None, 0)
    assert pair.call(STREAM, b"").error_code is None, "the connection lives on"


def test_hooks_and_counters() -> None:
    seen: list[Any] = []
    pair = Pair()
    pair.settings.on_start = lambda call: seen.append(call.path)
    pair.settings.on_end = lambda call, code: seen.append(code)
    pair.call(UNARY, b"x")
    pair.call(UNARY)
    pair.call("/a/b", b"")
    route = pair.routes[UNARY]
    assert seen == [UNARY, 0, UNARY, Code.INTERNAL, "/a/b", Code.UNIMPLEMENTED]
    assert (route.started, route.messages_in, route.messages_out) == (2, 1, 1)
    assert (route.handled[0], route.handled[13]) == (1, 1)
    assert pair.settings.unknown.handled[Code.UNIMPLEMENTED] == 1


@pytest.mark.parametrize("content_type", [b"application/grpc+proto", b"application/grpc;charset=utf-8"])
def test_kinds_of_grpc_content(content_type: bytes) -> None:
    pair = Pair()
    headers = [(n, content_type if n == b"content-type" else v) for n, v in pair.headers(UNARY)]
    assert pair.call_raw(headers, grpc.frame(b"x")).code == Code.OK


def test_other_content_is_plain_http() -> None:
    pair = Pair()
    headers = [(n, b"application/grpcx" if n == b"content-type" else v) for n, v in pair.headers(UNARY)]
    assert pair.call_raw(headers, b"x").headers[b":status"] == b"415"
    assert pair.call_raw(pair.headers(UNARY, method=b"GET"), b"").headers[b":status"] == b"405"


@pytest.mark.parametrize("hook", ["on_start", "on_end", "on_deadline"])
def test_a_hook_that_raises_costs_at_most_its_own_call(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair()

    def fail(*_: Any) -> None:
        raise RuntimeError("telemetry is broken")

    waiting = pair.open(STREAM)
    setattr(pair.server if hook == "on_deadline" else pair.settings, hook, fail)
    answer = pair.call(UNARY, b"x", extra=[(b"grpc-timeout", b"1S")])
    assert answer.code == (Code.OK if hook == "on_end" else Code.INTERNAL)
    assert "telemetry is broken" in caplog.text
    assert pair.server.failure is None
    pair.settings.on_start = pair.settings.on_end = pair.server.on_deadline = None
    assert pair.call(UNARY, b"x").messages == [b"x"]
    assert list(pair.server.streams) == [waiting]
    pair.server.abort_calls(Code.UNAVAILABLE, "the end")
    pair.exchange()
    assert pair.answer(waiting).code == Code.UNAVAILABLE


def test_a_plain_handler_that_raises_answers_500() -> None:
    pair = Pair()

    def fail(_: Any) -> None:
        raise RuntimeError("broken")

    pair.settings.on_plain = fail
    headers = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"test")]
    assert pair.call_raw(headers, b"").headers[b":status"] == b"500"


def test_trailers_that_do_not_fit_reset_their_call_alone() -> None:
    def handler(message: bytes, call: Any) -> None:
        call.set_trailing_metadata([(b"big", b"x" * (1 << 21))])
        call.reply(message)

    pair = Pair(handler)
    answer = pair.call(UNARY, b"x")
    assert answer.error_code == 2
    assert pair.server.streams == {}
    assert pair.server.failure is None
