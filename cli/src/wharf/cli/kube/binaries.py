"""Where a program comes from: a folder the caller names, PATH, the cache, or a build from source.

It owns the order of the four and the words that say which was taken. The decision (`choose`) is a pure function of what
was found; `locate` is the shell around it that looks into folders and asks programs for their version.

Invariant: a program from PATH or the cache is taken only when its minor version is the wanted one (Kubernetes promises
nothing across minors for a control plane); a folder that the caller names is believed whatever it holds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from wharf.cli.kube import build
from wharf.cli.kube.recipes import Recipe, pinned_version, recipe, version_in

_ASK_SECONDS = 20.0


class Origin(Enum):
    """The four sources, in the order in which they are asked."""

    GIVEN = "given folder"
    PATH = "PATH"
    CACHE = "cache"
    BUILD = "built from source"


@dataclass(frozen=True, slots=True)
class Found:
    """A program somewhere, with the version it tells (None: it tells none)."""

    origin: Origin
    path: Path
    version: str | None


@dataclass(frozen=True, slots=True)
class Choice:
    """What `choose` decided: a program that is there, or (None) that it must be built."""

    name: str
    wanted: str | None
    found: Found | None
    passed_over: tuple[str, ...]

    def describe(self) -> str:
        """One line for the user: which program, which version, from where, and what was not good enough."""
        if self.found is None:
            told = f"{self.name} {self.wanted or ''}: {Origin.BUILD.value}"
        else:
            version = self.found.version or "(unknown version)"
            told = f"{self.name} {version}: {self.found.origin.value}, {self.found.path}"
        return told + "".join(f"; {reason}" for reason in self.passed_over)


def choose(name: str, wanted: str | None, candidates: Iterable[Found], missing_in: Path | None = None) -> Choice:
    """Take the first candidate that may be used; none left means build. Without a wanted version any will do.

    `missing_in`: the folder that the caller named and that does not hold the program.
    """
    passed_over = [] if missing_in is None else [f"{missing_in} holds no {name}"]
    for candidate in candidates:
        if candidate.origin is Origin.GIVEN or wanted is None or _same_minor(candidate.version, wanted):
            return Choice(name, wanted, candidate, tuple(passed_over))
        version = candidate.version or "of unknown version"
        passed_over.append(f"{candidate.path} is {version}, not {_minor(wanted)}.x")
    return Choice(name, wanted, None, tuple(passed_over))


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _same_minor(version: str | None, wanted: str) -> bool:
    return version is not None and _minor(version) == _minor(wanted)


def wanted_version(tool: Recipe, asked: str | None) -> str | None:
    """The version to look for: the one asked for (Kubernetes programs only), else what the source tree pins."""
    if asked is not None and tool.stamped:
        return asked.removeprefix("v")
    try:
        go_mod = build.source_tree() / tool.module / "go.mod"
    except build.BuildError:
        return None
    return pinned_version(go_mod.read_text(), tool.requirement)


def locate(
    name: str,
    *,
    folder: Path | None = None,
    version: str | None = None,
    report: Callable[[str], None] = build.to_stderr,
    search_path: bool = True,
) -> Path:
    """The path of a program that can be run, building it if no source has it. `report` gets one line per decision."""
    tool = recipe(name)
    wanted = wanted_version(tool, version)
    missing_in = folder if folder is not None and not _executable(folder / tool.name) else None
    choice = choose(name, wanted, _candidates(tool, wanted, folder, search_path), missing_in)
    report(choice.describe())
    if choice.found is not None:
        return choice.found.path
    return build.build([name], version=version, report=report)[name]


def _candidates(tool: Recipe, wanted: str | None, folder: Path | None, search_path: bool) -> Iterator[Found]:
    """Lazily, so that no program is asked for its version once an earlier one was taken."""
    if folder is not None:
        given = folder / tool.name
        if _executable(given):
            yield Found(Origin.GIVEN, given, tell_version(tool, given))
    if search_path and (on_path := shutil.which(tool.name)):
        yield Found(Origin.PATH, Path(on_path), tell_version(tool, Path(on_path)))
    if wanted is not None and (cached := build.cached(tool, wanted)):
        yield Found(Origin.CACHE, cached, wanted)


def _executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def tell_version(tool: Recipe, path: Path) -> str | None:
    """What the program says about its version; None if it cannot say or does not run."""
    if not tool.version_args:
        return None
    try:
        answer = subprocess.run(
            [path, *tool.version_args], capture_output=True, text=True, timeout=_ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return version_in(answer.stdout + answer.stderr)
