"""How coupled requests end: a client that goes away, an upstream that fails, an owner that ends it himself."""

from __future__ import annotations

import pytest
from wharf.wire.web import Fault
from wire.web_pair import Chain, Held, answer, is_clean

MIB = 1 << 20


@pytest.mark.parametrize(
    "step", ["before the upstream saw it", "before the head", "after the head", "with bytes queued"]
)
@pytest.mark.parametrize("how", ["reset", "connection lost", "abort"])
def test_edge_25_a_client_that_goes_away_resets_the_upstream_at_once(step: str, how: str) -> None:
    origin = Held(respond=step in {"after the head", "with bytes queued"})
    chain = Chain(origin)
    if step == "with bytes queued":
        seen = chain.ask(take=False)
        origin.exchanges[0].send(bytes(MIB))
        chain.run()
        assert chain.back.client.held_bytes > 0
    elif step == "before the upstream saw it":
        chain.front.client.request(b"GET", b"/", b"h", [])
        chain.front.run()
    else:
        seen = chain.ask()
        assert seen.status == (200 if step == "after the head" else 0)
    if how == "reset":
        chain.front.client.streams[1].reset()
        chain.front.client.pump()
        chain.front.server.receive(b"".join(chain.front.wire.to_server))
        chain.front.wire.to_server.clear()
    elif how == "abort":
        chain.exchanges[0].abort()
    else:
        chain.front.server.close()
    assert chain.upstreams[0].done, "before the loop turns"
    chain.back.run()
    assert origin.cancels == ([] if step == "before the upstream saw it" else [1])
    assert chain.back.client.streams == chain.back.server.streams == {}
    assert chain.back.client.held_bytes == 0
    chain.front.server.pump()
    assert chain.told == ([] if how == "abort" else [("cancel", None)])


@pytest.mark.parametrize("clean_end", [False, True])
@pytest.mark.parametrize("how", ["reset", "connection lost", "goaway"])
def test_edge_24_an_upstream_that_fails_after_the_head(clean_end: bool, how: str) -> None:
    origin = Held(respond=True)
    chain = Chain(origin, clean_end=clean_end)
    seen = chain.ask()
    origin.exchanges[0].send(b"event\n")
    chain.run()
    fault = fail(chain, origin, how)
    chain.run()
    assert seen.body == b"event\n"
    assert [what for what, _ in chain.told] == (["failure", "complete"] if clean_end else ["failure"])
    assert chain.told[0][1].fault is fault
    if clean_end:
        assert seen.ended
    else:
        assert seen.failure is not None
        assert (seen.failure.fault, seen.failure.code) == (Fault.RESET, 2)
    assert chain.exchanges[0].done
    assert chain.front.server.open_streams == chain.front.server.unsent == 0


def test_edge_24_an_announced_length_is_never_cut_short_cleanly() -> None:
    origin = Held()
    chain = Chain(origin, clean_end=True)
    seen = chain.ask()
    origin.exchanges[0].respond(200, [(b"content-length", b"100")])
    origin.exchanges[0].send(b"part")
    chain.run()
    fail(chain, origin, "connection lost")
    chain.run()
    assert seen.failure is not None
    assert not seen.ended


def fail(chain: Chain, origin: Held, how: str) -> Fault:
    """The upstream fails in one of its ways."""
    if how == "reset":
        origin.exchanges[0].abort(2)
        return Fault.RESET
    if how == "connection lost":
        chain.back.client.close()
        return Fault.LOST
    chain.back.client.receive(b"\0\0\x08\x07\0\0\0\0\0" + bytes(8))
    chain.back.client.pump()
    return Fault.REFUSED


@pytest.mark.parametrize("how", ["reset", "connection lost", "goaway"])
def test_edge_29_a_failure_before_the_head_leaves_the_exchange_for_another_try(how: str) -> None:
    origin = Held()
    chain = Chain(origin)
    seen = chain.ask(headers=[(b"a", b"b")])
    fault = fail(chain, origin, how)
    chain.run()
    assert [told[1].fault for told in chain.told] == [fault]
    exchange = chain.exchanges[0]
    assert not exchange.responded
    assert not exchange.done
    other = Chain(answer)
    request = other.back.client.forward(exchange, other.request_filter, [], b"other.test")
    request.couple(exchange, other.response_filter)
    other.run()
    chain.run()
    other.run()
    assert (seen.status, seen.body, seen.ended) == (200, b"hello world", True)
    assert seen.header(b"audit-id") == b"7"


def test_an_exchange_answered_by_its_owner_cancels_the_upstream() -> None:
    origin = Held()
    chain = Chain(origin)
    seen = chain.ask()
    chain.exchanges[0].respond(504, [], end=True)
    chain.run()
    assert seen.status == 504
    assert origin.cancels == [1]
    assert chain.told == [("complete", None)]
    is_clean(chain)


def test_edge_36_a_watch_ended_by_its_owner_ends_cleanly_with_all_that_came() -> None:
    origin = Held(respond=True)
    chain = Chain(origin)
    seen = chain.ask()
    origin.exchanges[0].send(b"last event\n")
    chain.back.run()
    chain.exchanges[0].send(b"not mine to say")
    chain.exchanges[0].finish()
    chain.run()
    assert (seen.body, seen.ended) == (b"last event\n", True)
    assert origin.cancels == [1]
    is_clean(chain)


def test_a_request_reset_by_its_owner_leaves_the_exchange_to_him() -> None:
    origin = Held(respond=True)
    chain = Chain(origin)
    seen = chain.ask()
    chain.upstreams[0].reset()
    chain.run()
    assert origin.cancels == [1]
    assert not seen.ended
    chain.exchanges[0].finish()
    chain.run()
    assert seen.ended
    is_clean(chain)
