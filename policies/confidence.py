"""Free confidence signals of a direct answer, and the vector that calibration reads.

The greedy answer's own log-probability, not divided by its length, is as good as entropy over ten samples
(G-NLL, arXiv 2412.15176); its low quantiles correct the bias of the sum towards short answers (arXiv
2404.10136). Neither is a probability of being right: policies/calibration.py makes it one, per adapter
version.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from memory.records import Completion, Signals

FEATURES: tuple[str, ...] = (
    "logprob_sum",  # -log(1 - nats): log-probs have long tails, and a linear model must not follow them
    "logprob_mean",
    "logprob_min",
    "logprob_p10",
    "first_margin",  # 0..1
    "log_tokens",  # log(1 + tokens)
    "novelty",  # 0..1
    "agreement",  # 0..1
    "base_logprob",
    "logprobs_known",  # 1 or 0, as the three below
    "first_margin_known",
    "novelty_known",
    "agreement_known",
    "base_known",
)
"""Names of the columns of `features`, in order; a stored calibrator is refused when they differ."""


def signals(
    completion: Completion,
    answer: str | None,
    *,
    span: tuple[int, int] | None = None,
    novelty: float | None = None,
    agreement: float | None = None,
    base_logprob: float | None = None,
) -> Signals:
    """Signals of one direct answer.

    `answer` is the parsed answer, None where the text could not be parsed as its answer type.
    `span` is the half-open range of completion tokens that spell the answer; None takes all of them, right
    for a prompt that asks for the answer alone. The margin is dropped for a span that does not begin at the
    first token. `novelty` (0..1), `agreement` (0..1) and `base_logprob` (nats per token) are passed through
    where they were paid for. Without log-probs, or with an empty span, their signals are None.
    """
    first, last = span if span is not None else (0, len(completion.logprobs))
    nats = completion.logprobs[first:last]
    return Signals(
        logprob_sum=min(0.0, math.fsum(nats)) if nats else None,
        logprob_mean=min(0.0, math.fsum(nats) / len(nats)) if nats else None,
        logprob_min=min(nats) if nats else None,
        logprob_p10=_percentile(nats, 0.10) if nats else None,
        first_margin=completion.first_margin if first == 0 else None,
        n_tokens=len(nats) if nats else completion.completion_tokens,
        format_ok=answer is not None,
        novelty=novelty,
        agreement=agreement,
        base_logprob=base_logprob,
    )


def raw_confidence(signals: Signals) -> float | None:
    """0..1, the model's own probability of its answer; None without log-probs, 0 for one that could not be parsed.

    This is the "before" of every calibration report.
    """
    if not signals.format_ok:
        return 0.0
    return None if signals.logprob_sum is None else math.exp(signals.logprob_sum)


def feature_row(signals: Signals) -> list[float]:
    """One row of `FEATURES` as plain floats: what serving uses, a microsecond's work.

    An unknown value is NaN and its `*_known` column 0. Calibration puts the training mean in the place of
    NaN, so a signal that is missing while serving moves the score by what its indicator was found to be
    worth, or nothing.
    """
    return [
        _tail(signals.logprob_sum),
        _tail(signals.logprob_mean),
        _tail(signals.logprob_min),
        _tail(signals.logprob_p10),
        _or_nan(signals.first_margin),
        math.log1p(signals.n_tokens),
        _or_nan(signals.novelty),
        _or_nan(signals.agreement),
        _tail(signals.base_logprob),
        float(signals.logprob_sum is not None),
        float(signals.first_margin is not None),
        float(signals.novelty is not None),
        float(signals.agreement is not None),
        float(signals.base_logprob is not None),
    ]


def features(signals: Signals) -> npt.NDArray[np.float64]:
    """`feature_row` as an array of shape (len(FEATURES),)."""
    return np.array(feature_row(signals), dtype=np.float64)


def feature_matrix(rows: Sequence[Signals]) -> npt.NDArray[np.float64]:
    """One row per answer, shape (n, len(FEATURES))."""
    return np.array([feature_row(row) for row in rows], dtype=np.float64).reshape(len(rows), len(FEATURES))


def feature_column(columns: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[np.float64]:
    """One column of `feature_row` for a log in columns (NaN where unknown), shape (n,)."""
    if name == "log_tokens":
        return np.log1p(np.asarray(columns["n_tokens"], dtype=np.float64))
    if name.endswith("_known"):
        read = {"logprobs_known": "logprob_sum", "base_known": "base_logprob"}.get(name, name.removesuffix("_known"))
        return np.asarray(~np.isnan(columns[read]), dtype=np.float64)
    value = np.asarray(columns[name], dtype=np.float64)
    found: npt.NDArray[np.float64] = -np.log1p(np.maximum(0.0, -value)) if "logprob" in name else value
    return found


def _tail(nats: float | None) -> float:
    return math.nan if nats is None else -math.log1p(max(0.0, -nats))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _percentile(values: Sequence[float], share: float) -> float:
    """Linear interpolation between order statistics, as numpy's default."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])
