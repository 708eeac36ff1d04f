"""Identities of a listener: chosen by name, by address; replaced while serving; from memory only."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from wharf.wire.accept import TlsAcceptor
from wharf.wire.client_hello import HELLO_MAX, BadHello, ClientHello, hello_length, parse_client_hello
from wharf.wire.limits import ConnectionLimits, ListenerLimits
from wharf.wire.server_tls import DynamicTls, Identity, TlsPolicy, build_identity, chosen_identity
from wharf.wire.tcp import bind_tcp
from wharf.wire.tls import ClientAuth, TlsError, peer_certificate
from wire.pki import Authority
from wire.tls_client import Cut, exchange, in_records


@dataclass(slots=True)
class Counts:
    connections_refused: int = 0
    handshakes_failed: int = 0
    wrong_protocol: int = 0


@dataclass(slots=True)
class Stand:
    """The least a TLS acceptor needs of a server."""

    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    counters: Counts = field(default_factory=Counts)
    port: int = 0


class Teller(asyncio.Protocol):
    """Tells each client, once it has spoken, with which identity it was met, and who it is."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        ssl_object = self.transport.get_extra_info("ssl_object")
        identity, certificate = chosen_identity(ssl_object), peer_certificate(ssl_object)
        assert identity is not None
        who = certificate.common_name if certificate else "nobody"
        name = getattr(ssl_object, "wharf_server_name", None)
        self.transport.write(f"{identity.name}|{who}|{name}\n".encode())


@contextlib.asynccontextmanager
async def telling(tls: DynamicTls, limits: ConnectionLimits | None = None) -> AsyncIterator[Stand]:
    stand = Stand(limits or ConnectionLimits())
    sock = bind_tcp("127.0.0.1", 0, False)
    stand.port = sock.getsockname()[1]
    acceptor = TlsAcceptor(stand, sock, tls.base, Teller, asyncio.get_running_loop(), ListenerLimits())
    acceptor.start()
    try:
        yield stand
    finally:
        acceptor.close()


def identity(ca: Authority, name: str, trusted: Authority | None = None, **more: object) -> Identity:
    files = ca.issue(name, name)
    made = Identity(
        name,
        Path(files.cert).read_bytes(),
        Path(files.key).read_bytes(),
        Path(trusted.ca_file).read_bytes() if trusted else None,
    )
    return replace(made, **more)  # type: ignore[arg-type]


async def hear(port: int, ca: Authority, name: str, as_client: tuple[Authority, str] | None = None) -> str:
    """What the server tells a client that asks for `name`; an IP address sends no name."""
    context = ssl.create_default_context(cafile=ca.ca_file)
    if as_client is not None:
        files = as_client[0].issue(as_client[1])
        context.load_cert_chain(files.cert, files.key)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        async with asyncio.timeout(10):
            writer.write(b"?")
            return (await reader.readline()).decode().strip()
    finally:
        await hang_up(writer)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_the_name_chooses_then_the_address_then_the_default(ca: Authority) -> None:
    async def main() -> None:
        tls = DynamicTls(identity(ca, "default.test"))
        async with telling(tls) as server:
            tls.replace(
                [
                    identity(ca, "one.test", names=("one.test",)),
                    identity(ca, "*.two.test", names=("*.two.test",)),
                ]
            )
            assert await hear(server.port, ca, "one.test") == "one.test|nobody|one.test"
            assert await hear(server.port, ca, "ONE.test") == "one.test|nobody|ONE.test"
            assert await hear(server.port, ca, "a.two.test") == "*.two.test|nobody|a.two.test"
            assert await hear(server.port, ca, "default.test") == "default.test|nobody|default.test"
            assert await hear(server.port, ca, "127.0.0.1") == "default.test|nobody|None"
            with pytest.raises(ssl.SSLCertVerificationError):
                await hear(server.port, ca, "a.b.two.test")  # one label only: the default's certificate is shown
            tls.replace([identity(ca, "by-address", addresses=("127.0.0.1",))])
            assert await hear(server.port, ca, "127.0.0.1") == "by-address|nobody|None"

    uvloop.run(main())


def test_each_identity_decides_about_client_certificates(ca: Authority, tmp_path: Path) -> None:
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")

    async def main() -> None:
        tls = DynamicTls(identity(ca, "default.test"))
        tls.replace(
            [
                identity(ca, "one.test", first, names=("one.test",)),
                identity(ca, "two.test", second, names=("two.test",), client_auth=ClientAuth.REQUIRE),
            ]
        )
        async with telling(tls) as server:
            assert await hear(server.port, ca, "one.test", (first, "alice")) == "one.test|alice|one.test"
            assert await hear(server.port, ca, "one.test") == "one.test|nobody|one.test"
            assert await hear(server.port, ca, "two.test", (second, "bob")) == "two.test|bob|two.test"
            # Who trusts no CA asks for no certificate: a client that has one is met all the same.
            assert await hear(server.port, ca, "default.test", (first, "alice")) == "default.test|nobody|default.test"
            for name, client in (("one.test", (second, "bob")), ("two.test", None)):
                with contextlib.suppress(OSError):
                    assert await hear(server.port, ca, name, client) == ""
            assert server.counters.handshakes_failed == 2

    uvloop.run(main())


def test_what_is_replaced_serves_new_handshakes_and_old_connections_live_on(ca: Authority) -> None:
    async def main() -> None:
        tls = DynamicTls(identity(ca, "default.test"))
        tls.replace([identity(ca, "one.test", names=("one.test",))])
        async with telling(tls) as server:
            context = ssl.create_default_context(cafile=ca.ca_file)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=context, server_hostname="one.test"
            )
            tls.replace([replace(identity(ca, "one.test", names=("one.test",)), name="newer")])
            assert (await hear(server.port, ca, "one.test")).startswith("newer|")
            writer.write(b"?")
            assert (await reader.readline()).startswith(b"one.test|")
            writer.close()
            await writer.wait_closed()

    uvloop.run(main())


@pytest.mark.parametrize(
    "cut",
    [
        lambda record: [record[:4], record[4:50], record[50:]],
        in_records(60),
        in_records(7),
        lambda record: [bytes([byte]) for byte in in_records(60)(record)[0]],
    ],
)
def test_hello_in_several_segments_and_records_is_read_whole(ca: Authority, cut: Cut) -> None:
    async def main() -> None:
        tls = DynamicTls(identity(ca, "default.test"))
        tls.replace([identity(ca, "one.test", names=("one.test",))])
        async with telling(tls) as server:
            context = ssl.create_default_context(cafile=ca.ca_file)
            assert (await exchange(server.port, context, "one.test", cut=cut)).answer == b"one.test|nobody|one.test\n"

    uvloop.run(main())


@pytest.mark.parametrize("cut", [in_records(1), lambda record: [b"\x16\x03\x01\x00\x00" + record]])
def test_hello_beyond_the_bounds_is_refused_with_an_alert(ca: Authority, cut: Cut) -> None:
    """Records of one byte cost more to read than to send; empty ones are forbidden (RFC 8446 §5.1)."""

    async def main() -> None:
        async with telling(DynamicTls(identity(ca, "one.test"))) as server:
            context = ssl.create_default_context(cafile=ca.ca_file)
            with pytest.raises(ssl.SSLError, match=r"(?i)decode.error"):
                await exchange(server.port, context, "one.test", cut=cut)
            assert server.counters.handshakes_failed == 1

    uvloop.run(main())


def test_a_client_that_stops_in_its_hello_is_cut(ca: Authority) -> None:
    async def main() -> None:
        tls = DynamicTls(identity(ca, "default.test"))
        async with telling(tls, ConnectionLimits(handshake_timeout=0.2)) as server:
            for said in (b"\x16", b"\x16\x03\x01\x01\x00abc"):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(said)
                with contextlib.suppress(ConnectionResetError):  # it left what was said unread
                    async with asyncio.timeout(10):
                        assert await reader.read() == b""
                await hang_up(writer)
            assert server.counters.handshakes_failed == 2
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"\x16\x03\x01\x01\x00abc")
            writer.write_eof()
            async with asyncio.timeout(10):
                await reader.read()  # its own end is enough
            await hang_up(writer)

    uvloop.run(main())


def test_material_that_cannot_be_used_is_named_and_changes_nothing(ca: Authority, tmp_path: Path) -> None:
    good, other = identity(ca, "good.test", names=("good.test",)), identity(ca, "other.test")
    tls = DynamicTls(identity(ca, "default.test"))
    tls.replace([good])
    before = tls.base("127.0.0.1", "good.test")
    for bad, word in (
        (replace(good, cert_pem=b"no pem"), "good.test: certificate and key cannot be used"),
        (replace(good, key_pem=other.key_pem), "good.test: certificate and key cannot be used: KEY_VALUES_MISMATCH"),
        (replace(good, client_ca_pem=b"no pem"), "good.test: CA certificates cannot be used"),
        (replace(good, client_auth=ClientAuth.REQUIRE), "good.test: client certificates are required"),
        (replace(good, key_pem=encrypted(good.key_pem)), "good.test: certificate and key cannot be used: the key is"),
    ):
        with pytest.raises(TlsError, match=word):
            tls.replace([bad])
    assert tls.base("127.0.0.1", "good.test") is before
    tls.replace([replace(good), other])
    assert tls.base("127.0.0.1", "good.test") is before, "what did not change is not built again"
    assert "BEGIN" not in repr(good)
    with pytest.raises(TlsError, match=r"1\.9"):
        build_identity(good, TlsPolicy(min_version="1.9"))
    with pytest.raises(TlsError, match="unknown cipher suite"):
        build_identity(good, TlsPolicy(cipher_suites=("TLS_NONE",)))


def encrypted(key_pem: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(key_pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def hello_of(name: str | None) -> bytes:
    """What OpenSSL says first."""
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_the_name_in_a_hello() -> None:
    record = hello_of("a.example.test")
    assert hello_length(record) == len(record)
    assert hello_length(b"") > 0
    for at in range(len(record)):
        assert at < hello_length(record[:at]) <= len(record), "it never waits for more than there is"
    assert parse_client_hello(record) == ClientHello("a.example.test")
    assert parse_client_hello(hello_of(None)) == ClientHello(None)


@pytest.mark.parametrize("size", [5, 6, 7, 60, 200])
def test_a_hello_in_records_of_any_size(size: int) -> None:
    (records,) = in_records(size)(hello_of("a.example.test"))
    assert hello_length(records) == len(records)
    for at in range(len(records)):
        assert at < hello_length(records[:at]) <= len(records)
    assert parse_client_hello(records) == ClientHello("a.example.test")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x17\x03\x01\x00\x04\x01\x00\x00\x00", "no handshake"),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", "no ClientHello"),
        (b"\x16\x03\x01\x00\x00", "holds 0 bytes"),
        (b"\x16\x03\x01\x40\x01", "holds 16385 bytes"),
        (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", "longer than 65536"),
        (b"\x16\x03\x01\x00\x03\x01\x00\x10" + b"\x16\x03\x01\x00\x01\x00" * 200, "more than 128 records"),
    ],
)
def test_what_is_no_client_hello_is_refused_with_its_reason(data: bytes, word: str) -> None:
    with pytest.raises(BadHello, match=word):
        hello_length(data)


@given(st.integers(0, 600), st.binary(max_size=40), st.booleans())
def test_no_bytes_upset_the_reader_of_hellos(at: int, garbage: bytes, cut: bool) -> None:
    record = hello_of("a.example.test")
    at = min(at, len(record))
    data = record[:at] + garbage + (b"" if cut else record[at + len(garbage) :])
    with contextlib.suppress(BadHello):
        assert hello_length(data) <= HELLO_MAX
    with contextlib.suppress(BadHello):
        parse_client_hello(data)
