"""Wrong calls of the compiled core from Python: each ends in an exception, and the process goes on.

Each case runs in a process of its own, because a core without the check would take pytest down with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

PRELUDE = """
import faulthandler, gc, logging
faulthandler.enable()
logging.disable(logging.CRITICAL)
from wharf.wire._grpc import Call, CallSettings, Route, ServerSession
from wharf.wire._http import HeaderFilter, HttpClientSession, HttpClientStream, HttpServerSession, HttpServerStream
from wharf.wire._nghttp2 import EventSession, NameValues, Session, SessionError, Stream
from wire.pair import STREAM, UNARY, Pair, raw_frame
from wire.web_pair import Chain, Held, Link, answer

HEADERS = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"x")]

def refused(call, *kinds):
    try:
        call()
    except kinds or (TypeError, ValueError, AttributeError, RuntimeError, KeyError) as error:
        return error
    raise AssertionError("nothing was raised")

def each_member(thing):
    \"\"\"Touch and call whatever it offers, with no arguments and with wrong ones.\"\"\"
    for name in dir(type(thing)):
        if name.startswith("__"):
            continue
        try:
            found = getattr(thing, name)
        except Exception:
            continue
        for arguments in ((), (None,), (b"x",), (1,), (1, ()), (b"x", b"y", b"z", ())):
            try:
                found(*arguments)
            except Exception:
                pass
"""

CASES = {
    "more settings than a frame carries": """
        many = tuple((1000 + at, 1) for at in range(10_000))
        refused(lambda: EventSession(False, settings=many), ValueError)
        refused(lambda: EventSession(False, settings=[(3, 1)] * 17), ValueError)
        EventSession(False, settings=[(3, 1)] * 16).pull(1 << 16)
    """,
    "settings and windows that HTTP/2 does not know": """
        refused(lambda: EventSession(False, settings=[(4, 1 << 31)]), ValueError)
        refused(lambda: EventSession(False, settings=[(5, 1)]), ValueError)
        refused(lambda: EventSession(False, settings=[(3, 1 << 40)]), OverflowError)
        refused(lambda: EventSession(False, window=-1), ValueError)
    """,
    "a request after close": """
        for session in (EventSession(False), HttpClientSession(False), EventSession(True)):
            session.close()
            session.close()
        client = EventSession(False)
        client.close()
        refused(lambda: client.request(HEADERS), RuntimeError)
        refused(lambda: client.request(HEADERS, b"body"), RuntimeError)
        web = HttpClientSession(False)
        web.close()
        refused(lambda: web.request(b"GET", b"/", b"x", ()), RuntimeError)
        held = Held()
        link = Link(held)
        request = link.client.request(b"GET", b"/", b"x", ())
        link.run()
        exchange = held.exchanges[0]
        link.server.close()
        link.client.close()
        exchange.respond(200, [(b"a", b"b")])
        exchange.inform(103, ())
        exchange.send(b"x")
        exchange.finish()
        exchange.take(5)
        exchange.abort()
        request.send(b"x")
        request.finish()
        request.reset()
    """,
    "every member of a closed session": """
        link, pair = Link(answer), Pair()
        for session in (EventSession(False), EventSession(True), link.client, link.server, pair.server):
            session.close()
            each_member(session)
            session.clock = lambda: 0.0
            session.ping_interval_min = 10.0
            for _ in range(10):
                session.charge_ping(0.0)
            session.receive(b"x" * 100)
            assert session.pull(100) is None
    """,
    "sessions and streams without __init__": """
        for kind in (Session, EventSession, HttpServerSession, HttpClientSession, ServerSession):
            for server in (True, False):
                each_member(kind.__new__(kind, server))
                session = kind.__new__(kind, server)
                hello = EventSession(not server)
                if server:
                    hello.request(HEADERS)
                try:
                    session.receive(hello.pull(1 << 16) or b"")
                    session.pump()
                    session.pull(1 << 16)
                except (AttributeError, TypeError):
                    pass
                session.close()
        for kind in (Stream, Call, HttpServerStream, HttpClientStream):
            each_member(kind())
        each_member(Route.__new__(Route))
        each_member(CallSettings.__new__(CallSettings))
        refused(lambda: Link(answer).client.forward(HttpServerStream(), HeaderFilter()))
        coupled = HttpClientStream()
        coupled.couple(HttpServerStream(), HeaderFilter())
        each_member(coupled)
    """,
    "a subclass that forgets __init__": """
        class Forgetful(EventSession):
            def __init__(self, server):
                pass
        session = Forgetful(False)
        session.request(HEADERS, b"x")
        assert session.pull(1 << 16)
        session.close()
    """,
    "header fields that are no pairs of bytes": """
        wrong = [None, (b"a",), (b"a", None), (None, b"a"), ("a", "b"), (b"a", b"b", b"c"), [b"a", b"b"], 5, b"ab",
                 iter((b"a" * 100, b"b" * 100))]
        for field in wrong:
            refused(lambda: NameValues([field]), TypeError)
            refused(lambda: EventSession(False).request([*HEADERS, field]), TypeError)
            refused(lambda: HttpClientSession(False).request(b"GET", b"/", b"x", [field]), TypeError)
            refused(lambda: HeaderFilter().apply([field]), TypeError)
            held = Held()
            link = Link(held)
            link.ask()
            refused(lambda: held.exchanges[0].respond(200, [field]), TypeError)
            refused(lambda: held.exchanges[0].inform(103, [field]), TypeError)
        refused(lambda: EventSession(True).refuse_streams(0, None), TypeError)
        refused(lambda: EventSession(True).refuse_streams(0, bytes(100_000)), ValueError)
        refused(lambda: HttpClientSession(False).forward(None, HeaderFilter()), TypeError)
        seen = []
        pair = Pair(lambda message, call: seen.append(call))
        pair.call(UNARY, b"")
        refused(lambda: seen[0].reply(None), TypeError)
        refused(lambda: seen[0].send(None), TypeError)
    """,
    "routes that are none": """
        from wharf.wire.limits import ConnectionLimits
        from wharf.wire.rpc import RpcLimits
        refused(lambda: CallSettings({b"/a": "b"}, RpcLimits(), ConnectionLimits()), TypeError)
        pair = Pair()
        pair.settings.routes[UNARY.encode()] = "not a route"
        refused(lambda: pair.call(UNARY, b""), TypeError)
    """,
    "the table of streams cannot be changed": """
        pair = Pair(lambda message, call: None)
        pair.call(UNARY, b"")
        refused(lambda: pair.server.streams.clear(), AttributeError)
        assert len(pair.server.streams) == 1
    """,
}

HOOKS = {
    "on_start": "pair.settings.on_start = close",
    "on_end": "pair.settings.on_end = close",
    "on_deadline": "pair.server.on_deadline = close",
    "handler": "pair = Pair(close, close)",
    "on_message": "pair = Pair(stream=lambda call: setattr(call, 'on_message', close))",
    "clock": "pair.settings.on_start = lambda call: None; pair.server.clock = lambda: close() or 0.0",
    "write": "pair.server.write = close",
    "on_pumped": "pair.server.on_pumped = close",
    "reply_parts": """
def parts():
    yield b"x" * 1000
    close()
    yield b"x" * 100_000
pair = Pair(lambda message, call: call.reply_parts(101_000, parts()))
""",
}


def run(script: str) -> None:
    """The script in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])


@pytest.mark.parametrize("case", CASES)
def test_misuse_raises(case: str) -> None:
    run(CASES[case])


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_may_close_its_session(hook: str) -> None:
    run(
        "pair = Pair()\ndef close(*_):\n    pair.server.close()\n    gc.collect()\n"
        + HOOKS[hook]
        + dedent(
            """
            others = [pair.client.request(pair.headers(STREAM), end=False) for _ in range(3)]
            pair.client.request(pair.headers(UNARY, (b"grpc-timeout", b"1S")), b"\\0\\0\\0\\0\\1x")
            for stream_id in others:
                pair.client.send(stream_id, b"\\0\\0\\0\\0\\1x")
            said = pair.client.pull(1 << 20)
            pair.server.receive(said)
            gc.collect()
            pair.server.pump()
            for _ in range(10):
                pair.server.pull(1 << 20)
            pair.server.receive(said)
            assert pair.server.finished
            assert pair.server.pull(100) is None
            """
        )
    )


def test_a_stream_may_answer_while_its_session_closes() -> None:
    run(
        """
        calls = []
        pair = Pair(lambda message, call: calls.append(call))
        for _ in range(3):
            pair.call(UNARY, b"")
        def end(call, code):
            pair.server.close()
            for other in calls:
                other.reply(b"late")
                other.finish(13, "late")
                other.reset()
        pair.settings.on_end = end
        calls[1].reply(b"first")
        pair.server.close()
        pair.server.pump()
        """
    )


def test_a_hook_inside_nghttp2_may_not_enter_it_again() -> None:
    run(
        """
        pair = Pair()
        errors = []
        def again(*_):
            errors.append(refused(lambda: pair.server.receive(b""), RuntimeError))
            errors.append(refused(lambda: pair.server.pull(100), RuntimeError))
            pair.server.pump()
        pair.settings.on_start = again
        assert pair.call(UNARY, b"x").code == 0
        assert len(errors) == 2
        def parts():
            again()
            yield b"abc"
        other = Pair(lambda message, call: call.reply_parts(3, parts()))
        pair = other
        assert pair.call(UNARY, b"x").messages == [b"abc"]
        """
    )
