"""Builds stock programs from the pinned Go modules into a cache, once.

It owns the cache (`$WHARF_CACHE`, else `~/.cache/wharf`): `bin/<name>-<version>/<name>` and a stamp beside it that says
what it was built from. Invariant: a folder in the cache appears whole or not at all, and a program whose stamp (go.sum,
linker flags) no longer matches the source tree is built anew. Modes in the cache (0755, stamps 0644) do not depend on
the umask of the process that built: images and other users run these programs.

    python -m wharf.cli.kube.build kube-apiserver etcd
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from wharf.cli.kube import wrapper
from wharf.cli.kube.recipes import RECIPES, Recipe, pinned_version, recipe
from wharf.cli.kube.toolchain import environment, find_go

Report = Callable[[str], None]
_PROGRESS_SECONDS = 10.0
_LAST_LINES = 30


class BuildError(RuntimeError):
    """The program cannot be built here; the message says why and what to do."""


def to_stderr(line: str) -> None:
    """The default report: one line on stderr, at once."""
    print(line, file=sys.stderr, flush=True)


def cache_root() -> Path:
    """Where everything built or downloaded is kept."""
    named = os.environ.get("WHARF_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "wharf"


def source_tree() -> Path:
    """The checkout with the Go modules: `$WHARF_SOURCE`, else the one around this file or the working directory."""
    named = os.environ.get("WHARF_SOURCE")
    starts = [Path(named)] if named else [Path(__file__).resolve(), Path.cwd()]
    marker = recipe("kube-apiserver").module / "go.mod"
    for start in starts:
        for folder in (start, *start.parents):
            if (folder / marker).is_file():
                return folder
    raise BuildError(
        "building Kubernetes programs needs wharf's source tree (set WHARF_SOURCE to it); "
        "without one put kube-apiserver, kube-controller-manager, kube-scheduler and kubectl on PATH "
        "or name their folder"
    )


def cached(tool: Recipe, version: str) -> Path | None:
    """The program in the cache, if it is there and was built from what the source tree pins now."""
    folder = _folder(tool, version)
    try:
        stamp = json.loads((folder / "build.json").read_text())
    except (OSError, ValueError):
        return None
    try:
        expected = _stamp(tool, version)
    except (BuildError, OSError):
        expected = None  # no source tree: whatever was built once is as good as it gets
    if expected is not None and stamp != expected:
        return None
    return folder / tool.name


def build(names: Sequence[str], *, version: str | None = None, report: Report = to_stderr) -> dict[str, Path]:
    """Paths of the named programs, those missing from the cache built first. `version` asks for another Kubernetes."""
    paths: dict[str, Path] = {}
    for name in names:
        tool = recipe(name)
        pinned = pinned_version((source_tree() / tool.module / "go.mod").read_text(), tool.requirement)
        wanted = version.removeprefix("v") if version and tool.stamped else pinned
        paths[name] = cached(tool, wanted) or _build_missing(tool, wanted, pinned, report)
    return paths


def _build_missing(tool: Recipe, version: str, pinned: str, report: Report) -> Path:
    with _one_builder(report):
        # Whoever held the lock may have built just this.
        return cached(tool, version) or _build_one(tool, version, pinned, report)


def _build_one(tool: Recipe, version: str, pinned: str, report: Report) -> Path:
    module = source_tree() / tool.module
    go = find_go(report)
    if version != pinned:
        module = wrapper.prepare(go, version, tool.requirement, cache_root() / "modules", report)
    folder = _folder(tool, version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{tool.name}-") as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        command = [str(go), *tool.verb, "-v", "-trimpath", "-ldflags", tool.ldflags(version)]
        _compile([*command, "-o", str(fresh / tool.name), tool.package], module, tool, version, report)
        (fresh / "build.json").write_text(json.dumps(_stamp(tool, version)))
        for path, mode in ((fresh, 0o755), (fresh / tool.name, 0o755), (fresh / "build.json", 0o644)):
            path.chmod(mode)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    return folder / tool.name


def _compile(command: list[str], module: Path, tool: Recipe, version: str, report: Report) -> None:
    """Run the compiler, a progress line every few seconds: `go build -v` prints each package as it is compiled.

    (`go test -c` prints none.)
    """
    report(f"building {tool.name} {version} (once; about {tool.cold_seconds} s on two cores when nothing is cached)")
    began = time.monotonic()
    lines: list[str] = []
    with subprocess.Popen(command, cwd=module, env=environment(os.environ), stderr=subprocess.PIPE, text=True) as go:
        stderr = go.stderr
        assert stderr is not None  # noqa: S101 - it was asked for
        reader = threading.Thread(target=lambda: lines.extend(iter(stderr.readline, "")), daemon=True)
        reader.start()
        while True:
            try:
                go.wait(_PROGRESS_SECONDS)
                break
            except subprocess.TimeoutExpired:
                silent = "compiling" if tool.tests else "nothing to compile so far (reading modules, or linking)"
                doing = lines[-1].strip() if lines else silent
                report(f"  {tool.name}: {time.monotonic() - began:.0f} s, {len(lines)} packages, now {doing}")
        reader.join()
    if go.returncode != 0:
        raise BuildError(f"building {tool.name} {version} failed:\n" + "".join(lines[-_LAST_LINES:]))
    report(f"  {tool.name} {version} built in {time.monotonic() - began:.0f} s")


def _folder(tool: Recipe, version: str) -> Path:
    return cache_root() / "bin" / f"{tool.name}-{version}"


def _stamp(tool: Recipe, version: str) -> dict[str, str]:
    """What a built program depends on. Another release than the pinned one is named by its version alone."""
    module = source_tree() / tool.module
    if version != pinned_version((module / "go.mod").read_text(), tool.requirement):
        return {"release": version, "ldflags": tool.ldflags(version)}
    digest = hashlib.sha256((module / "go.sum").read_bytes()).hexdigest()
    return {"go.sum": digest, "ldflags": tool.ldflags(version)}


@contextmanager
def _one_builder(report: Report) -> Iterator[None]:
    """One build at a time per cache: a second one would only compile the same packages beside the first."""
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with (root / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another build holds {root / 'build.lock'}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str]) -> int:
    """Build what is named (nothing named: what setup needs), print one path per line."""
    try:
        for name in arguments or [name for name, tool in RECIPES.items() if tool.in_setup]:
            print(build([name])[name], flush=True)
    except (RuntimeError, LookupError, ValueError) as refused:
        to_stderr(f"error: {refused}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
