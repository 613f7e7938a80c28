"""The command line's two programs: the whole one, and what the daemon's start makes of it."""

from __future__ import annotations

import subprocess
import sys

from typer.main import get_command

from agent.cli import commands, serve

ASKS_FOR_HELP = """
import sys
sys.argv = ["secondnature", "serve", "--help"]
from agent.cli import main
try:
    main()
finally:
    print("agent.cli.commands" in sys.modules, file=sys.stderr)
"""


def test_serve_is_the_same_in_both() -> None:
    whole, small = get_command(commands.app), get_command(serve.app)
    assert set(small.commands) == {"serve", "config"} < set(whole.commands)  # type: ignore[attr-defined]
    for name, one in small.commands.items():  # type: ignore[attr-defined]
        other = whole.commands[name]  # type: ignore[attr-defined]
        assert [(p.name, p.opts, p.default) for p in one.params] == [(p.name, p.opts, p.default) for p in other.params]
        assert one.help == other.help


def test_a_start_makes_no_other_command() -> None:
    done = subprocess.run([sys.executable, "-c", ASKS_FOR_HELP], capture_output=True, text=True, check=True)
    assert "secondnature serve [OPTIONS]" in done.stdout
    assert done.stderr.strip() == "False"
