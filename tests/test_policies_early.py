"""The bound on what an unfinished draft can become: it holds for every end, and it is worth having."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.records import Completion
from policies.calibration import Calibrator
from policies.confidence import FEATURES, signals
from policies.early import GREEDY_LEAST, Heard, hopeless

REAL = Calibrator(  # as fitted on the demonstration's 211 audits of the base
    method="platt", n=211, bias=8.73, platt=(1.016, -0.039), means=(0.0,) * len(FEATURES),
    weights=(1.573, 3.173, 2.506, 2.096, -0.202, -2.227, *(0.0,) * 8), skills={"sums": (0.58, -0.42)},
)  # fmt: skip
ODD = replace(REAL, weights=(-0.7, 1.2, -1.1, -0.4, 0.3, 0.9, *(0.0,) * 8), bias=1.0)
STEPS = Calibrator(method="isotonic", n=600, weights=REAL.weights, bias=REAL.bias, means=REAL.means,
                   knots=((-3.0, 0.0, 4.0), (0.1, 0.5, 0.95)))  # fmt: skip
PRIOR = Calibrator(method="prior")
nats = st.floats(min_value=GREEDY_LEAST, max_value=0.0, allow_nan=False)


def confidence(calibrator: Calibrator, all_nats: list[float], margin: float | None, skill: str) -> float:
    said = Completion("7", "base", 1, len(all_nats), "stop", 0.1, tuple(all_nats), margin)
    found = calibrator.predict(signals(said, "7"), skill)
    assert found is not None
    return found


@given(
    so_far=st.lists(nats, min_size=1, max_size=12),
    rest=st.lists(nats, max_size=20),
    margin=st.none() | st.floats(0, 1),
    calibrator=st.sampled_from([REAL, ODD, STEPS, PRIOR]),
    skill=st.sampled_from(["sums", "other"]),
)
def test_no_end_of_the_draft_is_surer_than_the_bound(
    so_far: list[float], rest: list[float], margin: float | None, calibrator: Calibrator, skill: str
) -> None:
    heard = Heard(so_far, most=32, first_margin=margin, least=GREEDY_LEAST)
    best = hopeless(heard, calibrator, skill, enough=1.1)  # beyond reach: always answered
    assert best is not None
    assert confidence(calibrator, so_far + rest, margin, skill) <= best.confidence + 1e-9
    assert calibrator.predict(best.signals, skill) == pytest.approx(best.confidence)


def test_what_may_still_reach_the_threshold_is_written_on() -> None:
    heard = Heard([-0.01], most=8, first_margin=0.9)
    assert hopeless(heard, REAL, "sums", enough=0.8) is None
    assert hopeless(Heard([], most=8), REAL, "sums", enough=1.1) is None
    assert hopeless(heard, Calibrator(), "sums", enough=0.8) is None  # no calibration: nothing is known


def test_one_doubtful_token_is_enough_where_the_threshold_is_high() -> None:
    best = hopeless(Heard([-1.2], most=8, first_margin=0.1), REAL, "sums", enough=0.85)
    assert best is not None
    assert 0.0 < best.confidence < 0.85
    assert hopeless(Heard([-1.2], most=8, first_margin=0.1), REAL, "sums", enough=best.confidence) is None
