"""What must hold after every restart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from adapters.manifest import verify
from adapters.process import HIDDEN, is_running
from memory.errors import Damaged, NotFound
from memory.records import Adapter, AdapterStatus
from memory.store import Memory

USABLE = (AdapterStatus.CANDIDATE, AdapterStatus.LIVE, AdapterStatus.RETIRED)


def missing(memory: Memory, episodes: Iterable[str], feedback: Iterable[str]) -> list[str]:
    """Acknowledged episodes and feedback that the memory does not hold."""
    lost = [f"the episode {name}" for name in episodes if not _held(memory.episode, name)]
    lost += [f"the feedback on {name}" for name in feedback if not _held(memory.feedback, name)]
    return [f"{what} was acknowledged and is not in the database" for what in lost]


def _held(read: Callable[[str], object], name: str) -> bool:
    try:
        return bool(read(name))
    except NotFound:
        return False


def disagreements(rows: Collection[Adapter], adapters_dir: Path) -> list[str]:
    """Where the registry's rows and the adapters' folders do not agree. Reads every adapter's weights."""
    known, found = {row.name: row for row in rows}, []
    for folder in sorted(path for path in adapters_dir.iterdir() if path.is_dir()):
        if folder.name.startswith(HIDDEN):
            if not is_running(folder.name):
                found.append(f"{folder.name} is a half-made adapter that nobody works on")
        elif folder.name not in known:
            found.append(f"{folder.name} is an adapter's folder without a row")
    for row in rows:
        folder = adapters_dir / row.name
        if row.status not in USABLE or (row.status is AdapterStatus.RETIRED and not folder.exists()):
            continue  # a retired adapter's folder may have been deleted to free room
        try:
            if verify(folder, row.base).digest != row.digest:
                found.append(f"{row.name}: the folder's digest is not the row's")
        except Damaged as error:
            found.append(f"{row.name} is {row.status.value}, but {error.message}")
    live = [row.name for row in rows if row.status is AdapterStatus.LIVE]
    return found if len(live) <= 1 else [*found, f"{len(live)} adapters are live: {', '.join(live)}"]
