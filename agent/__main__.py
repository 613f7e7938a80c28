"""`python -m agent` serves; `python -m agent COMMAND` is `secondnature COMMAND`."""

import sys

from agent.cli import main

if len(sys.argv) == 1:
    sys.argv.append("serve")
main()
