"""Replay of a log under many thresholds: seconds and memory, beside loops that do the same one threshold at a
time.

    python -m bench.replay [--rows 1000000] [--thresholds 101] [--naive-rows 20000] [--json]

The rows are drawn, not loaded: reading them from the store is another benchmark. Two rivals run in the same
process on the same rows: plain Python, row by row (on `--naive-rows`, as it takes minutes on a million), and
numpy with one mask per threshold (on all). Both compute only the plain weighted estimate and the escalation
rate, less than replay does; their results are compared with replay's before any time is reported.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.certify import Goal
from policies.replay import replay

Log = dict[str, npt.NDArray[Any]]
Curve = list[tuple[float, float]]  # per threshold: escalation rate, disagreement among accepted (NaN: unknown)
REPEATS = 5


def drawn(rows: int, seed: int = 0) -> Log:
    """A log as the audit policy writes it: all escalated answers observed, 15 % near 0.8, 2 % above."""
    rng = np.random.default_rng(seed)
    quality = rng.random(rows) ** 0.25
    confidence = quality**1.3
    accepted = np.where(np.abs(confidence - 0.8) <= 0.1, 0.15, 0.02)
    propensity = np.where(confidence < 0.8, 1.0, accepted)
    observed = rng.random(rows) < propensity
    return {
        "confidence": confidence,
        "propensity": propensity,
        "agrees": np.where(observed, rng.random(rows) < quality, -1).astype(np.int8),
        "s1_tokens": rng.integers(1, 20, rows).astype(np.int32),
        "s2_tokens": np.where(observed, rng.integers(50, 400, rows), -1).astype(np.int32),
        "s1_seconds": rng.gamma(2.0, 0.05, rows),
        "s2_seconds": np.where(observed, rng.gamma(3.0, 1.0, rows), np.nan),
    }


def by_rows(log: Log, grid: list[float]) -> Curve:
    """Plain Python: every row for every threshold."""
    rows = list(zip(log["confidence"].tolist(), log["propensity"].tolist(), log["agrees"].tolist(), strict=True))
    curve = []
    for threshold in grid:
        escalated, weight, wrong = 0, 0.0, 0.0
        for confidence, propensity, agrees in rows:
            if confidence < threshold:
                escalated += 1
            elif agrees >= 0:
                weight += 1 / propensity
                wrong += (agrees == 0) / propensity
        curve.append((escalated / len(rows), wrong / weight if weight else math.nan))
    return curve


def by_masks(log: Log, grid: list[float]) -> Curve:
    """numpy: one mask over all rows for every threshold."""
    curve = []
    for threshold in grid:
        accepted = log["confidence"] >= threshold
        seen = accepted & (log["agrees"] >= 0)
        weight = 1 / log["propensity"][seen]
        wrong = float(weight[log["agrees"][seen] == 0].sum())
        curve.append((1 - float(accepted.mean()), wrong / float(weight.sum()) if weight.size else math.nan))
    return curve


def by_bins(log: Log, grid: list[float]) -> Curve:
    """What the service does, with intervals, tokens, latency, cost and a recommendation besides."""
    points = replay(log, grid, Goal()).points
    return [(p.escalated, math.nan if p.plain is None else p.plain) for p in points]


def timed(run: Callable[[Log, list[float]], Curve], log: Log, grid: list[float], repeats: int) -> tuple[float, Curve]:
    """(median wall seconds, the curve)."""
    seconds, curve = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        curve = run(log, grid)
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[repeats // 2], curve


def measured(rows: int, thresholds: int, naive_rows: int) -> dict[str, float]:
    """All figures of one run. Raises AssertionError where the rivals' results differ from replay's."""
    grid = np.linspace(0.0, 1.0, thresholds).tolist()
    large, small = drawn(rows), drawn(naive_rows)
    replay_s, curve = timed(by_bins, large, grid, REPEATS)
    masks_s, masks = timed(by_masks, large, grid, 1)
    np.testing.assert_allclose(curve, masks, rtol=1e-6, atol=1e-9)
    small_s, small_curve = timed(by_bins, small, grid, REPEATS)
    rows_s, loops = timed(by_rows, small, grid, 1)
    np.testing.assert_allclose(small_curve, loops, rtol=1e-6, atol=1e-9)
    tracemalloc.start()
    by_bins(large, grid)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "rows": rows,
        "thresholds": thresholds,
        "replay_s": replay_s,
        "replay_peak_mib": peak / 2**20,
        "log_mib": sum(column.nbytes for column in large.values()) / 2**20,
        "numpy_masks_s": masks_s,
        "numpy_masks_ratio": masks_s / replay_s,
        "naive_rows": naive_rows,
        "naive_python_s": rows_s,
        "replay_of_naive_rows_s": small_s,
        "naive_python_ratio": rows_s / small_s,
        "naive_python_s_scaled_to_rows": rows_s * rows / naive_rows,
    }


def main() -> None:
    """Run and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--thresholds", type=int, default=101)
    parser.add_argument("--naive-rows", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measured(given.rows, given.thresholds, given.naive_rows)
    if given.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:32} {value:12,.3f}" if isinstance(value, float) else f"{name:32} {value:12,}")


if __name__ == "__main__":
    main()
