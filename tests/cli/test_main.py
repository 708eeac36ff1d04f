"""The command itself: argv to brain untouched, errors as one line and a code, a quick start."""

import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from wharf.cli.embedded.ports import free_port
from wharf.cli.embedded.start import Start
from wharf.cli.main import main


@pytest.fixture(autouse=True)
def _own_umask() -> Iterator[None]:
    before = os.umask(0o077)
    os.umask(before)
    yield
    os.umask(before)


@pytest.mark.parametrize("service", ["brain", "gateway"])
def test_a_service_s_words_go_through_untouched(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def record(argv: list[str]) -> int:
        seen.append(list(argv))
        return 7

    stand_in = types.ModuleType(f"wharf.{service}.app")
    stand_in.main = record  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"wharf.{service}.app", stand_in)
    words = ["--listen-client-urls", "http://a", "--help", "--debug", "-x=1", "--", "snapshot"]
    assert main([service, *words]) == 7
    assert seen == [words]


def test_help_does_not_import_a_service_nor_make_certificates() -> None:
    heavy = ("wharf.brain", "wharf.gateway", "grpc", "uvloop", "opentelemetry")
    script = (
        "import sys; from wharf.cli.main import main; code = main(['--help']);"
        f"print(code, [m for m in sys.modules if m.startswith({heavy})])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("brain", "gateway", "up", "status", "down", "version"):
        assert command in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("wharf ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up", "--bogus"], "No such option: --bogus"),
        (["bogus"], "No such command 'bogus'"),
        (["up", "--kube-version", "latest"], "'latest' is not a release"),
        (["up", "--port", "70000"], "70000 is not a port; allowed: 0 to 65535"),
        (["up", "--port", "-1"], "-1 is not a port"),
        (["up", "--kube-bin", "/no/such/folder"], "does not exist"),
        (["status", "--output", "xml"], "'xml'"),
    ],
)
def test_a_mistyped_command_is_explained(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--dir", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err == f"error: nothing is running in {tmp_path}; `wharf up --dir {tmp_path}` starts it\n"
    )
    assert main(["status", "--dir", str(tmp_path), "-o", "json"]) == 1
    assert '"ok": false' in capsys.readouterr().out
    assert main(["down", "--dir", str(tmp_path)]) == 0
    assert capsys.readouterr().err == f"nothing is running in {tmp_path}\n"


def test_other_people_s_directory_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").touch()
    assert main(["up", "--dir", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path} holds other files")


def test_port_conflicts_are_told_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = str(free_port())
    others = ("brain-health", "controller-manager", "scheduler", "gateway", "gateway-health")
    words = ["--port", port, "--brain-port", port, *(word for one in others for word in (f"--{one}-port", "0"))]
    assert main(["up", "--dir", str(tmp_path / "d"), *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: port {port} is wanted by kube-apiserver and brain; change --brain-port"


@pytest.mark.parametrize("words", [[], ["--debug"]])
def test_a_damaged_state_file_is_one_line_or_a_traceback(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text("{")
    assert main(["status", "--dir", str(tmp_path), *words]) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("error: ")
    assert ("Traceback" in err) == bool(words)


def test_an_interrupt_has_its_own_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wharf.cli.up.state.load", interrupted)
    assert main(["status"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"


def test_the_shell_completes_commands_and_flags() -> None:
    def complete(words: str) -> list[str]:
        asked = {"_WHARF_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        done = subprocess.run(
            [sys.executable, "-c", "from wharf.cli.main import run; run()"],
            env=os.environ | asked,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    assert complete("wharf st") == ["status"]
    assert complete("wharf up --kube") == ["--kube-version", "--kube-bin"]


@pytest.mark.parametrize("command", ["up", "status", "down"])
def test_no_option_is_cut_on_a_narrow_terminal(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wharf.cli", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert "…" not in done.stdout


def test_a_relative_folder_of_programs_is_resolved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Start] = []
    monkeypatch.setattr("wharf.cli.embedded.start.start", seen.append)
    (tmp_path / "programs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["up", "--kube-bin", "programs", "--dir", str(tmp_path / "d")]) == 0
    assert seen[0].kube_bin == tmp_path / "programs"
