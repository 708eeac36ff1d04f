"""The compiled modules of the wire: name → C libraries it links. `make build` builds them in place.

WHARF_EXTENSION limits the build to one of them, so that one broken source does not hold up the rest.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

MODULES: dict[str, list[str]] = {
    "wharf.wire._nghttp2": ["nghttp2"],
    "wharf.wire._grpc": ["nghttp2"],
    "wharf.wire._http": ["nghttp2"],
}


def extensions() -> list[Extension]:
    only = os.environ.get("WHARF_EXTENSION")
    sources = {name: f"src/{name.replace('.', '/')}.pyx" for name in MODULES if only in (None, name)}
    return [
        Extension(name, [source], libraries=MODULES[name], extra_compile_args=["-O2"])
        for name, source in sources.items()
        if Path(source).exists()
    ]


setup(ext_modules=cythonize(extensions(), build_dir="build/cython", include_path=["src"], language_level=3))
