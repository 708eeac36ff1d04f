"""`wharf version`, and how a package of wharf learns its own."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed


def own_version(distribution: str = "wharf") -> str:
    """The version of one of wharf's packages; a checkout that was never installed says so."""
    try:
        return installed(distribution)
    except PackageNotFoundError:
        return "source"


def version() -> None:
    """Print the version of wharf and of the Python it runs on."""
    print(f"wharf {own_version()} (Python {platform.python_version()}, {platform.system()} {platform.machine()})")
