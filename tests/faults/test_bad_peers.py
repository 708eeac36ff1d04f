"""Connections that mean harm or nothing: floods, half-said words, silence in thousands, readers that do not read."""

from __future__ import annotations

import os
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
from faults.canary import Canary
from faults.kit import CALL_SECONDS, Client, address, brain, memory
from faults.raw import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Raw,
    headers,
)
from harness.store import Store
from wharf.common.pb.etcd import rpc_pb2 as rpc
from wharf.wire.h2 import PREFACE
from wire.pair import raw_frame

KV_RANGE = "/etcdserverpb.KV/Range"
EVERYTHING = b"\x0a\x01\0\x12\x01\0"  # RangeRequest of all keys
IDLE = 10_000
RESERVE = 500  # file descriptors for everything else
MIB = 1 << 20


def settings_flood(_: int) -> bytes:
    return raw_frame(SETTINGS, 0, 0) * 100


def ping_flood(_: int) -> bytes:
    return raw_frame(PING, 0, 0, b"12345678") * 100


def rapid_reset(count: int) -> bytes:
    stream_id = 1 + 2 * count
    head = raw_frame(HEADERS, END_HEADERS, stream_id, headers(KV_RANGE))
    return head + raw_frame(RST_STREAM, 0, stream_id, b"\0\0\0\x08")


def continuation_flood(count: int) -> bytes:
    if count == 0:
        return raw_frame(HEADERS, 0, 1, b"\x82")
    return raw_frame(CONTINUATION, 0, 1, b"\x40\x01a\x01b")


def empty_data_flood(count: int) -> bytes:
    if count == 0:
        return raw_frame(HEADERS, END_HEADERS, 1, headers("/etcdserverpb.Watch/Watch"))
    return raw_frame(DATA, 0, 1) * 100


def window_flood(_: int) -> bytes:
    return raw_frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 100


@pytest.mark.parametrize(
    "make", [settings_flood, ping_flood, rapid_reset, continuation_flood, empty_data_flood, window_flood]
)
def test_floods_end_their_connection(victim: Store, canary: Canary, make: Callable[[int], bytes]) -> None:
    with Raw(victim).open() as raw:
        raw.flood(make, 50_000)
    canary.sing()


def test_random_bytes(victim: Store, canary: Canary) -> None:
    chance = Random(1)
    for number in range(200):
        with Raw(victim) as raw:
            data = chance.randbytes(chance.randrange(1, 2000))
            try:
                raw.send(PREFACE + data if number % 2 else data)
                raw.socket.shutdown(socket.SHUT_WR)
            except ConnectionError:
                continue
            raw.rest()


def test_words_half_said_are_not_waited_for(victim: Store, canary: Canary) -> None:
    """Slow loris: each of these keeps a connection, none keeps it long."""
    halves = (
        PREFACE[:7],
        PREFACE[:3],
        PREFACE + raw_frame(SETTINGS, 0, 0)[:5],
        PREFACE + raw_frame(SETTINGS, 0, 0) + raw_frame(HEADERS, 0, 1, headers(KV_RANGE)),
        b"",
    )
    with ExitStack() as stack:
        raws = [stack.enter_context(Raw(victim)) for _ in range(20) for _ in halves]
        for number, raw in enumerate(raws):
            raw.send(halves[number % len(halves)])
        canary.sing()
        for raw in raws:
            raw.rest()  # returns when the server closes; raises after CLOSE_SECONDS


def test_a_peer_that_is_gone_is_noticed(tmp_path: Path) -> None:
    """Half-open: the peer holds a watch and never says anything again, pings included."""
    flags = ("--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s")
    with brain(tmp_path, *flags) as store:
        with Raw(store).open() as raw:
            raw.send(raw_frame(HEADERS, END_HEADERS, 1, headers("/etcdserverpb.Watch/Watch")))
            raw.rest()
        assert store.process.stop() == 0


def test_clients_that_half_close_are_let_go(victim: Store, canary: Canary) -> None:
    with ExitStack() as stack:
        raws = [stack.enter_context(Raw(victim).open()) for _ in range(100)]
        for raw in raws:
            raw.send(raw_frame(HEADERS, END_HEADERS, 1, headers("/etcdserverpb.Watch/Watch")))
            raw.socket.shutdown(socket.SHUT_WR)
        for raw in raws:
            raw.rest()


@pytest.fixture
def file_limits() -> Iterator[tuple[int, int]]:
    """(few, as many as this process may have) file descriptors; restored at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield min(1024, hard), hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousands_of_idle_connections(tmp_path: Path, file_limits: tuple[int, int]) -> None:
    few, many = file_limits
    connections = min(IDLE, many - RESERVE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, many))  # as most shells have it: brain helps itself to more
    with brain(tmp_path) as store, ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (many, many))
        print(f"{connections} idle connections")
        bird = Canary(address(store), store.process.pid)
        bird.start()
        stack.callback(bird.end)
        bird.sing()
        before = memory(store.process.pid)
        hello = PREFACE + raw_frame(SETTINGS, 0, 0)
        for _ in range(connections):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", store.port), CALL_SECONDS))
            peer.sendall(hello)
        peer.recv(1)  # the last one is served, so all are
        bird.sing()
        assert len(os.listdir(f"/proc/{store.process.pid}/fd")) > connections
        assert memory(store.process.pid) - before < connections * 32 * 1024
        assert bird.failure is None
        assert store.process.stop(timeout=60) == 0, "idle connections do not hold it back"


def test_when_files_run_out_the_connected_are_served(tmp_path: Path) -> None:
    with brain(tmp_path) as store, ExitStack() as stack:
        bird = Canary(address(store), store.process.pid)
        bird.start()
        stack.callback(bird.end)
        bird.sing()
        used = len(os.listdir(f"/proc/{store.process.pid}/fd"))
        limit = resource.prlimit(store.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(store.process.pid, resource.RLIMIT_NOFILE, (used + 20, limit[1]))
        peers = [socket.create_connection(("127.0.0.1", store.port), CALL_SECONDS) for _ in range(60)]
        bird.sing(20)
        for peer in peers:
            peer.close()
        with Client(address(store)) as client:
            assert client.put(b"after", b"v")
        bird.sing()
        assert bird.failure is None
        assert store.process.stop(timeout=60) == 0


def test_tls_on_a_plain_port(victim: Store, canary: Canary) -> None:
    context = ssl.create_default_context()
    with Raw(victim) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(raw.socket, server_hostname="localhost")
    victim.process.wait_logged("speaks TLS to a port without TLS", CALL_SECONDS)


def test_plain_words_on_a_tls_port(tmp_path: Path) -> None:
    with brain(tmp_path, tls=True) as store:
        with Raw(store) as raw:
            raw.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            answer = raw.rest()
            assert b" 400 " in answer.partition(b"\r\n")[0] + b" "
            assert b"TLS" in answer
        for word in (PREFACE, b"\x16", b"\x16\x03\x01\xff\xff" + bytes(100), b""):
            with Raw(store) as raw:
                raw.send(word)
                raw.socket.shutdown(socket.SHUT_WR)
                raw.rest()
        assert store.process.stop() == 0


READERS = 10
LIST = 60 * MIB
HELD_MAX = 12 * MIB  # of a list: the 8 MiB that are read at once, and what is on its way


def test_slow_readers_of_a_large_list(tmp_path: Path) -> None:
    with brain(tmp_path) as store, ExitStack() as stack:
        with Client(address(store)) as client:
            for number in range(LIST // MIB):
                client.put(b"large/%03d" % number, bytes(MIB))
        bird = Canary(address(store), store.process.pid)
        bird.start()
        stack.callback(bird.end)
        bird.sing()
        before = memory(store.process.pid)
        readers = [stack.enter_context(Raw(store).open()) for _ in range(READERS)]
        for reader in readers:
            reader.call(1, KV_RANGE, EVERYTHING)
        begun = [first_data(reader) for reader in readers]
        assert all(begun)
        bird.sing(20)
        assert bird.peak - before < READERS * HELD_MAX, "waiting readers hold the first piece, not their lists"
        assert begun[0] + read_all(readers[0]) > LIST, "opened at last, the window gets it whole"
        assert bird.failure is None
        for reader in readers:
            reader.close()
        with Client(address(store)) as client:
            assert client.kv.Range(rpc.RangeRequest(key=b"large/000"), timeout=CALL_SECONDS).count == 1
        assert store.process.stop(timeout=60) == 0


def first_data(raw: Raw) -> int:
    while (frame := raw.frame()) is not None:
        if frame.kind == DATA and frame.payload:
            return len(frame.payload)
    return 0


def read_all(raw: Raw) -> int:
    """Open both windows and count the bytes until the end of stream 1."""
    for stream_id in (0, 1):
        raw.send(raw_frame(WINDOW_UPDATE, 0, stream_id, (2**31 - 1 - 65535).to_bytes(4, "big")))
    size = 0
    while (frame := raw.frame()) is not None:
        if frame.stream_id == 1:
            size += len(frame.payload) if frame.kind == DATA else 0
            if frame.flags & END_STREAM and frame.kind in (DATA, HEADERS):
                break
    return size
