"""Certify a threshold: the loosest at which System 1 provably disagrees with System 2 rarely enough.

Learn-then-test (Angelopoulos et al., arXiv 2110.01052) with fixed-sequence testing: thresholds are tested
from strict to loose, each by the exact binomial tail at level 1 - confidence, and the first failure ends the
test; along a fixed sequence that needs no correction for testing many. The sequence is laid by confidences
alone, never by outcomes: it begins where the audits would forgive a disagreement and takes equal steps
in audits.

The binomial needs uniform audits: policies/thinning.py makes them so.

What is certified is P(System 1 differs from System 2 | accepted), on the questions seen. Not P(wrong |
accepted): both systems can be wrong together. And not tomorrow's questions, where they drift: see
policies/drift.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from memory.records import Outcome
from memory.settings import Settings
from policies.binomial import audits_for, binomial_tail, upper_bound
from policies.reliability import Floats
from policies.thinning import AuditLog, audit_log, uniform_audits


class Goal(Settings):
    """What a threshold is chosen for."""

    max_disagreement: float = Field(
        default=0.05,
        ge=0.0001,  # below, no number of audits that anybody has would certify it
        lt=1.0,
        description="largest share of System 1's answers that System 2 may contradict, 0.0001..1",
    )
    confidence: float = Field(
        default=0.9, gt=0.5, lt=1.0, description="how sure to be that the share is not larger, 0..1"
    )
    max_cost: float | None = Field(
        default=None,
        gt=0.0,
        description="tokens per answer over those of always System 2; set: the goal is this cost",
    )


class CertifySettings(Settings):
    """How thresholds are certified."""

    steps: int = Field(default=20, ge=1, le=200, description="thresholds tested, from strict to loose")
    start_allowed: int = Field(
        default=1,
        ge=0,
        description="disagreements the strictest threshold's audits forgive, where there are enough audits",
    )
    min_skill_audits: int = Field(
        default=50,
        ge=1,
        description="audits from which a skill is certified by itself, answers; fewer: the global threshold",
    )


MOST_AUDITS = 1_000_000  # a need beyond this is as good as none that helps


@dataclass(frozen=True, slots=True)
class Step:
    """One threshold tested."""

    threshold: float  # 0..1
    n: int  # uniform audits it accepts
    disagreements: int
    bound: float  # 0..1, upper bound of the disagreement at the goal's confidence, for this threshold alone
    passed: bool


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certified threshold, or what is missing."""

    threshold: float | None  # 0..1, accept from here; None: nothing could be certified
    n: int  # uniform audits accepted at the threshold (or at the strictest tested)
    disagreements: int
    bound: float | None  # 0..1, certified upper bound of P(disagree | accepted)
    max_disagreement: float  # 0..1, the goal
    confidence: float  # 0..1, the goal
    coverage: float  # 0..1, share of logged answers the threshold accepts
    more_audits: int | None  # uniform audits still needed to certify; 0: none; None: more of the same cannot
    why: str  # for a person
    steps: tuple[Step, ...] = ()


def certify(
    outcomes: Sequence[Outcome], goal: Goal, settings: CertifySettings, skill: str | None = None
) -> Certificate:
    """The loosest threshold that `goal` certifies on one adapter's outcomes, for a skill or for all."""
    return certify_log(audit_log(outcomes, skill), goal, settings)


def certify_skills(outcomes: Sequence[Outcome], goal: Goal, settings: CertifySettings) -> dict[str, Certificate]:
    """One certificate for each skill with enough audits; the others go by the global one."""
    audited: dict[str, int] = {}
    for row in outcomes:
        audited[row.skill] = audited.get(row.skill, 0) + (row.agrees is not None)
    return {
        skill: certify(outcomes, goal, settings, skill)
        for skill, n in sorted(audited.items())
        if n >= settings.min_skill_audits
    }


def certify_log(log: AuditLog, goal: Goal, settings: CertifySettings) -> Certificate:
    """`certify` on arrays."""
    alpha, delta = goal.max_disagreement, 1.0 - goal.confidence
    confidence, disagrees = uniform_audits(log)
    need = audits_for(0, alpha, delta)
    if len(confidence) < need:
        return _refusal(goal, len(confidence), int(disagrees.sum()), need - len(confidence), ())
    steps: list[Step] = []
    for threshold in _sequence(confidence, goal, settings):
        n = int(np.count_nonzero(confidence >= threshold))
        k = int(disagrees[:n].sum())
        passed = binomial_tail(k, n, alpha) <= delta
        steps.append(Step(threshold, n, k, upper_bound(k, n, delta), passed))
        if not passed:
            break
    passed_steps = [step for step in steps if step.passed]
    if not passed_steps:
        first = steps[0]
        return _refusal(goal, first.n, first.disagreements, _more(first, alpha, delta), tuple(steps))
    return _grant(goal, passed_steps[-1], tuple(steps), log)


def _sequence(confidence: Floats, goal: Goal, settings: CertifySettings) -> list[float]:
    """Thresholds from strict to loose, laid by the sorted confidences of the audits and nothing else."""
    alpha, delta = goal.max_disagreement, 1.0 - goal.confidence
    total = len(confidence)
    start = audits_for(0, alpha, delta)
    for forgiven in range(1, settings.start_allowed + 1):
        n = audits_for(forgiven, alpha, delta)
        start = n if n <= total // 2 else start
    picks = np.unique(np.linspace(start, total, settings.steps).round().astype(int))
    return sorted({float(confidence[pick - 1]) for pick in picks}, reverse=True)


def _more(step: Step, alpha: float, delta: float) -> int | None:
    """Uniform audits to add until the step would pass at its own rate; None where that rate is too high."""
    rate = step.disagreements / step.n

    def passes(n: int) -> bool:
        return binomial_tail(math.ceil(rate * n), n, alpha) <= delta

    low, high = step.n, 2 * step.n
    while not passes(high):
        low, high = high, 2 * high
        if rate >= alpha or high > MOST_AUDITS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high - step.n


def _grant(goal: Goal, best: Step, steps: tuple[Step, ...], log: AuditLog) -> Certificate:
    coverage = float(np.mean(log.confidence >= best.threshold))
    why = (
        f"From confidence {best.threshold:.3f}, which accepts {coverage:.0%} of answers, "
        f"{best.disagreements} of {best.n} uniform audits disagree: at most {best.bound:.1%} "
        f"at confidence {goal.confidence:.0%}."
    )
    return Certificate(
        threshold=best.threshold,
        n=best.n,
        disagreements=best.disagreements,
        bound=best.bound,
        max_disagreement=goal.max_disagreement,
        confidence=goal.confidence,
        coverage=coverage,
        more_audits=0,
        why=why,
        steps=steps,
    )


def _refusal(goal: Goal, n: int, disagreements: int, more: int | None, steps: tuple[Step, ...]) -> Certificate:
    seen = f"{disagreements} of {n} uniform audits {'of the surest answers ' if steps else ''}disagree"
    if more is None:
        why = f"{seen}: too many for a goal of {goal.max_disagreement:.1%}; more audits alone will not help."
    else:
        why = f"{seen}: about {more} more uniform audits are needed for {goal.max_disagreement:.1%} at "
        why += f"confidence {goal.confidence:.0%}."
    return Certificate(
        threshold=None,
        n=n,
        disagreements=disagreements,
        bound=None,
        max_disagreement=goal.max_disagreement,
        confidence=goal.confidence,
        coverage=0.0,
        more_audits=more,
        why=why,
        steps=steps,
    )
