"""TCP beneath the shells: addresses as text, socket options, dialling a name with several addresses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any

_KEEPALIVE_IDLE, _KEEPALIVE_INTERVAL, _KEEPALIVE_COUNT = 30, 10, 4  # seconds, seconds, probes
_TCP_CLOSE = 7  # a state, of Linux
_BYTES_ACKED = 120  # where tcpi_bytes_acked begins in Linux's struct tcp_info
_NEXT_ADDRESS = 0.25  # seconds a dial may be alone before the next address is tried beside it (RFC 8305: 250 ms)

AddressInfo = tuple[int, int, int, str, Any]


class ListenError(OSError):
    """A listening socket that cannot be bound. `host` and `port` are those that were asked for, or `path` of a file."""

    def __init__(self, number: int | None, host: str, port: int, reason: str | None, path: str = "") -> None:
        where = f"unix://{path}" if path else f"{host}:{port}"
        super().__init__(number, f"cannot listen on {where}: {reason}")
        self.host, self.port, self.path, self.reason = host, port, path, reason or ""


def peer_address(name: Any) -> str:
    """A socket's name as text: "127.0.0.1:4711", "[::1]:4711", or "@" for a Unix socket."""
    if isinstance(name, tuple):
        host, port = name[0], name[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return "@"


def tune(sock: Any, user_timeout: float) -> None:
    """No Nagle; a peer that vanished is found by keepalive probes, or after `user_timeout` seconds without an ACK.

    Linux counts a window that stays shut like a missing ACK. 0: the system's own patience.
    """
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):  # a connection that is gone already takes no options
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_COUNT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(user_timeout * 1000))


def is_gone(sock: Any) -> bool:
    """Whether the connection is over at both ends, by reset or by silence, which only who reads is told otherwise."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    with contextlib.suppress(OSError):
        return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE)
    return True


def bytes_acked(sock: Any) -> int:
    """How many bytes the peer has acknowledged; -1 where the system does not say."""
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
            if len(info) == _BYTES_ACKED + 8:
                return int.from_bytes(info[_BYTES_ACKED:], sys.byteorder)
    return -1


def reset_on_close(sock: Any) -> None:
    """Have a close end the connection by RST instead of FIN."""
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def bind_tcp(host: str, port: int, reuse_port: bool) -> socket.socket:
    """A bound, non-blocking socket; an empty host is every address, port 0 any free one. ListenError."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise ListenError(error.errno, host, port, error.strerror) from error
    sock.setblocking(False)
    return sock


async def dial(host: str, port: int) -> socket.socket:
    """A connected, non-blocking socket. Addresses of both families take turns, each with a head start on the next.

    OSError, that of the first address, when none can be reached. The caller bounds the time.
    """
    loop = asyncio.get_running_loop()
    found = _numeric(host, port) or await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if len(found) == 1:
        return await _dial_one(found[0])
    waiting = interleave(found)
    dials: set[asyncio.Task[socket.socket]] = set()
    first_error: OSError | None = None
    try:
        while waiting or dials:
            if waiting:
                dials.add(loop.create_task(_dial_one(waiting.pop(0))))
            done, dials = await asyncio.wait(
                dials, timeout=_NEXT_ADDRESS if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    _discard(done - {task})
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
                first_error = first_error or error
    finally:
        for task in dials:
            task.cancel()
        if dials:
            _discard((await asyncio.wait(dials))[0])
    raise first_error or OSError(f"{host} has no address")


def interleave(found: Sequence[AddressInfo]) -> list[AddressInfo]:
    """Addresses in the resolver's order, but families in turn, so that one broken family costs one head start."""
    first = found[0][0] if found else 0
    own = [item for item in found if item[0] == first]
    other = [item for item in found if item[0] != first]
    mixed: list[AddressInfo] = []
    while own or other:
        mixed += own[:1] + other[:1]
        own, other = own[1:], other[1:]
    return mixed


def _numeric(host: str, port: int) -> Sequence[AddressInfo]:
    """An address needs no resolver, and no thread to wait for one."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return []


async def _dial_one(address: AddressInfo) -> socket.socket:
    sock = socket.socket(address[0], address[1], address[2])
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address[4])
    except BaseException:
        sock.close()
        raise
    return sock


def _discard(tasks: set[asyncio.Task[socket.socket]]) -> None:
    """Close what a race won beside the winner."""
    for task in tasks:
        if not task.cancelled() and task.exception() is None:
            task.result().close()
