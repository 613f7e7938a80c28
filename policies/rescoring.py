"""Every logged answer's confidence as today's calibrator gives it, for a million rows at once.

A threshold set now is compared with confidences of the calibration in force, not with those logged under an
earlier one (or logged as unknown, before there was any). The same numbers as `Calibrator.predict`, in arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.calibration import Calibrator
from policies.confidence import FEATURES, feature_column
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
    found = calibrator.probabilities(_score(columns, calibrator), np.asarray(columns["skill"], dtype=np.intp), names)
    if calibrator.needs_logprobs:
        found = np.where(np.isnan(sums), np.nan, found)
    return np.where(unparsed, 0.0, found)


def _score(columns: Columns, calibrator: Calibrator) -> Floats:
    score = np.full(len(columns["logprob_sum"]), calibrator.bias)
    for name, weight, mean in zip(FEATURES, calibrator.weights, calibrator.means, strict=True):
        if weight:
            value = feature_column(columns, name)
            score += weight * np.where(np.isnan(value), mean, value)
    return score
