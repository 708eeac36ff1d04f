"""The fuzzing child: `python -m fuzz.run TARGET [libFuzzer options] NEW_CORPUS SEEDS`. Ends by itself, by code."""

from __future__ import annotations

import logging
import sys

import atheris

with atheris.instrument_imports(include=["wharf", "fuzz"]):
    from fuzz.targets import TARGETS


def main(name: str, options: list[str]) -> None:
    logging.disable(logging.CRITICAL)  # refusals by the thousand are what is wanted
    atheris.Setup([name, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
