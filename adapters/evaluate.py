"""Scores of a candidate from its held-out questions: pure functions of what was answered.

Agreement with System 2 is what is counted: no gold answer enters. Intervals are Wilson's (JASA 1927), which keep
their coverage near 0 and 1 and for few questions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum

from memory.records import EvalReport, SkillScore
from policies import reliability
from policies.binomial import Z95


@dataclass(frozen=True, slots=True)
class Asked:
    """One held-out question, answered by the live System 1 and by the candidate."""

    skill: str
    before: bool  # the live System 1 agrees with System 2
    after: bool  # the candidate agrees with System 2


@dataclass(frozen=True, slots=True)
class Interval:
    """A share with its interval."""

    share: float  # 0..1
    low: float  # 0..1
    high: float  # 0..1


def scores(asked: Iterable[Asked]) -> tuple[SkillScore, ...]:
    """One score per skill, by name. `won` and `lost` count the pairs that differ."""
    by_skill: dict[str, list[Asked]] = defaultdict(list)
    for row in asked:
        by_skill[row.skill].append(row)
    return tuple(_score(skill, rows) for skill, rows in sorted(by_skill.items()))


def _score(skill: str, rows: Sequence[Asked]) -> SkillScore:
    n = len(rows)
    before = sum(row.before for row in rows) / n
    return SkillScore(
        skill=skill,
        n=n,
        before=before,
        after=sum(row.after for row in rows) / n,
        headroom=1 - before,
        won=sum(row.after and not row.before for row in rows),
        lost=sum(row.before and not row.after for row in rows),
    )


def wilson(hits: int, n: int, z: float = Z95) -> Interval | None:
    """The share hits / n with its Wilson interval; None where nothing was asked.

    `z`: standard normal quantile, 1.96 for 95 %. Raises ValueError when hits is not within 0..n.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"{hits} hits of {n} questions")
    if n == 0:
        return None
    share = hits / n
    low, high = reliability.wilson(share, n, z)
    return Interval(share, min(share, low), max(share, high))


def intervals(score: SkillScore) -> tuple[Interval | None, Interval | None]:
    """A skill's score before and after, each with its 95 % interval."""
    return wilson(round(score.before * score.n), score.n), wilson(round(score.after * score.n), score.n)


def drift(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> float | None:
    """Nats per token that the base's own answers to anchor prompts lost under the candidate.

    `before`, `after`: for each anchor, the log-probability of each token of the same answer under the base and
    under the candidate. Positive: less likely than before. None where there is no token.
    Raises ValueError when the two do not cover the same tokens.
    """
    if [len(a) for a in before] != [len(a) for a in after]:
        raise ValueError("the anchors were not measured on the same tokens")
    tokens = sum(len(answer) for answer in before)
    if tokens == 0:
        return None
    lost = fsum(fsum(was) - fsum(now) for was, now in zip(before, after, strict=True))
    return lost / tokens


def report(
    adapter: str,
    asked: Iterable[Asked],
    *,
    anchors_before: Sequence[Sequence[float]] = (),
    anchors_after: Sequence[Sequence[float]] = (),
    canaries_changed: Sequence[str] = (),
    seconds: float = 0.0,
) -> EvalReport:
    """All that was measured of a candidate, for the gate."""
    return EvalReport(
        adapter=adapter,
        scores=scores(asked),
        anchor_drift=drift(anchors_before, anchors_after),
        canaries_changed=tuple(canaries_changed),
        seconds=seconds,
    )
