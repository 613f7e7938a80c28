"""Rescoring in arrays is `Calibrator.predict`, row by row."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from memory.records import Signals
from policies.calibration import Calibrator
from policies.confidence import FEATURES
from policies.rescoring import READ, rescore

SKILLS = ("sums", "unbent")
LINE = Calibrator(
    method="platt",
    weights=tuple(0.3 * (i % 5) - 0.4 for i in range(len(FEATURES))),
    means=tuple(0.1 * i for i in range(len(FEATURES))),
    bias=0.2,
    platt=(1.3, 0.4),
    skills={"sums": (0.8, -0.3)},
)
STEPS = replace(LINE, method="isotonic", knots=((-2.0, 0.0, 1.5), (0.05, 0.6, 0.97)))


def some(rng: Random) -> Signals:
    def maybe(value: float) -> float | None:
        return None if rng.random() < 0.2 else value

    nats = maybe(-3 * rng.random())
    return Signals(
        nats, None if nats is None else nats / 2, nats, nats, maybe(rng.random()), rng.randrange(1, 9),
        rng.random() < 0.9, maybe(rng.random()), maybe(rng.random()), maybe(-rng.random()),
    )  # fmt: skip


@pytest.mark.parametrize(
    "calibrator",
    [LINE, STEPS, replace(LINE, needs_logprobs=False), Calibrator(method="prior"), Calibrator()],
    ids=["platt", "isotonic", "without log-probs", "prior", "unknown"],
)
def test_the_same_as_one_by_one(calibrator: Calibrator) -> None:
    rng = Random(7)
    rows = [some(rng) for _ in range(300)]
    columns = {name: np.array([getattr(row, name) for row in rows], dtype=float) for name in READ if name != "skill"}
    columns["skill"] = np.array([i % 2 for i in range(300)])
    found = rescore(columns, calibrator, SKILLS)
    wanted = calibrator.predict_many(rows, [SKILLS[i % 2] for i in range(300)])
    np.testing.assert_allclose(found, wanted, atol=1e-12)
