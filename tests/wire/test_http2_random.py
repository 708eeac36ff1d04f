"""A proxied connection under any order of events: whoever ends what and when, nobody sees bytes that were not sent, a
response that ends as if whole is whole, everybody is told once, and nothing is left."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from wharf.wire.limits import ClientLimits, ConnectionLimits
from wharf.wire.web_h2 import HttpClientStream, HttpServerStream
from wire.web_pair import Chain, Seen, is_clean

WINDOW = 65536


class Watch:
    """One request's way: who asked, the exchange, the request upstream, the origin's exchange, and what was said."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.exchange: HttpServerStream | None = None
        self.request: HttpClientStream | None = None
        self.origin: HttpServerStream | None = None
        self.sent = b""
        self.finished = False  # by the origin
        self.cut = False  # by the proxy's own finish: its end is no promise
        self.told: list[str] = []
        self.told_upstream: list[str] = []


class World:
    """The chain and everything under way on it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.watches: dict[bytes, Watch] = {}
        self.count = 0
        limits = ConnectionLimits(stream_window=WINDOW, resets_burst=10_000)
        client = ClientLimits(stream_window=WINDOW, held_max=8 * WINDOW)
        self.chain = Chain(
            self.serve_origin, proxy=self.proxy, front_limits=limits, origin_limits=limits, back_limits=client
        )

    def proxy(self, chain: Chain, exchange: HttpServerStream) -> None:
        watch = self.watches[exchange.target]
        watch.exchange = exchange
        exchange.on_cancel = lambda: watch.told.append("cancel")
        exchange.on_complete = lambda: watch.told.append("complete")
        if chain.back.client.capacity == 0:
            exchange.abort()
            return
        request = watch.request = chain.back.client.forward(exchange, chain.request_filter)
        request.on_end = lambda trailers: watch.told_upstream.append("end")
        request.on_failure = lambda failure: watch.told_upstream.append("failure")
        late = self.random.random() < 0.3
        if late:
            request.on_head = lambda status, headers: request.couple(exchange, chain.response_filter)
        else:
            request.couple(exchange, chain.response_filter)

    def serve_origin(self, exchange: HttpServerStream) -> None:
        self.watches[exchange.target].origin = exchange
        if self.random.random() < 0.7:
            exchange.respond(200, [])

    def pick(self) -> Watch | None:
        return self.random.choice(list(self.watches.values())) if self.watches else None

    # --- what may happen
    def ask(self) -> None:
        if self.chain.front.client.capacity == 0:
            return
        target = b"/%d" % self.count
        self.count += 1
        seen = Seen(self.chain.front.client.request(b"GET", target, b"h", []), take=self.random.random() < 0.5)
        self.watches[target] = Watch(seen)

    def say(self) -> None:
        watch = self.pick()
        if watch is None or watch.origin is None or watch.origin.done or watch.finished:
            return
        watch.origin.respond(200, [])
        piece = self.random.randbytes(self.random.choice([1, 1000, 100_000]))
        watch.origin.send(piece)
        watch.sent += piece

    def finish(self) -> None:
        watch = self.pick()
        if watch is not None and watch.origin is not None and not watch.origin.done:
            watch.origin.respond(200, [])
            watch.origin.finish([(b"t", b"1")] if self.random.random() < 0.5 else ())
            watch.finished = True

    def break_origin(self) -> None:
        watch = self.pick()
        if watch is not None and watch.origin is not None:
            watch.origin.abort()

    def leave(self) -> None:
        watch = self.pick()
        if watch is not None:
            watch.seen.request.reset()

    def end_by_proxy(self) -> None:
        watch = self.pick()
        if watch is None or watch.exchange is None:
            return
        watch.cut = True
        how = self.random.randrange(3)
        if how == 0:
            watch.exchange.abort()
        elif how == 1:
            watch.exchange.finish()
        else:
            watch.exchange.respond(503, [], end=True)

    def give_up_upstream(self) -> None:
        watch = self.pick()
        if watch is not None and watch.request is not None:
            watch.cut = True
            watch.request.reset()

    def read(self) -> None:
        watch = self.pick()
        if watch is not None:
            watch.seen.taking = not watch.seen.taking
            watch.seen.request.take(WINDOW)

    def pause(self) -> None:
        side = self.random.choice([self.chain.front.server, self.chain.back.client])
        side.paused = not side.paused

    def carry(self) -> None:
        self.random.choice([self.chain.front, self.chain.back]).wire.carry()

    def check(self) -> None:
        for watch in self.watches.values():
            assert watch.sent.startswith(watch.seen.body)
            assert not (watch.seen.ended and watch.seen.failure)
            if watch.seen.ended and not watch.cut:
                assert watch.finished
                assert watch.seen.body == watch.sent
            assert len(watch.told) <= 1
            assert len(watch.told_upstream) <= 1

    def close(self) -> None:
        """Both connections of the proxy are lost."""
        sides = [self.chain.front.server, self.chain.back.client]
        self.random.shuffle(sides)
        for side in sides:
            side.close()
        self.chain.front.client.close()
        self.chain.back.server.close()


STEPS = [
    World.ask,
    World.say,
    World.say,
    World.finish,
    World.break_origin,
    World.leave,
    World.end_by_proxy,
    World.give_up_upstream,
    World.read,
    World.pause,
    World.carry,
    World.carry,
    World.carry,
    World.carry,
]


@given(st.integers(0, 1 << 30), st.lists(st.sampled_from(STEPS), min_size=5, max_size=120))
@settings(max_examples=300, deadline=None)
def test_any_order_of_events(seed: int, steps: list[Callable[[World], None]]) -> None:
    world = World(seed)
    world.ask()
    for step in steps:
        step(world)
        world.check()
    world.chain.front.server.paused = world.chain.back.client.paused = False
    world.chain.run()
    world.check()
    world.close()
    world.check()
    is_clean(world.chain)
    for watch in world.watches.values():
        if watch.exchange is not None:
            assert watch.exchange.done
        if watch.request is not None:
            assert watch.request.done
