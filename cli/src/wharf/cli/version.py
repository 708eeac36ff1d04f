"""`wharf version`."""

from __future__ import annotations

import platform

from wharf.cli.embedded.system import own_version


def version() -> None:
    """Print the version of wharf and of the Python it runs on."""
    print(f"wharf {own_version()} (Python {platform.python_version()}, {platform.system()} {platform.machine()})")
