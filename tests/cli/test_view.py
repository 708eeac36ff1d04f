"""What people and scripts read."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from wharf.cli.embedded import events
from wharf.cli.embedded.events import Event
from wharf.cli.embedded.identity import Identity
from wharf.cli.embedded.inspect import OK, PartReport, SystemReport
from wharf.cli.embedded.plan import Health
from wharf.cli.embedded.state import READY, PartState, SystemState
from wharf.cli.view import Progress, Terminal, age, as_document, next_steps, print_report, print_up


def console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=160), out


def report(health: str, supervised: bool = True) -> SystemReport:
    part = PartState(
        "brain", Identity(7, 1, ""), READY, 0.0, "https://h[1]", "v1", "/logs/brain.log", (), 1, Health("http://h")
    )
    system = SystemState(Identity(1, 1, ""), 0.0, "/k", (part,))
    return SystemReport(system, supervised, (PartReport(part, health == OK, health),))


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0s"), (59.9, "59s"), (60, "1m"), (3600 * 3 + 720, "3h12m"), (86400 * 5.5, "5d")]
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_a_report_for_people() -> None:
    to, out = console()
    print_report(to, report("died: killed by SIGKILL", supervised=False))
    text = out.getvalue()
    assert "died: killed by SIGKILL" in text
    assert "https://h[1]" in text  # square brackets are text, not style
    assert "brain: log /logs/brain.log" in text
    assert "the supervisor is gone" in text


def test_a_well_system_needs_no_words() -> None:
    to, out = console()
    print_report(to, report(OK))
    assert "log" not in out.getvalue()


def test_a_report_for_scripts() -> None:
    document = as_document(report(OK))
    assert document["ok"] is True
    assert document["supervisor"] == {"pid": 1, "alive": True, "since": "1970-01-01T00:00:00Z"}
    (part,) = document["parts"]
    assert (part["name"], part["pid"], part["ok"], part["health"]) == ("brain", 7, True, "ok")
    dead = as_document(report("died: exit code 1"))
    assert (dead["ok"], dead["parts"][0]["pid"]) == (False, None)
    assert as_document(report(OK, supervised=False))["ok"] is False


def test_progress_is_one_line_per_fact() -> None:
    to, out = console()
    progress = Progress(to)
    for event in (
        Event(events.STARTING, "brain"),
        Event(events.READY, "brain", "https://h", 0.25),
        Event(events.UP, "", seconds=0.3),
        Event(events.DIED, "brain", "brain ended: [exit] code 1"),
        Event(events.STOPPING, "brain"),
        Event(events.KILLED, "brain", seconds=3.0),
        Event(events.STOPPED, "brain", "killed by SIGKILL", 3.1),
    ):
        progress.on_event(event)
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert lines[0] == ["✓", "brain", "ready", "in", "0.2", "s", "https://h"]
    assert lines[1] == ["✗", "brain", "ended:", "[exit]", "code", "1"]
    assert lines[2] == ["!", "brain", "did", "not", "end", "within", "3.0", "s;", "killed"]
    assert lines[3] == ["-", "brain", "stopped", "in", "3.1", "s"]


def test_next_steps_can_be_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["/opt/wharf/bin/wharf", "up"])
    steps = next_steps(tmp_path / "kubeconfig", "kubectl", " --dir d")
    assert steps[0] == f"export KUBECONFIG={tmp_path}/kubeconfig"
    assert steps[2:] == ["/opt/wharf/bin/wharf status --dir d", "/opt/wharf/bin/wharf down --dir d"]
    to, out = console()
    print_up(to, "wharf is up (1.0 s)", [("brain", "https://h", "v1")], steps)
    assert out.getvalue().splitlines()[1] == "wharf is up (1.0 s)"
    assert all(f"  {step}" in out.getvalue() for step in steps)


def test_a_reader_that_left_is_not_the_end() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):  # what the supervisor passes over; rich alone would end the process
        Progress(Terminal(file=Gone())).line("x")


@pytest.mark.parametrize("end", [Event(events.STOPPING, "brain"), Event(events.FAILED, "", "no"), None])
def test_the_terminal_is_given_back(end: Event | None) -> None:
    out = io.StringIO()
    progress = Progress(Terminal(file=out, force_terminal=True))
    progress.on_event(Event(events.STARTING, "brain"))
    if end is None:
        progress.close()
    else:
        progress.on_event(end)
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert "starting brain" in out.getvalue()
    assert out.getvalue().rindex(shown) > out.getvalue().rindex(hidden)
