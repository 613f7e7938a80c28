"""Exact binomial tails, and the counts that follow from them.

`alpha` is the largest disagreement to be certified, 0..1; `delta` the chance allowed of certifying wrongly,
0..1.
"""

from __future__ import annotations

import math

import numpy as np

Z95 = 1.959964  # standard deviations on either side of a mean that hold 95 % of a normal law


def binomial_tail(k: int, n: int, p: float) -> float:
    """P(at most k successes in n trials of probability p), summed exactly in logarithms."""
    if k >= n or p <= 0.0:
        return 1.0
    if k < 0 or p >= 1.0:
        return 0.0
    i = np.arange(k + 1, dtype=np.float64)
    choose = np.concatenate([[0.0], np.cumsum(np.log((n - i[:-1]) / (i[:-1] + 1)))])
    terms = choose + i * math.log(p) + (n - i) * math.log1p(-p)
    top = float(terms.max())
    return min(1.0, math.exp(top) * float(np.exp(terms - top).sum()))


def upper_bound(k: int, n: int, delta: float) -> float:
    """Clopper and Pearson's upper bound, 0..1: where seeing k or fewer of n has probability delta."""
    low, high = k / n if n else 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_tail(k, n, middle) > delta else (low, middle)
    return high


def allowed(n: int, alpha: float, delta: float) -> int:
    """Most disagreements among n audits that still certify alpha at level delta; -1: not even none."""
    low, high = -1, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if binomial_tail(middle, n, alpha) <= delta else (low, middle)
    return low


def audits_for(k: int, alpha: float, delta: float) -> int:
    """Fewest audits that certify alpha at level delta with k disagreements among them."""
    low, high = k, k + 1
    while binomial_tail(k, high, alpha) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if binomial_tail(k, middle, alpha) <= delta else (middle, high)
    return high
