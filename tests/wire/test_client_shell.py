"""Dialling an upstream: whose failure it is."""

from __future__ import annotations

import errno
import os
import socket

import pytest
import uvloop
from wharf.wire import client_shell
from wharf.wire.client import HttpPool
from wharf.wire.client_shell import RequestFailed, Target
from wharf.wire.web import Fault


@pytest.mark.parametrize(
    ("code", "fault"),
    [(errno.EMFILE, Fault.FULL), (errno.EADDRNOTAVAIL, Fault.FULL), (errno.ECONNREFUSED, Fault.UNSENT)],
)
def test_no_socket_on_this_machine_is_not_the_upstreams_failure(
    code: int, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(host: str, port: int) -> socket.socket:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(client_shell, "dial", fail)

    async def main() -> None:
        pool = HttpPool(Target("127.0.0.1", 1))
        with pytest.raises(RequestFailed, match=os.strerror(code)) as failed:
            await pool.connect()
        assert failed.value.failure.fault is fault
        await pool.close()

    uvloop.run(main())
