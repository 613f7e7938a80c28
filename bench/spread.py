"""How far measured values lie apart, and how far their median may lie from what it would be of many more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Values = Sequence[float] | npt.NDArray[np.float64]


def quartiles(values: Values) -> tuple[float, float, float]:
    """A quarter lies below the first, half below the second (the median), a quarter above the third."""
    low, middle, high = (float(found) for found in np.percentile(values, (25, 50, 75)))
    return low, middle, high


def error_of_median(values: Values) -> float:
    """The standard error of a median, were the values' middle half a normal distribution's: sqrt(pi / 2n) sigmas."""
    low, _, high = quartiles(values)
    return float((high - low) / 1.349 * np.sqrt(np.pi / 2 / len(values)))
