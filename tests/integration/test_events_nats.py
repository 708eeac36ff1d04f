"""Events over a real NATS: they arrive while it is there, are dropped and counted while it is not; nothing waits."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import nkeys
import pytest
from harness.backing import Nats
from harness.daemon import LOOPBACK, lasting_port
from wharf.common import events_nats
from wharf.common.events_nats import EventBus

SUBJECT = "wharf.brain.test.batches"
TRYING = "events are not connected, trying on"
SECONDS = 60.0  # a busy machine; never a measure of speed


class Ear:
    """What one subscriber has heard, and how the connection went."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self.heard: list[bytes] = []
        self.changes: list[bool] = []
        self._news = asyncio.Event()
        bus.on_change(self._changed)

    def listen(self, subject: str = SUBJECT) -> None:
        self.bus.subscribe(subject, self._heard)

    def _heard(self, data: bytes) -> None:
        self.heard.append(data)
        self._news.set()

    def _changed(self, connected: bool) -> None:
        self.changes.append(connected)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def connected(self, wanted: bool = True) -> None:
        await self.until(lambda: self.bus.connected == wanted)


@asynccontextmanager
async def ear(url: str, **options: Any) -> AsyncIterator[Ear]:
    bus = EventBus(url, **options)
    try:
        yield Ear(bus)
    finally:
        await bus.close()


@asynccontextmanager
async def pair(url: str, **options: Any) -> AsyncIterator[tuple[Ear, Ear]]:
    """A publisher and a subscriber, both connected."""
    async with ear(url, **options) as speaker, ear(url, **options) as listener:
        listener.listen()
        for one in (speaker, listener):
            await one.bus.connect()
        for one in (speaker, listener):
            await one.connected()
        yield speaker, listener


@contextmanager
def kept(nats: Nats) -> Any:
    """The module's server runs again afterwards."""
    try:
        yield nats
    finally:
        nats.resume()
        if not nats.running:
            nats.start()


async def complaint(caplog: pytest.LogCaptureFixture) -> None:
    """Return once the bus has said that it cannot connect."""
    async with asyncio.timeout(SECONDS):
        while TRYING not in caplog.messages:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.01)


def told(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)


def test_messages_arrive_in_order_at_others_only(nats: Nats) -> None:
    async def main() -> None:
        async with pair(nats.url) as (speaker, listener):
            speaker.listen()
            sent = [b"%d" % number * (number % 7) for number in range(2000)]
            for data in sent:
                speaker.bus.publish(SUBJECT, data)
            await listener.until(lambda: len(listener.heard) == len(sent))
            assert listener.heard == sent
            assert speaker.heard == []  # its own
            assert (speaker.bus.dropped, listener.bus.missed) == (0, 0)

    asyncio.run(main())


def test_whoever_is_connected_hears(nats: Nats) -> None:
    async def main() -> None:
        async with pair(nats.url) as (speaker, listener):
            speaker.bus.publish(SUBJECT, b"first")
            await listener.until(lambda: listener.heard == [b"first"])

    for _ in range(50):  # what is told too early is found out rarely
        asyncio.run(main())


def test_a_subscription_made_later_hears_too(nats: Nats) -> None:
    async def main() -> None:
        async with pair(nats.url) as (speaker, listener):
            listener.listen("another")
            while b"there" not in listener.heard:  # whether the server has taken it yet cannot be seen from outside
                speaker.bus.publish("another", b"there")
                await asyncio.sleep(0.01)

    asyncio.run(main())


def test_what_is_published_while_nobody_is_connected_is_dropped_and_counted(nats: Nats) -> None:
    async def main() -> None:
        async with ear(f"nats://{LOOPBACK}:{lasting_port()}") as lonely:
            lonely.bus.publish(SUBJECT, b"before connecting")
            await lonely.bus.connect()
            lonely.bus.publish(SUBJECT, b"while nobody listens")
            assert not lonely.bus.connected
            assert lonely.bus.dropped == 2

    asyncio.run(main())


def test_a_server_that_comes_late_is_found(caplog: pytest.LogCaptureFixture) -> None:
    async def main(server: Nats) -> None:
        async with ear(server.url) as listener:
            listener.listen()
            await listener.bus.connect()
            await complaint(caplog)
            await asyncio.to_thread(server.start)
            await listener.connected()

    server = Nats()
    try:
        with caplog.at_level(logging.INFO, "wharf"):
            asyncio.run(main(server))
    finally:
        server.close()
    assert caplog.messages.count(TRYING) == 1  # not once for each attempt


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_restarted_server_is_found_again(nats: Nats, how: str) -> None:
    async def main() -> None:
        async with pair(nats.url) as (speaker, listener):
            await asyncio.to_thread(getattr(nats, how))
            for one in (speaker, listener):
                await one.connected(False)
            speaker.bus.publish(SUBJECT, b"into the void")
            await asyncio.to_thread(nats.start)
            for one in (speaker, listener):
                await one.connected()
                assert one.changes == [True, False, True]
            speaker.bus.publish(SUBJECT, b"again")
            await listener.until(lambda: bool(listener.heard))
            assert listener.heard == [b"again"]
            assert speaker.bus.dropped == 1
            assert speaker.bus.connections == 2

    with kept(nats):
        asyncio.run(main())


def test_a_frozen_server_is_noticed_and_never_waited_for(nats: Nats) -> None:
    async def main() -> None:
        async with pair(nats.url, outbox_bytes=1 << 20) as (speaker, _):
            nats.pause()
            for _ in range(400):
                speaker.bus.publish(SUBJECT, bytes(100_000))
                await asyncio.sleep(0)
            assert speaker.bus.dropped > 0  # 40 MB: what fits nowhere
            await speaker.connected(False)
            nats.resume()
            await speaker.connected()

    with kept(nats):
        asyncio.run(main())


def test_closing_beside_a_frozen_server_does_not_hang(nats: Nats) -> None:
    async def main() -> None:
        async with pair(nats.url) as (speaker, _):
            nats.pause()
            speaker.bus.publish(SUBJECT, bytes(1000))

    with kept(nats):
        asyncio.run(main())


def test_closing_sends_what_is_waiting(nats: Nats) -> None:
    async def main() -> None:
        async with ear(nats.url) as listener:
            listener.listen()
            await listener.bus.connect()
            await listener.connected()
            async with ear(nats.url) as speaker:
                await speaker.bus.connect()
                await speaker.connected()
                for _ in range(100):
                    speaker.bus.publish(SUBJECT, b"goodbye")
            await listener.until(lambda: len(listener.heard) == 100)

    asyncio.run(main())


@pytest.mark.parametrize("turns", range(0, 40, 3))
def test_closing_at_any_moment_leaves_nothing_behind(nats: Nats, turns: int) -> None:
    async def main() -> None:
        async with ear(nats.url) as one:
            one.listen()
            await one.bus.connect()
            for _ in range(turns):
                await asyncio.sleep(0)

    asyncio.run(main())


def test_a_message_too_large_is_dropped() -> None:
    async def main(url: str) -> None:
        async with pair(url) as (speaker, listener):
            assert speaker.bus.max_payload == 1000
            speaker.bus.publish(SUBJECT, bytes(1001))
            speaker.bus.publish(SUBJECT, bytes(1000))
            await listener.until(lambda: bool(listener.heard))
            assert listener.heard == [bytes(1000)]
            assert speaker.bus.dropped == 1

    with Nats(max_payload=1000) as server:
        asyncio.run(main(server.url))


def test_a_slow_subscriber_misses_messages_and_says_how_many(nats: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with pair(nats.url) as (speaker, listener):
            for _ in range(64):  # one read of the listener brings many: more than may wait
                speaker.bus.publish(SUBJECT, bytes(100))
            await listener.until(lambda: len(listener.heard) + listener.bus.missed == 64)
            assert listener.bus.missed > 0
            assert listener.bus.connected

    monkeypatch.setattr(events_nats, "PENDING_MESSAGES", 8)
    asyncio.run(main())


def test_a_handler_that_fails_does_not_end_the_subscription(nats: Nats, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with pair(nats.url) as (speaker, listener):
            listener.bus.subscribe("other", lambda _: 1 / 0)  # type: ignore[arg-type]
            while "division by zero" not in caplog.text:
                speaker.bus.publish("other", b"")
                await asyncio.sleep(0.01)
            speaker.bus.publish(SUBJECT, b"still")
            await listener.until(lambda: listener.heard == [b"still"])

    asyncio.run(main())


def test_another_server_of_the_url_takes_over() -> None:
    async def main(first: Nats, second: Nats) -> None:
        url = f"{first.url},{LOOPBACK}:{second.port}"
        async with ear(url) as listener:
            listener.listen()
            await listener.bus.connect()
            await listener.connected()
            await asyncio.to_thread(first.kill)
            await listener.until(lambda: listener.changes == [True, False, True])

    with Nats(user="pilot", password="p@ss,w:rd") as first, Nats(user="pilot", password="p@ss,w:rd") as second:
        asyncio.run(main(first, second))


# --- logins and TLS --------------------------------------------------------------------------------------------------


def files(server: Nats) -> dict[str, Path]:
    assert server.certificates is not None
    pki = server.certificates
    return {"ca_file": pki.ca, "cert_file": pki.client.cert, "key_file": pki.client.key}


def refusal(url: str, caplog: pytest.LogCaptureFixture, **options: Any) -> str:
    """What the log says when the bus cannot connect."""

    async def main() -> None:
        async with ear(url, **options) as one:
            await one.bus.connect()
            await complaint(caplog)
            assert not one.bus.connected

    caplog.clear()
    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert "p@ss" not in told(caplog)
    assert "p%40ss" not in told(caplog)
    return told(caplog)


def test_tls_and_a_password(caplog: pytest.LogCaptureFixture) -> None:
    async def main(url: str, **options: Any) -> None:
        async with pair(url, **options) as (speaker, listener):
            speaker.bus.publish(SUBJECT, b"sealed")
            await listener.until(lambda: bool(listener.heard))

    with Nats(user="pilot", password="p@ss", tls=True) as server:
        asyncio.run(main(server.url, **files(server)))
        assert "refuses the user, password" in refusal(server.url.replace("p%40ss", "dock"), caplog, **files(server))
        assert "TLS" in refusal(server.url, caplog)  # trusts the system's authorities only
        assert TRYING in refusal(server.url, caplog, ca_file=files(server)["ca_file"])  # shows no certificate
        missing = files(server) | {"ca_file": Path("/nowhere/ca.crt")}
        assert "No such file" in refusal(server.url, caplog, **missing)


def test_a_wrong_password_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with Nats(user="pilot", password="p@ss") as server:
        assert "refuses the user, password" in refusal(server.url.replace("p%40ss", "dock"), caplog)
        assert "refuses the user, password" in refusal(f"nats://{LOOPBACK}:{server.port}", caplog)


def test_no_login_is_sent_in_the_clear_where_tls_is_asked_for(nats: Nats, caplog: pytest.LogCaptureFixture) -> None:
    assert "offers no TLS" in refusal(nats.url.replace("nats://", "tls://pilot:p%40ss@"), caplog)


def key(kind: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))


def public(pair: nkeys.KeyPair) -> str:
    return bytes(pair.public_key).decode()


def token(signer: nkeys.KeyPair, subject: nkeys.KeyPair, **claims: object) -> str:
    """What an operator's tools make: a JSON web token of NATS."""
    body = {"jti": public(subject), "iat": 1_700_000_000, "iss": public(signer), "sub": public(subject)}
    parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, body | {"name": "test", "nats": claims | {"version": 2}}]
    text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    return b".".join((text, base64.urlsafe_b64encode(signer.sign(text)).rstrip(b"="))).decode()


def test_a_credentials_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(url: str, file: Path) -> None:
        async with pair(url, credentials_file=file) as (speaker, listener):
            speaker.bus.publish(SUBJECT, b"signed")
            await listener.until(lambda: bool(listener.heard))

    kinds = (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER, nkeys.PREFIX_BYTE_ACCOUNT)
    operator, account, user, stranger = map(key, kinds)
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    unbounded: dict[str, object] = {"subs": -1, "data": -1, "payload": -1}
    known = token(operator, account, type="account", limits=limits | {"wildcards": True})
    settings = [f"operator: {token(operator, operator, type='operator')}", "resolver: MEMORY"]
    settings.append(f"resolver_preload: {{ {public(account)}: {known} }}")
    files = {}
    for name, signer in (("good", account), ("bad", stranger)):
        files[name] = tmp_path / f"{name}.creds"
        lines = ["-----BEGIN NATS USER JWT-----", token(signer, user, type="user", **unbounded)]
        lines += ["------END NATS USER JWT------", "", "-----BEGIN USER NKEY SEED-----"]
        lines += [bytes(user.seed).decode(), "------END USER NKEY SEED------", ""]
        files[name].write_text("\n".join(lines))
    with Nats(settings=settings) as server:
        asyncio.run(main(server.url, files["good"]))
        assert "refuses the user, password or credentials" in refusal(server.url, caplog, credentials_file=files["bad"])
        assert "No such file" in refusal(server.url, caplog, credentials_file=tmp_path / "none.creds")


def test_what_is_no_nats_server_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server((LOOPBACK, 0)) as deaf:
        reason = refusal(f"nats://pilot:p%40ss@{LOOPBACK}:{deaf.getsockname()[1]}", caplog)
    assert "no answer" in reason
