"""`wharf gateway check [FILE…]`: says what is wrong with UpstreamCluster documents, each alone and all together.

Exit code 0 when nothing is, 1 when something is, 2 for a file that cannot be read. Secrets and files that documents
refer to are not looked at; the running gateway does that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from wharf.gateway.api.parse import Invalid, check_set, parse_cluster
from wharf.gateway.api.shapes import KIND, UpstreamCluster
from wharf.gateway.commands.files import Unreadable, documents_of


def run(argv: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser("wharf gateway check", description="Says what is wrong with UpstreamClusters.")
    parser.add_argument("file", nargs="*", help="YAML or JSON, several documents each; standard input without one")
    try:
        options = parser.parse_args(argv)
    except SystemExit as ended:
        return int(ended.code or 0)
    clusters: list[UpstreamCluster] = []
    problems: list[str] = []
    try:
        for where, document in documents_of(options.file):
            if document.get("kind") != KIND and document.get("kind") in ("Secret", "EndpointSlice"):
                continue
            try:
                clusters.append(parse_cluster(document, files=True))
            except Invalid as invalid:
                problems += [f"{where}: {problem}" for problem in invalid.problems]
    except Unreadable as error:
        print(f"wharf gateway check: {error}", file=sys.stderr)
        return 2
    problems += [f"{conflict.cluster}: {conflict}" for conflict in check_set(clusters)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0
