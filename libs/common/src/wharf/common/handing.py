"""What a process hands a worker that is the same program, started anew: a page of memory instead of flags.

A worker ends with the process that started it: the kernel kills it, also when that one is killed.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol, cast

WORD: Final = "worker-of"  # first on the command line; a descriptor follows
_PR_SET_PDEATHSIG: Final = 1


class Handed(Protocol):
    """Anything that can be pickled and says whose worker it is for."""

    @property
    def parent(self) -> int:
        """The process that started it."""


def start_worker(
    module: str, handed: Handed, descriptors: Collection[int], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """`python -m module`, handed this and these descriptors, which stay the caller's. OSError."""
    papers = os.memfd_create("worker", os.MFD_CLOEXEC)
    try:
        os.write(papers, pickle.dumps(handed))
        os.lseek(papers, 0, os.SEEK_SET)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, WORD, str(papers)],
            stdin=subprocess.DEVNULL,
            pass_fds=(papers, *descriptors),
            env=dict(environment) if environment is not None else None,
        )
    finally:
        os.close(papers)


def taken(argv: Sequence[str]) -> Any:
    """In a process that was started as a worker: what it was handed, and it ends with its parent from now on.

    None in any other process; SystemExit when the parent is gone already.
    """
    if list(argv[:1]) != [WORD] or len(argv) != 2 or not argv[1].isdecimal():
        return None
    with os.fdopen(int(argv[1]), "rb") as papers:
        handed = cast(Handed, pickle.load(papers))  # noqa: S301  nobody but the parent has written it
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != handed.parent:
        raise SystemExit(1)  # it went before the kernel was told
    return handed
