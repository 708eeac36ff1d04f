"""The images that conformance tests name, without a registry: agnhost and busybox under every such name.

The test program itself tells the names and versions it wants. A web server stands in for the ones that only have to be
running or to serve a page. Images that need a program nobody builds here are left out; the tests that want them fail
directly, too.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.images import root_layer, write_archive

_SERVE = ["/bin/httpd", "-f", "-p", "80", "-h", "/www"]
_WEB = {"nginx", "nautilus", "kitten"}


def write_images(e2e: Path, agnhost: Path, busybox: Path, folder: Path) -> list[Path]:
    """Archives for a node's containerd, one per kind of image."""
    asked = subprocess.run([str(e2e), "--list-images"], capture_output=True, text=True, timeout=60, check=True)
    names: dict[str, list[str]] = {}
    for name in asked.stdout.split():
        names.setdefault(short_name(name), []).append(name)
    told = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, timeout=60, check=True)
    applets = [applet for applet in told.stdout.split() if applet != "busybox"]
    program = agnhost.read_bytes()
    files = {"agnhost": program, "agnhost-2": program, "www/index.html": b"hello\n"}
    entrypoint = {"Env": ["PATH=/bin:/", "GODEBUG=netdns=go"], "Entrypoint": ["/agnhost"], "Cmd": ["pause"]}
    plain = root_layer(busybox, applets, {})
    archives = [
        write_archive(
            folder / "agnhost.tar",
            [*names["agnhost"], *names["pause"]],
            root_layer(busybox, applets, files),
            entrypoint,
        ),
        write_archive(folder / "busybox.tar", names["busybox"], plain, {"Cmd": ["/bin/sh"]}),
    ]
    for kind in sorted(_WEB & names.keys()):
        page = f'{{"image": "{kind}.jpg"}}'.encode()
        layer = root_layer(busybox, applets, {"www/index.html": b"hello\n", "www/data.json": page})
        archives.append(write_archive(folder / f"{kind}.tar", names[kind], layer, {"Cmd": _SERVE}))
    return archives


def short_name(name: str) -> str:
    """ "host/folder/nginx:1.27-0" → "nginx"."""
    return name.rpartition("/")[2].partition(":")[0]
