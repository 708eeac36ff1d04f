"""`wharf gateway …`: handed to the service as it was typed; this file knows none of its flags."""

from __future__ import annotations

from collections.abc import Sequence


def run_gateway(argv: Sequence[str]) -> int:
    """The service's exit code. Imported here so that other commands do not wait for it."""
    from wharf.gateway.app import main  # noqa: PLC0415

    return main(argv)
