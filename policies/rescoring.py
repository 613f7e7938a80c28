"""Every logged answer's confidence as today's calibrator gives it, for a million rows at once.

A threshold set now is compared with confidences of the calibration in force, not with those logged under an
earlier one (or logged as unknown, before there was any). The same numbers as `Calibrator.predict`, in arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.calibration import Calibrator
from policies.confidence import FEATURES
from policies.offpolicy import Columns
from policies.reliability import Floats

READ = (
    "logprob_sum", "logprob_mean", "logprob_min", "logprob_p10", "first_margin", "n_tokens", "novelty",
    "agreement", "base_logprob", "format_ok", "skill",
)  # fmt: skip


def rescore(columns: Columns, calibrator: Calibrator, names: Sequence[str]) -> Floats:
    """P(agree) per row, shape (n,); NaN where unknown, 0 for an answer that could not be parsed.

    `columns` holds the arrays named in `READ` (floats NaN where unknown; skill: codes into `names`). Rows that took
    part in the calibrator's fit are scored by that fit, so a curve over them flatters a little; certificates are
    made of cross-fitted confidences instead (`policies.calibration.rescored`).
    """
    unparsed = np.asarray(columns["format_ok"]) == 0
    sums = np.asarray(columns["logprob_sum"], dtype=np.float64)
    if calibrator.method == "unknown":
        return np.where(unparsed, 0.0, np.nan)
    if calibrator.method == "prior":
        return np.where(unparsed, 0.0, calibrator.ceiling * np.exp(sums))
    found = _bent(_probability(_score(columns, calibrator), calibrator), columns, calibrator, names)
    if calibrator.needs_logprobs:
        found = np.where(np.isnan(sums), np.nan, found)
    return np.where(unparsed, 0.0, found)


def _score(columns: Columns, calibrator: Calibrator) -> Floats:
    score = np.full(len(columns["logprob_sum"]), calibrator.bias)
    for name, weight, mean in zip(FEATURES, calibrator.weights, calibrator.means, strict=True):
        if weight:
            value = _feature(columns, name)
            score += weight * np.where(np.isnan(value), mean, value)
    return score


def _feature(columns: Columns, name: str) -> Floats:
    """One column of `policies.confidence.feature_row`, shape (n,)."""
    if name == "log_tokens":
        return np.log1p(np.asarray(columns["n_tokens"], dtype=np.float64))
    if name.endswith("_known"):
        read = {"logprobs_known": "logprob_sum", "base_known": "base_logprob"}.get(name, name.removesuffix("_known"))
        return np.asarray(~np.isnan(columns[read]), dtype=np.float64)
    value = np.asarray(columns[name], dtype=np.float64)
    tail: Floats = -np.log1p(np.maximum(0.0, -value)) if "logprob" in name else value
    return tail


def _probability(score: Floats, calibrator: Calibrator) -> Floats:
    if calibrator.method == "platt":
        return _sigmoid(calibrator.platt[0] * score + calibrator.platt[1])
    return np.interp(score, *calibrator.knots)


def _bent(probability: Floats, columns: Columns, calibrator: Calibrator, names: Sequence[str]) -> Floats:
    lines = np.array([calibrator.skills.get(name, (1.0, 0.0)) for name in names]).reshape(len(names), 2)
    bends = np.array([name in calibrator.skills for name in names], dtype=bool)
    code = np.asarray(columns["skill"], dtype=np.intp)
    clipped = np.clip(probability, 1e-4, 1.0 - 1e-4)  # as policies.fitting.logit
    bent = _sigmoid(lines[code, 0] * np.log(clipped / (1.0 - clipped)) + lines[code, 1])
    return np.where(bends[code], bent, probability)


def _sigmoid(score: Floats) -> Floats:
    value: Floats = 1.0 / (1.0 + np.exp(-np.clip(score, -500.0, 500.0)))
    return value
