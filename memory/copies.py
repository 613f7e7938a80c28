"""The copies of a database that lie in a state folder: whole ones with their age, and what a crash left of others."""

from __future__ import annotations

import calendar
import re
import time
from pathlib import Path

from memory.journal import erase

BACKUPS = "backups"
PARTIAL, RESTORING, MIGRATING = ".partial", ".restoring", ".migrating"  # copies being made
NAME = "%Y%m%dT%H%M%SZ"  # UTC; a backup's name is its time, and a number where two fell into one second
_OWN = re.compile(r"(\d{8}T\d{6}Z)(?:-(\d+))?\.db")
_BEFORE_SCHEMA = re.compile(r"before-schema-\d+-(\d+)\.db")


def backups(state_dir: Path, now: float | None = None) -> list[Path]:
    """The backups of a state folder, newest first; with `now` (unix seconds) those from the future come last: the
    clock was wrong when they were made."""
    found = [(taken_at(path), path) for path in (state_dir / BACKUPS).glob("*.db")]
    order = sorted(found, key=lambda row: (now is None or row[0][0] <= now, row[0], row[1].name), reverse=True)
    return [path for _, path in order]


def taken_at(path: Path) -> tuple[float, int]:
    """When a backup was made, in unix seconds, and which it was in that second. By its name: erasure rewrites the
    file. A copy with a name of its own is as old as the file."""
    if own := _OWN.fullmatch(path.name):
        return float(calendar.timegm(time.strptime(own[1], NAME))), int(own[2] or 0)
    before = _BEFORE_SCHEMA.fullmatch(path.name)
    return (float(before[1]) if before else path.stat().st_mtime), 0


def new_name(folder: Path, now: float) -> Path:
    """The name of a backup that is made now, after those of the same second."""
    stem = time.strftime(NAME, time.gmtime(now))
    taken = [taken_at(path)[1] for path in folder.glob(f"{stem}*.db")]
    return folder / f"{stem}{f'-{max(taken) + 1}' if taken else ''}.db"


def erase_unfinished(state_dir: Path) -> int:
    """Overwrite and remove what a process that died left of its copies; gives their number. Nobody may be copying."""
    found = [
        *(state_dir / BACKUPS).glob(f"*{PARTIAL}*"),
        *state_dir.glob(f"*{RESTORING}*"),
        *state_dir.glob(f"*{MIGRATING}*"),
    ]
    for path in found:
        erase(path)
    return len(found)
