"""Confidence and thresholds belong to an adapter version: each new one gets its own, from held-out questions."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict

from agent.day import Day
from agent.groups import undecided
from agent.in_force import MACHINES, RECALIBRATION, InForce
from agent.skills import update_states
from agent.vigil import alarmed_at, moved
from memory.errors import SecondNatureError
from memory.records import Adapter, Outcome, SkillState
from memory.store import Memory
from policies.calibration import Calibrator, fit, rescored
from policies.certify import Certificate, certify, certify_skills

log = logging.getLogger("secondnature.recalibrate")
WHO = RECALIBRATION
LOOK_EVERY_S = 30.0  # seconds between looks at how many audits there are
GROWTH = 1.25  # times the audits of the last fit


async def recalibrate(day: Day, adapter: str | None) -> Calibrator:
    """Fit the adapter's calibration on its own outcomes, certify its thresholds, and write both down.

    With too few audits the calibrator says "unknown" and System 2 answers; with enough but no certificate the
    threshold is the goal itself, uncertified, and the log says so.
    """
    outcomes = await asyncio.to_thread(outcomes_of, day.memory, adapter)
    calibrator = await asyncio.to_thread(fit, outcomes, day.config.calibration, adapter)
    day.memory.set_calibration(adapter, json.loads(calibrator.to_json()))
    if calibrator.method in ("platt", "isotonic"):
        await asyncio.to_thread(_certify, day, adapter, outcomes, calibrator)
    await asyncio.to_thread(update_states, day.memory, day.config.automaticity, adapter)
    return calibrator


async def keep_calibrated(day: Day) -> None:
    """While the service runs: fit again whenever the live System 1 has a quarter more audits than at the last fit."""
    seen: dict[str | None, int] = {}  # audits at the last fit here, by System 1
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            await look(day, seen)
        except SecondNatureError as error:  # a full disk now must not end the looking for ever
            log.error("the recalibration failed: %s", error.message)


async def look(day: Day, seen: dict[str | None, int]) -> bool:
    """Fit again if it is time, and note it in `seen`; whether it was. A fit reads the newest audits, up to a bound, so
    what it says of its own number does not tell how many there were."""
    force = day.pointer.now
    name = force.adapter.name if force.adapter else None
    fitted = max(force.calibrator.n if force.calibrator else 0, seen.get(name, 0))
    found = await asyncio.to_thread(audits_of, day.memory, name)
    if found < max(day.config.calibration.min_audits, GROWTH * fitted):
        return False
    await recalibrate(day, name)
    seen[name] = found
    if day.pointer.now.adapter == force.adapter:  # no swap meanwhile
        day.pointer.flip(in_force_for(day, force.adapter))
    return True


def outcomes_of(memory: Memory, adapter: str | None) -> list[Outcome]:
    """What one System 1 said, and whether System 2 agreed; adapter None: the bare base."""
    return [row for row in memory.outcomes(adapter=adapter) if row.adapter == adapter]


def audits_of(memory: Memory, adapter: str | None) -> int:
    """How many answers of one System 1 `usable` would take, without reading them all as records."""
    columns = memory.outcome_columns(adapter=adapter, only=("agrees", "propensity", "heldout", "adapter"))
    seen = (columns["agrees"] >= 0) & (columns["propensity"] > 0)
    own = columns["adapter"] < 0 if adapter is None else columns["heldout"] > 0
    return int((seen & own).sum())


def _certify(day: Day, adapter: str | None, outcomes: Sequence[Outcome], calibrator: Calibrator) -> None:
    # Cross-fitted confidences: a certificate on the very rows of the fit would flatter itself.
    _set_thresholds(day, adapter, rescored(outcomes, calibrator, day.config.calibration))


def _set_thresholds(day: Day, adapter: str | None, rows: Sequence[Outcome]) -> None:
    """Certified thresholds, per skill where its audits reach; a threshold that a person set is left alone.

    The general one is certified on the skills that go by it: neither on those with a decision of their own nor on
    those that by themselves are refused. Those get a threshold of their own without a certificate.
    """
    memory, goal, settings = day.memory, day.config.goal, day.config.certify
    rung = alarmed_at(memory, adapter)
    aside = undecided(memory, day.config)
    rows = [row for row in rows if row.asked_at > rung.get(row.skill, 0.0) and row.skill not in aside]
    found = certify_skills(rows, goal, settings)
    own = {skill for skill, value in memory.thresholds(adapter).items() if skill is not None}
    own |= {skill for skill, certificate in found.items() if certificate.threshold is not None or refused(certificate)}
    _set_general(day, adapter, certify([row for row in rows if row.skill not in own], goal, settings))
    for skill, certificate in found.items():
        if skill in own and not set_by_hand(memory, skill, adapter):
            _set_own(day, adapter, skill, certificate)


def refused(certificate: Certificate) -> bool:
    """Whether there were audits enough and too many of them disagree: more of the same will not certify it."""
    return certificate.threshold is None and certificate.more_audits is None


def _set_general(day: Day, adapter: str | None, certificate: Certificate) -> None:
    """The threshold of every skill without its own; the goal itself where nothing is certified."""
    value, why = certificate.threshold, certificate.why
    if value is None:
        value = 1.0 - certificate.max_disagreement
        why = f"not certified ({why}); the calibrated confidence itself must reach the goal"
    if not set_by_hand(day.memory, None, adapter):
        day.memory.set_threshold(None, value, WHO, why, asdict(certificate), adapter=adapter)


def _set_own(day: Day, adapter: str | None, skill: str, certificate: Certificate) -> None:
    """A skill's own threshold. Without a certificate, whether it never had one or an earlier one no longer stands, it
    is no looser than the goal, the general one and the one before; trust that an alarm took away only a certificate
    gives back."""
    decided = day.memory.thresholds(adapter)
    value, why = certificate.threshold, certificate.why
    if value is None:
        if skill in decided and decided[skill] is None:
            return
        value = max(1.0 - certificate.max_disagreement, decided.get(None) or 0.0, decided.get(skill) or 0.0)
        why = f"not certified by itself ({why}); the calibrated confidence itself must reach the goal"
    day.memory.set_threshold(skill, value, WHO, why, asdict(certificate), adapter=adapter)


def set_by_hand(memory: Memory, skill: str | None, adapter: str | None) -> bool:
    """Whether the threshold in force was chosen by a person, not by a recalibration."""
    history = (c for c in memory.threshold_history() if c.undone_at is None)
    newest = next((c for c in history if (c.skill, c.adapter) == (skill, adapter)), None)
    return newest is not None and newest.who not in MACHINES


def in_force_for(day: Day, adapter: Adapter | None) -> InForce:
    """The snapshot that belongs to an adapter, from what is written down about it."""
    name = adapter.name if adapter else None
    memory: Memory = day.memory
    stored = memory.calibration(name)
    calibrator = Calibrator.from_json(json.dumps(stored)) if stored else None
    if calibrator is not None and calibrator.method == "unknown":
        calibrator = None
    states = memory.skill_states().values()
    return InForce(
        adapter=adapter,
        calibrator=calibrator,
        thresholds={**memory.thresholds(name), **moved(memory, name)},
        deliberate=frozenset(row.skill for row in states if row.state is SkillState.DELIBERATE),
        lessons=day.pointer.now.lessons if day.pointer.now.adapter == adapter else None,
    )
