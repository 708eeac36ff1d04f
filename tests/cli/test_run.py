"""A detached start: the command learns what happened and leaves, the supervisor stays; a failure leaves nothing."""

import os
from pathlib import Path

import pytest
from cli.parts import ended, make_part
from wharf.cli.embedded import events, identity, state
from wharf.cli.embedded.down import take_down
from wharf.cli.embedded.events import Event, decode, encode
from wharf.cli.embedded.inspect import inspect
from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.run import run_detached


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "system")
    made.make()
    return made


def test_it_stays_when_the_command_is_done(layout: Layout, tmp_path: Path) -> None:
    handle = layout.claim()
    assert handle is not None
    seen: list[Event] = []
    parts = [make_part("a", tmp_path), make_part("b", tmp_path, after=("a",))]
    assert run_detached(layout, parts, seen.append) == 0
    os.close(handle)
    assert [(event.kind, event.part) for event in seen if event.kind != events.STARTING] == [
        (events.READY, "a"),
        (events.READY, "b"),
        (events.UP, ""),
    ]
    system = state.load(layout.state)
    assert system is not None
    assert inspect(system).ok
    assert system.supervisor.pid != os.getpid()
    assert os.getsid(system.supervisor.pid) == system.supervisor.pid
    assert layout.claim() is None  # the supervisor holds the lock on
    assert take_down(layout, system, lambda _: None)
    assert ended(tmp_path) == ["b", "a"]
    assert not identity.is_alive(system.supervisor)
    again = layout.claim()
    assert again is not None
    os.close(again)
    os.waitpid(system.supervisor.pid, 0)
    log = layout.log("supervisor").read_text()
    assert "up  part=" in log
    assert "stopped  part=a" in log


def test_a_failed_start_leaves_nothing(layout: Layout, tmp_path: Path) -> None:
    handle = layout.claim()
    assert handle is not None
    seen: list[Event] = []
    parts = [make_part("a", tmp_path), make_part("b", tmp_path, "refuses to start", after=("a",))]
    assert run_detached(layout, parts, seen.append) == 1
    os.close(handle)
    assert seen[-1].kind == events.FAILED
    assert "no such luck" in seen[-1].text
    assert ended(tmp_path) == ["a"]
    assert not layout.state.exists()
    free = layout.claim()
    assert free is not None
    os.close(free)


def test_an_interrupt_while_starting_stops_what_was_started(layout: Layout, tmp_path: Path) -> None:
    parts = [make_part("a", tmp_path), make_part("b", tmp_path, "never well", after=("a",))]

    def interrupt(event: Event) -> None:
        if event == Event(events.STARTING, "b"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_detached(layout, parts, interrupt)
    assert ended(tmp_path)[-1] == "a"  # b may have been too young to notice
    assert not layout.state.exists()


def test_a_supervisor_that_breaks_is_a_failure_and_in_the_log(layout: Layout, tmp_path: Path) -> None:
    seen: list[Event] = []
    part = make_part("a", tmp_path)
    assert run_detached(layout, [part, part], seen.append) == 1
    assert seen[-1].kind == events.FAILED
    assert "two parts with one name" in layout.log("supervisor").read_text()


def test_events_survive_the_pipe() -> None:
    event = Event(events.FAILED, "brain", "two\nlines ü", 1.5)
    line = encode(event)
    assert line.count(b"\n") == 1
    assert decode(line) == event
