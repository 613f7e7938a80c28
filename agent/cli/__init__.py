"""The command line: `secondnature COMMAND --help` shows examples; `--json` everywhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from memory.errors import SecondNatureError

if TYPE_CHECKING:
    from typer import Typer


def main() -> None:
    """Run one command; a fault that has a sentence ends with that sentence and code 1."""
    try:
        _program()()
    except SecondNatureError as error:
        print(f"secondnature: {error.message}", file=sys.stderr)
        raise SystemExit(1) from None


def _program() -> Typer:
    if sys.argv[1:2] == ["serve"]:
        from agent.cli.serve import app
    else:
        from agent.cli.commands import app
    return app
