"""How far confidences can be believed, per System 1 and skill, on questions that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from agent.recalibrate import outcomes_of
from memory.records import Outcome
from memory.store import Memory
from policies.calibration import CalibrationSettings, cross_fitted_report, raw_report, usable
from policies.reliability import CalibrationReport

BASE = "base"  # how the bare base is named where an adapter's name is asked for


@dataclass(frozen=True, slots=True)
class Believed:
    """One System 1's confidences, before and after calibration."""

    adapter: str | None  # None: the base
    skill: str | None  # None: all together
    method: str  # "unknown", "prior", "platt", "isotonic": the calibration in force
    audits: int  # audited answers on questions that it was not trained on
    needed: int  # audits from which there is a calibration
    before: CalibrationReport  # the model's own probability of its answer
    after: CalibrationReport | None  # calibrated, cross-fitted: each row by a fit that did not see it; None: too few

    def as_json(self) -> dict[str, Any]:
        """For the API and `--json`."""
        return asdict(self)


def reports(
    memory: Memory, settings: CalibrationSettings, adapter: str | None = None, skill: str | None = None
) -> list[Believed]:
    """For each System 1 with audits (or the one named; "base" is the base): all skills together, then each skill.

    With `skill` that skill alone. Calibration is refitted for it: run it in a thread. Raises NotFound for an adapter
    that there is not.
    """
    if adapter not in (None, BASE):
        memory.adapter(adapter)
    by_adapter: dict[str | None, list[Outcome]] = {}
    if adapter in (None, BASE):
        by_adapter[None] = outcomes_of(memory, None)
    for name in [one.name for one in memory.adapters() if adapter in (None, one.name)]:
        by_adapter[name] = outcomes_of(memory, name)
    found = [one for name, rows in by_adapter.items() for one in _of(memory, name, rows, settings)]
    return [one for one in found if skill in (None, one.skill)]


def _of(
    memory: Memory, adapter: str | None, outcomes: Sequence[Outcome], settings: CalibrationSettings
) -> list[Believed]:
    rows = usable(outcomes, settings.max_audits)
    if not rows:
        return []
    stored: Mapping[str, Any] = memory.calibration(adapter) or {}
    before = raw_report(rows)
    after = cross_fitted_report(rows, settings) if len(rows) >= settings.min_audits else None
    whole = Believed(
        adapter=adapter,
        skill=None,
        method=str(stored.get("method", "unknown")),
        audits=len(rows),
        needed=settings.min_audits,
        before=replace(before, skills={}),
        after=replace(after, skills={}) if after else None,
    )
    audits = {skill: sum(row.skill == skill for row in rows) for skill in before.skills}
    return [
        whole,
        *(
            replace(
                whole, skill=skill, audits=n, before=before.skills[skill], after=after.skills[skill] if after else None
            )
            for skill, n in audits.items()
        ),
    ]
