"""What each signal of a draft is worth to the confidence, on a remembered log: AUROC with it and without.

    python -m bench.signals STATE [--adapter NAME] [--json]

Reads a state folder; nothing is generated. The calibration is fitted anew without the signal, crosswise (each answer is
scored by a fit that did not see it), on the audited answers of one System 1. AUROC is the chance that an answer which
agrees with System 2 is trusted more than one that does not; the interval is the middle 95 % of 500 bootstrap draws of
the difference, the same answers on both sides. The engine pays for log-probabilities (`python -m bench.lora`): those of
the drawn tokens give all but the margin, which needs the second likeliest too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.logged import rows_of
from memory.records import Outcome
from memory.store import Memory
from policies.calibration import CalibrationSettings, cross_fitted
from policies.reliability import Floats, auroc

SIGNALS = ("logprob_sum", "logprob_mean", "logprob_min", "logprob_p10", "first_margin", "novelty")
LEFT_OUT: Mapping[str, tuple[str, ...]] = {
    "all of them": (),
    **{f"without {name}": (name,) for name in SIGNALS},
    "the sum alone": SIGNALS[1:],
    "no log-probabilities": SIGNALS[:5],
}
DRAWS = 500


@dataclass(frozen=True)
class Row:
    """One choice of signals."""

    signals: str
    answers: int
    auroc: float  # 0..1
    change: float  # -1..1, against all of them
    change_low: float  # ends of the 95 % interval
    change_high: float


def measure(rows: Sequence[Outcome]) -> list[Row]:
    """Every choice. Raises ValueError where all answers agree, or none does."""
    agrees = np.array([float(bool(row.agrees)) for row in rows])
    if agrees.all() or not agrees.any():
        raise ValueError(f"of {len(rows)} audited answers {int(agrees.sum())} agree: nothing to tell apart")
    scored = {what: cross_fitted(blind(rows, names), CalibrationSettings()) for what, names in LEFT_OUT.items()}
    weight = np.array([1.0 / row.propensity for row in rows])
    whole = scored["all of them"]
    return [_row(what, agrees, score, whole, weight) for what, score in scored.items()]


def blind(rows: Sequence[Outcome], names: tuple[str, ...]) -> list[Outcome]:
    """The same answers with some signals unknown."""
    unknown: dict[str, Any] = dict.fromkeys(names)
    return [replace(row, signals=replace(row.signals, **unknown)) for row in rows]


def _row(what: str, agrees: Floats, score: Floats, whole: Floats, weight: Floats) -> Row:
    chance, changes = np.random.default_rng(1), list[float]()
    while len(changes) < DRAWS:
        at = chance.integers(0, len(agrees), len(agrees))
        mine, theirs = (auroc(scores[at], agrees[at], weight[at]) for scores in (score, whole))
        if mine is not None and theirs is not None:
            changes.append(mine - theirs)
    area, best = (auroc(scores, agrees, weight) or 0.0 for scores in (score, whole))
    low, high = np.percentile(changes, [2.5, 97.5])
    return Row(what, len(agrees), area, area - best, float(low), float(high))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.signals", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("state", type=Path)
    parser.add_argument("--adapter", help="whose answers; the base's without it")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with Memory.open(given.state, read_only=True) as memory:
        rows = [row for row in rows_of(memory, given.adapter) if row.agrees is not None and row.propensity > 0]
    found = measure(rows)
    if given.json:
        return print(json.dumps([asdict(row) for row in found], indent=1))
    table = Table("signals", "answers", "AUROC", "change (95 % interval)")
    for row in found:
        change = f"{row.change:+.3f} ({row.change_low:+.3f} to {row.change_high:+.3f})"
        table.add_row(row.signals, str(row.answers), f"{row.auroc:.3f}", change)
    Console().print(table)


if __name__ == "__main__":
    main()
