"""`python -m wharf.brain` is `wharf brain`."""

import sys

from wharf.brain.app import main

sys.exit(main(sys.argv[1:]))
