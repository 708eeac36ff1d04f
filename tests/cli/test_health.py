"""One question to a part, and how the answer is judged."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from wharf.cli.embedded.health import ask
from wharf.cli.embedded.identity import Identity
from wharf.cli.embedded.inspect import OK, judge
from wharf.cli.embedded.plan import Health
from wharf.cli.embedded.ports import free_port
from wharf.cli.embedded.state import DIED, READY, STARTING, STOPPED, PartState


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/well" else 500)
        self.end_headers()
        self.wfile.write(b"poststarthook\nfailed")

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def page() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_part_that_is_well(page: str) -> None:
    assert ask(Health(f"{page}/well")) is None


def test_a_part_that_is_not(page: str) -> None:
    assert ask(Health(f"{page}/ill")) == "answers 500 poststarthook failed"


def test_nobody_there() -> None:
    assert ask(Health(f"http://127.0.0.1:{free_port()}/")) == "does not listen"


def test_somebody_who_does_not_speak_tls(page: str) -> None:
    answer = ask(Health(page.replace("http", "https") + "/"))
    assert answer is not None
    assert answer.startswith("SSLError")


def test_a_silent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wharf.cli.embedded.health._TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        answer = ask(Health(f"http://127.0.0.1:{silent.getsockname()[1]}/"))
    assert answer is not None
    assert answer.startswith("no answer")


@pytest.mark.parametrize(
    ("phase", "alive", "trouble", "health"),
    [
        (READY, True, None, OK),
        (STARTING, True, None, OK),
        (STARTING, True, "does not listen", "starting: does not listen"),
        (READY, True, "does not listen", "unhealthy: does not listen"),
        (DIED, False, None, "died: killed by SIGKILL"),
        (STOPPED, False, None, "stopped"),
        (READY, False, None, "gone, and nobody saw it end"),
    ],
)
def test_health_in_words(phase: str, alive: bool, trouble: str | None, health: str) -> None:
    part = PartState("x", Identity(1, 1, ""), phase, 0, "", "", "", (), 1, Health("http://h"), "killed by SIGKILL")
    assert judge(part, alive, trouble) == health
