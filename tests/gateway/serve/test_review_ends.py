"""Every way a request can end gives back what it held: places at servers, places in limits, streams upstream."""

from __future__ import annotations

import asyncio

import pytest
from gateway.serve.kit import Server, Stack, answer, run, stack, until
from gateway.serve.test_streams import EVENT, WATCH, begin
from gateway.serve.test_upgrades import Raw, agree
from wharf.gateway.serve.dispatch import expire
from wharf.gateway.serve.flight import Flight
from wharf.wire.tcp import reset_on_close
from wharf.wire.web import Exchange

REFUSED_STREAM = 7


def idle(made: Stack) -> bool:
    """Whether nothing is under way anywhere, by every count."""
    runtimes = made.gateway.registry.runtimes.values()
    places = [place for runtime in runtimes for place in (*runtime.members.endpoints, *runtime.members.leaving)]
    return not made.gateway.handler.active and not any(endpoint.in_flight for endpoint in places)


def refuse(exchange: Exchange) -> None:
    exchange.abort(REFUSED_STREAM)


async def silence(made: Stack, server: Server) -> None:
    """From now on new connections to this server get no answer; those it has go on."""

    def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.down.callback(writer.close)

    server.web.stop_accepting()
    deaf = await asyncio.start_server(hold, "127.0.0.1", server.port)
    made.down.callback(deaf.close)


async def watch_of_the_other(made: Stack, refusing: Server, serving: Server, protocol: str) -> None:
    refusing.behave, serving.behave = refuse, begin
    opened = await made.open(made.client(made.pki.alice, protocol), WATCH, [(b"x-asked", b"1")])
    await until(lambda: opened.status == 200, "somebody serves the watch")
    seen = serving.requests[-1]
    assert seen.values(b"x-asked") == [b"1"]
    assert seen.values(b"x-remote-user") == [b"alice"]
    assert (b"x-wharf-server", serving.name.encode()) in opened.headers
    seen.exchange.send(EVENT)
    seen.exchange.finish()
    await until(lambda: opened.ended)


@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_a_watch_that_one_server_refuses_is_asked_of_the_next_with_all_its_headers(protocol: str) -> None:
    async def main() -> None:
        async with stack(2) as made:
            one, other = made.servers
            for refusing, serving in ((one, other), (other, one), (other, one)):
                await watch_of_the_other(made, refusing, serving, protocol)
            assert len(one.requests) + len(other.requests) > 3, "nobody was refused"
            await until(lambda: idle(made))

    run(main())


def test_the_headers_of_a_watch_are_let_go_once_it_runs() -> None:
    async def main() -> None:
        async with stack() as made:
            made.servers[0].behave = begin
            await made.open(made.client(made.pki.alice), WATCH, [(b"x-asked", b"1")])
            await until(lambda: made.gateway.handler.active)
            (flight,) = made.gateway.handler.active
            assert flight.exchange.headers
            await until(lambda: not flight.exchange.headers)

    run(main())


@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_an_answer_names_the_server_it_is_from_after_another_failed(protocol: str) -> None:
    async def main() -> None:
        async with stack(2) as made:
            client = made.client(made.pki.alice, protocol)
            for refusing, serving in (made.servers, made.servers[::-1], made.servers[::-1]):
                refusing.behave, serving.behave = refuse, answer
                for method, body in ((b"GET", b""), (b"PUT", b"x")):
                    response = await made.ask(client, method=method, body=body)
                    assert response.status == 200
                    assert response.header(b"x-wharf-server") == serving.name.encode()
            await until(lambda: idle(made))

    run(main())


def test_a_client_that_goes_before_an_upgrade_is_answered_leaves_nothing() -> None:
    async def main() -> None:
        async with stack() as made:
            made.servers[0].behave = lambda _: None
            raw = await Raw.connect(made)
            asking = asyncio.create_task(raw.ask(b"SPDY/3.1", b"POST"))
            await until(lambda: made.servers[0].requests)
            raw.writer.transport.abort()
            await asyncio.gather(asking, return_exceptions=True)
            await until(lambda: idle(made))
            await until(lambda: made.servers[0].web.open_exchanges == 0)

    run(main())


def test_a_client_that_goes_while_another_try_waits_for_a_connection_leaves_nothing() -> None:
    async def main() -> None:
        async with stack(2, timeouts={"connect": 60}) as made:
            one, silent = made.servers
            one.behave = refuse
            await silence(made, silent)
            (other,) = [
                endpoint
                for endpoint in made.gateway.registry.runtimes["prod"].members.endpoints
                if endpoint.name == silent.name
            ]
            client = made.client()
            for _ in range(2):
                opened = await made.open(client, b"/version")
                await until(lambda: other.short.in_flight == 1, "it waits for a connection")
                opened.request.reset()
                await until(lambda: idle(made), "nothing waits for nobody")
            assert one.requests, "there was no other try"

    run(main())


def test_an_upgrade_is_counted_at_its_server_from_beginning_to_end() -> None:
    async def main() -> None:
        async with stack() as made:
            made.servers[0].behave = agree(b"SPDY/3.1")
            raw = await Raw.connect(made)
            await raw.ask(b"SPDY/3.1", b"POST")
            (endpoint,) = made.gateway.registry.runtimes["prod"].members.endpoints
            assert endpoint.long.in_flight == 1
            raw.writer.transport.abort()
            await until(lambda: idle(made))

    run(main())


def test_a_server_that_reads_no_more_does_not_outlive_its_upgraded_client() -> None:
    async def main() -> None:
        async with stack(timeouts={"halfClose": 1}) as made:

            def deaf(exchange: Exchange) -> None:
                exchange.upgrade([(b"upgrade", b"SPDY/3.1")]).pause_reading()

            made.servers[0].behave = deaf
            raw = await Raw.connect(made)
            await raw.ask(b"SPDY/3.1", b"POST")
            (flight,) = made.gateway.handler.active
            raw.writer.write(bytes(32 << 20))
            await until(lambda: flight.splice is not None and flight.splice.bytes_a > 0)
            seen = -1
            while flight.splice is not None and flight.splice.bytes_a > seen:
                seen = flight.splice.bytes_a
                await asyncio.sleep(0.2)
            reset_on_close(raw.writer.get_extra_info("socket"))
            raw.writer.transport.abort()
            await until(lambda: idle(made))
            await until(lambda: made.servers[0].web.open_exchanges == 0)

    run(main())


def test_too_few_connections_of_ours_speak_against_no_server() -> None:
    async def main() -> None:
        async with stack(breaker={"pendingMax": 1}, retry={"attempts": 0}) as made:
            await silence(made, made.servers[0])
            client = made.client()
            waiting = await made.open(client, b"/version")
            (endpoint,) = made.gateway.registry.runtimes["prod"].members.endpoints
            await until(lambda: endpoint.short.in_flight == 1)
            for _ in range(20):
                assert (await made.ask(client, b"/version")).status == 503
            assert endpoint.failed == 0
            waiting.request.reset()
            await until(lambda: idle(made))

    run(main())


@pytest.mark.parametrize("target", [WATCH, b"/version"])
def test_who_waits_for_a_connection_is_not_waited_for_while_stopping_if_it_is_a_watch(target: bytes) -> None:
    async def main() -> None:
        async with stack(timeouts={"connect": 60}, flags={"drain_timeout": 30.0}) as made:
            await silence(made, made.servers[0])
            opened = await made.open(made.client(), target)
            (endpoint,) = made.gateway.registry.runtimes["prod"].members.endpoints
            await until(lambda: endpoint.in_flight == 1)
            draining = asyncio.create_task(made.gateway.drain())
            if target == WATCH:
                await until(lambda: opened.status == 503)
                assert (b"x-wharf-gateway", b"stopping") in opened.headers
            else:
                opened.request.reset()
            await until(draining.done)
            assert idle(made)

    run(main())


@pytest.mark.parametrize("protocol", ["h2", "http1"])
def test_a_short_request_has_a_limit_for_the_whole_answer_too(protocol: str) -> None:
    async def main() -> None:
        async with stack(timeouts={"head": 0.2, "total": 0.4}) as made:
            made.servers[0].behave = begin
            opened = await made.open(made.client(made.pki.alice, protocol), b"/api/v1/pods")
            await until(lambda: opened.status == 200)
            stream = await made.open(made.client(made.pki.alice, protocol), WATCH)
            await until(lambda: opened.over)
            assert not opened.ended
            await until(lambda: made.servers[0].requests[0].exchange.done, "the server is told")
            (flight,) = made.gateway.handler.active
            (endpoint,) = made.gateway.registry.runtimes["prod"].members.endpoints
            assert (flight.info.verb, endpoint.short.in_flight, endpoint.failed) == ("watch", 0, 0)
            made.servers[0].requests[1].exchange.finish()
            await until(lambda: stream.ended)

    run(main())


def test_deadlines_are_kept_after_one_that_could_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[Flight] = []

    def broken(flight: Flight) -> None:
        if not failed:
            failed.append(flight)
            raise ValueError("broken")
        expire(flight)

    monkeypatch.setattr("wharf.gateway.serve.handler.expire", broken)

    async def main() -> None:
        async with stack(timeouts={"head": 0.2}) as made:
            made.servers[0].behave = lambda exchange: None
            client = made.client(made.pki.alice)
            assert (await made.ask(client)).status == 500
            assert (await made.ask(client)).status == 504
            assert not made.gateway.handler.active

    run(main())
