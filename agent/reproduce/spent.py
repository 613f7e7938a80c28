"""What a command cost in wall time: its own runs together, apart from those of every other command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

FILE = "wall.json"


@dataclass(frozen=True, slots=True)
class Spent:
    """All runs of one command that asked or trained something. One that was killed outright is not among them."""

    command: str
    seconds: float = 0.0  # wall time, the start of the engine included
    runs: int = 0
    answers: int = 0  # made in these runs
    date: str | None = None  # of the last one
    machine: str | None = None  # where that was
    mixed: bool = False  # an earlier count of all runs in the state folder is in the seconds: they are a bound


def read(folder: Path, key: str, command: str) -> Spent:
    """What is on record for a command. `key`: one for all that shapes the run, the command and more."""
    kept = load(folder / FILE)
    if key in kept:
        return Spent(**kept[key])
    return Spent(command) if kept else _counted_together(folder, command)


def _counted_together(folder: Path, command: str) -> Spent:
    """The record of a state folder whose results hold one wall time for all runs, where the last was this command."""
    found = load(folder / "results.json")
    facts: Mapping[str, str] = found.get("facts") or {}
    if facts.get("command") != f"`{command}`" or not found.get("wall_s"):
        return Spent(command)
    return Spent(command, float(found["wall_s"]), 1, 0, found.get("date"), None, mixed=True)


def write(folder: Path, key: str, spent: Spent) -> None:
    """Put a command's record in place of its earlier one."""
    path = folder / FILE
    path.write_bytes(orjson.dumps(load(path) | {key: asdict(spent)}, option=orjson.OPT_INDENT_2))


def wall_time(spent: Spent, used: int) -> str:
    """For the page: minutes, in how many runs, and how many of the `used` answers other commands' runs had made."""
    minutes = f"{spent.seconds / 60:.1f} minutes"
    if spent.mixed:
        return f"{minutes} at most: runs of other commands on this task may be among them"
    if not spent.runs:
        return f"not known: the {used:,} answers were kept from runs of other commands, or of one that was ended"
    runs = f"{spent.runs} run{'' if spent.runs == 1 else 's'} of this command"
    others = max(0, used - spent.answers)
    kept = f"; {others:,} of {used:,} answers were kept from runs of other commands" if others else ""
    return f"{minutes} in {runs}{kept}"


def load(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where there is none that can be read."""
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
