"""Calls are let in once what was published when they came is shown, in order, and do not wait for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from brain.api.fakes import FakeCall
from wharf.brain.errors import RequestTimeout, TooManyRequests
from wharf.brain.workers import gate as module
from wharf.brain.workers.gate import PATIENCE, Gate
from wharf.wire.rpc import Call, Kind, Method, StreamHandler, UnaryHandler

PATH = "/test/Test"


class Scene:
    """A gate whose process shows what it is told, when it is told; `ready`: as soon as it looks."""

    def __init__(self) -> None:
        self.published = self.ready = 1
        self.now = 0.0
        self.timers: list[Callable[[], None]] = []
        self.gate = Gate(lambda: self.published, self._look, lambda: self.now, lambda _, go: self.timers.append(go))
        self.gate.moved(1)
        self.answered: list[tuple[bytes, int]] = []

        def unary(data: bytes, call: Call) -> None:
            self.answered.append((data, self.gate.shown))
            call.reply(data)

        def stream(call: Call) -> None:
            call.on_message = lambda data: self.answered.append((data, self.gate.shown))
            call.on_half_close = lambda: self.answered.append((b"", self.gate.shown))

        methods = (Method(PATH, Kind.UNARY, unary), Method(PATH, Kind.STREAM, stream))
        table = self.gate.methods(methods)
        self._unary, self._stream = cast(UnaryHandler, table[0].handler), cast(StreamHandler, table[1].handler)

    def _look(self) -> None:
        self.gate.moved(min(self.ready, self.published))

    def ask(self, data: bytes) -> FakeCall:
        call = FakeCall(PATH)
        self._unary(data, call)
        return call

    def open(self) -> FakeCall:
        call = FakeCall(PATH)
        self._stream(call)
        return call

    def show(self, word: int) -> None:
        self.ready = word
        self._look()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        timers, self.timers = self.timers, []
        for go in timers:
            go()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_is_shown_already_costs_no_look(scene: Scene) -> None:
    assert scene.ask(b"a").done
    assert scene.answered == [(b"a", 1)]


def test_what_can_be_shown_is_shown_first(scene: Scene) -> None:
    scene.published = scene.ready = 5
    scene.ask(b"a")
    assert scene.answered == [(b"a", 5)]


def test_a_call_waits_for_what_was_published_when_it_came_and_no_longer(scene: Scene) -> None:
    scene.published = 3
    scene.ask(b"a")
    scene.published = 4
    scene.ask(b"b")
    assert (scene.answered, len(scene.gate)) == ([], 2)
    scene.show(3)
    assert (scene.answered, len(scene.gate)) == ([(b"a", 3)], 1)
    scene.show(4)
    assert scene.answered == [(b"a", 3), (b"b", 4)]


def test_a_call_nobody_waits_for_is_not_made(scene: Scene) -> None:
    scene.published = 3
    scene.ask(b"a").cancel()
    scene.show(3)
    assert scene.answered == []


def test_who_waits_too_long_is_told(scene: Scene) -> None:
    scene.published = 3
    first = scene.ask(b"a")
    scene.wait(PATIENCE / 2)
    second = scene.ask(b"b")
    scene.wait(PATIENCE / 2)
    assert (first.text, second.done) == (RequestTimeout.text, False)
    scene.ready = 3
    scene.wait(0.25)
    assert scene.answered == [(b"b", 3)]
    scene.wait(0.25)
    assert scene.timers == []  # nobody waits, nobody looks


def test_too_many_are_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    scene.published = 3
    calls = [scene.ask(b"a") for _ in range(3)]
    assert [call.text for call in calls] == ["", "", TooManyRequests.text]


def test_messages_of_a_stream_stay_in_order(scene: Scene) -> None:
    call = scene.open()
    assert call.on_message is not None
    assert call.on_half_close is not None
    call.on_message(b"a")
    scene.published = 3
    call.on_message(b"b")
    call.on_message(b"c")
    call.on_half_close()
    assert scene.answered == [(b"a", 1)]
    scene.show(3)
    assert scene.answered == [(b"a", 1), (b"b", 3), (b"c", 3), (b"", 3)]


def test_a_stream_that_goes_on_talking_is_not_listened_to(scene: Scene) -> None:
    call = scene.open()
    assert call.on_message is not None
    scene.published = 3
    for _ in range(module.MOST_HELD):
        call.on_message(b"a")
    assert not call.reading
    scene.show(3)
    assert call.reading
    assert len(scene.answered) == module.MOST_HELD


def test_a_stream_that_may_not_wait_ends(scene: Scene) -> None:
    call = scene.open()
    assert call.on_message is not None
    scene.published = 3
    call.on_message(b"a")
    scene.wait(PATIENCE)
    assert call.text == RequestTimeout.text
    call.on_message(b"b")
    scene.show(3)
    assert scene.answered == []


def test_a_look_that_fails_does_not_end_the_time_limit_and_is_logged_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene.published = 3
    call = scene.ask(b"a")

    def broken() -> None:
        raise ValueError("broken")

    monkeypatch.setattr(scene.gate, "_look", broken)
    for _ in range(20):
        scene.wait(PATIENCE / 20)
    assert (call.code, len(scene.gate)) == (RequestTimeout.code, 0)
    assert caplog.text.count("Traceback") == 1
