"""`python -m benchmarks [brain|gateway] …` prints tables; `--check` only compares costs with their budgets.

Without a name both run, one after the other, with the same words.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from benchmarks.brain.run import main as brain
from benchmarks.gateway.__main__ import main as gateway

MAINS: dict[str, Callable[[Sequence[str]], int]] = {"brain": brain, "gateway": gateway}


def main(arguments: Sequence[str]) -> int:
    """The worst exit code."""
    if arguments and arguments[0] in MAINS:
        return MAINS[arguments[0]](arguments[1:])
    return max(one(arguments) for one in MAINS.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
