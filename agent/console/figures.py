"""The figures that the console draws, from the memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agent.answer import Day
from agent.tuning import in_force, newest_by_hand
from memory.records import SkillScore
from memory.rows import SkillStateRow
from memory.store import Memory
from policies.automaticity import Forgetting, SkillVersion, by_version, forgetting

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
    matrix = memory.score_matrix()
    served = by_version(memory.answer_columns(), matrix=matrix, lessons=memory.lesson_counts())
    states = memory.skill_states()
    known = dict.fromkeys(skill.name for skill in day.config.skills)
    known |= dict.fromkeys([*(s for row in matrix.values() for s in row), *(one.skill for one in served)])
    versions = [{"name": a.name, "status": a.status.value, "created_at": a.created_at} for a in memory.adapters()]
    return {
        "adapters": [{"name": None, "status": "base", "created_at": None}, *versions],
        "skills": [_skill(name, matrix, served, states.get(name)) for name in known],
        "forgetting": _forgotten(forgetting(matrix)) if matrix else None,
    }


def _skill(
    name: str,
    matrix: Mapping[str, Mapping[str, SkillScore]],
    served: Sequence[SkillVersion],
    state: SkillStateRow | None,
) -> dict[str, Any]:
    scores = {adapter: row[name] for adapter, row in matrix.items() if name in row}
    return {
        "skill": name,
        "state": state.state.value if state else None,
        "reason": state.reason if state else None,
        "since": state.since if state else None,
        "examined": {adapter: asdict(score) for adapter, score in scores.items()},
        "served": {one.adapter or "": asdict(one) for one in served if one.skill == name},
    }


def _forgotten(found: Forgetting) -> dict[str, Any]:
    return asdict(found)


def thresholds(day: Day) -> dict[str, Any]:
    """What is in force under the live adapter, skill by skill, what an undo would take back, and the history."""
    force = day.pointer.now
    adapter = force.adapter.name if force.adapter else None
    newest = newest_by_hand(day.memory)
    names = [skill.name for skill in day.config.skills]
    return {
        "adapter": adapter,
        "skills": names,
        "deliberate": sorted(force.deliberate),
        "in_force": {name or "*": in_force(day.memory, name, adapter) for name in (None, *names)},
        "undo": asdict(newest) if newest else None,
        "history": [asdict(change) for change in day.memory.threshold_history()[:HISTORY]],
    }
