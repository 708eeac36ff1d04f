"""`features.closeIdle`: clients are moved to other connections, and lose nothing by it."""

from __future__ import annotations

import pytest
from gateway.serve.kit import answer, run, stack, until
from gateway.serve.test_streams import EVENT, WATCH, begin

AWAY = {"closeIdle": True}


@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_each_request_has_a_connection_of_its_own_while_clients_are_asked_to_leave(protocol: str) -> None:
    async def main() -> None:
        async with stack(features=AWAY) as made:
            client = made.client(made.pki.alice, protocol)
            for number in range(1, 4):
                assert (await made.ask(client)).status == 200
                await until(lambda: client.stats.connections == 0, "the connection is not used again")
                assert client.stats.dials == number
            await until(lambda: not made.gateway.server.connections)

    run(main())


def test_a_watch_lives_on_when_its_connection_is_left() -> None:
    async def main() -> None:
        async with stack() as made:
            client, server = made.client(made.pki.alice), made.servers[0]
            server.behave = begin
            watch = await made.open(client, WATCH)
            await until(lambda: watch.status == 200)
            await made.apply(made.document(features=AWAY))
            server.behave = answer
            assert (await made.ask(client)).status == 200
            await until(lambda: client.stats.draining == 1)
            await made.apply(made.document())
            for _ in range(3):
                assert (await made.ask(client)).status == 200
            assert client.stats.dials == 2
            server.requests[0].exchange.send(EVENT)
            await until(lambda: watch.body == EVENT)

    run(main())
