"""`python -m agent` is `secondnature`."""

from agent.cli import main

main()
