"""How good confidences are: ranking (AUROC, AURC), calibration (ECE, Brier) and the picture of both.

Every figure is weighted by 1/propensity, so that it speaks of all answers and not of those that happened to
be checked. "Agree" is System 1's answer being System 2's; it is not correctness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from policies.binomial import Z95

Floats = npt.NDArray[np.float64]

MAX_BINS = 15
ROWS_PER_BIN = 20  # fewer and a bin's share of agreement is mostly noise
COVERAGES = 20  # points of the risk-coverage curve


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Answers of similar confidence: what was promised and what was found."""

    low: float  # 0..1, smallest confidence in the bin
    high: float  # 0..1, largest
    n: int  # audits
    confidence: float  # 0..1, mean promised
    agreement: float  # 0..1, mean found
    agreement_low: float  # 0..1, ends of the Wilson 95 % interval of the agreement
    agreement_high: float


@dataclass(frozen=True, slots=True)
class RiskPoint:
    """Answering only the most confident share: how often System 2 would have disagreed."""

    coverage: float  # 0..1, share of answers accepted
    risk: float  # 0..1, disagreement among them
    threshold: float  # 0..1, the confidence that accepts them


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """Figures over audited answers; None where the answers at hand cannot say."""

    n: int  # audited answers with a confidence
    n_effective: float  # what n is worth after weighting (Kish)
    unknown: int  # audited answers without a confidence, left out
    agreement: float | None  # 0..1, weighted
    auroc: float | None  # 0..1, 0.5 is chance; None where all agree or none does
    ece: float | None  # 0..1, expected calibration error over bins of equal weight
    aurc: float | None  # 0..1, area under the risk-coverage curve; smaller is better
    brier: float | None  # 0..1, smaller is better
    bins: tuple[ReliabilityBin, ...] = ()
    risk_coverage: tuple[RiskPoint, ...] = ()
    skills: Mapping[str, CalibrationReport] = field(default_factory=dict)


def effective_n(weights: Floats) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2; 0 for nothing."""
    total = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / total if total > 0 else 0.0


def wilson(share: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's interval of a share seen in n trials, n perhaps an effective size; (0, 1) without trials."""
    if n <= 0:
        return 0.0, 1.0
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, middle - half), min(1.0, middle + half)


def measure(
    confidence: Floats, agrees: Floats, weights: Floats, skills: npt.NDArray[np.str_] | None = None
) -> CalibrationReport:
    """The report of n answers from arrays of shape (n,).

    `confidence` is 0..1, NaN for unknown; `agrees` 0 or 1; `weights` above 0. `skills` adds one report
    per skill.
    """
    known = ~np.isnan(confidence)
    p, y, w = confidence[known], agrees[known], weights[known]
    per_skill: dict[str, CalibrationReport] = {}
    if skills is not None:
        for skill in np.unique(skills):
            rows = skills == skill
            per_skill[str(skill)] = measure(confidence[rows], agrees[rows], weights[rows])
    unknown = int((~known).sum())
    if not len(p):
        return CalibrationReport(0, 0.0, unknown, None, None, None, None, None, skills=per_skill)
    bins = reliability_bins(p, y, w)
    curve, area = risk_coverage(p, y, w)
    return CalibrationReport(
        n=len(p),
        n_effective=effective_n(w),
        unknown=unknown,
        agreement=float(np.average(y, weights=w)),
        auroc=auroc(p, y, w),
        ece=expected_calibration_error(p, y, w),
        aurc=area,
        brier=float(np.average(np.square(p - y), weights=w)),
        bins=bins,
        risk_coverage=curve,
        skills=per_skill,
    )


def auroc(confidence: Floats, agrees: Floats, weights: Floats) -> float | None:
    """Chance that an agreeing answer is surer than a disagreeing one; None where one kind lacks."""
    _, group = np.unique(confidence, return_inverse=True)
    positive = np.bincount(group, weights * agrees)
    negative = np.bincount(group, weights * (1 - agrees))
    pairs = positive.sum() * negative.sum()
    if pairs <= 0:
        return None
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs)


def expected_calibration_error(confidence: Floats, agrees: Floats, weights: Floats) -> float:
    """Mean gap between promise and finding over bins of equal weight.

    Adaptive bins (Nixon et al., arXiv 1904.01685). Noise alone makes it positive: about 0.02 at 500 audits.
    """
    group = _equal_mass(confidence, weights)
    gap = np.bincount(group, weights * (confidence - agrees))
    return float(np.abs(gap).sum() / weights.sum())


def reliability_bins(confidence: Floats, agrees: Floats, weights: Floats) -> tuple[ReliabilityBin, ...]:
    """The bins of the reliability plot, from least to most confident."""
    group = _equal_mass(confidence, weights)
    bins = []
    for index in np.unique(group):
        p, y, w = (column[group == index] for column in (confidence, agrees, weights))
        found = float(np.average(y, weights=w))
        low, high = wilson(found, effective_n(w))
        promised = float(np.average(p, weights=w))
        bins.append(ReliabilityBin(float(p.min()), float(p.max()), len(p), promised, found, low, high))
    return tuple(bins)


def risk_coverage(confidence: Floats, agrees: Floats, weights: Floats) -> tuple[tuple[RiskPoint, ...], float]:
    """(points, area): disagreement among the most confident share, for growing shares.

    After Geifman et al., arXiv 1805.08206. Answers of equal confidence are accepted together.
    """
    value, group = np.unique(-confidence, return_inverse=True)
    mass = np.bincount(group, weights)
    accepted = np.cumsum(mass)
    risk = np.cumsum(np.bincount(group, weights * (1 - agrees))) / accepted
    coverage = accepted / accepted[-1]
    area = float((risk * mass).sum() / accepted[-1])
    wanted = np.arange(1, COVERAGES + 1) / COVERAGES
    picks = np.unique(np.minimum(np.searchsorted(coverage, wanted - 1e-12), len(coverage) - 1))
    points = tuple(RiskPoint(float(coverage[i]), float(risk[i]), float(-value[i])) for i in picks)
    return points, area


def _equal_mass(confidence: Floats, weights: Floats) -> npt.NDArray[np.intp]:
    """Bin index per answer, shape (n,): bins of equal weight; equal confidences share a bin."""
    bins = int(np.clip(len(confidence) // ROWS_PER_BIN, 1, MAX_BINS))
    _, group = np.unique(confidence, return_inverse=True)
    mass = np.bincount(group, weights)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    of_group = np.minimum((middle * bins).astype(np.intp), bins - 1)
    of_row: npt.NDArray[np.intp] = of_group[group]
    return of_row
