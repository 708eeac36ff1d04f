"""`python -m benchmarks` prints the tables; `--check` only compares the cost of an operation with its budget."""

from __future__ import annotations

import sys

from benchmarks.brain.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
