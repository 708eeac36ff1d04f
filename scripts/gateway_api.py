"""Writes what follows from the gateway's table of fields: the CRD and the schema in the chart, the manual's reference.

`--check` writes nothing and fails when a file is not what it would write.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from wharf.gateway.api import crd, reference, values_schema

ROOT = Path(__file__).resolve().parent.parent


def files() -> dict[Path, str]:
    """Path → the text it should have."""
    values = ROOT / values_schema.FILE
    return {
        ROOT / crd.FILE: crd.crd_yaml(),
        ROOT / reference.FILE: reference.reference(),
        values: values_schema.with_definition(values.read_text()),
    }


def main(argv: Sequence[str]) -> int:
    stale = {path: text for path, text in files().items() if not path.exists() or path.read_text() != text}
    if "--check" in argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what scripts/gateway_api.py writes", file=sys.stderr)
        return 1 if stale else 0
    for path, text in stale.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
