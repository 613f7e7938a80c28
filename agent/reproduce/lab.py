"""What a run works with: an engine that starts when it is first needed, the answers so far, a limit of time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.job import TrainSettings
from adapters.manifest import Manifest
from adapters.model import ModelFolder
from agent.distil import distil
from agent.engine.client import Engine, VllmEngine
from agent.engine.settings import EngineSettings
from agent.engine.supervisor import Supervisor
from agent.reproduce.answered import Answered
from agent.system2.settings import System2Settings

Say = Callable[[str, int, int], None]
"""say(what, done, total)."""


Distil = Callable[..., Awaitable[Manifest]]
"""agent.distil.distil, or what stands for it in a test."""


class Paused(Exception):
    """The time that was given is over; what is done is kept, and the same command goes on."""


class Engines(Protocol):
    """Where the engine comes from."""

    async def engine(self) -> Engine: ...


class Bench:
    """One engine for the whole run, a server of one's own or the one at `url`. Started at the first question."""

    def __init__(self, settings: EngineSettings, model: Path, folder: Path, url: str | None = None) -> None:
        self._settings, self._model, self._folder, self._url = settings, model, folder, url
        self._supervisor: Supervisor | None = None
        self._engine: Engine | None = None

    async def engine(self) -> Engine:
        """The engine, ready. Raises Unavailable with the end of its log where it does not start."""
        if self._engine is None and self._url:
            self._engine = VllmEngine(self._url, key=self._settings.api_key, timeout_s=self._settings.timeout_s)
        if self._engine is None:
            if self._supervisor is None:
                self._supervisor = Supervisor(self._settings, self._model, self._folder, on_ready=_nothing)
                await self._supervisor.start()
            self._engine = self._supervisor.engine
        if self._supervisor is not None:  # it may be down after an earlier task: restarting, or for good
            await self._supervisor.wait_ready()
        return self._engine

    async def close(self) -> None:
        """End the engine if it is ours."""
        if self._supervisor is not None:
            await self._supervisor.stop()
        elif self._engine is not None:
            await self._engine.close()


async def _nothing() -> None:
    return None


@dataclass
class Lab:
    """A run's means."""

    bench: Engines
    base: ModelFolder
    model: str  # the base's name in the engine
    answers: Answered
    folder: Path  # all that the task writes
    system2: System2Settings
    train: TrainSettings
    say: Say
    until: float | None = None  # clock seconds; None: no limit
    clock: Callable[[], float] = time.monotonic
    distil: Distil = distil
    worked: bool = False  # something was asked or trained in this run
    worked_before: bool = False  # an earlier task of this session asked or trained something

    @property
    def left_s(self) -> float:
        """Seconds until the limit."""
        return float("inf") if self.until is None else self.until - self.clock()
