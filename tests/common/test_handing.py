"""What a worker is handed arrives, and whoever was handed nothing is no worker."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
from wharf.common.handing import WORD, start_worker, taken


@dataclass(frozen=True)
class Papers:
    parent: int
    line: int


@pytest.mark.parametrize("argv", [[], ["--help"], [WORD], [WORD, "x"], [WORD, "3", "4"], ["3", WORD]])
def test_other_words_are_no_workers(argv: list[str]) -> None:
    assert taken(argv) is None


def test_a_worker_whose_parent_is_gone_ends_at_once() -> None:
    program = (
        "import os, pickle, sys, types\n"
        "from wharf.common.handing import taken\n"
        "papers = os.memfd_create('p')\n"
        "os.write(papers, pickle.dumps(types.SimpleNamespace(parent=1)))\n"
        "os.lseek(papers, 0, os.SEEK_SET)\n"
        f"taken(['{WORD}', str(papers)])\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 1


def test_what_is_handed_arrives_with_its_descriptors() -> None:
    ours, theirs = os.pipe()
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as other:
        process = start_worker("wharf.common.no_such_module", Papers(os.getpid(), theirs), (theirs,))
        assert process.wait(60) == 1, "it is started as python -m, and there is none"
        os.close(theirs)
        assert os.read(ours, 1) == b"", "nobody else holds the descriptor"
        other.communicate(b"", timeout=60)
    os.close(ours)
