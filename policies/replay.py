"""What another threshold would have done, computed from the log.

For every answer with a System 2 outcome both arms are known, so any threshold can be replayed, each row
weighing 1/propensity. How many escalate is a plain count: confidences are logged for all. Disagreement among
accepted answers is estimated doubly robustly, with p(agree) as control variate (prediction-powered inference,
arXiv 2301.09633 and 2311.01453), self-normalised (Hajek):

    D = mean(l m) + sum v (d - l m) / sum v

with v = observed / propensity, m = 1 - confidence and d = 1[disagrees];
l is chosen per threshold to make the variance small; l = 0 is plain self-normalised weighting. The
interval is policies.offpolicy.interval: skewed as the weights are, and no shorter than the confidences
themselves predict.

Rows are put into bins between thresholds and the bins are summed; nothing is sorted, and a million rows take
a fraction of a second. "Out of support" is said where the log cannot know: System 2 could not have been
observed for some of the rows, or the audits are worth too few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from memory.records import Outcome
from memory.settings import Settings
from policies.binomial import Z95
from policies.certify import Goal
from policies.offpolicy import Columns, Sums, disagreement, interval, spent, sums_by_threshold
from policies.reliability import Floats

READ = ("confidence", "propensity", "agrees", "s1_tokens", "s2_tokens", "s1_seconds", "s2_seconds")


class ReplaySettings(Settings):
    """How the log is replayed."""

    grid: int = Field(default=101, ge=2, le=10_000, description="thresholds tried between 0 and 1 where none are named")
    min_effective: float = Field(
        default=20.0,
        ge=1.0,
        description="effective audits under which a threshold is out of support, answers",
    )
    max_unsupported: float = Field(
        default=0.01,
        ge=0.0,
        le=1.0,
        description="share of accepted answers that may lack any chance of an audit",
    )


@dataclass(frozen=True, slots=True)
class ReplayPoint:
    """What one threshold would have done. Means are per answer, over all answers."""

    threshold: float  # 0..1
    escalated: float  # 0..1, share that System 2 would have answered
    disagreement: float | None  # 0..1, among accepted answers; None: nothing accepted or nothing audited there
    low: float  # 0..1, ends of the 95 % interval of the disagreement
    high: float
    upper: float  # 0..1, one-sided upper bound at the goal's confidence (0.95 without a goal)
    plain: float | None  # 0..1, the same by self-normalised weighting alone, to compare
    accepted: int  # answers
    audits: int  # accepted answers with a known System 2 outcome
    effective: float  # what those are worth after weighting (Kish)
    tokens: float | None  # generated tokens per answer, background audits included
    seconds: float | None  # wall seconds per answer, audits excluded (nobody waits for them)
    cost: float | None  # tokens over those of always System 2; below 1 saves
    out_of_support: str | None  # why the log cannot say; None: it can


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The threshold that serves a goal best, or why there is none."""

    threshold: float | None  # 0..1
    point: ReplayPoint | None
    why: str


@dataclass(frozen=True, slots=True)
class ReplayCurve:
    """All thresholds tried, from loose to strict."""

    points: tuple[ReplayPoint, ...]
    n: int  # answers replayed
    audits: int  # of them with a known System 2 outcome
    recommendation: Recommendation | None  # None: no goal was given


def columns(outcomes: Sequence[Outcome]) -> dict[str, npt.NDArray[Any]]:
    """Records as the arrays that `replay` reads."""
    return {
        "skill": np.array([row.skill for row in outcomes], dtype=np.str_),
        "confidence": _floats([row.confidence for row in outcomes]),
        "propensity": _floats([row.propensity for row in outcomes]),
        "agrees": np.array([-1 if row.agrees is None else int(row.agrees) for row in outcomes], dtype=np.int8),
        "s1_tokens": _floats([row.s1_tokens for row in outcomes]),
        "s2_tokens": _floats([-1 if row.s2_tokens is None else row.s2_tokens for row in outcomes]),
        "s1_seconds": _floats([row.s1_seconds for row in outcomes]),
        "s2_seconds": _floats([row.s2_seconds for row in outcomes]),
    }


def replay(
    columns: Columns,
    thresholds: Sequence[float] | None = None,
    goal: Goal | None = None,
    settings: ReplaySettings | None = None,
    *,
    audit_share: float = 0.02,
) -> ReplayCurve:
    """Replay thresholds (0..1; an even grid where None) over one adapter's log, all skills together.

    `columns` are arrays of one length n: confidence (0..1, NaN unknown), propensity (0..1), agrees (1, 0, -1
    not observed), s1_tokens, s2_tokens (-1 unknown), s1_seconds, s2_seconds (NaN unknown), as `columns` makes
    them of records and the store of its rows. `audit_share` is the share of accepted answers that would be
    audited, for the tokens. The recommendation is an estimate; `policies.certify` is what promises.
    """
    settings = settings or ReplaySettings()
    grid = np.linspace(0.0, 1.0, settings.grid) if thresholds is None else np.unique(np.array(thresholds, float))
    points = _points(grid, sums_by_threshold(columns, grid), goal, settings, audit_share)
    audits = int(np.count_nonzero(np.asarray(columns["agrees"]) >= 0))
    return ReplayCurve(points, len(columns["confidence"]), audits, None if goal is None else recommend(points, goal))


def replay_stopped(
    columns: Columns,
    stopped: npt.NDArray[np.bool_],
    whole: npt.NDArray[np.bool_],
    below: float,
    thresholds: Sequence[float] | None = None,
    goal: Goal | None = None,
    settings: ReplaySettings | None = None,
    *,
    audit_share: float = 0.02,
) -> ReplayCurve:
    """`replay` of a log in which some drafts were stopped half-way, because they could not reach a threshold.

    What System 1 would have said there nobody knows. Thresholds from `below` (0..1, the highest that stopped one) on
    accept none of them, and are replayed from all rows; looser ones from the rows of `whole` alone, a uniform sample
    (questions held out by hash) of which no draft was stopped. `stopped` and `whole`: masks, shape (n,).
    """
    none = np.where(stopped, np.nan, columns["confidence"])  # they reach no threshold
    every = replay({**columns, "confidence": none}, thresholds, goal, settings, audit_share=audit_share)
    held = {name: columns[name][whole] for name in READ}
    sample = replay(held, thresholds, goal, settings, audit_share=audit_share)
    pairs = zip(every.points, sample.points, strict=True)
    points = tuple(one if one.threshold >= below else other for one, other in pairs)
    return replace(every, points=points, recommendation=None if goal is None else recommend(points, goal))


def replay_skills(
    columns: Columns,
    thresholds: Sequence[float] | None = None,
    goal: Goal | None = None,
    settings: ReplaySettings | None = None,
    *,
    audit_share: float = 0.02,
) -> dict[str, ReplayCurve]:
    """`replay` for each skill; `columns` also holds skill: names, or codes into an array `names`."""
    skill, names = np.asarray(columns["skill"]), columns.get("names")
    order = np.argsort(skill, kind="stable")
    values, starts = np.unique(skill[order], return_index=True)
    curves = {}
    for value, rows in zip(values, np.split(order, starts[1:]), strict=True):
        part = {name: np.asarray(columns[name])[rows] for name in READ}
        curve = replay(part, thresholds, goal, settings, audit_share=audit_share)
        curves[str(value if names is None else names[value])] = curve
    return curves


def recommend(points: Sequence[ReplayPoint], goal: Goal) -> Recommendation:
    """The loosest supported threshold within the goal's disagreement, or the safest within its cost."""
    supported = [p for p in points if p.out_of_support is None and p.disagreement is not None]
    if not supported:
        return Recommendation(None, None, "The log supports no threshold yet: too few audits.")
    return _by_disagreement(supported, goal) if goal.max_cost is None else _by_cost(supported, goal.max_cost)


def _by_disagreement(supported: Sequence[ReplayPoint], goal: Goal) -> Recommendation:
    within = [point for point in supported if point.upper <= goal.max_disagreement]
    if not within:
        best = min(supported, key=lambda p: p.upper)
        why = f"At best, at {best.threshold:.2f}, disagreement may be {best.upper:.1%}: nothing meets the goal."
        return Recommendation(None, None, why)
    best = min(within, key=lambda p: p.threshold)
    why = (
        f"At {best.threshold:.2f} System 1 answers {1 - best.escalated:.0%} and System 2 would contradict "
        f"an estimated {best.disagreement:.1%} of that, within {goal.max_disagreement:.1%} "
        f"at confidence {goal.confidence:.0%}."
    )
    return Recommendation(best.threshold, best, why)


def _by_cost(supported: Sequence[ReplayPoint], max_cost: float) -> Recommendation:
    priced = [p for p in supported if p.cost is not None]
    within = [p for p in priced if p.cost is not None and p.cost <= max_cost]
    if not within:
        cheapest = min((p.cost for p in priced if p.cost is not None), default=None)
        found = "no cost is known" if cheapest is None else f"the cheapest costs {cheapest:.2f}"
        return Recommendation(None, None, f"No supported threshold costs at most {max_cost:.2f}: {found}.")
    best = min(within, key=lambda p: (p.disagreement, -p.threshold))
    why = f"At {best.threshold:.2f} an answer costs {best.cost:.2f} of always System 2, and an estimated "
    why += f"{best.disagreement:.1%} of System 1's answers disagree: the least within a cost of {max_cost:.2f}."
    return Recommendation(best.threshold, best, why)


def _points(
    grid: Floats, sums: Sums, goal: Goal | None, settings: ReplaySettings, audit_share: float
) -> tuple[ReplayPoint, ...]:
    found = disagreement(sums)
    low, high = interval(found, Z95)
    _, upper = interval(found, NormalDist().inv_cdf(0.95 if goal is None else goal.confidence))
    tokens, always = _per_answer(sums, "tokens", audit_share), spent(sums, "tokens")[2]
    accepted, unsupported = sums.accepted["n"], sums.accepted["unsupported"]
    numbers = {
        "threshold": grid,
        "escalated": 1.0 - accepted / max(1.0, sums.total["n"]),
        "disagreement": found.robust,
        "low": low,
        "high": high,
        "upper": upper,
        "plain": found.plain,
        "accepted": accepted,
        "audits": sums.accepted["audits"],
        "effective": found.kish,
        "tokens": tokens,
        "seconds": _per_answer(sums, "seconds", 0.0),
        "cost": tokens / always if always > 0 else np.full(len(grid), math.nan),
    }
    rows = zip(*(column.tolist() for column in numbers.values()), strict=True)
    whys = (_unsupported(*row, settings) for row in zip(accepted, unsupported, found.kish, strict=True))
    return tuple(_point(dict(zip(numbers, row, strict=True)), why) for row, why in zip(rows, whys, strict=True))


def _point(row: Mapping[str, float], out_of_support: str | None) -> ReplayPoint:
    return ReplayPoint(
        threshold=row["threshold"],
        escalated=row["escalated"],
        disagreement=_known(row["disagreement"]),
        low=row["low"],
        high=row["high"],
        upper=row["upper"],
        plain=_known(row["plain"]),
        accepted=int(row["accepted"]),
        audits=int(row["audits"]),
        effective=row["effective"],
        tokens=_known(row["tokens"]),
        seconds=_known(row["seconds"]),
        cost=_known(row["cost"]),
        out_of_support=out_of_support,
    )


def _per_answer(sums: Sums, what: str, audit_share: float) -> Floats:
    """Mean spend per answer, shape (thresholds,): the draft always, System 2 where escalated or audited."""
    n = max(1.0, sums.total["n"])
    accepted = sums.accepted["n"] / n
    escalating, auditing, _ = spent(sums, what)
    drafts = sums.total[f"s1_{what}"] / n
    escalated = np.where(accepted < 1.0, (1.0 - accepted) * escalating, 0.0)
    audited = np.where(accepted * audit_share > 0.0, accepted * audit_share * auditing, 0.0)
    whole: Floats = drafts + escalated + audited
    return whole


def _unsupported(accepted: float, unsupported: float, worth: float, settings: ReplaySettings) -> str | None:
    if accepted == 0:
        return None
    if unsupported / accepted > settings.max_unsupported:
        return f"System 2 could not have been observed for {unsupported / accepted:.0%} of the accepted answers."
    if worth < settings.min_effective:
        return f"The audits there are worth {worth:.0f}; {settings.min_effective:.0f} are needed."
    return None


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
