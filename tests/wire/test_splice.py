"""Two joined tunnels end, also where one of them fails while it is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
import uvloop
from wharf.wire.splice import Splice, join
from wharf.wire.web import Tunnel
from wire.net import eventually

GRACE = 0.01


class FakeTunnel:
    """Fails in what `broken` names."""

    def __init__(self, broken: str = "") -> None:
        self._broken = broken
        self.calls: list[str] = []
        self.writable = True
        self.on_data: Callable[[bytes], None] | None = None
        self.on_eof: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None
        self.on_closed: Callable[[Exception | None], None] | None = None

    def _do(self, what: str) -> None:
        self.calls.append(what)
        if what == self._broken:
            raise ValueError("broken")

    @property
    def buffered(self) -> int:
        self._do("buffered")
        return 7

    def close(self) -> None:
        self._do("close")

    def abort(self) -> None:
        self._do("abort")

    def write_eof(self) -> None:
        self._do("write_eof")

    def resume_reading(self) -> None:
        self._do("resume_reading")

    def pause_reading(self) -> None:
        self._do("pause_reading")


def joined(a: FakeTunnel, b: FakeTunnel) -> Splice:
    return join(cast(Tunnel, a), cast(Tunnel, b), GRACE, lambda _, __: None)


def quiet() -> None:
    """Exceptions are what these tests provoke."""
    asyncio.get_running_loop().set_exception_handler(lambda _, __: None)


@pytest.mark.parametrize("broken", ["", "write_eof"])
def test_both_are_closed_when_nothing_moves_after_one_end(broken: str) -> None:
    async def main() -> None:
        a, b = FakeTunnel(), FakeTunnel(broken)
        joined(a, b)
        assert a.on_eof is not None
        asyncio.get_running_loop().call_soon(a.on_eof)
        await eventually(lambda: "close" in a.calls and "close" in b.calls)

    async def quietly() -> None:
        quiet()
        await main()

    uvloop.run(quietly())


def test_the_second_is_closed_when_the_first_cannot_be() -> None:
    async def main() -> None:
        quiet()
        a, b = FakeTunnel("close"), FakeTunnel()
        joined(a, b)
        assert a.on_eof is not None
        a.on_eof()
        await eventually(lambda: "close" in b.calls)

    uvloop.run(main())


@pytest.mark.parametrize("broken", ["", "buffered", "close"])
def test_what_is_left_for_the_server_is_cut_when_it_does_not_move(broken: str) -> None:
    async def main() -> None:
        quiet()
        a, b = FakeTunnel(), FakeTunnel(broken)
        joined(a, b)
        assert a.on_closed is not None
        asyncio.get_running_loop().call_soon(a.on_closed, None)
        await eventually(lambda: "abort" in b.calls)

    uvloop.run(main())
