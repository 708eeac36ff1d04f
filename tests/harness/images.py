"""Container images without a registry: Debian's static busybox in an OCI archive, written here byte by byte.

Invariant: an archive holds one layer, which all its names share; the same files give the same archive.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PAUSE = "wharf.test/pause:1"
WEB = "wharf.test/web:1"
GREETING = "hello from the image\n"
_WEB_COMMAND = ["/bin/httpd", "-f", "-vv", "-p", "80", "-h", "/www"]
_PAUSE_COMMAND = ["/bin/sleep", "2147483647"]
_APPLETS = (
    "sh",
    "sleep",
    "httpd",
    "wget",
    "cat",
    "ls",
    "echo",
    "ps",
    "hostname",
    "date",
    "ip",
    "nslookup",
    "env",
    "test",
    "tar",  # kubectl cp
    "sha256sum",
    "rm",
    "mkdir",
)


def write_archives(busybox: Path, folder: Path) -> list[Path]:
    """The archives of all images a node needs."""
    layer = root_layer(busybox, _APPLETS, {"www/index.html": GREETING.encode()})
    return [
        write_archive(folder / "pause.tar", [PAUSE], layer, {"Cmd": _PAUSE_COMMAND}),
        write_archive(folder / "web.tar", [WEB], layer, {"Cmd": _WEB_COMMAND}),
    ]


def root_layer(busybox: Path, applets: Sequence[str], programs: Mapping[str, bytes]) -> bytes:
    """A root file system: busybox, links to it, and further files by their path, which anybody may execute."""
    out = io.BytesIO()
    within = {str(parent) for path in programs for parent in Path(path).parents} - {"."}
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in sorted({"bin", "etc", "tmp", "www", "proc", "sys", "dev"} | within):
            _add(tar, name, kind=tarfile.DIRTYPE, mode=0o755)
        _add(tar, "bin/busybox", busybox.read_bytes(), mode=0o755)
        for applet in applets:
            _add(tar, f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
        people = {"etc/passwd": b"root:x:0:0:root:/:/bin/sh\n", "etc/group": b"root:x:0:\n"}
        for path, content in (people | dict(programs)).items():
            _add(tar, path, content, mode=0o755)
    return out.getvalue()


def _add(
    tar: tarfile.TarFile,
    name: str,
    content: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    link: str = "",
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, link, len(content)
    tar.addfile(info, io.BytesIO(content))


def write_archive(path: Path, names: Sequence[str], layer: bytes, config: Mapping[str, object]) -> Path:
    """An OCI image layout in a tar; names are annotations that containerd's import reads.

    `config`: what a container of it runs, in the words of OCI ("Cmd", "Entrypoint", ...).
    """
    packed = gzip.compress(layer, 1, mtime=0)
    about = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "WorkingDir": "/", **config},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "history": [{"created_by": "wharf tests"}],
    }
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, media_type: str) -> dict[str, object]:
        blobs[f"blobs/sha256/{_digest(content).removeprefix('sha256:')}"] = content
        return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}

    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": blob(json.dumps(about).encode(), f"{kind}.config.v1+json"),
        "layers": [blob(packed, f"{kind}.layer.v1.tar+gzip")],
    }
    reference = blob(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")
    reference["platform"] = {"architecture": "amd64", "os": "linux"}
    index = {"schemaVersion": 2, "manifests": [reference | _named(name) for name in names]}
    with tarfile.open(path, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", json.dumps(index).encode())
        for blob_path, content in blobs.items():
            _add(tar, blob_path, content)
    return path


def _named(name: str) -> dict[str, object]:
    return {"annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
