"""One command, two ways: through the running service, or on the memory itself where none runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.cli.service import Service, address, configured, find
from agent.config import Config
from memory.store import Memory

WHO = "command line"


@dataclass(frozen=True)
class Reached:
    """Exactly one of the two is there."""

    service: Service | None
    memory: Memory | None  # opened for writing
    config: Config

    @property
    def held(self) -> Memory:
        """The memory, where no service runs."""
        assert self.memory is not None
        return self.memory


@contextmanager
def reach(config: Path | None, state_dir: Path | None, url: str | None, key: str | None) -> Iterator[Reached]:
    """The service at --url or on the state folder, else the memory, opened for writing.

    Raises Conflict where a process that has left no address holds the folder, Damaged, StorageFull.
    """
    settings = configured(config, state_dir)
    folder = Path(settings.state_dir)
    if url or address(folder):
        yield Reached(find(config, state_dir, url, key), None, settings)
        return
    with Memory.open(folder, settings=settings.memory) as memory:
        yield Reached(None, memory, settings)
