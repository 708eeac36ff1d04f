"""Attacks against the listener of a real process: each ends in the protocol's own form, costs bounded memory, is
counted, reaches no server, and leaves the next client unharmed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest
from harness.daemon import LOOPBACK
from integration.gateway_kit import Instance, Upstream, ask, eventually
from integration.gateway_raw import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Field,
    Raw,
    block,
    pseudo,
)
from wire.pair import raw_frame
from wire.test_http1_refused import REFUSED

PROTOCOL_ERROR, ENHANCE_YOUR_CALM = 1, 11
MEMORY = 48 << 20  # what an attack may leave behind, allocator's slack included
OLD = "other"  # the cluster that is reached by HTTP/1.1
IDLE, IDLE_TLS = 4000, 200  # connections
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    folder = tmp_path_factory.mktemp("attacked")
    with Upstream(folder / "upstream") as upstream:
        made = Instance(folder / "gateway", upstream)
        old = upstream.document(hostnames=[OLD])
        old["metadata"]["name"] = "old"
        old["spec"]["upstream"]["protocol"] = "HTTP1"
        made.put(old)
        with made:
            yield made
            assert "Traceback" not in made.said()


@contextmanager
def harmless(gateway: Instance, memory: int = MEMORY) -> Iterator[None]:
    """Afterwards good clients are served, old and new, nothing was smuggled, and the memory is as it was."""
    server = gateway.upstream.server
    with closing(gateway.client()) as kept:
        assert ask(kept).status == 200
        before, asked = gateway.rss(), len(server.requests)
        yield
        assert gateway.rss() - before < memory
        assert ask(kept).status == 200, "the neighbours' connections live"
        assert gateway.get().status == 200
        seen = server.requests[asked:]
        assert not [one for one in seen if b"smuggled" in one.target]
        assert all(one.values(b"x-remote-user") == [b"alice"] for one in seen)


def raw(gateway: Instance, alpn: str = "h2", name: str = "localhost") -> Raw:
    pki = gateway.upstream.pki
    return Raw(gateway.port, pki.authority.ca_file, alpn, pki.alice, name)


def ended(gateway: Instance) -> float:
    """Connections that broke the protocol or one of its limits."""
    names = ("wharf_gateway_client_abuse_total", "wharf_gateway_client_protocol_errors_total")
    return sum(gateway.metric(name) for name in names)


HEAD = block(pseudo())
BOMB = b"\x40\x01a\x7f\xe1\x06" + b"x" * 992 + b"\xbe" * 15_000  # a kilobyte in the table, referred to by single bytes


def cancelled(number: int) -> bytes:
    """A request and its end."""
    stream_id = 3 + 2 * number
    return raw_frame(HEADERS, END_HEADERS, stream_id, HEAD) + raw_frame(RST_STREAM, 0, stream_id, b"\0\0\0\x08")


def broken(number: int) -> bytes:
    """A request that makes the server reset it."""
    return raw_frame(HEADERS, END_HEADERS, 3 + 2 * number, b"\x82\x82")


def many(make: Callable[[int], bytes], count: int = 500) -> Callable[[int], bytes]:
    """Pieces of so many frames."""
    return lambda number: b"".join(make(number * count + at) for at in range(count))


FLOODS: dict[str, Callable[[int], bytes]] = {
    "SETTINGS": many(lambda _: raw_frame(SETTINGS, 0, 0)),
    "SETTINGS with values": many(lambda at: raw_frame(SETTINGS, 0, 0, b"\0\x03" + (at % 999).to_bytes(4, "big"))),
    "SETTINGS acknowledged": many(lambda _: raw_frame(SETTINGS, ACK, 0)),
    "PING": many(lambda _: raw_frame(PING, 0, 0, bytes(8))),
    "PING acknowledged": many(lambda _: raw_frame(PING, ACK, 0, bytes(8))),
    "empty DATA": many(lambda _: raw_frame(DATA, 0, 1)),
    "padding for DATA": many(lambda _: raw_frame(DATA, 8, 1, b"\x03\0\0\0")),
    "PRIORITY": many(lambda _: raw_frame(PRIORITY, 0, 1, b"\0\0\0\0\x10")),
    "WINDOW_UPDATE": many(lambda _: raw_frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")),
    "unknown frames": many(lambda _: raw_frame(0xBB, 0, 0, b"unknown")),
    "rapid reset": many(cancelled, 100),
    "requests that are reset": many(broken, 100),
    "CONTINUATION": many(lambda at: raw_frame(CONTINUATION if at else HEADERS, 0, 3, HEAD if not at else b""), 50),
    "header bombs": lambda at: raw_frame(HEADERS, END_STREAM | END_HEADERS, 3 + 2 * at, BOMB),
}


@pytest.mark.parametrize("name", sorted(FLOODS))
def test_floods_of_http2_end_their_connection(gateway: Instance, name: str) -> None:
    with harmless(gateway), raw(gateway) as attacker:
        before = ended(gateway)
        attacker.open()
        attacker.send(raw_frame(HEADERS, END_HEADERS, 1, block(pseudo(b"/api/v1/upload", b"POST"))))
        attacker.flood(FLOODS[name], 200)
        assert attacker.goaway() in (None, PROTOCOL_ERROR if name in NEVER else ENHANCE_YOUR_CALM)
        eventually(lambda: ended(gateway) == before + 1, "it is not counted")


NEVER = ("SETTINGS acknowledged",)  # the first that nobody asked for is an error already

MALFORMED = {
    "DATA on no stream": raw_frame(DATA, 0, 0, b"x"),
    "DATA on an idle stream": raw_frame(DATA, 0, 9, b"x"),
    "HEADERS on a stream of the server": raw_frame(HEADERS, END_HEADERS, 2, HEAD),
    "HEADERS on no stream": raw_frame(HEADERS, END_HEADERS, 0, HEAD),
    "SETTINGS on a stream": raw_frame(SETTINGS, 0, 1),
    "SETTINGS in pieces": raw_frame(SETTINGS, 0, 0, b"abc"),
    "a window past all bounds": raw_frame(SETTINGS, 0, 0, b"\0\x04\xff\xff\xff\xff"),
    "PING too short": raw_frame(PING, 0, 0, b"abc"),
    "no increment": raw_frame(WINDOW_UPDATE, 0, 0, bytes(4)),
    "RST_STREAM of nothing": raw_frame(RST_STREAM, 0, 99, bytes(4)),
    "CONTINUATION of nothing": raw_frame(CONTINUATION, END_HEADERS, 1, b""),
    "PUSH_PROMISE": raw_frame(5, END_HEADERS, 1, b"\0\0\0\2" + HEAD),
    "GOAWAY on a stream": raw_frame(GOAWAY, 0, 1, bytes(8)),
    "a frame too long": b"\xff\xff\xff" + raw_frame(DATA, 0, 1)[3:],
    "an index of no entry": raw_frame(HEADERS, END_HEADERS, 3, b"\xff\xff\xff\xff\xff"),
    "a table too large": raw_frame(HEADERS, END_HEADERS, 3, b"\x3f\xff\xff\xff\x07"),
    "a block cut off": raw_frame(HEADERS, END_HEADERS, 3, HEAD[:-3]),
    "another stream inside a block": raw_frame(HEADERS, 0, 3, HEAD) + raw_frame(HEADERS, END_HEADERS, 5, HEAD),
    "padding longer than the frame": raw_frame(DATA, 8, 1, b"\x09x"),
    "not HTTP/2 at all": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def test_malformed_frames_end_their_connection_with_an_error(gateway: Instance) -> None:
    with harmless(gateway):
        for name, data in MALFORMED.items():
            before = ended(gateway)
            with raw(gateway) as attacker:
                attacker.open()
                attacker.send(raw_frame(HEADERS, END_HEADERS, 1, block(pseudo(b"/api/v1/upload", b"POST"))) + data)
                code = attacker.goaway()
                assert code, f"{name}: {code}"
            eventually(lambda before=before: ended(gateway) == before + 1, f"{name} is not counted")  # type: ignore[misc]


SIZES = frozenset(("line too long", "line without end", "head too large", "head without end", "too many fields"))


def test_http1_requests_with_two_readings_are_refused_and_nothing_behind_them_is_read(gateway: Instance) -> None:
    """CL and TE, two lengths, folded lines, bare LF, absolute targets of other hosts, CONNECT, unknown methods, …"""
    with harmless(gateway):
        for name in sorted(REFUSED.keys() - SIZES):
            status, data = REFUSED[name]
            data = data.replace(b"Host: a", b"Host: localhost").replace(b"http://a:", b"http://localhost:")
            before = ended(gateway)
            with raw(gateway, "http/1.1") as attacker:
                attacker.send(data + SMUGGLED)
                answer = attacker.rest()
            assert answer[:13] == (b"HTTP/1.1 %d " % status if status else b""), name
            assert answer.count(b"HTTP/1.1 ") == bool(status), name
            eventually(lambda before=before: ended(gateway) == before + 1, f"{name} is not counted")  # type: ignore[misc]


CHUNKS = {
    "size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size with a space": b"5 \r\nhello\r\n0\r\n\r\n",
    "size past all bounds": b"fffffffffffffffff\r\nhello",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "bare LF after the data": b"5\r\nhello\n0\r\n\r\n",
    "longer than told": b"5\r\nhello world\r\n0\r\n\r\n",
    "bare LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a trailer folded": b"0\r\nx: 1\r\n y\r\n\r\n",
    "a trailer in a line of LF": b"0\r\nx: 1\n\r\n\r\n",
}


@pytest.mark.parametrize("host", ["localhost", OLD])
def test_chunks_with_two_readings_reach_no_end(gateway: Instance, host: str) -> None:
    head = b"POST /api/v1/upload HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % host.encode()
    with harmless(gateway):
        for name, body in CHUNKS.items():
            with raw(gateway, "http/1.1", host) as attacker:
                attacker.send(head + body + SMUGGLED)
                answer = attacker.rest()
            assert answer.startswith((b"HTTP/1.1 400 ", b"")), name
            assert b" 200 " not in answer[:15], name


HUGE = b"x" * 70_000
H1_SIZES = {
    "target": (414, b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % HUGE),
    "head": (431, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n" % HUGE),
    "fields": (431, b"GET / HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (b"X: 1\r\n" * 600)),
}


@pytest.mark.parametrize("name", sorted(H1_SIZES))
def test_heads_too_large_for_http1(gateway: Instance, name: str) -> None:
    status, data = H1_SIZES[name]
    with harmless(gateway), raw(gateway, "http/1.1") as attacker:
        attacker.send(data)
        assert attacker.rest().startswith(b"HTTP/1.1 %d " % status)


def test_a_head_too_large_for_http2_costs_its_stream(gateway: Instance) -> None:
    with harmless(gateway), raw(gateway) as attacker:
        attacker.open()
        pieces = [HUGE[at : at + 16_000] for at in range(0, len(HUGE), 16_000)]
        whole = block([*pseudo(), *((b"x-%d" % at, piece) for at, piece in enumerate(pieces))])
        cut = [whole[at : at + 16_384] for at in range(0, len(whole), 16_384)]
        attacker.send(raw_frame(HEADERS, END_STREAM, 1, cut[0]))
        for piece in cut[1:-1]:
            attacker.send(raw_frame(CONTINUATION, 0, 1, piece))
        attacker.send(raw_frame(CONTINUATION, END_HEADERS, 1, cut[-1]))
        attacker.send(raw_frame(HEADERS, END_HEADERS | END_STREAM, 3, HEAD))
        assert attacker.outcome(3) == "200"


TE, LENGTH = b"transfer-encoding", b"content-length"
H2_HEADS: dict[str, list[Field]] = {
    "connection": [*pseudo(), (b"connection", b"x-remote-user")],
    "keep-alive": [*pseudo(), (b"keep-alive", b"1")],
    "proxy-connection": [*pseudo(), (b"proxy-connection", b"close")],
    "upgrade": [*pseudo(), (b"upgrade", b"SPDY/3.1")],
    "transfer-encoding": [*pseudo(method=b"POST"), (TE, b"chunked")],
    "te beyond trailers": [*pseudo(), (b"te", b"gzip")],
    "CRLF in a value": [*pseudo(), (b"x", b"1\r\n\r\n" + SMUGGLED)],
    "CR in a value": [*pseudo(), (b"x", b"1\r2")],
    "LF in a value": [*pseudo(), (b"x", b"1\nx-remote-user: admin")],
    "NUL in a value": [*pseudo(), (b"x", b"1\x002")],
    "CRLF in a name": [*pseudo(), (b"x: 1\r\nx-remote-user", b"admin")],
    "colon in a name": [*pseudo(), (b"x:y", b"1")],
    "space in a name": [*pseudo(), (b"x y", b"1")],
    "capitals in a name": [*pseudo(), (b"X-Remote-User", b"admin")],
    "no name": [*pseudo(), (b"", b"1")],
    "CRLF in the path": pseudo(b"/a HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED),
    "space in the path": pseudo(b"/a b"),
    "no slash in the path": pseudo(b"smuggled"),
    "empty path": pseudo(b""),
    "fragment in the path": pseudo(b"/smuggled#a"),
    "absolute target in the path": pseudo(b"https://other/smuggled"),
    "CRLF in the authority": pseudo(authority=b"localhost\r\nx-remote-user: admin"),
    "user in the authority": pseudo(authority=b"admin@localhost"),
    "path in the authority": pseudo(authority=b"localhost/smuggled"),
    "CRLF in the method": pseudo(method=b"GET /smuggled HTTP/1.1\r\n\r\n"),
    "space in the method": pseudo(method=b"GET /smuggled"),
    "CONNECT": [(b":method", b"CONNECT"), (b":authority", b"localhost:443")],
    "extended CONNECT": [*pseudo(method=b"CONNECT"), (b":protocol", b"websocket")],
    "scheme that is none": pseudo(scheme=b"https://x\r\n"),
    "two authorities": [*pseudo(), (b":authority", b"other")],
    "two paths": [*pseudo(), (b":path", b"/smuggled")],
    "no method": pseudo()[1:],
    "no path": [field for field in pseudo() if field[0] != b":path"],
    "a pseudo-header behind": [*pseudo()[:3], (b"x", b"1"), pseudo()[3]],
    "an unknown pseudo-header": [(b":smuggled", b"1"), *pseudo()],
    "a status": [(b":status", b"200"), *pseudo()],
    "two lengths": [*pseudo(method=b"POST"), (LENGTH, b"5"), (LENGTH, b"6")],
    "a list of lengths": [*pseudo(method=b"POST"), (LENGTH, b"5, 5")],
    "a signed length": [*pseudo(method=b"POST"), (LENGTH, b"+5")],
    "a length in disguise": [*pseudo(method=b"POST"), (b"content_length", b"5")],
    "a coding in disguise": [*pseudo(method=b"POST"), (b"transfer_encoding", b"chunked")],
    "a length without a body": [*pseudo(method=b"POST"), (LENGTH, b"5")],
}


@pytest.mark.parametrize("host", ["localhost", OLD])
def test_http2_heads_that_http1_would_read_otherwise_reach_no_server(gateway: Instance, host: str) -> None:
    """The downgrade is where smuggling lives: neither a server of HTTP/2 nor one of HTTP/1.1 sees any of these."""
    with harmless(gateway):
        asked = len(gateway.upstream.server.requests)
        for name, fields in H2_HEADS.items():
            aimed = [(key, value.replace(b"localhost", host.encode())) for key, value in fields]
            with raw(gateway, name=host) as attacker:
                attacker.open()
                attacker.send(raw_frame(HEADERS, END_HEADERS | END_STREAM, 1, block(aimed)))
                outcome = attacker.outcome(1)
            assert outcome in ("reset 1", "closed", "400", "404", "405"), f"{name}: {outcome}"
        seen = [one.target for one in gateway.upstream.server.requests[asked:]]
        assert seen == [], seen


BODY = b"0\r\n\r\n" + SMUGGLED


@pytest.mark.parametrize("host", ["localhost", OLD])
def test_a_body_stays_a_body_whatever_it_looks_like(gateway: Instance, host: str) -> None:
    """Requests within a body, with a length and without, in one frame and in many."""
    with harmless(gateway):
        server = gateway.upstream.server
        for fields, size in (([(LENGTH, b"%d" % len(BODY))], len(BODY)), ([], len(BODY)), ([], 1)):
            asked = len(server.requests)
            head = block([*pseudo(b"/api/v1/upload", b"POST", host.encode()), *fields])
            with raw(gateway, name=host) as client:
                client.open()
                client.send(raw_frame(HEADERS, END_HEADERS, 1, head))
                for at in range(0, len(BODY), size):
                    client.send(raw_frame(DATA, 0, 1, BODY[at : at + size]))
                client.send(raw_frame(DATA, END_STREAM, 1))
                assert client.outcome(1) == "200"
            assert [(one.target, bytes(one.body)) for one in server.requests[asked:]] == [(b"/api/v1/upload", BODY)]


@pytest.mark.parametrize("host", ["localhost", OLD])
def test_a_body_that_is_not_as_long_as_told_is_no_request(gateway: Instance, host: str) -> None:
    with harmless(gateway):
        server = gateway.upstream.server
        for told in (len(BODY) - 10, len(BODY) + 10):
            head = block([*pseudo(b"/api/v1/upload", b"POST", host.encode()), (LENGTH, b"%d" % told)])
            with raw(gateway, name=host) as attacker:
                attacker.open()
                attacker.send(raw_frame(HEADERS, END_HEADERS, 1, head) + raw_frame(DATA, END_STREAM, 1, BODY))
                assert attacker.outcome(1) == "reset 1"
        eventually(lambda: all(one.exchange.done for one in server.requests), "a server waits for the rest")
        assert all(len(one.body) <= len(BODY) for one in server.requests)


@pytest.mark.parametrize("host", ["localhost", OLD])
def test_a_host_beside_the_authority_must_be_the_same(gateway: Instance, host: str) -> None:
    server = gateway.upstream.server
    other = b"other" if host == "localhost" else b"localhost"
    for beside, outcome in ((host.encode(), "200"), (other, "reset 1")):
        with harmless(gateway), raw(gateway, name=host) as client:
            asked = len(server.requests)
            client.open()
            head = block([*pseudo(authority=host.encode()), (b"host", beside), (b"x-kept", b"\xff\tok")])
            client.send(raw_frame(HEADERS, END_HEADERS | END_STREAM, 1, head))
            assert client.outcome(1) == outcome
            seen = server.requests[asked:]
            assert [one.values(b"x-kept") for one in seen] == [[b"\xff\tok"]] * (outcome == "200")
            assert all(one.values(b"host") in ([], [server.name.encode()]) for one in seen)


def test_special_targets_of_http1(gateway: Instance) -> None:
    """An absolute target of the same host is a path; what a server may like or not is for it to say."""
    with harmless(gateway):
        for head, status in (
            (b"GET https://localhost/api/v1/pods HTTP/1.1\r\nHost: localhost\r\n", 200),
            (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n", 200),
            (b"OPTIONS /api HTTP/1.1\r\nHost: localhost\r\n", 200),
            (b"TRACE /api HTTP/1.1\r\nHost: localhost\r\n", 200),
        ):
            with raw(gateway, "http/1.1") as client:
                client.send(head + b"Connection: close\r\n\r\n")
                assert client.rest().startswith(b"HTTP/1.1 %d " % status), head


def test_thousands_of_connections_that_say_nothing_shut_nobody_out(gateway: Instance) -> None:
    """Before TLS each costs a socket and a small task; they are cut when their handshake is overdue."""
    with harmless(gateway), ExitStack() as sockets:
        before = gateway.rss()
        for _ in range(IDLE):
            sockets.enter_context(socket.create_connection((LOOPBACK, gateway.port), 30))
        assert gateway.get().status == 200
        assert (gateway.rss() - before) / IDLE < 24 << 10


def test_idle_connections_after_tls_cost_little(gateway: Instance) -> None:
    with ExitStack() as idle:
        before = gateway.rss()
        for alpn in ("h2", "http/1.1"):
            for _ in range(IDLE_TLS // 2):
                connection = idle.enter_context(raw(gateway, alpn))
                if alpn == "h2":
                    connection.open()
        assert gateway.get().status == 200
        assert (gateway.rss() - before) / IDLE_TLS < 192 << 10
        assert gateway.metric("wharf_gateway_client_connections") >= IDLE_TLS
