"""docs/tuning.md names only commands, options, settings and files that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from agent.cli.commands import app
from agent.config import Config

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "tuning.md").read_text()
LINES = [line.removeprefix("secondnature ") for line in TEXT.splitlines() if line.startswith("secondnature ")]
INLINE = [words.removeprefix("secondnature ") for words in re.findall(r"`(secondnature [^`]+)`", TEXT)]


@pytest.mark.parametrize("line", [*LINES, *INLINE])
def test_every_command_and_option_exists(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = [word.strip("[]") for word in shlex.split(line)]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    assert command.name is not None
    assert command.name in line
    assert {word for word in words if word.startswith("--")} <= options


def test_every_setting_exists() -> None:
    tree = Config().model_dump()
    named = re.findall(r"`(drift|automaticity|system1|traces)\.(\w+)`", TEXT)
    assert len(named) >= 5
    for section, key in named:
        assert key in tree[section]


def test_every_file_exists() -> None:
    named = set(re.findall(r"`(docs/[\w.]+)`", TEXT))
    assert "docs/grafana.json" in named
    missing = {name for name in named if not (ROOT / name).exists()}
    assert missing <= {"docs/routing.md"}  # written by `python -m bench.routing` from a real run
