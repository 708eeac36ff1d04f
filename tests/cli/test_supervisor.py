"""The supervisor with small real processes: order, deaths, refusals, and that nothing is ever left running."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cli.parts import ended, make_part
from wharf.cli.embedded import events, identity, state
from wharf.cli.embedded.down import take_down
from wharf.cli.embedded.events import Event
from wharf.cli.embedded.inspect import OK, SystemReport, inspect
from wharf.cli.embedded.layout import Layout
from wharf.cli.embedded.plan import Part
from wharf.cli.embedded.state import SystemState
from wharf.cli.embedded.supervisor import Supervisor

WAIT = 30.0


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "system")
    made.make()
    return made


class Run:
    """A supervisor under test: its events, and things to do when one of them happens."""

    def __init__(self, layout: Layout, parts: list[Part]) -> None:
        self.layout = layout
        self.parts = parts
        self.seen: list[Event] = []
        self.reactions: dict[tuple[str, str], Callable[[Supervisor], object]] = {}

    def on(self, kind: str, part: str, react: Callable[[Supervisor], object]) -> "Run":
        self.reactions[kind, part] = react
        return self

    def go(self) -> int:
        async def main() -> int:
            supervisor = Supervisor(self.layout, self.parts, lambda event: self._note(supervisor, event))
            return await asyncio.wait_for(supervisor.run(), WAIT)

        code = asyncio.run(main())
        left = state.load(self.layout.state)
        assert not [part for part in (left.parts if left else ()) if identity.is_alive(part.who)]
        return code

    def _note(self, supervisor: Supervisor, event: Event) -> None:
        self.seen.append(event)
        react = self.reactions.get((event.kind, event.part))
        if react is not None:
            react(supervisor)

    def order(self, kind: str) -> list[str]:
        return [event.part for event in self.seen if event.kind == kind]

    def state(self) -> SystemState:
        found = state.load(self.layout.state)
        assert found is not None
        return found


def stop(supervisor: Supervisor) -> None:
    supervisor.stop()


def test_parts_start_and_stop_in_order(layout: Layout, tmp_path: Path) -> None:
    parts = [make_part("c", tmp_path, after=("b",)), make_part("a", tmp_path), make_part("b", tmp_path, after=("a",))]
    run = Run(layout, parts).on(events.UP, "", stop)
    assert run.go() == 0
    assert run.order(events.READY) == ["a", "b", "c"]
    assert ended(tmp_path) == ["c", "b", "a"]
    assert not layout.state.exists()
    assert layout.log("a").read_text() == "part says hello\n"


def test_the_state_file_shows_a_running_system(layout: Layout, tmp_path: Path) -> None:
    part = make_part("a", tmp_path)
    found: list[SystemState] = []
    run = Run(layout, [part])

    def look(supervisor: Supervisor) -> None:
        found.append(run.state())
        supervisor.stop()

    assert run.on(events.UP, "", look).go() == 0
    (one,) = found[0].parts
    assert (one.name, one.phase, one.endpoint, one.version) == ("a", state.READY, part.endpoint, "v1")
    assert found[0].supervisor == identity.identify(os.getpid())


def test_a_part_that_dies_is_reported_and_left_dead(layout: Layout, tmp_path: Path) -> None:
    run = Run(layout, [make_part("a", tmp_path), make_part("b", tmp_path, after=("a",))])
    reports: list[list[str]] = []

    def look(supervisor: Supervisor) -> None:
        def seen(report: asyncio.Future[SystemReport]) -> None:
            reports.append([one.health for one in report.result().parts])
            supervisor.stop()

        asyncio.get_running_loop().run_in_executor(None, inspect, run.state()).add_done_callback(seen)

    run.on(events.UP, "", lambda _: identity.send(run.state().part("a").who, signal.SIGKILL))
    run.on(events.DIED, "a", look)
    assert run.go() == 0
    assert reports == [["died: killed by SIGKILL", OK]]
    assert run.order(events.STARTING) == ["a", "b"]
    (death,) = [event for event in run.seen if event.kind == events.DIED]
    assert death.text == f"a ended: killed by SIGKILL; it is not restarted, its log is {layout.log('a')}"


def test_when_every_part_has_died_the_file_tells_how(layout: Layout, tmp_path: Path) -> None:
    run = Run(layout, [make_part("a", tmp_path)])
    run.on(events.UP, "", lambda _: identity.send(run.state().part("a").who, signal.SIGTERM))
    assert run.go() == 1
    (one,) = run.state().parts
    assert (one.phase, one.end) == (state.DIED, "exit code 0")


def test_a_failed_start_stops_the_others_and_shows_the_log(layout: Layout, tmp_path: Path) -> None:
    run = Run(layout, [make_part("a", tmp_path), make_part("b", tmp_path, "refuses to start", after=("a",))])
    assert run.go() == 1
    failure = run.seen[-1]
    assert failure.kind == events.FAILED
    assert failure.text.startswith(f"b did not start: exit code 1; its log is {layout.log('b')}")
    assert "no such luck" in failure.text
    assert ended(tmp_path) == ["a"]
    assert not layout.state.exists()


def test_a_part_that_is_never_well(layout: Layout, tmp_path: Path) -> None:
    run = Run(layout, [make_part("a", tmp_path, "never well", ready_within=0.3)])
    assert run.go() == 1
    assert run.seen[-1].text.startswith("a was not ready within 0 s: ")
    assert ended(tmp_path) == ["a"]


def test_a_program_that_is_not_there(layout: Layout, tmp_path: Path) -> None:
    part = make_part("a", tmp_path)
    run = Run(layout, [replace(part, argv=("/no/such/program",))])
    assert run.go() == 1
    assert run.seen[-1].text == "a did not start: /no/such/program: No such file or directory"


def test_stopping_while_it_starts(layout: Layout, tmp_path: Path) -> None:
    run = Run(layout, [make_part("a", tmp_path), make_part("b", tmp_path, "never well", after=("a",))])
    assert run.on(events.STARTING, "b", stop).go() == 0
    assert run.order(events.STOPPED) == ["b", "a"]
    assert run.order(events.UP) == []


def test_one_that_does_not_end_is_killed(layout: Layout, tmp_path: Path) -> None:
    run = Run(layout, [make_part("a", tmp_path), make_part("b", tmp_path, "ignores SIGTERM", ("a",), stop_within=0.2)])
    assert run.on(events.UP, "", stop).go() == 0
    assert run.order(events.KILLED) == ["b"]
    assert ended(tmp_path) == ["a"]


def test_asked_twice_it_does_not_wait(layout: Layout, tmp_path: Path) -> None:
    run = Run(layout, [make_part("a", tmp_path, "ignores SIGTERM", stop_within=WAIT)])
    run.on(events.UP, "", stop).on(events.STOPPING, "a", stop)
    assert run.go() == 0
    assert run.order(events.KILLED) == ["a"]


def test_a_mistake_of_ours_leaves_nothing_running(layout: Layout, tmp_path: Path) -> None:
    def mistake(_: Supervisor) -> None:
        raise RuntimeError("in a callback")

    run = Run(layout, [make_part("a", tmp_path), make_part("b", tmp_path, after=("a",))])
    found: list[SystemState] = []
    run.on(events.STARTING, "b", lambda _: found.append(run.state())).on(events.READY, "b", mistake)
    with pytest.raises(RuntimeError, match="in a callback"):
        run.go()
    assert ended(tmp_path) == ["b", "a"]
    assert not [part for part in found[0].parts if identity.is_alive(part.who)]


def test_a_disk_that_takes_no_state_ends_nothing(layout: Layout, tmp_path: Path) -> None:
    run = Run(layout, [make_part("a", tmp_path), make_part("b", tmp_path, after=("a",))])
    run.on(events.STARTING, "a", lambda _: shutil.rmtree(layout.state.parent)).on(events.UP, "", stop)
    assert run.go() == 0
    assert ended(tmp_path) == ["b", "a"]


def test_onlookers_may_leave(layout: Layout, tmp_path: Path) -> None:
    def leave(_: Supervisor) -> None:
        raise BrokenPipeError

    run = Run(layout, [make_part("a", tmp_path), make_part("b", tmp_path, after=("a",))])
    assert run.on(events.READY, "a", leave).on(events.UP, "", stop).go() == 0
    assert run.order(events.STOPPED) == ["b", "a"]


def leave_without_supervisor(layout: Layout, parts: list[Part]) -> SystemState:
    """A running system whose supervisor was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        Run(layout, parts).on(events.UP, "", lambda _: os.write(writer, b"u")).go()
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 1) == b"u"
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    system = state.load(layout.state)
    assert system is not None
    return system


def test_down_ends_parts_whose_supervisor_was_killed(layout: Layout, tmp_path: Path) -> None:
    parts = [make_part("a", tmp_path), make_part("b", tmp_path, after=("a",))]
    system = leave_without_supervisor(layout, parts)
    report = inspect(system)
    assert not report.ok
    assert not report.supervised
    assert [one.health for one in report.parts] == [OK, OK]
    lines: list[str] = []
    assert take_down(layout, system, lines.append)
    assert ended(tmp_path) == ["b", "a"]
    assert len(lines) == 2
    assert not layout.state.exists()
    assert take_down(layout, system, lines.append)


def test_down_kills_what_does_not_end(layout: Layout, tmp_path: Path) -> None:
    system = leave_without_supervisor(layout, [make_part("a", tmp_path, "ignores SIGTERM", stop_within=0.2)])
    lines: list[str] = []
    assert take_down(layout, system, lines.append)
    assert lines[1] == "a did not end within 0 s; killing it"
    assert not identity.is_alive(system.part("a").who)
