"""Socket files of listeners: who may connect, what happens to files that are there already, and at the end."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest
import uvloop
from wharf.wire.server import GrpcServer, ListenerConfig
from wharf.wire.unix import bind_unix, remove_socket_file
from wire.net import ECHO, METHODS, dial, serving


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "wire.sock")


def left_by_a_process_that_is_gone(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_only_its_user_may_connect_whatever_the_umask(path: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        with bind_unix(path):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 & ~umask
    finally:
        os.umask(before)


def test_socket_file_without_a_process_is_replaced(path: str) -> None:
    left_by_a_process_that_is_gone(path)
    with bind_unix(path) as sock:
        sock.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_socket_file_of_a_running_process_is_left_alone(path: str) -> None:
    async def main() -> None:
        async with serving(unix_path=path), dial(f"unix:{path}") as channel:
            with pytest.raises(OSError, match=f"unix://{path}: a running process") as caught:
                await GrpcServer(METHODS, [ListenerConfig(unix_path=path)]).start()
            assert caught.value.errno == errno.EADDRINUSE
            assert await channel.unary_unary(ECHO)(b"x") == b"x"

    uvloop.run(main())
    assert not Path(path).exists()


def test_file_that_is_no_socket_is_left_alone(path: str) -> None:
    Path(path).write_text("keep")
    with pytest.raises(OSError, match="the file is no socket") as caught:
        bind_unix(path)
    assert caught.value.errno == errno.EEXIST
    assert Path(path).read_text() == "keep"


def test_missing_directory_is_named(path: str) -> None:
    with pytest.raises(OSError, match=f"cannot listen on unix://{path}/x: "):
        bind_unix(f"{path}/x")


def test_socket_file_that_another_process_made_meanwhile_is_not_removed(path: str) -> None:
    async def main() -> None:
        async with serving(unix_path=path):
            os.rename(path, f"{path}.moved")
            left_by_a_process_that_is_gone(path)

    uvloop.run(main())
    assert Path(path).exists()
    remove_socket_file(path, os.stat(path).st_ino)
    assert not Path(path).exists()
    remove_socket_file(path, 1)
