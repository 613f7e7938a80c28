"""Each threshold as it was decided and as it is now, in the same words wherever it is told.

The two differ once the online step (agent/vigil.py) has moved a threshold that no person set. What routes is the
value in force; what was certified is the value decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agent.day import Day
from agent.in_force import VIGIL
from agent.vigil import Watch, rule_of, stored
from memory.rows import ThresholdChange
from memory.store import Memory

SETTINGS = "settings"  # who set a threshold that nobody decided
Told = dict[str, Any]


def in_force(
    memory: Memory, skills: Iterable[str | None], adapter: str | None, default: float | None = None
) -> dict[str, Told | None]:
    """By skill ("*": every skill without its own) the threshold that it goes by under `adapter` (None: the base).

    `default`: 0..1, the settings' own where nothing was decided. Each as JSON: `value` (0..1, in force; None: System 2
    answers), `decided` (as decided), `certified` (0..1, the certificate it stands on; None: none), `bound` and
    `max_disagreement` (0..1, of that certificate; of the promise), `audits` and `disagreements` since the decision,
    `who`, `when`, `why`, `id`, `skill`, `adapter`, `certificate`, and `says`, a sentence. None where there is none.
    """
    history, watches = memory.threshold_history(), memory.watches(adapter)
    return {skill or "*": _told(history, watches.get(skill or ""), skill, adapter, default) for skill in skills}


def of_day(day: Day) -> dict[str, Told | None]:
    """`in_force` of the live adapter: the general threshold, and every skill that has, or has moved, its own."""
    force = day.pointer.now
    adapter = force.adapter.name if force.adapter else None
    own = sorted(skill for skill in force.thresholds if skill is not None)
    return in_force(day.memory, (None, *own), adapter, day.config.route.threshold)


def _told(
    history: Sequence[ThresholdChange],
    watch: Mapping[str, Any] | None,
    skill: str | None,
    adapter: str | None,
    default: float | None,
) -> Told | None:
    rule = rule_of(history, skill, adapter, goal=0.0)
    change = next((c for c in history if c.id == rule.change), None)
    kept = stored(watch, rule)
    if change is None and kept is None and default is None:
        return None
    decided = change.value if change else default
    made = asdict(change) if change else {"skill": None, "adapter": adapter, "who": SETTINGS, "when": None, "why": ""}
    facts = made | {
        "value": kept.threshold if kept else decided,
        "decided": decided,
        "audits": kept.alarm.audits if kept else 0,
        "disagreements": kept.alarm.disagreements if kept else 0,
        **_certified(change),
    }
    return facts | {"says": _sentence(facts, kept)}


def _certified(change: ThresholdChange | None) -> Told:
    """What a decision stands on."""
    evidence = (change.certificate if change else None) or {}
    at = evidence.get("threshold") if change and change.value is not None else None
    promised = evidence.get("max_disagreement")
    return {"certified": at, "bound": evidence.get("bound") if at is not None else None, "max_disagreement": promised}


def _sentence(facts: Told, kept: Watch | None) -> str:
    if facts["decided"] is None and facts["value"] is None:
        taken = "trust was taken away until a new certificate" if facts["who"] == VIGIL else "no threshold is trusted"
        return f"System 2 alone: {taken}."
    basis = _basis(facts)
    moved = 0.0 if kept is None or facts["decided"] is None else facts["value"] - facts["decided"]
    if abs(moved) < 5e-5:
        return f"System 1 answers from {facts['value']:.3f}, {basis}{_seen(facts, 'have not moved it')}."
    by = _seen(facts, f"have moved it by {moved:+.4f}")
    return f"System 1 answers from {facts['value']:.4f}; {facts['decided']:.3f} was {basis}{by}."


def _basis(facts: Told) -> str:
    if facts["who"] == SETTINGS:
        return "the settings' own"
    if facts["certified"] is None:
        return "decided without a certificate"
    certified, bound = facts["certified"], facts["bound"]
    where = (
        "certified" if abs(certified - facts["decided"]) < 5e-4 else f"decided on a certificate from {certified:.3f}"
    )
    return where if bound is None else f"{where} (at most {bound:.1%} disagreement)"


def _seen(facts: Told, did: str) -> str:
    if not facts["audits"]:
        return ""
    return f"; {facts['audits']} audits since, {facts['disagreements']} of them disagreeing, {did}"
