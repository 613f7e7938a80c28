"""The figures that the console draws, from the memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agent.day import Day
from agent.skills import matrix, versions
from agent.thresholds import in_force
from agent.tuning import newest_by_hand
from memory.records import SkillScore, SkillState
from memory.rows import SkillStateRow
from memory.store import Memory
from policies.automaticity import SkillVersion

HISTORY = 100  # changes of thresholds that are shown


def traffic(memory: Memory, hours: float, bins: int) -> dict[str, Any]:
    """Answers to people in `bins` equal spans of the last `hours`: by system, tokens and seconds per answer."""
    until = memory.clock()
    step = hours * 3600.0 / bins
    since = until - hours * 3600.0
    return {"since": since, "step_s": step, "bins": memory.traffic(since, until, bins)}


def automaticity(day: Day) -> dict[str, Any]:
    """Each skill over adapter versions: examined on held-out questions, and as it served; its state and why."""
    memory = day.memory
    scores, served, states = memory.score_matrix(), versions(memory), memory.skill_states()
    names = dict.fromkeys(skill.name for skill in day.config.skills)
    names |= dict.fromkeys([*(name for row in scores.values() for name in row), *(one.skill for one in served)])
    made = [{"name": a.name, "status": a.status.value, "created_at": a.created_at} for a in memory.adapters()]
    return {
        "adapters": [{"name": None, "status": "base", "created_at": None}, *made],
        "skills": [_skill(name, scores, served, states.get(name)) for name in names],
        "forgetting": matrix(memory) if scores else None,
    }


def _skill(
    name: str,
    scores: Mapping[str, Mapping[str, SkillScore]],
    served: Sequence[SkillVersion],
    state: SkillStateRow | None,
) -> dict[str, Any]:
    asked = any(one.skill == name for one in served)
    unknown = "too few answers to say more" if asked else "it was not asked yet"
    return {
        "skill": name,
        "state": (state.state if state else SkillState.PRACTISING).value,
        "reason": state.reason if state else unknown,
        "since": state.since if state else None,
        "examined": {adapter: asdict(row[name]) for adapter, row in scores.items() if name in row},
        "served": {one.adapter or "": asdict(one) for one in served if one.skill == name},
    }


def thresholds(day: Day) -> dict[str, Any]:
    """What is in force under the live adapter, skill by skill, what an undo would take back (`*`: where no skill is
    named), and the history."""
    force = day.pointer.now
    adapter = force.adapter.name if force.adapter else None
    names = [skill.name for skill in day.skills if skill.settled]
    by_hand = {skill or "*": newest_by_hand(day.memory, adapter, skill) for skill in (None, *names)}
    return {
        "adapter": adapter,
        "skills": names,
        "observed": [skill.name for skill in day.skills if not skill.settled],
        "deliberate": sorted(force.deliberate),
        "in_force": in_force(day.memory, (None, *names), adapter, day.config.route.threshold),
        "undo": {name: asdict(newest) for name, newest in by_hand.items() if newest},
        "history": [asdict(change) for change in day.memory.threshold_history()[:HISTORY]],
    }
