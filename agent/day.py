"""What answering needs, built once by the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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
from policies.grouping import Founders, GroupSettings
from policies.matching import Matcher
from policies.skills import DEFAULT_SKILL, SkillSettings


@dataclass
class Alike:
    """What questions that nobody names and no pattern matches look like."""

    now: Matcher | None = None  # earlier questions of each skill; None: not learnt, or not wanted (agent/likeness.py)
    founders: Founders | None = None  # of the groups that formed by themselves; None: not read yet (agent/groups.py)
    groups: tuple[Any, ...] = ()  # those groups, as they were written down
    newest: str | None = None  # id of the newest question of no skill at the last look for groups
    grown: tuple[SkillSettings, ...] = ()  # the skills that they are
    near: float = GroupSettings().near  # 0..1, likeness to a founder from which a question is one of its group

    def match(self, text: str) -> str | None:
        """A skill's or a group's name; None where the text looks like neither."""
        skill = self.now.match(text) if self.now else None
        return skill or (self.founders.match(text, self.near) if self.founders else None)


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
    practice_room: Room  # before both: so many practised prompts stand among people's at those two doors, and no more
    base: str  # the engine's name for the frozen base model
    chance: Callable[[], float]  # uniform in [0, 1)
    clock: Callable[[], float] = time.perf_counter  # seconds
    not_ready: Callable[[], str | None] = lambda: None  # why the engine cannot be asked now
    mixing_fault: Callable[[], str | None] = lambda: None  # why the base cannot be trusted (agent/engine/check.py)
    traces: Traces = OFF
    alike: Alike = field(default_factory=Alike)

    @property
    def skills(self) -> tuple[SkillSettings, ...]:
        """Those of the settings, and those that formed by themselves."""
        return (*self.config.skills, *self.alike.grown)

    def people_wait(self) -> bool:
        """Whether somebody's question is under way; practice is nobody's."""
        return self.system1_room.awaited + self.system2_room.awaited > 0

    def skill_named(self, name: str) -> SkillSettings:
        """A skill as it is set up today; the default where there is none of that name any more."""
        return next((skill for skill in self.skills if skill.name == name), DEFAULT_SKILL)


def require_ready(day: Day) -> None:
    """Raises Unavailable while the engine starts or restarts, before anything is drafted or queued."""
    if why := day.not_ready():
        raise Unavailable(f"{why} Ask again soon.", retry_after_s=RETRY_AFTER_S)
