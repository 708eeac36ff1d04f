"""The images that conformance tests name, without a registry: programs built here, on busybox, under every such name.

The test program itself tells the names and versions it wants. A web server stands in for those that only have to run or
to serve a page. Images that nobody builds here are left out; tests that want them fail on both ways.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from harness.images import root_layer, write_archive
from wharf.cli.kube.pki import Authority

_SERVE = ["/bin/httpd", "-f", "-p", "80", "-h", "/www"]
_WEB = ("kitten", "nautilus", "nginx")
_AGNHOST = {"Env": ["PATH=/bin:/", "GODEBUG=netdns=go"], "Entrypoint": ["/agnhost"], "Cmd": ["pause"]}

# Somebody whom a test of supplemental groups expects in the image.
_USERS = "root:x:0:0:root:/:/bin/sh\nuser-defined-in-image:x:1000:1000::/:/bin/sh\n"
_GROUPS = "root:x:0:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"


def write_images(programs: Mapping[str, Path], folder: Path) -> list[Path]:
    """Archives for a node's containerd, one per kind of image."""
    found = shutil.which("busybox")
    assert found is not None, "asked for by missing_requirements"
    busybox = Path(found)
    applets = [applet for applet in _words(busybox, "--list") if applet != "busybox"]
    names: dict[str, list[str]] = {}
    for name in _words(programs["e2e.test"], "--list-images"):
        names.setdefault(short_name(name), []).append(name)

    def image(kind: str, files: Mapping[str, bytes], config: Mapping[str, object], *others: str) -> Path:
        known_as = [name for one in (kind, *others) for name in names[one]]
        return write_archive(folder / f"{kind}.tar", known_as, root_layer(busybox, applets, files), config)

    local = Authority(folder / "localhost").server("localhost", ("localhost", "127.0.0.1"))
    agnhost, apiserver, etcd = (programs[name].read_bytes() for name in ("agnhost", "sample-apiserver", "etcd-static"))
    return [
        image(
            "agnhost",
            {
                "agnhost": agnhost,
                "agnhost-2": agnhost,
                "localhost.crt": local.cert.read_bytes(),
                "localhost.key": local.key.read_bytes(),
                "etc/passwd": _USERS.encode(),
                "etc/group": _GROUPS.encode(),
            },
            _AGNHOST,
            "pause",
        ),
        image("busybox", {}, {"Cmd": ["/bin/sh"]}),
        image("sample-apiserver", {"sample-apiserver": apiserver}, {"Entrypoint": ["/sample-apiserver"]}),
        image("etcd", {"usr/local/bin/etcd": etcd}, {}),
        *(image(kind, _pages(kind), {"Cmd": _SERVE}) for kind in _WEB),
    ]


def short_name(name: str) -> str:
    """ "host/folder/nginx:1.27-0" → "nginx"."""
    return name.rpartition("/")[2].partition(":")[0]


def _pages(kind: str) -> dict[str, bytes]:
    """What a web server shows; its data name the picture that a test looks for."""
    return {"www/index.html": b"hello\n", "www/data.json": f'{{"image": "{kind}.jpg"}}'.encode()}


def _words(*command: str | Path) -> list[str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()
