"""Parts that are real processes and nothing more: a health page, and a chosen way to end."""

from __future__ import annotations

import sys
from pathlib import Path

from wharf.cli.embedded.plan import Health, Part
from wharf.cli.embedded.ports import free_port

_SERVER = """
import http.server, signal, sys, time
port, manner, marks = int(sys.argv[1]), sys.argv[2], sys.argv[3]
print("part says hello", flush=True)
if manner == "refuses to start":
    sys.exit("no such luck")
def end(*_):
    if manner == "ignores SIGTERM":
        return
    open(marks, "a").write(sys.argv[4] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if manner == "never well" else 200)
        self.end_headers()
        self.wfile.write(b"not yet" if manner == "never well" else b"ok")
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", port), Page).serve_forever()
"""


def make_part(
    name: str,
    folder: Path,
    manner: str = "well",
    after: tuple[str, ...] = (),
    *,
    ready_within: float = 20.0,
    stop_within: float = 20.0,
) -> Part:
    """A part whose orderly end writes its name into `folder/ended`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    return Part(
        name=name,
        argv=(sys.executable, "-c", _SERVER, str(port), manner, str(folder / "ended"), name),
        health=Health(f"{url}/readyz"),
        endpoint=url,
        version="v1",
        after=after,
        ready_within=ready_within,
        stop_within=stop_within,
    )


def ended(folder: Path) -> list[str]:
    """Names of the parts that ended in order, first to last."""
    try:
        return (folder / "ended").read_text().split()
    except FileNotFoundError:
        return []
