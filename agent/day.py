"""What answering needs, built once by the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.admission import Room
from agent.audits import Audits
from agent.config import Config
from agent.engine.client import Engine
from agent.engine.wire import RETRY_AFTER_S
from agent.in_force import Pointer
from agent.metrics import Metrics
from agent.traces import OFF, Traces
from memory.errors import Unavailable
from memory.store import Memory
from policies.matching import Matcher


@dataclass
class Alike:
    """What earlier questions of each skill look like; None: not learnt, or not wanted (agent/likeness.py)."""

    now: Matcher | None = None


@dataclass(frozen=True)
class Day:
    """What answering needs, built once by the daemon. Time and chance are arguments."""

    config: Config
    engine: Engine
    memory: Memory
    pointer: Pointer
    metrics: Metrics
    audits: Audits
    system1_room: Room
    system2_room: Room
    base: str  # the engine's name for the frozen base model
    chance: Callable[[], float]  # uniform in [0, 1)
    clock: Callable[[], float] = time.perf_counter  # seconds
    not_ready: Callable[[], str | None] = lambda: None  # why the engine cannot be asked now
    mixing_fault: Callable[[], str | None] = lambda: None  # why the base cannot be trusted (agent/engine/check.py)
    traces: Traces = OFF
    alike: Alike = field(default_factory=Alike)


def require_ready(day: Day) -> None:
    """Raises Unavailable while the engine starts or restarts, before anything is drafted or queued."""
    if why := day.not_ready():
        raise Unavailable(f"{why} Ask again soon.", retry_after_s=RETRY_AFTER_S)
