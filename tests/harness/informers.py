"""client-go's own informers as a child process: what they had to ask for, and whether what they saw can be believed."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wharf.cli.kube.build import BuildError, cache_root, source_tree, to_stderr
from wharf.cli.kube.toolchain import environment, find_go

_ANSWER_SECONDS = 60.0
_ASK_AGAIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """What the informer of one kind tells about itself."""

    lists: int  # requests for all objects, the first included
    watches: int
    events: int
    found: int  # how many problems there were
    problems: tuple[str, ...]  # the first of them
    versions: dict[str, str]  # object name → resourceVersion it holds


class Informers:
    """Informers of pods, configmaps and leases in one namespace."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def seen(self) -> dict[str, Seen]:
        """By kind."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        print("", file=self._child.stdin, flush=True)
        ready, _, _ = select.select([self._child.stdout], [], [], _ANSWER_SECONDS)
        line = self._child.stdout.readline() if ready else ""
        assert line, f"the informers do not answer; exit code {self._child.poll()}"
        return {kind: Seen(**{**one, "problems": tuple(one["problems"])}) for kind, one in json.loads(line).items()}

    def wait_for(self, condition: Callable[[dict[str, Seen]], bool], timeout: float = 30.0) -> dict[str, Seen]:
        """What they have seen once it fulfils the condition; at the end of the time what they have seen then."""
        deadline = time.monotonic() + timeout
        while not condition(seen := self.seen()) and time.monotonic() < deadline:
            time.sleep(_ASK_AGAIN_SECONDS)
        return seen


@contextmanager
def informers(kubeconfig: Path, namespace: str) -> Iterator[Informers]:
    """Informers that have listed; leaving the block ends them."""
    words = [str(_build()), f"-kubeconfig={kubeconfig}", f"-namespace={namespace}"]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with child:
        try:
            one = Informers(child)
            one.seen()
            yield one
        finally:
            assert child.stdin is not None
            child.stdin.close()
            try:
                child.wait(_ANSWER_SECONDS)
            finally:
                child.kill()


def _build() -> Path:
    program = cache_root() / "bin" / "informer"
    program.parent.mkdir(parents=True, exist_ok=True)
    to_stderr("building the informers (once; about 60 s on two cores when nothing is cached)")
    words = [str(find_go(to_stderr)), "build", "-trimpath", "-o", str(program), "."]
    folder = source_tree() / "tests/cluster/informer"
    done = subprocess.run(words, cwd=folder, env=environment(os.environ), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"building the informers failed:\n{done.stderr[-3000:]}")
    return program
