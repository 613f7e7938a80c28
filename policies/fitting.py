"""The pieces of a calibrator's fit: a ridge line, Platt's sigmoid, an isotonic map, a bend per skill."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.reliability import Floats, effective_n

PLATT_PRIOR = 100.0  # audits
NEWTON_STEPS = 50


@dataclass(frozen=True, slots=True)
class Line:
    """A linear score in the features' own units."""

    weights: tuple[float, ...]
    bias: float
    means: tuple[float, ...]  # what an unknown feature counts as


def fold_of(key: str, folds: int) -> int:
    """Fold of a row, 0..folds-1, by its key: the same in every run and on every machine."""
    return zlib.crc32(key.encode()) % folds


def sigmoid(score: float) -> float:
    """1 / (1 + exp(-score)) without overflow."""
    if score >= 0:
        return 1.0 / (1.0 + math.exp(-score))
    return math.exp(score) / (1.0 + math.exp(score))


def logit(probability: float) -> float:
    """The inverse of `sigmoid`, with the probability kept 1e-4 from certainty."""
    kept = min(max(probability, 1e-4), 1.0 - 1e-4)
    return math.log(kept / (1.0 - kept))


def sigmoids(scores: Floats) -> Floats:
    """`sigmoid` of each, shape (n,)."""
    found: Floats = 1.0 / (1.0 + np.exp(-np.clip(scores, -500.0, 500.0)))
    return found


def logits(probabilities: Floats) -> Floats:
    """`logit` of each, shape (n,)."""
    kept = np.clip(probabilities, 1e-4, 1.0 - 1e-4)
    found: Floats = np.log(kept / (1.0 - kept))
    return found


def ridge_line(x: Floats, y: Floats, weights: Floats, l2: float) -> Line:
    """L2 logistic regression on standardised features; x of shape (n, d), NaN for unknown; y 0 or 1.

    One agreeing and one disagreeing row at the mean are added, so that a fit exists where all agree and no
    probability is certain (Platt's own correction, in rows). A feature that never varied gets weight 0.
    """
    means = np.where(np.isnan(x).all(axis=0), 0.0, np.nansum(x, axis=0) / np.maximum(1, (~np.isnan(x)).sum(axis=0)))
    filled = np.where(np.isnan(x), means, x)
    spread = filled.std(axis=0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    standard = np.where(spread > 1e-9, (filled - means) / scale, 0.0)
    slope, intercept = _logistic(standard, y, weights, l2)
    own = slope / scale
    return Line(tuple(own.tolist()), float(intercept - own @ means), tuple(means.tolist()))


def line_scores(line: Line, x: Floats) -> Floats:
    """The line's score per row, shape (n,)."""
    filled = np.where(np.isnan(x), np.array(line.means), x)
    scores: Floats = filled @ np.array(line.weights) + line.bias
    return scores


def cross_fitted_scores(x: Floats, y: Floats, weights: Floats, fold: npt.NDArray[np.intp], l2: float) -> Floats:
    """Score of each row by a line fitted on the other folds, shape (n,): a map of these does not flatter."""
    scores = np.zeros(len(y))
    for part in np.unique(fold):
        mine = fold == part
        others = ~mine if not mine.all() else mine
        scores[mine] = line_scores(ridge_line(x[others], y[others], weights[others], l2), x[mine])
    return scores


def platt_line(scores: Floats, y: Floats, weights: Floats) -> tuple[float, float]:
    """Platt's sigmoid as (slope, intercept) on the score, with a prior at (1, 0) worth `PLATT_PRIOR` audits.

    The score is a logistic regression's, so (1, 0) is what it should need; the slope that a hundred
    cross-fitted scores ask for is mostly noise (0.17 was seen where 1.4 was right). The slope stays positive:
    ranking is kept.
    """
    return _bend(scores, y, weights * (effective_n(weights) / weights.sum()), PLATT_PRIOR / 4.0)


def isotonic_knots(scores: Floats, y: Floats, weights: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The isotonic fit as (scores, probabilities), joined by straight lines.

    One disagreement is added at the highest score and one agreement at the lowest: thirty agreements in a row
    at the top then promise 30/31 and not certainty.
    """
    from sklearn.isotonic import IsotonicRegression  # a second to import, needed only at a refit

    worth = weights * (effective_n(weights) / weights.sum())
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fitted.fit(np.append(scores, [scores.max(), scores.min()]), np.append(y, [0.0, 1.0]), np.append(worth, [1.0, 1.0]))
    return tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist())


def bends(
    probability: Floats, y: Floats, weights: Floats, skills: npt.NDArray[np.intp], shrinkage: float
) -> dict[int, tuple[float, float]]:
    """Per skill, by its code, (slope, intercept) on the global logit, each with a normal prior at (1, 0).

    The prior is worth `shrinkage` audits at even odds: a skill with few stays with the global fit, one with
    many follows its own. This is the posterior mode of a logistic model with random slopes and intercepts.
    """
    scores = logits(probability)
    found = {}
    for skill in np.unique(skills):
        rows = skills == skill
        worth = weights[rows] * (effective_n(weights[rows]) / weights[rows].sum())
        found[int(skill)] = _bend(scores[rows], y[rows], worth, shrinkage / 4.0)
    return found


def _bend(scores: Floats, y: Floats, weights: Floats, precision: float) -> tuple[float, float]:
    """Newton's method on a strictly convex loss in two unknowns; the slope is kept positive."""
    design = np.stack([scores, np.ones_like(scores)], axis=1)
    prior = np.array([1.0, 0.0])
    beta = prior.copy()
    for _ in range(NEWTON_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (weights * (p - y)) + precision * (beta - prior)
        hessian = (design * (weights * p * (1 - p))[:, None]).T @ design + precision * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        beta = beta - step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-8:
            break
    return max(0.05, float(beta[0])), float(beta[1])


def _logistic(x: Floats, y: Floats, weights: Floats, l2: float) -> tuple[Floats, float]:
    """(slopes, intercept) of the penalised weighted fit, with one row of each kind added at the origin."""
    from sklearn.linear_model import LogisticRegression  # a second to import, needed only at a refit

    origin = np.zeros((2, x.shape[1]))
    worth = weights * (effective_n(weights) / weights.sum())
    model = LogisticRegression(C=1.0 / l2, solver="newton-cholesky", max_iter=100)
    model.fit(np.vstack([x, origin]), np.append(y, [0.0, 1.0]), sample_weight=np.append(worth, [1.0, 1.0]))
    return model.coef_[0].astype(np.float64), float(model.intercept_[0])
