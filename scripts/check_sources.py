"""Rules about source files that no linter has: length, a docstring that says why, a stub beside compiled code.

Run by `make check` over the files git knows, so that nothing half-written in somebody's folder counts.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 450  # lines; past 400 it is a question in review
GENERATED = "/pb/"
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "X" * 3, "NotImplemented" + "Error")


def tracked(*patterns: str) -> list[Path]:
    """Files git knows (or would add) that match."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name and GENERATED not in name]
    return [path for path in paths if path.is_file()]


def faults_of(path: Path, text: str) -> list[str]:
    """What is wrong with one source file."""
    found = []
    lines = text.count("\n")
    if lines > LONGEST:
        found.append(f"{lines} lines; the longest allowed is {LONGEST}")
    found += [f"says {word}; finish it or write an issue" for word in UNFINISHED if word in text]
    if path.suffix == ".py" and text.strip() and ast.get_docstring(ast.parse(text)) is None:
        found.append("opens without a docstring that says why it is there")
    if path.suffix == ".pyx" and not path.with_suffix(".pyi").exists():
        found.append("compiled code without a .pyi beside it")
    return found


def main() -> int:
    count = 0
    for path in tracked("*.py", "*.pyx", "*.pyi", "*.pxd", "*.pxi", "*.go", "*.sh"):
        for fault in faults_of(path, path.read_text()):
            print(f"{path.relative_to(ROOT)}: {fault}", file=sys.stderr)
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    raise SystemExit(main())
