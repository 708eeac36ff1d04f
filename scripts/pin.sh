#!/usr/bin/env bash
# Resolve requirements/*.in anew into the pinned *.txt files. `scripts/pin.sh --upgrade` takes newer releases.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../requirements"
compile() {
    ../.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-header --no-annotate "$@"
}
for name in uv go bench runtime dev; do compile "$name.in" --output-file "$name.txt" "$@"; done
