"""`wharf gateway crd`: the CustomResourceDefinition of UpstreamCluster, for `kubectl apply --server-side -f -`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from wharf.gateway.api.crd import crd_yaml


def run(argv: Sequence[str]) -> int:
    """The exit code."""
    description = "Prints the CRD of UpstreamCluster; apply it with `kubectl apply --server-side -f -`."
    parser = argparse.ArgumentParser("wharf gateway crd", description=description)
    try:
        parser.parse_args(argv)
    except SystemExit as ended:
        return int(ended.code or 0)
    sys.stdout.write(crd_yaml())
    return 0
