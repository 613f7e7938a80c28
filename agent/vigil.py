"""The watch at run time: after each audit an online step of the threshold, and the alarm that takes trust back.

The step and the alarm are policies/drift.py; here they are kept for each skill under each adapter version, outlive
a restart, and act: a rung alarm reverts the skill to its last certified threshold, or to System 2, at once. A
threshold that a person set is watched, by the goal it was applied for, and never moved. Each new threshold, whoever
sets it, begins a new watch; the chance of a false alarm is that of each watch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.day import Day
from agent.in_force import MACHINES, RECALIBRATION, VIGIL, InForce
from memory.records import Audit, Episode, SkillState, System
from memory.rows import ThresholdChange
from memory.store import Memory
from policies.drift import Alarm, DriftSettings, Reversion, revert, step, watch

log = logging.getLogger("secondnature.vigil")


@dataclass(frozen=True, slots=True)
class Rule:
    """The threshold that a skill goes by under an adapter, as it was decided."""

    change: int  # number of the decision; 0: nothing was decided, the settings' own threshold
    alpha: float  # 0..1, disagreement that was promised
    by_hand: bool
    certificate: Mapping[str, Any] | None  # the last one that an alarm has not broken

    @property
    def certified(self) -> float | None:
        """0..1, the last certified threshold; None: nothing is certified."""
        return None if self.certificate is None else float(self.certificate["threshold"])


@dataclass(frozen=True, slots=True)
class Watch:
    """Where the watch over one skill stands."""

    change: int  # the decision it began under
    threshold: float  # 0..1, as the step has moved it
    alarm: Alarm

    def to_json(self) -> dict[str, Any]:
        """What the memory keeps."""
        return {"change": self.change, "threshold": self.threshold, "alarm": self.alarm.to_json()}


class Vigil:
    """Takes every audit of an answer that the threshold let through."""

    def __init__(self, day: Day, settings: DriftSettings) -> None:
        self._day, self._settings = day, settings
        self._one_at_a_time = asyncio.Lock()
        self.wealth: dict[str, float] = {}  # the bettor's, by skill, since the start; for the metrics

    async def saw(self, episode: Episode, audit: Audit) -> None:
        """One audit is done: count it, step, and revert the skill where the alarm rings. Raises StorageFull."""
        found = audit.deliberation.verdict.answer is not None
        agrees = ("yes" if audit.agrees else "no") if found else "unknown"
        self._day.metrics.audited.labels(episode.ask.skill, agrees).inc()
        self._day.metrics.thought(audit.deliberation)
        async with self._one_at_a_time:
            if not tells(episode, audit, self._day.pointer.now):
                return
            was = self._day.pointer.now.threshold(episode.ask.skill)
            kept, rule = await asyncio.to_thread(self._stepped, episode, audit)
            self.wealth[episode.ask.skill] = kept.alarm.wealth
            back = revert(kept.alarm, kept.threshold, rule.certified, rule.alpha)
            if back is not None:
                await asyncio.to_thread(self._revert, episode, kept, rule, back)
                self._put(episode, back.threshold)
            elif self._day.pointer.now.threshold(episode.ask.skill) == was != kept.threshold:
                self._put(episode, kept.threshold)  # nobody set another one meanwhile

    def _stepped(self, episode: Episode, audit: Audit) -> tuple[Watch, Rule]:
        """The watch after one audit, written down."""
        skill, memory, settings = episode.ask.skill, self._day.memory, self._settings
        rule = rule_of(memory.threshold_history(), skill, episode.adapter, self._day.config.goal.max_disagreement)
        before = stored(memory.watches(episode.adapter).get(skill), rule)
        if before is None:
            in_force = self._day.pointer.now.threshold(skill)
            limit = episode.decision.threshold if in_force is None else in_force
            assert limit is not None  # `tells` has seen to it
            before = Watch(rule.change, limit, Alarm())
        propensity, disagrees = episode.decision.propensity, not audit.agrees
        alarm = watch(before.alarm, disagrees, propensity, self._day.config.audit.floor, rule.alpha, settings)
        limit = before.threshold
        if not rule.by_hand:
            limit = step(limit, disagrees, propensity, rule.alpha, settings)
        after = replace(before, threshold=limit, alarm=alarm)
        memory.set_watch(episode.adapter, skill, after.to_json())
        return after, rule

    def _revert(self, episode: Episode, rung: Watch, rule: Rule, back: Reversion) -> None:
        skill, memory = episode.ask.skill, self._day.memory
        certificate = rule.certificate if back.threshold is not None else {"max_disagreement": rule.alpha}
        memory.set_threshold(skill, back.threshold, VIGIL, back.reason, certificate, adapter=episode.adapter)
        detail = {
            "skill": skill, "adapter": episode.adapter, "from": rung.threshold, "to": back.threshold,
            "audits": rung.alarm.audits, "disagreements": rung.alarm.disagreements, "wealth": rung.alarm.wealth,
        }  # fmt: skip
        memory.record_event(VIGIL, "alarm", back.reason, detail)
        state = memory.skill_states().get(skill)
        if back.threshold is None and state is not None and state.state is SkillState.AUTOMATIC:
            memory.set_skill_state(skill, SkillState.LAPSED, back.reason, episode.adapter)
        self._day.metrics.alarms.labels(skill).inc()
        log.warning("alarm for %s: %s", skill, back.reason, extra={"episode": episode.ask.id, "skill": skill})

    def _put(self, episode: Episode, threshold: float | None) -> None:
        """Flip the pointer to the same adapter with this threshold for the skill; not where it was swapped away."""
        now = self._day.pointer.now
        if _name(now) == episode.adapter:
            self._day.pointer.flip(replace(now, thresholds={**now.thresholds, episode.ask.skill: threshold}))


def tells(episode: Episode, audit: Audit, now: InForce) -> bool:
    """Whether an audit speaks of the threshold in force: it would let the answer through as the one then in force did,
    the adapter is still the live one, trust was not taken away since, and System 2 found an answer."""
    decision, limit = episode.decision, now.threshold(episode.ask.skill)
    by_threshold = decision.system is System.SYSTEM1 and decision.threshold is not None and decision.propensity > 0
    still = limit is None or (decision.confidence is not None and decision.confidence >= limit)
    found = audit.deliberation.verdict.answer is not None
    return by_threshold and still and found and _name(now) == episode.adapter and now.trusts(episode.ask.skill)


def rule_of(history: Iterable[ThresholdChange], skill: str | None, adapter: str | None, goal: float) -> Rule:
    """What the decisions (newest first, as `Memory.threshold_history` gives them) say of a skill; `goal`: 0..1, the
    disagreement promised where the decision names none."""
    live = [c for c in history if c.undone_at is None and c.adapter == adapter and c.skill in (skill, None)]
    own = [c for c in live if c.skill is not None] or live
    if not own:
        return Rule(0, goal, False, None)
    newest = own[0]
    promised = (newest.certificate or {}).get("max_disagreement")
    return Rule(newest.id, float(promised or goal), newest.who not in MACHINES, _certificate(live))


def moved(memory: Memory, adapter: str | None) -> dict[str | None, float | None]:
    """Thresholds (0..1) by skill where the step has moved them since they were decided."""
    history, found = memory.threshold_history(), dict[str | None, float | None]()
    for skill, watch_json in memory.watches(adapter).items():
        kept = stored(watch_json, rule_of(history, skill, adapter, goal=0.0))
        if kept is not None:
            found[skill] = kept.threshold
    return found


def alarmed_at(memory: Memory, adapter: str | None) -> dict[str, float]:
    """When each skill's alarm last rang under an adapter, unix seconds: earlier audits certify it no more."""
    rung: dict[str, float] = {}
    for change in memory.threshold_history():
        if change.who == VIGIL and change.adapter == adapter and change.skill and change.undone_at is None:
            rung.setdefault(change.skill, change.when)
    return rung


def _certificate(live: Iterable[ThresholdChange]) -> Mapping[str, Any] | None:
    """The newest certificate, the skill's own before the general one; none older than what took trust away, or than a
    recalibration that looked at the audits and could certify nothing."""
    unbroken: list[ThresholdChange] = []
    for change in live:
        if change.value is None:
            break
        unbroken.append(change)
    for change in sorted(unbroken, key=lambda c: c.skill is None):  # stable: newest first within each
        if change.certificate is not None and change.certificate.get("threshold") is not None:
            return change.certificate
        if change.who == RECALIBRATION:
            return None
    return None


def stored(kept: Mapping[str, Any] | None, rule: Rule) -> Watch | None:
    """The stored watch; None where another decision is in force since."""
    if kept is None or kept["change"] != rule.change:
        return None
    return Watch(kept["change"], kept["threshold"], Alarm.from_json(kept["alarm"]))


def _name(force: InForce) -> str | None:
    return force.adapter.name if force.adapter else None
