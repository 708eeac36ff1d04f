"""kube-apiserver's own storage tests, compiled once against an outside store.

The module is unpacked from Go's module cache (which is read-only), one file of its test support is replaced by
`tests/cluster/storagetests/test_server.go`, and the packages' test binaries are kept in wharf's cache.
Invariant: not one line of the tests themselves is changed; a new release or a changed replacement means a new build.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wharf.cli.kube.build import BuildError, cache_root, source_tree, to_stderr
from wharf.cli.kube.toolchain import environment, find_go

_REPLACED = Path("pkg/storage/etcd3/testserver/test_server.go")
_PINNED_IN = Path("tests/cluster/apiserver")
_VERDICT = re.compile(r"^(\s*)--- (PASS|FAIL|SKIP): (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class TestBinary:
    """A compiled test package and the folder it must run in (tests read files beside their source)."""

    __test__ = False

    path: Path
    folder: Path

    def names(self) -> list[str]:
        """All tests in it."""
        listed = subprocess.run([self.path, "-test.list", "^Test"], capture_output=True, text=True, check=True)
        return [line for line in listed.stdout.splitlines() if line.startswith("Test")]

    def run(self, pattern: str, command: list[str], kind: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run the tests whose names match, each against servers started by `command`."""
        env = {**os.environ, "WHARF_STORE_COMMAND": json.dumps(command), "WHARF_STORE_KIND": kind}
        words = [str(self.path), "-test.v", f"-test.run={pattern}", f"-test.timeout={timeout:.0f}s", "-test.parallel=2"]
        return subprocess.run(
            words, cwd=self.folder, env=env, capture_output=True, text=True, timeout=timeout + 30, check=False
        )


def verdicts(output: str) -> dict[str, str]:
    """Top-level tests and their verdicts, from `-test.v` output."""
    return {name: verdict for indent, verdict, name in _VERDICT.findall(output) if not indent}


def failures(output: str) -> Iterator[str]:
    """For each failed top-level test what it printed."""
    for block in re.split(r"^(?==== RUN +Test[^/\s]*$)", output, flags=re.MULTILINE):
        if re.search(r"^--- FAIL", block, re.MULTILINE):
            yield block


def interrupted(output: str) -> str:
    """What a run that did not come to its end says: which tests ran when time was up, else its last words."""
    at = output.find("panic: ")
    return output[at : at + 2000] if at >= 0 else output[-5000:]


def storage_tests(package: str) -> TestBinary:
    """The test binary of a package below pkg/storage of k8s.io/apiserver, built when the cache lacks it."""
    replacement = source_tree() / "tests/cluster/storagetests/test_server.go"
    digest = hashlib.sha256(replacement.read_bytes() + (source_tree() / _PINNED_IN / "go.sum").read_bytes()).hexdigest()
    module = cache_root() / "storagetests" / digest[:16]
    binary = module / (package.replace("/", "-") + ".test")
    folder = module / "src/pkg/storage" / package
    if not binary.is_file():
        if not (module / "src").is_dir():
            _unpack(module / "src", replacement)
        _compile(package, module / "src", binary)
    return TestBinary(binary, folder)


def _unpack(target: Path, replacement: Path) -> None:
    """Copy the pinned module, with its support file replaced, in one step."""
    told = _go(["mod", "download", "-json", "k8s.io/apiserver@" + _pinned()], source_tree() / _PINNED_IN)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        copy = Path(scratch) / "src"
        shutil.copytree(json.loads(told)["Dir"], copy)
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.copyfile(replacement, copy / _REPLACED)
        copy.rename(target)


def _pinned() -> str:
    text = (source_tree() / _PINNED_IN / "go.mod").read_text()
    found = re.search(r"k8s.io/apiserver => k8s.io/apiserver (\S+)", text)
    assert found is not None, "the wrapper module no longer replaces k8s.io/apiserver"
    return found.group(1)


def _compile(package: str, module: Path, binary: Path) -> None:
    to_stderr(f"compiling the tests of pkg/storage/{package} (once; about 300 s on two cores when nothing is cached)")
    began = time.monotonic()
    scratch = binary.with_suffix(".new")
    _go(["test", "-c", "-trimpath", "-vet=off", "-o", str(scratch), f"./pkg/storage/{package}"], module)
    scratch.rename(binary)
    to_stderr(f"  compiled in {time.monotonic() - began:.0f} s")


def _go(arguments: list[str], folder: Path) -> str:
    command = [str(find_go(to_stderr)), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(os.environ), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"`go {' '.join(arguments)}` failed:\n{done.stderr[-3000:]}")
    return done.stdout
