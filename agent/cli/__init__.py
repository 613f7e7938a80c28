"""The command line: `secondnature COMMAND --help` shows examples; `--json` everywhere."""

from __future__ import annotations

import sys

from memory.errors import SecondNatureError


def main() -> None:
    """Run one command; a fault that has a sentence ends with that sentence and code 1."""
    from agent.cli.commands import app

    try:
        app()
    except SecondNatureError as error:
        print(f"secondnature: {error.message}", file=sys.stderr)
        raise SystemExit(1) from None
