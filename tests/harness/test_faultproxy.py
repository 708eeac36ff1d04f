"""The fault proxy: each fault does what it says to real connections, and healing undoes it."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.faultproxy import FaultProxy
from harness.natsfaults import NatsFaults, Rates

SECONDS = 20.0
SILENCE = 0.2  # how long nothing must come for it to count as nothing


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    """The port of a server that sends everything back."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                client.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],)).start()

    thread = threading.Thread(target=accept)
    thread.start()
    yield int(server.getsockname()[1])
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy() as proxy:
        yield proxy


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=SECONDS)


def says(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return receive(client, len(data))


def receive(client: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (more := client.recv(size - len(got))):
        got += more
    return got


def silent(client: socket.socket) -> bool:
    client.settimeout(SILENCE)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(SECONDS)
    return False


def broken(client: socket.socket) -> bool:
    try:
        client.sendall(b"x")
        return client.recv(1) == b""
    except OSError:
        return True


def test_bytes_pass_both_ways_whole(proxy: FaultProxy, echo: int) -> None:
    data = random.Random(0).randbytes(1 << 20)
    with connect(proxy.add("a", echo)) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        assert receive(client, len(data)) == data
        sender.join()
    assert proxy.stats("a")["up"] == len(data) == proxy.stats("a")["down"]


@pytest.mark.parametrize("way", ["both", "up", "down"])
def test_a_pause_holds_and_closes_nothing(proxy: FaultProxy, echo: int, way: str) -> None:
    port = proxy.add("a", echo)
    with connect(port) as client:
        assert says(client, b"one") == b"one"
        proxy.pause("a", way)
        client.sendall(b"two")
        assert silent(client)
        with connect(port) as late:
            late.sendall(b"three")
            assert silent(late)
            proxy.heal("a")
            assert receive(late, 5) == b"three"
        assert receive(client, 3) == b"two"


def test_a_pause_of_one_way_lets_the_other_pass(proxy: FaultProxy, echo: int) -> None:
    with connect(proxy.add("a", echo)) as client:
        assert says(client, b"one") == b"one"
        proxy.pause("a", "down")
        client.sendall(b"two")
        assert silent(client)
        assert proxy.stats("a")["up"] == 6
        assert proxy.stats("a")["down"] == 3


def test_a_cut_breaks_and_refuses_until_healed(proxy: FaultProxy, echo: int) -> None:
    port = proxy.add("a", echo)
    with connect(port) as client, connect(proxy.add("b", echo)) as other:
        assert says(client, b"one") == b"one"
        assert says(other, b"one") == b"one"
        proxy.cut("a")
        assert broken(client)
        with connect(port) as late:
            assert broken(late)
        proxy.heal("a")
        with connect(port) as late:
            assert says(late, b"two") == b"two"
        assert says(other, b"two") == b"two", "another link is not touched"


def test_a_reset_breaks_only_what_is_open(proxy: FaultProxy, echo: int) -> None:
    port = proxy.add("a", echo)
    with connect(port) as client:
        assert says(client, b"one") == b"one"
        proxy.reset("a")
        assert broken(client)
    with connect(port) as client:
        assert says(client, b"two") == b"two"


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_limit_breaks_in_the_middle_of_a_message(proxy: FaultProxy, echo: int, way: str) -> None:
    with connect(proxy.add("a", echo)) as client:
        assert says(client, b"one") == b"one"
        proxy.limit("a", 4, way)
        client.sendall(b"two three")
        with contextlib.suppress(OSError):
            while client.recv(100):
                pass
        assert broken(client)
        assert proxy.stats("a")[way] == 7
    with connect(proxy.add("b", echo)) as client:
        assert says(client, b"one") == b"one"


def test_a_delay_is_one_of_each_way(proxy: FaultProxy, echo: int) -> None:
    with connect(proxy.add("a", echo)) as client:
        assert says(client, b"one") == b"one"
        proxy.delay("a", 3 * SILENCE)
        client.sendall(b"two")
        assert silent(client)
        assert receive(client, 3) == b"two"


def test_an_unknown_link_is_named_and_harms_no_other(proxy: FaultProxy, echo: int) -> None:
    with pytest.raises(ValueError, match="pause on b"):
        proxy.pause("b")
    with connect(proxy.add("a", echo)) as client:
        assert says(client, b"one") == b"one"


def test_a_dead_target_is_a_broken_connection(proxy: FaultProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = int(gone.getsockname()[1])
    with connect(proxy.add("a", port)) as client:
        assert broken(client)


# --- NATS ---


def frames(count: int) -> list[bytes]:
    found = []
    for number in range(count):
        body = b"%d\r\nMSG x" % number  # what looks like a frame inside a payload is none
        found.append(b"MSG s 1 %d\r\n%s\r\n" % (len(body), body))
        if number % 3 == 0:
            found.append(b"HMSG s 1 12 %d\r\nNATS/1.0\r\n\r\n%s\r\n" % (12 + len(body), body))
        if number % 7 == 0:
            found.append(b"PING\r\n")
    return found


@given(st.lists(st.integers(1, 40)), st.randoms(use_true_random=False))
def test_without_faults_a_stream_of_frames_passes_as_it_is(sizes: list[int], chance: random.Random) -> None:
    data, out, faults = b"".join(frames(20)), b"", NatsFaults(Rates())
    for size in sizes:
        out += faults.feed(data[:size])
        data = data[size:]
    assert out + faults.feed(data) == b"".join(frames(20))


@pytest.mark.parametrize("rates", [Rates(drop=0.3), Rates(duplicate=0.3), Rates(reorder=0.3), Rates(0.2, 0.2, 0.2)])
def test_messages_are_lost_doubled_and_disordered_whole(rates: Rates) -> None:
    sent = frames(300)
    faults = NatsFaults(rates, seed=1)
    got = faults.feed(b"".join([*sent, b"PING\r\n"]))
    whole, again = NatsFaults(Rates()), []
    for at in range(0, len(got), 11):
        again.append(whole.feed(got[at : at + 11]))
    assert b"".join(again) == got, "only whole frames"
    assert got.count(b"PING") == sum(frame == b"PING\r\n" for frame in sent) + 1, "only messages are touched"
    kept = sum(got.count(frame) > 0 for frame in sent)
    assert (faults.dropped > 10) == (rates.drop > 0) == (kept < len(sent))
    assert (faults.duplicated > 10) == (rates.duplicate > 0)
    assert (faults.reordered > 10) == (rates.reorder > 0)
