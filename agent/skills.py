"""How automatic each skill has become, from the memory: what the CLI, the HTTP API and the console show, what the
gate judges by, and the states that the service keeps up to date."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.vigil import alarmed_at
from memory.errors import BadInput, NotFound
from memory.records import AdapterStatus, SkillScore, SkillState
from memory.store import Memory
from policies.automaticity import AutomaticitySettings, SkillVersion, Standing, by_version, forgetting, standing
from policies.methods import by_method
from policies.skills import UNKNOWN, unknown_skill

ONCE_LIVE = frozenset({AdapterStatus.LIVE, AdapterStatus.RETIRED})
Matrix = dict[str, dict[str, SkillScore]]


def once_live(memory: Memory) -> Matrix:
    """The examinations of adapters that answered people: what a candidate must not fall behind. A rejected one's
    high score was never anybody's, and losing it costs nobody anything."""
    live = {adapter.name for adapter in memory.adapters() if adapter.status in ONCE_LIVE}
    return {name: row for name, row in memory.score_matrix().items() if name in live}


def versions(memory: Memory, skill: str | None = None) -> list[SkillVersion]:
    """Statistics of every skill (or one) under every adapter version that answered it."""
    found = by_version(memory.answer_columns(), matrix=memory.score_matrix(), lessons=memory.lesson_counts())
    return [one for one in found if skill in (None, one.skill)]


def table(memory: Memory, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One row per skill: its state with the reason, and its numbers under the System 1 that answers now (None where
    it was not asked of that one yet). `names`: skills to list even where nothing was asked."""
    live, states = _live(memory), memory.skill_states()
    now = {one.skill: one for one in versions(memory) if one.adapter == live}
    listed = dict.fromkeys((*names, *sorted({*now, *states})))
    return [_row(skill, now.get(skill), states.get(skill), live) for skill in listed if skill != UNKNOWN]


def one(memory: Memory, skill: str, names: Sequence[str] = ()) -> dict[str, Any]:
    """One skill under every version, its states so far, its thresholds and its System 2 methods. Raises NotFound."""
    found = versions(memory, skill)
    history = memory.skill_history(skill)
    if not found and not history and skill not in names:
        raise unknown_skill(skill, sorted({row["skill"] for row in table(memory, names)}))
    changes = [change for change in memory.threshold_history() if change.skill == skill]
    return {
        "skill": skill,
        "state": history[-1].state.value if history else SkillState.PRACTISING.value,
        "reason": history[-1].reason if history else "nothing was decided yet",
        "versions": [asdict(version) for version in found],
        "states": [asdict(row) for row in history],
        "thresholds": [asdict(change) for change in changes],
        "methods": methods(memory, skill),
        "scores": {name: asdict(row[skill]) for name, row in memory.score_matrix().items() if skill in row},
    }


def matrix(memory: Memory) -> dict[str, Any]:
    """The forgetting matrix (skill by adapter version that was once live) with its measures, as JSON."""
    scores, order = once_live(memory), [adapter.name for adapter in memory.adapters()]
    learnt: dict[str, str] = {}
    for skill, adapter in sorted(memory.lesson_counts(), key=lambda pair: _place(order, pair[1])):
        learnt.setdefault(skill, adapter)
    return asdict(forgetting(scores, learnt))


def methods(memory: Memory, skill: str | None = None, since: float = 0.0) -> list[dict[str, Any]]:
    """What each System 2 method gained and cost, per skill; streams every thought since then (unix seconds)."""
    thoughts = (row for row in memory.each_thought(since) if skill in (None, row.skill))
    return [asdict(use) for use in by_method(thoughts)]


def update_states(memory: Memory, settings: AutomaticitySettings, adapter: str | None) -> dict[str, Standing]:
    """Write down each skill's state under the System 1 named (None: the base) where it changed; gives the changes.

    Answers from before a skill's last alarm do not count: the trust that they had is gone.
    """
    columns = memory.answer_columns(adapter=adapter, every_adapter=False)
    found = by_version(_since(columns, alarmed_at(memory, adapter)), matrix=memory.score_matrix())
    states, changed = memory.skill_states(), {}
    for version in found:
        before = states.get(version.skill)
        now = standing(version, settings, before.state if before else None)
        if version.skill != UNKNOWN and (before is None or before.state is not now.state):
            memory.set_skill_state(version.skill, now.state, now.reason, adapter)
            changed[version.skill] = now
    return changed


def release(memory: Memory, skill: str, who: str, why: str) -> dict[str, Any]:
    """Let a deliberate skill be tried again by System 1 and by the nights. Raises NotFound, BadInput."""
    state = memory.skill_states().get(skill)
    if state is None or state.state is not SkillState.DELIBERATE:
        raise NotFound(f"{skill!r} is not deliberate; `secondnature skills` shows the states", param="skill")
    if not why.strip():
        raise BadInput("say why, for the record", param="why")
    memory.set_skill_state(skill, SkillState.PRACTISING, f"released by {who}: {why}", state.adapter)
    memory.record_event(who, "release skill", why, {"skill": skill})
    return {"skill": skill, "state": SkillState.PRACTISING.value}


def export(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Rows as a .csv or .parquet file, by the file's ending. Raises BadInput for another one."""
    names = list(rows[0]) if rows else []
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    else:
        raise BadInput(f"{path} should end in .csv or .parquet")


def _row(skill: str, now: SkillVersion | None, state: Any, live: str | None) -> dict[str, Any]:
    numbers = asdict(now) if now else dict.fromkeys(SkillVersion.__dataclass_fields__) | {"n": 0}
    standing_now = state.state.value if state else SkillState.PRACTISING.value
    reason = state.reason if state else "too few answers to say more" if now else "it was not asked yet"
    return numbers | {"skill": skill, "adapter": live, "state": standing_now, "reason": reason}


def _since(columns: Mapping[str, npt.NDArray[Any]], rung: Mapping[str, float]) -> dict[str, npt.NDArray[Any]]:
    """The rows asked after their skill's alarm."""
    kept = np.ones(len(columns["asked_at"]), dtype=bool)
    for skill, when in rung.items():
        kept &= (columns["skill"] != skill) | (columns["asked_at"] > when)
    return {name: column[kept] for name, column in columns.items()}


def _live(memory: Memory) -> str | None:
    adapter = memory.live()
    return adapter.name if adapter else None


def _place(order: Sequence[str], adapter: str) -> int:
    return order.index(adapter) if adapter in order else len(order)


def flat(found: Iterable[SkillVersion], states: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every version with its skill's state, for a file."""
    return [
        asdict(version) | {"state": states[version.skill].state.value if version.skill in states else None}
        for version in found
    ]
