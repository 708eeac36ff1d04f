"""TLS on sockets: names, client certificates, reload, wrong protocols; and the contexts themselves."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import ssl
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop
from wharf.wire.certificates import BadCertificate, parse_peer_certificate
from wharf.wire.http import HttpResponse
from wharf.wire.limits import ConnectionLimits
from wharf.wire.rpc import PeerCertificate
from wharf.wire.tls import ClientAuth, TlsConfig, TlsError, TlsIdentity, TlsStore, match_name, openssl_ciphers
from wire.net import ECHO, WHO, ask_raw, eventually, serving
from wire.pair import FakeClock
from wire.pki import Authority, Files

GET = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def client_context(ca: Authority, files: Files | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca.ca_file)
    if files is not None:
        context.load_cert_chain(files.cert, files.key)
    return context


def channel(port: int, ca: Authority, name: str = "localhost", files: Files | None = None) -> Any:
    credentials = grpc.ssl_channel_credentials(
        Path(ca.ca_file).read_bytes(),
        Path(files.key).read_bytes() if files else None,
        Path(files.cert).read_bytes() if files else None,
    )
    options = (("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1))
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options)


def identity(files: Files, ca: Authority | None = None, auth: ClientAuth = ClientAuth.NONE, *names: str) -> TlsIdentity:
    return TlsIdentity(files.cert, files.key, ca.ca_file if ca else None, auth, server_names=names)


def test_grpc_and_http_over_tls(ca: Authority) -> None:
    async def main() -> None:
        config = TlsConfig((identity(ca.issue("server")),))
        async with serving(config, http=lambda request: HttpResponse(200, b"ok")) as server:
            async with channel(server.ports[0], ca) as to:
                assert await to.unary_unary(ECHO)(bytes(100_000)) == bytes(100_000)
                assert await to.unary_unary(WHO)(b"") == b"nobody||localhost"
            assert b"200 OK" in await ask_raw(server.ports[0], GET, client_context(ca), "localhost")

    uvloop.run(main())


def test_the_handler_knows_the_client(ca: Authority) -> None:
    async def main() -> None:
        config = TlsConfig((identity(ca.issue("server"), ca, ClientAuth.REQUIRE),))
        client = ca.issue("alice", organizations=("system:masters", "Grün"))
        async with serving(config) as server, channel(server.ports[0], ca, files=client) as to:
            assert await to.unary_unary(WHO)(b"") == "alice|system:masters,Grün|localhost".encode()

    uvloop.run(main())


@pytest.mark.parametrize(
    ("auth", "with_certificate", "expected"),
    [
        (ClientAuth.REQUIRE, False, None),
        (ClientAuth.REQUIRE, True, b"bob||localhost"),
        (ClientAuth.OPTIONAL, False, b"nobody||localhost"),
        (ClientAuth.OPTIONAL, True, b"bob||localhost"),
        (ClientAuth.NONE, True, b"nobody||localhost"),
    ],
)
def test_what_is_asked_of_clients(
    ca: Authority, auth: ClientAuth, with_certificate: bool, expected: bytes | None
) -> None:
    async def main() -> None:
        config = TlsConfig((identity(ca.issue("server"), ca, auth),))
        files = ca.issue("bob") if with_certificate else None
        async with serving(config) as server, channel(server.ports[0], ca, files=files) as to:
            if expected is None:
                with pytest.raises(grpc.aio.AioRpcError):
                    await to.unary_unary(WHO)(b"", timeout=2)
                await eventually(lambda: server.counters.handshakes_failed)
            else:
                assert await to.unary_unary(WHO)(b"") == expected

    uvloop.run(main())


def test_a_stranger_certificate_is_refused(ca: Authority, tmp_path: Path) -> None:
    async def main() -> None:
        config = TlsConfig((identity(ca.issue("server"), ca, ClientAuth.OPTIONAL),))
        stranger = Authority(tmp_path, "other").issue("eve")
        async with serving(config) as server, channel(server.ports[0], ca, files=stranger) as to:
            with pytest.raises(grpc.aio.AioRpcError):
                await to.unary_unary(WHO)(b"", timeout=2)
            assert server.counters.routes[WHO].started == 0

    uvloop.run(main())


def test_certificate_and_client_ca_by_server_name(ca: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")

    async def main() -> None:
        config = TlsConfig(
            (
                identity(ca.issue("server")),
                identity(ca.issue("a", "a.test"), ca, ClientAuth.REQUIRE, "a.test"),
                identity(ca.issue("b", "x.b.test"), other, ClientAuth.REQUIRE, "*.b.test"),
            )
        )
        ours, theirs = ca.issue("ours"), other.issue("theirs")
        async with serving(config) as server:
            port = server.ports[0]
            for name, files, expected in (
                ("localhost", None, b"nobody||localhost"),
                ("a.test", ours, b"ours||a.test"),
                ("x.b.test", theirs, b"theirs||x.b.test"),
                ("a.test", None, None),
                ("a.test", theirs, None),
                ("x.b.test", ours, None),
            ):
                async with channel(port, ca, name, files) as to:
                    try:
                        answer = await to.unary_unary(WHO)(b"", timeout=2)
                    except grpc.aio.AioRpcError:
                        answer = None
                assert answer == expected, (name, files)

    uvloop.run(main())


def test_client_names_are_checked(ca: Authority) -> None:
    server = ca.issue("server")
    allowed = TlsIdentity(server.cert, server.key, ca.ca_file, ClientAuth.REQUIRE, ("good.test",))

    async def main() -> None:
        async with serving(TlsConfig((allowed,))) as server:
            for name, pattern, admitted in (("a", "good.test", True), ("b", "*.test", True), ("c", "bad.test", False)):
                async with channel(server.ports[0], ca, files=ca.issue(name, pattern)) as to:
                    try:
                        answer = await to.unary_unary(WHO)(b"", timeout=2)
                    except grpc.aio.AioRpcError:
                        answer = None
                assert (answer is not None) == admitted

    uvloop.run(main())


def test_files_are_read_again_when_they_change(ca: Authority, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    first, second = ca.issue("first"), ca.issue("second")
    live = Files(first.cert + ".live", first.key + ".live")
    for source, target in zip((first.cert, first.key), (live.cert, live.key), strict=True):
        shutil.copy(source, target)
    store = TlsStore(TlsConfig((identity(live),)), clock)
    context = store.context()
    clock.now += 2
    assert store.context() is context, "nothing changed"
    os.replace(second.cert, live.cert)
    clock.now += 2
    assert store.context() is context, "the key does not fit yet"
    assert store.failures == 1
    assert "the old ones stay" in caplog.text
    os.replace(second.key, live.key)
    assert store.context() is context, "not looked at again within the interval"
    clock.now += 2
    assert store.context() is not context
    assert store.reloads == 1
    os.unlink(live.key)
    clock.now += 2
    assert store.context() is not None
    assert store.failures == 2


def test_plain_bytes_on_a_tls_port_are_said_clearly(ca: Authority, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        config = TlsConfig((identity(ca.issue("server")),))
        async with serving(config, limits=ConnectionLimits(handshake_timeout=0.2)) as server:
            port = server.ports[0]
            assert (await ask_raw(port, GET)).startswith(b"HTTP/1.1 400")
            assert await ask_raw(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == b""
            assert server.counters.wrong_protocol == 2
            assert await ask_raw(port, b"") == b"", "silence ends"
            assert await ask_raw(port, b"\x16\x03\x01\x00\xff") == b"", "half a hello ends"
            assert await ask_raw(port, b"\x16\x03\x01\x00\x05hello") != b"x"
            await eventually(lambda: server.counters.handshakes_failed == 3)

    uvloop.run(main())
    assert "speaks no TLS to a port with TLS" in caplog.text


def test_versions_and_ciphers(ca: Authority, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
        config = TlsConfig((identity(ca.issue("server")),), max_version="1.2", cipher_suites=(suite,))
        async with serving(config) as server:
            context = client_context(ca)
            _, writer = await asyncio.open_connection(
                "127.0.0.1", server.ports[0], ssl=context, server_hostname="localhost"
            )
            assert writer.get_extra_info("cipher")[:2] == ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2")
            writer.close()
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            with pytest.raises(OSError):  # noqa: PT011 - an alert or a reset, by timing
                await ask_raw(server.ports[0], GET, context, "localhost")

    uvloop.run(main())


def test_unusable_configurations_say_what_is_wrong(ca: Authority, tmp_path: Path) -> None:
    files = ca.issue("server")
    for config, text in (
        (TlsConfig(()), "at least one"),
        (TlsConfig((TlsIdentity("/nope", files.key),)), "/nope"),
        (TlsConfig((TlsIdentity(files.cert, files.cert),)), "cannot load"),
        (TlsConfig((identity(files, None, ClientAuth.REQUIRE),)), "no client CA"),
        (TlsConfig((identity(files),), min_version="1.0"), "not one of"),
        (TlsConfig((identity(files),), cipher_suites=("X",)), "'X'"),
    ):
        with pytest.raises(TlsError, match=text):
            TlsStore(config)


def test_names_and_suites() -> None:
    assert match_name("a.test", "a.test")
    assert match_name("*.test", "a.test")
    assert not match_name("*.test", "a.b.test")
    assert not match_name("*.test", "test")
    assert openssl_ciphers(("TLS_AES_128_GCM_SHA256",)) is None


def test_certificates_are_read(ca: Authority) -> None:
    files = ca.issue("carol", "a.test", "b.test", organizations=("x", "y"))
    der = ssl.PEM_cert_to_DER_cert(Path(files.cert).read_text())
    assert parse_peer_certificate(der) == PeerCertificate("carol", ("x", "y"), ("a.test", "b.test"), der)
    for size in range(0, len(der), 7):
        with pytest.raises(BadCertificate):
            parse_peer_certificate(der[:size])
