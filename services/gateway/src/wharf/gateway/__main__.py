"""`python -m wharf.gateway`."""

import sys

from wharf.gateway.app import main

sys.exit(main(sys.argv[1:]))
