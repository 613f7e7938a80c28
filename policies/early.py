"""Whether a draft that is still being written can reach a confidence at all.

Of an unfinished draft the sum of its log-probs can only fall, the least of them too, and the rest is bounded by how
long the draft may become. So for each length that it may end at there is a most hopeful end: every further token
certain. Where even the best of these stays below the threshold, no continuation can lift the draft over it, and
writing on is a waste. A signal that the calibration weighs against intuition (a lower minimum is better) is bounded
by the worst further token instead, so the bound holds for any calibrator; it is then looser and stops less.

Lengths are taken one by one at first and in growing spans later, each signal at its more hopeful end of the span: a
looser bound again, never a tighter one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from memory.records import Signals
from policies.calibration import Calibrator
from policies.confidence import FEATURES

GREEDY_LEAST = -16.0  # nats; the most probable of V tokens has at least 1/V, and no vocabulary has e^16 = 8.9 million
ANY_LEAST = -9999.0  # nats; what vLLM writes for a probability of 0
GROWTH = 1.2  # how much longer the end of a span is than its beginning


@dataclass(frozen=True, slots=True)
class Heard:
    """A draft so far."""

    nats: Sequence[float]  # log-probs of its tokens, <= 0
    most: int  # tokens that it may have at its end
    first_margin: float | None = None  # 0..1
    novelty: float | None = None  # 0..1
    least: float = ANY_LEAST  # nats, lower bound of a further token's log-prob


@dataclass(frozen=True, slots=True)
class Hope:
    """The best that a draft can still become."""

    confidence: float  # 0..1, no end of the draft has more
    signals: Signals  # at least as hopeful as any end's, for the calibrator that was asked


def hopeless(heard: Heard, calibrator: Calibrator, skill: str, enough: float) -> Hope | None:
    """The draft's best end where it stays below `enough` (0..1); None where some end may reach it, or is not known."""
    if not heard.nats:
        return None
    best: Hope | None = None
    ordered, up = sorted(heard.nats), _liked(calibrator)
    for first, last in _spans(len(ordered), heard.most):
        signals = _hopeful(heard, ordered, first, last, up)
        found = calibrator.predict(signals, skill)
        if found is None or found >= enough:
            return None
        if best is None or found > best.confidence:
            best = Hope(found, signals)
    return best


def _spans(so_far: int, most: int) -> Iterator[tuple[int, int]]:
    """(first, last) lengths that cover `so_far` to `most`."""
    first = so_far
    while first <= max(most, so_far):
        last = min(max(first, int(first * GROWTH)), max(most, so_far))
        yield first, last
        first = last + 1


def _hopeful(heard: Heard, ordered: Sequence[float], first: int, last: int, up: Mapping[str, bool]) -> Signals:
    """Signals at least as good, one by one, as those of any end of `first` to `last` tokens. `ordered`: rising; `up`:
    signals of which more is better."""
    total, more = min(0.0, fsum(ordered)), last - len(ordered)
    lowest = min(ordered[0], heard.least) if more else ordered[0]
    worst = total + more * heard.least
    return Signals(
        logprob_sum=total if up["logprob_sum"] else worst,
        logprob_mean=total / last if up["logprob_mean"] else min(total / first, worst / last),
        logprob_min=ordered[0] if up["logprob_min"] else lowest,
        logprob_p10=_p10(ordered, last) if up["logprob_p10"] or not more else lowest,
        first_margin=heard.first_margin,
        n_tokens=last if up["log_tokens"] else first,
        format_ok=True,
        novelty=heard.novelty,
    )


def _liked(calibrator: Calibrator) -> dict[str, bool]:
    """Whether more of a signal means more confidence. The prior reads the sum alone, and likes it."""
    weights = calibrator.weights or (1.0,) * len(FEATURES)
    return {name: weight >= 0 for name, weight in zip(FEATURES, weights, strict=False)}


def _p10(ordered: Sequence[float], length: int) -> float:
    """The 10th percentile, as policies/confidence.py takes it, where all further tokens are certain."""
    position = 0.10 * (length - 1)
    low = int(position)
    below, above = (ordered[i] if i < len(ordered) else 0.0 for i in (low, low + 1))
    return below + (position - low) * (above - below)
