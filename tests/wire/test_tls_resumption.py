"""No listener resumes a TLS session, and each reads a ClientHello whole however it is cut into records."""

from __future__ import annotations

import ssl
import sys
import sysconfig
from pathlib import Path

import pytest
import uvloop
from wharf.wire import openssl
from wharf.wire.server_tls import DynamicTls
from wharf.wire.tls import ClientAuth, TlsConfig, TlsIdentity
from wire.net import serving
from wire.pki import Authority, Files
from wire.test_web_tls import identity, telling
from wire.tls_client import Cut, exchange, in_records, whole

GET = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
CUTS = [whole, in_records(60), in_records(7)]


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls12(ca: Authority, client: Files | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca.ca_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if client is not None:
        context.load_cert_chain(client.cert, client.key)
    return context


@pytest.mark.parametrize("cut", CUTS)
def test_session_does_not_outlive_client_ca_of_web_listener(ca: Authority, tmp_path: Path, cut: Cut) -> None:
    """A session of a client that was verified against the old CA must not carry its identity past the new one."""
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    before, after = (identity(ca, "one.test", trusted, names=("one.test",)) for trusted in (old, new))
    by_address = identity(ca, "by-address", old, addresses=("127.0.0.1",))

    async def main() -> None:
        tls = DynamicTls(identity(ca, "default.test"))
        tls.replace([before, by_address])
        async with telling(tls) as server:
            context = tls12(ca, old.issue("alice"))
            first = await exchange(server.port, context, "one.test", cut=cut)
            assert first.answer == b"one.test|alice|one.test\n"
            again = await exchange(server.port, context, "one.test", cut=cut, session=first.session)
            assert (again.answer, again.resumed) == (b"one.test|alice|one.test\n", False)
            tls.replace([after, by_address])
            with pytest.raises(OSError):  # noqa: PT011 - an alert or an end: its certificate is the old CA's
                await exchange(server.port, context, "one.test", cut=cut, session=first.session)
            third = await exchange(server.port, tls12(ca, new.issue("bob")), "one.test", cut=cut)
            assert third.answer == b"one.test|bob|one.test\n"

    uvloop.run(main())


@pytest.mark.parametrize("cut", CUTS)
def test_grpc_listener_resumes_no_session(ca: Authority, cut: Cut) -> None:
    async def main() -> None:
        server_files = ca.issue("server")
        config = TlsConfig((TlsIdentity(server_files.cert, server_files.key, ca.ca_file, ClientAuth.REQUIRE),))
        context = tls12(ca, ca.issue("alice"))
        async with serving(config) as server:
            first = await exchange(server.ports[0], context, "localhost", GET, cut=cut)
            assert first.answer.startswith(b"HTTP/1.1 404")
            again = await exchange(server.ports[0], context, "localhost", GET, cut=cut, session=first.session)
            assert again.answer.startswith(b"HTTP/1.1 404")
            assert not again.resumed

    uvloop.run(main())


def test_grpc_listener_asks_each_name_for_its_own_client_certificate(ca: Authority, tmp_path: Path) -> None:
    """Also of a ClientHello in several records, and without asking the clients of other names."""
    other = Authority(tmp_path, "other")
    plain, strict = ca.issue("server"), ca.issue("a", "a.test")
    config = TlsConfig(
        (
            TlsIdentity(plain.cert, plain.key),
            TlsIdentity(strict.cert, strict.key, ca.ca_file, ClientAuth.REQUIRE, server_names=("a.test",)),
        )
    )

    async def main() -> None:
        async with serving(config) as server:
            port = server.ports[0]
            for cut in CUTS:
                with_ours, with_theirs = tls12(ca, ca.issue("ours")), tls12(ca, other.issue("theirs"))
                answer = (await exchange(port, with_ours, "a.test", GET, cut=cut)).answer
                assert answer.startswith(b"HTTP/1.1 404")
                for context in (tls12(ca), with_theirs):
                    with pytest.raises(OSError):  # noqa: PT011 - an alert or an end
                        await exchange(port, context, "a.test", GET, cut=cut)
                answer = (await exchange(port, with_theirs, "localhost", GET, cut=cut)).answer
                assert answer.startswith(b"HTTP/1.1 404")

    uvloop.run(main())


UNKNOWN = [("_find_control", lambda: None), ("KNOWN_LAYOUTS", frozenset())]


@pytest.mark.parametrize(("name", "value"), UNKNOWN)
def test_resumed_handshake_is_refused_where_openssl_keeps_its_session_cache(
    ca: Authority, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    """Where the cache cannot be turned off, the handshake callback is the only guard."""
    monkeypatch.setattr(openssl, name, value)

    async def main() -> None:
        context = tls12(ca, ca.issue("alice"))
        async with telling(DynamicTls(identity(ca, "localhost", ca))) as server:
            first = await exchange(server.port, context, "localhost")
            assert first.answer == b"localhost|alice|localhost\n"
            with pytest.raises(OSError):  # noqa: PT011 - an alert or an end
                await exchange(server.port, context, "localhost", session=first.session)
            fresh = await exchange(server.port, context, "localhost")
            assert (fresh.answer, fresh.resumed) == (first.answer, False)
            assert server.counters.handshakes_failed == 1

    uvloop.run(main())


def test_session_cache_is_off_in_openssl(ca: Authority) -> None:
    context = DynamicTls(identity(ca, "localhost")).base("127.0.0.1")
    assert openssl.session_cache_mode(context) == openssl.SESSION_CACHE_OFF
    assert sys.version_info[:2] in openssl.KNOWN_LAYOUTS, "tests run on a version of Python whose layout is known"
    control = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert openssl.session_cache_mode(control) not in (None, openssl.SESSION_CACHE_OFF)


@pytest.mark.parametrize("changed", ["implementation", "version", "header"])
def test_no_pointer_is_read_where_the_layout_of_contexts_is_not_known(
    monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert openssl.session_cache_mode(context) is not None
    if changed == "implementation":
        monkeypatch.setattr(sys.implementation, "name", "pypy")
    elif changed == "version":
        monkeypatch.setattr(openssl, "KNOWN_LAYOUTS", frozenset(((3, 10),)))
    else:
        monkeypatch.setattr(sysconfig, "get_config_var", lambda name: int(name == "Py_GIL_DISABLED"))
    monkeypatch.setattr(openssl, "_find_control", lambda: pytest.fail("SSL_CTX_ctrl would be called"))
    assert openssl.session_cache_mode(context) is None
    assert not openssl.disable_session_cache(context)
