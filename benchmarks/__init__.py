"""Figures beside a peer's of the same run. The servers both stand on are started by the tests' harness."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
