"""`python -m wharf.cli` is `wharf`."""

from wharf.cli.main import run

run()
